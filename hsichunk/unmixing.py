"""Unmixing and scoring, labelled and lazy: the pass of `hsichunk.column` behind xarray.

A cube that is a plain window of stored counts goes the direct way: one task a block, from stored bytes to products. Any
other cube, NumPy or dask, is worked block by block on whole spectra; where its values still are counts over a scale it
gives the same bits, else float64 results within 1e-6.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import provenance, schema
from hsichunk.checks import check_cube, check_endmembers
from hsichunk.cleaning import source_of
from hsichunk.column import solve_window
from hsichunk.counts import Counts, Window
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.mosaic import TiledCounts, blocks_of, cut_at, on_grid, on_tile
from hsichunk.scoring import Products, empty_products
from hsichunk.solver import LARGEST_COUNT, MOST_BANDS, Linear, Solver, prepare
from hsichunk.stored_columns import is_small
from hsichunk.threads import asked_for

if TYPE_CHECKING:
    from hsichunk.scaled_counts import Scaled

Work: TypeAlias = "Solver | Linear | Scaled"
GUARD = 2.2204460492503131e-16  # what PySpTools adds to the shares of a spectrum


def unmix(
    cube: xr.DataArray,
    endmembers: xr.DataArray,
    products: Iterable[str] = schema.PRODUCTS,
    *,
    scaling: Literal["minmax"] | None = None,
) -> xr.Dataset:
    """Unmixes and scores every pixel of a cube in one pass: each stored chunk is decoded once for all products.

    `cube` (y, x, wavelength) reflectance, `endmembers` (endmember, wavelength) on the same wavelengths. `products` are
    some of "abundance" (fully constrained least squares: at least 0, summing to one), "rmse" (of the abundances, in
    reflectance), "sam" (spectral angle, rad), "sid" (spectral information divergence, nats; reflectance below 1e-4 is
    read as 1e-4) and "kkt" (violation of the optimality conditions by the abundances, relative).

    `scaling="minmax"` first scales cube and endmembers to 0..1, each by its own range, as PySpTools' class maps do: one
    more pass over the cube, and SID then adds PySpTools' 2.2e-16 to the shares in place of the floor (of what `clean`
    gave, the chunks under the darkest pixels are decoded once more for it).

    Returns a Dataset of float32: abundance, sam, sid (endmember, y, x), rmse, kkt (y, x); a pixel with no-data in any
    band is NaN in all of them. Lazy for a dask cube, computed for a NumPy one. Raises HsiError for wavelengths that
    differ and for endmembers that are equal or mixtures of each other.
    Sources: Heinz & Chang 2001 (FCLS), Kruse et al. 1993 (SAM), Chang 2000 (SID).
    """
    cube = check_cube(cube)
    wanted = _check_products(products)
    if scaling is not None:
        return _unmix_scaled(cube, endmembers, wanted, scaling)
    return in_one_pass(cube, endmembers, wanted)


def in_one_pass(
    cube: xr.DataArray, endmembers: xr.DataArray, wanted: tuple[str, ...], constraint: str = schema.FCLS
) -> xr.Dataset:
    """What `unmix` gives, of any products and constraint that the pass makes: Chebyshev's distance, too.

    Of floats FCLS alone: `hsichunk.either_way` is for the others.
    """
    spectra, names = check_endmembers(endmembers, cube)
    source = rectangle(cube)
    if source is not None:
        arrays = from_chunks(
            *source, prepare(spectra, names, wanted, source[0].scale, exact=True, constraint=constraint)
        )
    else:
        arrays = _from_values(cube, _solvers(cube, spectra, names, wanted, 0.0))
    return label(arrays, cube, names)


def takes(cube: xr.DataArray, spectra: NDArray[np.float64]) -> bool:
    """Whether the pass gives sums of a cube right from its stored chunks, whatever counts these hold."""
    source = rectangle(cube)
    return source is not None and np.can_cast(source[0].stored.dtype, np.int16) and fits(spectra, source[0].scale)


def fits(spectra: NDArray[np.float64], scale: float) -> bool:
    """Whether endmembers (p, L) have exact sums with counts of `scale` a unit."""
    return spectra.shape[1] <= MOST_BANDS and bool((np.abs(spectra) * scale <= LARGEST_COUNT).all())


def fcls(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.Dataset:
    """Fully constrained least squares: `unmix` asked for abundance (endmember, y, x) and rmse (y, x), float32."""
    return unmix(cube, endmembers, (schema.ABUNDANCE, schema.RMSE))


def sam(cube: xr.DataArray, endmembers: xr.DataArray, *, scaling: Literal["minmax"] | None = None) -> xr.DataArray:
    """Spectral angle to each endmember (endmember, y, x) in radians: `unmix` asked for it alone."""
    return unmix(cube, endmembers, (schema.SAM,), scaling=scaling)[schema.SAM]


def sid(cube: xr.DataArray, endmembers: xr.DataArray, *, scaling: Literal["minmax"] | None = None) -> xr.DataArray:
    """Spectral information divergence from each endmember (endmember, y, x) in nats: `unmix` asked for it alone."""
    return unmix(cube, endmembers, (schema.SID,), scaling=scaling)[schema.SID]


def _unmix_scaled(cube: xr.DataArray, endmembers: xr.DataArray, wanted: tuple[str, ...], scaling: str) -> xr.Dataset:
    from hsichunk.scaled_counts import Scaled
    from hsichunk.scaling import minmax

    if scaling != "minmax":
        raise HsiError(f'scaling is {scaling!r}; expected "minmax" or None')
    spectra, names = check_endmembers(minmax(endmembers), cube)
    source = rectangle(cube)
    if source is None or source[0].stored.dtype.kind not in "iu" or len(source[0].bands) > MOST_BANDS:
        scaled = minmax(cube)
        return label(_from_values(scaled, _solvers(scaled, spectra, names, wanted, GUARD)), cube, names)
    loose = prepare(spectra, names, wanted, schema.NEON_SCALE, exact=False, guard=GUARD)
    return label(from_chunks(*source, Scaled(spectra, loose)), cube, names)


def rectangle(cube: xr.DataArray) -> tuple[Counts, Window] | None:
    """The counts behind a cube and the window of them that it is."""
    source = source_of(cube)
    window = None if source is None else _window(source[1], source[2])
    return None if source is None or window is None else (source[0], window)


def _check_products(products: Iterable[str]) -> tuple[str, ...]:
    wanted = (products,) if isinstance(products, str) else tuple(products)
    unknown = set(wanted) - set(schema.ALL_PRODUCTS)
    if unknown or not wanted:
        raise HsiError(
            f"products {', '.join(map(str, wanted)) or '(none)'}; expected some of {', '.join(schema.ALL_PRODUCTS)}"
        )
    return wanted


def _window(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Window | None:
    """The rectangle of stored pixels that positions make up, if they do."""
    if not (len(rows) and len(cols) and (np.diff(rows) == 1).all() and (np.diff(cols) == 1).all()):
        return None
    return Window(int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)


def _solve_stored(counts: Counts, solver: Solver | Linear, window: Window) -> Products:
    if isinstance(solver, Linear):
        from hsichunk import linear

        return linear.solve(counts, solver, window)
    return solve_window(counts, solver, window, asked_for())[0]


def _task(graph: dict[Any, Any], key: Any, counts: str, solver: Work, window: Window, shown: list[Window]) -> None:
    """Puts what solves a window of stored pixels into a graph, of which it shows some parts."""
    name = key[0].removesuffix("-tile")
    if isinstance(solver, Solver | Linear):
        graph[key] = (_solve_stored, counts, f"{name}-solver", window)
        return
    from hsichunk.scaled_counts import find_range, solve_scaled

    found = (f"{key[0]}-range", *key[1:])
    graph[found] = (find_range, counts, window, shown)
    graph[key] = (solve_scaled, counts, f"{name}-solver", window, found, f"{name}-range")


def _join(graph: dict[Any, Any], name: str, solver: Work) -> None:
    """Puts into a graph the range of all windows in it, where it takes one."""
    if isinstance(solver, Solver | Linear):
        return
    from hsichunk.scaled_counts import join_ranges

    ranges = [key for key in graph if isinstance(key, tuple) and key[0] in (f"{name}-range", f"{name}-tile-range")]
    graph[f"{name}-range"] = (join_ranges, ranges)


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
    return _split(name, graph, [], chunks, solver)


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
        for whole in shown if is_small(own) else [_around(shown)]:
            rows, cols = blocks_of(own, on_tile(place, whole))
            for top, bottom in pairwise(rows):
                for left, right in pairwise(cols):
                    block, task = Window(top, bottom, left, right), (f"{name}-tile", tile, top, left)
                    there = on_grid(place, block)
                    # of overlapping tiles only what is shown has a part in the range
                    seen = [on_tile(place, part) for part in (_common(s, there) for s in shown) if min(part.shape) > 0]
                    _task(graph, task, key, solver, block, seen)
                    solved += [(part, task, there) for part in shown]
    _join(graph, name, solver)
    parts = [(_common(part, block), task, block) for part, task, block in solved]
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
    return _split(name, graph, [], chunks, solver)


def _by_tile(windows: list[tuple[int, Window]]) -> dict[int, list[Window]]:
    out: dict[int, list[Window]] = {}
    for tile, window in windows:
        out.setdefault(tile, []).append(window)
    return out


def _around(windows: list[Window]) -> Window:
    return Window(
        min(w.top for w in windows),
        max(w.bottom for w in windows),
        min(w.left for w in windows),
        max(w.right for w in windows),
    )


def _common(a: Window, b: Window) -> Window:
    """What two windows share: no rows or columns, or fewer, where that is nothing."""
    return Window(max(a.top, b.top), min(a.bottom, b.bottom), max(a.left, b.left), min(a.right, b.right))


def _put_together(
    solver: Work, window: Window, solved: list[Products], places: list[tuple[Window, Window]]
) -> Products:
    """The products of a window of the grid, NaN where no tile lies: parts of what was solved, each in its place."""
    solver = solver if isinstance(solver, Solver | Linear) else solver.loose
    if len(places) == 1 and places[0] == (window, window):
        return solved[0]
    out = empty_products(solver, window.shape)
    for values in out.values():
        values.fill(np.nan)
    for products, (part, block) in zip(solved, places, strict=True):
        at = _common(part, window)
        for name, values in products.items():
            out[name][..., *_within(at, window)] = values[..., *_within(at, block)]
    return out


def _within(part: Window, window: Window) -> tuple[slice, slice]:
    top, left = window.top, window.left
    return slice(part.top - top, part.bottom - top), slice(part.left - left, part.right - left)


def _split(
    name: str,
    graph: dict[Any, Any],
    dependencies: list[Any],
    chunks: tuple[tuple[int, ...], ...],
    solver: Work,
) -> dict[str, Any]:
    """One dask array a product from tasks (name, i, j) that give all of them."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    solver = solver if isinstance(solver, Solver | Linear) else solver.loose

    base = HighLevelGraph.from_collections(name, graph, dependencies=dependencies)
    arrays = {}
    for product in solver.products:
        stacked = product in schema.PER_ENDMEMBER
        own = f"{product}-{name}"
        layer = {
            (own, *([0] if stacked else []), i, j): (_pick, (name, i, j), product)
            for i in range(len(chunks[0]))
            for j in range(len(chunks[1]))
        }
        layers: dict[str, Any] = {**base.layers, own: layer}
        whole = HighLevelGraph(layers, {**base.dependencies, own: {name}})
        shape = ((solver.p,), *chunks) if stacked else chunks
        meta = np.empty((0,) * len(shape), np.float32)
        arrays[product] = da.Array(whole, own, shape, meta=meta)  # type: ignore[no-untyped-call]
    return arrays


def _pick(products: Products, name: str) -> NDArray[np.float32]:
    return products[name]


def _solvers(
    cube: xr.DataArray, spectra: NDArray[np.float64], names: tuple[str, ...], wanted: tuple[str, ...], guard: float
) -> tuple[Solver | None, Solver]:
    """The solver for values that are counts over a scale, where the cube says so, and the one for any floats."""
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    loose = prepare(spectra, names, wanted, float(scale or schema.NEON_SCALE), exact=False, guard=guard)
    if scale is None or loose.bands > MOST_BANDS:
        return None, loose
    return prepare(spectra, names, wanted, float(scale), exact=True), loose


def _from_values(cube: xr.DataArray, solvers: tuple[Solver | None, Solver]) -> dict[str, Any]:
    from hsichunk.spectra import solve_spectra

    data = cube.data
    if not hasattr(data, "dask"):
        return dict(solve_spectra(np.asarray(data), solvers, asked_for()))
    if len(data.chunks[2]) > 1:
        warnings.warn(
            f"the cube's bands lie in {len(data.chunks[2])} chunks and it is no plain selection of a stored tile; they "
            "are rechunked to whole spectra, which holds blocks in memory: unmix what clean() gives to avoid that",
            HsiWarning,
            stacklevel=3,
        )
        side = max(1, math.isqrt((64 << 20) // (data.shape[2] * data.dtype.itemsize)))
        data = data.rechunk({0: side, 1: side, 2: -1})
    from dask.base import tokenize

    name = f"unmix-{tokenize(data, solvers)}"
    graph: dict[Any, Any] = {f"{name}-solvers": solvers}
    for i in range(data.numblocks[0]):
        for j in range(data.numblocks[1]):
            graph[(name, i, j)] = (_solve_block, (data.name, i, j, 0), f"{name}-solvers")
    return _split(name, graph, [data], data.chunks[:2], solvers[1])


def _solve_block(block: NDArray[Any], solvers: tuple[Solver | None, Solver]) -> Products:
    from hsichunk.spectra import solve_spectra

    return solve_spectra(block, solvers, asked_for())


def label(arrays: dict[str, Any], cube: xr.DataArray, names: tuple[str, ...]) -> xr.Dataset:
    spatial = {
        name: coord
        for name, coord in cube.coords.items()
        if set(coord.dims) <= {schema.Y, schema.X} and name != schema.ENDMEMBER
    }
    variables = {}
    for name, array in arrays.items():
        dims = (schema.ENDMEMBER, schema.Y, schema.X) if name in schema.PER_ENDMEMBER else (schema.Y, schema.X)
        variables[name] = xr.Variable(dims, array, schema.PRODUCT_ATTRS[name])
        if schema.GRID_MAPPING in spatial:
            variables[name].encoding["grid_mapping"] = schema.GRID_MAPPING
    coords = {schema.ENDMEMBER: (schema.ENDMEMBER, list(names), {"long_name": "endmember"})}
    return xr.Dataset(variables, {**spatial, **coords}, provenance.carried(cube.attrs, provenance.MADE))
