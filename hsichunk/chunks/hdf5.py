"""Read the chunks of one HDF5 dataset by pread and parallel inflate, with h5py only for the index.

HDF5 serialises every read behind one lock; a chunk's place in the file is all that is needed to read it without.
What the fast way does not know (contiguous data, szip, lzf, ...) h5py reads, under its lock.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks import remote
from hsichunk.chunks.array import DECODED, ChunkedArray
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.errors import CorruptChunk, HsiError, HsiWarning, one_line

DEFLATE, SHUFFLE = 1, 2  # HDF5's filter numbers
PSEUDO_CHUNK = 4 << 20  # bytes read at once from data that are stored in one piece
Handle = int | remote.Ranges
"""An open file: its descriptor, or the byte ranges of an address."""
READ_TOGETHER = 1 << 20  # stored bytes of neighbouring chunks at an address that one thread reads in one go


@dataclass(frozen=True)
class ChunkIndex:
    """Where each stored chunk lies: arrays over the grid of chunks; offset -1 where none was ever written."""

    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    mask: NDArray[np.uint32]


class HDF5Array(ChunkedArray):
    """One dataset of an HDF5 file: its shape and layout now, its chunks on demand, from any thread or process.

    Nothing stays open; a copy pickles as path and index. A file that changes after opening is refused, not misread.
    """

    def __init__(self, path: str | os.PathLike[str], dataset: Any) -> None:
        name = os.fspath(path)
        self.remote = remote.is_url(name)
        dtype: np.dtype[Any] = dataset.dtype
        super().__init__(
            path=name,
            name=dataset.name,
            shape=dataset.shape,
            dtype=dtype,
            chunks=dataset.chunks or _pseudo_chunks(dataset.shape, dtype.itemsize),
            stamp=remote.stamp_of(name) if self.remote else _stamp(os.stat(path)),
            stored_chunks=dataset.chunks,
            fill=np.asarray(dataset.fillvalue).astype(dtype) if dtype.kind in "iuf" else None,
        )
        properties = dataset.id.get_create_plist()
        self.filters = tuple(properties.get_filter(i)[0] for i in range(properties.get_nfilters()))
        self.direct = (
            self.stored_chunks is not None
            and set(self.filters) <= {DEFLATE, SHUFFLE}
            and self.filters.count(DEFLATE) <= 1  # what is deflated again has a size that is not known
            and self.dtype.kind in "iuf"
            and properties.get_external_count() == 0
            and not dataset.is_virtual
            and dataset.file.userblock_size == 0  # what offsets count from there depends on the version of HDF5
        )
        self._index: ChunkIndex | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @property
    def stored_bytes(self) -> int:
        """Bytes of the chunks as they are stored; of the whole file where data are in one piece."""
        return int(self.index.size.sum()) if self.stored_chunks else self.stamp[0]

    def identity(self) -> bytes:
        """The places of compressed chunks, which other values would move; else the stamp."""
        if self.direct and self.filters:
            return self.index.offset.tobytes() + self.index.size.tobytes()
        return super().identity()

    def prepare(self) -> None:
        """Reads the index of the chunks: all that HDF5 is needed for. Where it reads chunks too, tries the first."""
        if self.direct:
            _ = self.index
        else:
            super().prepare()

    def check(self, no_data: int) -> None:
        """Raises HsiError where two chunks lie in one place; warns of those never written that are not `no_data`."""
        if not self.direct:
            return
        index = self.index
        written = index.offset.ravel() >= 0
        start, size = index.offset.ravel()[written], index.size.ravel()[written]
        order = np.argsort(start)
        if (start[order][1:] < (start + size)[order][:-1]).any():
            raise HsiError(f"{self.path}: the chunk index is damaged (chunks overlap); download it again")
        missing = written.size - int(written.sum())
        if missing and self.fill != no_data:
            found = f"{missing} of {written.size} chunks were never written"
            warnings.warn(f"{self.path}: {found}; their counts are {self.fill}", HsiWarning, stacklevel=2)

    @property
    def index(self) -> ChunkIndex:
        """The places of all chunks, read from the file once."""
        with self._lock:
            if self._index is None:
                self._index = self._read_index()
            return self._index

    def _read_index(self) -> ChunkIndex:
        offset = np.full(self.grid, -1, np.int64)
        size = np.zeros(self.grid, np.int64)
        mask = np.zeros(self.grid, np.uint32)

        found: list[Any] = []
        with self.opened():  # checks that the file is there and still the same
            try:
                with self._by_h5py() as file:
                    file[self.name].id.chunk_iter(found.append)
                stored = [info for info in found if info.byte_offset is not None]
                if stored:
                    coords = tuple((np.array([info.chunk_offset for info in stored]) // self.chunks).T)
                    offset[coords] = [info.byte_offset for info in stored]
                    size[coords] = [info.size for info in stored]
                    mask[coords] = [info.filter_mask for info in stored]
            except (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError) as error:
                raise HsiError(
                    f"{self.path}: the chunk index of {self.name} is damaged ({one_line(error)}); download it again"
                ) from error
        last = int((offset + size).max(initial=0))
        if last > self.stamp[0]:
            raise HsiError(
                f"{self.path}: truncated, its chunks reach to byte {last} and the file ends at {self.stamp[0]}; "
                "download it again"
            )
        return ChunkIndex(offset, size, mask)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Handle]:
        """What to hand to `chunk`, for as long as the block lasts and from this thread alone."""
        if self.remote:
            yield remote.Ranges(self.path, self.stamp)
            return
        try:
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise HsiError(f"{self.path}: cannot be opened ({error.strerror})") from error
        try:
            if _stamp(os.fstat(handle)) != self.stamp:
                raise HsiError(f"{self.path}: changed since it was opened; open it again")
            yield handle
        finally:
            os.close(handle)

    def announce(self, handle: Handle, wanted: Iterable[ChunkCoords]) -> None:
        """Says which chunks `handle` will be asked for: at an address, neighbours in the file become one request."""
        if isinstance(handle, remote.Ranges) and self.direct:
            index = self.index
            handle.announce((int(index.offset[p]), int(index.size[p])) for p in wanted if index.offset[p] >= 0)

    @contextlib.contextmanager
    def _by_h5py(self) -> Iterator[Any]:
        """The file as h5py's; what went wrong on the way to an address, not what HDF5 makes of it."""
        import h5py

        source: Any = remote.RemoteFile(self.path, self.stamp) if self.remote else self.path
        try:
            with h5py.File(source, "r") as file:
                yield file
        except Exception:
            if self.remote and source.failure is not None:
                raise source.failure from None
            raise

    def decode(self, handle: Handle, coords: ChunkCoords) -> NDArray[Any]:
        """The chunk at `coords`; edge chunks keep what the file's writer left in what sticks out, as a rule `fill`."""
        DECODED.add(1, self.chunk_bytes)
        if not self.direct:
            return self._chunk_by_h5py(coords)
        index = self.index
        start, size = int(index.offset[coords]), int(index.size[coords])
        if start < 0:
            return np.full(self.chunks, self.fill, self.native)
        data: Stored = os.pread(handle, size, start) if isinstance(handle, int) else handle.read(start, size)
        if len(data) != size:
            raise CorruptChunk(
                f"{self.path}: truncated, chunk {coords} ends before its {size} bytes; download it again"
            )
        skipped = int(index.mask[coords])
        for position in reversed(range(len(self.filters))):
            if not skipped >> position & 1:
                data = self._undo(self.filters[position], data, coords)
        held = data.nbytes if isinstance(data, np.ndarray) else len(data)
        if held != self.chunk_bytes:
            raise self._corrupt(coords, f"it holds {held} bytes instead of {self.chunk_bytes}")
        return np.frombuffer(data, self.dtype).reshape(self.chunks).astype(self.native, copy=False)

    def _undo(self, kind: int, data: Stored, coords: ChunkCoords) -> Stored:
        if kind == SHUFFLE:
            width = self.dtype.itemsize
            flat = np.frombuffer(data, np.uint8)
            if flat.size % width:
                raise self._corrupt(coords, f"{flat.size} bytes do not divide into values of {width}")
            return np.ascontiguousarray(flat.reshape(width, -1).T).reshape(-1)
        import deflate

        try:
            return deflate.zlib_decompress(data, self.chunk_bytes)
        except deflate.DeflateError as error:
            raise self._corrupt(coords, one_line(error)) from error

    def _corrupt(self, coords: ChunkCoords, why: str) -> CorruptChunk:
        return CorruptChunk(f"{self.path}: chunk {coords} of {self.name} is corrupt ({why}); download the file again")

    def _chunk_by_h5py(self, coords: ChunkCoords) -> NDArray[Any]:
        import h5py

        for number in self.filters:
            if not h5py.h5z.filter_avail(number):
                raise HsiError(
                    f"{self.path}: {self.name} is compressed with HDF5 filter {number}, which is not installed; "
                    "install it (hdf5plugin has most), or rewrite the file with gzip"
                )
        window = tuple(
            slice(p * c, min((p + 1) * c, n)) for p, c, n in zip(coords, self.chunks, self.shape, strict=True)
        )
        try:
            with self._by_h5py() as file:
                part = file[self.name][window]
        except (OSError, RuntimeError, LookupError, ValueError) as error:
            raise self._corrupt(coords, one_line(error)) from error
        if part.shape == self.chunks:
            return np.asarray(part, self.native)
        whole = np.full(self.chunks, self.fill, self.native)
        whole[tuple(slice(0, n) for n in part.shape)] = part
        return whole

    def jobs(self, wanted: Iterable[ChunkCoords]) -> Iterator[list[ChunkCoords]]:
        """Chunks to read one after another: one at a time, or at an address as many as a request may fetch."""
        if not (self.remote and self.direct):
            yield from super().jobs(wanted)
            return
        job: list[ChunkCoords] = []
        size = 0
        for coords in wanted:
            size += int(self.index.size[coords])
            if job and size > READ_TOGETHER:
                yield job
                job, size = [], int(self.index.size[coords])
            job.append(coords)
        if job:
            yield job


Stored = bytes | bytearray | memoryview | NDArray[Any]


def _pseudo_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks of data that are stored in one piece: some whole rows."""
    if not shape:
        return ()
    row = math.prod(shape[1:]) * itemsize
    return (max(1, min(shape[0], PSEUDO_CHUNK // max(row, 1))), *(max(1, n) for n in shape[1:]))


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
