"""The pass over an image of floats, whose chunks hold whole spectra: each chunk is the work of one thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Bools, Floats
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, chunk_columns, chunk_window, common, cut_rows, within
from hsichunk.errors import CorruptChunk, HsiError
from hsichunk.threads import in_parallel
from hsichunk.unmixing.left_out import NOTHING, LeaveOut
from hsichunk.unmixing.scoring import Products, Tally, count_pixels, empty_products
from hsichunk.unmixing.solver import Solver, Solvers


def stream_floats(
    counts: Counts, solver: Solver, window: Window, threads: int, rows: int, leave_out: LeaveOut = NOTHING
) -> Iterator[tuple[Window, Products, Tally]]:
    """Yield what `stored_pass.stream_window` does, for values that are not whole counts: right to 1e-6, not to the bit.

    `solver` is one for floats (not exact); chunks hold whole spectra. Raises HsiError for an exact solver.
    """
    if solver.exact:
        raise HsiError(f"{counts.stored.path}: holds {counts.stored.native}; expected counts: open it by hsi.open_tile")
    checked = replace(solver, products=(*solver.products, schema.KKT))
    for part in cut_rows(window, counts.stored.chunks[0], rows):
        out, (wanted, tally) = empty_products(solver, part.shape), leave_out.select(part)

        def work(
            column: tuple[int, int], part: Window = part, out: Products = out, wanted: Bools | None = wanted
        ) -> Tally:
            return _column(counts, checked, part, column, out, wanted, leave_out.corrupt)

        for column_tally in in_parallel(work, chunk_columns(part, counts.stored.chunks), threads):
            tally.add(column_tally)
        yield part, out, tally


def _column(
    counts: Counts,
    solver: Solver,
    part: Window,
    column: tuple[int, int],
    out: Products,
    wanted: Bools | None,
    corrupt: bool,
) -> Tally:
    """Compute the products of the pixels of a chunk that lie in a part of the window, on this thread."""
    from hsichunk.unmixing.values_pass import solve_spectra

    stored, whole_chunk = counts.stored, chunk_window(column, counts.stored.chunks)
    shared = common(part, whole_chunk)
    rows, cols = within(shared, whole_chunk)
    to = within(shared, part)
    bad: list[list[int]] = []
    block: Floats = np.full((*shared.shape, len(counts.bands)), np.nan)
    try:
        with stored.opened() as handle:
            chunk = stored.chunk(handle, (*column, 0))
        block = reflectance(chunk[rows, cols][:, :, counts.bands], counts)
    except CorruptChunk:
        if not corrupt:
            raise
        bad = [[*column, 0]]
    if wanted is not None:
        block[~wanted[to]] = np.nan
    products = solve_spectra(block, Solvers(None, solver), 1)
    for name, values in products.items():
        if name in out:
            out[name][..., *to] = values
    tally, valid = Tally(), np.isfinite(block).all(2).ravel()
    flat = {name: values.reshape(*values.shape[:-2], -1) for name, values in products.items()}
    count_pixels(tally, flat, valid, valid.size)
    tally.chunks, tally.bytes, tally.bad = 1, stored.chunk_bytes, bad
    tally.solved = tally.valid
    return tally


def reflectance(stored: NDArray[np.number], counts: Counts) -> Floats:
    """Return stored floats as reflectance, NaN where they are no-data."""
    values: Floats = np.where(stored == counts.no_data, np.nan, stored / np.float64(counts.scale))
    return values
