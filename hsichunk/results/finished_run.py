"""Open the folder of a finished run: its record, products, endmembers and map grid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.endmembers.endmember_csv import Endmembers, read_endmembers
from hsichunk.errors import HsiError
from hsichunk.grid import Geotransform
from hsichunk.run.folder import STORE
from hsichunk.run.record import RunRecord, read_record
from hsichunk.writers import zarr_store


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """The folder of a finished run."""

    out: Path
    record: RunRecord
    """the content of run.json"""
    products: xr.Dataset
    """stored maps, read when indexed"""
    endmembers: Endmembers

    @property
    def names(self) -> list[str]:
        """The names of the endmembers that a pixel is unmixed by."""
        return [str(name) for name in self.products[schema.ENDMEMBER].values]

    @property
    def metrics(self) -> list[str]:
        """The metrics whose scores and class maps are stored."""
        return [metric for metric, name in schema.CLASS_OF.items() if metric in self.products and name in self.products]

    @property
    def tiles(self) -> list[str]:
        """The paths of the tiles as the user gave them."""
        return list(self.record.options.tiles)

    @property
    def grid(self) -> MapGrid:
        """The grid of the maps."""
        return MapGrid.of(self.products)


@dataclass(frozen=True)
class MapGrid(Geotransform):
    """The grid of the maps: north up, y falling with the rows; or rows and columns only, y growing with the rows."""

    rows: int
    cols: int
    unit: str

    @classmethod
    def of(cls, products: xr.Dataset) -> MapGrid:
        """Return the grid of products, from the coordinates of their pixel centres."""
        x, y = products[schema.X].values, products[schema.Y].values
        dx = float(x[-1] - x[0]) / (len(x) - 1) if len(x) > 1 else 0.0
        dy = float(y[0] - y[-1]) / (len(y) - 1) if len(y) > 1 else 0.0
        dx, dy = dx or dy or 1.0, dy or dx or 1.0  # the pixels of a single row or column are square
        unit = str(products[schema.X].attrs.get("units", ""))
        return cls(float(x[0]) - dx / 2, float(y[0]) + dy / 2, dx, dy, len(y), len(x), unit)

    @property
    def right(self) -> float:
        """The x of the right edge of the rightmost pixel."""
        return self.left + self.cols * self.dx

    @property
    def bottom(self) -> float:
        """The y of the lower edge of the lowest pixel."""
        return self.top - self.rows * self.dy

    def pixel(self, x: float, y: float) -> tuple[int, int] | None:
        """Return the row and column of a place; None outside of the maps."""
        if not (np.isfinite(x) and np.isfinite(y)):
            return None
        row, col = int(np.floor((self.top - y) / self.dy)), int(np.floor((x - self.left) / self.dx))
        return (row, col) if 0 <= row < self.rows and 0 <= col < self.cols else None


def open_results(out: str | os.PathLike[str]) -> FinishedRun:
    """Open the folder of a finished run. Raises HsiError where `out` is no such folder."""
    out = Path(out)
    record = read_record(out)
    products = zarr_store.open_store(out / STORE, dask=False)
    needed = (schema.ABUNDANCE, schema.RMSE, *(schema.CLASS_OF[metric] for metric in record.options.metric))
    if missing := [name for name in needed if name not in products]:
        raise HsiError(f"{out / STORE}: has no {', '.join(missing)}; expected the store of a finished `hsichunk run`")
    return FinishedRun(out, record, products, read_endmembers(out / "endmembers.csv"))
