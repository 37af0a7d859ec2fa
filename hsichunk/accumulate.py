"""Counts to the sums behind every product, for the two ways in which they are stored."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hsichunk.kernels import stored_sums, sums
from hsichunk.solver import Solver

Runs = Iterable[tuple[int, int, int]]
"""(first band in the chunk, bands, first kept band) of each run of kept bands"""


def add_spectra(
    solver: Solver,
    pixels: NDArray[np.int16],
    runs: Runs,
    no_data: int | None,
    at: slice,
    total: NDArray[np.float64],
    valid: NDArray[np.bool_],
) -> None:
    """Adds runs of bands of `pixels` (N, bands) to sums `total` (sums, N) of pixels `at`; pixel-major, as stored."""
    logs, (left, right) = _logs(solver), solver.padded
    never = stored_sums.NEVER if no_data is None else no_data
    pixels = _readonly(pixels)
    for first, count, to in runs:
        given = (at.start, at.stop, first, count, to, never, solver.floor, logs, left, right, total, valid)
        stored_sums.add_spectra(pixels, *given)


def add_bands(
    solver: Solver,
    bands: NDArray[np.int16],
    kept: slice,
    no_data: int | None,
    at: slice,
    total: NDArray[np.float64],
    valid: NDArray[np.bool_],
) -> None:
    """Adds kept bands `kept`, held one a row (bands, N), to the sums of pixels `at`; band-major, as stored."""
    logs, (left, right) = _logs(solver), solver.padded
    never = stored_sums.NEVER if no_data is None else no_data
    given = (
        kept.stop - kept.start,
        kept.start,
        at.start,
        at.stop,
        never,
        solver.floor,
        logs,
        left,
        right,
        total,
        valid,
    )
    stored_sums.add_bands(_readonly(bands), *given)


def _readonly(counts: NDArray[np.int16]) -> NDArray[np.int16]:
    """The same, not to be written: decoded bytes are not, and one kind of array is one compilation."""
    view = np.ascontiguousarray(counts).view()
    view.flags.writeable = False
    return view


_NO_LOGS = np.empty(0, np.int32)
_LOGS: dict[float, NDArray[np.int32]] = {}


def _logs(solver: Solver) -> NDArray[np.int32]:
    """The table of logarithms, empty without SID."""
    if not solver.with_sid:
        return _NO_LOGS
    if solver.floor not in _LOGS:
        _LOGS[solver.floor] = sums.log_table(solver.floor)
    return _LOGS[solver.floor]
