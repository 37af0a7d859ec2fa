"""Arrays whose chunks are made from the chunks of another array when they are read."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Generic

import numpy as np

from hsichunk.array_types import DaskToken, Number, Numbers
from hsichunk.chunks.array import ChunkedArray, H
from hsichunk.chunks.decoded_cache import ChunkCoords


class DerivedArray(ChunkedArray[H], Generic[H]):
    """An array on the grid of chunks of `base`, of other values: `decode` makes a chunk from the base's chunk there.

    `base` opens its file, counts what is decoded and keeps chunks. A class that makes its chunks from chunks at other
    coords overrides `announce` and `jobs` too.
    """

    def __init__(
        self,
        base: ChunkedArray[H],
        *,
        fill: Numbers | None,
        shape: tuple[int, ...] | None = None,
        dtype: np.dtype[Number] | None = None,
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
    def __dask_tokenize__(self) -> DaskToken:
        """Return the token of the base, with everything else that the values depend on."""

    @property
    def stored_bytes(self) -> int:
        """The bytes of the chunks of the base as they are stored."""
        return self.base.stored_bytes

    def identity(self) -> bytes:
        """Return what stands for the stored values of the base."""
        return self.base.identity()

    def prepare(self) -> None:
        """Let the base find out what all reading needs."""
        self.base.prepare()

    def opened(self) -> AbstractContextManager[H]:
        """Return a handle of the base."""
        return self.base.opened()

    def announce(self, handle: H, wanted: Iterable[ChunkCoords]) -> None:
        """Say to the base which chunks will be asked for."""
        self.base.announce(handle, wanted)

    def jobs(self, wanted: Iterable[ChunkCoords]) -> Iterator[list[ChunkCoords]]:
        """Group chunks as the base does."""
        return self.base.jobs(wanted)
