"""The reader of EMIT L2A reflectance (NetCDF-4) in the geometry of the swath."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Final

import h5py
import numpy as np

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError, HsiWarning, one_line
from hsichunk.memory import BLOCK_BYTES
from hsichunk.readers import envi
from hsichunk.readers.hdf5_names import attribute, number_of
from hsichunk.readers.hdf5_windows import labelled_values
from hsichunk.readers.model import (
    AsStored,
    AttributeValue,
    Bands,
    Layer,
    Provenance,
    ReadOptions,
    Source,
    TileFile,
    bad_windows,
    no_data_count,
)

BANDS, LOCATION = "sensor_band_parameters", "location"
NO_DATA = -9999.0
COORDINATES: Final[dict[str, dict[str, AttributeValue]]] = {
    "lat": {"units": "degrees_north", "standard_name": "latitude"},
    "lon": {"units": "degrees_east", "standard_name": "longitude"},
}


def read(path: str, options: ReadOptions) -> TileFile:
    """Return what an EMIT L2A reflectance granule says; reads its metadata alone.

    Rows are lines (downtrack), columns are samples (crosstrack). Pixels of a swath lie on no grid; the layers `lat` and
    `lon` hold their latitudes and longitudes. Bands that `good_wavelengths` does not flag (their reflectance is -0.01)
    are bad. Raises HsiError for any other file, and where the caller cannot use swaths. Source: EMIT L2A RFL, LP DAAC.
    """
    if not options.swaths:
        raise HsiError(
            f"{path}: is an EMIT granule, which hsi.open_tile and hsi.unmix read in Python; here expected ENVI, "
            "GeoTIFF or NEON HDF5"
        )
    try:
        with h5py.File(path, "r") as file:
            return _read(path, file)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise HsiError(
            f"{path}: is no EMIT reflectance ({one_line(error)}); expected NetCDF-4 with reflectance and {BANDS}"
        ) from error


def _read(path: str, file: h5py.File) -> TileFile:
    data, bands = file[schema.REFLECTANCE], file[BANDS]
    if data.ndim != 3 or data.dtype.kind not in "iuf":
        raise HsiError(f"{path}: reflectance is {data.dtype} {data.shape}; expected (downtrack, crosstrack, bands)")
    count = data.shape[2]
    nm, factor = envi.wavelengths_nm(_band_values(path, bands, "wavelengths", count), None, path)
    if (np.diff(nm) <= 0).any():
        raise HsiError(f"{path}: wavelengths do not increase; expected those of EMIT")
    flagged = "good_wavelengths" in bands
    good = _band_values(path, bands, "good_wavelengths", count) != 0 if flagged else np.ones(count, np.bool_)
    fill = attribute(data, "_FillValue")
    if fill is None:
        warnings.warn(f"{path}: no _FillValue; using EMIT's {NO_DATA:g}", HsiWarning, stacklevel=2)
    no_data = NO_DATA if fill is None else number_of(fill)
    stored = HDF5Array(os.path.abspath(path), data)
    rows = max(1, BLOCK_BYTES // (data.shape[1] * count * data.dtype.itemsize))
    return TileFile(
        path=path,
        kind="EMIT L2A reflectance",
        site=Path(path).stem,
        title=f"EMIT L2A reflectance, {Path(path).stem}",
        sensor="EMIT imaging spectrometer",
        reflectance=stored,
        bands=Bands(
            nm,
            _band_values(path, bands, "fwhm", count) * factor if "fwhm" in bands else None,
            bad_windows(nm, good),
        ),
        scale=1.0,
        no_data=no_data_count(no_data, data.dtype),
        place=None,
        layers=_coordinates(path, file, data.shape[:2]),
        provenance=Provenance(
            no_data=Source.FALLBACK if fill is None else Source.FILE,
            bad_bands=Source.FILE if flagged else Source.ABSENT,
            grid=Source.ABSENT,
        ),
        as_stored=AsStored(labelled_values(stored), (min(rows, data.shape[0]), *data.shape[1:]), no_data, units="1"),
    )


def _coordinates(path: str, file: h5py.File, shape: tuple[int, int]) -> tuple[Layer, ...]:
    """Return the latitudes and longitudes of the pixels as layers; those that the file lacks are left out."""
    location = file.get(LOCATION, {})
    datasets = {name: location[name] for name in COORDINATES if name in location and location[name].shape == shape}
    return tuple(
        Layer(name, (schema.Y, schema.X), HDF5Array(os.path.abspath(path), data), COORDINATES[name], coordinate=True)
        for name, data in datasets.items()
    )


def _band_values(path: str, group: h5py.Group, name: str, count: int) -> Floats:
    """Return the dataset `name` of a group, one value a band (count,). Raises HsiError for another length."""
    values = np.asarray(group[name][...], np.float64).ravel()
    if len(values) != count:
        raise HsiError(f"{path}: {len(values)} {name} for {count} bands; expected one a band")
    return values
