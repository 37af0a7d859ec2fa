"""SID-SAM, correlation and Chebyshev's distance: `unmix` asked for one metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.cube.blockwise import labelled
from hsichunk.unmixing.unmixing import solve, unmix


def sid_sam(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.DataArray:
    """SID times the tangent of SAM: float32 (endmember, y, x), nats; 0 for equal shapes, larger for less alike.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance. Both come from the one pass of `unmix`.
    It is the product of the two maps, both float32, and may differ in its last digit from the `sid_sam` of `unmix` and
    of a run, which comes from the sums themselves. Infinite at angles of 90 degrees and above, which reflectance of at
    least 0 never has. NaN where any band of a pixel is; lazy for a dask cube.
    Source: Du et al. 2004, the SID(TAN) mixed measure.
    """
    both = unmix(cube, endmembers, solver=None, metric=("sam", "sid"))
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
    name = schema.NCC_DISTANCE if distance else schema.NCC
    return solve(cube, endmembers, (name,))[name]


def chebyshev(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.DataArray:
    """Largest difference in any band from each endmember: float32 (endmember, y, x), in reflectance.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance, on the same bands. It comes from the
    one pass of `unmix`, as a run's does. NaN where any band of a pixel is; lazy for a dask cube. Raises HsiError for
    wavelengths that differ.
    """
    return unmix(cube, endmembers, solver=None, metric=schema.CHEBYSHEV)[schema.CHEBYSHEV]
