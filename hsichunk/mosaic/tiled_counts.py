"""Read the counts of many tiles on their common grid as if one file held them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from hsichunk.array_types import Bools, DaskToken, Numbers, Positions
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.windows import Window, cuts
from hsichunk.mosaic.site import PlacedTile, Site

MOST_CELLS = 20_000  # the most blocks that the edges of tiles off a regular grid may cut a mosaic into
EVEN_SIDE = 1024  # pixels: side of the blocks that such a mosaic is cut into beyond that
BLOCK_SIDE = 256  # pixels: about the height and width of a block of small columns


class TiledCounts(ChunkedArray):
    """The counts of many tiles on their common grid (y, x, band), read as if one file held them.

    Pixels without a tile hold no-data. The chunks are those of the largest tile in a few bands: callers that read
    chunks instead of positions decode more than they need.
    """

    def __init__(self, site: Site) -> None:
        arrays = [tile.file.reflectance for tile in site.tiles]
        # ancillary layers would only make the pickled tasks larger
        self.tiles = tuple(replace(tile, file=replace(tile.file, layers=())) for tile in site.tiles)
        self.no_data = site.tiles[0].file.no_data
        dtype = np.result_type(*(array.native for array in arrays), np.min_scalar_type(self.no_data))
        high, wide, deep = (max(sizes) for sizes in zip(*((*a.shape[:2], a.chunks[2]) for a in arrays), strict=True))
        sizes, changes = zip(*(array.stamp for array in arrays), strict=True)
        super().__init__(
            path=arrays[0].path,
            name=arrays[0].name,
            shape=(site.rows, site.cols, arrays[0].shape[2]),
            dtype=dtype,
            chunks=(high, wide, deep),
            stamp=(sum(sizes), max(changes)),
            fill=np.asarray(self.no_data, dtype),
            direct=all(array.direct for array in arrays),
        )
        owned = [(number, on_grid(tile, w)) for number, tile in enumerate(site.tiles) for w in tile.owned]
        self.of_tile = np.array([number for number, _ in owned], np.intp)
        """(n,) number of the tile that each window in `owned` belongs to"""
        self.owned = np.array([(w.top, w.bottom, w.left, w.right) for _, w in owned], np.intp).reshape(-1, 4)
        """(n, 4) windows of the grid that tiles own: top, bottom, left, right"""

    def __dask_tokenize__(self) -> DaskToken:
        tiles = tuple(tile.file.reflectance.__dask_tokenize__() for tile in self.tiles)
        return ("hsichunk.TiledCounts", tiles, self.of_tile.tobytes(), self.owned.tobytes(), self.no_data)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Open nothing: each tile opens its own file when it is read."""
        yield None

    @property
    def stored_bytes(self) -> int:
        """Bytes of the chunks of all tiles as they are stored."""
        return sum(tile.file.reflectance.stored_bytes for tile in self.tiles)

    def identity(self) -> bytes:
        """The identities of the stored values of all tiles, joined."""
        return b"".join(tile.file.reflectance.identity() for tile in self.tiles)

    def decode(self, handle: None, coords: ChunkCoords) -> Numbers:
        """Return the chunk at `coords` from the tiles under it; no-data beyond the array.

        The tiles count what they decode.
        """
        spans = [range(p * c, min((p + 1) * c, n)) for p, c, n in zip(coords, self.chunks, self.shape, strict=True)]
        chunk = np.full(self.chunks, self.no_data, self.native)
        inside = tuple(slice(0, len(span)) for span in spans)
        chunk[inside] = self.read(*(np.array(span, np.intp) for span in spans), threads=1)
        return chunk

    def read(self, *positions: Positions, threads: int | None = None) -> Numbers:
        """Return the values at the outer product of positions, in any order; decodes only chunks that hold one."""
        rows, cols, bands = positions
        out = np.full((len(rows), len(cols), len(bands)), self.no_data, self.native)
        for number in self._under(rows, cols):
            tile = self.tiles[self.of_tile[number]]
            in_rows, in_cols = self._inside(number, rows, cols)
            down, across = np.flatnonzero(in_rows), np.flatnonzero(in_cols)
            if down.size and across.size:
                array = tile.file.reflectance
                values = array.read(rows[down] - tile.top, cols[across] - tile.left, bands, threads=threads)
                out[np.ix_(down, across)] = self._with_own_no_data(values, tile)
        return out

    def gather(
        self,
        bands: Positions,
        rows: Positions,
        cols: Positions,
        threads: int,
        bad: Bools | None = None,
    ) -> Numbers:
        """Return values (m, L) of pixels (rows[i], cols[i]), each from the tile that owns it; no-data without a tile.

        `bad` (m,) is as in `ChunkedArray.gather`.
        """
        out = np.full((len(rows), len(bands)), self.no_data, self.native)
        for number in self._under(rows, cols):
            tile = self.tiles[self.of_tile[number]]
            here = np.flatnonzero(np.logical_and(*self._inside(number, rows, cols)))
            if here.size:
                failed = None if bad is None else np.zeros(len(here), np.bool_)
                down, across = rows[here] - tile.top, cols[here] - tile.left
                values = tile.file.reflectance.gather(bands, down, across, threads, failed)
                out[here] = self._with_own_no_data(values, tile)
                if bad is not None and failed is not None:
                    bad[here] |= failed
        return out

    def windows(self, window: Window) -> list[tuple[int, Window]]:
        """Return the parts of a window of the grid that tiles own: (number of the tile, window of the grid) of each."""
        top, bottom = np.maximum(self.owned[:, 0], window.top), np.minimum(self.owned[:, 1], window.bottom)
        left, right = np.maximum(self.owned[:, 2], window.left), np.minimum(self.owned[:, 3], window.right)
        return [
            (int(self.of_tile[i]), Window(int(top[i]), int(bottom[i]), int(left[i]), int(right[i])))
            for i in np.flatnonzero((top < bottom) & (left < right))
        ]

    def _under(self, rows: Positions, cols: Positions) -> Positions:
        """Return the numbers of the owned windows that may hold pixels of these rows and columns."""
        if not (len(rows) and len(cols)):
            return np.empty(0, np.intp)
        top, bottom, left, right = self.owned.T
        near = (top <= rows.max()) & (bottom > rows.min()) & (left <= cols.max()) & (right > cols.min())
        return np.flatnonzero(near)

    def _inside(self, number: int, rows: Positions, cols: Positions) -> tuple[Bools, Bools]:
        """Return which of the rows, and which of the columns, lie in an owned window."""
        top, bottom, left, right = self.owned[number]
        return (rows >= top) & (rows < bottom), (cols >= left) & (cols < right)

    def _with_own_no_data(self, values: Numbers, tile: PlacedTile) -> Numbers:
        """Return the values of a tile with its no-data value replaced by that of the mosaic."""
        if tile.file.no_data == self.no_data:
            return values
        return np.where(values == tile.file.no_data, self.dtype.type(self.no_data), values)


def on_grid(tile: PlacedTile, window: Window) -> Window:
    """Return a window of a tile in the rows and columns of the common grid."""
    return window.shifted(tile.top, tile.left)


def on_tile(tile: PlacedTile, window: Window) -> Window:
    """Return a window of the common grid in the rows and columns of a tile."""
    return window.shifted(-tile.top, -tile.left)


def cut_at(windows: Sequence[Window], area: Window) -> tuple[list[int], list[int]]:
    """Return the rows and the columns that cut an area of the grid at every edge of the windows in it.

    Where that would make too many cells, the area is cut evenly, at every EVEN_SIDE pixels.
    """
    rows = sorted({area.top, area.bottom, *(edge for w in windows for edge in (w.top, w.bottom))})
    cols = sorted({area.left, area.right, *(edge for w in windows for edge in (w.left, w.right))})
    if (len(rows) - 1) * (len(cols) - 1) <= max(MOST_CELLS, 4 * len(windows)):
        return rows, cols
    rows = [*range(area.top, area.bottom, EVEN_SIDE), area.bottom]
    cols = [*range(area.left, area.right, EVEN_SIDE), area.right]
    return rows, cols


def blocks_of(counts: Counts, window: Window, side: int = BLOCK_SIDE) -> tuple[list[int], list[int]]:
    """Return the edges of rows and of columns that cut a window between stored columns, about `side` pixels apart."""
    down, across = (max(1, round(side / size)) * size for size in counts.stored.chunks[:2])
    return cuts(window.top, window.bottom, down), cuts(window.left, window.right, across)
