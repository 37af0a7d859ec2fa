"""Create an empty store in Zarr v3 and fill it block by block, in any number of processes.

This module does without xarray, because a run would then import dask and pandas first, which takes as long as decoding
half a tile.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hsichunk.atomic_files import staging, sync, sync_one
from hsichunk.errors import HsiError
from hsichunk.schema import GRID_MAPPING, X, Y
from hsichunk.writers.zarr_layout import chunk_shape, compressor, fill_value, float_attribute

if TYPE_CHECKING:
    import zarr
    from zarr.core.metadata.v3 import ArrayV3Metadata

Coordinate: TypeAlias = tuple[tuple[str, ...], NDArray[np.generic], Mapping[str, Any]]
"""dimensions, values, attributes"""

_STORE_FILES: Final = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


@dataclass(frozen=True)
class EmptyMap:
    """A map that has no values yet."""

    dims: tuple[str, ...]
    """the last two are y and x"""
    shape: tuple[int, ...]
    dtype: DTypeLike
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Template:
    """What a store will hold: coordinates with their values, maps without."""

    coords: Mapping[str, Coordinate]
    maps: Mapping[str, EmptyMap]
    attrs: Mapping[str, Any]


def create(template: Template, path: str | Path, chunks: tuple[int, int], *, overwrite: bool = False) -> zarr.Group:
    """Store coordinates and metadata of a template, with every map empty (no data). Return the group, open to write.

    chunks: (rows, columns) of a stored chunk; `write_block` fills whole ones. The files are those that `write_zarr`
    writes. Raises HsiError if path exists (unless overwrite: it replaces a Zarr store, nothing else) or cannot be
    written.
    """
    import zarr

    path = Path(path)
    refuse_existing(path, overwrite)
    grid_mapping = {"grid_mapping": GRID_MAPPING} if GRID_MAPPING in template.coords else {}
    with staging(path) as folder:
        new = folder / path.name
        # xarray looks in this attribute for coordinates that are no dimensions.
        others = [name for name, (dims, *_) in template.coords.items() if dims != (name,)]
        coordinates = {"coordinates": " ".join(others)} if others else {}
        group = zarr.create_group(new, attributes={**template.attrs, **coordinates})
        for name, coord in template.coords.items():
            _add_coordinate(group, name, coord)
        for name, empty in template.maps.items():
            dtype = np.dtype(empty.dtype)
            grid = {dim: min(side, empty.shape[at]) for dim, side, at in zip((Y, X), chunks, (-2, -1), strict=True)}
            missing = {"_FillValue": float_attribute(fill_value(dtype))} if dtype.kind == "f" else {}
            group.create_array(
                name,
                shape=empty.shape,
                dtype=dtype,
                chunks=chunk_shape(empty.dims, empty.shape, dtype.itemsize, grid),
                compressors=compressor(),
                fill_value=fill_value(dtype),
                dimension_names=empty.dims,
                attributes={**_json_attrs(empty.attrs), **grid_mapping, **missing},
            )
        publish(new, path)
    return zarr.open_group(path, mode="r+")


def _add_coordinate(group: zarr.Group, name: str, coordinate: Coordinate) -> None:
    dims, values, attrs = coordinate
    text = values.dtype.kind in "UO"
    array = group.create_array(
        name,
        shape=values.shape,
        dtype="string" if text else values.dtype,
        chunks=values.shape,
        fill_value=np.nan if values.dtype.kind == "f" else None,
        dimension_names=dims,
        attributes=_json_attrs(attrs),
    )
    array[...] = values.astype(object) if text else values


def _json_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with lists in place of arrays, as JSON needs them."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in attrs.items()}


def write_block(
    store: str | Path | zarr.Group,
    blocks: Mapping[str, NDArray[np.generic]],
    rows: slice,
    cols: slice,
    *,
    durable: bool = False,
    whole_chunks: bool = True,
) -> None:
    """Write blocks {name: (..., rows, columns)} at pixels [rows, cols] of a store made by `create`.

    Blocks cover whole stored chunks, so that many threads and processes may write at once. `whole_chunks=False` allows
    parts of chunks, for a single writer. A chunk that holds only no data leaves no file. With `durable`, the call
    returns when the chunks are on the disk, for a ledger that is written afterwards.
    Raises HsiError, before anything is written, for an unknown name, a wrong shape or a misaligned region.
    """
    import zarr

    group = store if isinstance(store, zarr.Group) else zarr.open_group(store, mode="r+")
    arrays = {name: _map_of(group, name) for name in blocks}
    for name, block in blocks.items():
        _check_region(name, arrays[name], block, rows, cols, whole_chunks)
    for name, block in blocks.items():
        try:
            arrays[name][..., rows, cols] = block
            if durable:
                _sync_region(arrays[name], rows, cols)
        except OSError as error:
            raise HsiError(f"writing {name} to {group.store_path} failed: {error}") from error


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise HsiError if `path` exists, or, with `overwrite`, if it is anything but a Zarr store."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise HsiError(f"{path} exists; choose another name, or overwrite=True to replace it")
    if path.is_symlink() or not path.is_dir() or not any((path / name).is_file() for name in _STORE_FILES):
        raise HsiError(f"{path} exists and is no Zarr store, so it is not replaced; choose another name")


def consolidate(path: str | Path) -> None:
    """Write the metadata of all arrays of a store into the metadata of its group."""
    import zarr

    with warnings.catch_warnings():
        # zarr warns that this is not in the specification yet; without it, plain xr.open_zarr(path) warns each time.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(path)


def publish(new: Path, path: Path) -> None:
    """Give the finished store its name, synced. An older store of that name is moved beside `new`.

    The older store is removed with the staging folder, after the new one has its name.
    """
    consolidate(new)
    sync(new)
    old = new.with_name("old")
    replaces = path.exists()
    if replaces:
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if replaces:
            os.rename(old, path)
        raise
    sync_one(path.parent)


def _map_of(group: zarr.Group, name: str) -> zarr.Array[ArrayV3Metadata]:
    """Return a map of the store. Raises HsiError for an unknown name."""
    import zarr

    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise HsiError(f"the store has no map {name}, only {', '.join(sorted(group.array_keys()))}; create it with one")
    return array


def _check_region(
    name: str,
    array: zarr.Array[ArrayV3Metadata],
    block: NDArray[np.generic],
    rows: slice,
    cols: slice,
    whole_chunks: bool,
) -> None:
    """Raise HsiError unless the region lies in the map and the block has its shape.

    With `whole_chunks`, the region must also begin and end at edges of chunks.
    """
    for axis, part in ((-2, rows), (-1, cols)):
        size, side = array.shape[axis], array.chunks[axis]
        fits = not whole_chunks or (part.start % side == 0 and (part.stop % side == 0 or part.stop == size))
        if not (0 <= part.start < part.stop <= size and fits):
            raise HsiError(
                f"{name}: pixels {part.start} to {part.stop} of {size} are not whole stored chunks of {side}; "
                "write whole ones, as two writers of one chunk undo each other"
            )
    expected = (*array.shape[:-2], rows.stop - rows.start, cols.stop - cols.start)
    if np.shape(block) != expected:
        raise HsiError(f"{name}: the block is {np.shape(block)}, the region {expected}; give a value for each pixel")


def _sync_region(array: zarr.Array[ArrayV3Metadata], rows: slice, cols: slice) -> None:
    """Force the chunk files of a region, and the folders that name them, onto the disk."""
    root = Path(array.store.root, array.path)  # type: ignore[attr-defined]  # a store on the local disk
    layers = [range(-(-size // side)) for size, side in zip(array.shape[:-2], array.chunks[:-2], strict=True)]
    sides = zip((rows, cols), array.chunks[-2:], strict=True)
    area = [range(part.start // side, -(-part.stop // side)) for part, side in sides]
    files = [root / array.metadata.encode_chunk_key(index) for index in itertools.product(*layers, *area)]
    written = [file for file in files if file.exists()]
    folders = {parent for file in written for parent in file.parents if parent.is_relative_to(root)}
    for path in (*written, *folders):
        sync_one(path)
