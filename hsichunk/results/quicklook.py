"""Read the colour picture of a finished run: three bands of its tiles on the grid of the maps, every n-th pixel."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsichunk.array_types import Bools, Bytes, Float32s, Floats, Positions
from hsichunk.chunks.counts import chunks_along
from hsichunk.chunks.remote import is_url
from hsichunk.errors import CorruptChunk, HsiError, HsiWarning
from hsichunk.readers import formats, model
from hsichunk.results.finished_run import MapGrid

COLORS = (660.0, 550.0, 480.0)  # nm: red, green, blue
PERCENTILES = (2.0, 98.0)  # of each colour: what is drawn as black and as full


@dataclass(frozen=True, eq=False)
class MapTile:
    """A tile on the grid of the maps."""

    file: model.TileFile
    top: int
    """row of the maps at which the tile begins"""
    left: int
    """column of the maps at which it begins"""

    @property
    def rows(self) -> int:
        """The number of rows of the tile."""
        return self.file.reflectance.shape[0]

    @property
    def cols(self) -> int:
        """The number of columns of the tile."""
        return self.file.reflectance.shape[1]

    @property
    def bands(self) -> Positions:
        """The bands nearest to red, green and blue."""
        return np.array([int(np.abs(self.file.wavelength - nm).argmin()) for nm in COLORS], np.intp)

    def inside(self, rows: Positions, cols: Positions) -> tuple[Positions, Positions]:
        """Return which of some rows and of some columns of the maps lie in the tile, as indices into both."""
        r, c = rows - self.top, cols - self.left
        return np.flatnonzero((r >= 0) & (r < self.rows)), np.flatnonzero((c >= 0) & (c < self.cols))


def place_tiles(paths: Sequence[str], grid: MapGrid) -> tuple[tuple[MapTile, ...], tuple[tuple[str, str], ...]]:
    """Return the tiles that can be read, by file name, and the path and the reason of each that cannot.

    Tiles at an address (http, s3) count as such that cannot be read: nothing is fetched.
    """
    placed, missing = [], []
    for path in sorted(paths, key=lambda p: (os.path.basename(p), p)):
        if is_url(path):
            missing.append((path, "is at an address, from which the page fetches nothing"))
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HsiWarning)  # the run gave these warnings already
                file = formats.read(path, floats=True)
            placed.append(_place(file, grid))
        except HsiError as error:
            missing.append((path, str(error).removeprefix(f"{path}: ")))
    return tuple(placed), tuple(missing)


def _place(file: model.TileFile, grid: MapGrid) -> MapTile:
    """Return a tile on the grid. Raises HsiError where it lies between the pixels of the maps or beside them."""
    top, left = (grid.top - file.grid.top) / grid.dy, (file.grid.left - grid.left) / grid.dx
    if max(abs(top - round(top)), abs(left - round(left))) > 1e-2:
        raise HsiError(f"{file.path}: lies between the pixels of the maps; expected a tile of this run")
    tile = MapTile(file, round(top), round(left))
    overlaps_rows = tile.top < grid.rows and tile.top + tile.rows > 0
    overlaps_cols = tile.left < grid.cols and tile.left + tile.cols > 0
    if not (overlaps_rows and overlaps_cols):
        raise HsiError(f"{file.path}: lies beside the maps; expected a tile of this run")
    return tile


def decoded_bytes(tiles: Sequence[MapTile], rows: Positions, cols: Positions) -> int:
    """Return how many bytes a picture of these rows and columns of the maps decodes."""
    total = 0
    for tile in tiles:
        r, c = tile.inside(rows, cols)
        height, width, depth = tile.file.reflectance.chunks
        chunks = len(np.unique((rows[r] - tile.top) // height)) * len(np.unique((cols[c] - tile.left) // width))
        total += chunks * chunks_along(tile.bands, depth) * tile.file.reflectance.chunk_bytes
    return total


def read_colors(tiles: Sequence[MapTile], rows: Positions, cols: Positions) -> tuple[Float32s, int]:
    """Return the reflectance (rows, cols, 3) at rows and columns of the maps, and the number of damaged parts.

    The reflectance is NaN without data. Where tiles overlap, the first by file name counts, as in the run.
    """
    out = np.full((len(rows), len(cols), 3), np.nan, np.float32)
    damaged = 0
    for tile in reversed(tiles):
        r, c = tile.inside(rows, cols)
        if not (len(r) and len(c)):
            continue
        try:
            out[np.ix_(r, c)] = _reflectance(tile, rows[r], cols[c])
        except CorruptChunk:
            damaged += _read_by_chunk(tile, rows, cols, out)
    return out, damaged


def _read_by_chunk(tile: MapTile, rows: Positions, cols: Positions, out: Float32s) -> int:
    """Read what can be read of a damaged tile into `out`, chunk by chunk. Return how many parts cannot be read."""
    damaged = 0
    height, width, _ = tile.file.reflectance.chunks
    r, c = tile.inside(rows, cols)
    for at_r in _groups((rows[r] - tile.top) // height):
        for at_c in _groups((cols[c] - tile.left) // width):
            part = np.ix_(r[at_r], c[at_c])
            try:
                out[part] = _reflectance(tile, rows[r[at_r]], cols[c[at_c]])
            except CorruptChunk:
                out[part] = np.nan
                damaged += 1
    return damaged


def _groups(chunks: Positions) -> list[Positions]:
    """Return the indices of the elements of each chunk."""
    return [np.flatnonzero(chunks == chunk) for chunk in np.unique(chunks)]


def _reflectance(tile: MapTile, rows: Positions, cols: Positions) -> Float32s:
    """Return the reflectance (rows, cols, 3) at rows and columns of the maps that lie in the tile, NaN without data."""
    stored = tile.file.reflectance.read(rows - tile.top, cols - tile.left, tile.bands)
    return np.where(stored == tile.file.no_data, np.float32(np.nan), stored / np.float32(tile.file.scale))


def stretch(colors: Float32s) -> Floats:
    """Return the reflectance (3, 2) of each colour (h, w, 3) that is drawn as black and as full: two percentiles."""
    limits = np.tile([0.0, 1.0], (3, 1))
    for channel in range(3):
        known = colors[..., channel][np.isfinite(colors[..., channel])]
        if known.size:
            low, high = np.percentile(known, PERCENTILES)
            limits[channel] = (low, high) if high > low else (low - 0.5, low + 0.5)
    return limits


def as_bytes(colors: Float32s, limits: Floats) -> tuple[Bytes, Bools]:
    """Return the picture (h, w, 3) 0..255, and which pixels have data in all three bands (h, w)."""
    known: Bools = np.asarray(np.isfinite(colors).all(axis=-1))
    low, high = limits[:, 0].astype(np.float32), limits[:, 1].astype(np.float32)
    scaled = np.clip((np.where(known[..., None], colors, 0) - low) / (high - low), 0, 1)
    return np.asarray(np.rint(scaled * 255), np.uint8), known
