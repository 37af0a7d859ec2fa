"""Compute the products of pixels from their sums: rmse, spectral angle, divergence, correlation, distance.

There are k endmembers and n pixels. Row 0 of `sums` (rows, n) float64 is sum x^2, rows 1..k are sum x e. The other
rows, which not every score needs, come as arrays of their own; `hsichunk.unmixing.sum_layout` says where they lie.
`valid` (n,) are the pixels with data: rmse and scores of the others are NaN.

The kernels use only +, -, *, / and sqrt, which IEEE 754 rounds alike everywhere. The arccosine is a series computed
here, because those of mathematical libraries differ in the last bit from one processor to the next. Inner loops run
over pixels, several side by side; the products of a pixel depend on nothing but its own sums.
"""

from __future__ import annotations

import math

import numpy as np

from hsichunk.array_types import Bools, Float32s, Floats, Ints
from hsichunk.kernels.compiled import compiled

# asin(s) = s * sum of SERIES[n] * s**(2n); 24 terms reach 1e-17 for |s| <= 1/2
TERMS = 24
SERIES = tuple(math.comb(2 * n, n) / (4.0**n * (2 * n + 1)) for n in range(TERMS))
HALF_PI = math.pi / 2

strict = compiled(error_model="numpy")  # a test for division by zero would stop vectorisation


@strict
def arccos(c: float) -> float:
    """Return arccos(c) to 1e-15, c clipped to [-1, 1]. Without branches: processors that can compute eight at once."""
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
def linear_terms(sums: Floats, shift: Floats, linear: Floats) -> None:
    """Row i of `linear` (k, n) becomes (e_i - m) . (x - m), m the mean endmember, from the sums.

    `shift` (k,) holds (e_i - m) . m. Differences of sums are taken first: they are exact, and they stay small where
    endmembers are nearly alike.
    """
    k, n = linear.shape
    mean = np.zeros(n)
    for i in range(k):
        for j in range(n):
            linear[i, j] = sums[1 + i, j] - sums[1, j]
            mean[j] += linear[i, j]
    for i in range(k):
        for j in range(n):
            linear[i, j] = (linear[i, j] - mean[j] / k) - shift[i]


@strict
def residual(
    sums: Floats,
    linear: Floats,
    abundance: Floats,
    gram: Floats,
    mean_square: float,
    bands: int,
    scale: float,
    valid: Bools,
    rmse: Float32s,
) -> None:
    """`rmse` (n,) float32 in reflectance: |x - E'a| / sqrt(L) / scale, of spectra less the mean endmember m.

    `linear` (k, n) is from `linear_terms`, `gram` (k, k) of the endmembers less m; `mean_square` is m . m.
    """
    k, n = abundance.shape
    along, square, row = np.zeros(n), np.zeros(n), np.empty(n)
    for i in range(k):
        for j in range(n):
            along[j] += sums[1 + i, j]
    for j in range(n):
        square[j] = sums[0, j] - 2.0 * (along[j] / k) + mean_square
    for i in range(k):
        for j in range(n):
            row[j] = -2.0 * linear[i, j]
        for m in range(k):
            for j in range(n):
                row[j] += gram[i, m] * abundance[m, j]
        for j in range(n):
            square[j] += abundance[i, j] * row[j]
    for j in range(n):
        rmse[j] = math.sqrt(max(square[j], 0.0) / bands) / scale if valid[j] else np.nan


@strict
def angles(sums: Floats, squares: Floats, valid: Bools, sam: Float32s) -> None:
    """`sam` (k, n) float32 in radians: arccos(x.e / |x||e|). A pixel of zeros alone is at a right angle to everything.

    `squares` (k,) holds e.e. |x||e| is one root of the product of squares, not the product of two roots: the angle is
    exactly 0 where x is a whole multiple of e.
    """
    k, n = sam.shape
    for i in range(k):
        for j in range(n):
            length = math.sqrt(sums[0, j] * squares[i])
            cosine = sums[1 + i, j] / length
            angle = arccos(cosine if length > 0.0 else 0.0)
            sam[i, j] = angle if valid[j] else np.nan


@strict
def divergences(floored: Floats, q_ln_q: Floats, valid: Bools, sid: Float32s) -> None:
    """`sid` (k, n) float32: sum of (x/S - q) (ln(x/S) - ln q), S = sum x. ln S drops out: q sums to one exactly.

    `floored` (2k + 2, n) are sums of x raised to the floor: sum x, then k rows sum x ln q, k rows sum q ln x, and
    sum x ln x. `q_ln_q` (k,) holds sum q ln q.
    """
    k, n = sid.shape
    for i in range(k):
        for j in range(n):
            value = (floored[2 * k + 1, j] - floored[1 + i, j]) / floored[0, j] - floored[k + 1 + i, j] + q_ln_q[i]
            sid[i, j] = max(value, 0.0) if valid[j] else np.nan


@strict
def divergences_by_tangent(sums: Floats, squares: Floats, sid: Float32s, valid: Bools, out: Float32s) -> None:
    """`out` (k, n) float32: `sid` (k, n) times the tangent of the spectral angle, infinite from a right angle on.

    `squares` (k,) holds e.e.
    """
    k, n = out.shape
    for i in range(k):
        for j in range(n):
            along = sums[1 + i, j]
            square = sums[0, j] * squares[i]
            sine = math.sqrt(max(square - along * along, 0.0))
            # an angle that float32 rounds to a right angle is one: SAM as it is stored has no tangent there either
            acute = along > 0.0 and np.float32(arccos(along / math.sqrt(square))) < HALF_PI
            value = sid[i, j] * (sine / along) if acute else np.inf
            out[i, j] = value if valid[j] else np.nan


@strict
def _correlation(
    square: float, along: float, total: float, bands: int, coarse: float, rest: float, size: float
) -> float:
    """Return Pearson's r from sum x^2, sum x e, sum x, the mean of e in two parts, and the length of e less it."""
    along = (along - total * coarse) - total * rest
    length = math.sqrt(max(bands * square - total * total, 0.0) / bands) * size
    value = along / length if length > 0.0 else 0.0
    return min(max(value, -1.0), 1.0)


@strict
def correlations(
    sums: Floats, plain: Floats, centres: Floats, bands: int, valid: Bools, opposite: bool, ncc: Float32s
) -> None:
    """`ncc` (k, n) float32: Pearson's correlation r over bands; 0 where x or e is the same in every band.

    With `opposite` it is 1 - r, subtracted before the value is rounded to float32.

    `plain` (1, n) is sum x. `centres` (3, k) holds the mean of e in two parts, of which the first times sum x is exact,
    and the length of e less its mean. L sum x^2 and (sum x)^2 are whole and below 2**53: so is their difference.
    """
    k, n = ncc.shape
    for i in range(k):
        coarse, rest, size = centres[0, i], centres[1, i], centres[2, i]
        for j in range(n):
            value = _correlation(sums[0, j], sums[1 + i, j], plain[0, j], bands, coarse, rest, size)
            score = 1.0 - value if opposite else value
            ncc[i, j] = score if valid[j] else np.nan


@strict
def correlation_angles(
    sums: Floats, plain: Floats, centres: Floats, squares: Floats, bands: int, valid: Bools, sca: Float32s
) -> None:
    """`sca` (k, n) float32 in radians: arccos((r + 1) / 2), r Pearson's correlation over bands as in `correlations`.

    The angle is from 0 to pi / 2, and pi / 3 where x or e is the same in every band, since r is 0 there. Near 0 it is
    the root of the rounding error of 1 - r; therefore r is set to 1 where x is a multiple of e, which SAM tells to the
    bit (see `angles`).
    Source: De Carvalho & Meneses 2000.
    """
    k, n = sca.shape
    for i in range(k):
        coarse, rest, size = centres[0, i], centres[1, i], centres[2, i]
        for j in range(n):
            r = _correlation(sums[0, j], sums[1 + i, j], plain[0, j], bands, coarse, rest, size)
            multiple = sums[1 + i, j] >= math.sqrt(sums[0, j] * squares[i])
            angle = arccos(1.0 if multiple and r > 0.0 else 0.5 * (r + 1.0))
            sca[i, j] = angle if valid[j] else np.nan


@strict
def largest_differences(furthest: Floats, scale: float, valid: Bools, out: Float32s) -> None:
    """`out` (k, n) float32: the largest difference in any band, in reflectance; `furthest` (k, n) has it in counts."""
    k, n = out.shape
    for i in range(k):
        for j in range(n):
            out[i, j] = furthest[i, j] / scale if valid[j] else np.nan


@compiled()
def add_abundances(abundance: Float32s, kkt: Float32s, valid: Bools, unit: float, sums: Ints) -> float:
    """Add the abundances (k, n) float32 of valid pixels to `sums` (k,) int64, in whole units: exact in any order.

    `unit` is the number of units in an abundance of 1. Returns the largest violation `kkt` (n,) of valid pixels.
    """
    k, n = abundance.shape
    for i in range(k):
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
