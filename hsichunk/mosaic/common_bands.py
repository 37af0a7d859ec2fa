"""Interpolate tiles of other wavelengths to the bands of the first tile: `run --bands common`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hsichunk.array_types import DaskToken, Floats, Numbers, Positions
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.derived import DerivedArray
from hsichunk.errors import HsiError
from hsichunk.readers.model import TileFile
from hsichunk.threads import PerThread

KEPT = 2  # decoded chunks that each thread keeps: neighbouring bands are interpolated from the same chunks
_DECODED: PerThread[tuple[str, tuple[int, int], ChunkCoords], Numbers] = PerThread()
"""decoded chunks by path, stamp and coords"""
BEYOND = 1.0  # band spacings by which a wavelength may lie outside those of a tile; it takes the outermost band


def on_bands_of(file: TileFile, wavelength: Floats, fwhm: Floats | None) -> TileFile:
    """Return a tile with its counts interpolated linearly to other wavelengths (L,) in nm; computes nothing yet.

    `fwhm` (L,) in nm goes into the metadata of the result. Raises HsiError for wavelengths that the tile does not
    reach.
    """
    return file.on_bands(CommonBands(file, wavelength), wavelength, fwhm)


class CommonBands(DerivedArray):
    """Counts (y, x, band) interpolated to other wavelengths and rounded to whole counts.

    A value is no-data where either of the two bands around it is. Each chunk is made from the chunks of the file that
    hold its neighbouring bands; a file with one band a chunk has every chunk decoded twice.
    """

    def __init__(self, file: TileFile, wavelength: Floats) -> None:
        base = file.reflectance
        super().__init__(
            base,
            shape=(*base.shape[:2], len(wavelength)),
            dtype=base.native,
            fill=np.asarray(file.no_data).astype(base.native),
        )
        self.no_data, self.wavelength = file.no_data, wavelength
        own = file.wavelength
        spacing = float(np.median(np.diff(own)))
        outside = (wavelength < own[0] - BEYOND * spacing) | (wavelength > own[-1] + BEYOND * spacing)
        if outside.any():
            raise HsiError(
                f"{file.path}: reaches from {own[0]:.1f} to {own[-1]:.1f} nm, not to {wavelength[outside.argmax()]:.1f}"
                " nm of the first tile; run them separately"
            )
        inside = np.clip(wavelength, own[0], own[-1])
        self.lower = np.clip(np.searchsorted(own, inside, side="right") - 1, 0, len(own) - 2)
        """(L,) the band of the file at or below each wavelength"""
        self.share = (inside - own[self.lower]) / (own[self.lower + 1] - own[self.lower])
        """(L,) how far towards the next band of the file each wavelength lies, 0 to 1"""

    def __dask_tokenize__(self) -> DaskToken:
        return ("hsichunk.CommonBands", self.base.__dask_tokenize__(), self.wavelength.tobytes())

    def announce(self, handle: Any, wanted: Iterable[ChunkCoords]) -> None:
        """Announce to the file which of its own chunks will be read."""
        own = {(*coords[:2], int(n)) for coords in wanted for n in self._own_chunks(coords[2])}
        self.base.announce(handle, sorted(own))

    def jobs(self, wanted: Iterable[ChunkCoords]) -> Iterator[list[ChunkCoords]]:
        """Group chunks as the file groups the first of its own chunks that each of them is made from."""
        requested = list(wanted)
        remaining = iter(requested)
        for job in self.base.jobs((*coords[:2], int(self._own_chunks(coords[2])[0])) for coords in requested):
            yield list(itertools.islice(remaining, len(job)))

    def _own_chunks(self, number: int) -> Positions:
        """Return the band numbers of the file's chunks from which the chunk of a band number is made."""
        depth = self.chunks[2]
        lower = self.lower[number * depth : (number + 1) * depth]
        return np.unique(np.concatenate([lower, lower + 1]) // depth)

    def decode(self, handle: Any, coords: ChunkCoords) -> Numbers:
        """Decode the file's chunks and interpolate; bands beyond the last one hold no-data."""
        depth = self.chunks[2]
        own_chunks = {int(n): self._own_chunk(handle, (*coords[:2], int(n))) for n in self._own_chunks(coords[2])}
        chunk = np.full(self.chunks, self.no_data, self.native)
        for to, band in enumerate(range(coords[2] * depth, min((coords[2] + 1) * depth, self.shape[2]))):
            low, share = int(self.lower[band]), self.share[band]
            lower, upper = (own_chunks[b // depth][:, :, b % depth] for b in (low, low + 1))
            known = (lower != self.no_data) & (upper != self.no_data)
            # float64 holds counts exactly, and rint rounds halves to even: every processor gives the same counts
            values = np.rint(lower + share * (upper.astype(np.float64) - lower))
            chunk[:, :, to][known] = values[known].astype(self.native)
        return chunk

    def _own_chunk(self, handle: Any, coords: ChunkCoords) -> Numbers:
        """Return a chunk of the file, from the few that this thread keeps where it is one of them."""
        cache = _DECODED.items
        key = (self.path, self.stamp, coords)
        if key not in cache:
            while len(cache) >= KEPT:
                del cache[next(iter(cache))]
            cache[key] = self.base.chunk(handle, coords)
        return cache[key]
