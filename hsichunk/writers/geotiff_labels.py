"""Collect what a GeoTIFF says of its bands: names, units, no data, wavelengths and class names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hsichunk.errors import HsiError
from hsichunk.schema import CLASS_NO_DATA, NO_DATA, WAVELENGTH
from hsichunk.writers.cog import MapImage

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS


def image_of(data: xr.DataArray, transform: Affine | None, crs: CRS | None) -> MapImage:
    """Return what a GeoTIFF says of data (band, y, x), from north to south."""
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
    """Return the labels of the bands, such as names of endmembers; of a single band without label, the map's name."""
    band = data.dims[0]
    long_name = data.attrs.get("long_name")
    if isinstance(long_name, tuple | list) and len(long_name) == data.shape[0]:
        return tuple(map(str, long_name))
    if band == WAVELENGTH and band in data.coords:
        return tuple(f"{nanometres:g} nm" for nanometres in data[band].values.tolist())
    if band in data.coords:
        return tuple(map(str, data[band].values.tolist()))
    if data.shape[0] == 1:
        return (str(data.name or long_name or "band 1"),)
    return tuple(f"{band} {number}" for number in range(1, data.shape[0] + 1))


def no_data(data: xr.DataArray) -> float | None:
    """Return NaN for floats, 255 for class maps and other bytes, else the value that the data's own file gave."""
    if data.dtype.kind == "f":
        return float("nan")
    if data.dtype == np.uint8:
        return CLASS_NO_DATA
    stored: float | str | None = data.attrs.get("_FillValue", data.encoding.get("_FillValue", data.attrs.get(NO_DATA)))
    return None if stored is None else float(stored)


def class_names(data: xr.DataArray) -> list[str]:
    """Return the names of the values 0..k of a class map (CF flag_values, flag_meanings); none for other data.

    Raises HsiError if there is not one meaning for each value.
    """
    values, meanings = data.attrs.get("flag_values"), data.attrs.get("flag_meanings")
    if values is None or meanings is None or data.dtype != np.uint8 or data.shape[0] != 1:
        return []
    names = meanings.split()
    name_of = dict(zip(np.atleast_1d(values).astype(int).tolist(), names, strict=False))
    if not len(name_of) == np.size(values) == len(names):
        raise HsiError(f"found {np.size(values)} flag_values, {len(names)} flag_meanings; give each value one meaning")
    classes = [value for value in name_of if 0 <= value < CLASS_NO_DATA]
    return [name_of.get(value, "") for value in range(max(classes, default=-1) + 1)]
