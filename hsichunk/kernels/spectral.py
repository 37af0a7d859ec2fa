"""Compiled loops along the wavelength of spectra: continuum removal and weighted windows of bands."""

from __future__ import annotations

from typing import Any

import numpy as np

from hsichunk.kernels.compiled import compiled

kernel = compiled(error_model="numpy")


@kernel
def remove_continuum(x: Any, wavelength: Any, out: Any) -> None:
    """Spectra (n, L) over their upper hulls, by one monotone chain each."""
    n, bands = x.shape
    hull = np.empty(bands, np.int64)
    for i in range(n):
        m = 0
        for b in range(bands):
            while m > 1:
                first, second = hull[m - 2], hull[m - 1]
                run = (wavelength[second] - wavelength[first]) * (x[i, b] - x[i, first])
                rise = (x[i, second] - x[i, first]) * (wavelength[b] - wavelength[first])
                if rise > run:
                    break
                m -= 1  # on or below the line: no corner
            hull[m] = b
            m += 1
        for k in range(max(m - 1, 1)):
            left, right = hull[k], hull[min(k + 1, m - 1)]
            length = wavelength[right] - wavelength[left]
            for b in range(left, right + 1):
                share = (wavelength[b] - wavelength[left]) / length if length > 0.0 else 0.0
                # the ends exactly, for a quotient of exactly 1
                over = x[i, left] if b == left else x[i, left] + share * (x[i, right] - x[i, left])
                over = x[i, right] if b == right else over
                out[i, b] = x[i, b] / over if over > 0.0 else 1.0


@kernel
def weigh_bands(x: Any, start: Any, weights: Any, out: Any) -> None:
    for i in range(x.shape[0]):
        for b in range(x.shape[1]):
            total = 0.0
            for k in range(weights.shape[1]):
                total += weights[b, k] * x[i, start[b] + k]
            out[i, b] = total
