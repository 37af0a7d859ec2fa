"""N-FINDR: the endmembers of a sample are the pixels that span the largest simplex (Winter 1999)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.sampling import Sample
from hsichunk.errors import HsiError
from hsichunk.threads import in_parallel

BLOCK = 4096  # spectra added up at a time
STARTS = 10  # of the search, fewer beyond 30 endmembers
GOLDEN = (5**0.5 - 1) / 2
GAIN = 1e-9  # a swap must raise the volume by more than this share; volumes closer than this are equal


def check_k(k: int, bands: int) -> None:
    """Raises HsiError unless k endmembers can be looked for in spectra of so many bands."""
    if not isinstance(k, (int, np.integer)) or not 2 <= k <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"k is {k!r}; expected 2 to {schema.MAX_ENDMEMBERS} endmembers")
    if k > bands:
        raise HsiError(f"k is {k} and there are {bands} bands; expected at most one endmember a band")


@dataclass(frozen=True)
class Picked:
    """Endmembers picked from a sample."""

    spectra: Floats
    """(k, L) reflectance"""
    y: Floats
    x: Floats
    sample_pixels: int
    sweeps: int
    swaps: int
    converged: bool

    @property
    def names(self) -> list[str]:
        return [f"EM{i + 1}" for i in range(len(self.spectra))]


def pick(sample: Sample, k: int, maxit: int | None, threads: int = 1) -> Picked:
    """The k endmembers of a sample; `maxit` sweeps at most, None for 3 k."""
    if len(sample.spectra) < k:
        raise HsiError(f"{len(sample.spectra)} valid pixels of {sample.drawn} drawn; expected at least k = {k}")
    # one thread: what BLAS adds up in another order would be another rounding
    with threadpool_limits(1, user_api="blas"):
        found = search(components(sample.spectra, k - 1, threads), 3 * k if maxit is None else maxit)
    spectra = sample.spectra[found.pixels].astype(np.float64) / sample.scale
    y, x = sample.y[found.pixels], sample.x[found.pixels]
    return Picked(spectra, y, x, len(sample.spectra), found.sweeps, found.swaps, found.converged)


def components(spectra: NDArray[Any], count: int, threads: int = 1) -> Floats:
    """The first principal components of spectra (m, L): scores (m, count). Raises HsiError when there are fewer.

    Counts are centred on whole numbers: their moments are whole, exact whatever BLAS does. Blocks of spectra are added
    up in their order: any number of threads gives the same bits.
    """
    n = len(spectra)
    blocks = [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
    centre = np.sum([spectra[block].sum(0, dtype=np.float64) for block in blocks], axis=0) / n
    if spectra.dtype.kind in "iu":
        centre = np.rint(centre)

    def moments(block: slice) -> tuple[Floats, Floats]:
        x = spectra[block] - centre
        return x.sum(0), x.T @ x

    parts = in_parallel(moments, blocks, threads)
    rest = np.sum([total for total, _ in parts], axis=0) / n  # what rounding the centre left
    covariance = np.sum([square for _, square in parts], axis=0) / n - np.outer(rest, rest)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    rank = int((values > values[-1] * 1e-12).sum()) if values[-1] > 0 else 0
    if rank < count:
        raise HsiError(f"the sample's spectra span {rank} dimensions; expected at least {count} for k = {count + 1}")
    axes = vectors[:, ::-1][:, :count]
    return np.concatenate(in_parallel(lambda block: (spectra[block] - centre) @ axes - rest @ axes, blocks, threads))


@dataclass(frozen=True)
class Simplex:
    """The pixels of the largest simplex and how the search went."""

    pixels: NDArray[np.intp]
    sweeps: int
    swaps: int
    converged: bool


def search(scores: Floats, maxit: int) -> Simplex:
    """N-FINDR on scores (m, k - 1): the numbers of k pixels. Ties go to the lowest number.

    The search climbs to a simplex that no single swap makes larger, not always to the same one: the largest of several
    counts. All start from ATGP on [1; scores]: first with scores so large that the 1 decides on the last pick alone,
    which is PySpTools' start where that is well defined, then with components weighted in fixed, different ways.
    """
    k, reach = scores.shape[1] + 1, np.maximum(scores.max(0), -scores.min(0))
    lifted = lift(scores)  # of many pixels a copy more is what the memory is refused for
    lifted[:, 1:] /= reach
    found = [climb(lifted, _atgp_of(start, k), maxit) for start in _starts(scores, reach, lifted)]
    volumes = np.array([np.linalg.slogdet(lifted[each.pixels])[1] for each in found])
    return found[int(np.argmax(volumes >= volumes.max() - GAIN))]


def _starts(scores: Floats, reach: Floats, lifted: Floats) -> Iterator[Floats]:
    """[1; scores] to start from: volume ratios do not change with the weight of a component, rounding does."""
    k = scores.shape[1] + 1
    yield lift(scores, 1e6 / reach.max())
    for number in range(max(1, min(STARTS, STARTS * 30 // k) - 1)):
        spread = (number * GOLDEN * np.arange(1, k) + 0.5) % 1  # evenly over 0..1; all in the middle for the first
        yield lift(lifted[:, 1:], 10.0 ** (2 * spread - 1))


def lift(scores: Floats, weights: float | Floats = 1.0) -> Floats:
    """[1; scores * weights]"""
    lifted = np.empty((len(scores), scores.shape[1] + 1))
    lifted[:, 0] = 1.0
    np.multiply(scores, weights, out=lifted[:, 1:])
    return lifted


def climb(lifted: Floats, pixels: NDArray[np.intp], maxit: int) -> Simplex:
    """Sweeps over the slots, each given the pixel that makes the largest simplex, until none would raise its volume.

    With M = inv([1; E]) the volume after putting pixel x in slot i is |M_i [1; x]| of today's: one product tells it for
    every pixel.
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
    return int(np.argmax(values >= values.max() * (1 - GAIN)))


def atgp(pixels: Floats, count: int) -> NDArray[np.intp]:
    """Automatic target generation: again and again the pixel of (m, d) farthest from the span of those found."""
    return _atgp_of(pixels.copy(), count)


def _atgp_of(rest: Floats, count: int) -> NDArray[np.intp]:
    """The same, of pixels that nobody needs any more."""
    found = np.empty(count, np.intp)
    for i in range(count):
        length = np.einsum("ij,ij->i", rest, rest)
        found[i] = first_largest(length)
        if length[found[i]] <= 0:
            raise HsiError(f"the sample holds {i} independent spectra; expected {count}")
        axis = rest[found[i]] / np.sqrt(length[found[i]])
        for _ in range(2):  # twice is enough: the second takes out what rounding left
            along = rest @ axis
            for start in range(0, len(rest), BLOCK):
                part = slice(start, start + BLOCK)
                rest[part] -= np.outer(along[part], axis)
    return found
