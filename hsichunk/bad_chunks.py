"""Counts that hold no data where a chunk cannot be decoded: `--on-error mask`, for what reads them without asking."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.errors import CorruptChunk
from hsichunk.site import Place, Site
from hsichunk.stored import ChunkIndex, StoredArray


def without_bad_chunks(site: Site) -> Site:
    """The same tiles, the pixels of each chunk that cannot be decoded without data."""

    def mended(place: Place) -> Place:
        stored = BadAsNoData(place.file.reflectance, place.file.no_data)
        return replace(place, file=replace(place.file, reflectance=stored))

    return replace(site, places=tuple(mended(place) for place in site.places))


class BadAsNoData(StoredArray):
    """Stored counts; a chunk that cannot be decoded holds the no-data value."""

    def __init__(self, stored: StoredArray, no_data: int) -> None:
        self.behind, self.no_data = stored, no_data
        self.path, self.name, self.stamp = stored.path, stored.name, stored.stamp
        self.direct, self.remote, self.filters = stored.direct, stored.remote, stored.filters
        self.stored_chunks, self.fill = stored.stored_chunks, stored.fill
        self.shape, self.chunks, self.dtype = stored.shape, stored.chunks, stored.dtype

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("hsichunk.BadAsNoData", self.behind.__dask_tokenize__(), self.no_data)

    @property
    def index(self) -> ChunkIndex:
        """The places of the chunks."""
        return self.behind.index

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """What to hand to `chunk`."""
        with self.behind.opened() as handle:
            yield handle

    def announce(self, handle: Any, places: Iterable[tuple[int, ...]]) -> None:
        """Says which chunks `handle` will be asked for."""
        self.behind.announce(handle, places)

    def chunk(self, handle: Any, place: tuple[int, ...]) -> NDArray[Any]:
        """The decoded chunk at `place`, or no data."""
        try:
            return self.behind.chunk(handle, place)
        except CorruptChunk:
            return np.full(self.chunks, self.no_data, self.native)
