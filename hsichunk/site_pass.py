"""The pass over all tiles: every window of each through `stream_window`, its strips stored and noted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hsichunk.column import is_small, stream_window
from hsichunk.counts import Counts, Window
from hsichunk.job import Job
from hsichunk.ledger import Entry
from hsichunk.outputs import StripWriter
from hsichunk.progress import ticking
from hsichunk.scoring import Tally
from hsichunk.site import Place
from hsichunk.solver import Solver
from hsichunk.stored import DECODED


@dataclass(frozen=True)
class Stint:
    """A window of a tile, and the row from which it is still to be done."""

    tile: int
    number: int
    """of the window in the tile"""
    place: Place
    counts: Counts
    window: Window
    start: int

    @property
    def left(self) -> bool:
        """Whether anything is left to do."""
        return self.start < self.window.bottom

    def parts(self, start: int, pass_rows: int) -> Iterator[Window]:
        """The window from row `start` on, in parts whose chunks are decoded together: the passes of the plan."""
        cuts = [start, self.window.bottom]
        if not is_small(self.counts):
            cuts = edges(start, self.window.bottom, self.counts.stored.chunks[0], pass_rows)
        for top, bottom in pairwise(cuts):
            yield Window(top, bottom, self.window.left, self.window.right)

    def to_decode(self, start: int, pass_rows: int) -> int:
        """Bytes that the window comes to from row `start` on."""
        cy, cx, depth = self.counts.stored.chunks
        wide = -(-self.window.right // cx) - self.window.left // cx
        high = sum(
            -(-part.bottom // cy) - part.top // cy for part in self.parts(start, pass_rows) if start < part.bottom
        )
        return high * wide * len(np.unique(self.counts.bands // depth)) * self.counts.stored.chunk_bytes


def stints(job: Job) -> tuple[list[Stint], Tally]:
    """Every window of every tile, with what the ledger says of it; and what came of the rows that are done."""
    tally, done = Tally(), {}
    for entry in job.ledger.entries():
        done[entry.tile, entry.window] = entry.bottom
        tally.add(entry.tally)
    out = []
    for tile, place in enumerate(job.site.places):
        counts = place.counts(job.bands)
        for number, window in enumerate(windows(place, counts)):
            out.append(Stint(tile, number, place, counts, window, done.get((tile, number), window.top)))
    return out, tally


def run_pass(job: Job, solver: Solver) -> Tally:
    """Does what is left, strip by strip, each noted once it is on the disk; gives back what all strips came to."""
    todo, tally = stints(job)
    rows = job.plan.pass_rows
    whole = sum(stint.to_decode(stint.window.top, rows) for stint in todo)
    left = sum(stint.to_decode(stint.start, rows) for stint in todo)
    before = DECODED.now()[1]

    def tell() -> None:
        job.progress("pass", min(whole - left + DECODED.now()[1] - before, whole), whole)

    tell()
    with ticking(tell):
        for stint in todo:
            if stint.left:
                _do(job, solver, stint, tally)
    job.progress("pass", whole, whole)
    return tally


def _do(job: Job, solver: Solver, stint: Stint, tally: Tally) -> None:
    def note(bottom: int, share: Tally) -> None:
        job.ledger.add(Entry(stint.tile, stint.number, bottom, share))

    writer = StripWriter(job, stint.place, stint.window, stint.start, note)
    for part in stint.parts(stint.start, job.plan.pass_rows):
        plan, threads = job.plan, job.options.threads
        for strip in stream_window(stint.counts, solver, part, threads, plan.strip_rows, plan.together):
            writer.add(*strip)
            tally.add(strip[2])


def windows(place: Place, counts: Counts) -> list[Window]:
    """The windows of a tile, cut where large columns meet side by side: so that strips come from top to bottom."""
    if is_small(counts):
        return list(place.owned)
    wide = counts.stored.chunks[1]
    return [
        Window(window.top, window.bottom, left, right)
        for window in place.owned
        for left, right in pairwise(edges(window.left, window.right, wide, wide))
    ]


def edges(start: int, stop: int, period: int, step: int) -> list[int]:
    """Cuts between start and stop, at multiples of `step` from each multiple of `period` on."""
    inner = {at + s for at in range(start // period * period, stop, period) for s in range(0, period, step)}
    return [start, *sorted(at for at in inner if start < at < stop), stop]
