"""Tiles of other wavelengths, interpolated to those of the first: `run --bands common`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.derived import DerivedArray
from hsichunk.errors import HsiError
from hsichunk.readers.model import TileFile
from hsichunk.threads import PerThread

KEPT = 2  # decoded chunks a thread keeps: those that the next bands share with the last
_DECODED: PerThread[tuple[str, tuple[int, int], ChunkCoords], NDArray[np.generic]] = PerThread()
"""decoded chunks by path, stamp and coords"""
BEYOND = 1.0  # band spacings that a wavelength may lie outside those of a tile: it takes the outermost band


def on_bands_of(file: TileFile, wavelength: NDArray[np.float64], fwhm: NDArray[np.float64] | None) -> TileFile:
    """A tile as if it had been measured at other wavelengths (nm), linearly between its own; lazy.

    Raises HsiError for wavelengths that the tile does not reach.
    """
    return file.on_bands(CommonBands(file, wavelength), wavelength, fwhm)


class CommonBands(DerivedArray):
    """Counts (y, x, band) at other wavelengths: whole counts, no-data where one of the two bands between holds none.

    A chunk is made of the chunks of the file that its bands lie in; those of one band each are decoded twice.
    """

    def __init__(self, file: TileFile, wavelength: NDArray[np.float64]) -> None:
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
        self.share = (inside - own[self.lower]) / (own[self.lower + 1] - own[self.lower])

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("hsichunk.CommonBands", self.base.__dask_tokenize__(), self.wavelength.tobytes())

    def announce(self, handle: Any, wanted: Iterable[ChunkCoords]) -> None:
        """Says to the file which chunks of its own will be asked for."""
        own = {(*coords[:2], int(n)) for coords in wanted for n in self._own_chunks(coords[2])}
        self.base.announce(handle, sorted(own))

    def jobs(self, wanted: Iterable[ChunkCoords]) -> Iterator[list[ChunkCoords]]:
        """As many together as of the file's own chunks that each begins in."""
        in_order = list(wanted)
        rest = iter(in_order)
        for job in self.base.jobs((*coords[:2], int(self._own_chunks(coords[2])[0])) for coords in in_order):
            yield list(itertools.islice(rest, len(job)))

    def _own_chunks(self, number: int) -> NDArray[np.intp]:
        depth = self.chunks[2]
        lower = self.lower[number * depth : (number + 1) * depth]
        return np.unique(np.concatenate([lower, lower + 1]) // depth)

    def decode(self, handle: Any, coords: ChunkCoords) -> NDArray[Any]:
        """Decoded and interpolated; what sticks out at the last band is no-data."""
        depth = self.chunks[2]
        held = {int(n): self._own_chunk(handle, (*coords[:2], int(n))) for n in self._own_chunks(coords[2])}
        whole = np.full(self.chunks, self.no_data, self.native)
        for to, band in enumerate(range(coords[2] * depth, min((coords[2] + 1) * depth, self.shape[2]))):
            low, share = int(self.lower[band]), self.share[band]
            one, two = (held[b // depth][:, :, b % depth] for b in (low, low + 1))
            known = (one != self.no_data) & (two != self.no_data)
            # float64 holds counts and shares, and rint takes halves to even: the same everywhere
            values = np.rint(one + share * (two.astype(np.float64) - one))
            whole[:, :, to][known] = values[known].astype(self.native)
        return whole

    def _own_chunk(self, handle: Any, coords: ChunkCoords) -> NDArray[Any]:
        kept = _DECODED.items
        key = (self.path, self.stamp, coords)
        if key not in kept:
            while len(kept) >= KEPT:
                del kept[next(iter(kept))]
            kept[key] = self.base.chunk(handle, coords)
        return kept[key]
