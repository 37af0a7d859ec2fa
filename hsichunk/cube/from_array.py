"""Label any array of spectra as a cube (`as_cube`), so that nothing needs a NEON file."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from hsichunk import schema
from hsichunk.array_types import Floats, LazyOrNumpy
from hsichunk.cube.cleaning import as_reflectance
from hsichunk.errors import HsiError
from hsichunk.grid import Grid
from hsichunk.readers import provenance
from hsichunk.readers.labelled_cube import with_grid


def as_cube(
    array: xr.DataArray | LazyOrNumpy,
    wavelength: Sequence[float],
    *,
    fwhm: Sequence[float] | None = None,
    scale: float = 1.0,
    no_data: float | None = None,
    crs: Any = None,
    origin: tuple[float, float] | None = None,
    pixel: float | tuple[float, float] = 1.0,
) -> xr.DataArray:
    """Label an array (rows, columns, bands) as a cube of reflectance; lazy for an array of dask or on disk.

    `array` is NumPy's, masked or not, dask's, or a DataArray with dimensions y, x and one of bands in any order, as
    rioxarray opens a GeoTIFF or an ENVI file: its y, x, spatial_ref and `_FillValue` are taken over where nothing else
    is given. `wavelength` (bands,) in nm, increasing; `fwhm` likewise; values are divided by `scale` (10000 for
    counts), and `no_data` and masked values become NaN. `origin` is the easting and northing of the upper left corner
    of the upper left pixel, `pixel` its size (or width and height) in metres, `crs` anything that pyproj reads; without
    an origin, x and y count pixels, rows downwards. Integers become float32, floats of 32 bits and more keep their
    type. The array is not changed, nor copied where there is nothing to change. Raises HsiError where sizes or
    wavelengths do not fit.
    """
    coords: dict[Hashable, xr.Variable] = {}
    if isinstance(array, xr.DataArray):
        array, coords, no_data = _unlabelled(array, no_data)
    if getattr(array, "ndim", 0) != 3 or array.dtype.kind not in "iuf":
        found = f"{array.dtype} {array.shape}" if hasattr(array, "shape") else type(array).__name__
        raise HsiError(f"as_cube got {found}; expected numbers (rows, columns, bands)")
    nm = _wavelength(wavelength, array.shape[2])
    if not np.isfinite(scale) or scale <= 0:
        raise HsiError(f"scale is {scale:g}; expected counts per unit reflectance, as 10000")
    rows, cols, _ = array.shape
    grid = _grid(origin, pixel, crs)
    if grid is not None:
        coords = {
            schema.Y: xr.Variable(schema.Y, grid.y(rows), schema.Y_ATTRS),
            schema.X: xr.Variable(schema.X, grid.x(cols), schema.X_ATTRS),
        }
    elif not coords:
        coords = {schema.Y: xr.Variable(schema.Y, np.arange(rows)), schema.X: xr.Variable(schema.X, np.arange(cols))}
    coords[schema.WAVELENGTH] = xr.Variable(schema.WAVELENGTH, nm, schema.WAVELENGTH_ATTRS)
    if fwhm is not None:
        width = np.asarray(fwhm, np.float64)
        if width.shape != nm.shape:
            raise HsiError(f"{width.size} values of fwhm for {nm.size} bands; expected one a band")
        coords[schema.FWHM] = xr.Variable(schema.WAVELENGTH, width, schema.FWHM_ATTRS)
    attrs: dict[str, str | float] = dict(schema.PRODUCT_ATTRS[schema.REFLECTANCE])
    if array.dtype.kind in "iu":
        attrs[schema.COUNTS_PER_UNIT] = float(scale)
    values = _values(array, float(scale), no_data)
    cube = xr.DataArray(values, coords, (schema.Y, schema.X, schema.WAVELENGTH), schema.REFLECTANCE, attrs)
    if grid is not None:
        cube = with_grid(cube.to_dataset(), grid)[schema.REFLECTANCE]
    if schema.GRID_MAPPING in cube.coords:
        cube.attrs |= provenance.crs_words(cube.coords[schema.GRID_MAPPING].attrs)
        cube.encoding["grid_mapping"] = schema.GRID_MAPPING
    return cube


def _unlabelled(
    array: xr.DataArray, no_data: float | None
) -> tuple[LazyOrNumpy, dict[Hashable, xr.Variable], float | None]:
    """Return the values (y, x, bands) of a DataArray, the coordinates that place its pixels, and its no-data value."""
    bands = [dim for dim in array.dims if dim not in (schema.Y, schema.X)]
    if array.ndim != 3 or len(bands) != 1:
        raise HsiError(f"as_cube got a DataArray with dimensions {array.dims}; expected y, x and one of bands")
    variable = array.variable
    if isinstance(variable._data, indexing.ExplicitlyIndexed) and not variable._in_memory:
        variable = variable.chunk("auto")  # values in a file stay there
    coords: dict[Hashable, xr.Variable] = {
        name: array.coords[name].variable for name in (schema.Y, schema.X, schema.GRID_MAPPING) if name in array.coords
    }
    data = variable.transpose(schema.Y, schema.X, *bands).data
    return data, coords, array.attrs.get("_FillValue") if no_data is None else no_data


def _wavelength(wavelength: Sequence[float], bands: int) -> Floats:
    """Return wavelengths in nm, checked."""
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


def _grid(origin: tuple[float, float] | None, pixel: float | tuple[float, float], crs: Any) -> Grid | None:
    """Return the grid of the pixels; None without an origin."""
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


def _values(array: LazyOrNumpy, scale: float, no_data: float | None) -> LazyOrNumpy:
    """Return reflectance (y, x, bands), no-data and masked values NaN; the array itself where it is that already."""
    kind = array.dtype.type
    dtype = kind if issubclass(kind, np.floating) and array.dtype.itemsize >= 4 else np.float32
    masked = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    if isinstance(array, np.ma.MaskedArray):
        array = array.data
    plain = array.dtype.kind == "f" and array.dtype.isnative and scale == 1 and no_data is None and masked is None
    if plain and kind is dtype:
        return array
    values = as_reflectance(array, scale, no_data, dtype)
    if masked is not None:
        values[masked] = np.nan
    return values
