"""The pass for spectra in memory: blocks of reflectance (rows, columns, bands), from NumPy or a dask task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.kernels import float_sums
from hsichunk.threads import in_parallel, scratch
from hsichunk.unmixing.count_sums import add_spectra
from hsichunk.unmixing.scoring import Products, empty_products, score_sums
from hsichunk.unmixing.solver import Solver

SLAB = 480  # pixels worked at once: 362 bands are 1.4 MB of float64; rows of 512 would fall on the same cache lines


def solve_spectra(
    block: NDArray[Any], solvers: tuple[Solver | None, Solver], threads: int, into: Products | None = None
) -> Products:
    """Products of a block (rows, columns, bands) of reflectance, float32, NaN where a band is not finite.

    `solvers` are the one for counts, if the values may be some, and the one for any floats. Where every value of a
    pixel turns out to be a whole count over the scale, the counts are recovered and its sums are exact. What a pixel
    comes to depends on its own values alone, not on the block that it lies in. The products are new arrays, or those
    given.
    """
    exact, loose = solvers
    height, width, bands = block.shape
    out = empty_products(loose, (height, width)) if into is None else into
    narrow, low = min(SLAB, max(width, 1)), max(1, SLAB // max(width, 1))
    corners = [(y, x) for y in range(0, height, low) for x in range(0, width, narrow)]

    def work(corner: tuple[int, int]) -> None:
        y, x = corner
        part = block[y : y + low, x : x + narrow]
        products = _solve(float_sums.as_floats(part).reshape(-1, bands), exact, loose)
        for name, values in products.items():
            if name in out:
                out[name][..., y : y + low, x : x + narrow] = values.reshape(*values.shape[:-1], *part.shape[:2])

    in_parallel(work, corners, threads)
    return out


def _solve(values: NDArray[Any], exact: Solver | None, loose: Solver) -> Products:
    """Products of spectra (n, L): of counts where they are some, of floats where not."""
    if exact is None:
        return _from_floats(values, loose)
    n = len(values)
    rows = np.empty(values.shape, np.int16)
    valid, counted = np.ones(n, np.bool_), np.ones(n, np.bool_)
    others = float_sums.recover(values, exact.scale, rows, valid, counted)
    if others == n:
        return _from_floats(values, loose)
    total = np.zeros((exact.layout.rows, n))
    add_spectra(exact, rows, [(0, exact.bands, 0)], None, slice(0, n), total, valid)
    products = score_sums(exact, total, valid)[0]
    if others:
        for name, part in _from_floats(values[~counted], loose).items():
            products[name][..., ~counted] = part
    return products


def _from_floats(values: NDArray[Any], solver: Solver) -> Products:
    """The same sums in float64, of values that are no counts."""
    p, layout = solver.k, solver.layout
    n, bands = values.shape
    # what pixels that are not finite come to is NaN anyway; infinity would warn on its way there
    x, valid = scratch("spectra", (bands, n), np.float64), np.empty(n, np.bool_)
    float_sums.turn(np.ascontiguousarray(values), solver.scale, x, valid)
    total = np.zeros((layout.rows, n))
    float_sums.add_dots(x, x, total[layout.square])
    if layout.maxima:
        float_sums.widen(x, solver.left[:p], total[layout.furthest])
    unfloored = total[layout.unfloored]
    float_sums.add_products(solver.left[: len(unfloored)], x, unfloored)
    if layout.logarithms:
        one, ln_q = np.split(solver.left[len(unfloored) :], [1])
        of_one = total[layout.floored_sum]
        if solver.guard:
            float_sums.add_products(one, x, of_one)
            added = solver.guard * np.where(of_one[0] > 0, of_one[0], 1.0)  # nothing but zeros: a flat spectrum
            x += added
            of_one[0] += solver.bands * added
        else:
            np.maximum(x, solver.floor, out=x)
            float_sums.add_products(one, x, of_one)
        ln = np.log(x)
        float_sums.add_products(ln_q, x, total[layout.x_ln_q])
        float_sums.add_products(solver.right, ln, total[layout.q_ln_x])
        float_sums.add_dots(x, ln, total[layout.x_ln_x][0])
    return score_sums(solver, total, valid)[0]
