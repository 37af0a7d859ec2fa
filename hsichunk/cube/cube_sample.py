"""Draw a sample of the pixels of a cube, by seed and place on the ground."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bools, Ints, LazyOrNumpy, Numbers, Positions, is_lazy
from hsichunk.cube.cleaning import source_of
from hsichunk.cube.dask_pixels import from_dask
from hsichunk.cube.sampling import Sample, choose, places
from hsichunk.kernels import float_sums
from hsichunk.threads import asked_for

SAMPLE = 20_000  # pixels that are drawn by default
SHARE = 0.125  # of the cells that they are drawn from, at least


def draw(cube: xr.DataArray, size: int | None, share: float, seed: int) -> Sample:
    """Return about `size` pixels of a cube (None: all), from a `share` of its cells, without those with no-data."""
    down, across = places_of(cube)
    rows, cols = choose(down, across, size, share, seed)
    spectra, scale, valid = _spectra(cube, rows, cols)
    return Sample(
        spectra[valid],
        scale,
        cube[schema.Y].values[rows[valid]].astype(np.float64),
        cube[schema.X].values[cols[valid]].astype(np.float64),
        len(rows),
    )


def places_of(cube: xr.DataArray) -> tuple[Ints, Ints]:
    """Return the places of the rows and of the columns of a cube on the global grid."""
    # a cube that lies nowhere has row numbers, which grow downwards as places do
    northing = cube[schema.Y].attrs.get("standard_name") == schema.Y_ATTRS["standard_name"]
    return places(cube[schema.Y].values, descending=northing), places(cube[schema.X].values, descending=False)


def _spectra(cube: xr.DataArray, rows: Positions, cols: Positions) -> tuple[Numbers, float, Bools]:
    """Return spectra (m, L) of some pixels, their counts per unit reflectance, and which hold data in every band.

    Reflectance comes back as the counts that it was made of where the cube says their scale and all valid pixels are
    such counts; else as it is, with scale 1.
    """
    source = source_of(cube)
    if source is not None:
        counts, y, x = source
        values = counts.gather(y[rows], x[cols], asked_for())
        return values, counts.scale, ~(values == counts.no_data).any(1)
    data: LazyOrNumpy = cube.transpose(schema.Y, schema.X, schema.WAVELENGTH).data
    values = from_dask(data, rows, cols) if is_lazy(data) else np.asarray(data)[rows, cols]
    valid = np.all(np.isfinite(values), axis=1)
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    if scale is not None:
        recovered, counted = np.empty(values.shape, np.int16), np.ones(len(values), np.bool_)
        float_sums.recover_counts(float_sums.as_floats(values), float(scale), recovered, valid.copy(), counted)
        if counted[valid].all():
            return recovered, float(scale), valid
    return values, 1.0, valid
