"""Read chunks that cannot be decoded as no-data (`--on-error mask`), for searches that read pixels without the pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hsichunk.array_types import DaskToken, Numbers
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.derived import DerivedArray
from hsichunk.errors import CorruptChunk
from hsichunk.mosaic.site import PlacedTile, Site


def without_bad_chunks(site: Site) -> Site:
    """Return the site with tiles in which every chunk that cannot be decoded holds the no-data value."""

    def tolerant(tile: PlacedTile) -> PlacedTile:
        stored = BadAsNoData(tile.file.reflectance, tile.file.no_data)
        return replace(tile, file=replace(tile.file, reflectance=stored))

    return replace(site, tiles=tuple(tolerant(tile) for tile in site.tiles))


class BadAsNoData(DerivedArray):
    """Stored counts in which a chunk that cannot be decoded holds the no-data value."""

    def __init__(self, base: ChunkedArray, no_data: int) -> None:
        super().__init__(base, fill=base.fill)
        self.no_data = no_data

    def __dask_tokenize__(self) -> DaskToken:
        return ("hsichunk.BadAsNoData", self.base.__dask_tokenize__(), self.no_data)

    def decode(self, handle: Any, coords: ChunkCoords) -> Numbers:
        """Return the decoded chunk at `coords`, or a chunk of no-data where it cannot be decoded."""
        try:
            return self.base.chunk(handle, coords)
        except CorruptChunk:
            return np.full(self.chunks, self.no_data, self.native)
