"""Counts that hold no data where a chunk cannot be decoded: `--on-error mask`, for what reads them without asking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.derived import DerivedArray
from hsichunk.errors import CorruptChunk
from hsichunk.mosaic.site import PlacedTile, Site


def without_bad_chunks(site: Site) -> Site:
    """The same tiles, the pixels of each chunk that cannot be decoded without data."""

    def mended(place: PlacedTile) -> PlacedTile:
        stored = BadAsNoData(place.file.reflectance, place.file.no_data)
        return replace(place, file=replace(place.file, reflectance=stored))

    return replace(site, tiles=tuple(mended(place) for place in site.tiles))


class BadAsNoData(DerivedArray):
    """Stored counts; a chunk that cannot be decoded holds the no-data value."""

    def __init__(self, base: ChunkedArray, no_data: int) -> None:
        super().__init__(base, fill=base.fill)
        self.no_data = no_data

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("hsichunk.BadAsNoData", self.base.__dask_tokenize__(), self.no_data)

    def decode(self, handle: Any, coords: ChunkCoords) -> NDArray[Any]:
        """The decoded chunk at `coords`, or no data."""
        try:
            return self.base.chunk(handle, coords)
        except CorruptChunk:
            return np.full(self.chunks, self.no_data, self.native)
