"""The pass: compute products from the stored chunks of a window; each chunk is decoded once, nothing is transposed.

A small column of chunks (see `hsichunk.chunks.columns`) is the work of one thread, whole spectra at a time; all threads
work on a large column together. The sums are exact (see `hsichunk.unmixing.solver`), so both ways, and any number of
threads, give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Bools, Floats
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.columns import TOGETHER, Adder, BandChunk, band_chunks, is_small, sum_large, sum_small
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, chunk_columns, chunk_window, common, cut_rows, within
from hsichunk.memory import release
from hsichunk.threads import in_parallel, scratch
from hsichunk.unmixing.count_sums import add_bands, add_spectra
from hsichunk.unmixing.left_out import NOTHING, LeaveOut
from hsichunk.unmixing.scoring import Products, Tally, count_pixels, empty_products, score_sums
from hsichunk.unmixing.solver import Solver, prepare

FINISH_SLAB = 4096  # pixels of a large column that are solved and scored at once
FINISH_ROWS = 250  # rows of a large column whose products are held at a time


def solve_window(
    counts: Counts, solver: Solver, window: Window, threads: int, into: Products | None = None
) -> tuple[Products, Tally]:
    """Return the products of the pixels of a window, float32, NaN where a kept band holds no data; and their tally.

    Decodes each stored chunk that holds a kept band and a pixel of the window exactly once. The products are new
    arrays, or the arrays `into`.
    """
    products, tally = empty_products(solver, window.shape) if into is None else into, Tally()
    # touching fresh memory costs more than copying: the strips of a large column reuse that of the strip before
    rows = window.shape[0] if is_small(counts) else FINISH_ROWS
    for part, strip, strip_tally in stream_window(counts, solver, window, threads, rows, into=products):
        if strip is not products:
            at = within(part, window)
            for name, values in strip.items():
                products[name][..., *at] = values
        tally.add(strip_tally)
    return products, tally


def stream_window(
    counts: Counts,
    solver: Solver,
    window: Window,
    threads: int,
    rows: int,
    together: int = TOGETHER,
    leave_out: LeaveOut = NOTHING,
    into: Products | None = None,
) -> Iterator[tuple[Window, Products, Tally]]:
    """Yield the parts of a window, each with its products and tally: a window need not fit in memory.

    A part is about `rows` high; small columns are not cut. `together` is how many band chunks of a large column are
    held at a time. Where small columns make the window one part, its products go into the arrays
    `into`, if given. Images of floats take the pass of `hsichunk.unmixing.float_pass`.
    """
    if counts.stored.dtype.kind == "f":
        from hsichunk.unmixing.float_pass import stream_floats

        yield from stream_floats(counts, solver, window, threads, rows, leave_out)
        return
    groups = band_chunks(counts)
    if not is_small(counts):
        for column in chunk_columns(window, counts.stored.chunks):
            yield from _large_column(counts, solver, window, column, groups, threads, rows, together, leave_out)
        return
    for part in cut_rows(window, counts.stored.chunks[0], rows):
        out = into if into is not None and part == window else empty_products(solver, part.shape)
        wanted, tally = leave_out.select(part)
        work = partial(_small_column, counts, solver, part, groups, out, wanted, leave_out.corrupt)
        for column_tally in in_parallel(work, chunk_columns(part, counts.stored.chunks), threads):
            tally.add(column_tally)
        yield part, out, tally


def _adder(solver: Solver) -> Adder:
    """Return the functions that add counts to the sums of a solver."""
    return Adder(partial(add_spectra, solver), partial(add_bands, solver))


def load_kernels() -> None:
    """Load the compiled kernels of the pass before they are needed, which takes a quarter of a second."""
    solver = prepare(np.eye(2) + 0.5, ["a", "b"], schema.PRODUCTS, 10_000.0, exact=True)
    total, valid, counts = np.zeros((solver.layout.rows, 2)), np.ones(2, np.bool_), np.full((2, 2), 5000, np.int16)
    add_bands(solver, counts, slice(0, 2), -9999, slice(0, 2), total, valid)
    add_spectra(solver, counts, ((0, 2, 0),), -9999, slice(0, 2), total, valid)
    score_sums(solver, total, valid)


@dataclass(frozen=True)
class _Part:
    """The part of a column of chunks that lies in a window."""

    rows: slice
    """in the chunk"""
    cols: slice
    to_rows: slice
    """in the products of the window"""
    to_cols: slice


def _part(stored: ChunkedArray, window: Window, column: tuple[int, int]) -> _Part:
    """Return the part of a column of chunks (down, across) that lies in a window."""
    chunk = chunk_window(column, stored.chunks)
    shared = common(window, chunk)
    return _Part(*within(shared, chunk), *within(shared, window))


def _small_column(
    counts: Counts,
    solver: Solver,
    window: Window,
    groups: list[BandChunk],
    out: Products,
    wanted: Bools | None,
    corrupt: bool,
    column: tuple[int, int],
) -> Tally:
    """Compute the products of a small column on this thread: add chunk after chunk to sums that stay in the cache."""
    stored, part = counts.stored, _part(counts.stored, window, column)
    n = (part.rows.stop - part.rows.start) * stored.chunks[1]
    valid, total = np.ones(n, np.bool_), scratch("sums", (solver.layout.rows, n), np.float64)
    total.fill(0)
    bad = sum_small(counts, column, part.rows, groups, _adder(solver), total, valid, corrupt)
    tally = _finish(solver, total, valid, out, part, stored.chunks[1], wanted)
    tally.chunks, tally.bytes, tally.bad = len(groups), len(groups) * stored.chunk_bytes, bad
    return tally


def _large_column(
    counts: Counts,
    solver: Solver,
    window: Window,
    column: tuple[int, int],
    groups: list[BandChunk],
    threads: int,
    rows: int,
    together: int,
    leave_out: LeaveOut,
) -> Iterator[tuple[Window, Products, Tally]]:
    """Sum a large column with all threads, then yield its products strip by strip."""
    width, chunk = counts.stored.chunks[1], chunk_window(column, counts.stored.chunks)
    shared = common(window, chunk)
    chunk_rows, cols = within(shared, chunk)
    n = (chunk_rows.stop - chunk_rows.start) * width
    valid, total = np.ones(n, np.bool_), np.zeros((solver.layout.rows, n))
    bad = sum_large(
        counts, column, chunk_rows, groups, _adder(solver), total, valid, threads, together, leave_out.corrupt
    )
    release()
    decoded = Tally(chunks=len(groups), bytes=len(groups) * counts.stored.chunk_bytes, bad=bad)
    for part in cut_rows(shared, 1, rows):
        out, (wanted, tally) = empty_products(solver, part.shape), leave_out.select(part)
        tally.add(decoded)  # with the first strip
        decoded = Tally()
        height = max(1, FINISH_SLAB // width)
        slabs = [range(row, min(row + height, part.bottom)) for row in range(part.top, part.bottom, height)]

        def finish(slab: range, out: Products = out, part: Window = part, wanted: Bools | None = wanted) -> Tally:
            at = slice((slab.start - shared.top) * width, (slab.stop - shared.top) * width)
            to_rows = slice(slab.start - part.top, slab.stop - part.top)
            in_part = _Part(to_rows, cols, to_rows, slice(0, part.right - part.left))
            # sums of one pixel lie megabytes apart in the whole column; those of a copied slab fit the cache together
            return _finish(solver, total[:, at].copy(), valid[at], out, in_part, width, wanted)

        for slab_tally in in_parallel(finish, slabs, threads):
            tally.add(slab_tally)
        yield part, out, tally


def _finish(
    solver: Solver,
    total: Floats,
    valid: Bools,
    out: Products,
    part: _Part,
    width: int,
    wanted: Bools | None,
) -> Tally:
    """Compute products from the sums of whole rows of a column `width` wide, and write those of a part to `out`."""
    inside = np.zeros((len(valid) // width, width), np.bool_)
    inside[:, part.cols] = True  # an edge chunk sticks out of the array, a chunk may stick out of the window
    pixels = int(inside.sum())
    if wanted is not None:
        inside[:, part.cols] = wanted[part.to_rows, part.to_cols]
    valid &= inside.ravel()
    products, tally = score_sums(solver, total, valid)
    count_pixels(tally, products, valid, pixels)
    for name, values in products.items():
        if name in out:
            shaped = values.reshape(*values.shape[:-1], -1, width)
            out[name][..., part.to_rows, part.to_cols] = shaped[..., part.cols]
    return tally
