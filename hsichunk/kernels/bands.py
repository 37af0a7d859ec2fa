"""Band chunks to sums: counts of a few bands, every pixel of a tile, worked as they are stored.

The work of `hsichunk.kernels.sums.pixel_major` and of the matrix products after it in one pass over slabs of pixels
that fit the first-level cache. A general matrix product with eight bands spends its time on everything but multiplying.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hsichunk.kernels.sums import HIGHEST, LN_UNIT, exact

GROUP = 8  # bands multiplied together: as many operands as stay in registers
TOGETHER = 16  # bands held and added in one visit of the sums
SLAB = 512  # pixels: two operands of eight bands are 64 kB


@exact
def _add_row(weights: Any, x: Any, out: Any) -> None:
    """out (n,) += weights (8,) @ x (8, >= n)."""
    n = out.shape[0]
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    w4, w5, w6, w7 = weights[4], weights[5], weights[6], weights[7]
    x0, x1, x2, x3 = x[0, :n], x[1, :n], x[2, :n], x[3, :n]
    x4, x5, x6, x7 = x[4, :n], x[5, :n], x[6, :n], x[7, :n]
    for i in range(n):
        low = (w0 * x0[i] + w1 * x1[i]) + (w2 * x2[i] + w3 * x3[i])
        high = (w4 * x4[i] + w5 * x5[i]) + (w6 * x6[i] + w7 * x7[i])
        out[i] += low + high


@exact
def _add_three(weights: Any, first: int, x: Any, out0: Any, out1: Any, out2: Any) -> None:
    """Three rows out (n,) += weights (3, 8) @ x (8, >= n), four bands from `first` on.

    Each operand loaded serves three rows. Three by four is what the registers hold: measured at half the time of one row
    by eight.
    """
    n = out0.shape[0]
    a0, a1, a2, a3 = weights[0, first], weights[0, first + 1], weights[0, first + 2], weights[0, first + 3]
    b0, b1, b2, b3 = weights[1, first], weights[1, first + 1], weights[1, first + 2], weights[1, first + 3]
    c0, c1, c2, c3 = weights[2, first], weights[2, first + 1], weights[2, first + 2], weights[2, first + 3]
    x0, x1, x2, x3 = x[first, :n], x[first + 1, :n], x[first + 2, :n], x[first + 3, :n]
    for i in range(n):
        u, v, w, z = x0[i], x1[i], x2[i], x3[i]
        out0[i] += a0 * u + a1 * v + a2 * w + a3 * z
        out1[i] += b0 * u + b1 * v + b2 * w + b3 * z
        out2[i] += c0 * u + c1 * v + c2 * w + c3 * z


@exact
def _add_rows(weights: Any, x: Any, total: Any, row: int, rows: int, begin: int, end: int) -> None:
    """total[row:row + rows, begin:end] += weights (rows, 8) @ x (8, >= n)."""
    threes = rows // 3 * 3
    for r in range(0, threes, 3):
        outs = total[row + r, begin:end], total[row + r + 1, begin:end], total[row + r + 2, begin:end]
        _add_three(weights[r : r + 3], 0, x, outs[0], outs[1], outs[2])
        _add_three(weights[r : r + 3], 4, x, outs[0], outs[1], outs[2])
    for r in range(threes, rows):
        _add_row(weights[r], x, total[row + r, begin:end])


@exact
def _add_group(
    bands: Any, first: int, count: int, begin: int, end: int, no_data: Any, floor: float, logs: Any,
    left: Any, right: Any, total: Any, valid: Any, x: Any, ln: Any,
) -> None:  # fmt: skip
    """`add_bands` for up to eight bands, first..first+count, and the pixels of one slab."""
    n = end - begin
    with_logs = logs.shape[0] > 0
    p = right.shape[0] if with_logs else left.shape[0]
    low = np.int16(HIGHEST)
    squares, flags = total[0, begin:end], valid[begin:end]
    for k in range(count):
        # rows as arrays of their own: the compiler then sees that no index is negative and no two overlap by stride
        band, values = bands[first + k, begin:end], x[k, :n]
        for i in range(n):
            low = min(low, band[i])
        if no_data is not None:
            for i in range(n):
                flags[i] &= band[i] != no_data
        for i in range(n):
            values[i] = np.float64(band[i])
        for i in range(n):
            squares[i] += values[i] * values[i]
    for k in range(count, GROUP):
        x[k, :n] = 0.0
        ln[k, :n] = 0.0
    raw = left[:, first : first + GROUP]
    if low >= floor or not with_logs:
        _add_rows(raw, x, total, 1, left.shape[0], begin, end)
    else:
        _add_rows(raw[:p], x, total, 1, p, begin, end)
    if not with_logs:
        return
    if low < floor:  # FCLS and SAM take counts as they are, SID takes them floored
        for k in range(count):
            values = x[k, :n]
            for i in range(n):
                values[i] = max(values[i], floor)
        _add_rows(raw[p:], x, total, 1 + p, left.shape[0] - p, begin, end)
    entropy = total[total.shape[0] - 1, begin:end]
    for k in range(count):
        band, values, logarithms = bands[first + k, begin:end], x[k, :n], ln[k, :n]
        for i in range(n):
            logarithms[i] = np.float64(logs[np.uint32(np.int32(band[i]) + 32768)]) * LN_UNIT
        for i in range(n):
            entropy[i] += values[i] * logarithms[i]
    _add_rows(right[:, first : first + GROUP], ln, total, 1 + left.shape[0], p, begin, end)


@exact
def add_bands(
    bands: Any, count: int, start: int, stop: int, no_data: Any, floor: float, logs: Any, left: Any, right: Any,
    total: Any, valid: Any, x: Any, ln: Any,
) -> None:  # fmt: skip
    """Adds what the first `count` of `bands` (any, N) int16 give pixels start..stop to their sums.

    `left` (2p + 1 or p, m) and `right` (p, m) are the solver's weights for these bands, m the next multiple of eight,
    zero beyond `count`; `total` (sums, N) has the rows of `hsichunk.kernels.score`; `valid` (N,) is cleared where a count
    is `no_data` (int16 or None); x and ln (8, SLAB) are working space. Without SID, `logs` is empty.
    """
    for begin in range(start, stop, SLAB):
        end = min(begin + SLAB, stop)
        for first in range(0, count, GROUP):  # the sums of the slab stay in the cache meanwhile
            few = min(GROUP, count - first)
            _add_group(bands, first, few, begin, end, no_data, floor, logs, left, right, total, valid, x, ln)
