"""Class maps from scores: `hsi.classify`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
    describe,
    label_scores,
    larger_is_nearer,
    score_range,
)
from hsichunk.classification.similarities import classify_abundance, classify_similarity


def classify(
    scores: xr.DataArray,
    threshold: float | Sequence[float] | npt.NDArray[np.generic],
    *,
    relative: bool = False,
    limits: xr.Dataset | Sequence[npt.ArrayLike] | None = None,
) -> xr.DataArray:
    """Label every pixel with the endmember it is nearest to, if that one is within its threshold.

    scores: float (endmember, y, x); NaN = no data; dask or NumPy. The name of the scores decides the rule: "ncc" are
    similarities, of which the largest wins (`classify_similarity`), and "abundance" are abundances
    (`classify_abundance`). All others are distances: SAM in radians, SID in nats. Rename what you computed from them
    yourself: `1 - ncc` is still named "ncc".
    threshold: one number for all classes, or one per class in the order of `scores.endmember`.

    Absolute (the default): a class is a candidate where distance <= threshold, the threshold rounded to the dtype of
    the distances. `relative=True` is the rule of PySpTools 0.15 (classification/cls.py): each threshold, 0..1, is a
    fraction of the range of distances over the whole image, and a class is a candidate where
    distance < low + (high - low) * threshold. With one number the range is that of all classes together; with one per
    class, each class has its own range. The ranges leave out no-data and infinite distances.
    Among the candidates the smallest distance wins, and the first endmember where two are equal.

    `limits` (relative only) gives the ranges instead: the Dataset of `hsichunk.classification.rules.score_range`, or a
    pair (low, high) of numbers or of one number per class. Without it, a relative map of dask-backed scores holds the
    scores in memory (4 k bytes a pixel) from the ranges to the labels, so that nothing is read twice. With computed
    limits, the map streams.

    Returns uint8 (y, x) named `<scores>_class`: 0 where no class is a candidate, 1..k, 255 where every score is
    NaN; with CF flag_values and flag_meanings. The map is lazy where the scores are. Raises HsiError for thresholds
    that are not finite, negative (of distances), of the wrong number or (relative) above 1, and for more than 254
    classes.
    """
    check_scores(scores)
    if larger_is_nearer(scores):
        if scores.name == schema.ABUNDANCE:
            return classify_abundance(scores, threshold, relative=relative, limits=limits)
        return classify_similarity(scores, threshold, relative=relative, limits=limits)
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
    rule = "distance < low + (high - low) * threshold" if relative else DISTANCE_RULE
    return describe(label, scores, classes, thresholds, rule, relative=relative)
