"""Process one window of a tile: decode its stored chunks and write its products to the Zarr store.

`run.site_pass` calls it in this process, `run.cluster` on a worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Positions
from hsichunk.chunks.columns import is_small
from hsichunk.chunks.counts import Counts, chunks_along
from hsichunk.chunks.windows import Window, chunk_range, cuts
from hsichunk.mosaic.site import PlacedTile
from hsichunk.run.strip_writer import Guard, Note, StripWriter, unguarded
from hsichunk.unmixing.left_out import LeaveOut
from hsichunk.unmixing.scoring import Tally
from hsichunk.unmixing.solver import Solver
from hsichunk.unmixing.stored_pass import stream_window

if TYPE_CHECKING:
    from hsichunk.cube.masks.masks import Masks


@dataclass(frozen=True, eq=False)
class PassSettings:
    """What all windows of a run have in common: store, solvers, limits, sizes. Pickles to any worker."""

    store: Path
    bands: Positions
    """positions of the kept bands in the file, for workers, which make the `counts` of a task anew"""
    solvers: tuple[Solver, ...]
    """one for all tiles, or one a tile"""
    limits: dict[str, NDArray[np.float32]]
    """(k,) threshold of each class, by metric, for the scores whose class maps the pass makes"""
    masks: Masks | None
    corrupt: bool
    """whether the pixels of a chunk that cannot be decoded are left out"""
    pass_rows: int
    """rows of a large column whose sums are held at once"""
    strip_rows: int
    """rows of products computed at a time"""
    together: int
    """band chunks of a large column held at a time"""

    def leave_out(self, tile: PlacedTile, threads: int) -> LeaveOut:
        """Return which pixels of a tile get no products: those under masks, those of bad chunks where that is asked."""
        masks = self.masks
        if masks is None:
            return LeaveOut(corrupt=self.corrupt)
        flags = partial(masks.within, tile.file, threads=threads, corrupt=self.corrupt)
        return LeaveOut(flags, len(masks.names), self.corrupt)


@dataclass(frozen=True)
class WindowTask:
    """A window of a tile, and the row from which it is still to be done."""

    tile_number: int
    """of the tile in the site"""
    number: int
    """of the window in the tile"""
    tile: PlacedTile
    counts: Counts
    window: Window
    start: int
    """row of the tile from which on nothing is stored"""

    @property
    def unfinished(self) -> bool:
        return self.start < self.window.bottom

    def parts(self, start: int, pass_rows: int) -> Iterator[Window]:
        """Yield the window from row `start` on, in parts whose chunks are decoded together: the passes of the plan."""
        rows = [start, self.window.bottom]
        if not is_small(self.counts):
            rows = edges(start, self.window.bottom, self.counts.stored.chunks[0], pass_rows)
        for top, bottom in pairwise(rows):
            yield Window(top, bottom, self.window.left, self.window.right)

    def to_decode(self, start: int, pass_rows: int) -> int:
        """Return the decoded bytes of all chunks that the window needs from row `start` on."""
        cy, cx, depth = self.counts.stored.chunks
        across = len(chunk_range(self.window.left, self.window.right, cx))
        parts = [part for part in self.parts(start, pass_rows) if start < part.bottom]
        down = sum(len(chunk_range(part.top, part.bottom, cy)) for part in parts)
        return down * across * chunks_along(self.counts.bands, depth) * self.counts.stored.chunk_bytes


def run_window(settings: PassSettings, task: WindowTask, threads: int, note: Note, guard: Guard = unguarded) -> Tally:
    """Solve the rest of a window strip by strip, note each strip once it is on the disk, and return their tally."""
    solver = settings.solvers[min(task.tile_number, len(settings.solvers) - 1)]
    writer = StripWriter(settings.store, settings.limits, task.tile, task.window, task.start, note, guard)
    leave_out, tally = settings.leave_out(task.tile, threads), Tally()
    for part in task.parts(task.start, settings.pass_rows):
        sizes = settings.strip_rows, settings.together
        for window, products, strip_tally in stream_window(task.counts, solver, part, threads, *sizes, leave_out):
            writer.add(window, products, strip_tally)
            tally.add(strip_tally)
    return tally


def windows_of(tile: PlacedTile, counts: Counts) -> list[Window]:
    """Return the windows of a tile, cut where large columns meet side by side: so strips come from top to bottom."""
    if is_small(counts):
        return list(tile.owned)
    width = counts.stored.chunks[1]
    return [
        Window(window.top, window.bottom, left, right)
        for window in tile.owned
        for left, right in pairwise(cuts(window.left, window.right, width))
    ]


def edges(start: int, stop: int, period: int, step: int) -> list[int]:
    """Return start, stop and the cuts between them: at multiples of `step` counted from each multiple of `period`."""
    inner = {base + s for base in range(start // period * period, stop, period) for s in range(0, period, step)}
    return [start, *sorted(row for row in inner if start < row < stop), stop]
