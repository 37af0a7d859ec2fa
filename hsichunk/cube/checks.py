"""Check cubes and endmembers that users pass: dimensions, wavelengths, types."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.errors import HsiError
from hsichunk.readers.wavelengths import same_bands


def check_cube(cube: xr.DataArray) -> xr.DataArray:
    """Return the cube as (y, x, wavelength). Raises HsiError for anything that is no cube of reflectance."""
    dims = {schema.Y, schema.X, schema.WAVELENGTH}
    if not isinstance(cube, xr.DataArray) or set(cube.dims) != dims:
        found = cube.dims if isinstance(cube, xr.DataArray) else type(cube).__name__
        raise HsiError(f"the cube has {found}; expected a DataArray (y, x, wavelength), as clean or as_cube give it")
    if cube.dtype.kind != "f":
        raise HsiError(
            f"the cube holds {cube.dtype} counts; expected reflectance: use clean(tile) or as_cube(..., scale=)"
        )
    if schema.WAVELENGTH not in cube.coords:
        raise HsiError("the cube has no wavelengths; expected a coordinate wavelength in nm, as as_cube gives it")
    return cube.transpose(schema.Y, schema.X, schema.WAVELENGTH)


def check_endmembers(endmembers: xr.DataArray, cube: xr.DataArray) -> tuple[Floats, tuple[str, ...]]:
    """Return the spectra (k, L) float64 of endmembers on the bands of a cube, and their names.

    Endmembers without names are called EM1, EM2, ... Raises HsiError for other bands and for names that repeat.
    """
    if not isinstance(endmembers, xr.DataArray) or set(endmembers.dims) != {schema.ENDMEMBER, schema.WAVELENGTH}:
        found = endmembers.dims if isinstance(endmembers, xr.DataArray) else type(endmembers).__name__
        raise HsiError(f"endmembers have {found}; expected a DataArray (endmember, wavelength), as nfindr gives it")
    of_cube, of_endmembers = cube[schema.WAVELENGTH].values, endmembers[schema.WAVELENGTH].values
    if not same_bands(of_cube, of_endmembers):
        raise HsiError(
            f"the cube has {len(of_cube)} bands ({of_cube[0]:g} to {of_cube[-1]:g} nm), the endmembers "
            f"{len(of_endmembers)} ({of_endmembers[0]:g} to {of_endmembers[-1]:g} nm); bring both to the same bands, "
            "as with endmembers.sel(wavelength=cube.wavelength)"
        )
    names = (
        [str(n) for n in endmembers[schema.ENDMEMBER].values]
        if schema.ENDMEMBER in endmembers.coords
        else [f"EM{i + 1}" for i in range(endmembers.sizes[schema.ENDMEMBER])]
    )
    if len(set(names)) != len(names):
        raise HsiError(f"endmember names {', '.join(names)} repeat; give each its own")
    return endmembers.transpose(schema.ENDMEMBER, schema.WAVELENGTH).values.astype(np.float64), tuple(names)
