"""ATGP, PPI, FIPPI and VCA on spectra in memory: what the searches over a cube (`hsichunk.endmembers.extraction`) and
over the sample of a run have in common. Ties go to the first pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hsichunk.array_types import Floats, Positions
from hsichunk.cube.sampling import Sample
from hsichunk.cube.second_moments import Moments
from hsichunk.endmembers import nfindr_in_memory
from hsichunk.endmembers.nfindr_in_memory import BLOCK, Picked, first_largest
from hsichunk.errors import HsiError

SKEWERS = 1000
TOGETHER = 500  # skewers laid through spectra at once
DEPENDENT = 1e-7  # share of a spectrum that others must leave unexplained


def pick(sample: Sample, method: str, k: int, seed: int, maxit: int | None, threads: int = 1) -> Picked:
    """Endmembers of a sample by "atgp", "ppi", "fippi" or "vca"; k of them, by FIPPI as many as it finds.

    `seed` draws the directions of PPI and VCA, `maxit` bounds the rounds of FIPPI. Raises HsiError where the sample has
    too few independent spectra, or pixels with votes.
    """
    with threadpool_limits(1, user_api="blas"):
        pixels, rounds = _SEARCHES[method](sample.spectra, k, seed, maxit, threads)
    spectra = sample.spectra[pixels].astype(np.float64) / sample.scale
    return Picked(spectra, sample.y[pixels], sample.x[pixels], len(sample.spectra), rounds, 0, True)


def _by_atgp(spectra: NDArray[Any], k: int, seed: int, maxit: int | None, threads: int) -> tuple[Positions, int]:
    found = targets(spectra.astype(np.float64), k)
    if len(found) < k:
        raise HsiError(f"the sample holds {len(found)} independent spectra; expected at least k = {k}")
    return found, 0


def _by_ppi(spectra: NDArray[Any], k: int, seed: int, maxit: int | None, threads: int) -> tuple[Positions, int]:
    ends = Ends(skewers_of(SKEWERS, seed, spectra.shape[1]))
    for start in range(0, len(spectra), BLOCK):
        values = spectra[start : start + BLOCK].astype(np.float64)
        ends.add(values, np.arange(start, start + len(values)))
    return most_votes(np.bincount(ends.at.ravel(), minlength=len(spectra)), k), 0


def _by_fippi(spectra: NDArray[Any], k: int, seed: int, maxit: int | None, threads: int) -> tuple[Positions, int]:
    return ends_of_ends(nfindr_in_memory.components(spectra, k, threads), k, maxit)


def _by_vca(spectra: NDArray[Any], k: int, seed: int, maxit: int | None, threads: int) -> tuple[Positions, int]:
    moments = _moments(spectra)
    projective = is_projective(signal_to_noise(moments, k), k)
    axes = moments.axes(k, centred=False) if projective else moments.axes(k - 1)
    shift = 0.0 if projective else moments.mean @ axes
    points = np.concatenate(
        [spectra[start : start + BLOCK].astype(np.float64) @ axes - shift for start in range(0, len(spectra), BLOCK)]
    )
    return vertices(on_plane(points, projective), k, seed), 0


_SEARCHES = {"atgp": _by_atgp, "ppi": _by_ppi, "fippi": _by_fippi, "vca": _by_vca}


def _moments(spectra: NDArray[Any]) -> Moments:
    """Of the spectra of a sample; of counts, centred on whole numbers, exact in blocks."""
    n = len(spectra)
    blocks = [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
    centre = np.sum([spectra[block].sum(0, dtype=np.float64) for block in blocks], axis=0) / n
    if spectra.dtype.kind in "iu":
        centre = np.rint(centre)
    total, square = np.zeros(len(centre)), np.zeros((len(centre), len(centre)))
    for block in blocks:
        x = spectra[block] - centre
        total += x.sum(0)
        square += x.T @ x
    rest = total / n
    return Moments(n, centre + rest, square / n - np.outer(rest, rest), 1.0)


def targets(values: Floats, k: int) -> Positions:
    """ATGP: as many targets of k as there are independent spectra."""
    for count in range(min(k, len(values)), 0, -1):
        try:
            found = nfindr_in_memory.atgp(values, count)
        except HsiError:
            continue
        length = np.abs(np.diag(np.linalg.qr(values[found].T)[1]))
        return np.asarray(found[length > length[0] * DEPENDENT])
    return np.empty(0, np.intp)


class Ends:
    """The pixels at both ends of skewers (skewers, L), of spectra that come part by part."""

    def __init__(self, lines: Floats) -> None:
        self.lines = lines
        self.at = np.full((2, len(lines)), -1)
        """number of the pixel at the low and at the high end of each"""
        self.reach = np.full((2, len(lines)), -np.inf)
        """how far out it lies"""

    def add(self, values: Floats, numbers: Positions) -> None:
        """Lays the skewers through spectra (n, L) of pixels of some numbers, later than those before."""
        for start in range(0, len(self.lines), TOGETHER):
            part = slice(start, start + TOGETHER)
            along = values @ self.lines[part].T
            for end, pixel in enumerate((along.argmin(0), along.argmax(0))):
                far = along[pixel, np.arange(len(pixel))] * (2 * end - 1)
                farther = far > self.reach[end, part]
                self.at[end, part][farther] = numbers[pixel[farther]]
                self.reach[end, part][farther] = far[farther]


def skewers_of(skewers: int | Any, seed: int, bands: int) -> Floats:
    """Directions (skewers, bands): so many, drawn by `seed` evenly over all, or those given."""
    if isinstance(skewers, (int, np.integer)):
        if skewers < 1:
            raise HsiError(f"skewers is {skewers}; expected at least one")
        # components of equal normal distribution: no direction is likelier than another
        lines = np.random.default_rng(seed).normal(size=(int(skewers), bands))
    else:
        lines = np.asarray(skewers, np.float64)
    if lines.ndim != 2 or lines.shape[1] != bands or not len(lines) or not np.isfinite(lines).all():
        raise HsiError(f"skewers are {lines.shape}; expected finite numbers (skewers, {bands} bands)")
    return lines


def most_votes(votes: NDArray[np.int64], k: int) -> Positions:
    """The k pixels with the most votes, those with most first."""
    order = np.argsort(-votes, kind="stable")[:k]
    if len(order) < k or votes[order[-1]] == 0:
        raise HsiError(f"{int((votes > 0).sum())} pixels have votes; expected at least k = {k}: take more skewers")
    return order


def ends_of_ends(points: Floats, k: int, maxit: int | None) -> tuple[Positions, int]:
    """FIPPI in scores (n, k): pixels at the ends of skewers that are pixels at ends; and after how many rounds."""
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
    """Ratio in dB: power in the first k principal components and the mean over what is left."""
    bands = len(moments.mean)
    whole = float(np.trace(moments.correlation))
    inside = float(np.linalg.eigvalsh(moments.covariance)[::-1][:k].sum() + moments.mean @ moments.mean)
    noise, signal = whole - inside, inside - k / bands * whole
    if noise <= whole * 1e-14:
        return float("inf")
    return float(10 * np.log10(max(signal, whole * 1e-14) / noise))


def is_projective(ratio: float, k: int) -> bool:
    """Whether VCA works in the first k axes of the correlation: above 15 + 10 log10 k dB."""
    return bool(ratio >= 15 + 10 * np.log10(k))


def on_plane(points: Floats, projective: bool) -> Floats:
    """(n, k) of scores (n, d): on the plane where the mean's score is one, or lifted by the longest score."""
    if not projective:
        longest = float(np.sqrt(np.einsum("ij,ij->i", points, points).max()))
        return np.concatenate([points, np.full((len(points), 1), longest)], axis=1)
    height = points @ points.mean(0)
    # a pixel on the other side of the origin has no place on the plane; dark ones would be thrown far out
    seen = height > height.max() * 1e-9
    plane: Floats = np.zeros_like(points)
    plane[seen] = points[seen] / height[seen, None]
    return plane


def vertices(points: Floats, k: int, seed: int) -> Positions:
    """VCA on points (n, k): again and again the pixel farthest along a direction orthogonal to those found."""
    rng = np.random.default_rng(seed)
    corners = np.zeros((k, k))
    corners[-1, 0] = 1.0
    found = np.empty(k, np.intp)
    for i in range(k):
        direction = rng.normal(size=k)
        direction -= corners @ (np.linalg.pinv(corners) @ direction)
        along = np.abs(points @ (direction / np.linalg.norm(direction)))
        found[i] = first_largest(along)
        corners[:, i] = points[found[i]]
    return found
