"""Pixels of ENVI images and GeoTIFFs in chunks, with what the pass asks of the chunks of an HDF5 dataset.

ENVI stores pixels as they are: chunks are cut where one read fetches them. Of other files GDAL knows the blocks: chunks
are whole ones, read by a dataset of each thread's own.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.array import DECODED, ChunkedArray
from hsichunk.chunks.columns import SMALL_COLUMN
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.errors import CorruptChunk, HsiError, one_line
from hsichunk.memory import GDAL_CACHE
from hsichunk.readers import envi
from hsichunk.readers.image_metadata import ImageHeader, is_packed, open_file, stamp_of
from hsichunk.readers.model import no_data_count
from hsichunk.threads import PerThread

if TYPE_CHECKING:
    import rasterio

PIXELS = 4096  # in a chunk of whole spectra: their sums stay in the cache
BYTES = 4 << 20  # of such a chunk, at most
BAND_PIXELS = 1 << 18  # in a chunk of one band
KEPT = 2  # open datasets a thread keeps
_OPEN: PerThread[tuple[int, str, tuple[int, int]], rasterio.DatasetReader] = PerThread()
"""open datasets by process, path and stamp"""


class _Unreadable(Exception):
    """Why a window of a file cannot be read."""


class ImageArray(ChunkedArray):
    """Values (y, x, band) of an image, bands by wavelength; read chunk by chunk, from any thread or process."""

    keeps_chunks = False  # GDAL keeps blocks, the system keeps files: what a run kept beside them would be a copy

    def __init__(self, image: ImageHeader, chunks: tuple[int, int, int], kind: np.dtype[Any]) -> None:
        # of bytes every value may be a count: in a wider type there is one for no data
        dtype = np.dtype(np.int16) if kind.itemsize == 1 else kind
        super().__init__(
            path=image.path,
            name=schema.REFLECTANCE,
            shape=image.shape,
            dtype=dtype,
            chunks=chunks,
            stamp=image.stamp,
            fill=np.zeros((), dtype),
        )
        self.header, self.kind = image.header, kind
        self.no_data = no_data_count(image.no_data, self.dtype)
        self.order = image.bands.order
        self.sorted = bool((np.diff(self.order) == 1).all())

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("hsichunk.ImageArray", os.path.abspath(self.path), self.stamp, self.chunks, self.order.tobytes())

    def decode(self, handle: Any, place: ChunkCoords) -> NDArray[Any]:
        """The values at `place` on the grid of chunks, native byte order; 0 in what sticks out of the image."""
        DECODED.add(1, self.chunk_bytes)
        top, left, first = (p * c for p, c in zip(place, self.chunks, strict=True))
        high, wide = min(self.chunks[0], self.shape[0] - top), min(self.chunks[1], self.shape[1] - left)
        bands = self.order[first : first + self.chunks[2]]
        try:
            values = self._values(handle, top, left, high, wide, bands)
        except _Unreadable as error:
            where = f"chunk {place}, lines {top} to {top + high}, cannot be read"
            raise CorruptChunk(f"{self.path}: {where} ({error}); get the file again") from error
        if self.kind.kind == "f":
            values = np.where(np.isfinite(values), values, self.kind.type(self.no_data))
        if values.shape == self.chunks:
            return np.ascontiguousarray(values, self.native)
        whole = np.zeros(self.chunks, self.native)
        whole[:high, :wide] = values
        return whole

    def _values(self, handle: Any, top: int, left: int, high: int, wide: int, bands: NDArray[np.intp]) -> NDArray[Any]:
        """A window (high, wide, bands) of the file: one of its bands, or all of them in some order.

        Raises _Unreadable with the reason.
        """
        raise NotImplementedError

    def _check(self, stamp: tuple[int, int]) -> None:
        if stamp != self.stamp:
            raise HsiError(f"{self.path}: changed since it was opened; open it again")

    def _now(self) -> tuple[int, int]:
        try:
            return stamp_of(self.path, self.header)
        except OSError as error:
            raise HsiError(f"{self.path}: cannot be opened ({error.strerror})") from error


class EnviArray(ImageArray):
    """An ENVI image: a chunk is some whole lines; of all bands where a line holds them or values are floats, else one.

    Floats are worked by whole spectra, counts as they come.
    """

    def __init__(self, image: ImageHeader, header: envi.Header) -> None:
        kind = image.dtype.newbyteorder(">" if header.count("byte order", 0) else "<")
        self.offset = header.count("header offset", 0)
        self.interleave = image.interleave
        rows, cols, bands = image.shape
        if self.interleave == "band" and kind.kind != "f":
            chunks = (min(rows, max(1, BAND_PIXELS // cols)), cols, 1)
        else:
            chunks = (_lines(rows, cols, bands * kind.itemsize), cols, bands)
        super().__init__(image, chunks, kind)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        with self._descriptor() as handle:
            self._check(self._now())
            yield handle

    @contextlib.contextmanager
    def _descriptor(self) -> Iterator[int]:
        try:
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise HsiError(f"{self.path}: cannot be opened ({error.strerror})") from error
        try:
            yield handle
        finally:
            os.close(handle)

    def _values(self, handle: Any, top: int, left: int, high: int, wide: int, bands: NDArray[np.intp]) -> NDArray[Any]:
        rows, cols, count = self.shape
        if self.interleave == "band":
            layers = [self._read(handle, (int(b) * rows + top) * cols, (high, cols, 1)) for b in bands]
            return layers[0] if len(layers) == 1 else np.concatenate(layers, axis=2)
        start = top * cols * count
        if self.interleave == "line":
            values = self._read(handle, start, (high, count, cols)).transpose(0, 2, 1)
        else:
            values = self._read(handle, start, (high, cols, count))
        return values if self.sorted else values[:, :, bands]

    def _read(self, handle: int, start: int, shape: tuple[int, int, int]) -> NDArray[Any]:
        """Values from the one numbered `start` on."""
        size, at = math.prod(shape) * self.kind.itemsize, self.offset + start * self.kind.itemsize
        out = bytearray(size)
        got = 0
        while got < size and (more := os.preadv(handle, [memoryview(out)[got:]], at + got)):
            got += more
        if got != size:
            raise _Unreadable(f"the file ends at byte {at + got}")
        return np.frombuffer(out, self.kind).reshape(shape)


class RasterArray(ImageArray):
    """What GDAL reads: a chunk is some of the file's blocks, of all bands where they are little, else of one."""

    def __init__(self, image: ImageHeader) -> None:
        super().__init__(image, _blocks(image), image.dtype)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """This thread's own dataset, which stays open for the next time."""
        import rasterio

        self._check(self._now())
        kept = _OPEN.items
        key = (os.getpid(), self.path, self.stamp)
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE):
            if key not in kept:
                while len(kept) >= KEPT:
                    del kept[next(iter(kept))]
                kept[key] = open_file(self.path)
            yield kept[key]

    def _values(self, handle: Any, top: int, left: int, high: int, wide: int, bands: NDArray[np.intp]) -> NDArray[Any]:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        try:
            values = handle.read((bands + 1).tolist(), window=Window(left, top, wide, high))
        except RasterioError as error:
            raise _Unreadable(one_line(error.__cause__ or error)) from error
        return np.moveaxis(values, 0, -1)


def image_array(image: ImageHeader) -> ImageArray:
    """The pixels of an image, in the chunks that suit it."""
    plain = image.driver == "ENVI" and image.header is not None and not is_packed(image.header)
    return EnviArray(image, image.header) if plain and image.header is not None else RasterArray(image)


def _lines(rows: int, cols: int, spectrum: int) -> int:
    """How many lines of whole spectra, of so many bytes each, make a chunk."""
    return min(rows, max(1, min(PIXELS, BYTES // spectrum) // cols))


def _blocks(image: ImageHeader) -> tuple[int, int, int]:
    """Chunks of whole blocks: as many as make a handy column of whole spectra, else one block of a band at a time."""
    rows, cols, bands = image.shape
    high, wide = min(image.block[0], rows), min(image.block[1], cols)
    spectrum = bands * image.dtype.itemsize
    most = min(PIXELS, BYTES // spectrum)
    if high * wide * spectrum > SMALL_COLUMN:
        return high, wide, 1 if image.interleave == "band" and image.dtype.kind != "f" else bands
    if wide == cols:
        return min(-(-rows // high), max(1, most // (high * wide))) * high, wide, bands
    times = max(1, math.isqrt(most // (high * wide)))
    return min(-(-rows // high), times) * high, min(-(-cols // wide), times) * wide, bands
