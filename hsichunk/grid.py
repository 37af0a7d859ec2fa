"""Where the pixels of a file lie: the grid of ENVI's map info, as NEON writes it, and its reference system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.errors import HsiError

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
