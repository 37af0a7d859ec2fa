"""`as_cube`: any array of spectra as a labelled cube, so that nothing needs a NEON file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from hsichunk import schema
from hsichunk.cube.cleaning import as_reflectance
from hsichunk.errors import HsiError
from hsichunk.grid import Grid
from hsichunk.readers import provenance
from hsichunk.readers.labelled_cube import with_grid


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
    """Labels an array (rows, columns, bands) as a cube of reflectance; lazy for what is in dask or on disk.

    `array` is NumPy's, masked or not, dask's, or a DataArray with dimensions y, x and one of bands in any order, as
    rioxarray opens a GeoTIFF or an ENVI file: its y, x, spatial_ref and `_FillValue` are taken over where nothing else
    is given. `wavelength` (bands,) in nm, increasing; `fwhm` likewise; values are divided by `scale` (10000 for counts)
    and `no_data` becomes NaN, as what is masked does. `origin` is the easting and northing of the upper left corner of
    the upper left pixel, `pixel` its size (or width and height) in metres, `crs` anything pyproj reads; without an
    origin, x and y count pixels, rows downwards. Integers give float32, floats keep their type. The array is not
    changed, nor copied where there is nothing to change. Raises HsiError where sizes or wavelengths do not fit.
    """
    coords: dict[str, Any] = {}
    if isinstance(array, xr.DataArray):
        array, coords, no_data = _unlabelled(array, no_data)
    if getattr(array, "ndim", 0) != 3 or array.dtype.kind not in "iuf":
        found = f"{array.dtype} {array.shape}" if hasattr(array, "shape") else type(array).__name__
        raise HsiError(f"as_cube got {found}; expected numbers (rows, columns, bands)")
    nm = _wavelength(wavelength, array.shape[2])
    if not np.isfinite(scale) or scale <= 0:
        raise HsiError(f"scale is {scale:g}; expected counts per unit reflectance, as 10000")
    rows, cols, _ = array.shape
    place = _place(origin, pixel, crs)
    if place is not None:
        coords = {
            schema.Y: (schema.Y, place.y(rows), schema.Y_ATTRS),
            schema.X: (schema.X, place.x(cols), schema.X_ATTRS),
        }
    elif not coords:
        coords = {schema.Y: (schema.Y, np.arange(rows)), schema.X: (schema.X, np.arange(cols))}
    coords[schema.WAVELENGTH] = (schema.WAVELENGTH, nm, schema.WAVELENGTH_ATTRS)
    if fwhm is not None:
        width = np.asarray(fwhm, np.float64)
        if width.shape != nm.shape:
            raise HsiError(f"{width.size} values of fwhm for {nm.size} bands; expected one a band")
        coords[schema.FWHM] = (schema.WAVELENGTH, width, schema.FWHM_ATTRS)
    attrs: dict[str, str | float] = dict(schema.PRODUCT_ATTRS[schema.REFLECTANCE])
    if array.dtype.kind in "iu":
        attrs[schema.COUNTS_PER_UNIT] = float(scale)
    values = _values(array, float(scale), no_data)
    cube = xr.DataArray(values, coords, (schema.Y, schema.X, schema.WAVELENGTH), schema.REFLECTANCE, attrs)
    if place is not None:
        cube = with_grid(cube.to_dataset(), place)[schema.REFLECTANCE]
    if schema.GRID_MAPPING in cube.coords:
        cube.attrs |= provenance.crs_words(cube.coords[schema.GRID_MAPPING].attrs)
        cube.encoding["grid_mapping"] = schema.GRID_MAPPING
    return cube


def _unlabelled(array: xr.DataArray, no_data: float | None) -> tuple[Any, dict[str, Any], float | None]:
    """Values (y, x, bands) of a DataArray, where its pixels lie, and its no-data value."""
    bands = [dim for dim in array.dims if dim not in (schema.Y, schema.X)]
    if array.ndim != 3 or len(bands) != 1:
        raise HsiError(f"as_cube got a DataArray with dimensions {array.dims}; expected y, x and one of bands")
    variable = array.variable
    if isinstance(variable._data, indexing.ExplicitlyIndexed) and not variable._in_memory:
        variable = variable.chunk("auto")  # a file's: stays on disk
    coords = {
        name: array.coords[name].variable for name in (schema.Y, schema.X, schema.GRID_MAPPING) if name in array.coords
    }
    data = variable.transpose(schema.Y, schema.X, *bands).data
    return data, coords, array.attrs.get("_FillValue") if no_data is None else no_data


def _wavelength(wavelength: Sequence[float], bands: int) -> Any:
    try:
        nm = np.asarray(wavelength, np.float64)
    except (TypeError, ValueError):
        raise HsiError(f"wavelength is {type(wavelength).__name__}; expected one number in nm a band") from None
    if nm.shape != (bands,) or not np.isfinite(nm).all() or (np.diff(nm) <= 0).any():
        raise HsiError(f"{nm.size} wavelengths for {bands} bands; expected one a band, finite and increasing")
    if 0 < nm[-1] < 50:
        raise HsiError(
            f"wavelengths run from {nm[0]:g} to {nm[-1]:g}, as micrometres do; expected nm: multiply by 1000"
        )
    return nm


def _place(origin: tuple[float, float] | None, pixel: float | tuple[float, float], crs: Any) -> Grid | None:
    if origin is None:
        if crs is not None:
            raise HsiError("as_cube got a crs but no origin; give the easting and northing of the upper left corner")
        return None
    numbers = [*np.ravel(origin), *np.ravel(pixel)]
    if np.size(origin) != 2 or np.size(pixel) > 2 or not np.isfinite(numbers).all() or min(numbers[2:]) <= 0:
        raise HsiError(f"origin={origin}, pixel={pixel}; expected (easting, northing) and a size above 0, in metres")
    wkt = None
    if crs is not None:
        from pyproj import CRS
        from pyproj.exceptions import CRSError

        try:
            wkt = CRS.from_user_input(crs).to_wkt()
        except CRSError as error:
            raise HsiError(f"crs is {str(crs)[:60]!r}; expected one that pyproj reads, as EPSG:32618") from error
    left, top = (float(v) for v in numbers[:2])
    return Grid(left, top, float(numbers[2]), float(numbers[-1]), None, wkt)


def _values(array: Any, scale: float, no_data: float | None) -> Any:
    dtype = array.dtype.type if array.dtype.kind == "f" and array.dtype.itemsize >= 4 else np.float32
    masked = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    if masked is not None:
        array = array.data
    plain = array.dtype.kind == "f" and array.dtype.isnative and scale == 1 and no_data is None and masked is None
    if plain and array.dtype.type is dtype:
        return array
    values = as_reflectance(array, scale, no_data, dtype)
    if masked is not None:
        values[masked] = np.nan
    return values
