"""Stored chunks with the kept bands, scale and no-data value: what the pass works on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hsichunk.array_types import Bools, DaskToken, Int16s, Numbers, Positions
from hsichunk.chunks.array import ChunkedArray


@dataclass(frozen=True, eq=False)
class Counts:
    """Stored counts (y, x, band) with the bands that are kept, and how to read them."""

    stored: ChunkedArray
    bands: Positions
    """(L,) kept bands, ascending"""
    scale: float
    """counts per unit reflectance"""
    no_data: int
    """the count that stands for no data"""

    def __dask_tokenize__(self) -> DaskToken:
        return (self.stored.__dask_tokenize__(), self.bands.tobytes(), self.scale, self.no_data)

    def gather(self, rows: Positions, cols: Positions, threads: int, bad: Bools | None = None) -> Numbers:
        """Return stored counts (m, L) of pixels (rows[i], cols[i]) in the kept bands.

        Decodes each chunk that holds one once. A chunk that cannot be decoded ends this with CorruptChunk; with `bad`
        (m,) its pixels are set in `bad` instead, and hold no data.
        """
        values = self.stored.gather(self.bands, rows, cols, threads, bad)
        if bad is not None:
            values[bad] = self.no_data
        return values

    def pixels(self, rows: Positions, cols: Positions, threads: int, corrupt: bool) -> tuple[Numbers, Bools]:
        """Return counts as `gather` does, and which pixels (m,) hold data in every band.

        With `corrupt`, pixels of chunks that cannot be decoded hold none, instead of ending this with CorruptChunk.
        """
        bad = np.zeros(len(rows), np.bool_)
        values = self.gather(rows, cols, threads, bad if corrupt else None)
        return values, ~(values == self.no_data).any(1) & ~bad


def chunks_along(bands: Positions, depth: int) -> int:
    """Return how many chunks of `depth` bands hold one of `bands`."""
    return len(np.unique(bands // depth))


class BandRun(NamedTuple):
    """Kept bands that lie side by side in a chunk."""

    first: int
    """index in the chunk of the first of them"""
    bands: int
    """how many they are"""
    kept: int
    """index of the first of them among the kept bands"""


Runs = Iterable[tuple[int, int, int]]
"""the runs of kept bands of a chunk, each as the three numbers of a `BandRun`"""


def marker(no_data: int | None) -> int:
    """Return the no-data count as kernels take it: where there is none, a number that no count equals."""
    from hsichunk.kernels import count_sums

    return count_sums.NEVER if no_data is None else no_data


def readonly(counts: Int16s) -> Int16s:
    """Return a contiguous, read-only view, as decoded bytes are: kernels are then compiled for one kind of array."""
    view = np.ascontiguousarray(counts).view()
    view.flags.writeable = False
    return view
