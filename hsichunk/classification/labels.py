"""Class maps as arrays: labels of scores, what thresholds may be, CF's names of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from hsichunk import schema

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]

DISTANCE_RULE: Final = "distance <= threshold"
SIMILARITY_RULE: Final = "similarity >= threshold"


def labels(metric: str, scores: npt.NDArray[np.float32], limit: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Labels of a block of scores (k, ...) by absolute thresholds (k,): those of `hsi.classify`."""
    last = np.moveaxis(scores, 0, -1)
    if metric in schema.SIMILARITIES:
        last, limit = -last, -limit
    return label_nearest(last, limit, closed=True)


def label_nearest(distances: FloatArray, limit: FloatArray, *, closed: bool) -> npt.NDArray[np.uint8]:
    """NumPy kernel. distances (..., k), limit (k,) -> uint8 (...): the number of the nearest class within its limit.

    `closed`: a distance equal to its limit is within. 0: none is; 255: every distance is NaN.
    """
    shape = distances.shape[:-1]
    label = np.zeros(shape, np.uint8)
    best = np.full(shape, np.inf, distances.dtype)
    no_data = np.ones(shape, bool)
    within = np.less_equal if closed else np.less
    for index in range(distances.shape[-1]):  # class by class: temporaries of one layer, not of k
        one = distances[..., index]
        # NaN compares false, and "<" leaves a tie to the class that came first.
        nearer = within(one, limit[index]) & (one < best)
        np.copyto(best, one, where=nearer)
        np.copyto(label, np.uint8(index + 1), where=nearer)
        no_data &= np.isnan(one)
    label[no_data] = schema.CLASS_NO_DATA
    return label


def flag_names(names: Sequence[Any]) -> list[str]:
    """Names of classes as flag_meanings wants them: no blanks inside, none empty."""
    return ["_".join(str(name).split()) or f"EM{i}" for i, name in enumerate(names, 1)]


def class_attrs(
    classes: Sequence[str], thresholds: Any, measure: str, rule: str, units: str | None = None, *, largest: bool = False
) -> dict[str, Any]:
    """CF's flags of a class map, and how its labels were found: by `measure` and the thresholds, number or list."""
    attrs = {
        "long_name": f"class of the {'largest' if largest else 'smallest'} {measure}",
        "flag_values": np.array([schema.UNCLASSIFIED, *range(1, len(classes) + 1), schema.CLASS_NO_DATA], np.uint8),
        "flag_meanings": " ".join(["unclassified", *classes, "no_data"]),
        "threshold": thresholds,
        "threshold_rule": rule,
    }
    return attrs if units is None else {**attrs, "threshold_units": units}


def score_attrs(metric: str, names: Sequence[str], threshold: float | list[float]) -> dict[str, Any]:
    """Of the class map that absolute thresholds make of the scores of a metric of `schema.METRICS`."""
    attrs = schema.PRODUCT_ATTRS[metric]
    largest = metric in schema.SIMILARITIES
    rule = SIMILARITY_RULE if largest else DISTANCE_RULE
    return class_attrs(flag_names(names), threshold, attrs["long_name"], rule, attrs["units"], largest=largest)
