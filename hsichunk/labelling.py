"""Class maps of stored scores, whichever metric they are of: the smallest distance, or the largest similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.classification import classify, score_range


def class_map(scores: xr.DataArray, threshold: Any, *, relative: bool = False, limits: Any = None) -> xr.DataArray:
    """`hsi.classify` of scores named by a metric of `schema.METRICS`, or `hsi.classify_similarity`, as it needs.

    `limits` (relative only) are those of `limits_of`; without them the scores are gone through for them.
    """
    if scores.name in schema.SIMILARITIES:
        from hsichunk.similarity import classify_similarity

        return classify_similarity(scores, threshold, relative=relative, limits=limits)
    return classify(scores, threshold, relative=relative, limits=limits)


def limits_of(scores: xr.DataArray, threshold: Any) -> xr.Dataset:
    """What relative thresholds, one number or one a class, are shares of: lazy where the scores are."""
    if scores.name in schema.SIMILARITIES:
        from hsichunk.similarity import similarity_range

        return similarity_range(scores, together=np.ndim(threshold) == 0)
    return score_range(scores)
