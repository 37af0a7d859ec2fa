"""Check what is to be drawn: the reflectance of a tile or cube, or another layer, and what its values mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.errors import HsiError
from hsichunk.plot.raster import Raster, read

FAR = 10.0  # nm beyond the first or last band that still mean that band


@dataclass(frozen=True)
class Source:
    """Stored values, and how to read them."""

    layer: xr.DataArray
    scale: float = 1.0
    no_data: float | None = None

    def read(self, pixels: int, bands: int | list[int] | None = None) -> Raster:
        """Every n-th pixel of the layer or of some of its bands, float32, NaN for no data.

        Raises HsiError if nothing but no data was read.
        """
        layer = self.layer if bands is None else self.layer.isel({schema.WAVELENGTH: bands})
        raster = read(layer, pixels)
        values = raster.values.astype(np.float32)
        missing = ~np.isfinite(values)
        if self.no_data is not None:
            missing |= raster.values == self.no_data
        if missing.all():
            which = "every pixel" if raster.step == 1 else f"every one of the pixels read (each {raster.step}th)"
            raise HsiError(f"{which} is no data; select a part that has data")
        if self.scale != 1.0:
            values /= np.float32(self.scale)
        values[missing] = np.nan
        return raster.with_values(values)


def reflectance(data: xr.Dataset | xr.DataArray) -> Source:
    """The reflectance of a tile or cube. Raises HsiError if `data` is neither."""
    cube, attrs = data, getattr(data, "attrs", {})
    if isinstance(data, xr.Dataset):
        cube = variable(data, schema.REFLECTANCE)
        attrs = {**attrs, **cube.attrs}
    cube = checked(cube, "a tile or cube", schema.Y, schema.X, schema.WAVELENGTH)
    whole_numbers = cube.dtype.kind in "iu"
    if whole_numbers and schema.SCALE not in attrs:
        raise HsiError(f"found {cube.dtype} counts without `{schema.SCALE}`; open with hsi.open_tile or use hsi.clean")
    # a float array is reflectance even if arithmetic has kept the attributes of the counts it came from
    stored = whole_numbers or isinstance(data, xr.Dataset)
    return Source(cube, float(attrs.get(schema.SCALE, 1.0)) if stored else 1.0, no_data_of(attrs))


def no_data_of(attrs: Mapping[Any, Any]) -> float | None:
    """The value that stands for no data; ancillary layers keep their file's own spelling of the attribute."""
    return next((value for name, value in attrs.items() if str(name).lower() == schema.NO_DATA), None)


def variable(data: xr.Dataset, name: str) -> xr.DataArray:
    """`data[name]`; raises HsiError if there is none."""
    if name not in data:
        raise HsiError(f"the dataset holds {', '.join(map(str, data.data_vars)) or 'nothing'}; expected `{name}`")
    return data[name]


def checked(data: Any, what: str, *dims: str) -> xr.DataArray:
    """`data`; raises HsiError unless it is a DataArray of numbers with just these dimensions, in any order."""
    expected = f"expected {what} ({', '.join(dims)})"
    if not isinstance(data, xr.DataArray):
        raise HsiError(f"found a {type(data).__name__}; {expected} as a DataArray")
    if set(data.dims) != set(dims):
        raise HsiError(f"found dimensions ({', '.join(map(str, data.dims))}); {expected}")
    if data.dtype.kind not in "iufb":
        raise HsiError(f"found values of {data.dtype}; {expected} with numbers")
    return data


def nearest_bands(cube: xr.DataArray, wavelengths: Sequence[float]) -> tuple[list[int], list[float]]:
    """Numbers and wavelengths (nm) of the bands nearest to `wavelengths`. Raises HsiError for one out of reach."""
    centres = wavelengths_of(cube)
    for wanted in wavelengths:
        if not centres.min() - FAR <= wanted <= centres.max() + FAR:
            raise HsiError(f"no band near {wanted:g} nm; choose from {centres.min():g} to {centres.max():g} nm")
    bands = [int(np.abs(centres - wanted).argmin()) for wanted in wavelengths]
    return bands, [float(centres[band]) for band in bands]


def wavelengths_of(data: xr.DataArray) -> npt.NDArray[np.float64]:
    """Band centres in nm. Raises HsiError if `data` has none."""
    if schema.WAVELENGTH not in data.coords:
        raise HsiError("found no `wavelength` coordinate; label the bands: hsi.as_cube(array, wavelength in nm)")
    return np.asarray(data[schema.WAVELENGTH].to_numpy(), dtype=np.float64)
