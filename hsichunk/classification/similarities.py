"""Class maps from similarities and abundances, where a larger score means more alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.classification.labels import SIMILARITY_RULE
from hsichunk.classification.rules import (
    HIGH,
    LOW,
    LOW_OF_LARGEST,
    check_limits,
    check_relative,
    check_scores,
    check_threshold,
    class_names,
    describe,
    label_scores,
    score_range,
)
from hsichunk.errors import HsiError


def classify_similarity(
    similarity: xr.DataArray,
    threshold: float | Sequence[float] | npt.NDArray[np.generic],
    *,
    relative: bool = False,
    limits: xr.Dataset | Sequence[npt.ArrayLike] | None = None,
) -> xr.DataArray:
    """Label every pixel with the endmember it is most similar to: `classify` for scores where larger means more alike.

    similarity: float (endmember, y, x), such as `ncc`, of any name; NaN = no data. Absolute: a class is a candidate
    where similarity >= threshold, which may be negative. `relative=True` is the rule of PySpTools' NormXCorr: each
    threshold is 0..1, and a class is a candidate where similarity > high - (high - low) * threshold. With one number,
    low and high are those of the largest similarity of each pixel; with one per class, those of each class. `limits`
    gives these instead: the Dataset of `score_range`, or a pair (low, high). Returns what `classify` does: uint8
    (y, x), 0 unclassified, 1..k, 255 no data.
    """
    rule = "similarity > high - (high - low) * threshold" if relative else SIMILARITY_RULE
    return _label_largest(similarity, threshold, relative, limits, rule)


def classify_abundance(
    abundance: xr.DataArray,
    threshold: float | Sequence[float] | npt.NDArray[np.generic],
    *,
    relative: bool = False,
    limits: xr.Dataset | Sequence[npt.ArrayLike] | None = None,
) -> xr.DataArray:
    """Label every pixel with the endmember of the largest abundance, where that is at least `threshold`.

    abundance: float (endmember, y, x), of any name; NaN = no data. `relative=True` is the rule of PySpTools'
    AbundanceClassification, label for label: each threshold is 0..1, and a class is a candidate where
    abundance > low + (high - low) * threshold, with the ranges of `classify_similarity`. Returns what `classify` does.
    """
    if not relative:
        return _label_largest(abundance, threshold, relative, limits, "abundance >= threshold")
    rule = "abundance > low + (high - low) * threshold"
    return _label_largest(abundance, threshold, relative, limits, rule, from_low=True)


def _label_largest(
    scores: xr.DataArray,
    threshold: npt.ArrayLike,
    relative: bool,
    limits: xr.Dataset | Sequence[npt.ArrayLike] | None,
    rule: str,
    *,
    from_low: bool = False,
) -> xr.DataArray:
    """Return the class map of the largest score, computed as that of the smallest negated score.

    A relative threshold counts from the high end of the range, or, with `from_low`, from the low end.
    """
    check_scores(scores)
    classes = class_names(scores)
    thresholds = check_threshold(threshold, classes, relative, signed=True)
    if scores.chunks is not None:
        scores = scores.chunk({schema.ENDMEMBER: -1})
    if check_relative(relative, limits):
        share = 1.0 - thresholds if from_low else thresholds
        label = label_scores(-scores, share, _ranges(scores, limits, classes, together=thresholds.ndim == 0))
    else:
        label = label_scores(-scores, -thresholds, None)
    return describe(label, scores, classes, thresholds, rule, relative=relative, largest=True)


def _ranges(
    scores: xr.DataArray,
    limits: xr.Dataset | Sequence[npt.ArrayLike] | None,
    classes: list[str],
    *,
    together: bool,
) -> xr.Dataset:
    """Return low (endmember) and high (endmember) of the negated scores; `together`: one range for all classes."""
    of_scores = limits is None or isinstance(limits, xr.Dataset)
    ranges = score_range(scores, largest=True) if limits is None else check_limits(limits, scores, classes)
    low, high = ranges[LOW], ranges[HIGH]
    if together:
        if of_scores and LOW_OF_LARGEST not in ranges:
            raise HsiError(
                f"limits hold {list(ranges)}; expected {LOW_OF_LARGEST}, too, for one threshold: give those of "
                "score_range(scores, largest=True), or one threshold per class"
            )
        least = ranges[LOW_OF_LARGEST] if of_scores else low.min(schema.ENDMEMBER)
        low = least.broadcast_like(low)
        high = high.max(schema.ENDMEMBER).broadcast_like(high)
    return xr.Dataset({LOW: -high, HIGH: -low})
