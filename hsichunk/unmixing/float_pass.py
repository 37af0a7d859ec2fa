"""The pass over an image of floats: chunks of whole spectra in memory, each worked by one thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, chunk_columns, chunk_window, common, cut_rows, within
from hsichunk.errors import CorruptChunk, HsiError
from hsichunk.threads import in_parallel
from hsichunk.unmixing.left_out import NOTHING, LeaveOut
from hsichunk.unmixing.scoring import Products, Tally, empty_products, tally_of
from hsichunk.unmixing.solver import Solver


def stream_floats(
    counts: Counts, solver: Solver, window: Window, threads: int, rows: int, leave_out: LeaveOut = NOTHING
) -> Iterator[tuple[Window, Products, Tally]]:
    """What `column.stream_window` gives, of values that are no whole counts: right to 1e-6, not to the bit.

    `solver` is one for floats (not exact), chunks hold whole spectra.
    """
    if solver.exact:
        raise HsiError(f"{counts.stored.path}: holds {counts.stored.native}; expected counts: open it by hsi.open_tile")
    checked = replace(solver, products=(*solver.products, schema.KKT))
    for part in cut_rows(window, counts.stored.chunks[0], rows):
        out, (kept, tally) = empty_products(solver, part.shape), leave_out.of(part)

        def work(
            column: tuple[int, int], part: Window = part, out: Products = out, kept: NDArray[np.bool_] | None = kept
        ) -> Tally:
            return _column(counts, checked, part, column, out, kept, leave_out.corrupt)

        for share in in_parallel(work, chunk_columns(part, counts.stored.chunks), threads):
            tally.add(share)
        yield part, out, tally


def _column(
    counts: Counts,
    solver: Solver,
    part: Window,
    column: tuple[int, int],
    out: Products,
    kept: NDArray[np.bool_] | None,
    corrupt: bool,
) -> Tally:
    from hsichunk.unmixing.values_pass import solve_spectra

    stored, whole = counts.stored, chunk_window(column, counts.stored.chunks)
    shared = common(part, whole)
    rows, cols = within(shared, whole)
    to = within(shared, part)
    bad: list[list[int]] = []
    block: NDArray[Any] = np.full((*shared.shape, len(counts.bands)), np.nan)
    try:
        with stored.opened() as handle:
            chunk = stored.chunk(handle, (*column, 0))
        block = reflectance(chunk[rows, cols][:, :, counts.bands], counts)
    except CorruptChunk:
        if not corrupt:
            raise
        bad = [[*column, 0]]
    if kept is not None:
        block[~kept[to]] = np.nan
    products = solve_spectra(block, (None, solver), 1)
    for name, values in products.items():
        if name in out:
            out[name][..., *to] = values
    tally, valid = Tally(), np.isfinite(block).all(2).ravel()
    flat = {name: values.reshape(*values.shape[:-2], -1) for name, values in products.items()}
    tally_of(tally, flat, valid, valid.size)
    tally.chunks, tally.bytes, tally.bad = 1, stored.chunk_bytes, bad
    tally.solved = tally.valid
    return tally


def reflectance(stored: NDArray[Any], counts: Counts) -> NDArray[np.float64]:
    """Stored floats as reflectance, NaN where they are no data."""
    found: NDArray[np.float64] = np.where(stored == counts.no_data, np.nan, stored / np.float64(counts.scale))
    return found
