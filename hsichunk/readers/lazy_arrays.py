"""Stored arrays behind xarray's lazy indexing."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from hsichunk.chunks.array import ChunkedArray
from hsichunk.readers import lineage


class LazyStored(BackendArray):
    """A stored array behind xarray's lazy indexing: selections reach the reader before anything is decoded."""

    def __init__(self, stored: ChunkedArray) -> None:
        self.stored = stored
        self.shape = stored.shape
        self.dtype = stored.dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if isinstance(key, indexing.VectorizedIndexer):  # single pixels
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        return self._read(key.tuple)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        positions = [np.atleast_1d(np.arange(n)[k]) for k, n in zip(key, self.shape, strict=True)]
        values = self.stored.read(*positions)
        return values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]


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
    if not isinstance(getattr(data, "array", None), LazyStored):
        return None
    keys, stored = data.key.tuple, data.array.stored
    if isinstance(data, indexing.LazilyVectorizedIndexedArray):  # what a transpose makes of the other
        if any(np.size(k) != np.shape(k)[axis] for axis, k in enumerate(keys)):
            return None
        keys = tuple(np.ravel(k) for k in keys)
    if len(keys) != len(data.shape) or not all(isinstance(k, slice) or np.ndim(k) == 1 for k in keys):
        return None
    return stored, tuple(np.arange(n)[k] for k, n in zip(keys, stored.shape, strict=True))
