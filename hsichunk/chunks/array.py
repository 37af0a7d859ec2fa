"""The contract of stored chunks, whatever the file: `ChunkedArray`, of which each storage has one implementation."""

from __future__ import annotations

import abc
import itertools
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple

import numpy as np

from hsichunk.array_types import Bools, DaskToken, Number, Numbers, Positions
from hsichunk.chunks.decoded_cache import ChunkCoords, KeptChunks
from hsichunk.errors import CorruptChunk
from hsichunk.threads import available, in_parallel

# The handle of a storage: an open file, of a kind that only this storage knows. Code that works on any storage leaves
# it out and writes `ChunkedArray`; the default that this needs is not in `typing` before Python 3.13.
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    H = TypeVar("H", default=Any)
else:
    from typing import TypeVar

    H = TypeVar("H")


class DecodeCounter:
    """Count the chunks and bytes that this process has decoded; tests and run.json take differences."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.chunks = 0
        self.bytes = 0

    def add(self, chunks: int, size: int) -> None:
        """Count some more chunks, of `size` bytes together."""
        with self._lock:
            self.chunks += chunks
            self.bytes += size

    def now(self) -> tuple[int, int]:
        """Return the chunks and the bytes decoded so far."""
        with self._lock:
            return self.chunks, self.bytes


DECODED = DecodeCounter()
Selection = slice | Positions


def by_chunk(positions: Positions, size: int) -> dict[int, tuple[Selection, Selection]]:
    """Return the chunks along a dimension that positions lie in: number -> (indices in the output, in the chunk)."""
    chunk_of = positions // size
    selections: dict[int, tuple[Selection, Selection]] = {}
    for number in np.unique(chunk_of):
        indices = np.flatnonzero(chunk_of == number)
        selections[int(number)] = as_slice(indices), as_slice(positions[indices] - number * size)
    return selections


def as_slice(positions: Positions) -> Selection:
    """Return a slice where positions follow one another: copying by it is several times faster than by a list."""
    if (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def take(block: Numbers, selections: Sequence[Selection]) -> Numbers:
    """Return the outer selection of a block, one selection a dimension; slices come first, since they copy nothing."""
    block = block[tuple(chosen if isinstance(chosen, slice) else slice(None) for chosen in selections)]
    for axis, chosen in enumerate(selections):
        if not isinstance(chosen, slice):
            block = block.take(chosen, axis=axis)
    return block


def put(out: Numbers, selections: Sequence[Selection], values: Numbers) -> None:
    """Write values to the outer selection of `out`, one selection a dimension."""
    if all(isinstance(chosen, slice) for chosen in selections):
        out[tuple(selections)] = values
    else:
        lists = (np.arange(c.start, c.stop) if isinstance(c, slice) else c for c in selections)
        out[np.ix_(*lists)] = values


class _BandsOfChunk(NamedTuple):
    """The wanted bands that one chunk along the bands holds."""

    number: int
    """of the chunk along the bands"""
    at: Positions
    """indices of these bands among the wanted ones"""


class ChunkedArray(abc.ABC, Generic[H]):
    """A stored array: its shape and layout at once, its chunks on demand, from any thread or process.

    A storage implements `opened` and `decode`; everything else follows from these two, and a storage that knows a
    better way overrides it. Threads share no open file. A pickled copy holds no locks and no kept chunks. A file that
    changes after opening is refused with HsiError, not misread. tests/helpers/conformance.py checks what this contract
    promises, for any implementation.
    """

    keeps_chunks: ClassVar[bool] = True
    """whether a run keeps the chunks that its sample decodes of this storage for the pass"""

    def __init__(
        self,
        *,
        path: str,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Number],
        chunks: tuple[int, ...],
        stamp: tuple[int, int],
        stored_chunks: tuple[int, ...] | None = None,
        fill: Numbers | None = None,
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
        """shape of the chunks that `chunk` returns"""
        self.stamp = stamp
        """bytes of the file, and the time of its last change or, at an address, what stands for this time"""
        self.stored_chunks = stored_chunks
        """shape of the chunks that the file itself names; None where it names none"""
        self.fill = fill
        """scalar: what never written chunks hold, and the parts of chunks outside the array; None where unknown"""
        self.direct = direct
        """whether threads decode chunks side by side; False where HDF5 reads them, under its lock"""
        self.kept: KeptChunks | None = None
        """chunks that this process has decoded and keeps"""

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"kept": None}

    def __dask_tokenize__(self) -> DaskToken:
        """Return what tells these values from others: the same in every process, another for a changed file."""
        kind = f"hsichunk.{type(self).__name__}"
        return (kind, self.path, self.stamp, self.name, self.shape, str(self.dtype), self.chunks)

    @property
    def native(self) -> np.dtype[Number]:
        """The type of values that have been read: that of the file in this machine's byte order."""
        return self.dtype.newbyteorder("=")

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of chunks along each dimension."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def chunk_bytes(self) -> int:
        """The bytes of one decoded chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """The bytes of the chunks as they are stored; those of the whole file where it does not tell."""
        return self.stamp[0]

    def identity(self) -> bytes:
        """Return what stands for the stored values in a run's fingerprint, without reading them.

        Where nothing else is known, that is the stamp: then only the time of a file's last change tells other values.
        """
        return str(self.stamp).encode()

    def prepare(self) -> None:
        """Find out now what all reading needs; this is where the libraries of a damaged file may crash."""
        with suppress(CorruptChunk), self.opened() as handle:  # the pass decides what a bad chunk means
            self.chunk(handle, (0,) * len(self.shape))

    def check(self, no_data: int) -> None:
        """Raise HsiError where chunks cannot lie as the file says; warn of never written chunks whose fill is not
        `no_data`. Most storages know nothing that could be wrong.
        """

    @abc.abstractmethod
    def opened(self) -> AbstractContextManager[H]:
        """Open the file and return the handle for `chunk` and `announce`: for the length of the block, for this thread.

        Raises HsiError where the file is gone or has changed.
        """

    @abc.abstractmethod
    def decode(self, handle: H, coords: ChunkCoords) -> Numbers:
        """Decode the chunk at `coords` in the grid of chunks, and count it in `DECODED`.

        Of shape `chunks` and type `native`; the part outside the array holds `fill`. Raises CorruptChunk, which names
        the file and the chunk, where it cannot be decoded.
        """

    def announce(self, handle: H, wanted: Iterable[ChunkCoords]) -> None:
        """Say which chunks `handle` will be asked for, so that neighbours in the file are fetched together.

        A file on disk needs none of this.
        """

    def jobs(self, wanted: Iterable[ChunkCoords]) -> Iterator[list[ChunkCoords]]:
        """Group chunks, in the order of `wanted`, into lists that one thread each reads one after another.

        Each chunk is a list of its own unless the storage gains by more.
        """
        return ([coords] for coords in wanted)

    def chunk(self, handle: H, coords: ChunkCoords) -> Numbers:
        """Return the chunk at `coords`, kept or decoded now. Callers do not write to it."""
        if self.kept is None:
            return self.decode(handle, coords)
        values = self.kept.look(coords)
        if values is None:
            values = self.decode(handle, coords)
            self.kept.offer(coords, values)
        return values

    def last_chunk(self, handle: H, coords: ChunkCoords) -> Numbers:
        """Return the chunk as `chunk` does, for the last caller that needs it: it is kept no longer."""
        values = None if self.kept is None else self.kept.take(coords)
        return self.chunk(handle, coords) if values is None else values

    def read(self, *positions: Positions, threads: int | None = None) -> Numbers:
        """Return the values at the outer product of one array of positions a dimension.

        Decodes only the chunks that hold one. Positions are whole numbers from 0, in any order. `threads` None means
        every processor.
        """
        out = np.empty(tuple(len(p) for p in positions), self.native)
        parts = [by_chunk(p, c) for p, c in zip(positions, self.chunks, strict=True)]

        def copy(job: list[ChunkCoords]) -> None:
            with self.opened() as handle:
                self.announce(handle, job)
                for coords in job:
                    selections = [part[number] for part, number in zip(parts, coords, strict=True)]
                    block = self.chunk(handle, coords)
                    put(out, [to for to, _ in selections], take(block, [source for _, source in selections]))

        if out.size:
            in_parallel(copy, self.jobs(itertools.product(*parts)), available() if threads is None else threads)
        return out

    def gather(
        self,
        bands: Positions,
        rows: Positions,
        cols: Positions,
        threads: int,
        bad: Bools | None = None,
    ) -> Numbers:
        """Return values (m, L) of pixels (rows[i], cols[i]) of an array (y, x, band) in ascending `bands` (L,).

        Decodes each chunk that holds one once. A chunk that cannot be decoded ends this with CorruptChunk; with `bad`
        (m,) its pixels are set in `bad` instead, and get any values.
        """
        high, wide, deep = self.chunks
        out = np.empty((len(rows), len(bands)), self.native)
        column, in_column = rows // high * self.grid[1] + cols // wide, rows % high * wide + cols % wide
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order], prepend=-1))
        pixels_of_columns = np.split(order, starts[1:])
        chunk_of = bands // deep
        chunks = [_BandsOfChunk(int(number), np.flatnonzero(chunk_of == number)) for number in np.unique(chunk_of)]
        # a column of many chunks is one job while columns are plenty, else each chunk is a job of its own
        by_column = len(pixels_of_columns) >= 8 * threads
        jobs = [
            (pixels, together)
            for pixels in pixels_of_columns
            for together in ([chunks] if by_column else [[chunk] for chunk in chunks])
        ]

        def pick(job: tuple[Positions, list[_BandsOfChunk]]) -> None:
            pixels, wanted = job
            down, across = int(rows[pixels[0]] // high), int(cols[pixels[0]] // wide)
            with self.opened() as handle:
                self.announce(handle, ((down, across, number) for number, _ in wanted))
                for number, at in wanted:
                    try:
                        chunk = self.chunk(handle, (down, across, number))
                    except CorruptChunk:
                        if bad is None:
                            raise
                        bad[pixels] = True
                        out[np.ix_(pixels, at)] = 0
                        continue
                    spectra = chunk.reshape(-1, deep).take(in_column[pixels], axis=0)
                    out[np.ix_(pixels, at)] = spectra[:, bands[at] - number * deep]

        if len(rows):
            in_parallel(pick, jobs, threads)
        return out
