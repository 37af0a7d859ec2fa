"""Where the pixels of a file lie: the grid of ENVI's map info, as NEON writes it, and its reference system."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.errors import HsiError, HsiWarning
from hsichunk.hdf5_names import attribute, child, text

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS


@dataclass(frozen=True)
class Geotransform:
    """Upper left corner and pixel size: north up in projected metres, or rows and columns alone."""

    left: float
    """easting of the left edge of the leftmost pixel"""
    top: float
    """northing of the upper edge of the topmost pixel"""
    dx: float
    dy: float
    """how far y falls from row to row: below 0 where it counts rows"""

    @property
    def north_up(self) -> bool:
        """False of an image that lies nowhere: its y counts rows."""
        return self.dy > 0


@dataclass(frozen=True)
class Grid(Geotransform):
    """Where the pixels lie: a north-up grid in projected metres, or that of an image that lies nowhere."""

    epsg: int | None
    wkt: str | None
    """the CRS in the file's own words, used where it names no EPSG code"""

    def x(self, count: int) -> NDArray[np.float64]:
        """Eastings of pixel centres."""
        return np.asarray(self.left + (np.arange(count) + 0.5) * self.dx)

    def y(self, count: int) -> NDArray[np.float64]:
        """Northings of pixel centres, from north to south."""
        return np.asarray(self.top - (np.arange(count) + 0.5) * self.dy)


@dataclass(frozen=True)
class _Place(Geotransform):
    epsg: int | None = None
    """what the map info says of the CRS"""


def read_grid(path: str, system: Any, data: Any) -> Grid:
    """The grid of Reflectance_Data `data` from the group Coordinate_System `system` (None when absent).

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
    if info is not None:
        _check_extent(path, data, place)
    epsg, wkt = _code(text(child(system, "epsg_code", "epsg"))), text(child(system, "coordinate_system_string"))
    if epsg is None and not wkt:
        epsg = place.epsg
        found = f"taken from Map_Info: EPSG {epsg}" if epsg else "results will carry no coordinate reference system"
        warnings.warn(f"{path}: no EPSG code; {found}", HsiWarning, stacklevel=2)
    return Grid(place.left, place.top, place.dx, place.dy, epsg, None if epsg is not None else wkt or None)


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


def mapping_attrs(grid: Grid) -> dict[str, Any]:
    """CRS and GeoTransform as attributes of a CF grid mapping, as rioxarray has them.

    Raises HsiError for a CRS that is none.
    """
    attrs: dict[str, Any] = {}
    if grid.epsg is not None or grid.wkt:
        from pyproj import CRS
        from pyproj.exceptions import CRSError

        try:
            crs = CRS.from_epsg(grid.epsg) if grid.epsg is not None else CRS.from_wkt(grid.wkt or "")
        except CRSError as error:
            found = f"EPSG code {grid.epsg}" if grid.epsg is not None else f"{(grid.wkt or '')[:60]!r}"
            raise HsiError(f"{found} is no coordinate reference system; expected a code such as 32618") from error
        attrs = {**crs.to_cf(), "spatial_ref": crs.to_wkt()}
    # floats print with 17 digits where they need them, so that the grid survives the text
    attrs["GeoTransform"] = f"{grid.left!r} {grid.dx!r} 0.0 {grid.top!r} 0.0 {-grid.dy!r}"
    return attrs


def placed(grid: Grid) -> tuple[Affine | None, CRS | None]:
    """Transform and CRS for GDAL; None where pixels are counted, not measured."""
    from affine import Affine
    from rasterio.crs import CRS

    if not grid.north_up:
        return None, None
    words = mapping_attrs(grid).get("spatial_ref")
    crs = None if words is None else CRS.from_wkt(words)
    return Affine(grid.dx, 0.0, grid.left, 0.0, -grid.dy, grid.top), crs
