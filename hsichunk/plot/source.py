"""Check and read the layer that a figure draws: reflectance of a tile or cube, or any other; scale and no data."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.errors import HsiError
from hsichunk.plot.raster import Raster, read

FAR = 10.0  # nm beyond the first or last band within which a wavelength still means that band


@dataclass(frozen=True)
class Source:
    """A layer as stored, with its scale and its no-data value."""

    layer: xr.DataArray
    scale: float = 1.0
    """stored units per unit of the values to draw"""
    no_data: float | None = None

    def read(self, pixels: int, bands: int | list[int] | None = None) -> Raster[np.float32]:
        """Read every n-th pixel of the layer or of some of its bands: float32, NaN for no data.

        Raises HsiError where all that was read is no data.
        """
        layer = self.layer if bands is None else self.layer.isel({schema.WAVELENGTH: bands})
        raster = read(layer, pixels)
        values = raster.values.astype(np.float32)
        missing = ~np.isfinite(values)
        if self.no_data is not None:
            missing |= raster.values == self.no_data
        if missing.all():
            pixels_read = "every pixel" if raster.step == 1 else f"every one of the pixels read (each {raster.step}th)"
            raise HsiError(f"{pixels_read} is no data; select a part that has data")
        if self.scale != 1.0:
            values /= np.float32(self.scale)
        values[missing] = np.nan
        return raster.with_values(values)


def reflectance(data: xr.Dataset | xr.DataArray) -> Source:
    """Return the reflectance of a tile or cube. Raises HsiError if `data` is neither."""
    cube, attrs = data, getattr(data, "attrs", {})
    if isinstance(data, xr.Dataset):
        cube = get_variable(data, schema.REFLECTANCE)
        attrs = {**attrs, **cube.attrs}
    cube = check_layer(cube, "a tile or cube", schema.Y, schema.X, schema.WAVELENGTH)
    whole_numbers = cube.dtype.kind in "iu"
    if whole_numbers and schema.SCALE not in attrs:
        raise HsiError(f"found {cube.dtype} counts without `{schema.SCALE}`; open with hsi.open_tile or use hsi.clean")
    # A float array is reflectance, even if arithmetic kept the attributes of the counts that it was made from.
    stored = whole_numbers or isinstance(data, xr.Dataset)
    return Source(cube, float(attrs.get(schema.SCALE, 1.0)) if stored else 1.0, no_data_of(attrs))


def no_data_of(attrs: Mapping[Hashable, Any]) -> float | None:
    """Return the value that stands for no data, if the attributes have one.

    Ancillary layers keep the spelling of their file, in any case of letters.
    """
    return next((value for name, value in attrs.items() if str(name).lower() == schema.NO_DATA), None)


def get_variable(data: xr.Dataset, name: str) -> xr.DataArray:
    """Return `data[name]`. Raises HsiError if there is none."""
    if name not in data:
        raise HsiError(f"the dataset holds {', '.join(map(str, data.data_vars)) or 'nothing'}; expected `{name}`")
    return data[name]


def check_layer(data: xr.Dataset | xr.DataArray, name: str, *dims: str) -> xr.DataArray:
    """Return `data`. Raises HsiError unless it is a DataArray of numbers with just these dimensions, in any order."""
    expected = f"expected {name} ({', '.join(dims)})"
    if not isinstance(data, xr.DataArray):
        raise HsiError(f"found a {type(data).__name__}; {expected} as a DataArray")
    if set(data.dims) != set(dims):
        raise HsiError(f"found dimensions ({', '.join(map(str, data.dims))}); {expected}")
    if data.dtype.kind not in "iufb":
        raise HsiError(f"found values of {data.dtype}; {expected} with numbers")
    return data


def nearest_bands(cube: xr.DataArray, wavelengths: Sequence[float]) -> tuple[list[int], list[float]]:
    """Return numbers and centres (nm) of the bands nearest to `wavelengths`. Raises HsiError where none is near."""
    centres = wavelengths_of(cube)
    for wanted in wavelengths:
        if not centres.min() - FAR <= wanted <= centres.max() + FAR:
            raise HsiError(f"no band near {wanted:g} nm; choose from {centres.min():g} to {centres.max():g} nm")
    bands = [int(np.abs(centres - wanted).argmin()) for wanted in wavelengths]
    return bands, [float(centres[band]) for band in bands]


def wavelengths_of(data: xr.DataArray) -> Floats:
    """Return band centres in nm. Raises HsiError if `data` has none."""
    if schema.WAVELENGTH not in data.coords:
        raise HsiError("found no `wavelength` coordinate; label the bands: hsi.as_cube(array, wavelength in nm)")
    return np.asarray(data[schema.WAVELENGTH].to_numpy(), dtype=np.float64)
