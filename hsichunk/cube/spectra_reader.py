"""Whole spectra of any cube, a strip of rows after the other: for what needs all bands of a pixel side by side.

Strips hold a fixed number of rows of the image, whatever the chunks, so that what is added up strip by strip is the
same for any chunking. Where rows of chunks do not fit in memory, as where a stored chunk is a band of the whole tile,
each chunk is decoded once into a temporary file, pixel by pixel, and strips are read from there, as often as asked. Of
many tiles on one grid that file holds a row of tiles at a time, and is written anew when they are gone through again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Bools, Floats
from hsichunk.chunks.counts import Counts
from hsichunk.cube.checks import check_cube
from hsichunk.cube.cleaning import source_of
from hsichunk.cube.dask_pixels import from_dask
from hsichunk.cube.scratch import Scratch
from hsichunk.kernels import float_sums
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.threads import asked_for

MEMORY = 256 << 20  # bytes of spectra held at a time
STRIP_PIXELS = 4096  # in a strip, about: 362 bands of float64 are 12 MB


@dataclass(frozen=True)
class Strip:
    """Some rows of the image."""

    start: int
    """number of the first pixel: row by row, as the cube has them"""
    values: Floats
    """(n, L) in counts, where the cube says what they are, else in reflectance; 0 at pixels that are left out"""
    valid: Bools
    """(n,) finite, and data, in every band"""
    whole: bool
    """whether all values are whole counts"""


class SpectraReader:
    """The spectra of a cube, to be gone through any number of times; a context, which ends the temporary file."""

    def __init__(self, cube: xr.DataArray, memory: int | None = None, left_out: Bools | None = None) -> None:
        """`left_out` (y, x) are pixels that count as without data."""
        self.cube = check_cube(cube)
        self._left_out = None if left_out is None else left_out.reshape(-1)
        self.shape: tuple[int, int, int] = self.cube.shape  # type: ignore[assignment]
        self.memory = MEMORY if memory is None else memory
        self.scratch_bytes = 0
        self._source = source_of(self.cube)
        self._scratch: dict[int, Scratch] = {}
        self._held: NDArray[Any] | None = None
        scale = self._source[0].scale if self._source else self.cube.attrs.get(schema.COUNTS_PER_UNIT)
        self._counts = scale is not None
        self.scale = float(1.0 if scale is None else scale)
        """units of the values of strips in a unit of reflectance"""

    def __enter__(self) -> SpectraReader:
        return self

    def __exit__(self, *error: object) -> None:
        for scratch in self._scratch.values():
            scratch.file.close()
        self._scratch.clear()
        self._held = None

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1]

    def __iter__(self) -> Iterator[Strip]:
        """All strips, from the first row to the last."""
        height = max(1, STRIP_PIXELS // max(1, self.shape[1]))
        held: list[NDArray[Any]] = []
        rows, top = 0, 0
        for block in self._blocks():
            while len(block):
                part, block = block[: height - rows], block[height - rows :]
                held.append(part)
                rows += len(part)
                if rows == height:
                    yield self._strip(top, held)
                    held, rows, top = [], 0, top + height
        if held:
            yield self._strip(top, held)

    def _strip(self, top: int, held: list[NDArray[Any]]) -> Strip:
        raw = np.concatenate(held) if len(held) > 1 else held[0]
        start, raw = top * self.shape[1], raw.reshape(-1, self.shape[2])
        return Strip(start, *self._read(raw, slice(start, start + len(raw))))

    def _read(self, raw: NDArray[Any], pixels: slice | NDArray[np.intp]) -> tuple[Floats, Bools, bool]:
        """Float64 values of raw spectra (n, L), which of them are valid, and whether they are whole counts."""
        if self._source is not None:
            valid = np.isfinite(raw).all(1) & ~(raw == self._source[0].no_data).any(1) & self._kept(pixels)
            whole, values = raw.dtype.kind in "iu", raw.astype(np.float64)
        else:
            valid, whole = np.isfinite(raw).all(1) & self._kept(pixels), False
            if self._counts:
                counts, counted = np.empty(raw.shape, np.int16), np.ones(len(raw), np.bool_)
                float_sums.recover_counts(float_sums.as_floats(raw), self.scale, counts, valid.copy(), counted)
                whole = bool(counted[valid].all())
            values = counts.astype(np.float64) if whole else np.multiply(raw, self.scale, dtype=np.float64)
        values[~valid] = 0.0
        return values, valid, whole

    def leave_out(self, pixels: Bools) -> None:
        """From here on some (n,) of all pixels count as without data, too."""
        self._left_out = pixels if self._left_out is None else self._left_out | pixels

    def _kept(self, pixels: slice | NDArray[np.intp]) -> Bools | np.bool_:
        return np.True_ if self._left_out is None else ~self._left_out[pixels]

    def project(
        self,
        axes: Floats,
        unit: float,
        shift: Floats,
        values: Floats,
        valid: Bools,
        forget: Callable[[], None] | None = None,
    ) -> bool:
        """Fills `values` (pixels, d) with values @ axes (L, d) - shift, and `valid` (pixels,), from stored chunks.

        Does nothing and returns False where that would not be exact (axes are multiples of `unit`) or not keep within
        the memory, and where spectra lie there or in a temporary file by now: nothing is decoded to read them again.
        """
        if self._source is None or self._scratch or self._held is not None:
            return False
        from hsichunk.cube.projection import chunks_held, is_exact, project

        counts, rows, cols = self._source
        together = chunks_held(counts, axes.shape[1], self.memory)
        if not is_exact(counts, axes, unit) or not together:
            return False
        image = values.reshape(len(rows), len(cols), -1), valid.reshape(len(rows), len(cols))
        project(counts, rows, cols, axes, shift, *image, asked_for(), together, forget)
        valid &= self._kept(slice(None))
        return True

    def drawn(self, pixels: NDArray[np.intp]) -> Iterator[tuple[Floats, Bools, bool]]:
        """Pixels by number, some after the other, as strips have them; straight from the chunks that hold them.

        For what reads no others: these keep nothing that going through all of them could use.
        """
        raw = self._gather(*np.divmod(pixels, self.shape[1]))
        for start in range(0, len(pixels), STRIP_PIXELS):
            at = slice(start, start + STRIP_PIXELS)
            yield self._read(raw[at], pixels[at])

    def take(self, pixels: NDArray[np.intp]) -> tuple[Floats, Bools]:
        """Values (m, L) of pixels by number, and which are valid, in the order asked for."""
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

    def _gather(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
        if self._source is not None:
            counts, y, x = self._source
            return counts.gather(y[rows], x[cols], asked_for())
        data = self.cube.data
        if not hasattr(data, "dask"):
            return np.asarray(np.asarray(data)[rows, cols])
        return from_dask(data, rows, cols)

    @property
    def decodes(self) -> int:
        """How often each stored chunk is decoded at most, for its moments and its scores."""
        if self._source is None and not hasattr(self.cube.data, "dask"):
            return 0
        runs = [self._is_large(last - first) for first, last in self._runs()]
        held = len(runs) == 1 and not runs[0]
        return 1 if held or (all(runs) and self._tiles is None) else 2  # or it lies in the temporary file

    @property
    def _tiles(self) -> TiledCounts | None:
        """The tiles of a mosaic."""
        stored = self._source[0].stored if self._source else None
        return stored if isinstance(stored, TiledCounts) else None

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._source[0].stored.native if self._source else self.cube.dtype

    def _runs(self) -> list[tuple[int, int]]:
        """First row and the one after the last of each row of chunks."""
        if self._source is not None:
            edges = self._edges(self._source[0], self._source[1])
        elif hasattr(self.cube.data, "dask"):
            edges = np.cumsum(self.cube.data.chunks[0])[:-1]
        else:  # in memory: nothing is decoded, nothing is copied
            edges = np.arange(1, self.shape[0])
        return list(pairwise([0, *edges.tolist(), self.shape[0]]))

    def _edges(self, counts: Counts, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where rows of the cube (numbers of stored rows) pass from one row of chunks to the next."""
        if self._tiles is not None:
            runs = np.searchsorted(_edges_of_tiles(self._tiles), rows, side="right")
            cut = np.flatnonzero(np.diff(runs)) + 1
            if not self._is_large(int(np.diff([0, *cut, len(rows)]).max(initial=0))):
                return cut
        return np.flatnonzero(np.diff(rows // counts.stored.chunks[0])) + 1

    def _is_large(self, rows: int) -> bool:
        in_memory = self._source is None and not hasattr(self.cube.data, "dask")
        return not in_memory and rows * self.shape[1] * self.shape[2] * self._dtype.itemsize > self.memory // 2

    def _blocks(self) -> Iterator[NDArray[Any]]:
        """Raw spectra (rows, columns, L), some rows after the other."""
        for number, (first, last) in enumerate(self._runs()):
            if self._is_large(last - first):
                scratch = self._scratch_of(number, first, last)
                step = max(1, STRIP_PIXELS // self.shape[1])
                for row in range(0, last - first, step):
                    yield scratch.read(row, min(row + step, last - first))
                if self._tiles is not None:
                    self._scratch.pop(number).file.close()  # a site on disk once more would be too much
            else:
                yield self._block(first, last)

    def _block(self, first: int, last: int) -> NDArray[Any]:
        """Raw spectra of a row of chunks; kept where that is the whole image."""
        if self._held is not None:
            return self._held
        if self._source is not None:
            counts, rows, cols = self._source
            block = counts.stored.read(rows[first:last], cols, counts.bands, threads=asked_for())
        else:
            part = self.cube.data[first:last]
            block = np.asarray(part.compute() if hasattr(part, "dask") else part)
        if last - first == self.shape[0]:
            self._held = block
        return block

    def _scratch_of(self, number: int, first: int, last: int) -> Scratch:
        if number not in self._scratch:
            scratch = Scratch((last - first, *self.shape[1:]), self._dtype)
            self.scratch_bytes += scratch.bytes
            self._scratch[number] = scratch
            if self._source is not None:
                self._fill_from_stored(scratch, first, last)
            else:
                self._fill_from_dask(scratch, first, last)
        return self._scratch[number]

    def _fill_from_stored(self, scratch: Scratch, first: int, last: int) -> None:
        assert self._source is not None
        counts, rows, cols = self._source
        depth = counts.stored.chunks[2]
        for left, right in self._across(cols):
            one = (last - first) * (right - left) * self._dtype.itemsize  # bytes of a band
            # groups of bands that share no stored chunk, about a quarter of the budget each: they are held twice
            group = counts.bands // (max(1, self.memory // 4 // (one * depth)) * depth)
            for number in np.unique(group):
                at = np.flatnonzero(group == number)
                values = counts.stored.read(rows[first:last], cols[left:right], counts.bands[at], threads=asked_for())
                scratch.put(slice(left, right), slice(int(at[0]), int(at[-1]) + 1), values)

    def _across(self, cols: NDArray[np.intp]) -> list[tuple[int, int]]:
        """Columns of the cube that are read together: all of a tile, those of each tile of a mosaic."""
        edges: list[int] = []
        if self._tiles is not None:
            lefts = np.unique(self._tiles.owned[:, 2])
            edges = (np.flatnonzero(np.diff(np.searchsorted(lefts, cols, side="right"))) + 1).tolist()
        return list(pairwise([0, *edges, len(cols)]))

    def _fill_from_dask(self, scratch: Scratch, first: int, last: int) -> None:
        data = self.cube.data
        at = int(np.searchsorted(np.cumsum(data.chunks[0]), first, side="right"))
        edges = [np.concatenate([[0], np.cumsum(c)]) for c in data.chunks]
        for j in range(data.numblocks[1]):
            for b in range(data.numblocks[2]):
                cols, bands = slice(edges[1][j], edges[1][j + 1]), slice(edges[2][b], edges[2][b + 1])
                scratch.put(cols, bands, np.asarray(data.blocks[at, j, b].compute()))


def _edges_of_tiles(mosaic: TiledCounts) -> NDArray[np.intp]:
    """Rows of the grid where rows of chunks of tiles begin, those left out that follow on another closely."""
    begin: set[int] = set()
    high = 1
    for tile, (top, bottom) in zip(mosaic.of_tile.tolist(), mosaic.owned[:, :2].tolist(), strict=True):
        place = mosaic.tiles[tile]
        rows = place.file.reflectance.chunks[0]
        begin.update(range(place.top + (top - place.top) // rows * rows, bottom, rows))
        high = max(high, rows)
    edges = [0]
    for row in sorted(begin):
        # what lies between the last row of chunks of a tile and the first of the next; or tiles are not aligned
        if row - edges[-1] > high // 2:
            edges.append(row)
    return np.array(edges, np.intp)
