"""Masks from rasters of the user that lie on the grid of the tiles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hsichunk.errors import HsiError, one_line

if TYPE_CHECKING:
    from hsichunk.array_types import Bools, Positions
    from hsichunk.readers.model import TileFile

ALIGNED = 1e-3  # pixels that a grid may be off, here as between tiles


def crs_of(file: TileFile, path: str) -> Any:
    """The CRS of a tile, for the mask by a file."""
    from rasterio.crs import CRS

    if file.grid.epsg is None and not file.grid.wkt:
        raise HsiError(f"{file.path}: has no coordinate reference system, which a mask by {path} needs")
    return CRS.from_epsg(file.grid.epsg) if file.grid.epsg is not None else CRS.from_wkt(file.grid.wkt)


@dataclass(frozen=True)
class RasterMask:
    """Pixels where a raster of one band is neither zero nor no-data; none outside it."""

    path: str

    def check(self, file: TileFile) -> None:
        from rasterio.errors import NotGeoreferencedWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # refused, since it has no CRS
            with self._opened() as source:
                self._check_grid(file, source)

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        from rasterio.windows import Window

        out = np.zeros((len(rows), len(cols)), np.bool_)
        with self._opened() as source:
            top, left = self._check_grid(file, source)
            to_rows, of_rows = _within(rows + top, source.height)
            to_cols, of_cols = _within(cols + left, source.width)
            if not of_rows.size or not of_cols.size:
                return out
            y, x = int(of_rows.min()), int(of_cols.min())
            window = Window(x, y, int(of_cols.max()) - x + 1, int(of_rows.max()) - y + 1)
            try:
                values = source.read(1, window=window, masked=True)
            except Exception as error:  # rasterio's own errors have no common base
                raise HsiError(f"{self.path}: cannot be read ({one_line(error)})") from error
        marked = (values.data != 0) & (values.data == values.data) & ~np.ma.getmaskarray(values)
        out[np.ix_(to_rows, to_cols)] = marked[np.ix_(of_rows - y, of_cols - x)]
        return out

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import rasterio
        from rasterio.errors import RasterioError

        try:
            source = rasterio.open(self.path)
        except RasterioError as error:
            raise HsiError(
                f"{self.path}: cannot be opened as a raster ({one_line(error)}); polygons are known by their name, as "
                ".geojson"
            ) from error
        with source:
            yield source

    def _check_grid(self, file: TileFile, source: Any) -> tuple[int, int]:
        """Row and column of the raster at the tile's first pixel."""
        from rasterio.enums import ColorInterp

        bands = sum(kind != ColorInterp.alpha for kind in source.colorinterp)
        if bands != 1:
            raise HsiError(f"{self.path}: has {bands} bands; expected one, nonzero where pixels are left out")
        crs, grid, place = crs_of(file, self.path), file.grid, source.transform
        if source.crs != crs:
            theirs = source.crs.to_string() if source.crs else "none"
            raise HsiError(
                f"{self.path} has CRS {theirs[:80]}, {file.path} {crs.to_string()[:80]}; "
                "warp the raster to the tile's grid"
            )
        top, left = (place.f - grid.top) / grid.dy, (grid.left - place.c) / grid.dx
        size = max(source.height, source.width, *file.reflectance.shape[:2])
        apart = max(abs(place.a - grid.dx) / grid.dx, abs(place.e + grid.dy) / grid.dy) * size
        if place.b or place.d or apart > ALIGNED:
            raise HsiError(
                f"{self.path} has pixels of ({place.a:g}, {place.e:g}), {file.path} of ({grid.dx:g}, {-grid.dy:g}); "
                "warp the raster to the tile's grid"
            )
        if max(abs(top - round(top)), abs(left - round(left))) > ALIGNED:
            raise HsiError(
                f"{self.path} begins at ({place.c:.3f}, {place.f:.3f}), {file.path} at ({grid.left:.3f}, "
                f"{grid.top:.3f}): {left:.3f} and {top:.3f} pixels apart; warp the raster to the tile's grid"
            )
        return round(top), round(left)


def _within(places: Positions, size: int) -> tuple[Positions, Positions]:
    """Which of the places lie in 0..size, and these places."""
    chosen = np.flatnonzero((places >= 0) & (places < size))
    return chosen, places[chosen]
