"""Read the pixels of ENVI images and GeoTIFFs in chunks, as the pass needs them: implementations of ChunkedArray.

An ENVI image has no chunks of its own: EnviArray cuts some that one read fetches. For other files, chunks of
RasterArray are whole blocks of GDAL's; each thread reads them through an open file of its own.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Positions
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

PIXELS = 4096  # most pixels in a chunk of whole spectra, so that their sums stay in the processor's cache
BYTES = 4 << 20  # most bytes of such a chunk
BAND_PIXELS = 1 << 18  # most pixels in a chunk of one band
OPEN_FILES = 2  # files that a thread keeps open

Handle = TypeVar("Handle")
Values: TypeAlias = NDArray[np.integer | np.floating]
"""counts or floats, in the type of the file"""
_OPEN: PerThread[tuple[int, str, tuple[int, int]], rasterio.DatasetReader] = PerThread()
"""open datasets by process, path and stamp"""


class _Unreadable(Exception):
    """A window of a file that cannot be read; the message is the reason."""


class ImageArray(ChunkedArray, Generic[Handle]):
    """Values (y, x, band) of an image, bands by wavelength; read chunk by chunk, from any thread or process.

    Floats that are not finite become the no-data value, and bytes become int16. `Handle` is the type of an open file.
    """

    keeps_chunks = False  # GDAL caches blocks and the system caches files: a run would keep a second copy

    def __init__(
        self, image: ImageHeader, chunks: tuple[int, int, int], kind: np.dtype[np.integer | np.floating]
    ) -> None:
        # every value of a byte may be a count; a wider type has one that stands for no data
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

    def __dask_tokenize__(self) -> tuple[str | bytes | tuple[int, ...], ...]:
        return ("hsichunk.ImageArray", os.path.abspath(self.path), self.stamp, self.chunks, self.order.tobytes())

    def decode(self, handle: Handle, coords: ChunkCoords) -> Values:
        """Decode the chunk at `coords` on the grid of chunks, in native byte order; 0 outside of the image.

        Raises CorruptChunk where the file cannot be read there.
        """
        DECODED.add(1, self.chunk_bytes)
        top, left, first = (position * size for position, size in zip(coords, self.chunks, strict=True))
        height, width = min(self.chunks[0], self.shape[0] - top), min(self.chunks[1], self.shape[1] - left)
        bands = self.order[first : first + self.chunks[2]]
        try:
            values = self._values(handle, top, left, height, width, bands)
        except _Unreadable as error:
            where = f"chunk {coords}, lines {top} to {top + height}, cannot be read"
            raise CorruptChunk(f"{self.path}: {where} ({error}); get the file again") from error
        if self.kind.kind == "f":
            values = np.where(np.isfinite(values), values, self.kind.type(self.no_data))
        if values.shape == self.chunks:
            return np.ascontiguousarray(values, self.native)
        chunk = np.zeros(self.chunks, self.native)
        chunk[:height, :width] = values
        return chunk

    def _values(self, handle: Handle, top: int, left: int, height: int, width: int, bands: Positions) -> Values:
        """Read a window (height, width, bands) of the file, `bands` in their order: one band, or all of them.

        Raises _Unreadable with the reason.
        """
        raise NotImplementedError

    def _check_unchanged(self) -> None:
        """Raise HsiError where the file is gone, or has changed since it was opened."""
        try:
            stamp = stamp_of(self.path, self.header)
        except OSError as error:
            raise HsiError(f"{self.path}: cannot be opened ({error.strerror})") from error
        if stamp != self.stamp:
            raise HsiError(f"{self.path}: changed since it was opened; open it again")


class EnviArray(ImageArray[int]):
    """An ENVI image, read by its file descriptor; a chunk is some whole lines.

    A chunk has all bands where a line of the file does (BIL, BIP), and where values are floats, which the pass needs as
    whole spectra; else, for counts stored band by band (BSQ), it has one band.
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
    def opened(self) -> Iterator[int]:
        """Open the file for a block, as a descriptor. Raises HsiError where it is gone or has changed."""
        with self._descriptor() as handle:
            self._check_unchanged()
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

    def _values(self, handle: int, top: int, left: int, height: int, width: int, bands: Positions) -> Values:
        rows, cols, count = self.shape
        if self.interleave == "band":
            layers = [self._read(handle, (int(band) * rows + top) * cols, (height, cols, 1)) for band in bands]
            return layers[0] if len(layers) == 1 else np.concatenate(layers, axis=2)
        start = top * cols * count
        if self.interleave == "line":
            values = self._read(handle, start, (height, count, cols)).transpose(0, 2, 1)
        else:
            values = self._read(handle, start, (height, cols, count))
        return values if self.sorted else values[:, :, bands]

    def _read(self, handle: int, start: int, shape: tuple[int, int, int]) -> Values:
        """Read values of a shape that are stored one after another, from the value number `start` of the file on."""
        size, offset = math.prod(shape) * self.kind.itemsize, self.offset + start * self.kind.itemsize
        data = bytearray(size)
        done = 0
        while done < size and (more := os.preadv(handle, [memoryview(data)[done:]], offset + done)):
            done += more
        if done != size:
            raise _Unreadable(f"the file ends at byte {offset + done}")
        return np.frombuffer(data, self.kind).reshape(shape)


class RasterArray(ImageArray["rasterio.DatasetReader"]):
    """An image that GDAL reads; a chunk is one or more blocks of the file, of all bands where blocks are small."""

    def __init__(self, image: ImageHeader) -> None:
        super().__init__(image, _chunks_of_blocks(image), image.dtype)

    @contextlib.contextmanager
    def opened(self) -> Iterator[rasterio.DatasetReader]:
        """Open the file for a block. This thread keeps it open and uses it again.

        Raises HsiError where the file is gone or has changed.
        """
        import rasterio

        self._check_unchanged()
        open_files = _OPEN.items
        key = (os.getpid(), self.path, self.stamp)
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE):
            if key not in open_files:
                while len(open_files) >= OPEN_FILES:
                    del open_files[next(iter(open_files))]
                open_files[key] = open_file(self.path)
            yield open_files[key]

    def _values(
        self, handle: rasterio.DatasetReader, top: int, left: int, height: int, width: int, bands: Positions
    ) -> Values:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        try:
            values = handle.read((bands + 1).tolist(), window=Window(left, top, width, height))
        except RasterioError as error:
            raise _Unreadable(one_line(error.__cause__ or error)) from error
        return np.moveaxis(values, 0, -1)


def image_array(image: ImageHeader) -> EnviArray | RasterArray:
    """Return the pixels of an image: read directly for an uncompressed ENVI image, else by GDAL."""
    if image.driver == "ENVI" and image.header is not None and not is_packed(image.header):
        return EnviArray(image, image.header)
    return RasterArray(image)


def _lines(rows: int, cols: int, spectrum_bytes: int) -> int:
    """Return how many lines of whole spectra make a chunk of up to PIXELS and BYTES."""
    return min(rows, max(1, min(PIXELS, BYTES // spectrum_bytes) // cols))


def _chunks_of_blocks(image: ImageHeader) -> tuple[int, int, int]:
    """Return the shape of chunks of whole blocks.

    Where a block of whole spectra has up to SMALL_COLUMN bytes, a chunk is as many such blocks as make up to PIXELS and
    BYTES: some across the whole image, or about a square. Else it is one block; for counts stored band by band, of one
    band.
    """
    rows, cols, bands = image.shape
    height, width = min(image.block[0], rows), min(image.block[1], cols)
    spectrum_bytes = bands * image.dtype.itemsize
    most = min(PIXELS, BYTES // spectrum_bytes)
    if height * width * spectrum_bytes > SMALL_COLUMN:
        return height, width, 1 if image.interleave == "band" and image.dtype.kind != "f" else bands
    if width == cols:
        return min(-(-rows // height), max(1, most // (height * width))) * height, width, bands
    times = max(1, math.isqrt(most // (height * width)))
    return min(-(-rows // height), times) * height, min(-(-cols // width), times) * width, bands
