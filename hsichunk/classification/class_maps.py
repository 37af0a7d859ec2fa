"""Class maps from scores: `hsi.classify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.classification.labels import DISTANCE_RULE
from hsichunk.classification.rules import (
    check_limits,
    check_relative,
    check_scores,
    check_threshold,
    class_names,
    common_range,
    described,
    label_scores,
    of_largest,
    score_range,
)


def classify(
    scores: xr.DataArray,
    threshold: float | Sequence[float] | npt.NDArray[Any],
    *,
    relative: bool = False,
    limits: xr.Dataset | Sequence[npt.ArrayLike] | None = None,
) -> xr.DataArray:
    """Label every pixel with the endmember it is nearest to, if that one is within its threshold.

    scores: float (endmember, y, x); NaN = no data; dask or NumPy. By their name, "ncc" are similarities, of which the
    largest wins (`classify_similarity`), and "abundance" are abundances (`classify_abundance`). Any others are
    distances: SAM in radians, SID in nats. Rename what you made of them yourself: `1 - ncc` is still named "ncc".
    threshold: one number for all classes, or one per class in the order of `scores.endmember`.

    Absolute (the default): a class is a candidate where distance <= threshold, the threshold rounded to the dtype of
    the distances. `relative=True` is the rule of PySpTools 0.15 (classification/cls.py): each threshold, 0..1, is a
    fraction of the range of distances over the whole image, and a class is a candidate where
    distance < low + (high - low) * threshold. With one number the range is that of all classes together; with one per
    class, each class's own. No-data and infinite distances are left out of the ranges.
    Among the candidates the smallest distance wins, and the first endmember where two are equal.

    `limits` (relative only) gives the ranges instead: the Dataset of `hsichunk.classification.rules.score_range`, or a
    pair (low, high) of numbers or of one number per class. Without it a dask-backed relative map holds the scores in
    memory from the ranges to the labels (4 k bytes a pixel), so that nothing is read twice; with computed limits it
    streams.

    Returns uint8 (y, x) named `<scores>_class`: 0 where no class is a candidate, 1..k, 255 where every score is
    NaN; with CF flag_values and flag_meanings. Lazy where the scores are. HsiError on thresholds that are not
    finite, negative (of distances), of the wrong number or (relative) above 1, and on more than 254 classes.
    """
    check_scores(scores)
    if of_largest(scores):
        from hsichunk.classification import similarities

        rule = similarities.classify_abundance if scores.name == schema.ABUNDANCE else similarities.classify_similarity
        return rule(scores, threshold, relative=relative, limits=limits)
    classes = class_names(scores)
    thresholds = check_threshold(threshold, classes, relative)
    if scores.chunks is not None:
        scores = scores.chunk({schema.ENDMEMBER: -1})
    ranges = None
    if check_relative(relative, limits):
        ranges = score_range(scores) if limits is None else check_limits(limits, scores, classes)
        if thresholds.ndim == 0:
            ranges = common_range(ranges)
    label = label_scores(scores, thresholds, ranges)
    words = "distance < low + (high - low) * threshold" if relative else DISTANCE_RULE
    return described(label, scores, classes, thresholds, words, relative=relative)
