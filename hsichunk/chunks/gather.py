"""Single pixels of stored counts, each chunk that holds one decoded once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.counts import Counts
from hsichunk.errors import CorruptChunk
from hsichunk.threads import in_parallel


def read(
    counts: Counts, rows: NDArray[np.intp], cols: NDArray[np.intp], threads: int, corrupt: bool
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Stored counts of pixels (m, L) and which hold data in every band; with `corrupt` those of bad chunks do not."""
    bad = np.zeros(len(rows), np.bool_)
    values = gather(counts, rows, cols, threads, bad if corrupt else None)
    return values, ~(values == counts.no_data).any(1) & ~bad


def gather(
    counts: Counts,
    rows: NDArray[np.intp],
    cols: NDArray[np.intp],
    threads: int,
    bad: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Stored counts of pixels (rows[i], cols[i]) in the kept bands (m, L); decodes each chunk that holds one once.

    With `bad` (m,) pixels of a chunk that cannot be decoded are set in it, instead of ending with the error.
    """
    stored = counts.stored
    if (tiled := getattr(stored, "gather", None)) is not None:  # many tiles: each is asked for its own
        values: NDArray[Any] = tiled(counts.bands, rows, cols, threads, bad)
        return values
    cy, cx, depth = stored.chunks
    out = np.empty((len(rows), len(counts.bands)), stored.dtype.newbyteorder("="))
    column, inside = rows // cy * stored.grid[1] + cols // cx, rows % cy * cx + cols % cx
    order = np.argsort(column, kind="stable")
    starts = np.flatnonzero(np.diff(column[order], prepend=-1))
    lots = np.split(order, starts[1:])
    number = counts.bands // depth
    chunks = [(int(n), np.flatnonzero(number == n)) for n in np.unique(number)]
    # a column of many chunks is one job while there are plenty of columns, else each chunk is a job of its own
    jobs = [(lot, chunks) for lot in lots] if len(lots) >= 8 * threads else [(lot, [c]) for lot in lots for c in chunks]

    def read(job: tuple[NDArray[np.intp], list[tuple[int, NDArray[np.intp]]]]) -> None:
        lot, wanted = job
        place = (int(rows[lot[0]] // cy), int(cols[lot[0]] // cx))
        with stored.opened() as handle:
            stored.announce(handle, ((*place, n) for n, _ in wanted))
            for n, at in wanted:
                try:
                    chunk = stored.chunk(handle, (*place, n))
                except CorruptChunk:
                    if bad is None:
                        raise
                    bad[lot] = True
                    out[np.ix_(lot, at)] = counts.no_data
                    continue
                pixels = chunk.reshape(-1, depth).take(inside[lot], axis=0)
                out[np.ix_(lot, at)] = pixels[:, counts.bands[at] - n * depth]

    if len(rows):
        in_parallel(read, jobs, threads)
    return out
