"""The contract of stored chunks, whatever the file: `ChunkedArray`, of which each storage has one implementation."""

from __future__ import annotations

import abc
import itertools
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.decoded_cache import ChunkCoords, KeptChunks
from hsichunk.errors import CorruptChunk
from hsichunk.threads import available, in_parallel


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


class ChunkedArray(abc.ABC):
    """A stored array: its shape and layout now, its chunks on demand, from any thread or process.

    A storage implements `opened` and `decode`; the rest follows from these two and may be overridden where the storage
    knows a better way. Threads share no open file. A copy pickles without locks and kept chunks. A file that changes
    after opening is refused with HsiError, not misread. tests/helpers/conformance.py checks what this contract
    promises, of any implementation.
    """

    keeps_chunks: ClassVar[bool] = True
    """whether a run keeps what its sample decodes of this storage for the pass"""

    def __init__(
        self,
        *,
        path: str,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[int, ...],
        stamp: tuple[int, int],
        stored_chunks: tuple[int, ...] | None = None,
        fill: NDArray[Any] | None = None,
        direct: bool = True,
    ) -> None:
        self.path = path
        """of the file, or its address"""
        self.name = name
        """of the variable, as errors name it"""
        self.shape = shape
        self.dtype = dtype
        """as stored, in the byte order of the file"""
        self.chunks = chunks
        """shape of the chunks that `chunk` gives"""
        self.stamp = stamp
        """bytes of the file, and the time of its last change or what stands for it at an address"""
        self.stored_chunks = stored_chunks
        """shape of the chunks that the file itself names; None where it knows none"""
        self.fill = fill
        """scalar: what chunks hold that were never written, and what sticks out of the array; None where unknown"""
        self.direct = direct
        """whether threads decode chunks side by side: not where HDF5 reads them, under its lock"""
        self.kept: KeptChunks | None = None
        """chunks that need not be decoded again, in this process alone"""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"kept": None}

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What tells these values from others: the same in every process, another for a file that has changed."""
        kind = f"hsichunk.{type(self).__name__}"
        return (kind, self.path, self.stamp, self.name, self.shape, str(self.dtype), self.chunks)

    @property
    def native(self) -> np.dtype[Any]:
        """The type of what is read: that of the file in this machine's byte order."""
        return self.dtype.newbyteorder("=")

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each dimension."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one decoded chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """Bytes of the chunks as they are stored; of the whole file where it does not tell."""
        return self.stamp[0]

    def identity(self) -> bytes:
        """What stands for the stored values in a run's fingerprint, without reading them.

        Where nothing else is known, that is the stamp: only the time of a file's last change tells other values.
        """
        return str(self.stamp).encode()

    def prepare(self) -> None:
        """Finds out now what all reading needs; this is where the libraries of a damaged file may crash."""
        with suppress(CorruptChunk), self.opened() as handle:  # the pass says what a bad chunk is worth
            self.chunk(handle, (0,) * len(self.shape))

    def check(self, no_data: int) -> None:  # noqa: B027  # most storages know nothing that could be wrong
        """Raises HsiError where chunks cannot lie as the file says; warns of chunks that hold anything but `no_data`
        because they were never written.
        """

    @abc.abstractmethod
    def opened(self) -> AbstractContextManager[Any]:
        """The handle for `chunk` and `announce`, for as long as the block lasts and for this thread alone.

        Raises HsiError where the file is gone or has changed.
        """

    @abc.abstractmethod
    def decode(self, handle: Any, coords: ChunkCoords) -> NDArray[Any]:
        """The chunk at `coords` on the grid of chunks, decoded anew and counted in `DECODED`.

        Of shape `chunks` and type `native`; what sticks out of the array holds `fill`. Raises CorruptChunk, which names
        the file and the chunk, where it cannot be decoded.
        """

    def announce(self, handle: Any, wanted: Iterable[ChunkCoords]) -> None:  # noqa: B027  # a file on disk needs none
        """Says which chunks `handle` will be asked for, so that neighbours in the file can come together."""

    def jobs(self, wanted: Iterable[ChunkCoords]) -> Iterator[list[ChunkCoords]]:
        """Chunks to read one after another by one thread, in the order of `wanted`: one at a time where nothing speaks
        for more.
        """
        return ([coords] for coords in wanted)

    def chunk(self, handle: Any, coords: ChunkCoords) -> NDArray[Any]:
        """The chunk at `coords` as `decode` gives it, not decoded again where it is kept. Not to be written to."""
        if self.kept is None:
            return self.decode(handle, coords)
        found = self.kept.look(coords)
        if found is None:
            found = self.decode(handle, coords)
            self.kept.offer(coords, found)
        return found

    def last_chunk(self, handle: Any, coords: ChunkCoords) -> NDArray[Any]:
        """The same for a chunk that nobody needs after this: it is kept no longer."""
        found = None if self.kept is None else self.kept.take(coords)
        return self.chunk(handle, coords) if found is None else found

    def read(self, *positions: NDArray[np.intp], threads: int | None = None) -> NDArray[Any]:
        """The values at the outer product of one array of positions a dimension; decodes only the chunks touched.

        Positions are whole numbers from 0, in any order; with `threads` None on every processor.
        """
        out = np.empty(tuple(len(p) for p in positions), self.native)
        parts = [by_chunk(p, c) for p, c in zip(positions, self.chunks, strict=True)]

        def copy(job: list[ChunkCoords]) -> None:
            with self.opened() as handle:
                self.announce(handle, job)
                for coords in job:
                    pieces = [part[p] for part, p in zip(parts, coords, strict=True)]
                    block = self.chunk(handle, coords)
                    put(out, [to for to, _ in pieces], take(block, [of for _, of in pieces]))

        if out.size:
            in_parallel(copy, self.jobs(itertools.product(*parts)), available() if threads is None else threads)
        return out

    def gather(
        self,
        bands: NDArray[np.intp],
        rows: NDArray[np.intp],
        cols: NDArray[np.intp],
        threads: int,
        bad: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """Values (m, L) of pixels (rows[i], cols[i]) of an array (y, x, band) in ascending `bands` (L,).

        Decodes each chunk that holds one once. With `bad` (m,) pixels of a chunk that cannot be decoded are set in it
        and get any values, instead of ending with CorruptChunk.
        """
        cy, cx, depth = self.chunks
        out = np.empty((len(rows), len(bands)), self.native)
        column, inside = rows // cy * self.grid[1] + cols // cx, rows % cy * cx + cols % cx
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order], prepend=-1))
        lots = np.split(order, starts[1:])
        number = bands // depth
        chunks = [(int(n), np.flatnonzero(number == n)) for n in np.unique(number)]
        # a column of many chunks is one job while columns are plenty, else each chunk is a job of its own
        plenty = len(lots) >= 8 * threads
        jobs = [(lot, chunks) for lot in lots] if plenty else [(lot, [c]) for lot in lots for c in chunks]

        def pick(job: tuple[NDArray[np.intp], list[tuple[int, NDArray[np.intp]]]]) -> None:
            lot, wanted = job
            column_coords = (int(rows[lot[0]] // cy), int(cols[lot[0]] // cx))
            with self.opened() as handle:
                self.announce(handle, ((*column_coords, n) for n, _ in wanted))
                for n, at in wanted:
                    try:
                        chunk = self.chunk(handle, (*column_coords, n))
                    except CorruptChunk:
                        if bad is None:
                            raise
                        bad[lot] = True
                        out[np.ix_(lot, at)] = 0
                        continue
                    pixels = chunk.reshape(-1, depth).take(inside[lot], axis=0)
                    out[np.ix_(lot, at)] = pixels[:, bands[at] - n * depth]

        if len(rows):
            in_parallel(pick, jobs, threads)
        return out
