"""A sample of the pixels of a cube, by seed and place on the ground."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.cube.cleaning import source_of
from hsichunk.cube.dask_pixels import from_dask
from hsichunk.cube.sampling import Sample, choose, places
from hsichunk.kernels import float_sums
from hsichunk.threads import asked_for

SAMPLE = 20_000
SHARE = 0.125


def draw(cube: xr.DataArray, size: int | None, share: float, seed: int) -> Sample:
    """About `size` pixels of a cube (None: all), from a `share` of its cells; those with no-data are left out."""
    y, x = cube[schema.Y], cube[schema.X]
    # plain arrays have row numbers, which grow downwards
    northing = y.attrs.get("standard_name") == schema.Y_ATTRS["standard_name"]
    down, across = places(y.values, descending=northing), places(x.values, descending=False)
    rows, cols = choose(down, across, size, share, seed)
    spectra, scale, valid = _spectra(cube, rows, cols)
    return Sample(
        spectra[valid],
        scale,
        y.values[rows[valid]].astype(np.float64),
        x.values[cols[valid]].astype(np.float64),
        len(rows),
    )


def _spectra(
    cube: xr.DataArray, rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> tuple[NDArray[Any], float, NDArray[np.bool_]]:
    """Spectra of some pixels (m, L), counts per unit of them, and which hold data in every band."""
    source = source_of(cube)
    if source is not None:
        counts, y, x = source
        values = counts.gather(y[rows], x[cols], asked_for())
        return values, counts.scale, ~(values == counts.no_data).any(1)
    data = cube.transpose(schema.Y, schema.X, schema.WAVELENGTH).data
    values = from_dask(data, rows, cols) if hasattr(data, "dask") else np.asarray(data)[rows, cols]
    valid = np.isfinite(values).all(1)
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    if scale is not None:
        counts_of, counted = np.empty(values.shape, np.int16), np.ones(len(values), np.bool_)
        float_sums.recover_counts(float_sums.as_floats(values), float(scale), counts_of, valid.copy(), counted)
        if counted[valid].all():
            return counts_of, float(scale), valid
    return values, 1.0, valid
