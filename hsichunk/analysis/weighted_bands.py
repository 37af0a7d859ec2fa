"""Weighted sums of the bands of every pixel, for linear detectors and transforms.

Sums of stored counts are computed chunk by chunk in `hsichunk.cube.projection`: each chunk is decoded once, whatever
its shape, and no whole spectra are assembled. Weights are rounded to 2**-38 of their sum, so that sums of counts are
exact.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats, LazyOrNumpy
from hsichunk.cube.blockwise import counts_first, on_pixels
from hsichunk.kernels import float_sums
from hsichunk.unmixing.dask_graph import from_chunks, rectangle
from hsichunk.unmixing.linear_sums import Linear

MOST_SUMS = 24  # of a pixel; the sums of more, in a large column of chunks, take more memory than blocks of spectra
SUM_BITS = 38  # of the 53 of a float64; counts have 15


def weighted(cube: xr.DataArray, weights: Floats, mean: Floats) -> LazyOrNumpy:
    """Return weights (k, L) times the spectra of a cube (y, x, wavelength) less a mean (L,): (k, y, x) float32.

    The result is a dask array for a dask cube, and NaN where any band of a pixel is NaN. Pixels of counts give the same
    bits on any chunks, in memory or not.
    """
    kernel = partial(_of_floats, weights=np.ascontiguousarray(weights), mean=mean)
    sums: LazyOrNumpy
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    if np.isfinite(weights).all():
        source = rectangle(cube)
        if source is not None and source[0].stored.dtype == np.int16 and len(weights) <= MOST_SUMS:
            sums = from_chunks(*source, _rounded(weights, mean, source[0].scale))[schema.WEIGHTED]
            return sums
        if scale is not None:
            exactly = partial(_of_counts, linear=_rounded(weights, mean, float(scale)))
            kernel = partial(counts_first, scale=float(scale), exactly=exactly, kernel=kernel)
    sums = on_pixels(cube, kernel, len(weights))
    return sums


def _rounded(weights: Floats, mean: Floats, scale: float) -> Linear:
    """Return the weights (k, L) and the mean (L,) of reflectance for counts of `scale` a unit, weights rounded."""
    for_counts = weights / scale
    total = np.abs(for_counts).sum(1, keepdims=True) * (1 + 2.0**-20)  # room for what the rounding may add
    unit = np.exp2(np.frexp(np.where(total > 0, total, 1.0))[1] - SUM_BITS)
    rounded = np.rint(for_counts / unit) * unit
    # fsum rounds once, so that the order of bands does not matter
    shift = np.array([math.fsum(row) for row in (rounded * (mean * scale)).tolist()])
    return Linear(np.ascontiguousarray(rounded.T), shift)


def _of_counts(rows: NDArray[np.int16], linear: Linear) -> Floats:
    """Return the exact weighted sums (n, k) of counts (n, L), less the shift."""
    from hsichunk.cube.projection import project_spectra

    n = len(rows)
    total, valid = np.zeros((len(linear.shift), n)), np.ones(n, np.bool_)
    across = np.ascontiguousarray(linear.weights.T)
    project_spectra(across, rows, [(0, rows.shape[1], 0)], None, slice(0, n), total, valid)
    return np.asarray(total.T - linear.shift)


def _of_floats(x: Floats, weights: Floats, mean: Floats) -> Floats:
    """Return the weighted sums (n, k) of spectra x (n, L) less the mean."""
    out = np.zeros((len(weights), len(x)))
    float_sums.add_products(weights, np.ascontiguousarray((x - mean).T), out)
    return out.T
