"""Products that have a kernel of their own for floats, of cubes that are no plain selection of stored counts.

Block by block on whole spectra: pixels that are counts come to the bits of the pass, other pixels to what the kernel of
`hsichunk.unmixing.float_spectra` makes of them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import Kernel, counts_first, on_pixels
from hsichunk.unmixing.product_rows import ProductRows
from hsichunk.unmixing.solver import Solver, fits, prepare

LEAST_SQUARES = (schema.ABUNDANCE, schema.RMSE, schema.KKT)
CORRELATIONS = (schema.NCC, schema.NCC_DISTANCE)


def with_own_kernel(wanted: tuple[str, ...], constraint: str) -> list[tuple[str, ...]]:
    """Those of the products `wanted` that have a kernel of their own for floats, together as it makes them."""
    bound = tuple(name for name in LEAST_SQUARES if name in wanted and constraint != schema.FCLS)
    return [*([bound] if bound else []), *((name,) for name in CORRELATIONS if name in wanted)]


def products(
    cube: xr.DataArray, spectra: Floats, names: tuple[str, ...], wanted: tuple[str, ...], constraint: str
) -> dict[str, Any]:
    """Arrays of one group of products `with_own_kernel`, by endmembers `spectra` (p, L); lazy on dask."""
    kernel = _kernel(spectra, wanted, constraint)
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    if scale is not None and fits(spectra, float(scale)):
        solver = prepare(spectra, names, wanted, float(scale), exact=True, constraint=constraint)
        exactly = partial(_of_counts, solver=solver, wanted=wanted)
        kernel = partial(counts_first, scale=solver.scale, exactly=exactly, kernel=kernel)
    rows = ProductRows(wanted, len(names))
    return rows.split(on_pixels(cube, kernel, rows.count))


def _kernel(spectra: Floats, wanted: tuple[str, ...], constraint: str) -> Kernel:
    from hsichunk.unmixing import float_spectra

    if wanted[0] in CORRELATIONS:
        return partial(float_spectra.correlations, spectra=spectra, distance=wanted[0] == schema.NCC_DISTANCE)
    return partial(
        float_spectra.least_squares, spectra=spectra, constraint=constraint, certificate=schema.KKT in wanted
    )


def _of_counts(rows: NDArray[np.int16], solver: Solver, wanted: tuple[str, ...]) -> Floats:
    """Counts (n, L) to their products (n, columns), by exact sums."""
    from hsichunk.unmixing.count_sums import add_spectra
    from hsichunk.unmixing.scoring import score_sums

    n = len(rows)
    total, valid = np.zeros((solver.layout.rows, n)), np.ones(n, np.bool_)
    add_spectra(solver, rows, [(0, solver.bands, 0)], None, slice(0, n), total, valid)
    made = score_sums(solver, total, valid)[0]
    return np.concatenate([made[name].reshape(-1, n) for name in wanted]).T.astype(np.float64)
