"""Add stored counts to sums in the order in which they are stored: spectra of a spatial chunk, or one band at a time.

Blocks of 32 pixels and 40 bands go through the first-level cache: counts side by side, as floats, their logarithms
looked up, and every sum through all bands in registers (`hsichunk.kernels.llvm_blocks`). Every value is a multiple of a
fixed power of two (see `hsichunk.unmixing.solver`): all sums are exact, the same in any order.

`total` (rows, N) has the rows of `hsichunk.unmixing.sum_layout`. Its row 0 is of x^2; the next are x times the weights
`left`, of which with SID the last p + 1 (one and ln q) are for x raised to the floor; then ln x times the weights
`right`, (p, L) or without SID (0, L), and with them x ln x. The last `apart` rows hold maxima in place of sums: the
largest |x - e|, e the first rows of `left`. `valid` (N,) is cleared where a count is `no_data`. `logs` is empty without
SID.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hsichunk.kernels.float_sums import HIGHEST, LN_UNIT, LOWEST, exact
from hsichunk.kernels.llvm_blocks import (
    LANES,
    PIXELS,
    add_dot,
    add_rows,
    copy_counts,
    counts_to_doubles,
    look_up,
    pointer_to,
    prefetch,
    transpose_counts,
    widen_row,
)

BANDS = 40  # of a block: its floats and logarithms are 20 kB
LINE = 64  # bytes of a cache line
# Rows of bands and of sums lie megabytes apart: each block asks for what a later one reads. Pixels ahead, tried out:
BANDS_AHEAD, SUMS_AHEAD = 2 * PIXELS, PIXELS
NEVER = 1 << 40  # a count that is none, for `no_data`


@exact
def _aligned(rows: int) -> Any:
    """(rows, PIXELS) float64, each row on cache lines of its own: vectors that straddle two take twice as long."""
    values = np.empty(rows * PIXELS + LINE // 8)
    first = -values.ctypes.data % LINE // 8
    return values[first : first + rows * PIXELS].reshape(rows, PIXELS)


@exact
def _add_block(
    counts: Any, bands: int, n: int, no_data: int, floor: float, logs: Any, left: Any, right: Any, apart: int, to: int,
    x: Any, ln: Any, spare: Any, total: Any, valid: Any, begin: int,
) -> None:  # fmt: skip
    """Adds kept bands to..to+bands of n pixels, `counts` (BANDS, PIXELS), to the sums of pixels begin..begin+n."""
    raw, p, sums = left.shape[0], right.shape[0], total.shape[0]
    low = counts_to_doubles(pointer_to(counts, 0, 0), bands, pointer_to(x, 0, 0))
    if LOWEST <= no_data <= HIGHEST and low <= no_data:
        marker, flags = np.int16(no_data), valid[begin : begin + n]
        for b in range(bands):
            row = counts[b, :n]
            for i in range(n):
                flags[i] &= row[i] != marker
    out, at = total, begin
    if n < PIXELS:
        out, at = spare, 0
        spare[:] = 0.0
    for r in range(sums):
        for i in range(0, PIXELS, LINE // 8):
            prefetch(pointer_to(out, r, at + SUMS_AHEAD + i))
    for r in range(apart):
        widen_row(left, r, to, x, bands, out, sums - apart + r, at)
    add_dot(x, x, 0, bands, out, 0, at)
    plain = raw - p - 1 if p > 0 and low < floor else raw
    add_rows(left, 0, plain, to, x, 0, bands, out, 1, at)
    if plain < raw:  # abundances, SAM and NCC take counts as they are, SID takes them floored
        for b in range(bands):
            values = x[b, :]
            for i in range(PIXELS):
                values[i] = max(values[i], floor)
        add_rows(left, plain, raw, to, x, 0, bands, out, 1 + plain, at)
    if p > 0:
        look_up(pointer_to(counts, 0, 0), bands, pointer_to(logs, 0, -LOWEST), LN_UNIT, pointer_to(ln, 0, 0))
        add_rows(right, 0, p, to, ln, 0, bands, out, 1 + raw, at)
        add_dot(ln, x, 0, bands, out, 1 + raw + p, at)
    if n < PIXELS:
        for r in range(sums):
            for i in range(n):
                so_far, more = total[r, begin + i], spare[r, i]
                total[r, begin + i] = so_far + more if r < sums - apart else max(so_far, more)


@exact
def add_bands(
    bands: Any, count: int, to: int, start: int, stop: int, no_data: int, floor: float, logs: Any,
    left: Any, right: Any, apart: int, total: Any, valid: Any,
) -> None:  # fmt: skip
    """Adds the first `count` of `bands` (any, N) int16, kept bands to.., to the sums of pixels start..stop."""
    counts = np.zeros((BANDS, PIXELS), np.int16)
    x, ln, spare = _aligned(BANDS), _aligned(BANDS), _aligned(total.shape[0])
    for begin in range(start, stop, PIXELS):
        n = min(PIXELS, stop - begin)
        for b in range(0, count, BANDS):
            few = min(BANDS, count - b)
            for k in range(few):
                if n == PIXELS:
                    copy_counts(pointer_to(bands, b + k, begin), pointer_to(counts, k, 0))
                    prefetch(pointer_to(bands, b + k, begin + BANDS_AHEAD))
                else:
                    for i in range(n):
                        counts[k, i] = bands[b + k, begin + i]
            _add_block(
                counts, few, n, no_data, floor, logs, left, right, apart, to + b, x, ln, spare, total, valid, begin
            )


@exact
def add_spectra(
    pixels: Any, start: int, stop: int, first: int, count: int, to: int, no_data: int, floor: float, logs: Any,
    left: Any, right: Any, apart: int, total: Any, valid: Any,
) -> None:  # fmt: skip
    """Adds bands first..first+count of `pixels` (N, depth) int16, kept bands to.., to sums of pixels start..stop."""
    counts = np.zeros((BANDS, PIXELS), np.int16)
    x, ln, spare = _aligned(BANDS), _aligned(BANDS), _aligned(total.shape[0])
    depth = pixels.shape[1]
    for begin in range(start, stop, PIXELS):
        n = min(PIXELS, stop - begin)
        for b in range(0, count, BANDS):
            few = min(BANDS, count - b)
            if n == PIXELS and few >= LANES:
                for i in range(0, PIXELS, LANES):
                    for k in range(0, few, LANES):
                        k = min(k, few - LANES)  # the last bands once more, not what lies behind them
                        transpose_counts(pointer_to(pixels, begin + i, first + b + k), depth, pointer_to(counts, k, i))
            else:
                for i in range(n):
                    for k in range(few):
                        counts[k, i] = pixels[begin + i, first + b + k]
            _add_block(
                counts, few, n, no_data, floor, logs, left, right, apart, to + b, x, ln, spare, total, valid, begin
            )
