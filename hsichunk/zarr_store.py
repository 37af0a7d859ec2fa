"""Products to Zarr v3 and back: computed and stored at once, or created empty and filled block by block."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk.errors import HsiError
from hsichunk.schema import ALL_PRODUCTS, ENDMEMBER, GRID_MAPPING, SAM_CLASS, SID_CLASS, X, Y
from hsichunk.staging import staging, sync, sync_one
from hsichunk.zarr_layout import aligned, as_created, chunk_grid, encoding, is_map, restored, storable

if TYPE_CHECKING:
    import zarr

_ORDER: Final = (*ALL_PRODUCTS, SAM_CLASS, SID_CLASS)
_STORE_FILES: Final = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def write_zarr(products: xr.Dataset | xr.DataArray, path: str | Path, *, overwrite: bool = False) -> xr.Dataset:
    """Compute products and store them as Zarr v3 (unsharded); give back the stored result, lazy.

    All variables are computed in one go, so that tasks they share run once, and a few blocks are in memory at a time.
    They are written to a hidden folder beside path that is renamed when it is complete and synced: a killed write never
    looks whole. Floats keep NaN as no data, class maps (uint8) 255; each map carries CF `grid_mapping`. Missing parents
    are made. Raises HsiError if path exists (unless overwrite: it replaces a Zarr store, nothing else) or cannot be
    written, and for a DataArray without a name.
    """
    path = Path(path)
    dataset = _as_dataset(products)
    _refuse_existing(path, overwrite)
    grid = chunk_grid(dataset)
    dataset = storable(dataset).map(aligned, keep_attrs=True, grid=grid)
    with staging(path) as folder:
        new = folder / path.name
        dataset.to_zarr(new, zarr_format=3, consolidated=False, encoding=encoding(dataset, grid))
        _publish(new, path)
    return open_store(path)


def create(template: xr.Dataset, path: str | Path, chunks: tuple[int, int], *, overwrite: bool = False) -> zarr.Group:
    """Store coordinates and metadata of template with every map empty (no data); give back the group, open to write.

    chunks: (rows, columns) of a stored chunk; `write_block` fills whole ones. The maps of template are never computed.
    Raises HsiError if path exists (unless overwrite) or cannot be written.
    """
    import zarr

    path = Path(path)
    _refuse_existing(path, overwrite)
    grid = {dim: min(side, template.sizes[dim]) for dim, side in zip((Y, X), chunks, strict=True)}
    described = storable(template)
    with staging(path) as folder:
        new = folder / path.name
        labels = described.drop_vars([name for name, v in described.data_vars.items() if is_map(v)])
        labels.to_zarr(new, zarr_format=3, consolidated=False, encoding=encoding(labels, grid))
        group = zarr.open_group(new, mode="r+")
        for name, entry in encoding(described, grid).items():
            if name in described.data_vars and name not in labels:
                group.create_array(name, **as_created(described[name], entry))
        _publish(new, path)
    return zarr.open_group(path, mode="r+")


def write_block(
    store: str | Path | zarr.Group,
    blocks: Mapping[str, npt.NDArray[Any]],
    rows: slice,
    cols: slice,
    *,
    durable: bool = False,
    whole: bool = True,
) -> None:
    """Write blocks {name: (..., rows, columns)} at pixels [rows, cols] of a store made by `create`.

    Blocks cover whole stored chunks, so that many threads and processes may write at once; `whole=False` allows others,
    for a single writer. A chunk of nothing but no data leaves no file. durable: return when the chunks are on the disk,
    for a ledger that is written afterwards.
    Raises HsiError, before anything is written, for an unknown name, a wrong shape or a misaligned region.
    """
    import zarr

    group = store if isinstance(store, zarr.Group) else zarr.open_group(store, mode="r+")
    arrays = {name: _map_of(group, name) for name in blocks}
    for name, block in blocks.items():
        _check_region(name, arrays[name], block, rows, cols, whole)
    for name, block in blocks.items():
        try:
            arrays[name][..., rows, cols] = block
            if durable:
                _sync_region(arrays[name], rows, cols)
        except OSError as error:
            raise HsiError(f"writing {name} to {group.store_path} failed: {error}") from error


def add(path: str | Path, variable: xr.DataArray) -> None:
    """Add one lazy map to an existing store, on the chunk grid of its maps; computed block by block.

    For a store that no reader uses yet: the map is there before all of it is written.
    """
    dataset = storable(variable.to_dataset())
    stored = open_store(path)
    grid = chunk_grid(stored)
    dataset = dataset.map(aligned, keep_attrs=True, grid=grid)
    new = dataset.drop_vars([name for name in dataset.coords if name != GRID_MAPPING]).assign_attrs(stored.attrs)
    try:
        new.to_zarr(path, mode="a", zarr_format=3, consolidated=False, encoding=encoding(new, grid))
        _consolidate(path)
    except OSError as error:
        raise HsiError(f"writing {variable.name} to {path} failed: {error}") from error


def open_store(path: str | Path, *, dask: bool = True) -> xr.Dataset:
    """Open a store of this module, lazy: dask blocks as stored over y and x, all endmembers in one.

    dask=False: read when indexed, with no tasks.

    Raises HsiError if path is no Zarr store.
    """
    try:
        dataset = xr.open_zarr(path, consolidated=False, decode_coords="all", chunks={} if dask else None)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise HsiError(f"{path} is no Zarr store that can be read ({reason}); give the folder of one") from error
    if dask and ENDMEMBER in dataset.dims:
        dataset = dataset.chunk({ENDMEMBER: -1})
    maps = {name: dataset[name] for name in sorted(dataset.data_vars, key=_place)}  # folders are listed in any order
    return restored(dataset.drop_vars(maps).assign(maps))


def _place(name: Hashable) -> tuple[int, str]:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER), str(name)


def _as_dataset(products: xr.Dataset | xr.DataArray) -> xr.Dataset:
    if isinstance(products, xr.DataArray):
        if products.name is None:
            raise HsiError("the DataArray to store has no name; give it one with .rename('...')")
        products = products.to_dataset()
    if not products.data_vars:
        raise HsiError("the Dataset to store has no variables; expected maps such as abundance and rmse")
    return products


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise HsiError(f"{path} exists; choose another name, or overwrite=True to replace it")
    if path.is_symlink() or not path.is_dir() or not any((path / name).is_file() for name in _STORE_FILES):
        raise HsiError(f"{path} exists and is no Zarr store, so it is not replaced; choose another name")


def _consolidate(path: str | Path) -> None:
    import zarr

    with warnings.catch_warnings():
        # not in the specification yet, but without it plain xr.open_zarr(path) warns each time
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(path)


def _publish(new: Path, path: Path) -> None:
    """Give the finished store its name; an older store of that name goes last, with the staging folder."""
    _consolidate(new)
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


def _map_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    import zarr

    found = group.get(name)
    if not isinstance(found, zarr.Array):
        raise HsiError(f"the store has no map {name}, only {', '.join(sorted(group.array_keys()))}; create it with one")
    return found


def _check_region(
    name: str, array: zarr.Array[Any], block: npt.NDArray[Any], rows: slice, cols: slice, whole: bool
) -> None:
    for axis, part in ((-2, rows), (-1, cols)):
        size, side = array.shape[axis], array.chunks[axis]
        fits = not whole or (part.start % side == 0 and (part.stop % side == 0 or part.stop == size))
        if not (0 <= part.start < part.stop <= size and fits):
            raise HsiError(
                f"{name}: pixels {part.start} to {part.stop} of {size} are not whole stored chunks of {side}; "
                "write whole ones, as two writers of one chunk undo each other"
            )
    expected = (*array.shape[:-2], rows.stop - rows.start, cols.stop - cols.start)
    if np.shape(block) != expected:
        raise HsiError(f"{name}: the block is {np.shape(block)}, the region {expected}; give a value for each pixel")


def _sync_region(array: zarr.Array[Any], rows: slice, cols: slice) -> None:
    """Force the chunk files of a region, and the folders that name them, onto the disk."""
    root = Path(array.store.root, array.path)  # type: ignore[attr-defined]  # a store on the local disk
    layers = [range(-(-size // side)) for size, side in zip(array.shape[:-2], array.chunks[:-2], strict=True)]
    area = [range(s.start // side, -(-s.stop // side)) for s, side in zip((rows, cols), array.chunks[-2:], strict=True)]
    files = [root / array.metadata.encode_chunk_key(index) for index in itertools.product(*layers, *area)]
    written = [file for file in files if file.exists()]
    folders = {parent for file in written for parent in file.parents if parent.is_relative_to(root)}
    for path in (*written, *folders):
        sync_one(path)
