"""Process one window of a tile: decode its chunks, write store chunks. Runs in any worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
    bands: NDArray[np.intp]
    solvers: tuple[Solver, ...]
    """one for all tiles, or one a tile"""
    limits: dict[str, NDArray[np.float32]]
    """largest distance of each class, for the scores that get a class map on the way"""
    masks: Masks | None
    corrupt: bool
    """whether the pixels of a chunk that cannot be decoded are left out"""
    pass_rows: int
    strip_rows: int
    together: int

    def leave_out(self, place: PlacedTile, threads: int) -> LeaveOut:
        masks = self.masks
        if masks is None:
            return LeaveOut(corrupt=self.corrupt)
        flags = partial(masks.within, place.file, threads=threads, corrupt=self.corrupt)
        return LeaveOut(flags, len(masks.names), self.corrupt)


@dataclass(frozen=True)
class WindowTask:
    """A window of a tile, and the row from which it is still to be done."""

    tile: int
    number: int
    """of the window in the tile"""
    place: PlacedTile
    counts: Counts
    window: Window
    start: int

    @property
    def left(self) -> bool:
        """Whether anything is left to do."""
        return self.start < self.window.bottom

    def parts(self, start: int, pass_rows: int) -> Iterator[Window]:
        """The window from row `start` on, in parts whose chunks are decoded together: the passes of the plan."""
        rows = [start, self.window.bottom]
        if not is_small(self.counts):
            rows = edges(start, self.window.bottom, self.counts.stored.chunks[0], pass_rows)
        for top, bottom in pairwise(rows):
            yield Window(top, bottom, self.window.left, self.window.right)

    def to_decode(self, start: int, pass_rows: int) -> int:
        """Bytes that the window comes to from row `start` on."""
        cy, cx, depth = self.counts.stored.chunks
        wide = len(chunk_range(self.window.left, self.window.right, cx))
        parts = [part for part in self.parts(start, pass_rows) if start < part.bottom]
        high = sum(len(chunk_range(part.top, part.bottom, cy)) for part in parts)
        return high * wide * chunks_along(self.counts.bands, depth) * self.counts.stored.chunk_bytes


def run_window(settings: PassSettings, task: WindowTask, threads: int, note: Note, guard: Guard = unguarded) -> Tally:
    """Solve what is left of a window strip by strip, each noted once it is on the disk; the tally of all strips."""
    solver = settings.solvers[min(task.tile, len(settings.solvers) - 1)]
    writer = StripWriter(settings.store, settings.limits, task.place, task.window, task.start, note, guard)
    leave_out, tally = settings.leave_out(task.place, threads), Tally()
    for part in task.parts(task.start, settings.pass_rows):
        sizes = settings.strip_rows, settings.together
        for strip in stream_window(task.counts, solver, part, threads, *sizes, leave_out):
            writer.add(*strip)
            tally.add(strip[2])
    return tally


def windows_of(place: PlacedTile, counts: Counts) -> list[Window]:
    """The windows of a tile, cut where large columns meet side by side: so that strips come from top to bottom."""
    if is_small(counts):
        return list(place.owned)
    wide = counts.stored.chunks[1]
    return [
        Window(window.top, window.bottom, left, right)
        for window in place.owned
        for left, right in pairwise(cuts(window.left, window.right, wide))
    ]


def edges(start: int, stop: int, period: int, step: int) -> list[int]:
    """Cuts between start and stop, at multiples of `step` from each multiple of `period` on."""
    inner = {at + s for at in range(start // period * period, stop, period) for s in range(0, period, step)}
    return [start, *sorted(at for at in inner if start < at < stop), stop]
