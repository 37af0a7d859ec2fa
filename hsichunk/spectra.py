"""The pass for spectra in memory: blocks of reflectance (rows, columns, bands), from NumPy or a dask task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.column import Products, add_spectra, empty_products, score_sums
from hsichunk.kernels import sums
from hsichunk.solver import Solver
from hsichunk.threads import in_parallel, one_blas_thread

SLAB = 2048  # pixels solved at once


def solve_spectra(block: NDArray[Any], solvers: tuple[Solver | None, Solver], threads: int) -> Products:
    """Products of a block (rows, columns, bands) of reflectance, float32, NaN where a band is NaN.

    `solvers` are the one for counts, if the values may be some, and the one for any floats. Where every value of a slab turns
    out to be a whole count over the scale, the counts are recovered and the sums are exact.
    """
    exact, loose = solvers
    flat = block.reshape(-1, block.shape[-1])
    out = empty_products(loose, (len(flat),))

    def work(start: int) -> None:
        values = flat[start : start + SLAB]
        products = _from_counts(values, exact) if exact is not None else None
        if products is None:
            products = _from_floats(values, loose)
        for name in out:
            out[name][..., start : start + len(values)] = products[name]

    with one_blas_thread():
        in_parallel(work, range(0, len(flat), SLAB), threads)
    return {name: values.reshape(*values.shape[:-1], *block.shape[:2]) for name, values in out.items()}


def _from_counts(values: NDArray[Any], solver: Solver) -> Products | None:
    """Exact products, or None when some value is no count."""
    rows = np.empty((len(values), values.shape[1] + sums.LANES), np.int16)
    valid = np.ones(len(values), np.bool_)
    if not sums.recover(np.ascontiguousarray(values), solver.scale, rows, valid):
        return None
    total = np.zeros((solver.sums, len(values)))
    add_spectra(solver, rows, None, total, valid)
    return score_sums(solver, total, valid)[0]


def _from_floats(values: NDArray[Any], solver: Solver) -> Products:
    """The same sums in float64, of values that are no counts."""
    p = solver.p
    x = values.astype(np.float64) * solver.scale
    valid = np.isfinite(x).all(1)
    x[~valid] = solver.floor  # their results are NaN; until then they must not disturb
    total = np.zeros((solver.sums, len(x)))
    total[0] = np.einsum("ij,ij->i", x, x)
    total[1 : 1 + p] = solver.left[:p] @ x.T
    if solver.with_sid:
        np.maximum(x, solver.floor, out=x)
        ln = np.log(x)
        total[1 + p : 2 + 2 * p] = solver.left[p:] @ x.T
        total[2 + 2 * p : 2 + 3 * p] = solver.right @ ln.T
        total[-1] = np.einsum("ij,ij->i", x, ln)
    return score_sums(solver, total, valid)[0]
