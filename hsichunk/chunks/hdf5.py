"""Read the chunks of one HDF5 dataset by pread and parallel inflate, with h5py only for the index.

HDF5 serialises every read behind one lock; a chunk's place in the file is all that is needed to read it without.
What this fast way cannot read (contiguous data, szip, lzf, ...) h5py reads, under its lock.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Ints, Number, Numbers
from hsichunk.chunks import remote
from hsichunk.chunks.array import DECODED, ChunkedArray
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.errors import CorruptChunk, HsiError, HsiWarning, one_line

if TYPE_CHECKING:
    import h5py

DEFLATE, SHUFFLE = 1, 2  # HDF5's filter numbers
PSEUDO_CHUNK = 4 << 20  # bytes read at once from data that are stored in one piece
READ_TOGETHER = 1 << 20  # stored bytes of neighbouring chunks at an address that one thread reads in one go
Handle = int | remote.Ranges
"""an open file: its descriptor, or the byte ranges of an address"""
Stored = bytes | bytearray | memoryview | NDArray[np.uint8]
"""the bytes of a chunk, as stored or with some filters undone"""


@dataclass(frozen=True)
class ChunkIndex:
    """Where each stored chunk lies in the file: arrays over the grid of chunks."""

    offset: Ints
    """of the first byte; -1 where no chunk was ever written"""
    size: Ints
    """in bytes, as stored"""
    mask: NDArray[np.uint32]
    """HDF5's filter mask: bit i is set where filter i was skipped"""


class HDF5Array(ChunkedArray[Handle]):
    """One dataset of an HDF5 file: its shape and layout at once, its chunks on demand, from any thread or process.

    Nothing stays open; a copy pickles as path and index. A file that changes after opening is refused, not misread.
    """

    def __init__(self, path: str | os.PathLike[str], dataset: h5py.Dataset) -> None:
        name = os.fspath(path)
        self.remote = remote.is_url(name)
        dtype: np.dtype[Number] = dataset.dtype
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
            and self.filters.count(DEFLATE) <= 1  # what is deflated twice has an inner size that is not known
            and self.dtype.kind in "iuf"
            and properties.get_external_count() == 0
            and not dataset.is_virtual
            and dataset.file.userblock_size == 0  # what offsets count from there depends on the version of HDF5
        )
        self._index: ChunkIndex | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in super().__getstate__().items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @property
    def stored_bytes(self) -> int:
        """The bytes of the chunks as they are stored; those of the whole file where data are in one piece."""
        return int(self.index.size.sum()) if self.stored_chunks else self.stamp[0]

    def identity(self) -> bytes:
        """Return the offsets and sizes of compressed chunks, which other values would change; else the stamp."""
        if self.direct and self.filters:
            return self.index.offset.tobytes() + self.index.size.tobytes()
        return super().identity()

    def prepare(self) -> None:
        """Read the index of the chunks, which is all that HDF5 is needed for; where it reads chunks too, read one."""
        if self.direct:
            _ = self.index
        else:
            super().prepare()

    def check(self, no_data: int) -> None:
        """Raise HsiError where two chunks overlap; warn of never written chunks whose fill value is not `no_data`."""
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
            unwritten = f"{missing} of {written.size} chunks were never written"
            warnings.warn(f"{self.path}: {unwritten}; their counts are {self.fill}", HsiWarning, stacklevel=2)

    @property
    def index(self) -> ChunkIndex:
        """The index of all chunks, read from the file once."""
        with self._lock:
            if self._index is None:
                self._index = self._read_index()
            return self._index

    def _read_index(self) -> ChunkIndex:
        offset = np.full(self.grid, -1, np.int64)
        size = np.zeros(self.grid, np.int64)
        mask = np.zeros(self.grid, np.uint32)

        infos: list[h5py.h5d.StoreInfo] = []
        with self.opened():  # checks that the file is there and still the same
            try:
                with self._by_h5py() as file:
                    file[self.name].id.chunk_iter(infos.append)
                stored = [info for info in infos if info.byte_offset is not None]
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
        """Open the file for `chunk`: for the length of the block, for this thread alone.

        Raises HsiError where the file is gone or has changed.
        """
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
        """Say which chunks `handle` will be asked for: at an address, neighbours in the file become one request."""
        if isinstance(handle, remote.Ranges) and self.direct:
            index = self.index
            handle.announce((int(index.offset[c]), int(index.size[c])) for c in wanted if index.offset[c] >= 0)

    @contextlib.contextmanager
    def _by_h5py(self) -> Iterator[h5py.File]:
        """Open the file by h5py; raises the error of fetching from an address, not what HDF5 makes of it."""
        import h5py

        source: remote.RemoteFile | str = remote.RemoteFile(self.path, self.stamp) if self.remote else self.path
        try:
            with h5py.File(source, "r") as file:
                yield file
        except Exception:
            if isinstance(source, remote.RemoteFile) and source.failure is not None:
                raise source.failure from None
            raise

    def decode(self, handle: Handle, coords: ChunkCoords) -> Numbers:
        """Decode the chunk at `coords`. Outside the array it holds what the file's writer left there, mostly `fill`.

        Raises CorruptChunk where it cannot be decoded, and HsiError where that needs a filter that is not installed.
        """
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

    def _undo(self, filter_number: int, data: Stored, coords: ChunkCoords) -> Stored:
        if filter_number == SHUFFLE:
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

    def _chunk_by_h5py(self, coords: ChunkCoords) -> Numbers:
        import h5py

        for number in self.filters:
            if not h5py.h5z.filter_avail(number):
                raise HsiError(
                    f"{self.path}: {self.name} is compressed with HDF5 filter {number}, which is not installed; "
                    "install it (hdf5plugin has most), or rewrite the file with gzip"
                )
        window = tuple(
            slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(coords, self.chunks, self.shape, strict=True)
        )
        try:
            with self._by_h5py() as file:
                part = file[self.name][window]
        except (OSError, RuntimeError, LookupError, ValueError) as error:
            raise self._corrupt(coords, one_line(error)) from error
        if part.shape == self.chunks:
            return np.asarray(part, self.native)
        chunk = np.full(self.chunks, self.fill, self.native)
        chunk[tuple(slice(0, n) for n in part.shape)] = part
        return chunk

    def jobs(self, wanted: Iterable[ChunkCoords]) -> Iterator[list[ChunkCoords]]:
        """Group chunks to read one after another: each by itself, or at an address up to READ_TOGETHER stored bytes."""
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


def _pseudo_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return chunks for data that are stored in one piece: some whole rows, up to PSEUDO_CHUNK bytes."""
    if not shape:
        return ()
    row = math.prod(shape[1:]) * itemsize
    return (max(1, min(shape[0], PSEUDO_CHUNK // max(row, 1))), *(max(1, n) for n in shape[1:]))


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
