"""Weighted sums of bands, of every pixel of a cube: linear detectors and transforms.

Stored counts go from chunks to sums by `hsichunk.cube.projection`: each chunk is decoded once, whichever way it lies,
and no spectra are put together. Weights are rounded to 2**-38 of their sum so that sums of counts are exact.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import counts_first, on_pixels
from hsichunk.kernels import float_sums
from hsichunk.unmixing.dask_graph import from_chunks, rectangle
from hsichunk.unmixing.linear_sums import Linear

MOST_SUMS = 24  # a pixel: of more, the sums of a large column take more memory than the blocks of spectra would
SUM_BITS = 38  # of 53: counts have 15


def weighted(cube: xr.DataArray, weights: Floats, mean: Floats) -> Any:
    """weights (k, L) times the spectra of a cube (y, x, wavelength) less a mean (L,): (k, y, x) float32, lazy on dask.

    NaN where any band of a pixel is. Pixels of counts give the same bits on any chunks, in memory or not.
    """
    kernel = partial(_of_floats, weights=np.ascontiguousarray(weights), mean=mean)
    if not np.isfinite(weights).all():
        return on_pixels(cube, kernel, len(weights))
    source = rectangle(cube)
    if source is not None and source[0].stored.dtype == np.int16 and len(weights) <= MOST_SUMS:
        return from_chunks(*source, _rounded(weights, mean, source[0].scale))[schema.WEIGHTED]
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    if scale is not None:
        exactly = partial(_of_counts, linear=_rounded(weights, mean, float(scale)))
        kernel = partial(counts_first, scale=float(scale), exactly=exactly, kernel=kernel)
    return on_pixels(cube, kernel, len(weights))


def _rounded(weights: Floats, mean: Floats, scale: float) -> Linear:
    """For counts of `scale` a unit of reflectance."""
    of_counts = weights / scale
    total = np.abs(of_counts).sum(1, keepdims=True) * (1 + 2.0**-20)  # what the rounding may add
    unit = np.exp2(np.frexp(np.where(total > 0, total, 1.0))[1] - SUM_BITS)
    steps = np.rint(of_counts / unit) * unit
    shift = np.array([math.fsum(row) for row in (steps * (mean * scale)).tolist()])  # one rounding, in any order
    return Linear(np.ascontiguousarray(steps.T), shift)


def _of_counts(rows: NDArray[np.int16], linear: Linear) -> Floats:
    """Counts (n, L) to their sums (n, k), exactly."""
    from hsichunk.cube.projection import project_spectra

    n = len(rows)
    total, valid = np.zeros((linear.k, n)), np.ones(n, np.bool_)
    across = np.ascontiguousarray(linear.weights.T)
    project_spectra(across, rows, [(0, rows.shape[1], 0)], None, slice(0, n), total, valid)
    return np.asarray(total.T - linear.shift)


def _of_floats(x: Floats, weights: Floats, mean: Floats) -> Floats:
    out = np.zeros((len(weights), len(x)))
    float_sums.add_products(weights, np.ascontiguousarray((x - mean).T), out)
    return out.T
