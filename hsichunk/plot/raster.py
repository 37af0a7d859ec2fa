"""The pixels of one picture: which of them to read, and where they lie on the map."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.errors import HsiError

PIXELS = 500_000  # of one picture: more than a figure shows
UNEVEN = 0.01  # of a pixel, by which its centre may lie off an even grid


@dataclass(frozen=True)
class Raster:
    """Every `step`-th pixel of a layer, rows from the top of the picture down."""

    values: npt.NDArray[Any]
    """(y, x) or (y, x, other), dtype as stored"""
    drawn: tuple[float, float, float, float]
    """left, right, bottom, top edge of `values`: beyond the layer's own where `step` does not divide its size"""
    extent: tuple[float, float, float, float]
    """left, right, bottom, top edge of the layer"""
    labels: tuple[str, str]
    """of the horizontal and the vertical axis"""
    step: int

    @property
    def tallness(self) -> float:
        """Height over width on the map."""
        left, right, bottom, top = self.extent
        return abs((top - bottom) / (right - left))

    def with_values(self, values: npt.NDArray[Any]) -> Raster:
        """The same place with other values."""
        return replace(self, values=values)


@dataclass(frozen=True)
class _Span:
    """One dimension of a layer: outer edges in the order of storage, and where the last block of `step` pixels ends."""

    start: float
    stop: float
    drawn_stop: float


def read(layer: xr.DataArray, pixels: int) -> Raster:
    """Read every n-th pixel of `layer` (y, x[, other], in any order), `pixels` of them at most, nothing else of it.

    A pixel read is drawn as n x n pixels. Raises HsiError for coordinates that are no even grid.
    """
    step = _step(layer.sizes[schema.Y], layer.sizes[schema.X], pixels)
    on_map = _on_map(layer)
    y, x = _centres(layer, schema.Y), _centres(layer, schema.X)
    dy, dx = _spacing(y, schema.Y), _spacing(x, schema.X)
    # a single row or column has the size of the other dimension's pixels
    column = _span(x, dx or abs(dy or 1.0), step)
    row = _span(y, dy or (-abs(dx or 1.0) if on_map else 1.0), step)

    every = slice(None, None, step)
    chosen = layer.isel({schema.Y: every, schema.X: every})
    values = chosen.transpose(schema.Y, schema.X, ...).to_numpy()
    left, right, drawn_left, drawn_right = column.start, column.stop, column.start, column.drawn_stop
    top, bottom, drawn_top, drawn_bottom = row.start, row.stop, row.start, row.drawn_stop
    if left > right:
        values = values[:, ::-1]
        left, right, drawn_left, drawn_right = right, left, drawn_right, drawn_left
    if on_map and bottom > top:  # north is up; the rows of an image without a map go down
        values = values[::-1]
        top, bottom, drawn_top, drawn_bottom = bottom, top, drawn_bottom, drawn_top
    labels = (_label(layer, schema.X), _label(layer, schema.Y)) if on_map else ("column", "row")
    return Raster(values, (drawn_left, drawn_right, drawn_bottom, drawn_top), (left, right, bottom, top), labels, step)


def _step(ny: int, nx: int, pixels: int) -> int:
    """The smallest n for which every n-th row and column are `pixels` pixels at most."""
    if pixels < 1:
        raise HsiError(f"pixels={pixels}: a picture has at least one; pass a positive number")
    if not ny * nx:
        raise HsiError(f"the data have {ny} x {nx} pixels: nothing to draw; select at least one")
    step = max(1, math.isqrt(ny * nx // pixels))
    while math.ceil(ny / step) * math.ceil(nx / step) > pixels:
        step += 1
    return step


def _on_map(layer: xr.DataArray) -> bool:
    """Whether y and x are places. Without unit and CRS, coordinates that count by one are pixel numbers."""
    if not {schema.Y, schema.X} <= set(layer.coords):
        return False
    if schema.GRID_MAPPING in layer.coords or any("units" in layer[dim].attrs for dim in (schema.Y, schema.X)):
        return True
    return not all(np.all(np.diff(layer[dim].to_numpy()) == 1) for dim in (schema.Y, schema.X))


def _centres(layer: xr.DataArray, dim: str) -> npt.NDArray[np.float64]:
    if dim in layer.coords and layer[dim].dims == (dim,):
        return np.asarray(layer[dim].to_numpy(), dtype=np.float64)
    return np.arange(layer.sizes[dim], dtype=np.float64)


def _spacing(centres: npt.NDArray[np.float64], dim: str) -> float | None:
    """The signed size of a pixel; None of a single one."""
    if centres.size == 1:
        return None
    spacing = float(centres[-1] - centres[0]) / (centres.size - 1)
    off = np.abs(centres - (centres[0] + spacing * np.arange(centres.size)))
    if spacing == 0 or not np.all(off <= UNEVEN * abs(spacing)):
        raise HsiError(f"coordinate {dim} is not evenly spaced, as a map needs: select a rectangle of pixels")
    return spacing


def _span(centres: npt.NDArray[np.float64], spacing: float, step: int) -> _Span:
    start, stop = float(centres[0]) - spacing / 2, float(centres[-1]) + spacing / 2
    count = math.ceil(centres.size / step)
    whole = count * step == centres.size
    return _Span(start, stop, stop if whole else start + count * step * spacing)


def _label(layer: xr.DataArray, dim: str) -> str:
    attrs = layer[dim].attrs
    unit = str(attrs.get("units", ""))
    if unit.startswith("degree"):
        return ("latitude" if dim == schema.Y else "longitude") + " (°)"
    name = "northing" if dim == schema.Y else "easting"
    # a CRS without units on the coordinates does not tell metres from degrees
    return f"{name} ({unit})" if unit else dim
