"""The reader of EMIT L2A reflectance (NetCDF-4) in the geometry of the swath."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError, HsiWarning, one_line
from hsichunk.memory import BLOCK_BYTES
from hsichunk.readers import envi
from hsichunk.readers.hdf5_names import attribute, number
from hsichunk.readers.hdf5_windows import labelled_values
from hsichunk.readers.model import (
    AsStored,
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
PLACES = {
    "lat": {"units": "degrees_north", "standard_name": "latitude"},
    "lon": {"units": "degrees_east", "standard_name": "longitude"},
}


def read(path: str, options: ReadOptions) -> TileFile:
    """What an EMIT L2A reflectance granule says; reads its metadata alone.

    Rows are lines (downtrack), columns samples (crosstrack); the layers `lat` and `lon` say where they lie: pixels of a
    swath are on no grid. Bands that are not among `good_wavelengths` (their reflectance is -0.01) are bad. Raises
    HsiError for what is no such file, and unless swaths can be used. Source: EMIT L2A RFL, LP DAAC.
    """
    import h5py

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


def _read(path: str, file: Any) -> TileFile:
    data, bands = file[schema.REFLECTANCE], file[BANDS]
    if data.ndim != 3 or data.dtype.kind not in "iuf":
        raise HsiError(f"{path}: reflectance is {data.dtype} {data.shape}; expected (downtrack, crosstrack, bands)")
    count = data.shape[2]
    nm, factor = envi.wavelengths_nm(_numbers(path, bands, "wavelengths", count), None, path)
    if (np.diff(nm) <= 0).any():
        raise HsiError(f"{path}: wavelengths do not increase; expected those of EMIT")
    flagged = "good_wavelengths" in bands
    good = _numbers(path, bands, "good_wavelengths", count) != 0 if flagged else np.ones(count, np.bool_)
    fill = attribute(data, "_FillValue")
    if fill is None:
        warnings.warn(f"{path}: no _FillValue; using EMIT's {NO_DATA:g}", HsiWarning, stacklevel=2)
    no_data = NO_DATA if fill is None else number(fill)
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
            _numbers(path, bands, "fwhm", count) * factor if "fwhm" in bands else None,
            bad_windows(nm, good),
        ),
        scale=1.0,
        no_data=no_data_count(no_data, data.dtype),
        place=None,
        layers=_places(path, file, data.shape[:2]),
        provenance=Provenance(
            no_data=Source.FALLBACK if fill is None else Source.FILE,
            bad_bands=Source.FILE if flagged else Source.ABSENT,
            grid=Source.ABSENT,
        ),
        as_stored=AsStored(labelled_values(stored), (min(rows, data.shape[0]), *data.shape[1:]), no_data, units="1"),
    )


def _places(path: str, file: Any, pixels: tuple[int, int]) -> tuple[Layer, ...]:
    """Latitudes and longitudes of the pixels, as far as the file has them."""
    location = file.get(LOCATION, {})
    found = {name: location[name] for name in PLACES if name in location and location[name].shape == pixels}
    return tuple(
        Layer(name, (schema.Y, schema.X), HDF5Array(os.path.abspath(path), data), PLACES[name], coordinate=True)
        for name, data in found.items()
    )


def _numbers(path: str, group: Any, name: str, expected: int) -> NDArray[np.float64]:
    values = np.asarray(group[name][...], np.float64).ravel()
    if len(values) != expected:
        raise HsiError(f"{path}: {len(values)} {name} for {expected} bands; expected one a band")
    return values
