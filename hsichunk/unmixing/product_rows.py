"""Lay the products of a block out as the rows of one array (outputs, y, x)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Float32s, LazyOrNumpy

if TYPE_CHECKING:
    import dask.array as da

Stacked = TypeVar("Stacked", Float32s, "da.Array", LazyOrNumpy)
ProductArray: TypeAlias = "LazyOrNumpy | da.Array"
"""a product (endmember, y, x) or (y, x), computed or lazy"""
ProductArrays: TypeAlias = "Mapping[str, ProductArray]"
"""products by name"""


class ProductRows:
    """The rows of each product: `k` for a product per endmember, one for any other, in the order of `products`."""

    def __init__(self, products: Iterable[str], k: int) -> None:
        self.rows: dict[str, slice | int] = {}
        """the index of each product along the first axis"""
        self.count = 0
        """number of all rows"""
        for name in products:
            start, per_endmember = self.count, name in schema.PER_ENDMEMBER
            self.rows[name] = slice(start, start + k) if per_endmember else start
            self.count += k if per_endmember else 1

    def empty(self, shape: tuple[int, ...]) -> Float32s:
        """Return an array (outputs, *shape) for the products of pixels of some shape, not filled."""
        return np.empty((self.count, *shape), np.float32)

    def split(self, stacked: Stacked) -> dict[str, Stacked]:
        """Return the products (k, ...) or (...) in an array (outputs, ...): views of a NumPy array, slices of dask."""
        return {name: stacked[rows] for name, rows in self.rows.items()}
