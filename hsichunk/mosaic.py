"""Many tiles as one lazy dataset: `hsi.open_mosaic`."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from hsichunk import provenance, schema
from hsichunk.backend import LazyStored, count_attrs, cube_coords, described, stored_attrs, with_grid
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.hdf5 import StoredArray
from hsichunk.chunks.windows import Window
from hsichunk.site import Place, Site, open_site

BLOCK_BYTES = 32 << 20  # of reflectance, as float32, in one dask block
MOST_CELLS = 20_000  # blocks that tiles laid out of line may cut a mosaic into
EVEN_SIDE = 1024  # pixels: how such a mosaic is cut instead
BLOCK_SIDE = 256  # pixels: about how wide and high a block of small columns is made


class TiledCounts(StoredArray):
    """The counts of many tiles on their common grid (y, x, band), read as if one file held them.

    No-data where no tile lies. `chunks` are about those of a whole tile in a few bands: what asks for chunks in place
    of positions gets them, but decodes more than it needs to.
    """

    def __init__(self, site: Site) -> None:
        tiles = [place.file.reflectance for place in site.places]
        # what reads other layers is not carried along to where blocks are worked
        self.places = tuple(replace(place, file=replace(place.file, layers=())) for place in site.places)
        self.no_data = site.places[0].file.no_data
        self.path, self.name = tiles[0].path, tiles[0].name
        self.direct, self.remote, self.filters, self.stored_chunks = False, False, (), None
        self.shape = (site.rows, site.cols, tiles[0].shape[2])
        self.dtype = np.result_type(*(tile.native for tile in tiles), np.min_scalar_type(self.no_data))
        high, wide, deep = (max(sizes) for sizes in zip(*((*t.shape[:2], t.chunks[2]) for t in tiles), strict=True))
        self.chunks = (high, wide, deep)
        owned = [(t, on_grid(place, w)) for t, place in enumerate(site.places) for w in place.owned]
        self.of_tile = np.array([t for t, _ in owned], np.intp)
        """(n,) number of the tile that each window of the grid belongs to"""
        self.owned = np.array([(w.top, w.bottom, w.left, w.right) for _, w in owned], np.intp).reshape(-1, 4)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        tiles = tuple(place.file.reflectance.__dask_tokenize__() for place in self.places)
        return ("hsichunk.TiledCounts", tiles, self.of_tile.tobytes(), self.owned.tobytes(), self.no_data)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """No file of its own to open."""
        yield None

    def chunk(self, handle: Any, place: tuple[int, ...]) -> NDArray[Any]:
        """What the tiles hold in a place of the grid of chunks; no-data in what sticks out."""
        spans = [range(p * c, min((p + 1) * c, n)) for p, c, n in zip(place, self.chunks, self.shape, strict=True)]
        whole = np.full(self.chunks, self.no_data, self.native)
        inside = tuple(slice(0, len(span)) for span in spans)
        whole[inside] = self.read(*(np.array(span, np.intp) for span in spans), threads=1)
        return whole

    def read(self, *selection: NDArray[np.intp], threads: int | None = None) -> NDArray[Any]:
        """The values at the outer product of positions, in any order; decodes only what chunks of tiles they touch."""
        rows, cols, bands = selection
        out = np.full((len(rows), len(cols), len(bands)), self.no_data, self.native)
        for number in self._under(rows, cols):
            place = self.places[self.of_tile[number]]
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
        """`sampling.gather` of the tiles: pixels (rows[i], cols[i]) in some bands (m, L), no-data where none lies."""
        from hsichunk.chunks.gather import gather

        out = np.full((len(rows), len(bands)), self.no_data, self.native)
        for number in self._under(rows, cols):
            place = self.places[self.of_tile[number]]
            here = np.flatnonzero(np.logical_and(*self._inside(number, rows, cols)))
            if here.size:
                failed: tuple[NDArray[np.bool_], ...] = () if bad is None else (np.zeros(len(here), np.bool_),)
                down, across = rows[here] - place.top, cols[here] - place.left
                out[here] = self._translated(gather(place.counts(bands), down, across, threads, *failed), place)
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

    def _translated(self, values: NDArray[Any], place: Place) -> NDArray[Any]:
        """With the mosaic's own no-data value."""
        if place.file.no_data == self.no_data:
            return values
        return np.where(values == place.file.no_data, self.dtype.type(self.no_data), values)


def open_mosaic(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    chunks: Mapping[str, Any] | str | None = "tiles",
) -> xr.Dataset:
    """Opens many NEON tiles as one Dataset on their common grid; reads their metadata, none of their pixels.

    Returns what `open_tile` does, its ancillary layers aside: `reflectance(y, x, wavelength)` in counts as stored, the
    no-data value where no tile lies; `wavelength`, `fwhm` in nm; `y`, `x` pixel centres in metres; `spatial_ref`;
    attributes that all tiles share. Where tiles overlap the first by file name counts, whatever the order of `paths`.
    `chunks`: "tiles" for dask blocks that keep within tiles and share no stored chunk; None for none, as open_tile;
    else what `Dataset.chunk` takes. `unmix` works tile by tile whatever they are, and gives the same bits as
    `hsichunk run` over the same tiles. Raises HsiError for tiles of different CRS, pixel size, wavelengths, bad-band
    windows or scale, and for grids that do not align.
    """
    return as_dataset(open_site([paths] if isinstance(paths, (str, os.PathLike)) else paths), chunks)


def as_dataset(site: Site, chunks: Mapping[str, Any] | str | None) -> xr.Dataset:
    """The Dataset of tiles on their grid, as `open_mosaic` gives it."""
    counts, first = TiledCounts(site), site.places[0].file
    # one tile is read as it is stored where nothing asks for blocks of many
    alone = chunks is None and first.reflectance.shape == counts.shape and len(site.places) == 1
    alone = alone and site.places[0].owned == (Window(0, site.rows, 0, site.cols),)
    shared = _shared([place.file.attrs for place in site.places])
    attrs = stored_attrs(shared, count_attrs(first, counts.no_data))
    dims = (schema.Y, schema.X, schema.WAVELENGTH)
    encoding = {"preferred_chunks": dict(zip(dims, counts.chunks, strict=True))}
    stored = first.reflectance if alone else counts
    variable = xr.Variable(dims, indexing.LazilyIndexedArray(LazyStored(stored)), attrs, encoding)
    if chunks == "tiles":
        variable = variable.chunk(dict(zip(dims, _blocks(counts), strict=True)))
    elif chunks is not None:
        variable = variable.chunk(chunks)
    coords = cube_coords(first, site.grid, site.rows, site.cols)
    mosaic = with_grid(xr.Dataset({schema.REFLECTANCE: variable}, coords), site.grid)
    return described(mosaic, first, site.grid, _chunk_words(site), len(site.places))


def _chunk_words(site: Site) -> dict[str, str]:
    """How the tiles are stored, where there are no more than two ways."""
    tiles = [place.file.reflectance for place in site.places]
    ways = list(dict.fromkeys(provenance.chunk_words(tile.stored_chunks, tile.dtype) for tile in tiles))
    return {provenance.CHUNKS: " and ".join(ways) if len(ways) <= 2 else f"{ways[0]} and {len(ways) - 1} other ways"}


def _shared(attrs: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes that all tiles have, of the same value; NEON's extent is each tile's own."""
    first, *others = attrs
    return {
        name: value
        for name, value in first.items()
        if all(name in other and np.array_equal(other[name], value) for other in others)
    }


def on_grid(place: Place, window: Window) -> Window:
    """Where on the common grid a window of a tile lies."""
    down, across = place.top, place.left
    return Window(window.top + down, window.bottom + down, window.left + across, window.right + across)


def on_tile(place: Place, window: Window) -> Window:
    """The rows and columns of a tile that a window of the common grid is."""
    down, across = place.top, place.left
    return Window(window.top - down, window.bottom - down, window.left - across, window.right - across)


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

    def edges(first: int, last: int, size: int) -> list[int]:
        step = max(1, round(side / size)) * size
        return [first, *range((first // step + 1) * step, last, step), last]

    cy, cx, _ = counts.stored.chunks
    return edges(window.top, window.bottom, cy), edges(window.left, window.right, cx)


def _blocks(counts: TiledCounts) -> tuple[tuple[int, ...], ...]:
    """Sizes of dask blocks that keep within tiles: whole spectra where that is cheap, else some bands of a column."""
    rows, cols, bands = counts.shape
    everything = Window(0, rows, 0, cols)
    columns = [math.prod(place.file.reflectance.chunks[:2]) for place in counts.places]
    depth = bands
    side = max(1, math.isqrt(BLOCK_BYTES // (bands * 4)))
    if max(columns) * bands * 4 > BLOCK_BYTES:
        least = counts.chunks[2]
        depth = min(bands, max(1, BLOCK_BYTES // (max(columns) * 4 * least)) * least)
        side = max(counts.chunks[:2])
    parts = []
    for number, window in counts.windows(everything):
        place = counts.places[number]
        down, across = blocks_of(place.counts(np.arange(bands)), on_tile(place, window), side)
        parts += [on_grid(place, Window(t, b, lft, r)) for t, b in pairwise(down) for lft, r in pairwise(across)]
    edges = cut_at(parts, everything)
    return (*(tuple(int(n) for n in np.diff(e)) for e in edges), _even(bands, depth))


def _even(size: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, size - start) for start in range(0, size, step))
