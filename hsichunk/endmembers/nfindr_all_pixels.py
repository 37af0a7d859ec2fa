"""N-FINDR over every pixel: from a sample's simplex to one that no single pixel of the image makes larger.

The image is gone through twice, for its moments and for its scores in their first k - 1 principal components, which
come straight from stored counts where there are some (see `hsichunk.cube.projection`). Scores
are a hundredth of the spectra: they stay in memory or in a file, and a pass over them is one small product. Where they
are few, all are searched at once. Where they are many, the search is among the sample and the corners of what the image
spans; a pass then keeps, of every block of pixels, the best one for each slot of today's simplex, and the search goes
on among all that were kept, until a pass finds none that would raise the volume. That pass is the certificate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.cube.second_moments import drawn_pixels, stream
from hsichunk.cube.spectra_reader import SpectraReader
from hsichunk.cube.subspace import Scores, scores
from hsichunk.endmembers.nfindr_in_memory import GAIN, Simplex, climb, first_largest, lift, search
from hsichunk.endmembers.outliers import outlying
from hsichunk.errors import HsiError
from hsichunk.threads import asked_for, in_parallel

BLOCK = 1 << 15  # pixels, of which the best for each slot are kept
SMALL_BLOCK = 1 << 12  # pixels laid along all directions at once
DIRECTIONS = 500
LOT = 256  # blocks whose ends are held at a time
MOST_SEARCHED = 1 << 23  # scores up to which all pixels are searched together: a tile of 1000 x 1000 up to k = 8
MOST_PASSES = 100


@dataclass(frozen=True)
class Refined:
    """The simplex of an image, and how it was come to."""

    pixels: Positions
    """(k,) numbers of pixels"""
    sample: Simplex
    """the search among the sample's pixels, which it starts from"""
    sample_pixels: int
    swaps: int
    """endmembers replaced after that"""
    passes: int
    """over the scores of all pixels"""
    certified: bool
    excluded: int

    @property
    def numbers(self) -> dict[str, int]:
        """What the search came to, by the names that attributes and run.json have for it."""
        return {
            "sample_pixels": self.sample_pixels,
            "sweeps": self.sample.sweeps,
            "swaps": self.sample.swaps,
            "converged": int(self.sample.converged),
            "certified": int(self.certified),
            "refine_swaps": self.swaps,
            "refine_passes": self.passes,
        }

    def attrs(self, seed: int) -> dict[str, Any]:
        """Of the endmembers."""
        return {"method": "N-FINDR", **self.numbers, "seed": seed}


def refined(
    spectra: SpectraReader, k: int, *, sample: int | None, seed: int, maxit: int, exclude: float | None = None
) -> Refined:
    """The k pixels of an image whose simplex no single pixel of it makes larger.

    The seed decides on where the search starts. `exclude` is the outlier guard of `nfindr`.
    """
    every, left_out = without_outliers(spectra, k - 1, exclude)
    usable = int(every.valid.sum())
    if usable < k:
        raise HsiError(f"{usable} valid pixels of {spectra.pixels}; expected at least k = {k}")
    pool = np.arange(spectra.pixels) if sample is None else drawn_pixels(spectra.cube, sample, seed)
    pool = pool[every.valid[pool]]
    drawn = len(pool)
    with threadpool_limits(1, user_api="blas"):
        scale = np.max([np.abs(values).max(0, initial=0.0) for values in _valid_of(every)], axis=0)
        if drawn < k:
            pool = np.flatnonzero(every.valid)
        return _refine(every, scale, pool, drawn, maxit, int(left_out.sum()))


def whole_image(spectra: SpectraReader, count: int, leave_out: Bools | None = None) -> Scores:
    """Scores of all pixels in the first principal components of all (but some); goes through the spectra twice."""
    found = stream(spectra, leave_out=leave_out)
    return scores(spectra, found.axes(count), found.mean)


def without_outliers(spectra: SpectraReader, count: int, exclude: float | None) -> tuple[Scores, Bools]:
    """The same less its outliers, which are not valid, and which they are; goes through the spectra twice more."""
    every = whole_image(spectra, count)
    left_out = outlying(every.values, every.valid, exclude, every.forget)
    if not left_out.any():
        return every, left_out
    del every
    every = whole_image(spectra, count, left_out)  # the outliers have had a part in the subspace
    return replace(every, valid=every.valid & ~left_out), left_out


def _refine(every: Scores, scale: Floats, pool: Positions, drawn: int, maxit: int, excluded: int) -> Refined:
    def points(pixels: Positions) -> Floats:
        values = every.at(pixels)
        values /= scale
        return values

    start = search(points(pool), maxit)
    current = pool[start.pixels]
    few = int(every.valid.sum()) * (len(scale) + 1) <= MOST_SEARCHED
    pool = np.flatnonzero(every.valid) if few else _joined(pool, _extremes(every))
    swaps = passes = 0
    certified = False
    while not certified and passes < MOST_PASSES:
        better = pool[_best_of(points(pool), np.searchsorted(pool, current), maxit)]
        swaps += len(np.setdiff1d(better, current))
        current = better
        best, ratio = _scan(every, scale, lift(points(current)))
        passes += 1
        certified = bool(ratio.max() <= 1 + GAIN)
        pool = _joined(pool, best.ravel())
    return Refined(_first_alike(every, current), start, drawn, swaps, passes, certified, excluded)


def certificate(spectra: SpectraReader, axes: Floats, origin: Floats, pixels: Positions) -> float:
    """The most that any pixel of the image, put in the place of one of k, makes of the volume of their simplex.

    In the space of axes (L, k - 1): at most 1 + GAIN where no single swap raises it. Goes through the cube once, by
    k - 1 multiplications a count whose sums are exact: what rounds is one small product a pixel, far below GAIN. Raises
    HsiError where the simplex has no volume.
    """
    every = scores(spectra, axes, origin)
    corners = np.asarray(every.values[pixels])
    scale = np.abs(corners).max(0)
    scale[scale == 0] = 1.0
    if not every.valid[pixels].all() or not np.isfinite(_volume(corners / scale)):
        raise HsiError("the endmembers span no simplex in the subspace; expected k valid, independent pixels")
    with threadpool_limits(1, user_api="blas"):
        return float(_scan(every, scale, lift(corners / scale))[1].max())


def _best_of(points: Floats, current: Positions, maxit: int) -> Positions:
    """The larger of the simplex climbed to from today's, and the one that a search from other starts finds."""
    climbed = climb(lift(points), current.copy(), maxit).pixels
    searched = search(points, maxit).pixels
    # of equals the one that does not depend on the sample, nor does its order
    return climbed if _volume(points[climbed]) > _volume(points[searched]) + GAIN else searched


def _volume(corners: Floats) -> float:
    """Logarithm of the volume of a simplex, up to a constant."""
    return float(np.linalg.slogdet(lift(corners))[1])


def _joined(pool: Positions, more: Positions) -> Positions:
    return np.union1d(pool, more[more >= 0])


def _blocks(every: Scores, size: int = BLOCK) -> list[slice]:
    return [slice(start, start + size) for start in range(0, len(every.valid), size)]


def _valid_of(every: Scores) -> Iterator[Floats]:
    """Scores of the valid pixels of each block: those of a site do not all fit in memory."""
    for at in _blocks(every):
        yield every.values[at][every.valid[at]]
        every.forget(at)


def _scan(every: Scores, scale: Floats, corners: Floats) -> tuple[Positions, Floats]:
    """Of each block the best pixel for each slot (blocks, k), -1 for none, and the volume it makes over today's."""
    weights = np.linalg.inv(corners.T)
    constant, slope = weights[:, :1], np.ascontiguousarray(weights[:, 1:] / scale)

    def scan(at: slice) -> tuple[Positions, Floats]:
        here = np.flatnonzero(every.valid[at])
        if not len(here):
            return np.full(len(corners), -1), np.zeros(len(corners))
        values = every.values[at] if len(here) == len(every.valid[at]) else every.values[at][here]
        ratio = slope @ values.T
        ratio += constant
        np.abs(ratio, out=ratio)
        del values
        every.forget(at)
        best = np.array([first_largest(row) for row in ratio])
        return at.start + here[best], ratio[np.arange(len(best)), best]

    found = in_parallel(scan, _blocks(every), asked_for())
    return np.array([best for best, _ in found]), np.array([ratio for _, ratio in found])


def _extremes(every: Scores) -> Positions:
    """The pixels at both ends of each component and of many fixed directions: corners of what the pixels span.

    Only corners are ever picked, by the search or by its start: among most of them it finds what it would in the image.
    """
    dimensions = every.values.shape[1]
    square = np.sum([np.einsum("ij,ij->j", values, values) for values in _valid_of(every)], axis=0)
    spread = np.where(square > 0, np.sqrt(square / max(1, int(every.valid.sum()))), 1.0)  # scores have no mean
    directions = np.random.default_rng(0).normal(size=(dimensions, DIRECTIONS))
    directions = np.concatenate([np.eye(dimensions), directions], axis=1)

    def ends(at: slice) -> tuple[Positions, Floats]:
        here = np.flatnonzero(every.valid[at])
        if not len(here):
            return np.full(2 * directions.shape[1], -1), np.full(2 * directions.shape[1], -np.inf)
        along = (every.values[at][here] / spread) @ directions
        last, first = along.argmax(0), along.argmin(0)
        columns = np.arange(directions.shape[1])
        reach = np.concatenate([along[last, columns], -along[first, columns]])
        every.forget(at)
        return at.start + here[np.concatenate([last, first])], reach

    pixels, farthest = np.full(2 * directions.shape[1], -1), np.full(2 * directions.shape[1], -np.inf)
    blocks = _blocks(every, SMALL_BLOCK)
    for start in range(0, len(blocks), LOT):  # the ends of every block of a site would not all fit in memory
        for here, reach in in_parallel(ends, blocks[start : start + LOT], asked_for()):
            farther = reach > farthest
            pixels[farther], farthest[farther] = here[farther], reach[farther]
    return pixels


def _first_alike(every: Scores, pixels: Positions) -> Positions:
    """For each pixel the first of the image with the very same scores: the sample does not decide between twins."""
    out = pixels.copy()
    corners = every.values[pixels]
    missing = np.ones(len(pixels), np.bool_)
    for at in _blocks(every):
        for slot in np.flatnonzero(missing):
            alike = np.flatnonzero((every.values[at] == corners[slot]).all(1) & every.valid[at])
            if len(alike):
                out[slot], missing[slot] = at.start + alike[0], False
        every.forget(at)
    return out
