"""The pass over spectra in memory: compute the products of blocks of reflectance, from NumPy arrays or dask tasks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hsichunk.kernels import float_sums
from hsichunk.threads import in_parallel, scratch
from hsichunk.unmixing.count_sums import add_spectra
from hsichunk.unmixing.scoring import Products, empty_products, score_sums
from hsichunk.unmixing.solver import Solver, Solvers

SLAB = 480  # pixels worked at once: 362 bands are 1.4 MB of float64; rows of 512 would fall on the same cache lines


def solve_spectra(block: NDArray[np.number], solvers: Solvers, threads: int, into: Products | None = None) -> Products:
    """Return the products of a block (rows, columns, bands) of reflectance, float32, NaN where a band is not finite.

    Where every value of a pixel turns out to be a whole count over the scale of `solvers.counts`, the counts are
    recovered and the sums of the pixel are exact. The products of a pixel depend on its own values alone, not on the
    block that it lies in. They are new arrays, or the arrays `into`.
    """
    height, width, bands = block.shape
    out = empty_products(solvers.floats, (height, width)) if into is None else into
    narrow, low = min(SLAB, max(width, 1)), max(1, SLAB // max(width, 1))
    corners = [(y, x) for y in range(0, height, low) for x in range(0, width, narrow)]

    def work(corner: tuple[int, int]) -> None:
        y, x = corner
        part = block[y : y + low, x : x + narrow]
        products = _solve(float_sums.as_floats(part).reshape(-1, bands), solvers)
        for name, values in products.items():
            if name in out:
                out[name][..., y : y + low, x : x + narrow] = values.reshape(*values.shape[:-1], *part.shape[:2])

    in_parallel(work, corners, threads)
    return out


def _solve(values: NDArray[np.floating], solvers: Solvers) -> Products:
    """Return the products of spectra (n, L): those that are counts by exact sums, the others by float sums."""
    exact = solvers.counts
    if exact is None:
        return _from_floats(values, solvers.floats)
    n = len(values)
    rows = np.empty(values.shape, np.int16)
    valid, is_counts = np.ones(n, np.bool_), np.ones(n, np.bool_)
    others = float_sums.recover_counts(values, exact.scale, rows, valid, is_counts)
    if others == n:
        return _from_floats(values, solvers.floats)
    total = np.zeros((exact.layout.rows, n))
    add_spectra(exact, rows, [(0, exact.bands, 0)], None, slice(0, n), total, valid)
    products = score_sums(exact, total, valid)[0]
    if others:
        for name, part in _from_floats(values[~is_counts], solvers.floats).items():
            products[name][..., ~is_counts] = part
    return products


def _from_floats(values: NDArray[np.floating], solver: Solver) -> Products:
    """Return the products of spectra (n, L) that are not counts, by the same sums in float64."""
    layout = solver.layout
    n, bands = values.shape
    # pixels that are not finite become 1 in `x`, as infinity would warn before it became NaN
    x, valid = scratch("spectra", (bands, n), np.float64), np.empty(n, np.bool_)
    float_sums.transpose_scaled(np.ascontiguousarray(values), solver.scale, x, valid)
    total = np.zeros((layout.rows, n))
    float_sums.add_dots(x, x, total[layout.square])
    if layout.maxima:
        float_sums.update_furthest(x, solver.left[: solver.k], total[layout.furthest])
    unfloored = total[layout.unfloored]
    float_sums.add_products(solver.left[: len(unfloored)], x, unfloored)
    if layout.logarithms:
        ones, ln_q = np.split(solver.left[len(unfloored) :], [1])
        sum_x = total[layout.floored_sum]
        if solver.guard:
            float_sums.add_products(ones, x, sum_x)
            added = solver.guard * np.where(sum_x[0] > 0, sum_x[0], 1.0)  # a spectrum of zeros becomes a flat one
            x += added
            sum_x[0] += solver.bands * added
        else:
            np.maximum(x, solver.floor, out=x)
            float_sums.add_products(ones, x, sum_x)
        ln = np.log(x)
        float_sums.add_products(ln_q, x, total[layout.x_ln_q])
        float_sums.add_products(solver.right, ln, total[layout.q_ln_x])
        float_sums.add_dots(x, ln, total[layout.x_ln_x][0])
    return score_sums(solver, total, valid)[0]
