"""What the pass works on: a window of stored counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.stored import StoredArray


@dataclass(frozen=True, eq=False)
class Counts:
    """Stored counts (y, x, band) with the bands that are kept, and how to read them."""

    stored: StoredArray
    bands: NDArray[np.intp]
    """(L,) kept bands, ascending"""
    scale: float
    no_data: int

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.stored.__dask_tokenize__(), self.bands.tobytes(), self.scale, self.no_data)


@dataclass(frozen=True)
class Window:
    """Rows top..bottom and columns left..right of a stored array, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left
