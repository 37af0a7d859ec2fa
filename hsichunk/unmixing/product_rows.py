"""The products of a block as one array (outputs, y, x): which of its rows hold which product."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema


class ProductRows:
    """A product per endmember has `p` rows, any other one; they follow one another in the order given."""

    def __init__(self, products: Iterable[str], p: int) -> None:
        self.rows: dict[str, slice | int] = {}
        """what to take of the first axis for each product"""
        self.count = 0
        """of all rows"""
        for name in products:
            start, per_endmember = self.count, name in schema.PER_ENDMEMBER
            self.rows[name] = slice(start, start + p) if per_endmember else start
            self.count += p if per_endmember else 1

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Room for the products of pixels of some shape, not filled."""
        return np.empty((self.count, *shape), np.float32)

    def split(self, stacked: Any) -> dict[str, Any]:
        """The products (p, ...) or (...) in an array (outputs, ...): views of a NumPy one, slices of a dask one."""
        return {name: stacked[rows] for name, rows in self.rows.items()}
