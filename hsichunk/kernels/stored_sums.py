"""Stored counts to sums, as they are stored: whole spectra of a spatial chunk, or bands of a tile one after the other.

Slabs of pixels go through eight bands at a time: converted, their logarithms looked up, and multiplied with the weights
of every sum while they are in the first-level cache. A general matrix product this narrow spends its time on everything
but multiplying. Every value is a multiple of a fixed power of two (see `hsichunk.solver`): all sums are exact, the same
in any order, which is what allows `reassoc`.

Weights are `left` (2p + 1, L + 7), without SID (p, L + 7), and `right` (p, L + 7) or (0, L + 7): e, one and ln q for
x, q for ln x, padded because eight are read even where fewer are left. With NCC there is another one after e, for x
that is not floored. `total` (sums, N) has the rows of `hsichunk.kernels.score`; `valid` (N,) is cleared where a count
is `no_data`. `logs` is empty without SID. The last `apart` rows of `total`, none unless Chebyshev's distance is asked
for, hold maxima in place of sums.

Rows that a loop runs over are taken as `array[row, begin:end]` of contiguous arrays alone: behind any other view the
compiler does not know them to be contiguous and is three times slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hsichunk.kernels.sums import HIGHEST, LN_UNIT, LOWEST, exact

GROUP = 8  # bands multiplied together: as many operands as stay in registers
SLAB = 256  # pixels of spectra: two operands of eight bands are 32 kB
BAND_SLAB = 1024  # pixels of bands: longer runs of sums that lie megabytes apart
NEVER = 1 << 40  # a count that is none, for `no_data`


@exact
def _add_row(weights: Any, r: int, b: int, x: Any, out: Any) -> None:
    """out (n,) += weights[r, b : b + 8] @ x (8, >= n)."""
    n = out.shape[0]
    w0, w1, w2, w3 = weights[r, b], weights[r, b + 1], weights[r, b + 2], weights[r, b + 3]
    w4, w5, w6, w7 = weights[r, b + 4], weights[r, b + 5], weights[r, b + 6], weights[r, b + 7]
    x0, x1, x2, x3 = x[0, :n], x[1, :n], x[2, :n], x[3, :n]
    x4, x5, x6, x7 = x[4, :n], x[5, :n], x[6, :n], x[7, :n]
    for i in range(n):
        low = (w0 * x0[i] + w1 * x1[i]) + (w2 * x2[i] + w3 * x3[i])
        high = (w4 * x4[i] + w5 * x5[i]) + (w6 * x6[i] + w7 * x7[i])
        out[i] += low + high


@exact
def _add_three(weights: Any, r: int, b: int, x: Any, first: int, out0: Any, out1: Any, out2: Any) -> None:
    """Three rows out (n,) += weights[r : r + 3, b + first : b + first + 4] @ x[first : first + 4] (4, >= n).

    Each operand loaded serves three rows. Three by four is what the registers hold: half the time of one row by eight.
    """
    n, b = out0.shape[0], b + first
    a0, a1, a2, a3 = weights[r, b], weights[r, b + 1], weights[r, b + 2], weights[r, b + 3]
    b0, b1, b2, b3 = weights[r + 1, b], weights[r + 1, b + 1], weights[r + 1, b + 2], weights[r + 1, b + 3]
    c0, c1, c2, c3 = weights[r + 2, b], weights[r + 2, b + 1], weights[r + 2, b + 2], weights[r + 2, b + 3]
    x0, x1, x2, x3 = x[first, :n], x[first + 1, :n], x[first + 2, :n], x[first + 3, :n]
    for i in range(n):
        u, v, w, z = x0[i], x1[i], x2[i], x3[i]
        out0[i] += a0 * u + a1 * v + a2 * w + a3 * z
        out1[i] += b0 * u + b1 * v + b2 * w + b3 * z
        out2[i] += c0 * u + c1 * v + c2 * w + c3 * z


@exact
def _add_rows(weights: Any, r: int, last: int, b: int, x: Any, total: Any, to: int, begin: int, end: int) -> None:
    """Rows to.. of `total`, pixels begin..end += rows r..last of the weights, bands b..b+8 @ x (8, >= n)."""
    while r + 3 <= last:
        outs = total[to, begin:end], total[to + 1, begin:end], total[to + 2, begin:end]
        _add_three(weights, r, b, x, 0, outs[0], outs[1], outs[2])
        _add_three(weights, r, b, x, 4, outs[0], outs[1], outs[2])
        r += 3
        to += 3
    while r < last:
        _add_row(weights, r, b, x, total[to, begin:end])
        r += 1
        to += 1


@exact
def _add_squares(x: Any, out: Any) -> None:
    """out (n,) += sum of squares over eight bands of x (8, >= n)."""
    n = out.shape[0]
    x0, x1, x2, x3 = x[0, :n], x[1, :n], x[2, :n], x[3, :n]
    x4, x5, x6, x7 = x[4, :n], x[5, :n], x[6, :n], x[7, :n]
    for i in range(n):
        low = (x0[i] * x0[i] + x1[i] * x1[i]) + (x2[i] * x2[i] + x3[i] * x3[i])
        high = (x4[i] * x4[i] + x5[i] * x5[i]) + (x6[i] * x6[i] + x7[i] * x7[i])
        out[i] += low + high


@exact
def _add_dot(x: Any, y: Any, out: Any) -> None:
    """out (n,) += sum over eight bands of x y (8, >= n)."""
    n = out.shape[0]
    x0, x1, x2, x3 = x[0, :n], x[1, :n], x[2, :n], x[3, :n]
    x4, x5, x6, x7 = x[4, :n], x[5, :n], x[6, :n], x[7, :n]
    y0, y1, y2, y3 = y[0, :n], y[1, :n], y[2, :n], y[3, :n]
    y4, y5, y6, y7 = y[4, :n], y[5, :n], y[6, :n], y[7, :n]
    for i in range(n):
        low = (x0[i] * y0[i] + x1[i] * y1[i]) + (x2[i] * y2[i] + x3[i] * y3[i])
        high = (x4[i] * y4[i] + x5[i] * y5[i]) + (x6[i] * y6[i] + x7[i] * y7[i])
        out[i] += low + high


@exact
def _widen(left: Any, b: int, few: int, x: Any, total: Any, apart: int, begin: int, end: int) -> None:
    """The last `apart` rows of `total` become the largest |x - e| so far, e the first rows of the weights.

    Bands b..b+few alone: a band of zeros is as far from e as any other. A maximum is the same in any order.
    """
    first = total.shape[0] - apart
    for r in range(apart):
        out = total[first + r, begin:end]
        n = out.shape[0]
        if few == GROUP:
            e0, e1, e2, e3 = left[r, b], left[r, b + 1], left[r, b + 2], left[r, b + 3]
            e4, e5, e6, e7 = left[r, b + 4], left[r, b + 5], left[r, b + 6], left[r, b + 7]
            x0, x1, x2, x3 = x[0, :n], x[1, :n], x[2, :n], x[3, :n]
            x4, x5, x6, x7 = x[4, :n], x[5, :n], x[6, :n], x[7, :n]
            for i in range(n):
                low = max(max(abs(x0[i] - e0), abs(x1[i] - e1)), max(abs(x2[i] - e2), abs(x3[i] - e3)))
                high = max(max(abs(x4[i] - e4), abs(x5[i] - e5)), max(abs(x6[i] - e6), abs(x7[i] - e7)))
                out[i] = max(out[i], max(low, high))
        else:
            for k in range(few):
                e, values = left[r, b + k], x[k, :n]
                for i in range(n):
                    out[i] = max(out[i], abs(values[i] - e))


@exact
def _add_group(
    x: Any, ln: Any, few: Any, low: Any, floor: float, left: Any, right: Any, apart: int, b: int, total: Any,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Adds kept bands b..b+few, their operands x and ln (8, SLAB) zero beyond, to all sums of pixels begin..end.

    Floors x where it must.
    """
    if apart > 0:
        _widen(left, b, few, x, total, apart, begin, end)
    raw, p = left.shape[0], right.shape[0]
    plain = raw - p - 1 if p > 0 else raw
    _add_squares(x, total[0, begin:end])
    if p == 0 or low >= floor:
        _add_rows(left, 0, raw, b, x, total, 1, begin, end)
    else:  # abundances, SAM and NCC take counts as they are, SID takes them floored
        _add_rows(left, 0, plain, b, x, total, 1, begin, end)
        for k in range(few):  # the weights beyond are the next bands': zeros must stay
            values = x[k, : end - begin]
            for i in range(end - begin):
                values[i] = max(values[i], floor)
        _add_rows(left, plain, raw, b, x, total, 1 + plain, begin, end)
    if p > 0:
        _add_rows(right, 0, p, b, ln, total, 1 + raw, begin, end)
        _add_dot(x, ln, total[1 + raw + p, begin:end])


@exact
def add_bands(
    bands: Any, count: int, to: int, start: int, stop: int, no_data: int, floor: float, logs: Any,
    left: Any, right: Any, apart: int, total: Any, valid: Any,
) -> None:  # fmt: skip
    """Adds the first `count` of `bands` (any, N) int16, kept bands to.., to the sums of pixels start..stop."""
    x, ln = np.zeros((GROUP, BAND_SLAB)), np.zeros((GROUP, BAND_SLAB))
    for begin in range(start, stop, BAND_SLAB):
        end = min(begin + BAND_SLAB, stop)
        n = end - begin
        for b in range(0, count, GROUP):  # the sums of the slab stay in the cache meanwhile
            low = np.int16(HIGHEST)
            for k in range(GROUP):
                values, logarithms = x[k, :n], ln[k, :n]
                if b + k >= count:
                    values[:] = 0.0
                    logarithms[:] = 0.0
                    continue
                band = bands[b + k, begin:end]
                lowest = np.int16(HIGHEST)
                for i in range(n):
                    lowest = min(lowest, band[i])
                low = min(low, lowest)
                if LOWEST <= no_data <= HIGHEST and lowest <= no_data:
                    marker, flags = np.int16(no_data), valid[begin:end]
                    for i in range(n):
                        flags[i] &= band[i] != marker
                for i in range(n):
                    values[i] = np.float64(band[i])
                if logs.shape[0] > 0:
                    for i in range(n):
                        logarithms[i] = np.float64(logs[np.uint32(np.int32(band[i]) + 32768)]) * LN_UNIT
            few = min(GROUP, count - b)
            _add_group(x, ln, few, low, floor, left, right, apart, to + b, total, begin, end)


@exact
def add_spectra(
    pixels: Any, start: int, stop: int, first: int, count: int, to: int, no_data: int, floor: float, logs: Any,
    left: Any, right: Any, apart: int, total: Any, valid: Any,
) -> None:  # fmt: skip
    """Adds bands first..first+count of `pixels` (N, depth) int16, kept bands to.., to the sums of pixels start..stop.

    Eight bands of a slab are transposed in the first-level cache, where logarithms are looked up one by one anyway.
    """
    depth = np.uint64(pixels.shape[1])
    flat = pixels.reshape(pixels.size)
    x, ln = np.zeros((GROUP, SLAB)), np.zeros((GROUP, SLAB))
    for begin in range(start, stop, SLAB):
        end = min(begin + SLAB, stop)
        n = end - begin
        for b in range(0, count, GROUP):
            few = np.uint64(min(GROUP, count - b))
            for k in range(np.int64(few), GROUP):
                x[k, :n] = 0.0
                ln[k, :n] = 0.0
            low = np.int16(HIGHEST)
            for i in range(np.uint64(n)):
                at = (np.uint64(begin) + i) * depth + np.uint64(first + b)
                for k in range(few):
                    c = flat[at + k]
                    low = min(low, c)
                    x[k, i] = np.float64(c)
                    if logs.shape[0] > 0:
                        ln[k, i] = np.float64(logs[np.uint32(np.int32(c) + 32768)]) * LN_UNIT
            if LOWEST <= no_data <= HIGHEST and low <= no_data:
                marker, flags = np.float64(no_data), valid[begin:end]
                for k in range(np.int64(few)):
                    values = x[k, :n]
                    for i in range(n):
                        flags[i] &= values[i] != marker
            _add_group(x, ln, np.int64(few), low, floor, left, right, apart, to + b, total, begin, end)
