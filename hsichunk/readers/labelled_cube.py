"""Label the values of a TileFile: the lazy cube with coordinates, attributes and grid mapping, for every format."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
from hsichunk.readers.model import AttributeValue, Layer, TileFile

CUBE = (schema.Y, schema.X, schema.WAVELENGTH)


def labelled(file: TileFile, *, in_dask: bool = True) -> xr.Dataset:
    """Return `reflectance(y, x, wavelength)` as stored and every layer of a file, lazy, with the file's attributes.

    A file that has `TileFile.as_stored` gives dask arrays of it, unless `in_dask` is False; any other gives lazy arrays
    without dask. Raises HsiError for a CRS that pyproj does not know.
    """
    rows, cols, _ = file.reflectance.shape
    as_stored = file.as_stored if in_dask else None
    stored = file.reflectance
    chunks = provenance.chunk_words(stored.stored_chunks, stored.dtype)
    if as_stored is None:
        reflectance = _lazy(CUBE, stored, reflectance_attrs(file, file.no_data))
    else:
        attrs = reflectance_attrs(file, as_stored.no_data)
        values = in_blocks(as_stored.values, as_stored.blocks)
        reflectance = xr.Variable(CUBE, values, attrs, {"source": as_stored.values.path})
        chunks = as_stored.chunks or chunks
    variables, coords = {schema.REFLECTANCE: reflectance}, cube_coords(file, file.place, rows, cols)
    for layer in file.layers:
        (coords if layer.coordinate else variables)[layer.name] = _layer(layer, in_dask=as_stored is not None)
    if file.sun:
        coords["flight_line"] = xr.Variable("flight_line", [angles.flight_line for angles in file.sun])
        variables["solar_azimuth_angle"] = _solar("solar_azimuth_angle", [angles.azimuth for angles in file.sun])
        variables["solar_zenith_angle"] = _solar("solar_zenith_angle", [angles.zenith for angles in file.sun])
    dataset = xr.Dataset(variables, coords)
    dataset.encoding["source"] = file.path if is_url(file.path) else os.path.abspath(file.path)
    try:
        dataset = dataset if file.place is None else with_grid(dataset, file.place)
    except HsiError as error:
        raise HsiError(f"{file.path}: {error}") from error
    return described(dataset, file, file.place, {provenance.CHUNKS: chunks}).assign_attrs(title=file.title)


def _lazy(dims: tuple[str, ...], stored: ChunkedArray, attrs: Mapping[str, AttributeValue]) -> xr.Variable:
    """Return stored values as a lazy variable without dask."""
    lazy: Any = indexing.LazilyIndexedArray(LazyArray(stored))  # no array by xarray's own annotations
    encoding = {"preferred_chunks": dict(zip(dims, stored.chunks, strict=True)), "source": stored.path}
    return xr.Variable(dims, indexing.CopyOnWriteArray(lazy), attrs, encoding)


def _layer(layer: Layer, *, in_dask: bool) -> xr.Variable:
    """Return a layer as a lazy variable; as one block of dask where `in_dask`."""
    if in_dask:
        return xr.Variable(layer.dims, in_blocks(layer.stored, layer.stored.shape), layer.attrs)
    return _lazy(layer.dims, layer.stored, layer.attrs)


def _solar(name: str, angles: list[float]) -> xr.Variable:
    """Return a solar angle of each flight line, in degrees."""
    return xr.Variable("flight_line", angles, {"standard_name": name, "units": "degree"})


def reflectance_attrs(
    file: TileFile, no_data: float | None, own: Mapping[str, AttributeValue] | None = None
) -> dict[str, AttributeValue]:
    """Return the attributes of stored reflectance: what its values mean, then the file's own.

    `own` replaces `file.attrs` where the reflectance is of several files; attributes of the same name are left out of
    it.
    """
    attrs: dict[str, AttributeValue] = {
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


def cube_coords(file: TileFile, grid: Grid | None, rows: int, cols: int) -> dict[str, xr.Variable]:
    """Return the coordinates of a cube: pixel centres of a grid, or row and column numbers from 0, and the bands."""
    if grid is None:
        y, x = xr.Variable(schema.Y, np.arange(rows)), xr.Variable(schema.X, np.arange(cols))
    else:
        y = xr.Variable(schema.Y, grid.y(rows), schema.Y_ATTRS)
        x = xr.Variable(schema.X, grid.x(cols), schema.X_ATTRS)
    coords = {
        schema.Y: y,
        schema.X: x,
        schema.WAVELENGTH: xr.Variable(schema.WAVELENGTH, file.wavelength, schema.WAVELENGTH_ATTRS),
    }
    if file.fwhm is not None:
        coords[schema.FWHM] = xr.Variable(schema.WAVELENGTH, file.fwhm, schema.FWHM_ATTRS)
    return coords


def described(
    dataset: xr.Dataset, file: TileFile, grid: Grid | None, chunks: Mapping[str, str], tiles: int = 1
) -> xr.Dataset:
    """Return the dataset with attributes that say where it comes from; `chunks` are those of its stored chunks."""
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
            **chunks,
        }
    )


def with_grid(dataset: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Return the dataset with `spatial_ref`: CRS and GeoTransform, as CF and rioxarray have them.

    Raises HsiError for a CRS that pyproj does not know.
    """
    attrs = mapping_attrs(grid)
    dataset = dataset.assign_coords({schema.GRID_MAPPING: xr.Variable((), 0, attrs)})
    for variable in dataset.data_vars.values():
        if {schema.Y, schema.X} <= set(variable.dims):
            variable.encoding["grid_mapping"] = schema.GRID_MAPPING
    return dataset
