"""Compute the mean and covariance of a cube, and the matrix that whitens it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from hsichunk.array_types import Floats
from hsichunk.cube.checks import check_cube
from hsichunk.cube.second_moments import stream
from hsichunk.cube.spectra_reader import SpectraReader
from hsichunk.errors import HsiError

SINGULAR = 1e-13  # smallest over largest eigenvalue of the band correlations from which no inverse is taken


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance, in reflectance, of the pixels of a cube that hold data in every band."""

    pixels: int
    """how many these are"""
    mean: Floats
    """(L,)"""
    covariance: Floats
    """(L, L), over pixels - 1"""

    @property
    def correlation(self) -> Floats:
        """The mean of x x' (L, L), without subtracting the mean (R of Chang)."""
        return self.covariance * ((self.pixels - 1) / self.pixels) + np.outer(self.mean, self.mean)


def statistics(cube: xr.DataArray) -> Statistics:
    """Return mean and covariance, float64, of a cube (y, x, wavelength). Computes: reads the cube once, strip by strip.

    The bits are the same on any chunks; those of counts are exact (see `hsichunk.cube.second_moments`). Pixels with
    no-data in any band are left out. Raises HsiError for fewer than two pixels.
    """
    with SpectraReader(check_cube(cube)) as spectra:
        moments = stream(spectra)
    unbiased = moments.covariance * (moments.n / (moments.n - 1))
    return Statistics(moments.n, moments.mean / moments.scale, unbiased / moments.scale**2)


def whitener(matrix: Floats, ridge: float, bands: Floats) -> Floats:
    """Return W (L, L) such that W'W is the inverse of covariance `matrix` + ridge * (mean variance) * I.

    `bands` (L,) are wavelengths in nm, for messages. Raises HsiError where that matrix has no inverse in float64.
    """
    if not ridge >= 0:
        raise HsiError(f"ridge is {ridge}; expected 0 or a small share of the mean variance, as 1e-6")
    matrix = matrix + ridge * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
    scale = np.sqrt(np.diag(matrix))
    if not (scale > 0).all():
        flat = bands[int((scale > 0).argmin())]
        raise HsiError(f"band {flat:g} nm is the same in every pixel; drop it, or give ridge=1e-6")
    scaled = matrix / np.outer(scale, scale)
    values = np.linalg.eigvalsh(scaled)
    if values[0] <= SINGULAR * values[-1]:
        raise HsiError(
            f"the covariance of {len(matrix)} bands has no inverse (too few pixels, or bands that follow from others); "
            "give ridge=1e-6, fewer bands or more pixels"
        )
    lower = np.linalg.inv(np.linalg.cholesky(scaled))
    return np.ascontiguousarray(np.tril(lower) / scale)
