"""Labels of class maps as plain arrays, and the CF attributes that describe them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Bytes, Float32s

FloatArray: TypeAlias = NDArray[np.floating]
"""scores of either precision: float32 as stored, or float64"""

DISTANCE_RULE: Final = "distance <= threshold"
SIMILARITY_RULE: Final = "similarity >= threshold"


def labels(metric: str, scores: Float32s, limit: Float32s) -> Bytes:
    """Return the labels (...) of a block of scores (k, ...) by absolute thresholds (k,), as `hsi.classify` does."""
    distances = np.moveaxis(scores, 0, -1)
    if metric in schema.SIMILARITIES:  # the largest similarity is the smallest of the negated ones
        distances, limit = -distances, -limit
    return label_nearest(distances, limit, closed=True)


def label_nearest(distances: FloatArray, limit: FloatArray, *, closed: bool) -> Bytes:
    """Return the number (1..k) of the nearest class within its limit: distances (..., k), limit (k,) -> uint8 (...).

    The label is 0 where no class is within its limit, and 255 where every distance is NaN. With `closed`, a distance
    equal to its limit is within it. Where two distances are equal, the first class wins.
    """
    shape = distances.shape[:-1]
    label = np.zeros(shape, np.uint8)
    best = np.full(shape, np.inf, distances.dtype)
    no_data = np.ones(shape, bool)
    within = np.less_equal if closed else np.less
    for index in range(distances.shape[-1]):  # class by class, so that temporaries hold one layer, not k
        distance = distances[..., index]
        # NaN compares false, and "<" leaves a tie to the class that came first.
        nearer = within(distance, limit[index]) & (distance < best)
        np.copyto(best, distance, where=nearer)
        np.copyto(label, np.uint8(index + 1), where=nearer)
        no_data &= np.isnan(distance)
    label[no_data] = schema.CLASS_NO_DATA
    return label


def flag_names(names: Sequence[Hashable]) -> list[str]:
    """Return names of classes as CF's flag_meanings needs them: blanks become "_", an empty name becomes EM<number>."""
    return ["_".join(str(name).split()) or f"EM{i}" for i, name in enumerate(names, 1)]


def class_attrs(
    classes: Sequence[str],
    thresholds: float | list[float],
    measure: str,
    rule: str,
    units: str | None = None,
    *,
    largest: bool = False,
) -> dict[str, Any]:
    """Return the attributes of a class map: CF's flags, and the measure, the thresholds and the rule of its labels."""
    attrs = {
        "long_name": f"class of the {'largest' if largest else 'smallest'} {measure}",
        "flag_values": np.array([schema.UNCLASSIFIED, *range(1, len(classes) + 1), schema.CLASS_NO_DATA], np.uint8),
        "flag_meanings": " ".join(["unclassified", *classes, "no_data"]),
        "threshold": thresholds,
        "threshold_rule": rule,
    }
    return attrs if units is None else {**attrs, "threshold_units": units}


def score_attrs(metric: str, names: Sequence[str], threshold: float | list[float]) -> dict[str, Any]:
    """Return the attributes of the class map of a metric of `schema.METRICS` by absolute thresholds."""
    attrs: Mapping[str, str] = schema.PRODUCT_ATTRS[metric]
    largest = metric in schema.SIMILARITIES
    rule = SIMILARITY_RULE if largest else DISTANCE_RULE
    return class_attrs(flag_names(names), threshold, attrs["long_name"], rule, attrs["units"], largest=largest)
