"""Read the grid of a NEON file from its map info, its extent and its CRS, and check them against each other."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from hsichunk.errors import HsiError, HsiWarning
from hsichunk.grid import Geotransform, Grid
from hsichunk.readers.hdf5_names import attribute, dataset_in, dataset_text
from hsichunk.readers.model import Source


@dataclass(frozen=True)
class _Place(Geotransform):
    """Where pixels lie by the map info, or by the extent."""

    epsg: int | None = None
    """the EPSG code of the map info's zone; None where it names none, or another datum than WGS 84"""


def read_grid(path: str, system: h5py.Group | None, data: h5py.Dataset) -> tuple[Grid, Source]:
    """Read the grid of the dataset Reflectance_Data from the group Coordinate_System (None where it is absent).

    The source is a fallback, and a warning (HsiWarning) says so, where Spatial_Extent_meters replaces the map info, or
    the map info's zone the EPSG code. Raises HsiError where nothing states the place of the pixels, where it is not on
    a north-up grid in metres, and where map info and extent contradict each other.
    """
    info = dataset_text(dataset_in(system, "map_info"))
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
    epsg = _code(dataset_text(dataset_in(system, "epsg_code", "epsg")))
    wkt = dataset_text(dataset_in(system, "coordinate_system_string"))
    if epsg is None and not wkt:
        epsg = place.epsg
        instead = f"taken from Map_Info: EPSG {epsg}" if epsg else "results will carry no coordinate reference system"
        warnings.warn(f"{path}: no EPSG code; {instead}", HsiWarning, stacklevel=2)
        source = Source.FALLBACK
    return Grid(place.left, place.top, place.dx, place.dy, epsg, None if epsg is not None else wkt or None), source


def _check_extent(path: str, data: h5py.Dataset, place: _Place) -> None:
    """Raise HsiError where Spatial_Extent_meters contradicts the map info by more than 1.5 pixels."""
    value = attribute(data, "spatial_extent_meters", "spatial_extent")
    if value is None or np.size(value) != 4:
        return
    rows, cols = data.shape[:2]
    expected = (place.left, place.left + cols * place.dx, place.top - rows * place.dy, place.top)
    extent = [float(edge) for edge in np.ravel(value)]
    sizes = (place.dx, place.dx, place.dy, place.dy)
    # an extent of pixel centres instead of edges is half a pixel off
    if not all(abs(edge - other) <= 1.5 * size for edge, other, size in zip(extent, expected, sizes, strict=True)):
        raise HsiError(
            f"{path}: Spatial_Extent_meters is {_metres(extent)}, but Map_Info and {rows} x {cols} pixels make "
            f"{_metres(expected)}; download the file again, or correct or delete the attribute"
        )


def _metres(values: Sequence[float]) -> str:
    """Return coordinates in metres as text."""
    return ", ".join(f"{value:.10g}" for value in values)


def _code(text: str | None) -> int | None:
    """Return the EPSG code of a text such as 32618, EPSG:32618 or 32618.0; None for any other."""
    digits = (text or "").lower().removeprefix("epsg:").removesuffix(".0").strip()
    return int(digits) if digits.isdecimal() else None


def _map_info(path: str, info: str) -> _Place:
    """Return the place of the pixels by ENVI's map info.

    Its fields are: projection, column and row of a reference pixel (1-based), easting and northing of that pixel's
    upper left corner, pixel width and height, UTM zone, North or South, datum. Raises HsiError for a turned grid, and
    for text that is no map info.
    """
    fields = [field.strip() for field in info.strip("{} \n").split(",")]
    try:
        column, row, east, north, dx, dy = (float(field) for field in fields[1:7])
        turned = [text for text in fields if text.lower().startswith("rotation") and float(text.split("=")[1]) != 0]
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


def _extent(path: str, data: h5py.Dataset) -> _Place:
    """Return the place of the pixels by Spatial_Extent_meters (xmin, xmax, ymin, ymax), with a warning.

    Raises HsiError where it is absent.
    """
    value = attribute(data, "spatial_extent_meters", "spatial_extent")
    if value is None or np.size(value) != 4:
        raise HsiError(f"{path}: neither Map_Info nor Spatial_Extent_meters; the place of the pixels is unknown")
    xmin, xmax, ymin, ymax = (float(edge) for edge in np.ravel(value))
    warnings.warn(f"{path}: no Map_Info; grid taken from Spatial_Extent_meters", HsiWarning, stacklevel=2)
    rows, cols = data.shape[:2]
    return _Place(xmin, ymax, (xmax - xmin) / cols, (ymax - ymin) / rows)
