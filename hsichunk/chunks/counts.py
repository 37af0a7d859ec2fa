"""Stored chunks with the kept bands, scale and no-data value: what the pass works on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import ChunkedArray


@dataclass(frozen=True, eq=False)
class Counts:
    """Stored counts (y, x, band) with the bands that are kept, and how to read them."""

    stored: ChunkedArray
    bands: NDArray[np.intp]
    """(L,) kept bands, ascending"""
    scale: float
    no_data: int

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.stored.__dask_tokenize__(), self.bands.tobytes(), self.scale, self.no_data)

    def gather(
        self,
        rows: NDArray[np.intp],
        cols: NDArray[np.intp],
        threads: int,
        bad: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """Stored counts of pixels (rows[i], cols[i]) in the kept bands (m, L); decodes each chunk that holds one once.

        With `bad` (m,) pixels of a chunk that cannot be decoded are set in it and hold no data, instead of ending with
        CorruptChunk.
        """
        values = self.stored.gather(self.bands, rows, cols, threads, bad)
        if bad is not None:
            values[bad] = self.no_data
        return values

    def pixels(
        self, rows: NDArray[np.intp], cols: NDArray[np.intp], threads: int, corrupt: bool
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """As `gather`, and which pixels (m,) hold data in every band; with `corrupt` those of bad chunks do not."""
        bad = np.zeros(len(rows), np.bool_)
        values = self.gather(rows, cols, threads, bad if corrupt else None)
        return values, ~(values == self.no_data).any(1) & ~bad


def chunks_along(bands: NDArray[np.intp], depth: int) -> int:
    """How many chunks of `depth` bands hold one of `bands`."""
    return len(np.unique(bands // depth))


Runs = Iterable[tuple[int, int, int]]
"""(first band in the chunk, bands, first kept band) of each run of kept bands"""


def marker(no_data: int | None) -> int:
    """The count that is no data, as kernels take it."""
    from hsichunk.kernels import count_sums

    return count_sums.NEVER if no_data is None else no_data


def readonly(counts: NDArray[np.int16]) -> NDArray[np.int16]:
    """The same, not to be written: decoded bytes are not, and one kind of array is one compilation."""
    view = np.ascontiguousarray(counts).view()
    view.flags.writeable = False
    return view
