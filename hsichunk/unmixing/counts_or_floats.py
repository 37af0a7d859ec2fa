"""Compute products that have their own kernel for floats, for cubes that are no plain selection of stored counts.

The work goes block by block on whole spectra. Pixels that are counts get the bits of the pass; other pixels get the
results of the kernels in `hsichunk.unmixing.float_spectra`.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import Kernel, counts_first, on_pixels
from hsichunk.unmixing.product_rows import ProductArrays, ProductRows
from hsichunk.unmixing.solver import Solver, fits, prepare

LEAST_SQUARES = (schema.ABUNDANCE, schema.RMSE, schema.KKT)
CORRELATIONS = (schema.NCC, schema.NCC_DISTANCE)


def with_own_kernel(wanted: tuple[str, ...], constraint: str) -> list[tuple[str, ...]]:
    """Return the groups of the products `wanted` that one kernel for floats computes together."""
    abundances = tuple(name for name in LEAST_SQUARES if name in wanted and constraint != schema.FCLS)
    return [*([abundances] if abundances else []), *((name,) for name in CORRELATIONS if name in wanted)]


def products(
    cube: xr.DataArray, spectra: Floats, names: tuple[str, ...], wanted: tuple[str, ...], constraint: str
) -> ProductArrays:
    """Return the products `wanted`, one group of `with_own_kernel`, for endmembers `spectra` (k, L); lazy on dask."""
    kernel = _kernel(spectra, wanted, constraint)
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    if scale is not None and fits(spectra, float(scale)):
        solver = prepare(spectra, names, wanted, float(scale), exact=True, constraint=constraint)
        exactly = partial(_of_counts, solver=solver, wanted=wanted)
        kernel = partial(counts_first, scale=solver.scale, exactly=exactly, kernel=kernel)
    rows = ProductRows(wanted, len(names))
    return rows.split(on_pixels(cube, kernel, rows.count))


def _kernel(spectra: Floats, wanted: tuple[str, ...], constraint: str) -> Kernel:
    """Return the function from spectra (n, L) that are not counts to the columns of a group of products."""
    from hsichunk.unmixing import float_spectra

    if wanted[0] in CORRELATIONS:
        return partial(float_spectra.correlations, spectra=spectra, distance=wanted[0] == schema.NCC_DISTANCE)
    return partial(
        float_spectra.least_squares, spectra=spectra, constraint=constraint, certificate=schema.KKT in wanted
    )


def _of_counts(rows: NDArray[np.int16], solver: Solver, wanted: tuple[str, ...]) -> Floats:
    """Return the products (n, columns) of counts (n, L), by exact sums."""
    from hsichunk.unmixing.count_sums import add_spectra
    from hsichunk.unmixing.scoring import score_sums

    n = len(rows)
    total, valid = np.zeros((solver.layout.rows, n)), np.ones(n, np.bool_)
    add_spectra(solver, rows, [(0, solver.bands, 0)], None, slice(0, n), total, valid)
    computed = score_sums(solver, total, valid)[0]
    return np.concatenate([computed[name].reshape(-1, n) for name in wanted]).T.astype(np.float64)
