"""The outlier guard: pixels that lie too far out to be endmembers, by robust distances in a few components."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from hsichunk.array_types import Bools, Floats
from hsichunk.cube.sampling import Sample
from hsichunk.endmembers.nfindr_in_memory import components
from hsichunk.errors import HsiError

GAUSSIAN: Final = 1.4826  # standard deviations in a median absolute deviation
MEAN_GAUSSIAN: Final = 1.2533  # and in a mean one, where half of all pixels are alike
BLOCK: Final = 1 << 15  # pixels whose scores are read at a time
HELD: Final = 40  # bytes a pixel while distances are told


def check_exclude(exclude: float | None) -> None:
    """Raises HsiError unless it is a limit that `outlying` knows."""
    if exclude is not None and not (np.isfinite(exclude) and exclude > 0):
        raise HsiError(
            f"exclude is {exclude}; expected a distance of 1 or more (as 50), a share of pixels below 1 (as 1e-5), None"
        )


def outlying(
    points: Floats, valid: Bools, exclude: float | None, forget: Callable[[slice], None] | None = None
) -> Bools:
    """Which of the pixels (n, d) lie farther out than `exclude`.

    The distance of a pixel is the root mean square over components of its deviation from the median, in robust standard
    deviations (1.4826 times the median absolute deviation). A limit of 1 or more is such a distance; below 1 it is the
    share of valid pixels that are left out, the farthest. `forget` is told which pixels have been read.
    """
    out = np.zeros(len(valid), np.bool_)
    if exclude is None or not valid.any():
        return out
    square = np.zeros(int(valid.sum()))
    for component in range(points.shape[1]):
        apart = _of_valid(points, component, valid, forget)
        apart -= np.median(apart)
        np.abs(apart, out=apart)
        unit = GAUSSIAN * np.median(apart) or MEAN_GAUSSIAN * apart.mean()
        if unit > 0:
            apart /= unit
            apart *= apart
            square += apart
        del apart
    square /= max(1, points.shape[1])
    distance = np.sqrt(square, out=square)
    if exclude >= 1:
        out[valid] = distance > exclude
    else:
        distance *= -1
        farthest = np.argsort(distance, kind="stable")[: int(np.floor(exclude * len(distance)))]
        out[np.flatnonzero(valid)[farthest]] = True
    return out


def _of_valid(points: Floats, component: int, valid: Bools, forget: Callable[[slice], None] | None) -> Floats:
    """One component of the valid pixels: scores that lie in a file do not all fit in memory."""
    out, filled = np.empty(int(valid.sum())), 0
    for start in range(0, len(valid), BLOCK):
        at = slice(start, start + BLOCK)
        here = points[at, component][valid[at]]
        out[filled : filled + len(here)] = here
        filled += len(here)
        if forget is not None:
            forget(at)
    return out


def without_outliers(drawn: Sample, k: int, exclude: float | None, threads: int = 1) -> tuple[Sample, int]:
    """A sample less its outliers in the first k - 1 components, and how many there were.

    Raises HsiError where fewer than k pixels are left.
    """
    if exclude is None or len(drawn.spectra) < k:
        return drawn, 0
    with threadpool_limits(1, user_api="blas"):
        points = components(drawn.spectra, k - 1, threads)
    kept = ~outlying(points, np.ones(len(points), np.bool_), exclude)
    left = int(kept.sum())
    if left < k:
        raise HsiError(
            f"exclude {exclude:g} leaves {left} of {len(kept)} valid pixels drawn; expected at least k = {k}: give a "
            f"{'larger distance' if exclude >= 1 else 'smaller share'}"
        )
    less = replace(drawn, spectra=drawn.spectra[kept], y=drawn.y[kept], x=drawn.x[kept])
    return less, len(kept) - left
