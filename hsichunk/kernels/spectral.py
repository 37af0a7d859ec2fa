"""Compiled loops along the wavelength of spectra: continuum removal and weighted windows of bands."""

from __future__ import annotations

import numpy as np

from hsichunk.array_types import Floats, Ints
from hsichunk.kernels.compiled import compiled

kernel = compiled(error_model="numpy")


@kernel
def remove_continuum(x: Floats, wavelength: Floats, out: Floats) -> None:
    """`out` (n, L) = spectra x (n, L) over their continuum, the upper convex hull over `wavelength` (L,), ascending.

    The hull is built by one monotone chain a spectrum. Where it is not above zero, `out` is 1.
    """
    n, bands = x.shape
    hull = np.empty(bands, np.int64)
    for i in range(n):
        m = 0
        for b in range(bands):
            while m > 1:
                first, second = hull[m - 2], hull[m - 1]
                # slopes from the first corner to band b and to the second corner, over the same denominator
                to_band = (wavelength[second] - wavelength[first]) * (x[i, b] - x[i, first])
                to_second = (x[i, second] - x[i, first]) * (wavelength[b] - wavelength[first])
                if to_second > to_band:
                    break
                m -= 1  # the second corner is on or below the line to band b: it is none
            hull[m] = b
            m += 1
        for corner in range(max(m - 1, 1)):
            left, right = hull[corner], hull[min(corner + 1, m - 1)]
            length = wavelength[right] - wavelength[left]
            for b in range(left, right + 1):
                share = (wavelength[b] - wavelength[left]) / length if length > 0.0 else 0.0
                # corners take their own value, so that the quotient there is exactly 1
                continuum = x[i, left] if b == left else x[i, left] + share * (x[i, right] - x[i, left])
                continuum = x[i, right] if b == right else continuum
                out[i, b] = x[i, b] / continuum if continuum > 0.0 else 1.0


@kernel
def weigh_bands(x: Floats, start: Ints, weights: Floats, out: Floats) -> None:
    """`out` (n, L): each band of x (n, L) as a weighted sum of a window of bands.

    Band b of `out` is the sum of weights[b] (L, window) times the bands of x from start[b] (L,) on.
    """
    for i in range(x.shape[0]):
        for b in range(x.shape[1]):
            total = 0.0
            for j in range(weights.shape[1]):
                total += weights[b, j] * x[i, start[b] + j]
            out[i, b] = total
