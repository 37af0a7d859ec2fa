"""Counts to the operands of the per-pixel sums: x and ln x as float64, with the two sums that are no matrix product.

Every value made of counts is a multiple of a fixed power of two (see `hsichunk.solver`), so all sums over bands, here
and in the matrix products that follow, are exact in float64: the same in any order. That is what allows `reassoc`.
Floats that are no counts are added in the order of bands (`ordered`).

Shapes: n pixels of a slab that fits the second-level cache, L bands. Counts of spatial chunks are worked on pixel-major
(pixel, band), as they are stored; `hsichunk.kernels.bands` is for band chunks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

LOWEST, HIGHEST = -32768, 32767
LN_BITS = 22  # ln of a count is rounded to 2**-22
LN_UNIT = 2.0**-LN_BITS
LANES = 16  # counts copied at once

exact = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
ordered = njit(nogil=True, cache=True, error_model="numpy")


def log_table(floor: float) -> NDArray[np.int32]:
    """ln of every int16 count in units of 2**-22, counts below `floor` read as `floor`; count c at c + 32768.

    The rounding hides the last bits, in which mathematical libraries differ.
    """
    counts = np.maximum(np.arange(LOWEST, HIGHEST + 1, dtype=np.float64), floor)
    return np.rint(np.log(counts) / LN_UNIT).astype(np.int32)


@exact
def place(chunk: Any, first: int, count: int, to: int, rows: Any) -> None:
    """Copies bands first..first+count of an int16 chunk (n, bands) to columns to.. of `rows` (n, L + LANES).

    Copies LANES counts at a time, past the end of a run: calls with growing `to` overwrite what was too much, and the
    last run spills into the padding.
    """
    n, bands = chunk.shape
    source, target = chunk.reshape(n * bands), rows.reshape(rows.size)
    width = np.uint64(rows.shape[1])  # unsigned, or every index would be tested for a negative one
    vectors = np.uint64((count + LANES - 1) // LANES)
    safe = n
    while safe > 0 and (safe - 1) * bands + first + np.int64(vectors) * LANES > n * bands:
        safe -= 1
    for i in range(np.uint64(safe)):
        here, there = i * np.uint64(bands) + np.uint64(first), i * width + np.uint64(to)
        for v in range(vectors):
            for lane in range(np.uint64(LANES)):
                target[there + v * np.uint64(LANES) + lane] = source[here + v * np.uint64(LANES) + lane]
    for i in range(safe, n):
        for j in range(count):
            rows[i, to + j] = chunk[i, first + j]


@njit(nogil=True, cache=True)
def narrow(wide: Any, no_data: int, out: Any, valid: Any) -> bool:
    """Counts of another integer type (n, bands) as int16, no-data pixels marked in `valid` (n,) and set to 1.

    Returns False when a count does not fit int16.
    """
    for i in range(wide.shape[0]):
        for j in range(wide.shape[1]):
            c = np.int64(wide[i, j])
            if c == no_data:
                valid[i] = False
                c = np.int64(1)
            if c < LOWEST or c > HIGHEST:
                return False
            out[i, j] = c
    return True


def as_floats(values: NDArray[Any]) -> NDArray[Any]:
    """Values as floats that `recover` knows: not half or extended precision, nor another machine's byte order."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


@ordered
def recover(values: Any, scale: float, rows: Any, valid: Any, counted: Any) -> int:
    """Counts behind reflectance (n, L): fills `rows` (n, >= L) int16, clears `valid` (n,) where a value is NaN.

    Clears `counted` (n,) where some value is not a whole int16 count over the scale, or its float32; the counts of such
    a pixel mean nothing. Returns how many there are. Each pixel is judged by itself.
    """
    n, bands = values.shape
    others = 0
    for i in range(n):
        missing = False
        whole = True
        for j in range(bands):
            value = np.float64(values[i, j])
            count = np.rint(value * scale)
            count = min(max(count, -32768.0), 32767.0)
            back = count / scale
            nan = value != value
            missing |= nan
            whole &= nan | (value == back) | (value == np.float64(np.float32(back)))
            rows[i, j] = np.int16(1.0 if nan else count)
        if missing:
            valid[i] = False
        counted[i] = whole
        others += not whole
    return others


@ordered
def add_products(weights: Any, x: Any, total: Any) -> None:
    """total (rows, n) += weights (rows, L) @ x (L, n), for floats: terms in the order of bands, whatever n is."""
    rows, bands = weights.shape
    n = x.shape[1]
    for start in range(0, n, LANES * 4):
        stop = min(start + LANES * 4, n)
        for r in range(rows):
            sums = total[r, start:stop]
            for b in range(bands):
                weight = weights[r, b]
                band = x[b, start:stop]
                for i in range(stop - start):
                    sums[i] += weight * band[i]


@ordered
def add_dots(x: Any, y: Any, total: Any) -> None:
    """total (n,) += sum over bands of x y, both (L, n): as `add_products` does."""
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            total[i] += x[b, i] * y[b, i]


@exact
def pixel_major(rows: Any, no_data: Any, floor: float, logs: Any, x: Any, ln: Any, xx: Any, xl: Any, valid: Any) -> int:
    """From counts `rows` (n, >= L) int16: x, ln (n, L) and xx = sum x^2, xl = sum max(x, floor) ln x (n,), added to.

    Clears `valid` (n,) where a count is `no_data` (int16, or None where no count means that). Without logs (an empty
    table) ln and xl stay as they are.
    Returns the lowest count: below `floor` the caller floors x for the sums that SID needs.
    """
    n, bands = x.shape
    low = np.int16(HIGHEST)
    for i in range(n):
        for j in range(bands):
            low = min(low, rows[i, j])
        if no_data is not None:
            missing = False
            for j in range(bands):
                missing |= rows[i, j] == no_data
            if missing:
                valid[i] = False
    for i in range(n):
        for j in range(bands):
            x[i, j] = np.float64(rows[i, j])
    if logs.shape[0] == 0:
        for i in range(n):
            squares = 0.0
            for j in range(bands):
                squares += x[i, j] * x[i, j]
            xx[i] += squares
        return int(low)
    for i in range(n):
        for j in range(bands):
            ln[i, j] = np.float64(logs[np.uint32(np.int32(rows[i, j]) + 32768)]) * LN_UNIT
    for i in range(n):
        squares = 0.0
        product = 0.0
        for j in range(bands):
            squares += x[i, j] * x[i, j]
            product += max(x[i, j], floor) * ln[i, j]
        xx[i] += squares
        xl[i] += product
    return int(low)
