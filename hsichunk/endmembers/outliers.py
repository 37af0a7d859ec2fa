"""The outlier guard: find pixels too far from the others to be endmembers, by robust distances in a few components."""

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

GAUSSIAN: Final = 1.4826  # ratio of the standard deviation of a Gaussian to its median absolute deviation
MEAN_GAUSSIAN: Final = 1.2533  # ratio to its mean absolute deviation, used where half of all pixels are alike
BLOCK: Final = 1 << 15  # pixels whose scores are read at a time
HELD: Final = 40  # bytes that computing the distances takes for each pixel


def check_exclude(exclude: float | None) -> None:
    """Raise HsiError unless `exclude` is a limit for `outlying`."""
    if exclude is not None and not (np.isfinite(exclude) and exclude > 0):
        raise HsiError(
            f"exclude is {exclude}; expected a distance of 1 or more (as 50), a share of pixels below 1 (as 1e-5), None"
        )


def outlying(
    points: Floats, valid: Bools, exclude: float | None, forget: Callable[[slice], None] | None = None
) -> Bools:
    """Return which of the pixels, with scores `points` (n, d), lie farther out than `exclude`.

    The distance of a pixel is the root mean square over components of its deviation from the median, in robust standard
    deviations (1.4826 times the median absolute deviation). A limit of 1 or more is such a distance; a limit below 1 is
    the share of the valid pixels that are left out, the farthest ones. `forget` is called with each part of the pixels
    that has been read, so that scores in a file can leave the memory.
    """
    out = np.zeros(len(valid), np.bool_)
    if exclude is None or not valid.any():
        return out
    square = np.zeros(int(valid.sum()))
    for component in range(points.shape[1]):
        deviation = _of_valid(points, component, valid, forget)
        deviation -= np.median(deviation)
        np.abs(deviation, out=deviation)
        unit = GAUSSIAN * np.median(deviation) or MEAN_GAUSSIAN * deviation.mean()
        if unit > 0:
            deviation /= unit
            deviation *= deviation
            square += deviation
        del deviation  # before the next one is read
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
    """Return one component of the valid pixels, read in blocks: scores that lie in a file may not all fit in memory."""
    out, filled = np.empty(int(valid.sum())), 0
    for start in range(0, len(valid), BLOCK):
        at = slice(start, start + BLOCK)
        here = points[at, component][valid[at]]
        out[filled : filled + len(here)] = here
        filled += len(here)
        if forget is not None:
            forget(at)
    return out


def without_outliers(sample: Sample, k: int, exclude: float | None, threads: int = 1) -> tuple[Sample, int]:
    """Return a sample without its outliers in the first k - 1 components, and the number of outliers.

    Raises HsiError where fewer than k pixels remain.
    """
    if exclude is None or len(sample.spectra) < k:
        return sample, 0
    with threadpool_limits(1, user_api="blas"):
        points = components(sample.spectra, k - 1, threads)
    inside = ~outlying(points, np.ones(len(points), np.bool_), exclude)
    count = int(inside.sum())
    if count < k:
        raise HsiError(
            f"exclude {exclude:g} leaves {count} of {len(inside)} valid pixels drawn; expected at least k = {k}: give "
            f"a {'larger distance' if exclude >= 1 else 'smaller share'}"
        )
    remaining = replace(sample, spectra=sample.spectra[inside], y=sample.y[inside], x=sample.x[inside])
    return remaining, len(inside) - count
