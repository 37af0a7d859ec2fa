"""EMIT L2A reflectance (NetCDF-4) in the geometry of the swath, as the labelled, lazy dataset that tiles are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.errors import HsiError, one_line
from hsichunk.memory import BLOCK_BYTES
from hsichunk.readers import envi, provenance
from hsichunk.readers.hdf5_names import attribute, number

BANDS, LOCATION = "sensor_band_parameters", "location"
PLACES = {
    "lat": {"units": "degrees_north", "standard_name": "latitude"},
    "lon": {"units": "degrees_east", "standard_name": "longitude"},
}


@dataclass(frozen=True)
class Variable:
    """A dataset of an HDF5 file; opened for each read, so that nothing stays open and copies pickle."""

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stamp: tuple[int, int]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[Any]:
        import h5py

        at = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)]
        whole = tuple(slice(int(p.min()), int(p.max()) + 1) if len(p) else slice(0) for p in at)
        try:
            with h5py.File(self.path, "r") as file:
                values = file[self.name][whole]
        except (OSError, KeyError) as error:
            raise HsiError(f"{self.path}: {self.name} cannot be read ({one_line(error)})") from error
        for axis, positions in enumerate(at):
            values = values.take(positions - positions.min(initial=self.shape[axis]), axis)
        found: NDArray[Any] = values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]
        return found

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.path, self.name, self.shape, str(self.dtype), self.stamp)


def open_emit(path: str | os.PathLike[str]) -> xr.Dataset:
    """Opens an EMIT L2A reflectance granule as `open_image` opens images; reads its metadata alone.

    y counts lines (downtrack), x samples (crosstrack); `lat` and `lon` (y, x) say where they lie, lazily: swath pixels
    are on no grid. Bands that are not among `good_wavelengths` (their reflectance is -0.01) are named as bad.
    Raises HsiError for what is no such file. Source: EMIT L2A RFL, LP DAAC.
    """
    import h5py

    path = os.fspath(path)
    try:
        with h5py.File(path, "r") as file:
            return _dataset(path, file)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise HsiError(
            f"{path}: is no EMIT reflectance ({one_line(error)}); expected NetCDF-4 with reflectance and {BANDS}"
        ) from error


def _dataset(path: str, file: Any) -> xr.Dataset:
    data, bands = file[schema.REFLECTANCE], file[BANDS]
    if data.ndim != 3 or data.dtype.kind not in "iuf":
        raise HsiError(f"{path}: reflectance is {data.dtype} {data.shape}; expected (downtrack, crosstrack, bands)")
    count = data.shape[2]
    nm, factor = envi.wavelengths_nm(_numbers(path, bands, "wavelengths", count), None, path)
    good = (
        _numbers(path, bands, "good_wavelengths", count) != 0 if "good_wavelengths" in bands else np.ones(count, bool)
    )
    if (np.diff(nm) <= 0).any():
        raise HsiError(f"{path}: wavelengths do not increase; expected those of EMIT")
    attrs: dict[str, Any] = {"long_name": "reflectance as stored", "units": "1", schema.SCALE: 1.0}
    attrs |= {schema.WINDOWS: envi.windows(nm, good), schema.NO_DATA: number(_fill(data))}
    coords: dict[str, Any] = {
        schema.Y: np.arange(data.shape[0]),
        schema.X: np.arange(data.shape[1]),
        schema.WAVELENGTH: (schema.WAVELENGTH, nm, schema.WAVELENGTH_ATTRS),
    }
    if "fwhm" in bands:
        fwhm = _numbers(path, bands, "fwhm", count) * factor
        coords[schema.FWHM] = (schema.WAVELENGTH, fwhm, schema.FWHM_ATTRS)
    for name, said in PLACES.items():
        if LOCATION in file and name in file[LOCATION] and file[LOCATION][name].shape == data.shape[:2]:
            coords[name] = ((schema.Y, schema.X), _lazy(path, file[LOCATION][name], data.shape[:2]), said)
    side = max(1, BLOCK_BYTES // (data.shape[1] * count * data.dtype.itemsize))
    values = _lazy(path, data, (min(side, data.shape[0]), *data.shape[1:]))
    dims = (schema.Y, schema.X, schema.WAVELENGTH)
    edges = attrs[schema.WINDOWS]
    said = {
        "title": f"EMIT L2A reflectance, {Path(path).stem}",
        provenance.SENSOR: "EMIT imaging spectrometer",
        provenance.GRID: f"{data.shape[0]} x {data.shape[1]} of a swath",
        provenance.BANDS: provenance.band_words(nm, list(zip(edges[::2], edges[1::2], strict=True))),
        provenance.CHUNKS: provenance.chunk_words(data.chunks, data.dtype),
    }
    return xr.Dataset({schema.REFLECTANCE: (dims, values, attrs)}, coords, said)


def _fill(data: Any) -> Any:
    value = attribute(data, "_FillValue")
    return -9999.0 if value is None else value


def _numbers(path: str, group: Any, name: str, expected: int) -> NDArray[np.float64]:
    values = np.asarray(group[name][...], np.float64).ravel()
    if len(values) != expected:
        raise HsiError(f"{path}: {len(values)} {name} for {expected} bands; expected one a band")
    return values


def _lazy(path: str, dataset: Any, chunks: tuple[int, ...]) -> Any:
    import dask.array as da

    status = os.stat(path)
    stamp = status.st_size, status.st_mtime_ns
    variable = Variable(os.path.abspath(path), dataset.name, dataset.shape, dataset.dtype.newbyteorder("="), stamp)
    meta = np.empty((0,) * dataset.ndim, variable.dtype)
    return da.from_array(variable, chunks=chunks, asarray=False, lock=False, meta=meta)  # type: ignore[no-untyped-call]
