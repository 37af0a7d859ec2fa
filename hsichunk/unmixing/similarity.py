"""More ways to say how near a spectrum is to an endmember."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import labelled
from hsichunk.cube.checks import check_cube, check_endmembers
from hsichunk.kernels import float_sums
from hsichunk.unmixing.counts_or_floats import products
from hsichunk.unmixing.unmixing import in_one_pass, unmix


def sid_sam(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.DataArray:
    """SID times the tangent of SAM: float32 (endmember, y, x), nats; 0 for equal shapes, larger for less alike.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance. Both come from the one pass of `unmix`.
    Infinite at angles of 90 degrees and above, which reflectance of at least 0 never has. NaN where any band of a pixel
    is; lazy for a dask cube. Source: Du et al. 2004, the SID(TAN) mixed measure.
    """
    both = unmix(cube, endmembers, (schema.SAM, schema.SID))
    angle = both[schema.SAM].astype(np.float64)
    tangent: Any = np.tan(angle)
    beyond = tangent.where((angle < np.pi / 2) | angle.isnull(), np.inf)
    product = (both[schema.SID] * beyond).astype(np.float32)
    attrs = schema.PRODUCT_ATTRS[schema.SID_SAM]
    return labelled(
        product.data, both[schema.SAM], product.dims, schema.SID_SAM, attrs, {schema.ENDMEMBER: both[schema.ENDMEMBER]}
    )


def ncc(cube: xr.DataArray, endmembers: xr.DataArray, *, distance: bool = False) -> xr.DataArray:
    """Pearson's correlation over bands with each endmember: float32 (endmember, y, x), -1 to 1, 1 for equal shapes.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance, on the same bands. With `distance`,
    1 - r instead, named "ncc_distance": 0 to 2. `classify` takes either for what it is, by its name. A spectrum that is
    the same in every band has correlation 0. NaN where any band of a pixel is; lazy for a dask cube; of stored counts
    it is the one pass of a run. Raises HsiError for wavelengths that differ.
    """
    cube = check_cube(cube)
    spectra, names = check_endmembers(endmembers, cube)
    apart = spectra - spectra.mean(1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", apart, apart))[:, None]
    unit = np.divide(apart, length, out=np.zeros_like(apart), where=length > 0)
    name = schema.NCC_DISTANCE if distance else schema.NCC
    kernel = partial(_ncc, unit=unit, distance=distance)
    return products(cube, endmembers, spectra, names, (name,), kernel)[name]


def chebyshev(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.DataArray:
    """Largest difference in any band from each endmember: float32 (endmember, y, x), in reflectance.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance, on the same bands. It comes from the
    one pass of `unmix`, as a run's does. NaN where any band of a pixel is; lazy for a dask cube. Raises HsiError for
    wavelengths that differ.
    """
    return in_one_pass(check_cube(cube), endmembers, (schema.CHEBYSHEV,))[schema.CHEBYSHEV]


def _ncc(x: Floats, unit: Floats, distance: bool) -> Floats:
    """Spectra (n, L) and centred endmembers of unit length (p, L) to correlations (n, p)."""
    by_band = np.ascontiguousarray(x.T)
    bands, n = by_band.shape
    mean = np.zeros((1, n))
    float_sums.add_products(np.full((1, bands), 1.0 / bands), by_band, mean)
    flat = (by_band == by_band[0]).all(0)  # whatever its mean was rounded to
    by_band -= mean
    square, product = np.zeros(n), np.zeros((len(unit), n))
    float_sums.add_dots(by_band, by_band, square)
    float_sums.add_products(unit, by_band, product)
    length = np.where(flat | (square <= 0), np.inf, np.sqrt(square))
    correlation = np.clip(product / length, -1.0, 1.0)
    return 1.0 - correlation.T if distance else correlation.T
