"""Arrays that are made from the chunks of another, chunk by chunk, when they are read."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.decoded_cache import ChunkCoords


class DerivedArray(ChunkedArray):
    """An array on the grid of chunks of `base`, of other values; `decode` makes a chunk of the chunk in its place.

    `base` opens its file, counts what is decoded and keeps chunks. A class whose chunks come from other places
    overrides `announce` and `jobs` too.
    """

    def __init__(
        self,
        base: ChunkedArray,
        *,
        fill: NDArray[Any] | None,
        shape: tuple[int, ...] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        super().__init__(
            path=base.path,
            name=base.name,
            shape=base.shape if shape is None else shape,
            dtype=base.dtype if dtype is None else dtype,
            chunks=base.chunks,
            stamp=base.stamp,
            stored_chunks=base.stored_chunks,
            fill=fill,
            direct=base.direct,
        )
        self.base = base

    @abc.abstractmethod
    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """The token of the base with all that the values depend on beside it."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of the chunks of the base as they are stored."""
        return self.base.stored_bytes

    def identity(self) -> bytes:
        """What stands for the stored values of the base."""
        return self.base.identity()

    def prepare(self) -> None:
        """Has the base find out what all reading needs."""
        self.base.prepare()

    def opened(self) -> AbstractContextManager[Any]:
        """A handle of the base."""
        return self.base.opened()

    def announce(self, handle: Any, wanted: Iterable[ChunkCoords]) -> None:
        """Says to the base which chunks will be asked for."""
        self.base.announce(handle, wanted)

    def jobs(self, wanted: Iterable[ChunkCoords]) -> Iterator[list[ChunkCoords]]:
        """Chunks to read one after another, as the base has them."""
        return self.base.jobs(wanted)
