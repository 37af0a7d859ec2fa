"""Datasets as `to_zarr` is to write them: the chunk grid, the encodings, the types; see
`hsichunk.writers.zarr_layout`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from hsichunk.schema import GRID_MAPPING, X, Y
from hsichunk.writers.zarr_layout import chunk_shape, compressor, fill_value

_SIDE: Final = 1000  # pixels, the longest side of a stored chunk
_SHORT_SIDE: Final = 256  # zarr-python takes about a millisecond a chunk: smaller blocks are merged up to this


def is_map(variable: xr.DataArray) -> bool:
    """Whether a variable has a value, or several, for each pixel."""
    return {Y, X} <= set(variable.dims)


def chunk_grid(dataset: xr.Dataset) -> dict[str, int]:
    """Pixels of a stored chunk along y and x: the sides of the dask blocks, cut or merged evenly to a handy size."""
    return {dim: _stored_side(dataset, dim) for dim in (Y, X) if dim in dataset.dims}


def _stored_side(dataset: xr.Dataset, dim: str) -> int:
    size = dataset.sizes[dim]
    sides = next((v.chunksizes[dim] for v in dataset.data_vars.values() if dim in v.chunksizes), (size,))
    side = max(sides)
    if any(s != side for s in sides[:-1]):
        return min(size, _SIDE)
    if side > _SIDE:
        return next((s for s in range(_SIDE, _SHORT_SIDE - 1, -1) if side % s == 0), _SIDE)
    return min(size, side * max(1, round(_SHORT_SIDE / side)))


def storable(dataset: xr.Dataset) -> xr.Dataset:
    """The same data without what earlier files left in encodings, and strings in the type that Zarr v3 specifies."""
    dataset = dataset.drop_encoding()
    if GRID_MAPPING in dataset.data_vars:
        dataset = dataset.set_coords(GRID_MAPPING)
    for variable in dataset.data_vars.values():
        # both are written as encoding, and xarray refuses them in two places
        variable.attrs = {k: v for k, v in variable.attrs.items() if k not in ("grid_mapping", "_FillValue")}
    return dataset.assign_coords({name: c.astype(object) for name, c in dataset.coords.items() if c.dtype.kind == "U"})


def restored(dataset: xr.Dataset) -> xr.Dataset:
    """Undo what storing changes: fixed-width strings, and flag values in the type of their map."""
    for name, coord in dataset.coords.items():
        if coord.dtype.kind in "TO":
            text = np.array(coord.values.tolist(), dtype=np.str_)
            dataset = dataset.assign_coords({name: (coord.dims, text, coord.attrs)})
    for variable in dataset.data_vars.values():
        if "flag_values" in variable.attrs:
            variable.attrs["flag_values"] = np.asarray(variable.attrs["flag_values"], dtype=variable.dtype)
    return dataset


def aligned(variable: xr.DataArray, grid: Mapping[str, int]) -> xr.DataArray:
    """Lazy data in blocks of stored chunks; NumPy data as they are."""
    if variable.chunks is None and variable.variable._in_memory:
        return variable
    return variable.chunk(dict(zip(variable.dims, _chunk_shape(variable, grid), strict=True)))


def encoding(dataset: xr.Dataset, grid: Mapping[str, int]) -> dict[Any, dict[str, Any]]:
    """What `to_zarr` needs to know of each variable. It replaces all earlier encoding, hence `grid_mapping` in each."""
    # CF: coordinates have no missing values
    entries: dict[Any, dict[str, Any]] = {
        n: {"_FillValue": None} for n, c in dataset.coords.items() if c.dtype.kind == "f"
    }
    for name, variable in dataset.data_vars.items():
        entry: dict[str, Any] = {"compressors": compressor(), "chunks": _chunk_shape(variable, grid)}
        if GRID_MAPPING in dataset.coords and is_map(variable):
            entry["grid_mapping"] = GRID_MAPPING
        if variable.dtype.kind == "f":
            entry |= {"_FillValue": np.nan, "fill_value": np.nan}
        elif variable.dtype == np.uint8:
            # not _FillValue, for which xarray would turn classes into floats
            entry["fill_value"] = fill_value(variable.dtype)
        entries[name] = entry
    return entries


def _chunk_shape(variable: xr.DataArray, grid: Mapping[str, int]) -> tuple[int, ...]:
    return chunk_shape([str(dim) for dim in variable.dims], variable.shape, variable.dtype.itemsize, grid)
