"""Add counts to the sums behind every product, for both ways in which they are stored.

Kernels are imported where they are called: numba takes a quarter of a second, in which tiles are read already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.counts import Runs, marker, readonly
from hsichunk.unmixing.solver import Solver

if TYPE_CHECKING:
    from hsichunk.kernels.count_sums import SumWeights


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
    from hsichunk.kernels import count_sums

    pixels, weights = readonly(pixels), _weights(solver, no_data)
    for first, count, to in runs:
        count_sums.add_spectra(pixels, at.start, at.stop, first, count, to, weights, total, valid)


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
    from hsichunk.kernels import count_sums

    count = kept.stop - kept.start
    weights = _weights(solver, no_data)
    count_sums.add_bands(readonly(bands), count, kept.start, at.start, at.stop, weights, total, valid)


def _weights(solver: Solver, no_data: int | None) -> SumWeights:
    """Return what both kernels take of a solver."""
    from hsichunk.kernels import count_sums

    logs, maxima = _logs(solver), solver.layout.maxima
    return count_sums.SumWeights(marker(no_data), solver.floor, logs, solver.left, solver.right, maxima)


_NO_LOGS = np.empty(0, np.int32)
_LOGS: dict[float, NDArray[np.int32]] = {}


def _logs(solver: Solver) -> NDArray[np.int32]:
    """The table of logarithms, empty without SID."""
    if not solver.layout.logarithms:
        return _NO_LOGS
    if solver.floor not in _LOGS:
        from hsichunk.kernels import float_sums

        _LOGS[solver.floor] = float_sums.log_table(solver.floor)
    return _LOGS[solver.floor]
