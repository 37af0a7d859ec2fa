"""Products of stored counts as dask arrays: tasks of whole stored chunks, of one tile or of many on their grid."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.columns import is_small
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, around, common, window_of, within
from hsichunk.cube.cleaning import source_of
from hsichunk.mosaic.tiled_counts import TiledCounts, blocks_of, cut_at, on_grid, on_tile
from hsichunk.threads import asked_for
from hsichunk.unmixing.linear_sums import Linear
from hsichunk.unmixing.scoring import Products, empty_products
from hsichunk.unmixing.solver import Solver
from hsichunk.unmixing.stored_pass import solve_window

if TYPE_CHECKING:
    from hsichunk.unmixing.scaled_counts import Scaled

Work: TypeAlias = "Solver | Linear | Scaled"
"""what makes products of counts"""


def _described(work: Work) -> Solver | Linear:
    """What says which products there are, and of how many endmembers."""
    return work if isinstance(work, Solver | Linear) else work.loose


def _solve_stored(counts: Counts, solver: Solver | Linear, window: Window) -> Products:
    if isinstance(solver, Linear):
        from hsichunk.unmixing import linear_sums

        return linear_sums.solve(counts, solver, window)
    return solve_window(counts, solver, window, asked_for())[0]


def _task(graph: dict[Any, Any], key: Any, counts: str, solver: Work, window: Window, shown: list[Window]) -> None:
    """Puts what solves a window of stored pixels into a graph, of which it shows some parts."""
    name = key[0].removesuffix("-tile")
    if isinstance(solver, Solver | Linear):
        graph[key] = (_solve_stored, counts, f"{name}-solver", window)
        return
    from hsichunk.unmixing.scaled_counts import find_range, solve_scaled

    found = (f"{key[0]}-range", *key[1:])
    graph[found] = (find_range, counts, window, shown)
    graph[key] = (solve_scaled, counts, f"{name}-solver", window, found, f"{name}-range")


def _join(graph: dict[Any, Any], name: str, solver: Work) -> None:
    """Puts into a graph the range of all windows in it, where it takes one."""
    if isinstance(solver, Solver | Linear):
        return
    from hsichunk.unmixing.scaled_counts import join_ranges

    ranges = [key for key in graph if isinstance(key, tuple) and key[0] in (f"{name}-range", f"{name}-tile-range")]
    graph[f"{name}-range"] = (join_ranges, ranges)


def rectangle(cube: xr.DataArray) -> tuple[Counts, Window] | None:
    """The counts behind a cube and the window of them that it is."""
    source = source_of(cube)
    window = None if source is None else window_of(source[1], source[2])
    return None if source is None or window is None else (source[0], window)


def from_chunks(counts: Counts, window: Window, solver: Work) -> dict[str, Any]:
    """A dask array a product of a window of stored counts, each chunk of them decoded once."""
    work = _from_tiles if isinstance(counts.stored, TiledCounts) else _from_stored
    return work(counts, window, solver)


def _from_stored(counts: Counts, window: Window, solver: Work) -> dict[str, Any]:
    rows, cols = blocks_of(counts, window)
    from dask.base import tokenize

    token = tokenize(counts, solver, window)
    name = f"unmix-{token}"
    graph: dict[Any, Any] = {f"{name}-counts": counts, f"{name}-solver": solver}
    for i in range(len(rows) - 1):
        for j in range(len(cols) - 1):
            block = Window(rows[i], rows[i + 1], cols[j], cols[j + 1])
            _task(graph, (name, i, j), f"{name}-counts", solver, block, [block])
    _join(graph, name, solver)
    chunks = tuple(int(v) for v in np.diff(rows)), tuple(int(v) for v in np.diff(cols))
    return split(name, graph, [], chunks, solver)


def _from_tiles(counts: Counts, window: Window, solver: Work) -> dict[str, Any]:
    """The same of a mosaic: each tile is solved as if alone, then its windows are put in their places on the grid."""
    from dask.base import tokenize

    mosaic: Any = counts.stored
    name = f"unmix-{tokenize(counts, solver, window)}"
    graph: dict[Any, Any] = {f"{name}-solver": solver}
    solved: list[tuple[Window, Any, Window]] = []  # shown on the grid, task, what the task solves on the grid
    for tile, shown in _by_tile(mosaic.windows(window)).items():
        place = mosaic.places[tile]
        own, key = place.counts(counts.bands), f"{name}-counts-{tile}"
        graph[key] = own
        # large columns are decoded once whatever is shown of them
        for whole in shown if is_small(own) else [around(shown)]:
            rows, cols = blocks_of(own, on_tile(place, whole))
            for top, bottom in pairwise(rows):
                for left, right in pairwise(cols):
                    block, task = Window(top, bottom, left, right), (f"{name}-tile", tile, top, left)
                    there = on_grid(place, block)
                    # of overlapping tiles only what is shown has a part in the range
                    seen = [on_tile(place, part) for part in (common(s, there) for s in shown) if min(part.shape) > 0]
                    _task(graph, task, key, solver, block, seen)
                    solved += [(part, task, there) for part in shown]
    _join(graph, name, solver)
    parts = [(common(part, block), task, block) for part, task, block in solved]
    parts = [piece for piece in parts if min(piece[0].shape) > 0]
    rows, cols = cut_at([part for part, _, _ in parts], window)
    chunks = tuple(int(v) for v in np.diff(rows)), tuple(int(v) for v in np.diff(cols))
    pieces: dict[tuple[int, int], list[tuple[Window, Any, Window]]] = {}
    for part, task, block in parts:
        for i in range(bisect_right(rows, part.top) - 1, bisect_left(rows, part.bottom)):
            for j in range(bisect_right(cols, part.left) - 1, bisect_left(cols, part.right)):
                pieces.setdefault((i, j), []).append((part, task, block))
    for i, (top, bottom) in enumerate(pairwise(rows)):
        for j, (left, right) in enumerate(pairwise(cols)):
            here = pieces.get((i, j), [])
            places = [(part, block) for part, _, block in here]
            tasks = [task for _, task, _ in here]
            graph[(name, i, j)] = (_put_together, f"{name}-solver", Window(top, bottom, left, right), tasks, places)
    return split(name, graph, [], chunks, solver)


def _by_tile(windows: list[tuple[int, Window]]) -> dict[int, list[Window]]:
    out: dict[int, list[Window]] = {}
    for tile, window in windows:
        out.setdefault(tile, []).append(window)
    return out


def _put_together(
    solver: Work, window: Window, solved: list[Products], places: list[tuple[Window, Window]]
) -> Products:
    """The products of a window of the grid, NaN where no tile lies: parts of what was solved, each in its place."""
    if len(places) == 1 and places[0] == (window, window):
        return solved[0]
    out = empty_products(_described(solver), window.shape)
    for values in out.values():
        values.fill(np.nan)
    for products, (part, block) in zip(solved, places, strict=True):
        at = common(part, window)
        for name, values in products.items():
            out[name][..., *within(at, window)] = values[..., *within(at, block)]
    return out


def split(
    name: str,
    graph: dict[Any, Any],
    dependencies: list[Any],
    chunks: tuple[tuple[int, ...], ...],
    solver: Work,
) -> dict[str, Any]:
    """One dask array a product from tasks (name, i, j) that give all of them."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    shown = _described(solver)
    base = HighLevelGraph.from_collections(name, graph, dependencies=dependencies)
    arrays = {}
    for product in shown.products:
        stacked = product in schema.PER_ENDMEMBER
        own = f"{product}-{name}"
        layer = {
            (own, *([0] if stacked else []), i, j): (_pick, (name, i, j), product)
            for i in range(len(chunks[0]))
            for j in range(len(chunks[1]))
        }
        layers: dict[str, Any] = {**base.layers, own: layer}
        whole = HighLevelGraph(layers, {**base.dependencies, own: {name}})
        shape = ((shown.p,), *chunks) if stacked else chunks
        meta = np.empty((0,) * len(shape), np.float32)
        arrays[product] = da.Array(whole, own, shape, meta=meta)  # type: ignore[no-untyped-call]
    return arrays


def _pick(products: Products, name: str) -> NDArray[np.float32]:
    return products[name]
