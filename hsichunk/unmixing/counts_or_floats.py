"""What a run makes in the one pass, of cubes of any kind: of counts by the pass, with its bits, of floats by a kernel.

A plain selection of stored counts goes from stored chunks to products: each chunk is decoded once, none rechunked.
Other cubes are worked on whole spectra; the pixels of them that are counts still come to the same bits.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import Kernel, counts_first, on_pixels
from hsichunk.unmixing.solver import Solver, prepare
from hsichunk.unmixing.unmixing import fits, in_one_pass, label, takes


def products(
    cube: xr.DataArray,
    endmembers: xr.DataArray,
    spectra: Floats,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    kernel: Kernel,
    constraint: str = schema.FCLS,
) -> xr.Dataset:
    """The products `wanted` of a checked cube and the endmembers, `spectra` (p, L) in its order; lazy on dask.

    `kernel` makes them of pixels that are no counts: (n, L) to (n, columns), p columns for a product per endmember and
    one for any other, in the order of `wanted`.
    """
    if takes(cube, spectra):
        return in_one_pass(cube, endmembers, wanted, constraint)
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    if scale is not None and fits(spectra, float(scale)):
        solver = prepare(spectra, names, wanted, float(scale), exact=True, constraint=constraint)
        exactly = partial(_of_counts, solver=solver, wanted=wanted)
        kernel = partial(counts_first, scale=solver.scale, exactly=exactly, kernel=kernel)
    widths = [len(names) if name in schema.PER_ENDMEMBER else 1 for name in wanted]
    found = on_pixels(cube, kernel, sum(widths))
    starts = np.cumsum([0, *widths])
    arrays = {
        name: found[start : start + width] if name in schema.PER_ENDMEMBER else found[start]
        for name, start, width in zip(wanted, starts, widths, strict=False)
    }
    return label(arrays, cube, names)


def _of_counts(rows: NDArray[np.int16], solver: Solver, wanted: tuple[str, ...]) -> Floats:
    """Counts (n, L) to their products (n, columns), by exact sums."""
    from hsichunk.unmixing.count_sums import add_spectra
    from hsichunk.unmixing.scoring import score_sums

    n = len(rows)
    total, valid = np.zeros((solver.layout.rows, n)), np.ones(n, np.bool_)
    add_spectra(solver, rows, [(0, solver.bands, 0)], None, slice(0, n), total, valid)
    made = score_sums(solver, total, valid)[0]
    return np.concatenate([made[name].reshape(-1, n) for name in wanted]).T.astype(np.float64)
