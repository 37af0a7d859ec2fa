"""Values that are summed, and sums of floats: the table of logarithms, counts from other types and from reflectance.

Every value made of counts is a multiple of a fixed power of two (see `hsichunk.unmixing.solver`): sums over bands are
exact in float64, the same in any order. That is what allows `reassoc` in `exact`. Floats that are no counts are added
in the order of bands (`ordered`). Stored counts become sums in `hsichunk.kernels.count_sums`.
"""

from __future__ import annotations

import numpy as np

from hsichunk.array_types import AnyArray, Bools, Floats, FloatValues, Int16s, Int32s, Numbers
from hsichunk.kernels.compiled import compiled
from hsichunk.kernels.llvm_blocks import LANES, PIXELS, add_dot, add_rows, pointer_to, prefetch, transpose_floats

LOWEST, HIGHEST = -32768, 32767
LN_BITS = 22  # ln of a count is rounded to 2**-22
LN_UNIT = 2.0**-LN_BITS

exact = compiled(fastmath={"reassoc", "contract", "nsz"})
ordered = compiled(error_model="numpy")


def log_table(floor: float) -> Int32s:
    """Return ln of every int16 count in units of 2**-22; the value of count c is at c + 32768.

    Counts below `floor` are read as `floor`. The rounding hides the last bits, in which mathematical libraries differ.
    """
    counts = np.maximum(np.arange(LOWEST, HIGHEST + 1, dtype=np.float64), floor)
    return np.rint(np.log(counts) / LN_UNIT).astype(np.int32)


@compiled()
def narrow(wide: Numbers, no_data: int, out: Int16s, valid: Bools) -> bool:
    """Write counts of another integer type (n, bands) to `out` as int16; returns False when one does not fit int16.

    Values that are `no_data` become 1, and their pixels are cleared in `valid` (n,).
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


def as_floats(values: AnyArray) -> FloatValues:
    """Return values as floats that `recover_counts` takes: float32 or float64 in the byte order of this machine.

    Other types, half and extended precision among them, become float64.
    """
    if values.dtype == np.float32:
        return values.astype(np.float32, copy=False)
    return values.astype(np.float64, copy=False)


@ordered
def recover_counts(values: FloatValues, scale: float, rows: Int16s, valid: Bools, counted: Bools) -> int:
    """Write the counts behind reflectance `values` (n, L) to `rows` (n, >= L); return how many pixels have none.

    Clears `valid` (n,) where a value is NaN. Clears `counted` (n,) where some value is neither a whole int16 count over
    the scale nor the float32 of one; the counts of such a pixel mean nothing. Each pixel is judged by itself.
    """
    n, bands = values.shape
    others = 0
    for i in range(n):
        has_nan = False
        all_counts = True
        for j in range(bands):
            value = np.float64(values[i, j])
            count = np.rint(value * scale)
            count = min(max(count, -32768.0), 32767.0)
            back = count / scale
            nan = value != value
            has_nan |= nan
            all_counts &= nan | (value == back) | (value == np.float64(np.float32(back)))
            rows[i, j] = np.int16(1.0 if nan else count)
        if has_nan:
            valid[i] = False
        counted[i] = all_counts
        others += not all_counts
    return others


@ordered
def transpose_scaled(values: FloatValues, scale: float, x: Floats, valid: Bools) -> None:
    """x (L, n) float64 = values (n, L) float32 or float64 times `scale`; `valid` (n,) where all bands are finite.

    x of the other pixels is 1. Both arrays are contiguous.
    """
    n, bands = values.shape
    full_pixels, full_bands, marks = n - n % LANES, bands - bands % LANES, np.zeros(n)
    for i in range(0, full_pixels, LANES):
        for b in range(0, full_bands, LANES):
            for ahead in range(i + LANES, i + 2 * LANES):
                prefetch(pointer_to(values, ahead, b))
            source, target = pointer_to(values, i, b), pointer_to(x, b, i)
            transpose_floats(source, bands, scale, target, n, pointer_to(marks, 0, i))
    for i in range(n):
        for b in range(full_bands if i < full_pixels else 0, bands):
            value = np.float64(values[i, b])
            x[b, i] = value * scale
            marks[i] += value * 0.0
    for i in range(n):
        valid[i] = marks[i] == 0.0
        if not valid[i]:
            x[:, i] = 1.0


@ordered
def add_products(weights: Floats, x: Floats, total: Floats) -> None:
    """total (rows, n) += weights (rows, L) @ x (L, n), for floats: terms in the order of bands, whatever n is."""
    rows, bands = weights.shape
    n = x.shape[1]
    _check_rows(weights, x, total)
    full = n - n % PIXELS
    for i in range(0, full, PIXELS):
        add_rows(weights, 0, rows, 0, x, i, bands, total, 0, i)
    if full < n:
        last_x, last_total = np.zeros((bands, PIXELS)), np.zeros((rows, PIXELS))
        last_x[:, : n - full], last_total[:, : n - full] = x[:, full:], total[:, full:]
        add_rows(weights, 0, rows, 0, last_x, 0, bands, last_total, 0, 0)
        total[:, full:] = last_total[:, : n - full]


@ordered
def _check_rows(weights: Floats, x: Floats, total: Floats) -> None:
    if _has_gaps(weights) or _has_gaps(x) or _has_gaps(total):
        raise ValueError("rows that are not contiguous float64; expected numpy.ascontiguousarray of them")


@ordered
def _has_gaps(array: Floats) -> bool:
    """Return whether gaps lie between the elements of a row; NumPy allows any stride in a row of one element."""
    return bool(array.shape[1] > 1 and array.strides[1] != 8)


@ordered
def update_furthest(x: Floats, spectra: Floats, furthest: Floats) -> None:
    """furthest (k, n) becomes the largest |x - e| over bands so far, of x (L, n) and spectra (k, L)."""
    for r in range(spectra.shape[0]):
        out = furthest[r]
        for b in range(x.shape[0]):
            e, band = spectra[r, b], x[b]
            for i in range(x.shape[1]):
                out[i] = max(out[i], abs(band[i] - e))


@ordered
def add_dots(x: Floats, y: Floats, total: Floats) -> None:
    """total (n,) += sum over bands of x y, both (L, n): terms in the order of bands, as in `add_products`."""
    bands, n = x.shape
    full, sums = n - n % PIXELS, total.reshape(1, n)
    _check_rows(x, y, sums)
    for i in range(0, full, PIXELS):
        add_dot(x, y, i, bands, sums, 0, i)
    if full < n:
        last_x, last_y, last_sums = np.zeros((bands, PIXELS)), np.zeros((bands, PIXELS)), np.zeros((1, PIXELS))
        last_x[:, : n - full], last_y[:, : n - full] = x[:, full:], y[:, full:]
        last_sums[0, : n - full] = total[full:]
        add_dot(last_x, last_y, 0, bands, last_sums, 0, 0)
        total[full:] = last_sums[0, : n - full]
