"""Stored chunks of a labelled array, whatever the file."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class DecodeCounter:
    """Chunks and decoded bytes of this process so far; tests and run.json take differences."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.chunks = 0
        self.bytes = 0

    def add(self, chunks: int, size: int) -> None:
        with self._lock:
            self.chunks += chunks
            self.bytes += size

    def now(self) -> tuple[int, int]:
        with self._lock:
            return self.chunks, self.bytes


DECODED = DecodeCounter()
Selection = slice | NDArray[np.intp]


def by_chunk(positions: NDArray[np.intp], size: int) -> dict[int, tuple[Selection, Selection]]:
    """Which chunks a list of positions touches: chunk number -> (places in the output, places in the chunk)."""
    number = positions // size
    out: dict[int, tuple[Selection, Selection]] = {}
    for n in np.unique(number):
        to = np.flatnonzero(number == n)
        out[int(n)] = as_slice(to), as_slice(positions[to] - n * size)
    return out


def as_slice(positions: NDArray[np.intp]) -> Selection:
    """A slice where positions follow one another: copying by it is several times faster than by a list."""
    if (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def take(block: NDArray[Any], at: Sequence[Selection]) -> NDArray[Any]:
    """The outer selection of a block: slices first, which copy nothing."""
    block = block[tuple(chosen if isinstance(chosen, slice) else slice(None) for chosen in at)]
    for axis, chosen in enumerate(at):
        if not isinstance(chosen, slice):
            block = block.take(chosen, axis=axis)
    return block


def put(out: NDArray[Any], at: Sequence[Selection], values: NDArray[Any]) -> None:
    if all(isinstance(chosen, slice) for chosen in at):
        out[tuple(at)] = values
    else:
        lists = (np.arange(c.start, c.stop) if isinstance(c, slice) else c for c in at)
        out[np.ix_(*lists)] = values
