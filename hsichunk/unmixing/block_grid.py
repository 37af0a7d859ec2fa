"""The blocks that a window of stored counts is solved in: whole stored columns of one tile each, of one or many tiles.

The blocks of a tile lie side by side and fill the window. So do those of a mosaic whose tiles keep to one grid. Where
tiles overlap or lie out of line, its blocks are numbered in a row and cut into the cells of a grid afterwards.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.columns import is_small
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, around, common, within
from hsichunk.mosaic.tiled_counts import TiledCounts, blocks_of, cut_at, on_grid, on_tile


@dataclass(frozen=True)
class Block:
    """What one task solves: a window of the counts of one tile."""

    counts: Counts | None
    """None where no tile lies"""
    window: Window
    """of the tile"""
    shown: tuple[Window, ...]
    """parts of the window that the result shows: others have no part in its range"""


@dataclass(frozen=True, eq=False)
class BlockGrid:
    """Blocks in rows and columns, as a dask array has them."""

    blocks: tuple[Block, ...]
    """row by row"""
    heights: tuple[int, ...]
    """of each row of blocks, in pixels"""
    widths: tuple[int, ...]
    """of each column"""
    dtype: np.dtype[Any]
    """of their counts"""
    flat: bool = False
    """whether the blocks lie in one row with their pixels one after another, whatever their own shape"""

    def block(self, place: Sequence[int]) -> Block:
        """The block at a place (..., row, column)."""
        return self.blocks[place[-2] * len(self.widths) + place[-1]]

    def laid_out(self, stacked: NDArray[Any], block: Block) -> NDArray[Any]:
        """An array (outputs, rows, columns) of a block's pixels as it lies in the grid."""
        return stacked.reshape(len(stacked), 1, -1) if self.flat else stacked


Piece = tuple[int, Window]
"""number of a block, and the part of it that is shown, on the grid"""


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a mosaic's grid, and which pieces of solved blocks lie in each."""

    window: Window
    """of the grid, that they fill"""
    heights: tuple[int, ...]
    """of each row of cells, in pixels"""
    widths: tuple[int, ...]
    """of each column"""
    pieces: dict[tuple[int, int], list[Piece]]
    """of cells in which a tile lies"""
    solved: list[Window]
    """where on the grid each block lies"""

    def fill(self, i: int, j: int, blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The products (outputs, y, x) of a cell from flat ones of the blocks of its pieces, NaN where no tile lies."""
        top, left = self.window.top + sum(self.heights[:i]), self.window.left + sum(self.widths[:j])
        cell = Window(top, top + self.heights[i], left, left + self.widths[j])
        pieces = self.pieces.get((i, j), [])
        if _is_block(cell, pieces, self.solved):
            return blocks[0].reshape(-1, *cell.shape)
        out = np.full((len(blocks[0]), *cell.shape), np.nan, np.float32)
        # blocks beyond its pieces are of nowhere
        for (number, part), flat in zip(pieces, blocks, strict=False):
            block, at = self.solved[number], common(part, cell)
            out[:, *within(at, cell)] = flat.reshape(-1, *block.shape)[:, *within(at, block)]
        return out


def of_tile(counts: Counts, window: Window) -> BlockGrid:
    """The blocks of a window of one tile, cut between stored columns."""
    rows, cols = blocks_of(counts, window)
    blocks = tuple(Block(counts, part, (part,)) for part in _windows(rows, cols))
    return BlockGrid(blocks, _sizes(rows), _sizes(cols), counts.stored.native)


def of_mosaic(counts: Counts, mosaic: TiledCounts, window: Window) -> tuple[BlockGrid, Cells | None]:
    """The blocks of a window of many tiles, each tile's as if it were alone; and cells, unless they are the blocks."""
    blocks, solved, pieces = _of_tiles(counts, mosaic, window)
    rows, cols = cut_at([part for _, part in pieces], window)
    of_cell: dict[tuple[int, int], list[Piece]] = {}
    for number, part in pieces:
        down = range(bisect_right(rows, part.top) - 1, bisect_left(rows, part.bottom))
        across = range(bisect_right(cols, part.left) - 1, bisect_left(cols, part.right))
        for place in product(down, across):
            of_cell.setdefault(place, []).append((number, part))
    heights, widths = _sizes(rows), _sizes(cols)
    in_line: list[Block] = []
    for place, cell in zip(np.ndindex(len(heights), len(widths)), _windows(rows, cols), strict=True):
        here = of_cell.get(place, [])
        if not here:
            in_line.append(_nowhere(cell))
        elif _is_block(cell, here, solved):
            in_line.append(blocks[here[0][0]])
        else:
            flat = (*blocks, _nowhere(Window(0, 1, 0, 1)))
            sizes = tuple(math.prod(block.window.shape) for block in flat)
            return BlockGrid(flat, (1,), sizes, mosaic.native, flat=True), Cells(
                window, heights, widths, of_cell, solved
            )
    return BlockGrid(tuple(in_line), heights, widths, mosaic.native), None


def _of_tiles(counts: Counts, mosaic: TiledCounts, window: Window) -> tuple[list[Block], list[Window], list[Piece]]:
    """The blocks of all tiles, where on the grid they lie, and what is shown of them."""
    blocks: list[Block] = []
    solved: list[Window] = []
    pieces: list[Piece] = []
    by_tile: dict[int, list[Window]] = {}
    for tile, part in mosaic.windows(window):
        by_tile.setdefault(tile, []).append(part)
    for tile, shown in by_tile.items():
        place = mosaic.tiles[tile]
        own = place.counts(counts.bands)
        # large columns are decoded once whatever is shown of them
        for whole in shown if is_small(own) else [around(shown)]:
            for block in _windows(*blocks_of(own, on_tile(place, whole))):
                there = on_grid(place, block)
                seen = [part for part in (common(part, there) for part in shown) if min(part.shape) > 0]
                pieces += [(len(blocks), part) for part in seen]
                blocks.append(Block(own, block, tuple(on_tile(place, part) for part in seen)))
                solved.append(there)
    return blocks, solved, pieces


def _is_block(cell: Window, pieces: list[Piece], solved: Sequence[Window]) -> bool:
    """Whether a cell shows one block, all of it and nothing else."""
    return len(pieces) == 1 and pieces[0][1] == solved[pieces[0][0]] == cell


def _nowhere(window: Window) -> Block:
    return Block(None, window, ())


def _windows(rows: list[int], cols: list[int]) -> list[Window]:
    return [Window(*down, *across) for down, across in product(pairwise(rows), pairwise(cols))]


def _sizes(edges: list[int]) -> tuple[int, ...]:
    return tuple(end - start for start, end in pairwise(edges))
