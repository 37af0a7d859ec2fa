"""Stored values behind xarray's and dask's lazy indexing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from hsichunk.chunks.array import ChunkedArray
from hsichunk.readers import lineage
from hsichunk.readers.model import Readable


class LazyArray(BackendArray):
    """Stored values as xarray and dask index them: selections reach the reader before anything is decoded."""

    def __init__(self, stored: Readable) -> None:
        self.stored = stored
        self.shape: tuple[int, ...] = stored.shape
        self.dtype = stored.dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer | tuple[Any, ...]) -> Any:
        if isinstance(key, tuple):  # of dask
            return self._read(key, 1)  # which already runs several of these at once
        if isinstance(key, indexing.VectorizedIndexer):  # single pixels
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        return self._read(key.tuple)

    def _read(self, key: tuple[Any, ...], threads: int | None = None) -> NDArray[Any]:
        return outer(key, [np.arange(n) for n in self.shape], partial(self.stored.read, threads=threads))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("hsichunk.LazyArray", self.stored.__dask_tokenize__())


def outer(key: tuple[Any, ...], along: Sequence[NDArray[np.intp]], read: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """What `read` gives for the positions `along` each dimension that a slice, a list or a number of the key picks.

    A number drops its dimension, as NumPy has it; lists pick the outer product.
    """
    values = read(*(np.atleast_1d(positions[k]) for positions, k in zip(along, key, strict=True)))
    return values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]


def in_blocks(stored: Readable, blocks: tuple[int, ...]) -> Any:
    """Stored values as a dask array of blocks."""
    import dask.array as da

    lazy = LazyArray(stored)
    meta = np.empty((0,) * len(lazy.shape), lazy.dtype)
    return da.from_array(lazy, chunks=blocks, asarray=False, lock=False, meta=meta)  # type: ignore[no-untyped-call]


def stored_behind(variable: xr.Variable) -> tuple[ChunkedArray, tuple[NDArray[np.intp], ...]] | None:
    """The stored array behind a lazy variable and, for each dimension, the positions of it that the variable shows.

    For a variable of `open_tile`, or of `engine="neon"` with chunks, that is nothing but a selection; else None.
    """
    data = variable._data
    if not isinstance(data, indexing.ExplicitlyIndexed):
        found = lineage.follow(data, _positions)
        if found is None:
            return None
        (stored, at), window = found
        if window.axes != tuple(range(len(at))):
            return None
        return stored, tuple(origin[shown] for origin, shown in zip(at, window.at, strict=True))
    return _positions(data)


def _positions(data: Any) -> tuple[ChunkedArray, tuple[NDArray[np.intp], ...]] | None:
    """The same for xarray's own lazy arrays."""
    while isinstance(
        data, (indexing.MemoryCachedArray, indexing.CopyOnWriteArray, indexing.ImplicitToExplicitIndexingAdapter)
    ):
        data = data.array
    if not isinstance(getattr(data, "array", None), LazyArray):
        return None
    keys, stored = data.key.tuple, data.array.stored
    if isinstance(data, indexing.LazilyVectorizedIndexedArray):  # what a transpose makes of the other
        if any(np.size(k) != np.shape(k)[axis] for axis, k in enumerate(keys)):
            return None
        keys = tuple(np.ravel(k) for k in keys)
    if len(keys) != len(data.shape) or not all(isinstance(k, slice) or np.ndim(k) == 1 for k in keys):
        return None
    return stored, tuple(np.arange(n)[k] for k, n in zip(keys, stored.shape, strict=True))
