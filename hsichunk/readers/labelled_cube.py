"""The labelled, lazy cube of a TileFile: coordinates, attributes and grid mapping, the same for every format."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from hsichunk import schema
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.remote import is_url
from hsichunk.errors import HsiError
from hsichunk.grid import Grid, mapping_attrs
from hsichunk.readers import provenance
from hsichunk.readers.lazy_arrays import LazyArray, in_blocks
from hsichunk.readers.model import Layer, TileFile

CUBE = (schema.Y, schema.X, schema.WAVELENGTH)


def labelled(file: TileFile, *, in_dask: bool = True) -> xr.Dataset:
    """`reflectance(y, x, wavelength)` as stored and every layer of a file, lazy, with what the file says of them.

    Files that are shown in blocks (TileFile.as_stored) are dask arrays, unless `in_dask` is False; others are lazy
    without dask. Raises HsiError for a CRS that is none.
    """
    rows, cols, _ = file.reflectance.shape
    shown = file.as_stored if in_dask else None
    if shown is None:
        reflectance = _lazy(CUBE, file.reflectance, reflectance_attrs(file, file.no_data))
    else:
        values = in_blocks(shown.values, shown.blocks)
        reflectance = xr.Variable(CUBE, values, reflectance_attrs(file, shown.no_data), {"source": shown.values.path})
    variables, coords = {schema.REFLECTANCE: reflectance}, cube_coords(file, file.place, rows, cols)
    for layer in file.layers:
        (coords if layer.coordinate else variables)[layer.name] = _layer(layer, shown is not None)
    if file.sun:
        coords["flight_line"] = ("flight_line", [name for name, *_ in file.sun])
        for position, name in enumerate(("solar_azimuth_angle", "solar_zenith_angle"), start=1):
            angles = [line[position] for line in file.sun]
            variables[name] = xr.Variable("flight_line", angles, {"standard_name": name, "units": "degree"})
    chunks = shown.chunks if shown is not None else None
    stored = file.reflectance
    said = {provenance.CHUNKS: chunks or provenance.chunk_words(stored.stored_chunks, stored.dtype)}
    dataset = xr.Dataset(variables, coords)
    dataset.encoding["source"] = file.path if is_url(file.path) else os.path.abspath(file.path)
    try:
        dataset = dataset if file.place is None else with_grid(dataset, file.place)
    except HsiError as error:
        raise HsiError(f"{file.path}: {error}") from error
    return described(dataset, file, file.place, said).assign_attrs(title=file.title)


def _lazy(dims: tuple[str, ...], stored: ChunkedArray, attrs: dict[str, Any]) -> xr.Variable:
    lazy: Any = indexing.LazilyIndexedArray(LazyArray(stored))
    encoding = {"preferred_chunks": dict(zip(dims, stored.chunks, strict=True)), "source": stored.path}
    return xr.Variable(dims, indexing.CopyOnWriteArray(lazy), attrs, encoding)


def _layer(layer: Layer, in_dask: bool) -> xr.Variable:
    if in_dask:
        return xr.Variable(layer.dims, in_blocks(layer.stored, layer.stored.shape), layer.attrs)
    return _lazy(layer.dims, layer.stored, layer.attrs)


def reflectance_attrs(file: TileFile, no_data: float | None, own: dict[str, Any] | None = None) -> dict[str, Any]:
    """What stored values mean, then what else the file says of them (`own`, where it is not all of it)."""
    attrs: dict[str, Any] = {
        "long_name": "reflectance as stored",
        "units": file.as_stored.units if file.as_stored is not None else "counts",
    }
    if file.drop_last != schema.NEON_DROP_LAST:
        attrs[schema.DROP_LAST] = file.drop_last
    attrs[schema.SCALE] = file.scale
    if no_data is not None:
        attrs[schema.NO_DATA] = no_data
    attrs[schema.WINDOWS] = [edge for window in file.windows for edge in window]
    own = file.attrs if own is None else own
    return {**attrs, **{name: value for name, value in own.items() if name not in attrs}}


def cube_coords(file: TileFile, grid: Grid | None, rows: int, cols: int) -> dict[str, Any]:
    """Coordinates of a cube on a grid, or of rows and columns counted from 0, with the bands of a file."""
    y: Any = (schema.Y, np.arange(rows)) if grid is None else (schema.Y, grid.y(rows), schema.Y_ATTRS)
    x: Any = (schema.X, np.arange(cols)) if grid is None else (schema.X, grid.x(cols), schema.X_ATTRS)
    coords: dict[str, Any] = {
        schema.Y: y,
        schema.X: x,
        schema.WAVELENGTH: (schema.WAVELENGTH, file.wavelength, schema.WAVELENGTH_ATTRS),
    }
    if file.fwhm is not None:
        coords[schema.FWHM] = (schema.WAVELENGTH, file.fwhm, schema.FWHM_ATTRS)
    return coords


def described(
    dataset: xr.Dataset, file: TileFile, grid: Grid | None, said: dict[str, str], tiles: int = 1
) -> xr.Dataset:
    """The same with attributes that tell a reader what it is; `said` are those of its chunks."""
    rows, cols = dataset.sizes[schema.Y], dataset.sizes[schema.X]
    if grid is not None:
        place = provenance.grid_words(rows, cols, grid, tiles)
    else:
        place = f"{rows} x {cols}" + (" of a swath" if any(layer.coordinate for layer in file.layers) else "")
    crs = dataset.coords[schema.GRID_MAPPING].attrs if schema.GRID_MAPPING in dataset.coords else {}
    return dataset.assign_attrs(
        {
            "title": f"{file.kind}, {file.site}",
            **({provenance.SENSOR: file.sensor} if file.sensor else {}),
            **({provenance.SITE: file.site} if file.names_site else {}),
            **provenance.crs_words(crs),
            provenance.GRID: place,
            provenance.BANDS: provenance.band_words(file.wavelength, file.windows),
            **said,
        }
    )


def with_grid(dataset: xr.Dataset, grid: Grid) -> xr.Dataset:
    """The same with `spatial_ref`: CRS and GeoTransform, as CF and rioxarray have them."""
    attrs = mapping_attrs(grid)
    dataset = dataset.assign_coords({schema.GRID_MAPPING: xr.Variable((), 0, attrs)})
    for variable in dataset.data_vars.values():
        if {schema.Y, schema.X} <= set(variable.dims):
            variable.encoding["grid_mapping"] = schema.GRID_MAPPING
    return dataset
