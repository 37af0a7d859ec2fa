"""Index stored values lazily, as xarray and dask do, and find the stored array behind a lazy variable."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from hsichunk.array_types import Positions
from hsichunk.chunks.array import ChunkedArray
from hsichunk.readers import lineage
from hsichunk.readers.model import Readable

if TYPE_CHECKING:
    import dask.array as da

Index: TypeAlias = int | np.integer | slice | Positions
"""what a key picks along one dimension: a number drops the dimension"""
Scalar = TypeVar("Scalar", bound=np.generic)


class LazyArray(BackendArray):
    """Stored values that xarray and dask index; only the selection that is asked for is read and decoded."""

    def __init__(self, stored: Readable) -> None:
        self.stored = stored
        self.shape: tuple[int, ...] = stored.shape
        self.dtype = stored.dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer | tuple[Index, ...]) -> NDArray[np.generic]:
        if isinstance(key, tuple):  # dask's key: dask already runs several reads at once, so each takes one thread
            return self._read(key, 1)
        if isinstance(key, indexing.VectorizedIndexer):  # single pixels
            outer_only = indexing.IndexingSupport.OUTER
            values: NDArray[np.generic] = indexing.explicit_indexing_adapter(key, self.shape, outer_only, self._read)
            return values
        return self._read(key.tuple)

    def _read(self, key: tuple[Index, ...], threads: int | None = None) -> NDArray[np.generic]:
        return outer(key, [np.arange(n) for n in self.shape], partial(self.stored.read, threads=threads))

    def __dask_tokenize__(self) -> tuple[Hashable, ...]:
        return ("hsichunk.LazyArray", self.stored.__dask_tokenize__())


def outer(key: tuple[Index, ...], along: Sequence[Positions], read: Callable[..., NDArray[Scalar]]) -> NDArray[Scalar]:
    """Return the values that a key picks, one slice, list or number a dimension, as their outer product.

    `along` has the positions of each dimension that the key indexes; `read` reads the outer product of one array of
    positions a dimension. A number drops its dimension, as in NumPy.
    """
    values = read(*(np.atleast_1d(positions[k]) for positions, k in zip(along, key, strict=True)))
    return values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]


def in_blocks(stored: Readable, blocks: tuple[int, ...]) -> da.Array:
    """Return stored values as a dask array of blocks."""
    import dask.array as da

    lazy = LazyArray(stored)
    meta = np.empty((0,) * len(lazy.shape), lazy.dtype)
    array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        lazy, chunks=blocks, asarray=False, lock=False, meta=meta
    )
    return array


def stored_behind(variable: xr.Variable) -> tuple[ChunkedArray, tuple[Positions, ...]] | None:
    """Return the stored array behind a lazy variable and, for each dimension, the positions in it that are shown.

    None unless the variable is of `open_tile`, or of `engine="neon"` with chunks, and nothing but a selection of it.
    """
    data = variable._data
    if isinstance(data, indexing.ExplicitlyIndexed):
        return _positions(data)
    followed = lineage.follow(data, _positions)
    if followed is None:
        return None
    (stored, at), window = followed
    if window.axes != tuple(range(len(at))):
        return None
    return stored, tuple(origin[shown] for origin, shown in zip(at, window.at, strict=True))


def _positions(data: lineage.Shaped) -> tuple[ChunkedArray, tuple[Positions, ...]] | None:
    """Return the same for xarray's own lazy arrays."""
    while isinstance(
        data, (indexing.MemoryCachedArray, indexing.CopyOnWriteArray, indexing.ImplicitToExplicitIndexingAdapter)
    ):
        data = data.array
    if not isinstance(data, (indexing.LazilyIndexedArray, indexing.LazilyVectorizedIndexedArray)):
        return None
    if not isinstance(data.array, LazyArray) or not isinstance(data.array.stored, ChunkedArray):
        return None
    keys, stored = data.key.tuple, data.array.stored
    if isinstance(data, indexing.LazilyVectorizedIndexedArray):  # a transpose makes this of the other
        if any(np.size(k) != np.shape(k)[axis] for axis, k in enumerate(keys)):
            return None
        keys = tuple(np.ravel(k) for k in keys)
    if len(keys) != len(data.shape) or not all(isinstance(k, slice) or np.ndim(k) == 1 for k in keys):
        return None
    return stored, tuple(np.arange(n)[k] for k, n in zip(keys, stored.shape, strict=True))
