"""Read the pixels of one picture: choose which, and find where they lie on the map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.errors import HsiError

PIXELS = 500_000  # of one picture, more than a figure shows
UNEVEN = 0.01  # of a pixel: how far its centre may lie off an even grid

Value = TypeVar("Value", bound=np.generic, covariant=True)
OtherValue = TypeVar("OtherValue", bound=np.generic)


@dataclass(frozen=True)
class Raster(Generic[Value]):
    """Every `step`-th pixel of a layer, rows from the top of the picture down."""

    values: npt.NDArray[Value]
    """(y, x) or (y, x, other)"""
    drawn: tuple[float, float, float, float]
    """left, right, bottom, top edge of `values`, beyond those of the layer where `step` does not divide its size"""
    extent: tuple[float, float, float, float]
    """left, right, bottom, top edge of the layer"""
    labels: tuple[str, str]
    """labels of the horizontal and the vertical axis"""
    step: int
    """rows and columns of the layer from one pixel read to the next"""

    @property
    def tallness(self) -> float:
        """Height over width on the map."""
        left, right, bottom, top = self.extent
        return abs((top - bottom) / (right - left))

    def with_values(self, values: npt.NDArray[OtherValue]) -> Raster[OtherValue]:
        """Return a raster of other values at the same place."""
        return Raster(values, self.drawn, self.extent, self.labels, self.step)


@dataclass(frozen=True)
class _Span:
    """The outer edges of one dimension of a layer, in the order of storage."""

    start: float
    stop: float
    drawn_stop: float
    """where the last block of `step` pixels ends"""


def read(layer: xr.DataArray, pixels: int) -> Raster[np.generic]:
    """Read every n-th pixel of `layer` (y, x[, other], in any order), `pixels` of them at most, and no other.

    Values keep their dtype. A pixel read is drawn as n x n pixels. Raises HsiError for coordinates that are uneven.
    """
    step = _step(layer.sizes[schema.Y], layer.sizes[schema.X], pixels)
    on_map = _on_map(layer)
    y, x = _centres(layer, schema.Y), _centres(layer, schema.X)
    dy, dx = _spacing(y, schema.Y), _spacing(x, schema.X)
    # The pixels of a single row or column are as long as those of the other dimension.
    column = _span(x, dx or abs(dy or 1.0), step)
    row = _span(y, dy or (-abs(dx or 1.0) if on_map else 1.0), step)

    every = slice(None, None, step)
    thinned = layer.isel({schema.Y: every, schema.X: every})
    values = thinned.transpose(schema.Y, schema.X, ...).to_numpy()
    left, right, drawn_left, drawn_right = column.start, column.stop, column.start, column.drawn_stop
    top, bottom, drawn_top, drawn_bottom = row.start, row.stop, row.start, row.drawn_stop
    if left > right:
        values = values[:, ::-1]
        left, right, drawn_left, drawn_right = right, left, drawn_right, drawn_left
    if on_map and bottom > top:  # north is up; an image that lies on no map has its first row on top
        values = values[::-1]
        top, bottom, drawn_top, drawn_bottom = bottom, top, drawn_bottom, drawn_top
    labels = (_label(layer, schema.X), _label(layer, schema.Y)) if on_map else ("column", "row")
    return Raster(values, (drawn_left, drawn_right, drawn_bottom, drawn_top), (left, right, bottom, top), labels, step)


def _step(ny: int, nx: int, pixels: int) -> int:
    """Return the smallest n for which every n-th row and column are `pixels` pixels at most."""
    if pixels < 1:
        raise HsiError(f"pixels={pixels}: a picture has at least one; pass a positive number")
    if not ny * nx:
        raise HsiError(f"the data have {ny} x {nx} pixels: nothing to draw; select at least one")
    step = max(1, math.isqrt(ny * nx // pixels))
    while math.ceil(ny / step) * math.ceil(nx / step) > pixels:
        step += 1
    return step


def _on_map(layer: xr.DataArray) -> bool:
    """Whether y and x are places on a map. Without unit and CRS, coordinates that count by one are pixel numbers."""
    if not {schema.Y, schema.X} <= set(layer.coords):
        return False
    if schema.GRID_MAPPING in layer.coords or any("units" in layer[dim].attrs for dim in (schema.Y, schema.X)):
        return True
    return not all(np.all(np.diff(layer[dim].to_numpy()) == 1) for dim in (schema.Y, schema.X))


def _centres(layer: xr.DataArray, dim: str) -> Floats:
    """Return the coordinates of pixel centres along a dimension, or pixel numbers where it has none."""
    if dim in layer.coords and layer[dim].dims == (dim,):
        return np.asarray(layer[dim].to_numpy(), dtype=np.float64)
    return np.arange(layer.sizes[dim], dtype=np.float64)


def _spacing(centres: Floats, dim: str) -> float | None:
    """Return the signed size of a pixel, None for a single one. Raises HsiError for uneven spacing."""
    if centres.size == 1:
        return None
    spacing = float(centres[-1] - centres[0]) / (centres.size - 1)
    deviation = np.abs(centres - (centres[0] + spacing * np.arange(centres.size)))
    if spacing == 0 or not np.all(deviation <= UNEVEN * abs(spacing)):
        raise HsiError(f"coordinate {dim} is not evenly spaced, as a map needs: select a rectangle of pixels")
    return spacing


def _span(centres: Floats, spacing: float, step: int) -> _Span:
    start, stop = float(centres[0]) - spacing / 2, float(centres[-1]) + spacing / 2
    count = math.ceil(centres.size / step)
    divides = count * step == centres.size
    return _Span(start, stop, stop if divides else start + count * step * spacing)


def _label(layer: xr.DataArray, dim: str) -> str:
    """Return the label of an axis, with the unit of its coordinate."""
    attrs = layer[dim].attrs
    unit = str(attrs.get("units", ""))
    if unit.startswith("degree"):
        return ("latitude" if dim == schema.Y else "longitude") + " (°)"
    name = "northing" if dim == schema.Y else "easting"
    # Without units on the coordinates, metres cannot be told from degrees.
    return f"{name} ({unit})" if unit else dim
