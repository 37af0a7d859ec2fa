"""Search spectra in memory by N-FINDR: the endmembers are the pixels that span the largest simplex (Winter 1999)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hsichunk import schema
from hsichunk.array_types import Floats, Positions
from hsichunk.cube.sampling import Sample
from hsichunk.errors import HsiError
from hsichunk.threads import in_parallel

BLOCK = 4096  # spectra that are added up at a time
STARTS = 10  # of the search; fewer beyond 30 endmembers
GOLDEN = (5**0.5 - 1) / 2  # multiples of the golden ratio, less their whole part, spread evenly over 0..1
GAIN = 1e-9  # a swap must raise the volume by more than this share; volumes closer than this are equal


def check_k(k: int, bands: int) -> None:
    """Raise HsiError unless k endmembers can be searched for in spectra of so many bands."""
    if not isinstance(k, (int, np.integer)) or not 2 <= k <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"k is {k!r}; expected 2 to {schema.MAX_ENDMEMBERS} endmembers")
    if k > bands:
        raise HsiError(f"k is {k} and there are {bands} bands; expected at most one endmember a band")


@dataclass(frozen=True)
class Picked:
    """Endmembers picked from a sample, and how the search for them went."""

    spectra: Floats
    """(k, L) reflectance"""
    y: Floats
    """(k,) northing of each source pixel"""
    x: Floats
    """(k,) easting of each source pixel"""
    sample_pixels: int
    """valid pixels of the sample"""
    sweeps: int
    swaps: int
    converged: bool
    """whether the search ended because no swap raised the volume"""

    @property
    def names(self) -> list[str]:
        """The names EM1, EM2, ..."""
        return [f"EM{i + 1}" for i in range(len(self.spectra))]


def pick(sample: Sample, k: int, maxit: int | None, threads: int = 1) -> Picked:
    """Return the k endmembers of a sample; at most `maxit` sweeps, None for 3 k.

    Raises HsiError for fewer than k pixels, and where their spectra span too few dimensions.
    """
    if len(sample.spectra) < k:
        raise HsiError(f"{len(sample.spectra)} valid pixels of {sample.drawn} drawn; expected at least k = {k}")
    # one thread: with several, BLAS adds in another order and rounds otherwise
    with threadpool_limits(1, user_api="blas"):
        simplex = search(components(sample.spectra, k - 1, threads), 3 * k if maxit is None else maxit)
    spectra = sample.spectra[simplex.pixels].astype(np.float64) / sample.scale
    y, x = sample.y[simplex.pixels], sample.x[simplex.pixels]
    return Picked(spectra, y, x, len(sample.spectra), simplex.sweeps, simplex.swaps, simplex.converged)


def components(spectra: NDArray[np.generic], count: int, threads: int = 1) -> Floats:
    """Return scores (m, count) of spectra (m, L) in their first principal components.

    Counts are centred on whole numbers, so their moments are whole and exact whatever BLAS does. Blocks of spectra are
    added in order, so any number of threads gives the same bits. Raises HsiError where the spectra span fewer
    dimensions.
    """
    n = len(spectra)
    blocks = [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
    centre = np.sum([spectra[block].sum(0, dtype=np.float64) for block in blocks], axis=0) / n
    if spectra.dtype.kind in "iu":
        centre = np.rint(centre)

    def centred(block: slice) -> Floats:
        deviations: Floats = np.subtract(spectra[block], centre)
        return deviations

    def moments(block: slice) -> tuple[Floats, Floats]:
        x = centred(block)
        return x.sum(0), x.T @ x

    parts = in_parallel(moments, blocks, threads)
    rest = np.sum([total for total, _ in parts], axis=0) / n  # the mean less the rounded centre
    covariance = np.sum([square for _, square in parts], axis=0) / n - np.outer(rest, rest)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    rank = int((values > values[-1] * 1e-12).sum()) if values[-1] > 0 else 0
    if rank < count:
        raise HsiError(f"the sample's spectra span {rank} dimensions; expected at least {count} for k = {count + 1}")
    axes = vectors[:, ::-1][:, :count]
    return np.concatenate(in_parallel(lambda block: centred(block) @ axes - rest @ axes, blocks, threads))


@dataclass(frozen=True)
class Simplex:
    """The pixels that span the largest simplex found, and how the search for it went."""

    pixels: Positions
    """(k,) numbers of the pixels"""
    sweeps: int
    """how often the search went over all slots"""
    swaps: int
    """how often it replaced a pixel"""
    converged: bool
    """whether it ended because no swap raised the volume"""


def search(scores: Floats, maxit: int) -> Simplex:
    """Search scores (m, k - 1) by N-FINDR for the k pixels of the largest simplex. Ties go to the lowest number.

    Each search climbs to a simplex that no single swap makes larger. Different starts may reach different ones, so the
    largest of several counts. All starts come from ATGP on [1; scores]: the first with scores so large that the 1
    decides about the last pick only, which is the start of PySpTools where that is well defined, the others with
    components weighted in fixed, different ways.
    """
    k, reach = scores.shape[1] + 1, np.maximum(scores.max(0), -scores.min(0))
    lifted = lift(scores)  # scaled in place: of many pixels another copy might not fit in memory
    lifted[:, 1:] /= reach
    simplexes = [climb(lifted, _take_targets(start, k), maxit) for start in _starts(scores, reach, lifted)]
    volumes = np.array([np.linalg.slogdet(lifted[simplex.pixels])[1] for simplex in simplexes])
    return simplexes[int(np.argmax(volumes >= volumes.max() - GAIN))]


def _starts(scores: Floats, reach: Floats, lifted: Floats) -> Iterator[Floats]:
    """Yield [1; scores] with the components weighted in different ways, for ATGP to start from.

    Weights change the pixels that ATGP takes, and rounding, but no ratio of volumes.
    """
    k = scores.shape[1] + 1
    yield lift(scores, 1e6 / reach.max())
    for number in range(max(1, min(STARTS, STARTS * 30 // k) - 1)):
        spread = (number * GOLDEN * np.arange(1, k) + 0.5) % 1  # evenly over 0..1; 0.5 for all components of the first
        yield lift(lifted[:, 1:], 10.0 ** (2 * spread - 1))


def lift(scores: Floats, weights: float | Floats = 1.0) -> Floats:
    """Return [1; scores * weights]: a column of ones before the weighted scores (m, d)."""
    lifted = np.empty((len(scores), scores.shape[1] + 1))
    lifted[:, 0] = 1.0
    np.multiply(scores, weights, out=lifted[:, 1:])
    return lifted


def climb(lifted: Floats, pixels: Positions, maxit: int) -> Simplex:
    """Sweep over the slots of a simplex, filling each with the pixel that makes it largest, until no swap enlarges it.

    `pixels` (k,) are the numbers of the pixels to start from; the array is changed. With M = inv([1; E]) the volume
    with pixel x in slot i is |M_i [1; x]| times the present one, so one product gives it for every pixel.
    """
    swaps = 0
    for sweep in range(1, maxit + 1):
        before = swaps
        for slot in range(len(pixels)):
            ratio = np.abs(lifted @ np.linalg.inv(lifted[pixels].T)[slot])
            best = first_largest(ratio)
            if ratio[best] > 1 + GAIN:
                pixels[slot] = best
                swaps += 1
        if swaps == before:
            return Simplex(pixels, sweep, swaps, True)
    return Simplex(pixels, maxit, swaps, False)


def first_largest(values: Floats) -> int:
    """Return the index of the first value that is the largest, up to a share of GAIN."""
    return int(np.argmax(values >= values.max() * (1 - GAIN)))


def atgp(pixels: Floats, count: int) -> Positions:
    """Return the numbers of `count` targets among pixels (m, d), by automatic target generation.

    Each target is the pixel farthest from the span of those before it. Raises HsiError for too few independent spectra.
    """
    return _take_targets(pixels.copy(), count)


def _take_targets(residuals: Floats, count: int) -> Positions:
    """Return the targets of `atgp` among pixels (m, d); the array becomes their residuals."""
    targets = np.empty(count, np.intp)
    for i in range(count):
        length = np.einsum("ij,ij->i", residuals, residuals)
        targets[i] = first_largest(length)
        if length[targets[i]] <= 0:
            raise HsiError(f"the sample holds {i} independent spectra; expected {count}")
        axis = residuals[targets[i]] / np.sqrt(length[targets[i]])
        for _ in range(2):  # the second projection takes out what rounding left of the first
            along = residuals @ axis
            for start in range(0, len(residuals), BLOCK):
                part = slice(start, start + BLOCK)
                residuals[part] -= np.outer(along[part], axis)
    return targets
