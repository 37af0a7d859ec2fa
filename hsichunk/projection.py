"""Every pixel of a cube of stored counts along a few axes, each stored chunk decoded once, nothing transposed.

What `hsichunk.column` does for the products of a pass, for products with d weights a band: d multiplications a count.
Columns of chunks are worked one a thread where they are small, together by all threads where a chunk is a band. Weights
are rounded so that sums of counts are exact: any chunks, any tiles and any number of threads give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.column import FEWEST_PIXELS, GROUP_BANDS, TOGETHER, is_small
from hsichunk.counts import Counts, Window
from hsichunk.mosaic import TiledCounts
from hsichunk.stored import StoredArray
from hsichunk.threads import in_parallel, scratch

NEVER = 1 << 40  # a count that is none, for `no_data`
LARGEST = 2.0**53  # below this many units of the last place sums are exact
COUNT = 2.0**15  # no count is larger

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Positions = NDArray[np.intp]


@dataclass(frozen=True)
class _Shown:
    """Pixels of one stored array, the outer product of rows and columns, and where they are in the image."""

    rows: Positions
    cols: Positions
    to_rows: Positions
    to_cols: Positions

    def of(self, column: tuple[int, int], size: tuple[int, ...]) -> _Shown:
        """Those in a column of chunks, their rows and columns counted from its corner."""
        top, left = column[0] * size[0], column[1] * size[1]
        down = np.flatnonzero((self.rows >= top) & (self.rows < top + size[0]))
        across = np.flatnonzero((self.cols >= left) & (self.cols < left + size[1]))
        return _Shown(self.rows[down] - top, self.cols[across] - left, self.to_rows[down], self.to_cols[across])


@dataclass(frozen=True)
class _Image:
    """What is filled."""

    values: Floats
    """(rows, columns, d)"""
    valid: Bools
    """(rows, columns)"""
    shift: Floats
    """(d,) what sums are less by"""


def is_exact(counts: Counts, weights: Floats, unit: float) -> bool:
    """Whether `project` gives exact sums of these counts: int16, and weights (L, d) that are multiples of `unit`."""
    small = bool((np.abs(weights).sum(0) * COUNT <= LARGEST * unit).all())
    return small and all(array.native == np.int16 for array in _arrays(counts))


def bytes_held(counts: Counts, axes: int) -> int:
    """What the sums of the largest column of chunks take."""
    return max(math.prod(array.chunks[:2]) for array in _arrays(counts)) * axes * 8


def _arrays(counts: Counts) -> list[StoredArray]:
    stored = counts.stored
    return [place.file.reflectance for place in stored.places] if isinstance(stored, TiledCounts) else [stored]


def project(
    counts: Counts,
    rows: Positions,
    cols: Positions,
    weights: Floats,
    shift: Floats,
    values: Floats,
    valid: Bools,
    threads: int,
) -> None:
    """Fills `values` (rows, columns, d) with counts @ weights (L, d) - shift (d,), and `valid` (rows, columns).

    Weights are such that `is_exact`. Pixels with no-data in a kept band are not valid, as are those that no tile holds;
    their counts are taken for 0.
    """
    image = _Image(values, valid, shift)
    across_bands = np.ascontiguousarray(weights.T)
    if not isinstance(counts.stored, TiledCounts):
        everything = _Shown(rows, cols, np.arange(len(rows)), np.arange(len(cols)))
        _project_tile(counts, [everything], across_bands, image, threads)
        return
    mosaic = counts.stored
    valid[:] = False
    values[:] = 0.0 - shift
    by_tile: dict[int, list[_Shown]] = {}
    for tile, window in mosaic.windows(Window(0, mosaic.shape[0], 0, mosaic.shape[1])):
        place = mosaic.places[tile]
        down = np.flatnonzero((rows >= window.top) & (rows < window.bottom))
        across = np.flatnonzero((cols >= window.left) & (cols < window.right))
        if len(down) and len(across):
            shown = _Shown(rows[down] - place.top, cols[across] - place.left, down, across)
            by_tile.setdefault(tile, []).append(shown)
    for tile, parts in by_tile.items():
        _project_tile(mosaic.places[tile].counts(counts.bands), parts, across_bands, image, threads)


def _project_tile(counts: Counts, parts: list[_Shown], weights: Floats, image: _Image, threads: int) -> None:
    columns = sorted({column for part in parts for column in _columns(counts.stored, part)})
    chunks = list(_band_chunks(counts))
    if is_small(counts):
        work = partial(_small_column, counts, parts, chunks, weights, image)
        in_parallel(work, columns, threads)
        return
    for column in columns:
        _large_column(counts, parts, chunks, weights, image, threads, column)


def _columns(stored: StoredArray, part: _Shown) -> list[tuple[int, int]]:
    down, across = np.unique(part.rows // stored.chunks[0]), np.unique(part.cols // stored.chunks[1])
    return [(int(i), int(j)) for i in down for j in across]


@dataclass(frozen=True)
class _BandChunk:
    """A chunk along the bands, and the runs of kept bands in it."""

    number: int
    runs: tuple[tuple[int, int, int], ...]
    """(first band in the chunk, bands, first kept band)"""


def _band_chunks(counts: Counts) -> Iterator[_BandChunk]:
    depth = counts.stored.chunks[2]
    number = counts.bands // depth
    for n in np.unique(number):
        at = np.flatnonzero(number == n)
        runs = np.split(at, np.flatnonzero(np.diff(counts.bands[at]) != 1) + 1)
        yield _BandChunk(int(n), tuple((int(counts.bands[r[0]] - n * depth), len(r), int(r[0])) for r in runs))


def _rows_of(parts: list[_Shown]) -> tuple[int, int]:
    """First row that any part shows, and the one after the last."""
    return min(int(p.rows.min()) for p in parts), max(int(p.rows.max()) for p in parts) + 1


def _inside(stored: StoredArray, parts: list[_Shown], column: tuple[int, int]) -> list[_Shown]:
    shown = (part.of(column, stored.chunks) for part in parts)
    return [part for part in shown if len(part.rows) and len(part.cols)]


def _small_column(
    counts: Counts,
    parts: list[_Shown],
    chunks: list[_BandChunk],
    weights: Floats,
    image: _Image,
    column: tuple[int, int],
) -> None:
    """One thread, one column: chunk after chunk inflated and added to sums that stay in the cache."""
    from hsichunk.kernels import projection

    stored, here = counts.stored, _inside(counts.stored, parts, column)
    top, bottom = _rows_of(here)
    n = (bottom - top) * stored.chunks[1]
    valid, total = np.ones(n, np.bool_), scratch("projection", (len(weights), n), np.float64)
    total.fill(0)
    with stored.opened() as handle:
        stored.announce(handle, ((*column, chunk.number) for chunk in chunks))
        for chunk in chunks:
            pixels = _pixels(stored.chunk(handle, (*column, chunk.number)), top, bottom)
            for run in chunk.runs:
                projection.add_spectra(pixels, 0, n, *run, _marker(counts), weights, total, valid)
    for part in here:
        _put(image, part, total, valid, stored.chunks[1], top)


def _large_column(
    counts: Counts,
    parts: list[_Shown],
    chunks: list[_BandChunk],
    weights: Floats,
    image: _Image,
    threads: int,
    column: tuple[int, int],
) -> None:
    """All threads, one column: a group of chunks inflated, its share added to the sums, the next."""
    from hsichunk.kernels import projection

    stored, here = counts.stored, _inside(counts.stored, parts, column)
    top, bottom = _rows_of(here)
    width, single, marker = stored.chunks[1], stored.chunks[2] == 1, _marker(counts)
    n = (bottom - top) * width
    valid, total = np.ones(n, np.bool_), np.zeros((len(weights), n))
    together = TOGETHER if single else max(1, GROUP_BANDS // stored.chunks[2])
    held: Any = np.empty((together, n), np.int16) if single else [None] * together
    step = max(FEWEST_PIXELS, -(-n // (2 * threads)))
    lots = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    for start in range(0, len(chunks), together):
        batch = chunks[start : start + together]

        def inflate(item: tuple[int, _BandChunk]) -> None:
            position, chunk = item
            with stored.opened() as handle:
                pixels = _pixels(stored.chunk(handle, (*column, chunk.number)), top, bottom)
            held[position] = pixels[:, 0] if single else pixels

        def add(at: slice, batch: list[_BandChunk] = batch) -> None:
            if single:
                first = batch[0].runs[0][2]
                projection.add_bands(held, len(batch), first, at.start, at.stop, marker, weights, total, valid)
                return
            for pixels, chunk in zip(held, batch, strict=False):
                for run in chunk.runs:
                    projection.add_spectra(pixels, at.start, at.stop, *run, marker, weights, total, valid)

        in_parallel(inflate, enumerate(batch), threads)
        in_parallel(add, lots, threads)

    def put(part: _Shown) -> None:
        _put(image, part, total, valid, width, top)

    in_parallel(put, [piece for part in here for piece in _cut(part, 2 * threads)], threads)


def _marker(counts: Counts) -> int:
    return NEVER if counts.no_data is None else int(counts.no_data)


def _pixels(chunk: NDArray[Any], top: int, bottom: int) -> NDArray[np.int16]:
    """Some rows of a chunk as (n, bands), not to be written: decoded bytes are not, and one kind is one compilation."""
    pixels = np.ascontiguousarray(chunk[top:bottom]).reshape(-1, chunk.shape[2]).view()
    pixels.flags.writeable = False
    return pixels


def _cut(part: _Shown, pieces: int) -> list[_Shown]:
    """The same, some rows at a time."""
    lots = np.array_split(np.arange(len(part.rows)), min(pieces, len(part.rows)))
    return [_Shown(part.rows[lot], part.cols, part.to_rows[lot], part.to_cols) for lot in lots]


def _put(image: _Image, part: _Shown, total: Floats, valid: Bools, width: int, top: int) -> None:
    """Sums (d, n) of whole rows of a column, from row `top` of it, to the places of what is shown of it."""
    of: Any = np.ix_(part.rows - top, part.cols)
    to: Any = np.ix_(part.to_rows, part.to_cols)
    if all((np.diff(at) == 1).all() for at in (part.rows, part.cols, part.to_rows, part.to_cols)):
        first = int(part.rows[0]) - top
        of = np.s_[first : first + len(part.rows), part.cols[0] : part.cols[0] + len(part.cols)]
        to = np.s_[part.to_rows[0] : part.to_rows[-1] + 1, part.to_cols[0] : part.to_cols[-1] + 1]
    good = valid.reshape(-1, width)[of]
    image.valid[to] = good
    for axis, sums in enumerate(total):
        image.values[(*to, axis)] = np.where(good, sums.reshape(-1, width)[of], 0.0) - image.shift[axis]
