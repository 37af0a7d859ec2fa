"""Every pixel of a cube of stored counts along a few axes, each stored chunk decoded once, nothing transposed.

What `hsichunk.unmixing.stored_pass` does for the products of a pass, for products with d weights a band: d
multiplications a count. Weights are rounded so that sums of counts are exact: any chunks, tiles and number of threads
give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.columns import TOGETHER, Adder, BandChunk, band_chunks, is_small, sum_large, sum_small
from hsichunk.chunks.counts import Counts, Runs, marker, readonly
from hsichunk.chunks.windows import Window
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.threads import in_parallel, scratch

LARGEST = 2.0**53  # below this many units of the last place sums are exact
COUNT = 2.0**15  # no count is larger
FEWEST = 8  # band chunks of a large column held at a time; with fewer the sums are gone through too often
AT_ONCE = 16  # columns a thread after which scores in a file are let go of


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
    forget: Callable[[], None] | None = None
    """lets go of values that lie in a file"""


@dataclass(frozen=True)
class _How:
    """How chunks are gone through."""

    threads: int
    together: int
    """band chunks of a large column held at a time"""


def is_exact(counts: Counts, weights: Floats, unit: float) -> bool:
    """Whether `project` gives exact sums of these counts: int16, and weights (L, d) that are multiples of `unit`."""
    small = bool((np.abs(weights).sum(0) * COUNT <= LARGEST * unit).all())
    return small and all(array.native == np.int16 for array in _arrays(counts))


def chunks_held(counts: Counts, axes: int, memory: int) -> int:
    """How many band chunks of a large column fit in a memory beside the sums of the largest; 0 where too few do."""
    sums = max(math.prod(array.chunks[:2]) for array in _arrays(counts)) * axes * 8
    large = [array for array in _arrays(counts) if not is_small(replace(counts, stored=array))]
    one = max((math.prod(array.chunks[:2]) * 2 for array in large), default=0)
    if sums + FEWEST * one > memory:
        return 0
    return min(TOGETHER, (memory - sums) // one) if one else TOGETHER


def _arrays(counts: Counts) -> list[ChunkedArray]:
    stored = counts.stored
    return [place.file.reflectance for place in stored.tiles] if isinstance(stored, TiledCounts) else [stored]


def project(
    counts: Counts,
    rows: Positions,
    cols: Positions,
    weights: Floats,
    shift: Floats,
    values: Floats,
    valid: Bools,
    threads: int,
    together: int = TOGETHER,
    forget: Callable[[], None] | None = None,
) -> None:
    """Fills `values` (rows, columns, d) with counts @ weights (L, d) - shift (d,), and `valid` (rows, columns).

    Weights are such that `is_exact`. Pixels with no-data in a kept band are not valid, as are those that no tile holds;
    their counts are taken for 0. `together` is what `chunks_held` gives; `forget` lets go of values in a file.
    """
    image, how = _Image(values, valid, shift, forget), _How(threads, together)
    across_bands = np.ascontiguousarray(weights.T)
    if not isinstance(counts.stored, TiledCounts):
        everything = _Shown(rows, cols, np.arange(len(rows)), np.arange(len(cols)))
        _project_tile(counts, [everything], across_bands, image, how)
        return
    mosaic = counts.stored
    valid[:] = False
    for row in values:
        row[:] = 0.0 - shift
        if forget is not None:
            forget()
    by_tile: dict[int, list[_Shown]] = {}
    for tile, window in mosaic.windows(Window(0, mosaic.shape[0], 0, mosaic.shape[1])):
        place = mosaic.tiles[tile]
        down = np.flatnonzero((rows >= window.top) & (rows < window.bottom))
        across = np.flatnonzero((cols >= window.left) & (cols < window.right))
        if len(down) and len(across):
            shown = _Shown(rows[down] - place.top, cols[across] - place.left, down, across)
            by_tile.setdefault(tile, []).append(shown)
    for tile, parts in by_tile.items():
        _project_tile(mosaic.tiles[tile].counts(counts.bands), parts, across_bands, image, how)


def _project_tile(counts: Counts, parts: list[_Shown], weights: Floats, image: _Image, how: _How) -> None:
    columns = sorted({column for part in parts for column in _columns(counts.stored, part)})
    chunks = band_chunks(counts)
    adder = Adder(partial(project_spectra, weights), partial(project_bands, weights))
    if is_small(counts):
        work = partial(_small_column, counts, parts, chunks, adder, image)
        step = len(columns) if image.forget is None else AT_ONCE * how.threads
        for start in range(0, len(columns), step):
            in_parallel(work, columns[start : start + step], how.threads)
            if image.forget is not None:
                image.forget()
        return
    for column in columns:
        _large_column(counts, parts, chunks, adder, image, how, column)
        if image.forget is not None:
            image.forget()


def _columns(stored: ChunkedArray, part: _Shown) -> list[tuple[int, int]]:
    down, across = np.unique(part.rows // stored.chunks[0]), np.unique(part.cols // stored.chunks[1])
    return [(int(i), int(j)) for i in down for j in across]


def _rows_of(parts: list[_Shown]) -> tuple[int, int]:
    """First row that any part shows, and the one after the last."""
    return min(int(p.rows.min()) for p in parts), max(int(p.rows.max()) for p in parts) + 1


def _inside(stored: ChunkedArray, parts: list[_Shown], column: tuple[int, int]) -> list[_Shown]:
    shown = (part.of(column, stored.chunks) for part in parts)
    return [part for part in shown if len(part.rows) and len(part.cols)]


def _small_column(
    counts: Counts, parts: list[_Shown], chunks: list[BandChunk], adder: Adder, image: _Image, column: tuple[int, int]
) -> None:
    """One thread, one column."""
    stored, here = counts.stored, _inside(counts.stored, parts, column)
    top, bottom = _rows_of(here)
    n = (bottom - top) * stored.chunks[1]
    valid, total = np.ones(n, np.bool_), scratch("projection", (len(image.shift), n), np.float64)
    total.fill(0)
    sum_small(counts, column, slice(top, bottom), chunks, adder, total, valid)
    for part in here:
        _put(image, part, total, valid, stored.chunks[1], top)


def _large_column(
    counts: Counts,
    parts: list[_Shown],
    chunks: list[BandChunk],
    adder: Adder,
    image: _Image,
    how: _How,
    column: tuple[int, int],
) -> None:
    """All threads, one column."""
    stored, here = counts.stored, _inside(counts.stored, parts, column)
    top, bottom = _rows_of(here)
    n = (bottom - top) * stored.chunks[1]
    valid, total = np.ones(n, np.bool_), np.zeros((len(image.shift), n))
    threads = how.threads
    sum_large(counts, column, slice(top, bottom), chunks, adder, total, valid, threads, how.together)

    def put(part: _Shown) -> None:
        _put(image, part, total, valid, stored.chunks[1], top)

    in_parallel(put, [piece for part in here for piece in _cut(part, 2 * threads)], threads)


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


def project_spectra(
    axes: Floats,
    pixels: NDArray[np.int16],
    runs: Runs,
    no_data: int | None,
    at: slice,
    total: NDArray[np.float64],
    valid: NDArray[np.bool_],
) -> None:
    """As `add_spectra`, to sums (d, N) of counts times `axes` (d, L) alone."""
    from hsichunk.kernels import projection

    pixels = readonly(pixels)
    for first, count, to in runs:
        projection.add_spectra(pixels, at.start, at.stop, first, count, to, marker(no_data), axes, total, valid)


def project_bands(
    axes: Floats,
    bands: NDArray[np.int16],
    kept: slice,
    no_data: int | None,
    at: slice,
    total: NDArray[np.float64],
    valid: NDArray[np.bool_],
) -> None:
    """As `add_bands`, to sums (d, N) of counts times `axes` (d, L) alone."""
    from hsichunk.kernels import projection

    count, never = kept.stop - kept.start, marker(no_data)
    projection.add_bands(readonly(bands), count, kept.start, at.start, at.stop, never, axes, total, valid)
