"""N-FINDR: the endmembers of a sample are the pixels that span the largest simplex (Winter 1999)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.errors import HsiError
from hsichunk.sampling import Sample, draw
from hsichunk.threads import one_blas_thread

SAMPLE = 20_000
SHARE = 0.125
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

    About `sample` pixels (None: every one) are drawn by `seed` and place on the ground from a `share` of the 64 x 64 pixel
    cells of the grid; of a tile with spatial chunks only the chunks under those cells are decoded (`share=1` spreads the sample
    over all). Pixels with no-data are never candidates. At most `maxit` sweeps (default 3 k) swap pixels until none
    raises the volume.

    Returns reflectance (endmember, wavelength) float64 with `endmember` "EM1"... and `x`, `y` of each source pixel; attributes
    say what the search came to. The same for any chunking, threads or cluster. Raises HsiError for k < 2, more endmembers
    than bands or valid pixels, or data of fewer dimensions.
    Sources: Winter 1999 (N-FINDR), Ren & Chang 2003 (ATGP start).
    """
    if set(cube.dims) != {schema.Y, schema.X, schema.WAVELENGTH}:
        raise HsiError(f"the cube has dimensions {cube.dims}; expected (y, x, wavelength)")
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
    if not 2 <= k <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"k is {k}; expected 2 to {schema.MAX_ENDMEMBERS} endmembers")
    if k > bands:
        raise HsiError(f"k is {k} and there are {bands} bands; expected at most one endmember a band")


def from_sample(sample: Sample, k: int, maxit: int) -> xr.DataArray:
    """The endmembers of a sample, named and placed."""
    if len(sample.spectra) < k:
        raise HsiError(f"{len(sample.spectra)} valid pixels of {sample.drawn} drawn; expected at least k = {k}")
    with one_blas_thread():
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
    """The first principal components of spectra (m, L): scores (m, count), signs fixed. Raises when there are fewer.

    Moments of counts are whole numbers below 2**53: exact, whatever BLAS does.
    """
    x = spectra.astype(np.float64)
    n = len(x)
    mean = x.sum(0) / n
    covariance = (x.T @ x) / n - np.outer(mean, mean)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    axes = vectors[:, ::-1][:, :count]
    largest = values[-1]
    rank = int((values > max(largest, 0) * 1e-12).sum())
    if largest <= 0 or rank < count:
        raise HsiError(f"the sample's spectra span {rank} dimensions; expected at least {count} for k = {count + 1}")
    signs = np.sign(axes[np.abs(axes).argmax(0), np.arange(count)])
    return np.asarray((x - mean) @ (axes * signs))


@dataclass(frozen=True)
class Found:
    """The pixels of the largest simplex and how the search went."""

    pixels: NDArray[np.intp]
    sweeps: int
    swaps: int
    converged: bool


def search(scores: Floats, maxit: int) -> Found:
    """N-FINDR on scores (m, k - 1): the numbers of k pixels. Ties go to the lowest number.

    With M = inv([1; E]) the volume after putting pixel x in slot i is |M_i [1; x]| of today's: one product tells it for
    every pixel and every slot.
    """
    lifted = np.concatenate([np.ones((len(scores), 1)), scores / np.abs(scores).max()], axis=1)
    pixels = atgp(lifted, lifted.shape[1])
    swaps = 0
    for sweep in range(1, max(1, maxit) + 1):
        before = swaps
        for slot in range(len(pixels)):
            ratio = np.abs(lifted @ np.linalg.inv(lifted[pixels].T)[slot])
            best = _first_largest(ratio)
            if ratio[best] > 1 + GAIN:
                pixels[slot] = best
                swaps += 1
        if swaps == before:
            return Found(pixels, sweep, swaps, True)
    return Found(pixels, max(1, maxit), swaps, False)


def _first_largest(values: Floats) -> int:
    return int(np.argmax(values >= values.max() * (1 - GAIN)))


def atgp(pixels: Floats, count: int) -> NDArray[np.intp]:
    """Automatic target generation: again and again the pixel farthest from the span of those found (m, d) -> (count,)."""
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
