"""Search every pixel by N-FINDR: go from the simplex of a sample to one that no single pixel of the image enlarges.

The search goes through the image twice: for its moments, and for the scores of its pixels in the first k - 1 principal
components, which are computed straight from stored counts where there are some (see `hsichunk.cube.projection`). Scores
take a hundredth of the room of spectra, so they stay in memory or in a file, and a pass over them is one small product.

Few pixels are searched all at once. Of many, the search takes the sample and the corners of what the image spans. A
pass over all scores then adds, from every block of pixels, the best pixel for each slot of the current simplex, and the
search goes on among all pixels added so far, until a pass finds none that would raise the volume. That pass is the
certificate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

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

BLOCK = 1 << 15  # pixels of a block, from which a pass adds the best one for each slot
SMALL_BLOCK = 1 << 12  # pixels that are projected on all directions at once
DIRECTIONS = 500  # random ones, whose extreme pixels are searched
LOT = 256  # blocks whose extreme pixels are held at a time
MOST_SEARCHED = 1 << 23  # scores up to which all pixels are searched at once: a tile of 1000 x 1000 up to k = 8
MOST_PASSES = 100


@dataclass(frozen=True)
class Refined:
    """The simplex of an image, and how the search for it went."""

    pixels: Positions
    """(k,) numbers of the pixels"""
    sample: Simplex
    """the simplex of the sample, from which the search starts"""
    sample_pixels: int
    """valid pixels of the sample"""
    swaps: int
    """endmembers that were replaced after the search of the sample"""
    passes: int
    """passes over the scores of all pixels"""
    certified: bool
    """whether the last pass found no pixel that would raise the volume"""
    excluded: int
    """outliers that were left out"""

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers of the search, by their names in attributes and run.json."""
        return {
            "sample_pixels": self.sample_pixels,
            "sweeps": self.sample.sweeps,
            "swaps": self.sample.swaps,
            "converged": int(self.sample.converged),
            "certified": int(self.certified),
            "refine_swaps": self.swaps,
            "refine_passes": self.passes,
        }

    def attrs(self, seed: int) -> dict[str, str | float]:
        """Return the attributes of the endmembers."""
        return {"method": "N-FINDR", **self.numbers, "seed": seed}


def refined(
    spectra: SpectraReader, k: int, *, sample: int | None, seed: int, maxit: int, exclude: float | None = None
) -> Refined:
    """Return the k pixels of an image whose simplex no single pixel of it enlarges.

    The search starts from about `sample` pixels drawn by `seed` (None: from all) and takes `maxit` sweeps at most at a
    time. `exclude` is the outlier guard of `nfindr`. Raises HsiError for fewer than k valid pixels.
    """
    image, outliers = _scores_without_outliers(spectra, k - 1, exclude)
    usable = int(image.valid.sum())
    if usable < k:
        raise HsiError(f"{usable} valid pixels of {spectra.pixels}; expected at least k = {k}")
    pool = np.arange(spectra.pixels) if sample is None else drawn_pixels(spectra.cube, sample, seed)
    pool = pool[image.valid[pool]]
    drawn = len(pool)
    with threadpool_limits(1, user_api="blas"):
        scale = np.max([np.abs(values).max(0, initial=0.0) for values in _valid_of(image)], axis=0)
        if drawn < k:
            pool = np.flatnonzero(image.valid)
        return _refine(image, scale, pool, drawn, maxit, int(outliers.sum()))


def all_scores(spectra: SpectraReader, count: int, leave_out: Bools | None = None) -> Scores:
    """Return the scores of all pixels in their first principal components; goes through the spectra twice.

    The components are those of all pixels, or of all but `leave_out` (pixels,).
    """
    moments = stream(spectra, leave_out=leave_out)
    return scores(spectra, moments.axes(count), moments.mean)


def _scores_without_outliers(spectra: SpectraReader, count: int, exclude: float | None) -> tuple[Scores, Bools]:
    """Return the scores of all pixels, in which outliers are not valid, and the outliers (pixels,).

    Goes through the spectra twice, or four times where there are outliers.
    """
    image = all_scores(spectra, count)
    outliers = outlying(image.values, image.valid, exclude, image.forget)
    if not outliers.any():
        return image, outliers
    del image
    image = all_scores(spectra, count, outliers)  # the first subspace was one of the outliers, too
    return replace(image, valid=image.valid & ~outliers), outliers


def _refine(image: Scores, scale: Floats, pool: Positions, drawn: int, maxit: int, excluded: int) -> Refined:
    """Search the pixels of `pool`, then all pixels; `scale` (k - 1,) is the largest score of each component."""

    def points(pixels: Positions) -> Floats:
        values = image.at(pixels)
        values /= scale
        return values

    start = search(points(pool), maxit)
    current = pool[start.pixels]
    few = int(image.valid.sum()) * (len(scale) + 1) <= MOST_SEARCHED
    pool = np.flatnonzero(image.valid) if few else _joined(pool, _extremes(image))
    swaps = passes = 0
    certified = False
    while not certified and passes < MOST_PASSES:
        better = pool[_best_of(points(pool), np.searchsorted(pool, current), maxit)]
        swaps += len(np.setdiff1d(better, current))
        current = better
        best, ratio = _scan(image, scale, lift(points(current)))
        passes += 1
        certified = bool(ratio.max() <= 1 + GAIN)
        pool = _joined(pool, best.ravel())
    return Refined(_first_alike(image, current), start, drawn, swaps, passes, certified, excluded)


def certificate(spectra: SpectraReader, axes: Floats, origin: Floats, pixels: Positions) -> float:
    """Return by which factor, at most, swapping one of k pixels for any pixel of the image changes their volume.

    The volume is that of their simplex in the space of `axes` (L, k - 1) from `origin` (L,). The factor is at most
    1 + GAIN where no single swap raises the volume. Goes through the cube once, with k - 1 multiplications a count
    whose sums are exact; only one small product a pixel rounds, far below GAIN. Raises HsiError where the simplex has
    no volume.
    """
    image = scores(spectra, axes, origin)
    corners = np.asarray(image.values[pixels])
    scale = np.abs(corners).max(0)
    scale[scale == 0] = 1.0
    if not image.valid[pixels].all() or not np.isfinite(_volume(corners / scale)):
        raise HsiError("the endmembers span no simplex in the subspace; expected k valid, independent pixels")
    with threadpool_limits(1, user_api="blas"):
        return float(_scan(image, scale, lift(corners / scale))[1].max())


def _best_of(points: Floats, current: Positions, maxit: int) -> Positions:
    """Return the pixels of the larger simplex: the one climbed to from the current, or one from other starts."""
    climbed = climb(lift(points), current.copy(), maxit).pixels
    searched = search(points, maxit).pixels
    # of equal simplexes the searched one, because neither it nor the order of its pixels depends on the sample
    return climbed if _volume(points[climbed]) > _volume(points[searched]) + GAIN else searched


def _volume(corners: Floats) -> float:
    """Return the logarithm of the volume of a simplex, up to a constant."""
    return float(np.linalg.slogdet(lift(corners))[1])


def _joined(pool: Positions, more: Positions) -> Positions:
    """Return the union of two sets of pixels, sorted; -1 stands for none."""
    return np.union1d(pool, more[more >= 0])


def _blocks(image: Scores, size: int = BLOCK) -> list[slice]:
    """Return the blocks of pixels of an image."""
    return [slice(start, start + size) for start in range(0, len(image.valid), size)]


def _valid_of(image: Scores) -> Iterator[Floats]:
    """Yield the scores of the valid pixels block by block: those of a site may not all fit in memory."""
    for at in _blocks(image):
        yield image.values[at][image.valid[at]]
        image.forget(at)


def _scan(image: Scores, scale: Floats, corners: Floats) -> tuple[Positions, Floats]:
    """Return the best pixel of each block for each slot of a simplex, and the ratio by which it changes the volume.

    `corners` (k, k) are the lifted scores of the simplex. Both results are (blocks, k); the pixel is -1 and the ratio 0
    in blocks without valid pixels.
    """
    weights = np.linalg.inv(corners.T)
    constant, slope = weights[:, :1], np.ascontiguousarray(weights[:, 1:] / scale)

    def scan(at: slice) -> tuple[Positions, Floats]:
        here = np.flatnonzero(image.valid[at])
        if not len(here):
            return np.full(len(corners), -1), np.zeros(len(corners))
        values = image.values[at] if len(here) == len(image.valid[at]) else image.values[at][here]
        ratio = slope @ values.T
        ratio += constant
        np.abs(ratio, out=ratio)
        del values
        image.forget(at)
        best = np.array([first_largest(row) for row in ratio])
        return at.start + here[best], ratio[np.arange(len(best)), best]

    by_block = in_parallel(scan, _blocks(image), asked_for())
    return np.array([best for best, _ in by_block]), np.array([ratio for _, ratio in by_block])


def _extremes(image: Scores) -> Positions:
    """Return the pixels at both ends of each component and of many fixed directions: corners of what the pixels span.

    The search and its start only ever take corners, so among most of the corners it finds what it would find among all
    pixels.
    """
    dimensions = image.values.shape[1]
    square = np.sum([np.einsum("ij,ij->j", values, values) for values in _valid_of(image)], axis=0)
    spread = np.where(square > 0, np.sqrt(square / max(1, int(image.valid.sum()))), 1.0)  # the mean of scores is zero
    directions = np.random.default_rng(0).normal(size=(dimensions, DIRECTIONS))
    directions = np.concatenate([np.eye(dimensions), directions], axis=1)

    def ends(at: slice) -> tuple[Positions, Floats]:
        here = np.flatnonzero(image.valid[at])
        if not len(here):
            return np.full(2 * directions.shape[1], -1), np.full(2 * directions.shape[1], -np.inf)
        along = (image.values[at][here] / spread) @ directions
        last, first = along.argmax(0), along.argmin(0)
        columns = np.arange(directions.shape[1])
        reach = np.concatenate([along[last, columns], -along[first, columns]])
        image.forget(at)
        return at.start + here[np.concatenate([last, first])], reach

    pixels, farthest = np.full(2 * directions.shape[1], -1), np.full(2 * directions.shape[1], -np.inf)
    blocks = _blocks(image, SMALL_BLOCK)
    for start in range(0, len(blocks), LOT):  # the ends of all blocks of a site would not fit in memory together
        for here, reach in in_parallel(ends, blocks[start : start + LOT], asked_for()):
            farther = reach > farthest
            pixels[farther], farthest[farther] = here[farther], reach[farther]
    return pixels


def _first_alike(image: Scores, pixels: Positions) -> Positions:
    """Return for each pixel the first of the image with the same scores: the sample does not decide between equals."""
    out = pixels.copy()
    corners = image.values[pixels]
    missing = np.ones(len(pixels), np.bool_)
    for at in _blocks(image):
        for slot in np.flatnonzero(missing):
            alike = np.flatnonzero((image.values[at] == corners[slot]).all(1) & image.valid[at])
            if len(alike):
                out[slot], missing[slot] = at.start + alike[0], False
        image.forget(at)
    return out
