"""The pass: from the stored chunks of a window to its products, each chunk decoded once, nothing transposed.

Small columns of chunks (see `hsichunk.chunks.columns`) are worked one a thread, whole spectra at a time, large ones
together by all threads. The sums are exact (see `hsichunk.unmixing.solver`), so both ways, and any number of threads,
give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.columns import TOGETHER, Adder, BandChunk, band_chunks, is_small, sum_large, sum_small
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, chunk_columns, chunk_window, common, cut_rows, within
from hsichunk.memory import release
from hsichunk.threads import in_parallel, scratch
from hsichunk.unmixing.count_sums import add_bands, add_spectra
from hsichunk.unmixing.left_out import NOTHING, Kept, LeaveOut
from hsichunk.unmixing.scoring import Products, Tally, empty_products, score_sums, tally_of
from hsichunk.unmixing.solver import Solver, prepare

FINISH_SLAB = 4096  # pixels solved and scored at once
FINISH_ROWS = 250  # of a large column whose products are made at a time


def solve_window(
    counts: Counts, solver: Solver, window: Window, threads: int, into: Products | None = None
) -> tuple[Products, Tally]:
    """Every product of the pixels of a window, float32, NaN where a kept band holds no data; and what it came to.

    Decodes each stored chunk that holds a kept band and a pixel of the window exactly once. The products are new
    arrays, or those given.
    """
    whole, tally = empty_products(solver, window.shape) if into is None else into, Tally()
    # fresh memory costs more than copying: strips of a large column take the place of the last
    rows = window.shape[0] if is_small(counts) else FINISH_ROWS
    for part, products, share in stream_window(counts, solver, window, threads, rows, into=whole):
        if products is not whole:
            at = within(part, window)
            for name, values in products.items():
                whole[name][..., *at] = values
        tally.add(share)
    return whole, tally


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
    """The same part by part, each about `rows` high (whole columns at least): a window need not fit in memory.

    `together` is how many band chunks of a large column are held at a time. A part that is the whole window of small
    columns is put into the arrays `into`, where there are some.
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
        kept, tally = leave_out.of(part)
        work = partial(_small_column, counts, solver, part, groups, out, kept, leave_out.corrupt)
        for share in in_parallel(work, chunk_columns(part, counts.stored.chunks), threads):
            tally.add(share)
        yield part, out, tally


def _adder(solver: Solver) -> Adder:
    return Adder(partial(add_spectra, solver), partial(add_bands, solver))


def load_kernels() -> None:
    """Has the compiled kernels of the pass in memory before they are needed: a quarter of a second of Python."""
    solver = prepare(np.eye(2) + 0.5, ["a", "b"], schema.PRODUCTS, 10_000.0, exact=True)
    total, valid, counts = np.zeros((solver.layout.rows, 2)), np.ones(2, np.bool_), np.full((2, 2), 5000, np.int16)
    add_bands(solver, counts, slice(0, 2), -9999, slice(0, 2), total, valid)
    add_spectra(solver, counts, ((0, 2, 0),), -9999, slice(0, 2), total, valid)
    score_sums(solver, total, valid)


@dataclass(frozen=True)
class _Part:
    """The part of a column that lies in the window: rows of the chunk, and where its pixels go in the products."""

    rows: slice
    cols: slice
    to_rows: slice
    to_cols: slice


def _part(stored: ChunkedArray, window: Window, column: tuple[int, int]) -> _Part:
    chunk = chunk_window(column, stored.chunks)
    shared = common(window, chunk)
    return _Part(*within(shared, chunk), *within(shared, window))


def _small_column(
    counts: Counts,
    solver: Solver,
    window: Window,
    groups: list[BandChunk],
    out: Products,
    kept: Kept,
    corrupt: bool,
    column: tuple[int, int],
) -> Tally:
    """One thread, one column: chunk after chunk inflated and added to sums that stay in the cache."""
    stored, part = counts.stored, _part(counts.stored, window, column)
    n = (part.rows.stop - part.rows.start) * stored.chunks[1]
    valid, total = np.ones(n, np.bool_), scratch("sums", (solver.layout.rows, n), np.float64)
    total.fill(0)
    bad = sum_small(counts, column, part.rows, groups, _adder(solver), total, valid, corrupt)
    tally = _finish(solver, total, valid, out, part, stored.chunks[1], kept)
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
    """All threads, one column: its sums, then its products strip by strip."""
    width, chunk = counts.stored.chunks[1], chunk_window(column, counts.stored.chunks)
    here = common(window, chunk)
    summed, cols = within(here, chunk)
    n = (summed.stop - summed.start) * width
    valid, total = np.ones(n, np.bool_), np.zeros((solver.layout.rows, n))
    bad = sum_large(counts, column, summed, groups, _adder(solver), total, valid, threads, together, leave_out.corrupt)
    release()
    decoded = Tally(chunks=len(groups), bytes=len(groups) * counts.stored.chunk_bytes, bad=bad)
    for part in cut_rows(here, 1, rows):
        out, (kept, tally) = empty_products(solver, part.shape), leave_out.of(part)
        tally.add(decoded)
        decoded = Tally()
        high = max(1, FINISH_SLAB // width)
        slabs = [range(r, min(r + high, part.bottom)) for r in range(part.top, part.bottom, high)]

        def finish(slab: range, out: Products = out, part: Window = part, kept: Kept = kept) -> Tally:
            at = slice((slab.start - here.top) * width, (slab.stop - here.top) * width)
            to = slice(slab.start - part.top, slab.stop - part.top)
            place = _Part(to, cols, to, slice(0, part.right - part.left))
            # rows of the whole column lie megabytes apart: side by side they share the cache
            return _finish(solver, total[:, at].copy(), valid[at], out, place, width, kept)

        for share in in_parallel(finish, slabs, threads):
            tally.add(share)
        yield part, out, tally


def _finish(
    solver: Solver,
    total: NDArray[np.float64],
    valid: NDArray[np.bool_],
    out: Products,
    part: _Part,
    width: int,
    kept: Kept = None,
) -> Tally:
    """Sums to products, written to their place in `out`; the pixels are whole rows of a column `width` wide."""
    inside = np.zeros((len(valid) // width, width), np.bool_)
    inside[:, part.cols] = True  # an edge chunk sticks out of the array, a chunk may stick out of the window
    pixels = int(inside.sum())
    if kept is not None:
        inside[:, part.cols] = kept[part.to_rows, part.to_cols]
    valid &= inside.ravel()
    products, tally = score_sums(solver, total, valid)
    tally_of(tally, products, valid, pixels)
    for name, values in products.items():
        if name in out:
            shaped = values.reshape(*values.shape[:-1], -1, width)
            out[name][..., part.to_rows, part.to_cols] = shaped[..., part.cols]
    return tally
