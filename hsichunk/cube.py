"""`as_cube`: any array of spectra as a labelled cube, so that nothing needs a NEON file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.backend import with_grid
from hsichunk.cleaning import _as_reflectance
from hsichunk.errors import HsiError
from hsichunk.neon import Grid


def as_cube(
    array: Any,
    wavelength: Sequence[float],
    *,
    fwhm: Sequence[float] | None = None,
    scale: float = 1.0,
    no_data: float | None = None,
    crs: Any = None,
    origin: tuple[float, float] | None = None,
    pixel: float | tuple[float, float] = 1.0,
) -> xr.DataArray:
    """Labels a NumPy or dask array (rows, columns, bands) as a cube of reflectance.

    `wavelength` (bands,) in nm, increasing; `fwhm` likewise; values are divided by `scale` (10000 for counts) and
    `no_data` becomes NaN. `origin` is the easting and northing of the upper left corner of the upper left pixel, `pixel` its
    size (or width and height) in metres, `crs` anything pyproj reads; without an origin, x and y count pixels, rows
    downwards. Integers give float32, floats keep their type. Raises HsiError where sizes or wavelengths do not fit.
    """
    if getattr(array, "ndim", 0) != 3 or array.dtype.kind not in "iuf":
        raise HsiError(f"as_cube got {getattr(array, 'shape', type(array).__name__)}; expected numbers (rows, columns, bands)")
    nm = np.asarray(wavelength, np.float64)
    if nm.shape != (array.shape[2],) or not np.isfinite(nm).all() or (np.diff(nm) <= 0).any():
        raise HsiError(f"{nm.size} wavelengths for {array.shape[2]} bands; expected one a band, finite and increasing")
    if fwhm is not None and len(fwhm) != len(nm):
        raise HsiError(f"{len(fwhm)} values of fwhm for {len(nm)} bands; expected one a band")
    if not np.isfinite(scale) or scale <= 0:
        raise HsiError(f"scale is {scale:g}; expected counts per unit reflectance, as 10000")
    integers = array.dtype.kind in "iu"
    data = _as_reflectance(array, scale, no_data) if integers or scale != 1 or no_data is not None else array
    rows, cols, _ = array.shape
    dx, dy = (pixel, pixel) if np.ndim(pixel) == 0 else pixel  # type: ignore[misc]
    place = Grid(*(origin or (0.0, float(rows))), float(dx), float(dy), None, None)  # type: ignore[arg-type]
    attrs = dict(schema.PRODUCT_ATTRS[schema.REFLECTANCE])
    if integers:
        attrs["counts_per_unit"] = float(scale)
    coords: dict[str, Any] = {
        schema.Y: (schema.Y, place.y(rows), schema.Y_ATTRS) if origin else (schema.Y, np.arange(rows)),
        schema.X: (schema.X, place.x(cols), schema.X_ATTRS) if origin else (schema.X, np.arange(cols)),
        schema.WAVELENGTH: (schema.WAVELENGTH, nm, schema.WAVELENGTH_ATTRS),
    }
    if fwhm is not None:
        coords[schema.FWHM] = (schema.WAVELENGTH, np.asarray(fwhm, np.float64), schema.FWHM_ATTRS)
    cube = xr.DataArray(data, coords, (schema.Y, schema.X, schema.WAVELENGTH), schema.REFLECTANCE, attrs)
    if origin is None:
        if crs is not None:
            raise HsiError("as_cube got a crs but no origin; give the easting and northing of the upper left corner")
        return cube
    if crs is not None:
        from pyproj import CRS

        place = Grid(place.left, place.top, place.dx, place.dy, None, CRS.from_user_input(crs).to_wkt())
    labelled = with_grid(cube.to_dataset(), place)[schema.REFLECTANCE]
    labelled.encoding["grid_mapping"] = schema.GRID_MAPPING
    return labelled
