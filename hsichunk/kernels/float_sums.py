"""What sums are made of: the table of logarithms, counts from other types and reflectance, and sums of floats.

Every value made of counts is a multiple of a fixed power of two (see `hsichunk.unmixing.solver`): sums over bands are
exact in float64, the same in any order. That is what allows `reassoc` in `exact`. Floats that are no counts are added
in the order of bands (`ordered`). Stored counts become sums in `hsichunk.kernels.count_sums`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.kernels.compiled import compiled
from hsichunk.kernels.llvm_blocks import LANES, PIXELS, add_dot, add_rows, ask_for, place, turn_floats

LOWEST, HIGHEST = -32768, 32767
LN_BITS = 22  # ln of a count is rounded to 2**-22
LN_UNIT = 2.0**-LN_BITS

exact = compiled(fastmath={"reassoc", "contract", "nsz"})
ordered = compiled(error_model="numpy")


def log_table(floor: float) -> NDArray[np.int32]:
    """ln of every int16 count in units of 2**-22, counts below `floor` read as `floor`; count c at c + 32768.

    The rounding hides the last bits, in which mathematical libraries differ.
    """
    counts = np.maximum(np.arange(LOWEST, HIGHEST + 1, dtype=np.float64), floor)
    return np.rint(np.log(counts) / LN_UNIT).astype(np.int32)


@compiled()
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
def turn(values: Any, scale: float, x: Any, valid: Any) -> None:
    """x (L, n) float64 = values (n, L) float32 or float64 times `scale`; `valid` (n,) where all bands are finite.

    Of other pixels x is 1. Both arrays are contiguous.
    """
    n, bands = values.shape
    whole, deep, marks = n - n % LANES, bands - bands % LANES, np.zeros(n)
    for i in range(0, whole, LANES):
        for b in range(0, deep, LANES):
            for k in range(i + LANES, i + 2 * LANES):
                ask_for(place(values, k, b))
            turn_floats(place(values, i, b), bands, scale, place(x, b, i), n, place(marks, 0, i))
    for i in range(n):
        for b in range(deep if i < whole else 0, bands):
            value = np.float64(values[i, b])
            x[b, i] = value * scale
            marks[i] += value * 0.0
    for i in range(n):
        valid[i] = marks[i] == 0.0
        if not valid[i]:
            x[:, i] = 1.0


@ordered
def add_products(weights: Any, x: Any, total: Any) -> None:
    """total (rows, n) += weights (rows, L) @ x (L, n), for floats: terms in the order of bands, whatever n is."""
    rows, bands = weights.shape
    n = x.shape[1]
    _check_rows(weights, x, total)
    whole = n - n % PIXELS
    for i in range(0, whole, PIXELS):
        add_rows(weights, 0, rows, 0, x, i, bands, total, 0, i)
    if whole < n:
        part, some = np.zeros((bands, PIXELS)), np.zeros((rows, PIXELS))
        part[:, : n - whole], some[:, : n - whole] = x[:, whole:], total[:, whole:]
        add_rows(weights, 0, rows, 0, part, 0, bands, some, 0, 0)
        total[:, whole:] = some[:, : n - whole]


@ordered
def _check_rows(weights: Any, x: Any, total: Any) -> None:
    if _apart(weights) or _apart(x) or _apart(total):
        raise ValueError("rows that are not contiguous float64; expected numpy.ascontiguousarray of them")


@ordered
def _apart(array: Any) -> bool:
    """Whether the elements of a row do not follow one another; NumPy leaves any stride where there is but one."""
    return bool(array.shape[1] > 1 and array.strides[1] != 8)


@ordered
def widen(x: Any, spectra: Any, furthest: Any) -> None:
    """furthest (p, n) becomes the largest |x - e| over bands so far, of x (L, n) and spectra (p, L)."""
    for r in range(spectra.shape[0]):
        out = furthest[r]
        for b in range(x.shape[0]):
            e, band = spectra[r, b], x[b]
            for i in range(x.shape[1]):
                out[i] = max(out[i], abs(band[i] - e))


@ordered
def add_dots(x: Any, y: Any, total: Any) -> None:
    """total (n,) += sum over bands of x y, both (L, n): as `add_products` does."""
    bands, n = x.shape
    whole, sums = n - n % PIXELS, total.reshape(1, n)
    _check_rows(x, y, sums)
    for i in range(0, whole, PIXELS):
        add_dot(x, y, i, bands, sums, 0, i)
    if whole < n:
        one, other, some = np.zeros((bands, PIXELS)), np.zeros((bands, PIXELS)), np.zeros((1, PIXELS))
        one[:, : n - whole], other[:, : n - whole], some[0, : n - whole] = x[:, whole:], y[:, whole:], total[whole:]
        add_dot(one, other, 0, bands, some, 0, 0)
        total[whole:] = some[0, : n - whole]
