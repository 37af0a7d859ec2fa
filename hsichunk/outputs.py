"""What a run stores: the empty store of a site, strips as whole chunks of it, and class maps from its scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema, zarr_store
from hsichunk.backend import with_grid
from hsichunk.classification import classify, score_range
from hsichunk.column import Products, Tally, Window
from hsichunk.options import Options
from hsichunk.site import Place, Site
from hsichunk.solver import Solver

Note = Callable[[int, Tally], None]
"""Called with the row of the tile up to which everything is on the disk, and what came of the rows since the last."""


def template(site: Site, solver: Solver) -> xr.Dataset:
    """The products of a whole site, labelled, without their values."""
    import dask.array as da

    variables: dict[str, Any] = {}
    for name in solver.products:
        stacked = name in schema.PER_ENDMEMBER
        dims = (schema.ENDMEMBER, schema.Y, schema.X) if stacked else (schema.Y, schema.X)
        shape = (*((solver.p,) if stacked else ()), site.rows, site.cols)
        variables[name] = (dims, da.empty(shape, chunks=-1, dtype=np.float32), schema.PRODUCT_ATTRS[name])
    coords = {
        schema.ENDMEMBER: (schema.ENDMEMBER, list(solver.names), {"long_name": "endmember"}),
        schema.Y: (schema.Y, site.grid.y(site.rows), schema.Y_ATTRS),
        schema.X: (schema.X, site.grid.x(site.cols), schema.X_ATTRS),
    }
    attrs = {"title": f"hsichunk products, {site.places[0].file.site}", "Conventions": "CF-1.11"}
    return with_grid(xr.Dataset(variables, coords, attrs), site.grid)


class StripWriter:
    """Collects the strips of one window of a tile until they fill rows of stored chunks, then writes those."""

    def __init__(self, store: Path, place: Place, window: Window, rows: int) -> None:
        import zarr

        self._group = zarr.open_group(store, mode="r+")
        self._place, self._window = place, window
        array: Any = self._group[schema.RMSE]
        self._side = array.chunks[0]
        self._rows = max(self._side, rows // self._side * self._side)
        self._parts: list[tuple[Window, Products]] = []
        self._tally = Tally()

    def add(self, part: Window, products: Products, tally: Tally, note: Note) -> None:
        """Takes the next strip; strips come from top to bottom, side by side where columns are narrower than the window."""
        if self._parts and part.left == self._window.left:
            self._write_filled(part.top, note)
        self._parts.append((part, products))
        self._tally.add(tally)

    def flush(self, note: Note) -> None:
        """Writes what is left."""
        if self._parts:
            self._write(self._window.bottom, note)

    def _write_filled(self, bottom: int, note: Note) -> None:
        """Writes down to the last whole chunk above `bottom`, once there is enough of it."""
        top = min(part.top for part, _ in self._parts)
        edge = (self._place.top + bottom) // self._side * self._side - self._place.top
        if edge - top >= self._rows or (edge > top and bottom - top >= self._rows):
            self._write(edge, note)

    def _write(self, bottom: int, note: Note) -> None:
        parts = [(p, v) for p, v in self._parts if p.top < bottom]
        top = min(p.top for p, _ in parts)
        left, right = min(p.left for p, _ in parts), max(p.right for p, _ in parts)
        block: dict[str, NDArray[np.float32]] = {}
        for name in parts[0][1]:
            first = parts[0][1][name]
            block[name] = np.full((*first.shape[:-2], bottom - top, right - left), np.nan, np.float32)
            for part, values in parts:
                high = min(part.bottom, bottom) - part.top
                to = slice(part.top - top, part.top - top + high)
                block[name][..., to, part.left - left : part.right - left] = values[name][..., :high, :]
        rows = slice(self._place.top + top, self._place.top + bottom)
        cols = slice(self._place.left + left, self._place.left + right)
        zarr_store.write_block(self._group, block, rows, cols, durable=True, whole=False)
        self._parts = [
            (Window(bottom, p.bottom, p.left, p.right), {n: a[..., bottom - p.top :, :] for n, a in v.items()})
            for p, v in self._parts
            if p.bottom > bottom
        ]
        note(bottom, self._tally)
        self._tally = Tally()


def add_classes(store: Path, options: Options) -> None:
    """Adds a class map for SAM and for SID to a store, from the scores in it."""
    scores = zarr_store.open_store(store)
    for name, thresholds in ((schema.SAM, options.sam_threshold), (schema.SID, options.sid_threshold)):
        threshold = thresholds[0] if len(thresholds) == 1 else list(thresholds)
        distance = scores[name]
        # the range first, then the labels: both stream, and nothing is held between them
        limits = score_range(distance).compute() if options.relative else None
        zarr_store.add(store, classify(distance, threshold, relative=options.relative, limits=limits))
