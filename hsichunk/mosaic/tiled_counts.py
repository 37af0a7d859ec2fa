"""The counts of many tiles on their common grid, read as if one file held them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.windows import Window, cuts
from hsichunk.mosaic.site import PlacedTile, Site

MOST_CELLS = 20_000  # blocks that tiles laid out of line may cut a mosaic into
EVEN_SIDE = 1024  # pixels: how such a mosaic is cut instead
BLOCK_SIDE = 256  # pixels: about how wide and high a block of small columns is made


class TiledCounts(ChunkedArray):
    """The counts of many tiles on their common grid (y, x, band), read as if one file held them.

    No-data where no tile lies. `chunks` are about those of a whole tile in a few bands: what asks for chunks in place
    of positions gets them, but decodes more than it needs to.
    """

    def __init__(self, site: Site) -> None:
        tiles = [place.file.reflectance for place in site.tiles]
        # what reads other layers is not carried along to where blocks are worked
        self.tiles = tuple(replace(place, file=replace(place.file, layers=())) for place in site.tiles)
        self.no_data = site.tiles[0].file.no_data
        dtype = np.result_type(*(tile.native for tile in tiles), np.min_scalar_type(self.no_data))
        high, wide, deep = (max(sizes) for sizes in zip(*((*t.shape[:2], t.chunks[2]) for t in tiles), strict=True))
        sizes, changes = zip(*(tile.stamp for tile in tiles), strict=True)
        super().__init__(
            path=tiles[0].path,
            name=tiles[0].name,
            shape=(site.rows, site.cols, tiles[0].shape[2]),
            dtype=dtype,
            chunks=(high, wide, deep),
            stamp=(sum(sizes), max(changes)),
            fill=np.asarray(self.no_data, dtype),
            direct=all(tile.direct for tile in tiles),
        )
        owned = [(t, on_grid(place, w)) for t, place in enumerate(site.tiles) for w in place.owned]
        self.of_tile = np.array([t for t, _ in owned], np.intp)
        """(n,) number of the tile that each window of the grid belongs to"""
        self.owned = np.array([(w.top, w.bottom, w.left, w.right) for _, w in owned], np.intp).reshape(-1, 4)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        tiles = tuple(place.file.reflectance.__dask_tokenize__() for place in self.tiles)
        return ("hsichunk.TiledCounts", tiles, self.of_tile.tobytes(), self.owned.tobytes(), self.no_data)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """No file of its own to open."""
        yield None

    @property
    def stored_bytes(self) -> int:
        """Bytes of the chunks of all tiles as they are stored."""
        return sum(place.file.reflectance.stored_bytes for place in self.tiles)

    def identity(self) -> bytes:
        """What stands for the stored values of all tiles, one after the other."""
        return b"".join(place.file.reflectance.identity() for place in self.tiles)

    def decode(self, handle: Any, coords: ChunkCoords) -> NDArray[Any]:
        """What the tiles hold in a place of the grid of chunks; no-data in what sticks out. The tiles count it."""
        spans = [range(p * c, min((p + 1) * c, n)) for p, c, n in zip(coords, self.chunks, self.shape, strict=True)]
        whole = np.full(self.chunks, self.no_data, self.native)
        inside = tuple(slice(0, len(span)) for span in spans)
        whole[inside] = self.read(*(np.array(span, np.intp) for span in spans), threads=1)
        return whole

    def read(self, *positions: NDArray[np.intp], threads: int | None = None) -> NDArray[Any]:
        """The values at the outer product of positions, in any order; decodes only what chunks of tiles they touch."""
        rows, cols, bands = positions
        out = np.full((len(rows), len(cols), len(bands)), self.no_data, self.native)
        for number in self._under(rows, cols):
            place = self.tiles[self.of_tile[number]]
            down, across = self._inside(number, rows, cols)
            at, to = np.flatnonzero(down), np.flatnonzero(across)
            if at.size and to.size:
                tile = place.file.reflectance
                values = tile.read(rows[at] - place.top, cols[to] - place.left, bands, threads=threads)
                out[np.ix_(at, to)] = self._translated(values, place)
        return out

    def gather(
        self,
        bands: NDArray[np.intp],
        rows: NDArray[np.intp],
        cols: NDArray[np.intp],
        threads: int,
        bad: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """Values (m, L) of pixels (rows[i], cols[i]), from each tile its own; no-data where none lies."""
        out = np.full((len(rows), len(bands)), self.no_data, self.native)
        for number in self._under(rows, cols):
            place = self.tiles[self.of_tile[number]]
            here = np.flatnonzero(np.logical_and(*self._inside(number, rows, cols)))
            if here.size:
                failed: tuple[NDArray[np.bool_], ...] = () if bad is None else (np.zeros(len(here), np.bool_),)
                down, across = rows[here] - place.top, cols[here] - place.left
                values = place.file.reflectance.gather(bands, down, across, threads, *failed)
                out[here] = self._translated(values, place)
                if bad is not None:
                    bad[here] |= failed[0]
        return out

    def windows(self, window: Window) -> list[tuple[int, Window]]:
        """Number of the tile and window of the grid, for all that lies in a window of it."""
        top, bottom = np.maximum(self.owned[:, 0], window.top), np.minimum(self.owned[:, 1], window.bottom)
        left, right = np.maximum(self.owned[:, 2], window.left), np.minimum(self.owned[:, 3], window.right)
        return [
            (int(self.of_tile[i]), Window(int(top[i]), int(bottom[i]), int(left[i]), int(right[i])))
            for i in np.flatnonzero((top < bottom) & (left < right))
        ]

    def _under(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.intp]:
        """Numbers of the windows that may hold pixels of these rows and columns."""
        if not (len(rows) and len(cols)):
            return np.empty(0, np.intp)
        top, bottom, left, right = self.owned.T
        near = (top <= rows.max()) & (bottom > rows.min()) & (left <= cols.max()) & (right > cols.min())
        return np.flatnonzero(near)

    def _inside(
        self, number: int, rows: NDArray[np.intp], cols: NDArray[np.intp]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        top, bottom, left, right = self.owned[number]
        return (rows >= top) & (rows < bottom), (cols >= left) & (cols < right)

    def _translated(self, values: NDArray[Any], place: PlacedTile) -> NDArray[Any]:
        """With the mosaic's own no-data value."""
        if place.file.no_data == self.no_data:
            return values
        return np.where(values == place.file.no_data, self.dtype.type(self.no_data), values)


def on_grid(place: PlacedTile, window: Window) -> Window:
    """Where on the common grid a window of a tile lies."""
    return window.shifted(place.top, place.left)


def on_tile(place: PlacedTile, window: Window) -> Window:
    """The rows and columns of a tile that a window of the common grid is."""
    return window.shifted(-place.top, -place.left)


def cut_at(windows: Sequence[Window], whole: Window) -> tuple[list[int], list[int]]:
    """Rows and columns that cut a window of the grid at every edge of windows in it; evenly if that were too many."""
    rows = sorted({whole.top, whole.bottom, *(edge for w in windows for edge in (w.top, w.bottom))})
    cols = sorted({whole.left, whole.right, *(edge for w in windows for edge in (w.left, w.right))})
    if (len(rows) - 1) * (len(cols) - 1) <= max(MOST_CELLS, 4 * len(windows)):
        return rows, cols
    return [*range(whole.top, whole.bottom, EVEN_SIDE), whole.bottom], [
        *range(whole.left, whole.right, EVEN_SIDE),
        whole.right,
    ]


def blocks_of(counts: Counts, window: Window, side: int = BLOCK_SIDE) -> tuple[list[int], list[int]]:
    """Edges of rows and of columns that cut a window between stored columns, about `side` pixels apart."""
    down, across = (max(1, round(side / size)) * size for size in counts.stored.chunks[:2])
    return cuts(window.top, window.bottom, down), cuts(window.left, window.right, across)
