"""Compute weighted sums of bands straight from stored counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Float32s, Floats
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window
from hsichunk.threads import asked_for


@dataclass(frozen=True, eq=False)
class Linear:
    """Sums of counts times weights, less a shift: what a dask graph computes of a window in place of a `Solver`."""

    weights: Floats
    """(L, k) weights of counts; each column is whole multiples of a power of two of its own"""
    shift: Floats
    """(k,) what is subtracted from each sum"""
    products: tuple[str, ...] = (schema.WEIGHTED,)

    @property
    def k(self) -> int:
        """Number of sums."""
        return len(self.shift)

    def __dask_tokenize__(self) -> tuple[bytes, bytes]:
        return self.weights.tobytes(), self.shift.tobytes()


def solve(counts: Counts, linear: Linear, window: Window) -> Float32s:
    """Return the sums (k, rows, columns) of a window of stored pixels, float32, NaN where a band holds no data."""
    from hsichunk.cube.projection import project

    values, valid = np.empty((*window.shape, linear.k)), np.empty(window.shape, np.bool_)
    rows, cols = np.arange(window.top, window.bottom), np.arange(window.left, window.right)
    project(counts, rows, cols, linear.weights, linear.shift, values, valid, asked_for())
    values[~valid] = np.nan
    return np.ascontiguousarray(np.moveaxis(values, -1, 0), np.float32)
