"""Coordinates and attributes of a labelled cube."""

from __future__ import annotations

from typing import Any

import xarray as xr

from hsichunk import schema
from hsichunk.chunks.remote import is_url
from hsichunk.grid import Grid, mapping_attrs
from hsichunk.readers import model, provenance


def count_attrs(file: model.NeonFile, no_data: float) -> dict[str, Any]:
    """What stored counts mean."""
    return {
        "long_name": "reflectance as stored",
        "units": "counts",
        schema.SCALE: file.scale,
        schema.NO_DATA: no_data,
        schema.WINDOWS: [edge for window in file.windows for edge in window],
    }


def stored_attrs(own: dict[str, Any], meaning: dict[str, Any]) -> dict[str, Any]:
    """Attributes of stored counts: what they mean, then what else the file says of them."""
    return {**meaning, **{name: value for name, value in own.items() if name not in meaning}}


def cube_coords(file: model.NeonFile, grid: Grid, rows: int, cols: int) -> dict[str, Any]:
    """Coordinates of a cube on a grid, with the bands of a file."""
    coords: dict[str, Any] = {
        schema.Y: (schema.Y, grid.y(rows), schema.Y_ATTRS),
        schema.X: (schema.X, grid.x(cols), schema.X_ATTRS),
        schema.WAVELENGTH: (schema.WAVELENGTH, file.wavelength, schema.WAVELENGTH_ATTRS),
    }
    if file.fwhm is not None:
        coords[schema.FWHM] = (schema.WAVELENGTH, file.fwhm, schema.FWHM_ATTRS)
    return coords


def described(
    dataset: xr.Dataset, file: model.NeonFile, grid: Grid, said: dict[str, str], tiles: int = 1
) -> xr.Dataset:
    """The same with attributes that tell a reader what it is; `said` are those of its chunks."""
    from hsichunk.readers.formats import is_image

    neon_made = is_url(file.path) or not is_image(file.path)
    sensor = {provenance.SENSOR: provenance.NEON_SENSOR, provenance.SITE: file.site} if neon_made else {}
    place = provenance.grid_words(dataset.sizes[schema.Y], dataset.sizes[schema.X], grid, tiles)
    return dataset.assign_attrs(
        {
            "title": f"{'NEON AOP ' if neon_made else ''}reflectance, {file.site}",
            **sensor,
            **provenance.crs_words(dataset[schema.GRID_MAPPING].attrs),
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
