"""Products of stored counts as dask arrays: blocks of a window, an array of what they come to, slices of it.

One task solves a block, from stored chunks to all of its products as one array (see `hsichunk.unmixing.product_rows`):
each stored chunk is decoded once, however many of the products are asked for. What every task needs is in the graph
once, under a name of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, window_of
from hsichunk.cube.cleaning import source_of
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.threads import asked_for
from hsichunk.unmixing import block_grid, linear_sums
from hsichunk.unmixing.block_grid import BlockGrid, Cells
from hsichunk.unmixing.linear_sums import Linear
from hsichunk.unmixing.product_rows import ProductRows
from hsichunk.unmixing.solver import Solver
from hsichunk.unmixing.stored_pass import solve_window

if TYPE_CHECKING:
    from hsichunk.unmixing.scaled_counts import Scaled

GraphSolver: TypeAlias = "Solver | Linear | Scaled"
"""what makes products of counts"""
META = np.empty((0, 0, 0), np.float32)


def rectangle(cube: xr.DataArray) -> tuple[Counts, Window] | None:
    """The counts behind a cube and the window of them that it is."""
    source = source_of(cube)
    window = None if source is None else window_of(source[1], source[2])
    return None if source is None or window is None else (source[0], window)


def from_chunks(counts: Counts, window: Window, solver: GraphSolver) -> dict[str, Any]:
    """A dask array a product of a window of stored counts, each chunk of them decoded once."""
    from dask.base import tokenize

    name = f"unmix-{tokenize(counts, solver, window)}"
    if isinstance(counts.stored, TiledCounts):
        grid, cells = block_grid.of_mosaic(counts, counts.stored, window)
    else:
        grid, cells = block_grid.of_tile(counts, window), None
    solved = _solve(grid, solver, name)
    return _rows(solver).split(solved if cells is None else _place(solved, cells, name))


def from_blocks(data: Any, solvers: tuple[Solver | None, Solver]) -> dict[str, Any]:
    """A dask array a product of one of reflectance (y, x, wavelength), all bands in a chunk; see `solve_spectra`."""
    import dask.array as da
    from dask.base import tokenize

    name, rows = f"unmix-{tokenize(data, solvers)}", _rows(solvers[1])
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
    return ProductRows(solver.products, solver.k)


def _once(constant: Any, name: str) -> Any:
    """A constant under its own name in the graph, to which tasks refer."""
    from dask.delayed import delayed

    return delayed(constant, name=name, traverse=False)


def _solve(grid: BlockGrid, solver: GraphSolver, name: str) -> Any:
    """The products (outputs, y, x) of all blocks, a dask block each."""
    import dask.array as da

    blocks, solver_once = _once(grid, f"{name}-grid"), _once(solver, f"{name}-solver")
    chunks = (_rows(solver).count,), grid.heights, grid.widths
    if isinstance(solver, Solver | Linear):
        return da.map_blocks(_solve_block, grid=blocks, solver=solver_once, name=name, chunks=chunks, meta=META)  # type: ignore[no-untyped-call]
    from hsichunk.unmixing.scaled_counts import range_of

    of_counts = META.astype(grid.dtype)
    ends = da.map_blocks(  # type: ignore[no-untyped-call]
        _find_ends, grid=blocks, name=f"{name}-ends", chunks=((2,), *chunks[1:]), meta=of_counts
    )
    whole = da.reduction(ends, range_of, range_of, axis=(1, 2), keepdims=True, dtype=grid.dtype, meta=of_counts)  # type: ignore[no-untyped-call]
    return da.map_blocks(  # type: ignore[no-untyped-call]
        _solve_scaled, ends, whole, grid=blocks, solver=solver_once, name=name, chunks=chunks, meta=META
    )


def _place(solved: Any, cells: Cells, name: str) -> Any:
    """The products on the grid of a mosaic, put together from flat blocks row by row of its cells."""
    import dask.array as da

    cells_once, nowhere = _once(cells, f"{name}-cells"), solved.numblocks[2] - 1
    rows = []
    for i, height in enumerate(cells.heights):
        numbers = [[number for number, _ in cells.pieces.get((i, j), ())] for j in range(len(cells.widths))]
        # the first piece of each cell, the second of each, ...: nowhere in what has fewer
        most = max(1, *map(len, numbers))
        pieces = zip(*(own + [nowhere] * (most - len(own)) for own in numbers), strict=True)
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
    return da.concatenate(rows, axis=1)  # type: ignore[no-untyped-call]


# what the tasks do


def _solve_block(*, grid: BlockGrid, solver: Solver | Linear, block_id: tuple[int, ...]) -> NDArray[np.float32]:
    block, rows = grid.block(block_id), _rows(solver)
    if block.counts is None:
        stacked = np.full((rows.count, *block.window.shape), np.nan, np.float32)
    elif isinstance(solver, Linear):
        stacked = linear_sums.solve(block.counts, solver, block.window)
    else:
        stacked = rows.empty(block.window.shape)
        solve_window(block.counts, solver, block.window, asked_for(), rows.split(stacked))
    return grid.laid_out(stacked, block)


def _find_ends(*, grid: BlockGrid, block_id: tuple[int, ...]) -> NDArray[Any]:
    from hsichunk.unmixing.scaled_counts import find_ends

    block = grid.block(block_id)
    return grid.laid_out(find_ends(block.counts, block.window, block.shown, grid.dtype), block)


def _solve_scaled(
    ends: NDArray[Any], whole: NDArray[Any], *, grid: BlockGrid, solver: Scaled, block_id: tuple[int, ...]
) -> NDArray[np.float32]:
    from hsichunk.unmixing.scaled_counts import solve_scaled

    block, rows = grid.block(block_id), _rows(solver)
    stacked = np.full((rows.count, *block.window.shape), np.nan, np.float32)
    if block.counts is not None:
        low, high = whole.ravel().tolist()
        of_pixels = ends.reshape(2, *block.window.shape)
        solve_scaled(block.counts, solver, block.window, of_pixels, (low, high), rows.split(stacked))
    return grid.laid_out(stacked, block)


def _place_pieces(
    *blocks: NDArray[np.float32], cells: Cells, row: int, block_id: tuple[int, ...]
) -> NDArray[np.float32]:
    return cells.fill(row, block_id[2], blocks)


def _solve_spectra(block: NDArray[Any], *, solvers: tuple[Solver | None, Solver]) -> NDArray[np.float32]:
    from hsichunk.unmixing.values_pass import solve_spectra

    rows = _rows(solvers[1])
    stacked = rows.empty(block.shape[:2])
    solve_spectra(block, solvers, asked_for(), rows.split(stacked))
    return stacked
