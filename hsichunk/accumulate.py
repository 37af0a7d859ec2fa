"""Counts to the sums behind every product, for the two ways in which they are stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hsichunk.kernels import bands, sums
from hsichunk.solver import Solver
from hsichunk.threads import scratch

PIXEL_SLAB = 128  # pixels x 362 bands x 2 operands x 8 bytes: three quarters of a second-level cache


def add_spectra(
    solver: Solver, rows: NDArray[np.int16], no_data: int | None, total: NDArray[np.float64], valid: NDArray[np.bool_]
) -> None:
    """Adds the sums of whole spectra `rows` (n, L + LANES) to `total` (rows of sums, n)."""
    for start in range(0, len(valid), PIXEL_SLAB):
        at = slice(start, min(start + PIXEL_SLAB, len(valid)))
        add_pixels(solver, rows[at], no_data, slice(0, solver.bands), total[:, at], valid[at])


def add_pixels(
    solver: Solver,
    rows: NDArray[np.int16],
    no_data: int | None,
    span: slice,
    total: NDArray[np.float64],
    valid: NDArray[np.bool_],
) -> None:
    """Adds the share of kept bands `span` of a slab of pixels to its sums."""
    shape = (len(valid), span.stop - span.start)
    x, ln = scratch("x", shape, np.float64), scratch("ln", shape, np.float64)
    low = sums.pixel_major(rows, _marker(no_data), solver.floor, _logs(solver), x, ln, total[0], total[-1], valid)
    _add_products(solver, x.T, ln.T, low, span, total)


def add_bands(
    solver: Solver,
    held: NDArray[np.int16],
    span: slice,
    no_data: int | None,
    at: slice,
    total: NDArray[np.float64],
    valid: NDArray[np.bool_],
) -> None:
    """Adds the share of kept bands `span`, held one a row (bands, N), to the sums of pixels `at`."""
    first, count = span.start, span.stop - span.start
    padded = -(-count // bands.GROUP) * bands.GROUP
    left, right = (np.zeros((len(w), padded)) for w in (solver.left, solver.right))
    left[:, :count] = solver.left[:, first : first + count]
    right[:, :count] = solver.right[:, first : first + count]
    x, ln = (scratch(name, (bands.GROUP, bands.SLAB), np.float64) for name in ("x", "ln"))
    logs, marker = _logs(solver), _marker(no_data)
    bands.add_bands(held, count, at.start, at.stop, marker, solver.floor, logs, left, right, total, valid, x, ln)


def _add_products(
    solver: Solver, x: NDArray[np.float64], ln: NDArray[np.float64], low: int, span: slice, total: NDArray[np.float64]
) -> None:
    """Adds the matrix products of operands x, ln (bands, n) to the sums (rows, n)."""
    p = solver.p
    raw = len(solver.left)
    if low >= solver.floor or not solver.with_sid:
        total[1 : 1 + raw] += solver.left[:, span] @ x
    else:  # FCLS and SAM take counts as they are, SID takes them floored
        total[1 : 1 + p] += solver.left[:p, span] @ x
        np.maximum(x, solver.floor, out=x)
        total[1 + p : 1 + raw] += solver.left[p:, span] @ x
    if solver.with_sid:
        total[2 + 2 * p : 2 + 3 * p] += solver.right[:, span] @ ln


_NO_LOGS = np.empty(0, np.int32)
_LOGS: dict[float, NDArray[np.int32]] = {}


def _logs(solver: Solver) -> NDArray[np.int32]:
    """The table of logarithms, empty without SID."""
    if not solver.with_sid:
        return _NO_LOGS
    if solver.floor not in _LOGS:
        _LOGS[solver.floor] = sums.log_table(solver.floor)
    return _LOGS[solver.floor]


def _marker(no_data: int | None) -> np.int16 | None:
    """The count that means no data; None where no int16 count does."""
    return None if no_data is None or not sums.LOWEST <= no_data <= sums.HIGHEST else np.int16(no_data)
