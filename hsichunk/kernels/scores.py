"""Make the products of pixels from their sums: rmse, spectral angle, information divergence, correlation, distance.

Row 0 of `sums` (rows, n) is sum x^2, rows 1..p are sum x e. The other rows, which not every score needs, come as arrays
of their own; `hsichunk.unmixing.sum_layout` says where they lie.

Only +, -, *, / and sqrt, which IEEE 754 rounds alike everywhere: the arccosine is a series of our own, because those of
mathematical libraries differ in the last bit from one processor to the next. Inner loops run over pixels, several side
by side; what a pixel comes to depends on nothing but its own sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hsichunk.kernels.compiled import compiled

# asin(s) = s * sum of SERIES[n] * s**(2n); 24 terms reach 1e-17 for |s| <= 1/2
TERMS = 24
SERIES = tuple(math.comb(2 * n, n) / (4.0**n * (2 * n + 1)) for n in range(TERMS))
HALF_PI = math.pi / 2

strict = compiled(error_model="numpy")  # a test for division by zero would stop vectorisation


@strict
def arccos(c: float) -> float:
    """arccos to 1e-15, the argument clipped to [-1, 1]. No branches: eight at once where the processor can."""
    size = abs(c)
    far = size > 0.5
    # (1 - |c|) / 2 is exact there: arccos(|c|) = 2 arcsin(sqrt((1 - |c|) / 2)) loses nothing near 1
    half = 0.5 - 0.5 * size
    half = half if half > 0.0 else 0.0
    square = half if far else c * c
    total = 0.0
    for n in range(TERMS):
        total = total * square + SERIES[TERMS - 1 - n]
    arc = math.sqrt(square) * total
    arc = 2.0 * arc if far else HALF_PI - arc
    return arc if c >= 0.0 else 2.0 * HALF_PI - arc


@strict
def linear_terms(sums: Any, shift: Any, linear: Any) -> None:
    """Row i of `linear` (p, n) becomes (e_i - m) . (x - m), m the mean endmember, from the sums.

    `shift` (p,) holds (e_i - m) . m. Differences of sums come first: they are exact, and they stay small where
    endmembers are nearly alike.
    """
    p, n = linear.shape
    mean = np.zeros(n)
    for i in range(p):
        for j in range(n):
            linear[i, j] = sums[1 + i, j] - sums[1, j]
            mean[j] += linear[i, j]
    for i in range(p):
        for j in range(n):
            linear[i, j] = (linear[i, j] - mean[j] / p) - shift[i]


@strict
def residual(
    sums: Any,
    linear: Any,
    abundance: Any,
    gram: Any,
    mean_square: float,
    bands: int,
    scale: float,
    valid: Any,
    rmse: Any,
) -> None:
    """`rmse` (n,) float32 in reflectance: |x - E'a| / sqrt(L) / scale, of spectra less the mean endmember."""
    p, n = abundance.shape
    along, square, row = np.zeros(n), np.zeros(n), np.empty(n)
    for i in range(p):
        for j in range(n):
            along[j] += sums[1 + i, j]
    for j in range(n):
        square[j] = sums[0, j] - 2.0 * (along[j] / p) + mean_square
    for i in range(p):
        for j in range(n):
            row[j] = -2.0 * linear[i, j]
        for m in range(p):
            for j in range(n):
                row[j] += gram[i, m] * abundance[m, j]
        for j in range(n):
            square[j] += abundance[i, j] * row[j]
    for j in range(n):
        rmse[j] = math.sqrt(max(square[j], 0.0) / bands) / scale if valid[j] else np.nan


@strict
def angles(sums: Any, squares: Any, valid: Any, sam: Any) -> None:
    """`sam` (p, n) float32: arccos(x.e / |x||e|). A pixel of nothing but zeros is at a right angle to everything.

    `squares` (p,) holds e.e. One root of the product of squares, not the product of two roots: 0 exactly where x is a
    whole multiple of e.
    """
    p, n = sam.shape
    for i in range(p):
        for j in range(n):
            length = math.sqrt(sums[0, j] * squares[i])
            cosine = sums[1 + i, j] / length
            angle = arccos(cosine if length > 0.0 else 0.0)
            sam[i, j] = angle if valid[j] else np.nan


@strict
def divergences(floored: Any, q_ln_q: Any, valid: Any, sid: Any) -> None:
    """`sid` (p, n) float32: sum of (x/S - q) (ln(x/S) - ln q). ln S drops out because q sums to one exactly.

    `floored` (2p + 2, n) are sums of x raised to the floor. 0: sum x | 1..p: sum x ln q | then p of q ln x | sum x ln x
    """
    p, n = sid.shape
    for i in range(p):
        for j in range(n):
            value = (floored[2 * p + 1, j] - floored[1 + i, j]) / floored[0, j] - floored[p + 1 + i, j] + q_ln_q[i]
            sid[i, j] = max(value, 0.0) if valid[j] else np.nan


@strict
def mixed(sums: Any, squares: Any, sid: Any, valid: Any, out: Any) -> None:
    """`out` (p, n) float32: `sid` (p, n) times the tangent of the spectral angle, infinite from a right angle on."""
    p, n = out.shape
    for i in range(p):
        for j in range(n):
            along = sums[1 + i, j]
            square = sums[0, j] * squares[i]
            sine = math.sqrt(max(square - along * along, 0.0))
            # what rounds to a right angle in float32 is one: then SAM, as it is stored, has no tangent either
            acute = along > 0.0 and np.float32(arccos(along / math.sqrt(square))) < HALF_PI
            value = sid[i, j] * (sine / along) if acute else np.inf
            out[i, j] = value if valid[j] else np.nan


@strict
def _correlation(
    square: float, along: float, total: float, bands: int, coarse: float, rest: float, size: float
) -> float:
    """Pearson's r from sum x^2, x e and x, the mean of e in two parts and the length of e less it."""
    along = (along - total * coarse) - total * rest
    length = math.sqrt(max(bands * square - total * total, 0.0) / bands) * size
    value = along / length if length > 0.0 else 0.0
    return min(max(value, -1.0), 1.0)


@strict
def correlations(sums: Any, plain: Any, centres: Any, bands: int, valid: Any, opposite: bool, ncc: Any) -> None:
    """`ncc` (p, n) float32: Pearson's correlation r over bands; 0 where x or e is the same in every band.

    With `opposite` 1 - r, before it is rounded to float32.

    `plain` (1, n) is sum x. `centres` (3, p) holds the mean of e in two parts, of which the first times sum x is exact,
    and the length of e less its mean. L sum x^2 and (sum x)^2 are whole and below 2**53: so is their difference.
    """
    p, n = ncc.shape
    for i in range(p):
        coarse, rest, size = centres[0, i], centres[1, i], centres[2, i]
        for j in range(n):
            value = _correlation(sums[0, j], sums[1 + i, j], plain[0, j], bands, coarse, rest, size)
            found = 1.0 - value if opposite else value
            ncc[i, j] = found if valid[j] else np.nan


@strict
def correlation_angles(sums: Any, plain: Any, centres: Any, squares: Any, bands: int, valid: Any, sca: Any) -> None:
    """`sca` (p, n) float32: arccos((r + 1) / 2), r Pearson's correlation over bands, as `correlations` has it.

    From 0 to pi / 2; pi / 3 where x or e is the same in every band, r being 0. Near 0 it is the root of what rounding
    leaves of 1 - r: where x is a multiple of e, which SAM tells to the bit (see `angles`), r is 1.
    Source: De Carvalho & Meneses 2000.
    """
    p, n = sca.shape
    for i in range(p):
        coarse, rest, size = centres[0, i], centres[1, i], centres[2, i]
        for j in range(n):
            r = _correlation(sums[0, j], sums[1 + i, j], plain[0, j], bands, coarse, rest, size)
            multiple = sums[1 + i, j] >= math.sqrt(sums[0, j] * squares[i])
            angle = arccos(1.0 if multiple and r > 0.0 else 0.5 * (r + 1.0))
            sca[i, j] = angle if valid[j] else np.nan


@strict
def differences(furthest: Any, scale: float, valid: Any, out: Any) -> None:
    """`out` (p, n) float32: the largest difference in any band, `furthest` (p, n) in counts, in reflectance."""
    p, n = out.shape
    for i in range(p):
        for j in range(n):
            out[i, j] = furthest[i, j] / scale if valid[j] else np.nan


@compiled()
def add_up(abundance: Any, kkt: Any, valid: Any, unit: float, sums: Any) -> float:
    """Adds the abundances (p, n) float32 of valid pixels to `sums` (p,) int64, in whole units: exact in any order.

    Returns the largest violation among them.
    """
    p, n = abundance.shape
    for i in range(p):
        total = np.int64(0)
        for j in range(n):
            if valid[j]:
                total += np.int64(np.rint(np.float64(abundance[i, j]) * unit))
        sums[i] += total
    worst = 0.0
    for j in range(n):
        if valid[j]:
            worst = max(worst, kkt[j])
    return worst
