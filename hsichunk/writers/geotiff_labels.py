"""What a GeoTIFF says of its bands: names, units, no data, wavelengths, class colours and class names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hsichunk.errors import HsiError
from hsichunk.schema import CLASS_NO_DATA, NO_DATA, WAVELENGTH
from hsichunk.writers.cog import MapImage

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS


def image_of(data: xr.DataArray, transform: Affine | None, crs: CRS | None) -> MapImage:
    """What a GeoTIFF of data (band, y, x), from north to south, says of them."""
    units, long_name = data.attrs.get("units"), data.attrs.get("long_name")
    spectral = data.dims[0] == WAVELENGTH and WAVELENGTH in data.coords
    bands, height, width = data.shape
    return MapImage(
        (bands, height, width),
        data.dtype,
        band_names(data),
        no_data(data),
        transform,
        crs,
        units if isinstance(units, str) else None,
        long_name if isinstance(long_name, str) else None,
        tuple(data[WAVELENGTH].values.tolist()) if spectral else (),
        tuple(class_names(data)),
        "flag_values" in data.attrs,
    )


def band_names(data: xr.DataArray) -> tuple[str, ...]:
    """The endmembers' names, or whatever labels the bands; the map's own name if it is one."""
    band = data.dims[0]
    given = data.attrs.get("long_name")
    if isinstance(given, tuple | list) and len(given) == data.shape[0]:
        return tuple(map(str, given))
    if band == WAVELENGTH and band in data.coords:
        return tuple(f"{nanometres:g} nm" for nanometres in data[band].values.tolist())
    if band in data.coords:
        return tuple(map(str, data[band].values.tolist()))
    if data.shape[0] == 1:
        return (str(data.name or given or "band 1"),)
    return tuple(f"{band} {number}" for number in range(1, data.shape[0] + 1))


def no_data(data: xr.DataArray) -> float | None:
    """NaN for floats, 255 for class maps and other bytes, else what the file it came from said."""
    if data.dtype.kind == "f":
        return float("nan")
    if data.dtype == np.uint8:
        return CLASS_NO_DATA
    stored: Any = data.attrs.get("_FillValue", data.encoding.get("_FillValue", data.attrs.get(NO_DATA)))
    return None if stored is None else float(stored)


def class_names(data: xr.DataArray) -> list[str]:
    """Names of the values 0..k of a class map (CF flag_values, flag_meanings); none for other data.

    Raises HsiError if there is not one meaning for each value.
    """
    values, meanings = data.attrs.get("flag_values"), data.attrs.get("flag_meanings")
    if values is None or meanings is None or data.dtype != np.uint8 or data.shape[0] != 1:
        return []
    texts = meanings.split()
    pairs = dict(zip(np.atleast_1d(values).astype(int).tolist(), texts, strict=False))
    if not len(pairs) == np.size(values) == len(texts):
        raise HsiError(f"found {np.size(values)} flag_values, {len(texts)} flag_meanings; give each value one meaning")
    classes = [value for value in pairs if 0 <= value < CLASS_NO_DATA]
    return [pairs.get(value, "") for value in range(max(classes, default=-1) + 1)]
