"""Collect strips of products until they fill whole chunks of the store, then write those."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.windows import Window
from hsichunk.classification.labels import labels
from hsichunk.mosaic.site import PlacedTile
from hsichunk.unmixing.scoring import Products, Tally
from hsichunk.writers import zarr_blocks

if TYPE_CHECKING:
    import zarr

Note = Callable[[int, Tally], None]
"""Called with the row of the tile up to which everything is on the disk, and the tally of the rows since the last."""
Guard = Callable[["zarr.Group", slice, slice], AbstractContextManager[None]]
"""Keeps other writers out of the stored chunks that rows and columns of the site share with them."""


@contextmanager
def unguarded(group: zarr.Group, rows: slice, cols: slice) -> Iterator[None]:
    """The guard of a store that has no other writer: it does nothing."""
    yield


class StripWriter:
    """Collects the strips of one window of a tile until they fill rows of stored chunks, then writes those."""

    def __init__(
        self,
        store: Path,
        limits: dict[str, NDArray[np.float32]],
        tile: PlacedTile,
        window: Window,
        start: int,
        note: Note,
        guard: Guard = unguarded,
    ) -> None:
        import zarr

        self._group = zarr.open_group(store, mode="r+")
        self._limits, self._guard = limits, guard
        self._tile, self._window, self._note = tile, window, note
        rmse = self._group[schema.RMSE]
        assert isinstance(rmse, zarr.Array)
        self._chunk_rows = rmse.chunks[0]
        self._written = start
        """row of the tile up to which everything is stored"""
        self._waiting: list[tuple[Window, Products, Tally]] = []
        """strips of which some rows are not stored"""

    def add(self, strip: Window, products: Products, tally: Tally) -> None:
        """Take the next strip, as wide as the window; strips come from top to bottom."""
        self._waiting.append((strip, products, tally))
        edge = (self._tile.top + strip.bottom) // self._chunk_rows * self._chunk_rows - self._tile.top
        if strip.bottom == self._window.bottom:
            edge = strip.bottom
        if edge > self._written:
            self._write(edge)

    def _write(self, edge: int) -> None:
        """Write all rows above `edge`; note the strips of which every row is stored: a run resumes below them."""
        top = self._written
        rows = slice(self._tile.top + top, self._tile.top + edge)
        cols = slice(self._tile.left + self._window.left, self._tile.left + self._window.right)
        with self._guard(self._group, rows, cols):
            for name in self._waiting[0][1]:
                pieces = [
                    products[name][..., max(top - strip.top, 0) : edge - strip.top, :]
                    for strip, products, _ in self._waiting
                ]
                block = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-2)
                blocks: dict[str, NDArray[np.generic]] = {name: block}
                if name in self._limits:
                    blocks[schema.CLASS_OF[name]] = labels(name, block, self._limits[name])
                zarr_blocks.write_block(self._group, blocks, rows, cols, durable=True, whole_chunks=False)
        self._written = edge
        stored = Tally()
        bottom = None
        while self._waiting and self._waiting[0][0].bottom <= edge:
            strip, _, tally = self._waiting.pop(0)
            stored.add(tally)
            bottom = strip.bottom
        if bottom is not None:
            self._note(bottom, stored)
