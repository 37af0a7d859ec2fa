"""Endmembers of a cube: a sample of its pixels, and the search in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.cube.checks import check_cube
from hsichunk.cube.cube_sample import SAMPLE, SHARE, draw
from hsichunk.cube.spectra_reader import SpectraReader
from hsichunk.endmembers.nfindr_all_pixels import refined
from hsichunk.endmembers.nfindr_in_memory import check_k, pick
from hsichunk.endmembers.outliers import check_exclude, without_outliers
from hsichunk.errors import HsiError
from hsichunk.readers import provenance


def nfindr(
    cube: xr.DataArray,
    k: int,
    *,
    sample: int | None = SAMPLE,
    share: float = SHARE,
    seed: int = 0,
    maxit: int | None = None,
    refine: bool = False,
    exclude: float | None = None,
) -> xr.DataArray:
    """Finds `k` endmembers among the pixels of a cube. Computes: reads the sample, not the cube, unless to refine.

    Of `cube` (y, x, wavelength), reflectance, about `sample` pixels (None: every one) are drawn by `seed` and place on
    the ground from a `share` of the 64 x 64 pixel cells of the grid; of a tile with spatial chunks only the chunks
    under those cells are decoded (`share=1` spreads the sample over all). Pixels with no-data are never candidates.
    From each of a few fixed starts at most `maxit` sweeps (default 3 k) swap pixels until none raises the volume; the
    largest simplex counts.

    With `refine` the search goes on over every pixel, in the first k - 1 principal components of all of them, until no
    single pixel anywhere would raise the volume by more than 1e-9: attribute `certified`. That goes through the cube
    twice (of a tile of band chunks each chunk is decoded once, into a scratch file; of a mosaic of those twice, a row
    of tiles in the file at a time), and keeps k - 1 scores a pixel.
    Up to 2**23 / k pixels the seed then decides on nothing; `share` has no part in it at any size.

    `exclude` leaves outliers out before the subspace is made: pixels farther from the median than so many robust
    standard deviations (root mean square over the k - 1 components), or, below 1, that share of the pixels, the
    farthest. Endmembers lie far out themselves, at 3 to 5 in a scene of large patches, at 20 where they are rare small
    targets: take a few times that. Attribute `excluded` has the number of pixels left out.

    Returns reflectance (endmember, wavelength) float64 with `endmember` "EM1"... and `x`, `y` of each source pixel;
    attributes say what the search came to. The same for any chunking, threads or cluster. Raises HsiError for k < 2,
    more endmembers than bands or valid pixels, or data of fewer dimensions.
    Sources: Winter 1999 (N-FINDR), Ren & Chang 2003 (ATGP start).
    """
    if maxit is not None and maxit < 1:
        raise HsiError(f"maxit is {maxit}; expected at least one sweep")
    cube = check_cube(cube)
    check_k(k, cube.sizes[schema.WAVELENGTH])
    check_exclude(exclude)
    if refine:
        return _nfindr_of_all(cube, k, sample, seed, maxit, exclude)
    drawn = draw(cube, sample, share, seed)
    if len(drawn.spectra) < k and drawn.drawn < cube.sizes[schema.Y] * cube.sizes[schema.X]:
        drawn = draw(cube, sample, 1.0, seed)  # a tile that is mostly no-data: look everywhere before giving up
    drawn, excluded = without_outliers(drawn, k, exclude)
    picked = pick(drawn, k, maxit)
    attrs: dict[str, Any] = {
        "method": "N-FINDR",
        "sample_pixels": picked.sample_pixels,
        "sweeps": picked.sweeps,
        "swaps": picked.swaps,
        "converged": int(picked.converged),
        "seed": seed,
    }
    if exclude is not None:
        attrs |= {"exclude": exclude, "excluded": excluded}
    return labelled(cube, picked.spectra, picked.y, picked.x, attrs)


def _nfindr_of_all(
    cube: xr.DataArray, k: int, sample: int | None, seed: int, maxit: int | None, exclude: float | None
) -> xr.DataArray:
    with SpectraReader(cube) as spectra:
        found = refined(spectra, k, sample=sample, seed=seed, maxit=3 * k if maxit is None else maxit, exclude=exclude)
        attrs = found.attrs(seed)
        if exclude is not None:
            attrs |= {"exclude": exclude, "excluded": found.excluded}
        return of_pixels(spectra, found.pixels, attrs)


def of_pixels(spectra: SpectraReader, pixels: NDArray[np.intp], attrs: dict[str, Any]) -> xr.DataArray:
    """Endmembers that are pixels of a cube, by their numbers."""
    rows, cols = np.divmod(pixels, spectra.shape[1])
    y, x = spectra.cube[schema.Y].values[rows], spectra.cube[schema.X].values[cols]
    return labelled(spectra.cube, spectra.take(pixels)[0] / spectra.scale, y, x, attrs)


def labelled(
    cube: xr.DataArray, spectra: NDArray[np.float64], y: NDArray[Any], x: NDArray[Any], attrs: dict[str, Any]
) -> xr.DataArray:
    """Endmembers (k, L) of a cube with their names, bands and places, as every search gives them."""
    coords: dict[str, Any] = {
        schema.ENDMEMBER: [f"EM{i + 1}" for i in range(len(spectra))],
        schema.X: (schema.ENDMEMBER, x.astype(np.float64), schema.X_ATTRS),
        schema.Y: (schema.ENDMEMBER, y.astype(np.float64), schema.Y_ATTRS),
    }
    where = provenance.carried(cube.attrs, provenance.PLACE)
    attrs = {**schema.PRODUCT_ATTRS[schema.REFLECTANCE], **where, **attrs}
    em = xr.DataArray(spectra, coords, (schema.ENDMEMBER, schema.WAVELENGTH), schema.REFLECTANCE, attrs)
    bands = {schema.WAVELENGTH: cube[schema.WAVELENGTH]}
    if schema.FWHM in cube.coords:
        bands[schema.FWHM] = cube[schema.FWHM]
    return em.assign_coords(bands)
