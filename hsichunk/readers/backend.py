"""NEON files as labelled, lazy datasets: `hsi.open_tile` and xarray's `engine="neon"`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint
from xarray.core import indexing

from hsichunk import schema
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.remote import name_of
from hsichunk.errors import HsiError
from hsichunk.readers import model, neon, provenance
from hsichunk.readers.labels import count_attrs, cube_coords, described, stored_attrs, with_grid
from hsichunk.readers.lazy_arrays import LazyStored


class NeonBackendEntrypoint(BackendEntrypoint):
    """`xr.open_dataset(path, engine="neon")`: NEON AOP reflectance HDF5, the same as `hsichunk.open_tile`."""

    description = "NEON AOP reflectance tiles and flight lines (HDF5)"
    open_dataset_parameters = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        return _dataset(neon.read(filename_or_obj)).drop_vars(dropped, errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        if not isinstance(filename_or_obj, (str, os.PathLike)):
            return False
        name = name_of(os.fspath(filename_or_obj)).lower()
        return name.startswith("neon_") and "reflectance" in name and name.endswith(".h5")


def _lazy(dims: tuple[str, ...], stored: ChunkedArray, attrs: dict[str, Any]) -> xr.Variable:
    data = indexing.LazilyIndexedArray(LazyStored(stored))
    encoding = {"preferred_chunks": dict(zip(dims, stored.chunks, strict=True)), "source": stored.path}
    return xr.Variable(dims, data, attrs, encoding)


def _dataset(file: model.NeonFile) -> xr.Dataset:
    rows, cols, _ = file.reflectance.shape
    attrs = stored_attrs(file.attrs, count_attrs(file, file.no_data))
    coords = cube_coords(file, file.grid, rows, cols)
    variables = {schema.REFLECTANCE: _lazy((schema.Y, schema.X, schema.WAVELENGTH), file.reflectance, attrs)}
    for layer in file.layers:
        variables[layer.name] = _lazy(layer.dims, layer.stored, layer.attrs)
    if file.sun:
        coords["flight_line"] = ("flight_line", [name for name, *_ in file.sun])
        for position, name in enumerate(("solar_azimuth_angle", "solar_zenith_angle"), start=1):
            values = [line[position] for line in file.sun]
            variables[name] = xr.Variable("flight_line", values, {"standard_name": name, "units": "degree"})
    stored = file.reflectance
    said = {provenance.CHUNKS: provenance.chunk_words(stored.stored_chunks, stored.dtype)}
    try:
        return described(with_grid(xr.Dataset(variables, coords), file.grid), file, file.grid, said)
    except HsiError as error:
        raise HsiError(f"{file.path}: {error}") from error
