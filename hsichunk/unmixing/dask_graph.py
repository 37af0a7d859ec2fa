"""Build dask arrays of the products of stored counts.

One task solves a block of the window, from its stored chunks to an array of all products (see
`hsichunk.unmixing.product_rows`), and each product is a slice of that array: a stored chunk is decoded once, however
many products are computed. What every task needs is in the graph once, under its own name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk.array_types import DaskArray, Float32s
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, window_of
from hsichunk.cube.cleaning import source_of
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.threads import asked_for
from hsichunk.unmixing import block_grid, linear_sums
from hsichunk.unmixing.block_grid import BlockGrid, Cells
from hsichunk.unmixing.linear_sums import Linear
from hsichunk.unmixing.product_rows import ProductRows
from hsichunk.unmixing.solver import Solver, Solvers
from hsichunk.unmixing.stored_pass import solve_window

if TYPE_CHECKING:
    import dask.array as da
    from dask.delayed import Delayed

    from hsichunk.unmixing.scaled_counts import Scaled

GraphSolver: TypeAlias = "Solver | Linear | Scaled"
"""computes products from counts"""
META = np.empty((0, 0, 0), np.float32)
"""tells dask the type and the dimensions of products"""


def rectangle(cube: xr.DataArray) -> tuple[Counts, Window] | None:
    """Return the counts behind a cube and the window of them that it shows; None unless it is a plain selection."""
    source = source_of(cube)
    window = None if source is None else window_of(source[1], source[2])
    return None if source is None or window is None else (source[0], window)


def from_chunks(counts: Counts, window: Window, solver: GraphSolver) -> dict[str, da.Array]:
    """Return the products of a window of stored counts, a dask array each; every chunk is decoded once for all."""
    from dask.base import tokenize

    name = f"unmix-{tokenize(counts, solver, window)}"
    if isinstance(counts.stored, TiledCounts):
        grid, cells = block_grid.of_mosaic(counts, counts.stored, window)
    else:
        grid, cells = block_grid.of_tile(counts, window), None
    solved = _solve(grid, solver, name)
    return _rows(solver).split(solved if cells is None else _place(solved, cells, name))


def from_blocks(data: DaskArray, solvers: Solvers) -> dict[str, da.Array]:
    """Return the products of reflectance (y, x, wavelength), all bands in a chunk, as `solve_spectra` computes them."""
    import dask.array as da
    from dask.base import tokenize

    name, rows = f"unmix-{tokenize(data, solvers)}", _rows(solvers.floats)
    stacked = da.map_blocks(  # type: ignore[no-untyped-call]
        _solve_spectra,
        data,
        solvers=_once(solvers, f"{name}-solvers"),
        name=name,
        drop_axis=2,
        new_axis=0,
        chunks=((rows.count,), *data.chunks[:2]),
        meta=META,
    )
    return rows.split(stacked)


def _rows(solver: GraphSolver) -> ProductRows:
    """Return the rows that the products of a solver have in an array of all of them."""
    return ProductRows(solver.products, solver.k)


def _once(constant: BlockGrid | Cells | GraphSolver | Solvers, name: str) -> Delayed:
    """Return a constant that is in the graph once, under its own name, and to which tasks refer."""
    from dask.delayed import delayed

    once: Delayed = delayed(constant, name=name, traverse=False)
    return once


def _solve(grid: BlockGrid, solver: GraphSolver, name: str) -> da.Array:
    """Return the products (outputs, y, x) of all blocks, a dask block each."""
    import dask.array as da

    blocks, solver_once = _once(grid, f"{name}-grid"), _once(solver, f"{name}-solver")
    chunks = (_rows(solver).count,), grid.heights, grid.widths
    solved: da.Array
    if isinstance(solver, Solver | Linear):
        solved = da.map_blocks(_solve_block, grid=blocks, solver=solver_once, name=name, chunks=chunks, meta=META)  # type: ignore[no-untyped-call]
        return solved
    from hsichunk.unmixing.scaled_counts import range_of

    count_meta = META.astype(grid.dtype)
    ends = da.map_blocks(  # type: ignore[no-untyped-call]
        _find_ends, grid=blocks, name=f"{name}-ends", chunks=((2,), *chunks[1:]), meta=count_meta
    )
    extent = da.reduction(ends, range_of, range_of, axis=(1, 2), keepdims=True, dtype=grid.dtype, meta=count_meta)  # type: ignore[no-untyped-call]
    solved = da.map_blocks(  # type: ignore[no-untyped-call]
        _solve_scaled, ends, extent, grid=blocks, solver=solver_once, name=name, chunks=chunks, meta=META
    )
    return solved


def _place(solved: da.Array, cells: Cells, name: str) -> da.Array:
    """Return the products (outputs, y, x) on the grid of a mosaic: each row of cells is cut from flat blocks."""
    import dask.array as da

    cells_once, empty = _once(cells, f"{name}-cells"), solved.numblocks[2] - 1
    rows = []
    for i, height in enumerate(cells.heights):
        numbers = [[number for number, _ in cells.pieces.get((i, j), ())] for j in range(len(cells.widths))]
        # the blocks of the first piece of each cell, of the second, ...; the empty block, the last, where there is none
        most = max(1, *map(len, numbers))
        pieces = zip(*(own + [empty] * (most - len(own)) for own in numbers), strict=True)
        rows.append(
            da.map_blocks(  # type: ignore[no-untyped-call]
                _place_pieces,
                *(solved.blocks[:, :, list(nth)] for nth in pieces),
                cells=cells_once,
                row=i,
                name=f"{name}-row-{i}",
                chunks=(solved.chunks[0], (height,), cells.widths),
                meta=META,
            )
        )
    placed: da.Array = da.concatenate(rows, axis=1)  # type: ignore[no-untyped-call]
    return placed


# The functions that tasks call


def _solve_block(*, grid: BlockGrid, solver: Solver | Linear, block_id: tuple[int, ...]) -> Float32s:
    """Return the products (outputs, y, x) of a block."""
    block, rows = grid.block(block_id), _rows(solver)
    if block.counts is None:
        stacked = np.full((rows.count, *block.window.shape), np.nan, np.float32)
    elif isinstance(solver, Linear):
        stacked = linear_sums.solve(block.counts, solver, block.window)
    else:
        stacked = rows.empty(block.window.shape)
        solve_window(block.counts, solver, block.window, asked_for(), rows.split(stacked))
    return grid.arrange(stacked)


def _find_ends(*, grid: BlockGrid, block_id: tuple[int, ...]) -> NDArray[np.integer]:
    """Return the smallest and the largest count (2, y, x) of the pixels of a block."""
    from hsichunk.unmixing.scaled_counts import find_ends

    block = grid.block(block_id)
    return grid.arrange(find_ends(block.counts, block.window, block.shown, grid.dtype))


def _solve_scaled(
    ends: NDArray[np.integer],
    extent: NDArray[np.integer],
    *,
    grid: BlockGrid,
    solver: Scaled,
    block_id: tuple[int, ...],
) -> Float32s:
    """Return the products (outputs, y, x) of a block whose counts are scaled by the extent (2, 1, 1) of the cube."""
    from hsichunk.unmixing.scaled_counts import solve_scaled

    block, rows = grid.block(block_id), _rows(solver)
    stacked = np.full((rows.count, *block.window.shape), np.nan, np.float32)
    if block.counts is not None:
        low, high = extent.ravel().tolist()
        of_pixels = ends.reshape(2, *block.window.shape)
        solve_scaled(block.counts, solver, block.window, of_pixels, (low, high), rows.split(stacked))
    return grid.arrange(stacked)


def _place_pieces(*blocks: Float32s, cells: Cells, row: int, block_id: tuple[int, ...]) -> Float32s:
    """Return the products (outputs, y, x) of a cell from the flat products of its blocks."""
    return cells.fill(row, block_id[2], blocks)


def _solve_spectra(block: NDArray[np.floating], *, solvers: Solvers) -> Float32s:
    """Return the products (outputs, y, x) of a block of reflectance (y, x, band)."""
    from hsichunk.unmixing.values_pass import solve_spectra

    rows = _rows(solvers.floats)
    stacked = rows.empty(block.shape[:2])
    solve_spectra(block, solvers, asked_for(), rows.split(stacked))
    return stacked
