"""Search spectra in memory by ATGP, PPI, FIPPI and VCA.

The searches over a cube (`hsichunk.endmembers.extraction`) and over the sample of a run share these functions. Ties go
to the first pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from hsichunk.array_types import Floats, Ints, Positions
from hsichunk.cube.sampling import Sample
from hsichunk.cube.second_moments import Moments
from hsichunk.endmembers import nfindr_in_memory
from hsichunk.endmembers.nfindr_in_memory import BLOCK, Picked, first_largest
from hsichunk.errors import HsiError

SKEWERS = 1000
TOGETHER = 500  # skewers on which spectra are projected at once
DEPENDENT = 1e-7  # share of its length that a spectrum must have outside the span of the others


def pick(sample: Sample, method: str, k: int, seed: int, maxit: int | None, threads: int = 1) -> Picked:
    """Return endmembers of a sample by "atgp", "ppi", "fippi" or "vca": k of them, by FIPPI as many as it finds.

    `seed` draws the directions of PPI and VCA, `maxit` limits the rounds of FIPPI. Raises HsiError where the sample has
    too few independent spectra, or too few pixels with votes.
    """
    with threadpool_limits(1, user_api="blas"):
        pixels, rounds = _SEARCHES[method](_Search(sample.spectra, k, seed, maxit, threads))
    spectra = sample.spectra[pixels].astype(np.float64) / sample.scale
    return Picked(spectra, sample.y[pixels], sample.x[pixels], len(sample.spectra), rounds, 0, True)


class _Search(NamedTuple):
    """The arguments of a search."""

    spectra: NDArray[np.generic]
    """(m, L) counts or reflectance"""
    k: int
    seed: int
    maxit: int | None
    threads: int


Method: TypeAlias = Callable[[_Search], tuple[Positions, int]]
"""from a search to the numbers of the pixels found, and the number of rounds (0 where there are none)"""


def _by_atgp(search: _Search) -> tuple[Positions, int]:
    pixels = targets(search.spectra.astype(np.float64), search.k)
    if len(pixels) < search.k:
        raise HsiError(f"the sample holds {len(pixels)} independent spectra; expected at least k = {search.k}")
    return pixels, 0


def _by_ppi(search: _Search) -> tuple[Positions, int]:
    spectra = search.spectra
    ends = Ends(skewers_of(SKEWERS, search.seed, spectra.shape[1]))
    for start in range(0, len(spectra), BLOCK):
        values = spectra[start : start + BLOCK].astype(np.float64)
        ends.add(values, np.arange(start, start + len(values)))
    return most_votes(np.bincount(ends.at.ravel(), minlength=len(spectra)), search.k), 0


def _by_fippi(search: _Search) -> tuple[Positions, int]:
    points = nfindr_in_memory.components(search.spectra, search.k, search.threads)
    return ends_of_ends(points, search.k, search.maxit)


def _by_vca(search: _Search) -> tuple[Positions, int]:
    spectra, k = search.spectra, search.k
    moments = _moments(spectra)
    projective = is_projective(signal_to_noise(moments, k), k)
    axes = moments.axes(k, centred=False) if projective else moments.axes(k - 1)
    shift = 0.0 if projective else moments.mean @ axes
    points = np.concatenate(
        [spectra[start : start + BLOCK].astype(np.float64) @ axes - shift for start in range(0, len(spectra), BLOCK)]
    )
    return vertices(on_plane(points, projective), k, search.seed), 0


_SEARCHES: dict[str, Method] = {"atgp": _by_atgp, "ppi": _by_ppi, "fippi": _by_fippi, "vca": _by_vca}


def _moments(spectra: NDArray[np.generic]) -> Moments:
    """Return the moments of the spectra (m, L) of a sample.

    Counts are centred on whole numbers, so that the sums of each block are exact.
    """
    n = len(spectra)
    blocks = [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
    centre = np.sum([spectra[block].sum(0, dtype=np.float64) for block in blocks], axis=0) / n
    if spectra.dtype.kind in "iu":
        centre = np.rint(centre)
    total, square = np.zeros(len(centre)), np.zeros((len(centre), len(centre)))
    for block in blocks:
        x: Floats = np.subtract(spectra[block], centre)
        total += x.sum(0)
        square += x.T @ x
    rest = total / n
    return Moments(n, centre + rest, square / n - np.outer(rest, rest), 1.0)


def targets(values: Floats, k: int) -> Positions:
    """Return the numbers of k targets of ATGP, or of as many as there are independent spectra."""
    for count in range(min(k, len(values)), 0, -1):
        try:
            pixels = nfindr_in_memory.atgp(values, count)
        except HsiError:
            continue
        length = np.abs(np.diag(np.linalg.qr(values[pixels].T)[1]))
        return np.asarray(pixels[length > length[0] * DEPENDENT])
    return np.empty(0, np.intp)


class Ends:
    """The pixels at both ends of skewers (skewers, L), of spectra that are added part by part."""

    def __init__(self, lines: Floats) -> None:
        self.lines = lines
        """(skewers, L) directions"""
        self.at = np.full((2, len(lines)), -1)
        """(2, skewers) numbers of the pixels at the low and at the high end"""
        self.reach = np.full((2, len(lines)), -np.inf)
        """(2, skewers) how far out these pixels lie"""

    def add(self, values: Floats, numbers: Positions) -> None:
        """Project spectra (n, L) on the skewers. `numbers` (n,) of the pixels are larger than those added before."""
        for start in range(0, len(self.lines), TOGETHER):
            part = slice(start, start + TOGETHER)
            along = values @ self.lines[part].T
            for end, pixel in enumerate((along.argmin(0), along.argmax(0))):
                far = along[pixel, np.arange(len(pixel))] * (2 * end - 1)
                farther = far > self.reach[end, part]
                self.at[end, part][farther] = numbers[pixel[farther]]
                self.reach[end, part][farther] = far[farther]


def skewers_of(skewers: int | ArrayLike, seed: int, bands: int) -> Floats:
    """Return directions (skewers, bands): a number of them, drawn by `seed` evenly over all, or those given.

    Raises HsiError for less than one, and for values of another shape or that are not finite.
    """
    if isinstance(skewers, (int, np.integer)):
        if skewers < 1:
            raise HsiError(f"skewers is {skewers}; expected at least one")
        # independent normal components of equal variance make all directions equally likely
        lines = np.random.default_rng(seed).normal(size=(int(skewers), bands))
    else:
        lines = np.asarray(skewers, np.float64)
    if lines.ndim != 2 or lines.shape[1] != bands or not len(lines) or not np.isfinite(lines).all():
        raise HsiError(f"skewers are {lines.shape}; expected finite numbers (skewers, {bands} bands)")
    return lines


def most_votes(votes: Ints, k: int) -> Positions:
    """Return the numbers of the k pixels with most votes, the most first. Raises HsiError for fewer with any vote."""
    order = np.argsort(-votes, kind="stable")[:k]
    if len(order) < k or votes[order[-1]] == 0:
        raise HsiError(f"{int((votes > 0).sum())} pixels have votes; expected at least k = {k}: take more skewers")
    return order


def ends_of_ends(points: Floats, k: int, maxit: int | None) -> tuple[Positions, int]:
    """Return the pixels of FIPPI in scores (n, k), and the number of rounds.

    The skewers are pixels: first k targets of ATGP, then also the pixels at the ends of all skewers so far.
    """
    lines = nfindr_in_memory.atgp(points, k)
    rounds = 0
    while True:
        along = points @ points[lines].T
        ends = np.union1d(along.argmin(0), along.argmax(0))
        rounds += 1
        if not len(np.setdiff1d(ends, lines)) or rounds == maxit:
            return ends, rounds
        lines = np.union1d(lines, ends)


def signal_to_noise(moments: Moments, k: int) -> float:
    """Return the signal-to-noise ratio in dB.

    Signal is the power of the mean and of the first k principal components, less k / L of all power; noise is the rest.
    """
    bands = len(moments.mean)
    power = float(np.trace(moments.correlation))
    inside = float(np.linalg.eigvalsh(moments.covariance)[::-1][:k].sum() + moments.mean @ moments.mean)
    noise, signal = power - inside, inside - k / bands * power
    if noise <= power * 1e-14:
        return float("inf")
    return float(10 * np.log10(max(signal, power * 1e-14) / noise))


def is_projective(ratio: float, k: int) -> bool:
    """Return whether VCA works in the first k axes of the correlation: from a ratio of 15 + 10 log10 k dB on."""
    return bool(ratio >= 15 + 10 * np.log10(k))


def on_plane(points: Floats, projective: bool) -> Floats:
    """Return points (n, k) on a plane for scores (n, d), as VCA takes them.

    With `projective` they are the scores divided by their product with the mean, else the scores with a constant as the
    last component, the length of the longest.
    """
    if not projective:
        longest = float(np.sqrt(np.einsum("ij,ij->i", points, points).max()))
        return np.concatenate([points, np.full((len(points), 1), longest)], axis=1)
    height = points @ points.mean(0)
    # a pixel behind the origin has no point on the plane, and that of a dark pixel would lie far out
    visible = height > height.max() * 1e-9
    plane: Floats = np.zeros_like(points)
    plane[visible] = points[visible] / height[visible, None]
    return plane


def vertices(points: Floats, k: int, seed: int) -> Positions:
    """Return the numbers of k pixels of points (n, k) by VCA.

    Each is the pixel farthest along a direction, drawn by `seed`, that is orthogonal to the pixels before it.
    """
    rng = np.random.default_rng(seed)
    corners = np.zeros((k, k))
    corners[-1, 0] = 1.0
    pixels = np.empty(k, np.intp)
    for i in range(k):
        direction = rng.normal(size=k)
        direction -= corners @ (np.linalg.pinv(corners) @ direction)
        along = np.abs(points @ (direction / np.linalg.norm(direction)))
        pixels[i] = first_largest(along)
        corners[:, i] = points[pixels[i]]
    return pixels
