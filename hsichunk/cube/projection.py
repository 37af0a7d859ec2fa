"""Project every pixel of a cube of stored counts on a few axes; each stored chunk is decoded once, nothing transposed.

The axes are d weights a band, which costs d multiplications a count. `hsichunk.unmixing.stored_pass` goes through the
chunks in the same way for the products of a pass. Weights are rounded so that sums of counts are exact: any chunks,
tiles and number of threads give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hsichunk.array_types import Bools, Floats, Int16s, Positions
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.columns import TOGETHER, Adder, BandChunk, band_chunks, is_small, sum_large, sum_small
from hsichunk.chunks.counts import Counts, Runs, marker, readonly
from hsichunk.chunks.windows import Window
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.threads import in_parallel, scratch

LARGEST = 2.0**53  # units of the last place: smaller sums are exact
COUNT = 2.0**15  # no count is larger
FEWEST = 8  # band chunks of a large column held at a time; with fewer the sums are gone through too often
AT_ONCE = 16  # small columns a thread works before values that lie in a file are freed


@dataclass(frozen=True)
class _Shown:
    """Pixels that an image shows of one stored array: the outer product of rows and columns."""

    rows: Positions
    """of the stored array"""
    cols: Positions
    """of the stored array"""
    to_rows: Positions
    """the rows of the image that these become"""
    to_cols: Positions
    """the columns of the image that these become"""

    def of(self, column: tuple[int, int], size: tuple[int, ...]) -> _Shown:
        """Return the pixels in a column of chunks of this size, their rows and columns counted from its corner."""
        top, left = column[0] * size[0], column[1] * size[1]
        down = np.flatnonzero((self.rows >= top) & (self.rows < top + size[0]))
        across = np.flatnonzero((self.cols >= left) & (self.cols < left + size[1]))
        return _Shown(self.rows[down] - top, self.cols[across] - left, self.to_rows[down], self.to_cols[across])


@dataclass(frozen=True)
class _Image:
    """The arrays that a projection fills."""

    values: Floats
    """(rows, columns, d)"""
    valid: Bools
    """(rows, columns)"""
    shift: Floats
    """(d,) what is subtracted from sums"""
    forget: Callable[[], None] | None = None
    """frees the memory of values that lie in a file"""


@dataclass(frozen=True)
class _Resources:
    """What a projection may use."""

    threads: int
    together: int
    """band chunks of a large column held at a time"""


def is_exact(counts: Counts, weights: Floats, unit: float) -> bool:
    """Return whether `project` gives exact sums: of int16 counts, with weights (L, d) that are multiples of `unit`."""
    small = bool((np.abs(weights).sum(0) * COUNT <= LARGEST * unit).all())
    return small and all(array.native == np.int16 for array in _arrays(counts))


def chunks_held(counts: Counts, axes: int, memory: int) -> int:
    """Return how many band chunks of a large column fit in `memory` bytes beside its sums; 0 where too few do."""
    sums = max(math.prod(array.chunks[:2]) for array in _arrays(counts)) * axes * 8
    large = [array for array in _arrays(counts) if not is_small(replace(counts, stored=array))]
    band_bytes = max((math.prod(array.chunks[:2]) * 2 for array in large), default=0)
    if sums + FEWEST * band_bytes > memory:
        return 0
    return min(TOGETHER, (memory - sums) // band_bytes) if band_bytes else TOGETHER


def _arrays(counts: Counts) -> list[ChunkedArray]:
    """Return the stored arrays of files: those of the tiles of a mosaic, or the one array itself."""
    stored = counts.stored
    return [tile.file.reflectance for tile in stored.tiles] if isinstance(stored, TiledCounts) else [stored]


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
    """Fill `values` (rows, columns, d) with counts @ weights (L, d) - shift (d,), and `valid` (rows, columns).

    The caller checks `is_exact` first. Pixels with no-data in a kept band are not valid, nor are those that no tile
    holds; their counts are taken for 0. `together` is what `chunks_held` returns; `forget` frees the memory of values
    that lie in a file.
    """
    image, resources = _Image(values, valid, shift, forget), _Resources(threads, together)
    across_bands = np.ascontiguousarray(weights.T)
    if not isinstance(counts.stored, TiledCounts):
        everything = _Shown(rows, cols, np.arange(len(rows)), np.arange(len(cols)))
        _project_tile(counts, [everything], across_bands, image, resources)
        return
    mosaic = counts.stored
    valid[:] = False
    for row in values:
        row[:] = 0.0 - shift
        if forget is not None:
            forget()
    by_tile: dict[int, list[_Shown]] = {}
    for number, window in mosaic.windows(Window(0, mosaic.shape[0], 0, mosaic.shape[1])):
        tile = mosaic.tiles[number]
        down = np.flatnonzero((rows >= window.top) & (rows < window.bottom))
        across = np.flatnonzero((cols >= window.left) & (cols < window.right))
        if len(down) and len(across):
            shown = _Shown(rows[down] - tile.top, cols[across] - tile.left, down, across)
            by_tile.setdefault(number, []).append(shown)
    for number, parts in by_tile.items():
        _project_tile(mosaic.tiles[number].counts(counts.bands), parts, across_bands, image, resources)


def _project_tile(counts: Counts, parts: list[_Shown], weights: Floats, image: _Image, resources: _Resources) -> None:
    """Project the parts that the image shows of one stored array; `weights` are (d, L)."""
    threads = resources.threads
    columns = sorted({column for part in parts for column in _columns(counts.stored, part)})
    chunks = band_chunks(counts)
    adder = Adder(partial(project_spectra, weights), partial(project_bands, weights))
    if is_small(counts):
        work = partial(_small_column, counts, parts, chunks, adder, image)
        step = len(columns) if image.forget is None else AT_ONCE * threads
        for start in range(0, len(columns), step):
            in_parallel(work, columns[start : start + step], threads)
            if image.forget is not None:
                image.forget()
        return
    for column in columns:
        _large_column(counts, parts, chunks, adder, image, resources, column)
        if image.forget is not None:
            image.forget()


def _columns(stored: ChunkedArray, part: _Shown) -> list[tuple[int, int]]:
    """Return the columns of chunks that hold pixels of a part."""
    down, across = np.unique(part.rows // stored.chunks[0]), np.unique(part.cols // stored.chunks[1])
    return [(int(i), int(j)) for i in down for j in across]


def _rows_of(parts: list[_Shown]) -> tuple[int, int]:
    """Return the first row that any part shows, and the one after the last."""
    return min(int(p.rows.min()) for p in parts), max(int(p.rows.max()) for p in parts) + 1


def _inside(stored: ChunkedArray, parts: list[_Shown], column: tuple[int, int]) -> list[_Shown]:
    """Return what lies of the parts in a column of chunks, counted from its corner."""
    shown = (part.of(column, stored.chunks) for part in parts)
    return [part for part in shown if len(part.rows) and len(part.cols)]


def _small_column(
    counts: Counts, parts: list[_Shown], chunks: list[BandChunk], adder: Adder, image: _Image, column: tuple[int, int]
) -> None:
    """Project a column on this thread, whole spectra at a time."""
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
    resources: _Resources,
    column: tuple[int, int],
) -> None:
    """Project a column on all threads."""
    stored, here = counts.stored, _inside(counts.stored, parts, column)
    top, bottom = _rows_of(here)
    n = (bottom - top) * stored.chunks[1]
    valid, total = np.ones(n, np.bool_), np.zeros((len(image.shift), n))
    threads = resources.threads
    sum_large(counts, column, slice(top, bottom), chunks, adder, total, valid, threads, resources.together)

    def put(part: _Shown) -> None:
        _put(image, part, total, valid, stored.chunks[1], top)

    in_parallel(put, [piece for part in here for piece in _cut(part, 2 * threads)], threads)


def _cut(part: _Shown, pieces: int) -> list[_Shown]:
    """Cut a part into some of fewer rows."""
    rows = np.array_split(np.arange(len(part.rows)), min(pieces, len(part.rows)))
    return [_Shown(part.rows[some], part.cols, part.to_rows[some], part.to_cols) for some in rows]


def _put(image: _Image, part: _Shown, total: Floats, valid: Bools, width: int, top: int) -> None:
    """Write sums (d, n) of whole rows of a column, from its row `top` on, to where the image shows them."""
    adjacent = all((np.diff(at) == 1).all() for at in (part.rows, part.cols, part.to_rows, part.to_cols))
    index = _slices if adjacent else np.ix_
    source, destination = index(part.rows - top, part.cols), index(part.to_rows, part.to_cols)
    good = valid.reshape(-1, width)[source]
    image.valid[destination] = good
    for axis, sums in enumerate(total):
        image.values[(*destination, axis)] = np.where(good, sums.reshape(-1, width)[source], 0.0) - image.shift[axis]


def _slices(rows: Positions, cols: Positions) -> tuple[slice, slice]:
    """Return as slices rows and columns that follow one another."""
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def project_spectra(
    axes: Floats,
    pixels: Int16s,
    runs: Runs,
    no_data: int | None,
    at: slice,
    total: Floats,
    valid: Bools,
) -> None:
    """Add counts of the pixels in `at`, times `axes` (d, L), to sums `total` (d, N); see `Adder.spectra`."""
    from hsichunk.kernels import projection

    pixels = readonly(pixels)
    for first, bands, kept in runs:
        projection.add_spectra(pixels, at.start, at.stop, first, bands, kept, marker(no_data), axes, total, valid)


def project_bands(
    axes: Floats,
    bands: Int16s,
    kept: slice,
    no_data: int | None,
    at: slice,
    total: Floats,
    valid: Bools,
) -> None:
    """Add counts of the pixels in `at`, times `axes` (d, L), to sums `total` (d, N); see `Adder.bands`."""
    from hsichunk.kernels import projection

    count, never = kept.stop - kept.start, marker(no_data)
    projection.add_bands(readonly(bands), count, kept.start, at.start, at.stop, never, axes, total, valid)
