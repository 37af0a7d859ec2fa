"""Masks from the user's rasters on the grid of the tiles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hsichunk.errors import HsiError, one_line

if TYPE_CHECKING:
    from rasterio import DatasetReader
    from rasterio.crs import CRS

    from hsichunk.array_types import Bools, Positions
    from hsichunk.readers.model import TileFile

ALIGNED = 1e-3  # pixels that the raster may lie off the grid, as tiles may


def crs_of(file: TileFile, path: str) -> CRS:
    """Return the CRS of a tile. Raises HsiError, naming the mask's file at `path`, where it has none."""
    from rasterio.crs import CRS

    if file.grid.epsg is None and not file.grid.wkt:
        raise HsiError(f"{file.path}: has no coordinate reference system, which a mask by {path} needs")
    return CRS.from_epsg(file.grid.epsg) if file.grid.epsg is not None else CRS.from_wkt(file.grid.wkt)


@dataclass(frozen=True)
class RasterMask:
    """Pixels where a raster of one band is neither zero nor no-data; pixels outside the raster are kept."""

    path: str

    def check(self, file: TileFile) -> None:
        from rasterio.errors import NotGeoreferencedWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # _check_grid refuses it: it has no CRS
            with self._opened() as source:
                self._check_grid(file, source)

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        from rasterio.windows import Window

        out = np.zeros((len(rows), len(cols)), np.bool_)
        with self._opened() as source:
            top, left = self._check_grid(file, source)
            to_rows, raster_rows = _within(rows + top, source.height)
            to_cols, raster_cols = _within(cols + left, source.width)
            if not raster_rows.size or not raster_cols.size:
                return out
            y, x = int(raster_rows.min()), int(raster_cols.min())
            window = Window(x, y, int(raster_cols.max()) - x + 1, int(raster_rows.max()) - y + 1)
            try:
                values = source.read(1, window=window, masked=True)
            except Exception as error:  # rasterio's own errors have no common base
                raise HsiError(f"{self.path}: cannot be read ({one_line(error)})") from error
        marked = (values.data != 0) & (values.data == values.data) & ~np.ma.getmaskarray(values)
        out[np.ix_(to_rows, to_cols)] = marked[np.ix_(raster_rows - y, raster_cols - x)]
        return out

    @contextmanager
    def _opened(self) -> Iterator[DatasetReader]:
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

    def _check_grid(self, file: TileFile, source: DatasetReader) -> tuple[int, int]:
        """Return the row and column of the raster at the tile's first pixel. Raises HsiError for another grid."""
        from rasterio.enums import ColorInterp

        bands = sum(kind != ColorInterp.alpha for kind in source.colorinterp)
        if bands != 1:
            raise HsiError(f"{self.path}: has {bands} bands; expected one, nonzero where pixels are left out")
        crs, grid, transform = crs_of(file, self.path), file.grid, source.transform
        if source.crs != crs:
            raster_crs = source.crs.to_string() if source.crs else "none"
            raise HsiError(
                f"{self.path} has CRS {raster_crs[:80]}, {file.path} {crs.to_string()[:80]}; "
                "warp the raster to the tile's grid"
            )
        top, left = (transform.f - grid.top) / grid.dy, (grid.left - transform.c) / grid.dx
        size = max(source.height, source.width, *file.reflectance.shape[:2])
        apart = max(abs(transform.a - grid.dx) / grid.dx, abs(transform.e + grid.dy) / grid.dy) * size
        if transform.b or transform.d or apart > ALIGNED:
            raise HsiError(
                f"{self.path} has pixels of ({transform.a:g}, {transform.e:g}), "
                f"{file.path} of ({grid.dx:g}, {-grid.dy:g}); warp the raster to the tile's grid"
            )
        if max(abs(top - round(top)), abs(left - round(left))) > ALIGNED:
            raise HsiError(
                f"{self.path} begins at ({transform.c:.3f}, {transform.f:.3f}), {file.path} at ({grid.left:.3f}, "
                f"{grid.top:.3f}): {left:.3f} and {top:.3f} pixels apart; warp the raster to the tile's grid"
            )
        return round(top), round(left)


def _within(positions: Positions, size: int) -> tuple[Positions, Positions]:
    """Return the indices of the positions from 0 to `size` (excluded), and these positions."""
    chosen = np.flatnonzero((positions >= 0) & (positions < size))
    return chosen, positions[chosen]
