"""SID-SAM, correlation and Chebyshev's distance of a cube: `unmix` with one metric."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.cube.blockwise import labelled
from hsichunk.unmixing.unmixing import solve, unmix


def sid_sam(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.DataArray:
    """Return SID times the tangent of SAM: float32 (endmember, y, x), nats; 0 for equal shapes, larger for less alike.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance. Both maps come from one pass of `unmix`.
    The result is the product of the two float32 maps and may differ in its last digit from the `sid_sam` of `unmix` and
    of a run, which is computed from the sums themselves. It is infinite at angles of 90 degrees and above, which
    reflectance of at least 0 never has, and NaN where any band of a pixel is; lazy for a dask cube.
    Source: Du et al. 2004, the SID(TAN) mixed measure.
    """
    both = unmix(cube, endmembers, solver=None, metric=("sam", "sid"))
    angle = both[schema.SAM].astype(np.float64)
    tangent = angle.copy(data=np.tan(angle.data)).where((angle < np.pi / 2) | angle.isnull(), np.inf)
    product = (both[schema.SID] * tangent).astype(np.float32)
    attrs = schema.PRODUCT_ATTRS[schema.SID_SAM]
    dims = (schema.ENDMEMBER, schema.Y, schema.X)
    coords = {schema.ENDMEMBER: both[schema.ENDMEMBER]}
    return labelled(product.data, both[schema.SAM], dims, schema.SID_SAM, attrs, coords)


def ncc(cube: xr.DataArray, endmembers: xr.DataArray, *, distance: bool = False) -> xr.DataArray:
    """Return Pearson's correlation over bands with each endmember: float32 (endmember, y, x), -1 to 1.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance, on the same bands. Equal shapes have 1;
    a spectrum that is the same in every band has 0. With `distance` the result is 1 - r, 0 to 2, named "ncc_distance";
    `classify` knows either by its name. NaN where any band of a pixel is; lazy for a dask cube. Stored counts take the
    one pass of a run. Raises HsiError for wavelengths that differ.
    """
    name = schema.NCC_DISTANCE if distance else schema.NCC
    return solve(cube, endmembers, (name,))[name]


def chebyshev(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.DataArray:
    """Return the largest difference in any band from each endmember: float32 (endmember, y, x), in reflectance.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance, on the same bands. It comes from the one
    pass of `unmix`, as in a run. NaN where any band of a pixel is; lazy for a dask cube. Raises HsiError for
    wavelengths that differ.
    """
    return unmix(cube, endmembers, solver=None, metric=schema.CHEBYSHEV)[schema.CHEBYSHEV]
