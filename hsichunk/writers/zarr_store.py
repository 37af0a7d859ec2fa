"""Compute products and write them to Zarr v3, and open them again.

`hsichunk.writers.zarr_blocks` writes such stores block by block.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Final

import xarray as xr

from hsichunk.atomic_files import staging
from hsichunk.errors import HsiError, one_line
from hsichunk.schema import ALL_PRODUCTS, ENDMEMBER, GRID_MAPPING, SAM_CLASS, SID_CLASS
from hsichunk.writers.zarr_blocks import consolidate, publish, refuse_existing
from hsichunk.writers.zarr_encoding import aligned, chunk_grid, encoding, restored, storable

_ORDER: Final = (*ALL_PRODUCTS, SAM_CLASS, SID_CLASS)


def write_zarr(products: xr.Dataset | xr.DataArray, path: str | Path, *, overwrite: bool = False) -> xr.Dataset:
    """Compute products and store them as Zarr v3 (unsharded). Return the stored result, lazy.

    All variables are computed together, so that tasks that they share run once, with a few blocks in memory at a time.
    They are written to a hidden folder beside path, which is renamed when it is complete and synced: a killed write
    never looks complete. Floats keep NaN as no data, class maps (uint8) 255; each map has CF's `grid_mapping`. Missing
    parents are made. Raises HsiError if path exists (unless overwrite: it replaces a Zarr store, nothing else) or
    cannot be written, and for a DataArray without a name.
    """
    path = Path(path)
    dataset = _as_dataset(products)
    refuse_existing(path, overwrite)
    grid = chunk_grid(dataset)
    dataset = storable(dataset).map(aligned, keep_attrs=True, grid=grid)
    with staging(path) as folder:
        new = folder / path.name
        dataset.to_zarr(new, zarr_format=3, consolidated=False, encoding=encoding(dataset, grid))
        publish(new, path)
    return open_store(path)


def add(path: str | Path, variable: xr.DataArray) -> None:
    """Add one lazy map to an existing store, on the chunk grid of its maps, computed block by block.

    No reader may use the store yet, because the map is in it before all of its blocks are written. Raises HsiError
    where it cannot be written.
    """
    dataset = storable(variable.to_dataset())
    stored = open_store(path)
    grid = chunk_grid(stored)
    dataset = dataset.map(aligned, keep_attrs=True, grid=grid)
    new = dataset.drop_vars([name for name in dataset.coords if name != GRID_MAPPING]).assign_attrs(stored.attrs)
    try:
        new.to_zarr(path, mode="a", zarr_format=3, consolidated=False, encoding=encoding(new, grid))
        consolidate(path)
    except OSError as error:
        raise HsiError(f"writing {variable.name} to {path} failed: {error}") from error


def open_store(path: str | Path, *, dask: bool = True) -> xr.Dataset:
    """Open a store of this module as a lazy Dataset.

    Dask blocks are the stored chunks along y and x, with all endmembers in one. With dask=False, values are read when
    they are indexed, without tasks. Raises HsiError if path is no Zarr store.
    """
    try:
        dataset = xr.open_zarr(path, consolidated=False, decode_coords="all", chunks={} if dask else None)
    except (OSError, ValueError, KeyError) as error:
        reason = one_line(error)
        raise HsiError(f"{path} is no Zarr store that can be read ({reason}); give the folder of one") from error
    if dask and ENDMEMBER in dataset.dims:
        dataset = dataset.chunk({ENDMEMBER: -1})
    maps = {name: dataset[name] for name in sorted(dataset.data_vars, key=_order)}  # the store lists them in any order
    return restored(dataset.drop_vars(maps).assign(maps))


def _order(name: Hashable) -> tuple[int, str]:
    """Return the sort key of a variable: products in the order of the schema, then all others by name."""
    return _ORDER.index(name) if name in _ORDER else len(_ORDER), str(name)


def _as_dataset(products: xr.Dataset | xr.DataArray) -> xr.Dataset:
    """Return products as a Dataset. Raises HsiError for a DataArray without a name and a Dataset without variables."""
    if isinstance(products, xr.DataArray):
        if products.name is None:
            raise HsiError("the DataArray to store has no name; give it one with .rename('...')")
        products = products.to_dataset()
    if not products.data_vars:
        raise HsiError("the Dataset to store has no variables; expected maps such as abundance and rmse")
    return products
