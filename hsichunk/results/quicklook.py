"""The colour picture of a run: three bands of its tiles on the grid of the maps, every n-th pixel."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Positions
from hsichunk.chunks.counts import chunks_along
from hsichunk.chunks.remote import is_url
from hsichunk.errors import CorruptChunk, HsiError, HsiWarning
from hsichunk.readers import formats, model
from hsichunk.results.finished_run import MapGrid

COLORS = (660.0, 550.0, 480.0)  # nm: red, green, blue
PERCENTILES = (2.0, 98.0)


@dataclass(frozen=True, eq=False)
class Placed:
    """A tile on the grid of the maps."""

    file: model.TileFile
    top: int
    """row of the maps at which it begins"""
    left: int

    @property
    def rows(self) -> int:
        return self.file.reflectance.shape[0]

    @property
    def cols(self) -> int:
        return self.file.reflectance.shape[1]

    @property
    def bands(self) -> NDArray[np.intp]:
        """Those nearest to red, green and blue."""
        return np.array([int(np.abs(self.file.wavelength - nm).argmin()) for nm in COLORS], np.intp)

    def inside(self, rows: Positions, cols: Positions) -> tuple[Positions, Positions]:
        """Which of the rows and columns of the maps lie in it."""
        r, c = rows - self.top, cols - self.left
        return np.flatnonzero((r >= 0) & (r < self.rows)), np.flatnonzero((c >= 0) & (c < self.cols))


def place_tiles(paths: Sequence[str], grid: MapGrid) -> tuple[tuple[Placed, ...], tuple[tuple[str, str], ...]]:
    """The tiles that can be read, by file name; and those that cannot, and why. Tiles at an address are left alone."""
    placed, missing = [], []
    for path in sorted(paths, key=lambda p: (os.path.basename(p), p)):
        if is_url(path):
            missing.append((path, "is at an address, from which the page fetches nothing"))
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HsiWarning)  # said when it was run
                file = formats.read(path, floats=True)
            placed.append(_place(file, grid))
        except HsiError as error:
            missing.append((path, str(error).removeprefix(f"{path}: ")))
    return tuple(placed), tuple(missing)


def _place(file: model.TileFile, grid: MapGrid) -> Placed:
    own = file.grid
    top, left = (grid.top - own.top) / grid.dy, (own.left - grid.left) / grid.dx
    if max(abs(top - round(top)), abs(left - round(left))) > 1e-2:
        raise HsiError(f"{file.path}: lies between the pixels of the maps; expected a tile of this run")
    found = Placed(file, round(top), round(left))
    apart = found.top >= grid.rows or found.left >= grid.cols or found.top + found.rows <= 0
    if apart or found.left + found.cols <= 0:
        raise HsiError(f"{file.path}: lies beside the maps; expected a tile of this run")
    return found


def decoded(tiles: Sequence[Placed], rows: Positions, cols: Positions) -> int:
    """Bytes that a picture of these pixels decodes."""
    total = 0
    for tile in tiles:
        r, c = tile.inside(rows, cols)
        height, width, depth = tile.file.reflectance.chunks
        chunks = len(np.unique((rows[r] - tile.top) // height)) * len(np.unique((cols[c] - tile.left) // width))
        total += chunks * chunks_along(tile.bands, depth) * tile.file.reflectance.chunk_bytes
    return total


def read_colors(tiles: Sequence[Placed], rows: Positions, cols: Positions) -> tuple[NDArray[np.float32], int]:
    """Reflectance (rows, cols, 3) at rows and columns of the maps, NaN without data; and how many chunks are damaged.

    Where tiles overlap, the first by file name counts, as in the run.
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
            damaged += _around(tile, rows, cols, out)
    return out, damaged


def _around(tile: Placed, rows: Positions, cols: Positions, out: NDArray[np.float32]) -> int:
    """Chunk by chunk what can be read of a damaged tile; how many parts cannot."""
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


def _groups(chunks: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [np.flatnonzero(chunks == chunk) for chunk in np.unique(chunks)]


def _reflectance(tile: Placed, rows: Positions, cols: Positions) -> NDArray[np.float32]:
    stored = tile.file.reflectance.read(rows - tile.top, cols - tile.left, tile.bands)
    return np.where(stored == tile.file.no_data, np.float32(np.nan), stored / np.float32(tile.file.scale))


def stretch(colors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(3, 2) reflectance at two percentiles of each colour: what is drawn as black and as full."""
    limits = np.tile([0.0, 1.0], (3, 1))
    for channel in range(3):
        known = colors[..., channel][np.isfinite(colors[..., channel])]
        if known.size:
            low, high = np.percentile(known, PERCENTILES)
            limits[channel] = (low, high) if high > low else (low - 0.5, low + 0.5)
    return limits


def as_bytes(colors: NDArray[np.float32], limits: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture (h, w, 3), and which pixels have data in all three bands (h, w)."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(colors).all(axis=-1))
    low, high = limits[:, 0].astype(np.float32), limits[:, 1].astype(np.float32)
    scaled = np.clip((np.where(known[..., None], colors, 0) - low) / (high - low), 0, 1)
    return np.asarray(np.rint(scaled * 255), np.uint8), known
