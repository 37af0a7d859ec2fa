"""The grid on which the pixels of a file lie, and its coordinate reference system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hsichunk.array_types import Floats
from hsichunk.errors import HsiError

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS


@dataclass(frozen=True)
class Geotransform:
    """Upper left corner and pixel size: of a north-up grid in projected metres, or of rows and columns."""

    left: float
    """easting of the left edge of the leftmost pixel"""
    top: float
    """northing of the upper edge of the topmost pixel"""
    dx: float
    """how far x grows from column to column"""
    dy: float
    """how far y falls from row to row: below 0 where y counts rows"""

    @property
    def north_up(self) -> bool:
        """Whether the grid lies on a map; y of an image without a place counts rows."""
        return self.dy > 0


@dataclass(frozen=True)
class Grid(Geotransform):
    """A north-up grid in projected metres and its reference system, or the rows and columns of an image without one."""

    epsg: int | None
    wkt: str | None
    """the CRS as the file has it, used where the file names no EPSG code"""

    def x(self, count: int) -> Floats:
        """Return the eastings (count,) of pixel centres, from west to east."""
        return np.asarray(self.left + (np.arange(count) + 0.5) * self.dx)

    def y(self, count: int) -> Floats:
        """Return the northings (count,) of pixel centres, from north to south."""
        return np.asarray(self.top - (np.arange(count) + 0.5) * self.dy)


def mapping_attrs(grid: Grid) -> dict[str, Any]:
    """Return CRS and GeoTransform as attributes of a CF grid mapping, in the form of rioxarray.

    Raises HsiError where the EPSG code or the WKT is no coordinate reference system.
    """
    attrs: dict[str, Any] = {}
    if grid.epsg is not None or grid.wkt:
        from pyproj import CRS
        from pyproj.exceptions import CRSError

        try:
            crs = CRS.from_epsg(grid.epsg) if grid.epsg is not None else CRS.from_wkt(grid.wkt or "")
        except CRSError as error:
            name = f"EPSG code {grid.epsg}" if grid.epsg is not None else f"{(grid.wkt or '')[:60]!r}"
            raise HsiError(f"{name} is no coordinate reference system; expected a code such as 32618") from error
        attrs = {**crs.to_cf(), "spatial_ref": crs.to_wkt()}
    # repr prints as many digits as a float needs, so that the grid can be read back from the text without loss
    attrs["GeoTransform"] = f"{grid.left!r} {grid.dx!r} 0.0 {grid.top!r} 0.0 {-grid.dy!r}"
    return attrs


def transform_and_crs(grid: Grid) -> tuple[Affine | None, CRS | None]:
    """Return the transform and the CRS for GDAL; both are None for an image without a place."""
    from affine import Affine
    from rasterio.crs import CRS

    if not grid.north_up:
        return None, None
    wkt = mapping_attrs(grid).get("spatial_ref")
    crs = None if wkt is None else CRS.from_wkt(wkt)
    return Affine(grid.dx, 0.0, grid.left, 0.0, -grid.dy, grid.top), crs
