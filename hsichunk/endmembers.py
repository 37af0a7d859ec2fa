"""N-FINDR: the endmembers of a sample are the pixels that span the largest simplex (Winter 1999)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hsichunk import schema
from hsichunk.errors import HsiError
from hsichunk.sampling import Sample, draw

SAMPLE = 20_000
SHARE = 0.125
STARTS = 10  # of the search, fewer beyond 30 endmembers
GOLDEN = (5**0.5 - 1) / 2
GAIN = 1e-9  # a swap must raise the volume by more than this share; volumes closer than this are equal

Floats = NDArray[np.float64]


def nfindr(
    cube: xr.DataArray,
    k: int,
    *,
    sample: int | None = SAMPLE,
    share: float = SHARE,
    seed: int = 0,
    maxit: int | None = None,
) -> xr.DataArray:
    """Finds `k` endmembers among the pixels of a cube. Computes: reads the sample, not the cube.

    About `sample` pixels (None: every one) are drawn by `seed` and place on the ground from a `share` of the 64 x 64
    pixel cells of the grid; of a tile with spatial chunks only the chunks under those cells are decoded (`share=1`
    spreads the sample over all). Pixels with no-data are never candidates. From each of a few fixed starts at most
    `maxit` sweeps (default 3 k) swap pixels until none raises the volume; the largest simplex counts.

    Returns reflectance (endmember, wavelength) float64 with `endmember` "EM1"... and `x`, `y` of each source pixel;
    attributes say what the search came to. The same for any chunking, threads or cluster. Raises HsiError for k < 2,
    more endmembers than bands or valid pixels, or data of fewer dimensions.
    Sources: Winter 1999 (N-FINDR), Ren & Chang 2003 (ATGP start).
    """
    if not isinstance(cube, xr.DataArray) or set(cube.dims) != {schema.Y, schema.X, schema.WAVELENGTH}:
        found = cube.dims if isinstance(cube, xr.DataArray) else type(cube).__name__
        raise HsiError(f"the cube has {found}; expected a DataArray (y, x, wavelength), as clean or as_cube give it")
    if cube.dtype.kind != "f":
        raise HsiError(
            f"the cube holds {cube.dtype} counts; expected reflectance: use clean(tile) or as_cube(..., scale=)"
        )
    if maxit is not None and maxit < 1:
        raise HsiError(f"maxit is {maxit}; expected at least one sweep")
    cube = cube.transpose(schema.Y, schema.X, schema.WAVELENGTH)
    check_k(k, cube.sizes[schema.WAVELENGTH])
    drawn = draw(cube, sample, share, seed)
    if len(drawn.spectra) < k and drawn.drawn < cube.sizes[schema.Y] * cube.sizes[schema.X]:
        drawn = draw(cube, sample, 1.0, seed)  # a tile that is mostly no-data: look everywhere before giving up
    em = from_sample(drawn, k, maxit=3 * k if maxit is None else maxit)
    em.attrs |= {"seed": seed}
    coords = {schema.WAVELENGTH: cube[schema.WAVELENGTH]}
    if schema.FWHM in cube.coords:
        coords[schema.FWHM] = cube[schema.FWHM]
    return em.assign_coords(coords)


def check_k(k: int, bands: int) -> None:
    """Raises HsiError unless k endmembers can be looked for in spectra of so many bands."""
    if not isinstance(k, (int, np.integer)) or not 2 <= k <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"k is {k!r}; expected 2 to {schema.MAX_ENDMEMBERS} endmembers")
    if k > bands:
        raise HsiError(f"k is {k} and there are {bands} bands; expected at most one endmember a band")


def from_sample(sample: Sample, k: int, maxit: int) -> xr.DataArray:
    """The endmembers of a sample, named and placed."""
    if len(sample.spectra) < k:
        raise HsiError(f"{len(sample.spectra)} valid pixels of {sample.drawn} drawn; expected at least k = {k}")
    # one thread: what BLAS adds up in another order would be another rounding
    with threadpool_limits(1, user_api="blas"):
        found = search(components(sample.spectra, k - 1), maxit)
    values = sample.spectra[found.pixels].astype(np.float64) / sample.scale
    coords = {
        schema.ENDMEMBER: [f"EM{i + 1}" for i in range(k)],
        "x": (schema.ENDMEMBER, sample.x[found.pixels], schema.X_ATTRS),
        "y": (schema.ENDMEMBER, sample.y[found.pixels], schema.Y_ATTRS),
    }
    attrs: dict[str, Any] = {
        **schema.PRODUCT_ATTRS[schema.REFLECTANCE],
        "method": "N-FINDR",
        "sample_pixels": len(sample.spectra),
        "sweeps": found.sweeps,
        "swaps": found.swaps,
        "converged": int(found.converged),
    }
    return xr.DataArray(values, coords, (schema.ENDMEMBER, schema.WAVELENGTH), schema.REFLECTANCE, attrs)


def components(spectra: NDArray[Any], count: int) -> Floats:
    """The first principal components of spectra (m, L): scores (m, count). Raises HsiError when there are fewer.

    Counts are centred on whole numbers: their moments are whole, exact whatever BLAS does. One float64 copy is made.
    """
    x = spectra.astype(np.float64)
    n = len(x)
    centre = x.sum(0) / n
    x -= np.rint(centre) if spectra.dtype.kind in "iu" else centre
    rest = x.sum(0) / n  # what rounding the centre left
    covariance = (x.T @ x) / n - np.outer(rest, rest)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    rank = int((values > values[-1] * 1e-12).sum()) if values[-1] > 0 else 0
    if rank < count:
        raise HsiError(f"the sample's spectra span {rank} dimensions; expected at least {count} for k = {count + 1}")
    axes = vectors[:, ::-1][:, :count]
    return np.asarray(x @ axes - rest @ axes)


@dataclass(frozen=True)
class Found:
    """The pixels of the largest simplex and how the search went."""

    pixels: NDArray[np.intp]
    sweeps: int
    swaps: int
    converged: bool


def search(scores: Floats, maxit: int) -> Found:
    """N-FINDR on scores (m, k - 1): the numbers of k pixels. Ties go to the lowest number.

    The search climbs to a simplex that no single swap makes larger, not always to the same one: the largest of several
    counts. All start from ATGP on [1; scores]: first with scores so large that the 1 decides on the last pick alone,
    which is PySpTools' start where that is well defined, then with components weighted in fixed, different ways.
    """
    # volume ratios do not change with the weight of a component, rounding does
    k, even = scores.shape[1] + 1, scores / np.abs(scores).max(0)
    lifted = _lift(even)
    weighted = [scores * (1e6 / np.abs(scores).max())]
    for number in range(max(1, min(STARTS, STARTS * 30 // k) - 1)):
        spread = (number * GOLDEN * np.arange(1, k) + 0.5) % 1  # evenly over 0..1; all in the middle for the first
        weighted.append(even * 10.0 ** (2 * spread - 1))
    found = [_climb(lifted, atgp(_lift(start), k), maxit) for start in weighted]
    volumes = np.array([np.linalg.slogdet(lifted[each.pixels])[1] for each in found])
    return found[int(np.argmax(volumes >= volumes.max() - GAIN))]


def _lift(scores: Floats) -> Floats:
    return np.concatenate([np.ones((len(scores), 1)), scores], axis=1)


def _climb(lifted: Floats, pixels: NDArray[np.intp], maxit: int) -> Found:
    """Sweeps over the slots, each given the pixel that makes the largest simplex, until none would raise its volume.

    With M = inv([1; E]) the volume after putting pixel x in slot i is |M_i [1; x]| of today's: one product tells it for
    every pixel.
    """
    swaps = 0
    for sweep in range(1, maxit + 1):
        before = swaps
        for slot in range(len(pixels)):
            ratio = np.abs(lifted @ np.linalg.inv(lifted[pixels].T)[slot])
            best = _first_largest(ratio)
            if ratio[best] > 1 + GAIN:
                pixels[slot] = best
                swaps += 1
        if swaps == before:
            return Found(pixels, sweep, swaps, True)
    return Found(pixels, maxit, swaps, False)


def _first_largest(values: Floats) -> int:
    return int(np.argmax(values >= values.max() * (1 - GAIN)))


def atgp(pixels: Floats, count: int) -> NDArray[np.intp]:
    """Automatic target generation: again and again the pixel of (m, d) farthest from the span of those found."""
    rest = pixels.copy()
    found = np.empty(count, np.intp)
    for i in range(count):
        length = np.einsum("ij,ij->i", rest, rest)
        found[i] = _first_largest(length)
        if length[found[i]] <= 0:
            raise HsiError(f"the sample holds {i} independent spectra; expected {count}")
        axis = rest[found[i]] / np.sqrt(length[found[i]])
        for _ in range(2):  # twice is enough: the second takes out what rounding left
            rest -= np.outer(rest @ axis, axis)
    return found
