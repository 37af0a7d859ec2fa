"""Add counts to the sums behind every product, for chunks of spectra and for chunks of bands.

Functions import the kernels when they are called: importing numba takes a quarter of a second, which a run spends
reading tiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bools, Floats
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
    total: Floats,
    valid: Bools,
) -> None:
    """Add runs of bands of `pixels` (N, bands), stored pixel by pixel, to the sums `total` (sums, N) of pixels `at`.

    Clears `valid` (N,) where a count is `no_data`.
    """
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
    total: Floats,
    valid: Bools,
) -> None:
    """Add the kept bands `kept`, stored as `bands` (bands, N), to the sums `total` (sums, N) of pixels `at`.

    Clears `valid` (N,) where a count is `no_data`.
    """
    from hsichunk.kernels import count_sums

    count = kept.stop - kept.start
    weights = _weights(solver, no_data)
    count_sums.add_bands(readonly(bands), count, kept.start, at.start, at.stop, weights, total, valid)


def _weights(solver: Solver, no_data: int | None) -> SumWeights:
    """Return what both kernels take of a solver."""
    from hsichunk.kernels import count_sums

    logs, maxima = _log_table(solver), solver.layout.maxima
    return count_sums.SumWeights(marker(no_data), solver.floor, logs, solver.left, solver.right, maxima)


_NO_LOGARITHMS = np.empty(0, np.int32)
_LOG_TABLES: dict[float, NDArray[np.int32]] = {}
"""by floor"""


def _log_table(solver: Solver) -> NDArray[np.int32]:
    """Return the table of logarithms, which is empty without SID."""
    if not solver.layout.logarithms:
        return _NO_LOGARITHMS
    if solver.floor not in _LOG_TABLES:
        from hsichunk.kernels import float_sums

        _LOG_TABLES[solver.floor] = float_sums.log_table(solver.floor)
    return _LOG_TABLES[solver.floor]
