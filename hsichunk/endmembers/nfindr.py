"""Search a cube for endmembers by N-FINDR: draw a sample of its pixels and search that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats, Positions
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
    """Find `k` endmembers among the pixels of a cube. Computes: reads the sample only, or with `refine` the whole cube.

    About `sample` pixels (None: all) of `cube` (y, x, wavelength), reflectance, are drawn by `seed` and by their place
    on the ground, from a `share` of the 64 x 64 pixel cells of the grid. Of a tile with spatial chunks only the chunks
    under those cells are decoded (`share=1` spreads the sample over all cells). Pixels with no-data are never
    candidates. From each of a few fixed starts, at most `maxit` sweeps (default 3 k) swap pixels until no swap raises
    the volume; the largest simplex counts.

    With `refine` the search goes on over every pixel, in the first k - 1 principal components of all of them, until no
    single pixel anywhere would raise the volume by more than 1e-9: attribute `certified`. That goes through the cube
    twice and keeps k - 1 scores a pixel. Of a tile of band chunks each chunk is decoded once, into a scratch file; of a
    mosaic of such tiles twice, with a row of tiles in the file at a time. Up to 2**23 / k pixels the seed then has no
    influence; `share` has none at any size.

    `exclude` leaves outliers out before the subspace is computed. A value of 1 or more is a distance from the median in
    robust standard deviations (root mean square over the k - 1 components), a value below 1 the share of the pixels
    that are left out, the farthest ones. Endmembers themselves lie far out, at 3 to 5 in a scene of large patches, at
    20 where they are rare small targets: take a few times that. Attribute `excluded` has the number of pixels left out.

    Returns reflectance (endmember, wavelength) float64 with `endmember` "EM1"... and `x`, `y` of each source pixel;
    attributes say how the search went. The result is the same for any chunking, threads or cluster. Raises HsiError for
    k < 2, more endmembers than bands or valid pixels, or data of fewer dimensions.
    Sources: Winter 1999 (N-FINDR), Ren & Chang 2003 (ATGP start).
    """
    if maxit is not None and maxit < 1:
        raise HsiError(f"maxit is {maxit}; expected at least one sweep")
    cube = check_cube(cube)
    check_k(k, cube.sizes[schema.WAVELENGTH])
    check_exclude(exclude)
    if refine:
        return _nfindr_of_all(cube, k, sample, seed, maxit, exclude)
    pixels = draw(cube, sample, share, seed)
    if len(pixels.spectra) < k and pixels.drawn < cube.sizes[schema.Y] * cube.sizes[schema.X]:
        pixels = draw(cube, sample, 1.0, seed)  # the tile is mostly no-data: draw from all cells before giving up
    pixels, excluded = without_outliers(pixels, k, exclude)
    picked = pick(pixels, k, maxit)
    attrs: dict[str, str | float] = {
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
    """Return the endmembers of `nfindr` with `refine`."""
    maxit = 3 * k if maxit is None else maxit
    with SpectraReader(cube) as spectra:
        simplex = refined(spectra, k, sample=sample, seed=seed, maxit=maxit, exclude=exclude)
        attrs = simplex.attrs(seed)
        if exclude is not None:
            attrs |= {"exclude": exclude, "excluded": simplex.excluded}
        return of_pixels(spectra, simplex.pixels, attrs)


def of_pixels(spectra: SpectraReader, pixels: Positions, attrs: Mapping[str, str | float]) -> xr.DataArray:
    """Return the spectra of some pixels of a cube, by their numbers, as endmembers."""
    rows, cols = np.divmod(pixels, spectra.shape[1])
    y, x = spectra.cube[schema.Y].values[rows], spectra.cube[schema.X].values[cols]
    return labelled(spectra.cube, spectra.take(pixels)[0] / spectra.scale, y, x, attrs)


def labelled(
    cube: xr.DataArray,
    spectra: Floats,
    y: NDArray[np.generic],
    x: NDArray[np.generic],
    attrs: Mapping[str, str | float],
) -> xr.DataArray:
    """Return endmembers (k, L) of a cube with their names, bands and source pixels, as every search returns them."""
    coords: dict[str, Any] = {
        schema.ENDMEMBER: [f"EM{i + 1}" for i in range(len(spectra))],
        schema.X: (schema.ENDMEMBER, x.astype(np.float64), schema.X_ATTRS),
        schema.Y: (schema.ENDMEMBER, y.astype(np.float64), schema.Y_ATTRS),
    }
    where = provenance.carried(cube.attrs, provenance.PLACE)
    all_attrs = {**schema.PRODUCT_ATTRS[schema.REFLECTANCE], **where, **attrs}
    em = xr.DataArray(spectra, coords, (schema.ENDMEMBER, schema.WAVELENGTH), schema.REFLECTANCE, all_attrs)
    bands = {schema.WAVELENGTH: cube[schema.WAVELENGTH]}
    if schema.FWHM in cube.coords:
        bands[schema.FWHM] = cube[schema.FWHM]
    return em.assign_coords(bands)
