"""Read whole spectra of any cube, one strip of rows after the other, where all bands of a pixel are needed at once.

Strips hold a fixed number of rows of the image, whatever the chunks, so that sums over strips are the same for any
chunking. Where rows of chunks do not fit in memory, as where a stored chunk is a band of the whole tile, each chunk is
decoded once into a temporary file, pixel by pixel, and strips are read from there, any number of times. Of many tiles
on one grid that file holds a row of tiles at a time, and is written anew when they are gone through again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bools, DaskArray, Floats, LazyOrNumpy, Number, Numbers, Positions, is_lazy
from hsichunk.chunks.counts import Counts
from hsichunk.cube.checks import check_cube
from hsichunk.cube.cleaning import ShownCounts, source_of
from hsichunk.cube.dask_pixels import from_dask
from hsichunk.cube.scratch import Scratch
from hsichunk.kernels import float_sums
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.threads import asked_for

MEMORY = 256 << 20  # bytes of spectra held at a time
STRIP_PIXELS = 4096  # in a strip, about: 362 bands of float64 are 12 MB


class Spectra(NamedTuple):
    """Spectra of some pixels."""

    values: Floats
    """(n, L) in counts, where the cube says what they are, else in reflectance; 0 at pixels that are left out"""
    valid: Bools
    """(n,) finite, and data, in every band"""
    integral: bool
    """whether all values are whole counts"""


@dataclass(frozen=True)
class Strip:
    """Some rows of the image."""

    start: int
    """number of the first pixel, counted row by row"""
    values: Floats
    valid: Bools
    integral: bool
    """values, valid and integral as in `Spectra`"""


class SpectraReader:
    """The spectra of a cube, to be iterated over any number of times; a context, which deletes the temporary files."""

    def __init__(self, cube: xr.DataArray, memory: int | None = None, left_out: Bools | None = None) -> None:
        """Read `cube` within `memory` bytes of spectra; pixels in `left_out` (y, x) count as without data."""
        self.cube = check_cube(cube)
        self._left_out = None if left_out is None else left_out.reshape(-1)
        self.shape: tuple[int, int, int] = self.cube.shape  # type: ignore[assignment]
        self.memory = MEMORY if memory is None else memory
        self.scratch_bytes = 0
        """bytes that have been written to temporary files"""
        self._source: ShownCounts | None = source_of(self.cube)
        self._scratch: dict[int, Scratch] = {}
        """the temporary file of each row of chunks that has one"""
        self._image: Numbers | None = None
        """raw spectra of the whole image, once they have been read at once"""
        scale = self._source.counts.scale if self._source else self.cube.attrs.get(schema.COUNTS_PER_UNIT)
        self._counts = scale is not None
        self.scale = float(1.0 if scale is None else scale)
        """counts per unit reflectance of the values of strips; 1 where these are reflectance"""

    def __enter__(self) -> SpectraReader:
        return self

    def __exit__(self, *error: object) -> None:
        for scratch in self._scratch.values():
            scratch.file.close()
        self._scratch.clear()
        self._image = None

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.shape[0] * self.shape[1]

    def __iter__(self) -> Iterator[Strip]:
        """Yield all strips, from the first row to the last."""
        height = max(1, STRIP_PIXELS // max(1, self.shape[1]))
        parts: list[Numbers] = []
        rows, top = 0, 0
        for block in self._blocks():
            while len(block):
                part, block = block[: height - rows], block[height - rows :]
                parts.append(part)
                rows += len(part)
                if rows == height:
                    yield self._strip(top, parts)
                    parts, rows, top = [], 0, top + height
        if parts:
            yield self._strip(top, parts)

    def _strip(self, top: int, parts: list[Numbers]) -> Strip:
        raw = np.concatenate(parts) if len(parts) > 1 else parts[0]
        start, raw = top * self.shape[1], raw.reshape(-1, self.shape[2])
        return Strip(start, *self._read(raw, slice(start, start + len(raw))))

    def _read(self, raw: Numbers, pixels: slice | Positions) -> Spectra:
        """Return raw spectra (n, L) of some pixels as float64."""
        valid, integral = self._finite(raw, pixels), False
        if self._source is not None:
            valid &= ~(raw == self._source.counts.no_data).any(1)
            integral, values = raw.dtype.kind in "iu", raw.astype(np.float64)
        else:
            if self._counts:
                counts, counted = np.empty(raw.shape, np.int16), np.ones(len(raw), np.bool_)
                float_sums.recover_counts(float_sums.as_floats(raw), self.scale, counts, valid.copy(), counted)
                integral = bool(counted[valid].all())
            values = counts.astype(np.float64) if integral else np.multiply(raw, self.scale, dtype=np.float64)
        values[~valid] = 0.0
        return Spectra(values, valid, integral)

    def leave_out(self, pixels: Bools) -> None:
        """Let some (n,) of all pixels count as without data, too, from here on."""
        self._left_out = pixels if self._left_out is None else self._left_out | pixels

    def _finite(self, raw: Numbers, pixels: slice | Positions) -> Bools:
        """Return which of some pixels are finite in all bands and not left out."""
        valid: Bools = np.logical_and.reduce(np.isfinite(raw), axis=1)
        return valid if self._left_out is None else valid & ~self._left_out[pixels]

    def project(
        self,
        axes: Floats,
        unit: float,
        shift: Floats,
        values: Floats,
        valid: Bools,
        forget: Callable[[], None] | None = None,
    ) -> bool:
        """Fill `values` (pixels, d) with spectra @ axes (L, d) - shift (d,), and `valid` (pixels,), from stored chunks.

        Axes are multiples of `unit`; `forget` frees values that lie in a file. Does nothing and returns False where
        the sums would not be exact or exceed the memory, and where the spectra are in memory or in a temporary file
        already, so that reading them decodes nothing.
        """
        if self._source is None or self._scratch or self._image is not None:
            return False
        from hsichunk.cube.projection import chunks_held, is_exact, project

        counts, rows, cols = self._source
        together = chunks_held(counts, axes.shape[1], self.memory)
        if not is_exact(counts, axes, unit) or not together:
            return False
        image = values.reshape(len(rows), len(cols), -1), valid.reshape(len(rows), len(cols))
        project(counts, rows, cols, axes, shift, *image, asked_for(), together, forget)
        valid &= True if self._left_out is None else ~self._left_out
        return True

    def drawn(self, pixels: Positions) -> Iterator[Spectra]:
        """Yield the spectra of pixels by number, some at a time, straight from the chunks that hold them.

        For callers that read no other pixels: nothing is kept that a later pass over all strips could use.
        """
        raw = self._gather(*np.divmod(pixels, self.shape[1]))
        for start in range(0, len(pixels), STRIP_PIXELS):
            at = slice(start, start + STRIP_PIXELS)
            yield self._read(raw[at], pixels[at])

    def take(self, pixels: Positions) -> tuple[Floats, Bools]:
        """Return the values (m, L) of pixels by number, and which are valid, in the order asked for."""
        rows, cols = np.divmod(np.asarray(pixels, np.intp), self.shape[1])
        raw = np.empty((len(rows), self.shape[2]), self._dtype)
        from_file = np.zeros(len(rows), np.bool_)
        if len(self._runs()) == 1 and not self._is_large(self.shape[0]):
            return self._read(self._block(0, self.shape[0])[rows, cols], pixels)[:2]
        for number, (first, last) in enumerate(self._runs()):
            here = (rows >= first) & (rows < last)
            if here.any() and self._is_large(last - first) and (self._tiles is None or number in self._scratch):
                scratch = self._scratch_of(number, first, last)
                for row in np.unique(rows[here]):
                    at = np.flatnonzero(rows == row)
                    raw[at] = scratch.read(int(row) - first, int(row) - first + 1)[0, cols[at]]
                from_file |= here
        rest = np.flatnonzero(~from_file)
        if len(rest):
            raw[rest] = self._gather(rows[rest], cols[rest])
        values, valid, _ = self._read(raw, pixels)
        return values, valid

    def _gather(self, rows: Positions, cols: Positions) -> Numbers:
        """Return raw spectra (m, L) of pixels (rows[i], cols[i])."""
        if self._source is not None:
            counts, y, x = self._source
            return counts.gather(y[rows], x[cols], asked_for())
        data = self._data
        return from_dask(data, rows, cols) if is_lazy(data) else np.asarray(data)[rows, cols]

    @property
    def _data(self) -> LazyOrNumpy:
        data: LazyOrNumpy = self.cube.data
        return data

    @property
    def _in_memory(self) -> bool:
        """Whether nothing has to be decoded or computed."""
        return self._source is None and not is_lazy(self._data)

    @property
    def decodes(self) -> int:
        """How often each stored chunk is decoded at most, for moments and scores: two passes over the strips."""
        if self._in_memory:
            return 0
        large = [self._is_large(last - first) for first, last in self._runs()]
        image_held = len(large) == 1 and not large[0]
        in_file = all(large) and self._tiles is None
        return 1 if image_held or in_file else 2

    @property
    def _tiles(self) -> TiledCounts | None:
        """The tiles of a mosaic; None for a single tile, and for a cube that is no selection of stored counts."""
        stored = self._source.counts.stored if self._source else None
        return stored if isinstance(stored, TiledCounts) else None

    @property
    def _dtype(self) -> np.dtype[Number]:
        """The type of raw spectra."""
        return self._source.counts.stored.native if self._source else self.cube.dtype

    def _runs(self) -> list[tuple[int, int]]:
        """Return the first row of each row of chunks, and the one after its last."""
        data = self._data
        if self._source is not None:
            edges = self._edges(self._source.counts, self._source.rows)
        elif is_lazy(data):
            edges = np.cumsum(data.chunks[0])[:-1]
        else:  # in memory: nothing is decoded, nothing is copied
            edges = np.arange(1, self.shape[0])
        return list(pairwise([0, *edges.tolist(), self.shape[0]]))

    def _edges(self, counts: Counts, rows: Positions) -> Positions:
        """Return the rows of the cube where a row of chunks begins: of a mosaic's tiles, if those fit in memory.

        `rows` are the numbers of the cube's rows in the stored array.
        """
        if self._tiles is not None:
            runs = np.searchsorted(_edges_of_tiles(self._tiles), rows, side="right")
            edges = np.flatnonzero(np.diff(runs)) + 1
            if not self._is_large(int(np.diff([0, *edges, len(rows)]).max(initial=0))):
                return edges
        return np.flatnonzero(np.diff(rows // counts.stored.chunks[0])) + 1

    def _is_large(self, rows: int) -> bool:
        """Return whether the spectra of so many rows go to a temporary file."""
        return not self._in_memory and rows * self.shape[1] * self.shape[2] * self._dtype.itemsize > self.memory // 2

    def _blocks(self) -> Iterator[Numbers]:
        """Yield raw spectra (rows, columns, L), some rows at a time."""
        for number, (first, last) in enumerate(self._runs()):
            if self._is_large(last - first):
                scratch = self._scratch_of(number, first, last)
                step = max(1, STRIP_PIXELS // self.shape[1])
                for row in range(0, last - first, step):
                    yield scratch.read(row, min(row + step, last - first))
                if self._tiles is not None:
                    self._scratch.pop(number).file.close()  # a second copy of a whole site would fill the disk
            else:
                yield self._block(first, last)

    def _block(self, first: int, last: int) -> Numbers:
        """Return raw spectra of a row of chunks, and keep them where that is the whole image."""
        if self._image is not None:
            return self._image
        if self._source is not None:
            counts, rows, cols = self._source
            block = counts.stored.read(rows[first:last], cols, counts.bands, threads=asked_for())
        else:
            part = self._data[first:last]
            block = np.asarray(part.compute() if is_lazy(part) else part)
        if last - first == self.shape[0]:
            self._image = block
        return block

    def _scratch_of(self, number: int, first: int, last: int) -> Scratch:
        """Return the temporary file with the spectra of a row of chunks, which is written if it is not there."""
        if number not in self._scratch:
            scratch = Scratch((last - first, *self.shape[1:]), self._dtype)
            self.scratch_bytes += scratch.bytes
            self._scratch[number] = scratch
            data = self._data
            if self._source is not None:
                self._fill_from_stored(scratch, self._source, first, last)
            elif is_lazy(data):
                _fill_from_dask(scratch, data, first)
        return self._scratch[number]

    def _fill_from_stored(self, scratch: Scratch, source: ShownCounts, first: int, last: int) -> None:
        """Write rows from `first` to `last` (excluded), decoding each stored chunk under them once."""
        counts, rows, cols = source
        depth = counts.stored.chunks[2]
        for left, right in self._across(cols):
            band_bytes = (last - first) * (right - left) * self._dtype.itemsize
            # groups of bands that share no stored chunk, about a quarter of the budget each: they are held twice
            group_of = counts.bands // (max(1, self.memory // 4 // (band_bytes * depth)) * depth)
            for group in np.unique(group_of):
                bands = np.flatnonzero(group_of == group)
                read = counts.stored.read
                values = read(rows[first:last], cols[left:right], counts.bands[bands], threads=asked_for())
                scratch.put(slice(left, right), slice(int(bands[0]), int(bands[-1]) + 1), values)

    def _across(self, cols: Positions) -> list[tuple[int, int]]:
        """Return the ranges of columns of the cube that are read together: all of a tile, each tile's of a mosaic."""
        edges: list[int] = []
        if self._tiles is not None:
            lefts = np.unique(self._tiles.owned[:, 2])
            edges = (np.flatnonzero(np.diff(np.searchsorted(lefts, cols, side="right"))) + 1).tolist()
        return list(pairwise([0, *edges, len(cols)]))


def _fill_from_dask(scratch: Scratch, data: DaskArray, first: int) -> None:
    """Write the row of blocks that begins at row `first`, computing each of its blocks once."""
    i = int(np.searchsorted(np.cumsum(data.chunks[0]), first, side="right"))
    edges = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in data.chunks]
    for j in range(data.numblocks[1]):
        for b in range(data.numblocks[2]):
            cols, bands = slice(edges[1][j], edges[1][j + 1]), slice(edges[2][b], edges[2][b + 1])
            scratch.put(cols, bands, np.asarray(data.blocks[i, j, b].compute()))


def _edges_of_tiles(mosaic: TiledCounts) -> Positions:
    """Return the rows of the grid where rows of chunks of tiles begin, without those that closely follow another."""
    begins: set[int] = set()
    high = 1
    for number, (top, bottom) in zip(mosaic.of_tile.tolist(), mosaic.owned[:, :2].tolist(), strict=True):
        tile = mosaic.tiles[number]
        rows = tile.file.reflectance.chunks[0]
        begins.update(range(tile.top + (top - tile.top) // rows * rows, bottom, rows))
        high = max(high, rows)
    edges = [0]
    for row in sorted(begins):
        # closer ones are a remnant between the last row of chunks of a tile and the first of the next, or come from
        # tiles that are not aligned
        if row - edges[-1] > high // 2:
            edges.append(row)
    return np.array(edges, np.intp)
