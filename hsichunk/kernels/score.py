"""The exact sums of a pixel to its products: rmse, spectral angle and spectral information divergence.

Rows of `sums` (3p + 3, n), without SID the first p + 1 of them:
0: sum x^2 | 1..p: sum x e | p+1: sum x | p+2..2p+1: sum x ln q | 2p+2..3p+1: sum q ln x | 3p+2: sum x ln x

Only +, -, *, / and sqrt, which IEEE 754 rounds alike everywhere: the arccosine is a series of our own, because those of
mathematical libraries differ in the last bit from one processor to the next.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# asin(s) = s * sum of SERIES[n] * s**(2n); 24 terms reach 1e-17 for |s| <= 1/2
SERIES = np.array([math.comb(2 * n, n) / (4.0**n * (2 * n + 1)) for n in range(24)])
HALF_PI = math.pi / 2

strict = njit(nogil=True, cache=True)


@strict  # type: ignore[misc]
def _asin(s: float) -> float:
    """arcsin for |s| <= 1/2."""
    t = s * s
    total = SERIES[23]
    for n in range(22, -1, -1):
        total = total * t + SERIES[n]
    return s * total


@strict  # type: ignore[misc]
def arccos(c: float) -> float:
    """arccos to 1e-15, the argument clipped to [-1, 1]."""
    if c >= 0.5:
        return 2.0 * _asin(math.sqrt(max(0.5 - 0.5 * c, 0.0)))
    if c <= -0.5:
        return 2.0 * (HALF_PI - _asin(math.sqrt(max(0.5 + 0.5 * c, 0.0))))
    return HALF_PI - _asin(c)


@strict  # type: ignore[misc]
def linear_terms(sums: Any, shift: Any, linear: Any) -> None:
    """Row i of `linear` (p, n) becomes (e_i - m) . (x - m), m the mean endmember, from the sums.

    `shift` (p,) holds (e_i - m) . m. Differences of sums come first: they are exact, and they stay small where
    endmembers are nearly alike.
    """
    p, n = linear.shape
    for j in range(n):
        mean = 0.0
        for i in range(p):
            mean += sums[1 + i, j] - sums[1, j]
        mean /= p
        for i in range(p):
            linear[i, j] = (sums[1 + i, j] - sums[1, j]) - mean - shift[i]


@strict  # type: ignore[misc]
def residual(
    sums: Any, linear: Any, abundance: Any, gram: Any, mean_square: float, bands: int, scale: float, valid: Any, rmse: Any
) -> None:
    """`rmse` (n,) float32 in reflectance: |x - E'a| / sqrt(L) / scale, all of it in spectra shifted by the mean endmember."""
    p, n = abundance.shape
    for j in range(n):
        if not valid[j]:
            rmse[j] = np.nan
            continue
        along = 0.0
        for i in range(p):
            along += sums[1 + i, j]
        square = sums[0, j] - 2.0 * (along / p) + mean_square
        for i in range(p):
            row = 0.0
            for m in range(p):
                row += gram[i, m] * abundance[m, j]
            square += abundance[i, j] * (row - 2.0 * linear[i, j])
        rmse[j] = math.sqrt(max(square, 0.0) / bands) / scale


@strict  # type: ignore[misc]
def angles(sums: Any, norms: Any, valid: Any, sam: Any) -> None:
    """`sam` (p, n) float32: arccos(x.e / |x||e|). A pixel of nothing but zeros is at a right angle to everything."""
    p, n = sam.shape
    for j in range(n):
        length = math.sqrt(sums[0, j])
        for i in range(p):
            if not valid[j]:
                sam[i, j] = np.nan
            elif length == 0.0 or norms[i] == 0.0:
                sam[i, j] = HALF_PI
            else:
                sam[i, j] = arccos(sums[1 + i, j] / (length * norms[i]))


@strict  # type: ignore[misc]
def divergences(sums: Any, q_ln_q: Any, valid: Any, sid: Any) -> None:
    """`sid` (p, n) float32: sum of (x/S - q) (ln(x/S) - ln q). ln S drops out because q sums to one exactly."""
    p, n = sid.shape
    for j in range(n):
        total = sums[p + 1, j]
        for i in range(p):
            if not valid[j]:
                sid[i, j] = np.nan
            else:
                value = (sums[3 * p + 2, j] - sums[p + 2 + i, j]) / total - sums[2 * p + 2 + i, j] + q_ln_q[i]
                sid[i, j] = max(value, 0.0)
