"""The grid of a NEON file: its map info, its extent and its CRS, checked against each other."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hsichunk.errors import HsiError, HsiWarning
from hsichunk.grid import Geotransform, Grid
from hsichunk.readers.hdf5_names import attribute, child, text
from hsichunk.readers.model import Source


@dataclass(frozen=True)
class _Place(Geotransform):
    epsg: int | None = None
    """what the map info says of the CRS"""


def read_grid(path: str, system: Any, data: Any) -> tuple[Grid, Source]:
    """The grid of Reflectance_Data `data` from the group Coordinate_System `system` (None when absent).

    A fallback where a part of it stands in for what the file should say.

    Raises HsiError where nothing tells the place of the pixels, or where it is none on a north-up grid in metres; warns
    where Spatial_Extent_meters stands in for the map info, or the map info for the EPSG code.
    """
    info = text(child(system, "map_info"))
    place = _extent(path, data) if info is None else _map_info(path, info)
    finite = all(map(math.isfinite, (place.left, place.top)))
    sizes = all(0.01 <= size < 1e4 for size in (place.dx, place.dy))
    if not (finite and sizes and max(abs(place.left), abs(place.top)) < 1e8):
        raise HsiError(
            f"{path}: origin ({place.left:g}, {place.top:g}) and pixel size ({place.dx:g}, {place.dy:g}); "
            "expected a grid in projected metres"
        )
    source = Source.FALLBACK if info is None else Source.FILE
    if info is not None:
        _check_extent(path, data, place)
    epsg, wkt = _code(text(child(system, "epsg_code", "epsg"))), text(child(system, "coordinate_system_string"))
    if epsg is None and not wkt:
        epsg = place.epsg
        found = f"taken from Map_Info: EPSG {epsg}" if epsg else "results will carry no coordinate reference system"
        warnings.warn(f"{path}: no EPSG code; {found}", HsiWarning, stacklevel=2)
        source = Source.FALLBACK
    return Grid(place.left, place.top, place.dx, place.dy, epsg, None if epsg is not None else wkt or None), source


def _check_extent(path: str, data: Any, place: _Place) -> None:
    """Raises HsiError where the file says twice where its pixels lie, and not the same."""
    value = attribute(data, "spatial_extent_meters", "spatial_extent")
    if value is None or np.size(value) != 4:
        return
    rows, cols = data.shape[:2]
    expected = (place.left, place.left + cols * place.dx, place.top - rows * place.dy, place.top)
    found = [float(v) for v in np.ravel(value)]
    steps = (place.dx, place.dx, place.dy, place.dy)
    # pixel centres instead of edges are half a pixel off
    if not all(abs(f - e) <= 1.5 * step for f, e, step in zip(found, expected, steps, strict=True)):
        raise HsiError(
            f"{path}: Spatial_Extent_meters is {_metres(found)}, but Map_Info and {rows} x {cols} pixels make "
            f"{_metres(expected)}; download the file again, or correct or delete the attribute"
        )


def _metres(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.10g}" for value in values)


def _code(words: str | None) -> int | None:
    """An EPSG code out of its text: 32618, EPSG:32618 or 32618.0."""
    digits = (words or "").lower().removeprefix("epsg:").removesuffix(".0").strip()
    return int(digits) if digits.isdecimal() else None


def _map_info(path: str, info: str) -> _Place:
    """ENVI's map info: projection, reference pixel (1-based, its upper left corner), its place, pixel size, zone."""
    fields = [field.strip() for field in info.strip("{} \n").split(",")]
    try:
        column, row, east, north, dx, dy = (float(field) for field in fields[1:7])
        turned = [f for f in fields if f.lower().startswith("rotation") and float(f.split("=")[1]) != 0]
    except (ValueError, IndexError):
        raise HsiError(
            f"{path}: Map_Info is {info[:80]!r}; expected ENVI's UTM, 1, 1, easting, northing, dx, dy, ..."
        ) from None
    if turned:
        raise HsiError(f"{path}: the grid is turned ({turned[0]}); only north-up grids are read")
    epsg = None
    if fields[0].upper() == "UTM" and len(fields) > 9 and fields[7].isdecimal() and 1 <= int(fields[7]) <= 60:
        wgs84 = "wgs" in fields[9].lower() and "84" in fields[9]
        epsg = (32600 if fields[8].lower().startswith("n") else 32700) + int(fields[7]) if wgs84 else None
    return _Place(east - (column - 1) * dx, north + (row - 1) * dy, dx, dy, epsg)


def _extent(path: str, data: Any) -> _Place:
    value = attribute(data, "spatial_extent_meters", "spatial_extent")
    if value is None or np.size(value) != 4:
        raise HsiError(f"{path}: neither Map_Info nor Spatial_Extent_meters; the place of the pixels is unknown")
    xmin, xmax, ymin, ymax = (float(v) for v in np.ravel(value))
    warnings.warn(f"{path}: no Map_Info; grid taken from Spatial_Extent_meters", HsiWarning, stacklevel=2)
    rows, cols = data.shape[:2]
    return _Place(xmin, ymax, (xmax - xmin) / cols, (ymax - ymin) / rows)
