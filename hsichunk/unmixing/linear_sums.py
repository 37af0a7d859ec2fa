"""Weighted sums of bands, straight from stored counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window
from hsichunk.threads import asked_for


@dataclass(frozen=True, eq=False)
class Linear:
    """What the pass makes of counts in place of a `Solver`: sums of counts times weights, less a shift."""

    weights: Floats
    """(L, k) for counts, each column whole numbers of a power of two of its own"""
    shift: Floats
    """(k,)"""
    products: tuple[str, ...] = (schema.WEIGHTED,)

    @property
    def k(self) -> int:
        return len(self.shift)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self.weights.tobytes(), self.shift.tobytes()


def solve(counts: Counts, linear: Linear, window: Window) -> NDArray[np.float32]:
    """The sums (k, rows, columns) of a window of stored pixels, NaN where a band holds no data."""
    from hsichunk.cube.projection import project

    values, valid = np.empty((*window.shape, linear.k)), np.empty(window.shape, np.bool_)
    rows, cols = np.arange(window.top, window.bottom), np.arange(window.left, window.right)
    project(counts, rows, cols, linear.weights, linear.shift, values, valid, asked_for())
    values[~valid] = np.nan
    return np.ascontiguousarray(np.moveaxis(values, -1, 0), np.float32)
