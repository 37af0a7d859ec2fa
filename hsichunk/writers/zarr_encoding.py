"""Prepare Datasets for `to_zarr`: the chunk grid, the encodings, the types; see `hsichunk.writers.zarr_layout`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Final, TypedDict

import numpy as np
import xarray as xr

from hsichunk.schema import GRID_MAPPING, X, Y
from hsichunk.writers.zarr_layout import chunk_shape, compressor, fill_value

if TYPE_CHECKING:
    from zarr.codecs import BloscCodec

_SIDE: Final = 1000  # pixels, the longest side of a stored chunk
_SHORT_SIDE: Final = 256  # pixels up to which blocks are merged: zarr-python takes about a millisecond a chunk


class Encoding(TypedDict, total=False):
    """What `to_zarr` takes as the encoding of a variable."""

    compressors: BloscCodec
    chunks: tuple[int, ...]
    grid_mapping: str
    _FillValue: float | None
    fill_value: float


def is_map(variable: xr.DataArray) -> bool:
    """Whether a variable has one or more values for each pixel."""
    return {Y, X} <= set(variable.dims)


def chunk_grid(dataset: xr.Dataset) -> dict[str, int]:
    """Return the pixels of a stored chunk along y and x, by the sides of the dask blocks."""
    return {dim: _stored_side(dataset, dim) for dim in (Y, X) if dim in dataset.dims}


def _stored_side(dataset: xr.Dataset, dim: str) -> int:
    """Return the pixels of a stored chunk along one dimension.

    Blocks of one size are cut or merged into chunks of 256 to 1000 pixels, where they can be; others give 1000.
    """
    size = dataset.sizes[dim]
    sides = next((v.chunksizes[dim] for v in dataset.data_vars.values() if dim in v.chunksizes), (size,))
    side = max(sides)
    if any(s != side for s in sides[:-1]):
        return min(size, _SIDE)
    if side > _SIDE:
        return next((s for s in range(_SIDE, _SHORT_SIDE - 1, -1) if side % s == 0), _SIDE)
    return min(size, side * max(1, round(_SHORT_SIDE / side)))


def storable(dataset: xr.Dataset) -> xr.Dataset:
    """Return the same data without the encodings of earlier files, and with strings in the type of Zarr v3."""
    dataset = dataset.drop_encoding()
    if GRID_MAPPING in dataset.data_vars:
        dataset = dataset.set_coords(GRID_MAPPING)
    for variable in dataset.data_vars.values():
        # `encoding` writes both, and xarray refuses a name that is in attributes and encoding.
        attrs = variable.attrs.items()
        variable.attrs = {name: value for name, value in attrs if name not in ("grid_mapping", "_FillValue")}
    return dataset.assign_coords({name: c.astype(object) for name, c in dataset.coords.items() if c.dtype.kind == "U"})


def restored(dataset: xr.Dataset) -> xr.Dataset:
    """Undo what storing changes: make strings fixed-width again, and give flag values the type of their map."""
    for name, coord in dataset.coords.items():
        if coord.dtype.kind in "TO":
            text = np.array(coord.values.tolist(), dtype=np.str_)
            dataset = dataset.assign_coords({name: (coord.dims, text, coord.attrs)})
    for variable in dataset.data_vars.values():
        if "flag_values" in variable.attrs:
            variable.attrs["flag_values"] = np.asarray(variable.attrs["flag_values"], dtype=variable.dtype)
    return dataset


def aligned(variable: xr.DataArray, grid: Mapping[str, int]) -> xr.DataArray:
    """Return lazy data in blocks of stored chunks, and NumPy data as they are."""
    if variable.chunks is None and variable.variable._in_memory:
        return variable
    return variable.chunk(dict(zip(variable.dims, _chunk_shape(variable, grid), strict=True)))


def encoding(dataset: xr.Dataset, grid: Mapping[str, int]) -> dict[Hashable, Encoding]:
    """Return the encoding of each variable, for `to_zarr`.

    It replaces all earlier encodings, so each map gets its `grid_mapping` again.
    """
    # CF: coordinates have no missing values.
    entries: dict[Hashable, Encoding] = {
        name: {"_FillValue": None} for name, coord in dataset.coords.items() if coord.dtype.kind == "f"
    }
    for name, variable in dataset.data_vars.items():
        entry: Encoding = {"compressors": compressor(), "chunks": _chunk_shape(variable, grid)}
        if GRID_MAPPING in dataset.coords and is_map(variable):
            entry["grid_mapping"] = GRID_MAPPING
        if variable.dtype.kind == "f":
            entry["_FillValue"] = np.nan
            entry["fill_value"] = np.nan
        elif variable.dtype == np.uint8:
            # Not _FillValue, which would make xarray turn classes into floats.
            entry["fill_value"] = fill_value(variable.dtype)
        entries[name] = entry
    return entries


def _chunk_shape(variable: xr.DataArray, grid: Mapping[str, int]) -> tuple[int, ...]:
    return chunk_shape([str(dim) for dim in variable.dims], variable.shape, variable.dtype.itemsize, grid)
