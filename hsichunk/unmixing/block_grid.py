"""Cut a window of stored counts into the blocks that tasks solve: whole stored columns of one tile each.

The blocks of a tile lie side by side and fill the window, and so do those of a mosaic whose tiles lie on a regular
grid. Where tiles overlap or lie out of line, the blocks are solved in one row, and their products are afterwards cut
into the cells of a grid.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Float32s, Number
from hsichunk.chunks.columns import is_small
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, around, common, within
from hsichunk.mosaic.tiled_counts import TiledCounts, blocks_of, cut_at, on_grid, on_tile

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Block:
    """The work of one task: a window of the counts of one tile."""

    counts: Counts | None
    """None where no tile lies"""
    window: Window
    """of the tile"""
    shown: tuple[Window, ...]
    """parts of the window that the result shows; only these count for the range of min-max scaling"""


@dataclass(frozen=True, eq=False)
class BlockGrid:
    """Blocks in rows and columns, as a dask array has them."""

    blocks: tuple[Block, ...]
    """row by row"""
    heights: tuple[int, ...]
    """of each row of blocks, in pixels"""
    widths: tuple[int, ...]
    """of each column of blocks, in pixels"""
    dtype: np.dtype[Number]
    """of the counts"""
    flat: bool = False
    """whether the blocks lie in one row, each with its pixels along one dimension"""

    def block(self, coords: Sequence[int]) -> Block:
        """Return the block at coordinates (..., row, column) of the grid."""
        return self.blocks[coords[-2] * len(self.widths) + coords[-1]]

    def arrange(self, stacked: NDArray[T]) -> NDArray[T]:
        """Return an array (outputs, rows, columns) of the pixels of a block in the shape that it has in the grid."""
        return stacked.reshape(len(stacked), 1, -1) if self.flat else stacked


Piece: TypeAlias = tuple[int, Window]
"""number of a block, and the part of it that is shown, on the grid"""


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of the grid of a mosaic, and the pieces of solved blocks that lie in each."""

    window: Window
    """of the grid; the cells fill it"""
    heights: tuple[int, ...]
    """of each row of cells, in pixels"""
    widths: tuple[int, ...]
    """of each column of cells, in pixels"""
    pieces: dict[tuple[int, int], list[Piece]]
    """by (row, column) of the cells in which a tile lies"""
    solved: list[Window]
    """where on the grid each block lies"""

    def fill(self, i: int, j: int, blocks: Sequence[Float32s]) -> Float32s:
        """Return the products (outputs, y, x) of the cell (i, j), NaN where no tile lies.

        `blocks` are the flat products (outputs, 1, pixels) of the block of each of its pieces.
        """
        top, left = self.window.top + sum(self.heights[:i]), self.window.left + sum(self.widths[:j])
        cell = Window(top, top + self.heights[i], left, left + self.widths[j])
        pieces = self.pieces.get((i, j), [])
        if _is_block(cell, pieces, self.solved):
            return blocks[0].reshape(-1, *cell.shape)
        out = np.full((len(blocks[0]), *cell.shape), np.nan, np.float32)
        # every cell of a row is given as many blocks as the cell with most pieces; those beyond its own hold nothing
        for (number, part), flat in zip(pieces, blocks, strict=False):
            block, at = self.solved[number], common(part, cell)
            out[:, *within(at, cell)] = flat.reshape(-1, *block.shape)[:, *within(at, block)]
        return out


def of_tile(counts: Counts, window: Window) -> BlockGrid:
    """Return the blocks of a window of one tile, cut between stored columns."""
    rows, cols = blocks_of(counts, window)
    blocks = tuple(Block(counts, part, (part,)) for part in _windows(rows, cols))
    return BlockGrid(blocks, _sizes(rows), _sizes(cols), counts.stored.native)


def of_mosaic(counts: Counts, mosaic: TiledCounts, window: Window) -> tuple[BlockGrid, Cells | None]:
    """Return the blocks of a window of many tiles, each tile cut as if it were alone; and the cells to cut them into.

    The cells are None where each of them is one block.
    """
    blocks, solved, pieces = _of_tiles(counts, mosaic, window)
    rows, cols = cut_at([part for _, part in pieces], window)
    of_cell: dict[tuple[int, int], list[Piece]] = {}
    for number, part in pieces:
        down = range(bisect_right(rows, part.top) - 1, bisect_left(rows, part.bottom))
        across = range(bisect_right(cols, part.left) - 1, bisect_left(cols, part.right))
        for cell_coords in product(down, across):
            of_cell.setdefault(cell_coords, []).append((number, part))
    heights, widths = _sizes(rows), _sizes(cols)
    in_order: list[Block] = []
    for cell_coords, cell in zip(np.ndindex(len(heights), len(widths)), _windows(rows, cols), strict=True):
        in_cell = of_cell.get(cell_coords, [])
        if not in_cell:
            in_order.append(_empty(cell))
        elif _is_block(cell, in_cell, solved):
            in_order.append(blocks[in_cell[0][0]])
        else:
            flat = (*blocks, _empty(Window(0, 1, 0, 1)))
            sizes = tuple(math.prod(block.window.shape) for block in flat)
            cells = Cells(window, heights, widths, of_cell, solved)
            return BlockGrid(flat, (1,), sizes, mosaic.native, flat=True), cells
    return BlockGrid(tuple(in_order), heights, widths, mosaic.native), None


def _of_tiles(counts: Counts, mosaic: TiledCounts, window: Window) -> tuple[list[Block], list[Window], list[Piece]]:
    """Return the blocks of all tiles in a window of the mosaic, where each lies on the grid, and the pieces shown."""
    blocks: list[Block] = []
    solved: list[Window] = []
    pieces: list[Piece] = []
    by_tile: dict[int, list[Window]] = {}
    for number, part in mosaic.windows(window):
        by_tile.setdefault(number, []).append(part)
    for number, shown in by_tile.items():
        tile = mosaic.tiles[number]
        own = tile.counts(counts.bands)
        # one window around all parts of large columns: each column is decoded once, however many parts show of it
        for area in shown if is_small(own) else [around(shown)]:
            for block in _windows(*blocks_of(own, on_tile(tile, area))):
                block_on_grid = on_grid(tile, block)
                parts = [part for part in (common(part, block_on_grid) for part in shown) if min(part.shape) > 0]
                pieces += [(len(blocks), part) for part in parts]
                blocks.append(Block(own, block, tuple(on_tile(tile, part) for part in parts)))
                solved.append(block_on_grid)
    return blocks, solved, pieces


def _is_block(cell: Window, pieces: list[Piece], solved: Sequence[Window]) -> bool:
    """Return whether a cell shows the whole of one block and nothing else."""
    return len(pieces) == 1 and pieces[0][1] == solved[pieces[0][0]] == cell


def _empty(window: Window) -> Block:
    """Return a block of a window in which no tile lies."""
    return Block(None, window, ())


def _windows(rows: list[int], cols: list[int]) -> list[Window]:
    """Return the windows between edges of rows and of columns, row by row."""
    return [Window(*down, *across) for down, across in product(pairwise(rows), pairwise(cols))]


def _sizes(edges: list[int]) -> tuple[int, ...]:
    """Return the distances between edges."""
    return tuple(end - start for start, end in pairwise(edges))
