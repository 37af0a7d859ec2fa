"""Add stored counts to sums in the order in which they are stored: spectra of a spatial chunk, or one band at a time.

A block of 32 pixels and 40 bands at a time passes through the first-level cache. There it holds counts band by band, as
floats, and their logarithms, which are looked up. Every sum passes through all bands of the block in registers
(`hsichunk.kernels.llvm_blocks`). Every value is a multiple of a fixed power of two (see `hsichunk.unmixing.solver`):
all sums are exact, the same in any order.

`total` (rows, N) float64 has the rows of `hsichunk.unmixing.sum_layout`, and `SumWeights` says what each is the sum of.
`valid` (N,) bool is cleared where a count is `no_data`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hsichunk.array_types import Bools, Floats, Int16s, Int32s
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
    update_row_of_largest,
)

BANDS = 40  # of a block: its floats and logarithms are 20 kB
LINE = 64  # bytes of a cache line
# Rows of bands and of sums lie megabytes apart: each block prefetches what a later one reads. Pixels ahead, tried out:
BANDS_AHEAD, SUMS_AHEAD = 2 * PIXELS, PIXELS
NEVER = 1 << 40  # a `no_data` that no count equals


class SumWeights(NamedTuple):
    """What the rows of the sums are made of, and how counts are read, for k endmembers and L bands.

    Row 0 is the sum of x^2. The rows after it are sums of x times the weights `left`; with SID, the last k + 1 of them
    (one and ln q) take x raised to the floor. Then come, with SID alone, ln x times the weights `right` and x ln x. The
    last `maxima` rows hold maxima in place of sums: the largest |x - e|, where e are the first rows of `left`.
    """

    no_data: int
    """count of pixels without data, `NEVER` if there is none"""
    floor: float
    """count below which SID reads a count as this one"""
    logs: Int32s
    """(65536,) table of logarithms (`hsichunk.kernels.float_sums.log_table`), empty without SID"""
    left: Floats
    """(any, L)"""
    right: Floats
    """(k, L), without SID (0, L)"""
    maxima: int
    """rows that hold maxima: k, or 0"""


class _Block(NamedTuple):
    """Working space of one block of pixels and bands."""

    counts: Int16s  # (BANDS, PIXELS)
    x: Floats  # (BANDS, PIXELS) counts as floats
    ln: Floats  # (BANDS, PIXELS) their logarithms
    spare: Floats  # (rows, PIXELS) sums of a block that is not full


@exact
def _new_block(rows: int) -> _Block:
    """Return working space for `rows` rows of sums."""
    counts = np.zeros((BANDS, PIXELS), np.int16)
    return _Block(counts, _aligned(BANDS), _aligned(BANDS), _aligned(rows))


@exact
def _aligned(rows: int) -> Floats:
    """Return (rows, PIXELS) float64, rows on cache lines of their own: vectors that straddle two take twice as long."""
    values = np.empty(rows * PIXELS + LINE // 8)
    first = -values.ctypes.data % LINE // 8
    return values[first : first + rows * PIXELS].reshape(rows, PIXELS)


@exact
def _add_block(
    block: _Block, bands: int, n: int, first_kept: int, weights: SumWeights, total: Floats, valid: Bools, begin: int
) -> None:
    """Add the counts of a block, kept bands first_kept.. of n pixels, to the sums of pixels begin..begin+n."""
    counts, x, ln, spare = block.counts, block.x, block.ln, block.spare
    no_data, floor, left, right, maxima = weights.no_data, weights.floor, weights.left, weights.right, weights.maxima
    rows_of_x, k, sums = left.shape[0], right.shape[0], total.shape[0]
    lowest = counts_to_doubles(pointer_to(counts, 0, 0), bands, pointer_to(x, 0, 0))
    if LOWEST <= no_data <= HIGHEST and lowest <= no_data:
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
    for r in range(maxima):
        update_row_of_largest(left, r, first_kept, x, bands, out, sums - maxima + r, at)
    add_dot(x, x, 0, bands, out, 0, at)
    unfloored = rows_of_x - k - 1 if k > 0 and lowest < floor else rows_of_x
    add_rows(left, 0, unfloored, first_kept, x, 0, bands, out, 1, at)
    if unfloored < rows_of_x:  # abundances, SAM and NCC take counts as they are, SID takes them floored
        for b in range(bands):
            values = x[b, :]
            for i in range(PIXELS):
                values[i] = max(values[i], floor)
        add_rows(left, unfloored, rows_of_x, first_kept, x, 0, bands, out, 1 + unfloored, at)
    if k > 0:
        look_up(pointer_to(counts, 0, 0), bands, pointer_to(weights.logs, 0, -LOWEST), LN_UNIT, pointer_to(ln, 0, 0))
        add_rows(right, 0, k, first_kept, ln, 0, bands, out, 1 + rows_of_x, at)
        add_dot(ln, x, 0, bands, out, 1 + rows_of_x + k, at)
    if n < PIXELS:
        for r in range(sums):
            for i in range(n):
                so_far, more = total[r, begin + i], spare[r, i]
                total[r, begin + i] = so_far + more if r < sums - maxima else max(so_far, more)


@exact
def add_bands(
    bands: Int16s, count: int, first_kept: int, start: int, stop: int, weights: SumWeights, total: Floats, valid: Bools
) -> None:
    """Add the first `count` of `bands` (any, N) int16, kept bands first_kept.., to the sums of pixels start..stop."""
    block = _new_block(total.shape[0])
    counts = block.counts
    for begin in range(start, stop, PIXELS):
        n = min(PIXELS, stop - begin)
        for b in range(0, count, BANDS):
            height = min(BANDS, count - b)
            for row in range(height):
                if n == PIXELS:
                    copy_counts(pointer_to(bands, b + row, begin), pointer_to(counts, row, 0))
                    prefetch(pointer_to(bands, b + row, begin + BANDS_AHEAD))
                else:
                    for i in range(n):
                        counts[row, i] = bands[b + row, begin + i]
            _add_block(block, height, n, first_kept + b, weights, total, valid, begin)


@exact
def add_spectra(
    pixels: Int16s, start: int, stop: int, first: int, count: int, first_kept: int, weights: SumWeights, total: Floats,
    valid: Bools,
) -> None:  # fmt: skip
    """Add bands first..first+count of `pixels` (N, depth) int16, kept bands first_kept.., to sums of start..stop."""
    block = _new_block(total.shape[0])
    counts, depth = block.counts, pixels.shape[1]
    for begin in range(start, stop, PIXELS):
        n = min(PIXELS, stop - begin)
        for b in range(0, count, BANDS):
            height = min(BANDS, count - b)
            if n == PIXELS and height >= LANES:
                for i in range(0, PIXELS, LANES):
                    for row in range(0, height, LANES):
                        row = min(row, height - LANES)  # the last bands once more, not what lies behind them
                        source = pointer_to(pixels, begin + i, first + b + row)
                        transpose_counts(source, depth, pointer_to(counts, row, i))
            else:
                for i in range(n):
                    for row in range(height):
                        counts[row, i] = pixels[begin + i, first + b + row]
            _add_block(block, height, n, first_kept + b, weights, total, valid, begin)
