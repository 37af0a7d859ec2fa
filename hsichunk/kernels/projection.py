"""Project stored counts on a few axes, in the order in which they are stored: the part of `count_sums` for few sums.

Weights are multiples of a fixed power of two (see `hsichunk.cube.second_moments`): sums are exact, the same in any
order, which is what allows `reassoc`. Counts become floats in registers, three axes at a time: with so few products a
count, the way through the first-level cache would cost more than they do.

Sums are added to `total` (d, N) float64, for `weights` (d, L) float64. `valid` (N,) bool is cleared where a count is
`no_data`.
"""

from __future__ import annotations

import numpy as np

from hsichunk.array_types import Bools, Floats, Int16s
from hsichunk.kernels.float_sums import HIGHEST, LOWEST, exact

SLAB = 1024  # pixels of bands: their sums stay in the first-level cache from four bands to the next
TOGETHER = 4  # bands: with three axes what the registers hold


@exact
def _holds(counts: Int16s, marker: int) -> bool:
    """Return whether any of counts (n,) is the marker."""
    marker16 = np.int16(marker)
    least = np.uint16(0xFFFF)
    for i in range(counts.shape[0]):
        least = min(least, np.uint16(counts[i] ^ marker16))
    return bool(least == 0)


@exact
def _clear(counts: Int16s, marker: int, flags: Bools) -> None:
    """Clear flags (n,) where counts (n,) are the marker."""
    marker16 = np.int16(marker)
    for i in range(counts.shape[0]):
        flags[i] &= counts[i] != marker16


@exact
def add_bands(
    bands: Int16s, count: int, first_kept: int, start: int, stop: int, no_data: int, weights: Floats, total: Floats,
    valid: Bools,
) -> None:  # fmt: skip
    """Add the first `count` of `bands` (any, N) int16, kept bands first_kept.., to the sums of pixels start..stop."""
    in_fours = count - count % TOGETHER
    for begin in range(start, stop, SLAB):
        end = min(begin + SLAB, stop)
        if LOWEST <= no_data <= HIGHEST:
            for b in range(count):
                if _holds(bands[b, begin:end], no_data):
                    _clear(bands[b, begin:end], no_data, valid[begin:end])
        for b in range(0, in_fours, TOGETHER):
            x0, x1 = bands[b, begin:end], bands[b + 1, begin:end]
            x2, x3 = bands[b + 2, begin:end], bands[b + 3, begin:end]
            _add_four(x0, x1, x2, x3, weights, first_kept + b, total, begin, end)
        for b in range(in_fours, count):
            band = bands[b, begin:end]
            for r in range(total.shape[0]):
                weight, out = weights[r, first_kept + b], total[r, begin:end]
                for i in range(end - begin):
                    out[i] += weight * np.float64(band[i])


@exact
def _add_four(
    x0: Int16s, x1: Int16s, x2: Int16s, x3: Int16s, weights: Floats, at: int, total: Floats, begin: int, end: int
) -> None:
    """total[:, begin:end] += weights[:, at : at + 4] @ the counts x0..x3 (n,) of four bands."""
    n, rows = end - begin, total.shape[0]
    r = 0
    while r + 3 <= rows:
        out0, out1, out2 = total[r, begin:end], total[r + 1, begin:end], total[r + 2, begin:end]
        a0, a1, a2, a3 = weights[r, at], weights[r, at + 1], weights[r, at + 2], weights[r, at + 3]
        b0, b1, b2, b3 = weights[r + 1, at], weights[r + 1, at + 1], weights[r + 1, at + 2], weights[r + 1, at + 3]
        c0, c1, c2, c3 = weights[r + 2, at], weights[r + 2, at + 1], weights[r + 2, at + 2], weights[r + 2, at + 3]
        for i in range(n):
            u, v, w, z = np.float64(x0[i]), np.float64(x1[i]), np.float64(x2[i]), np.float64(x3[i])
            out0[i] += a0 * u + a1 * v + a2 * w + a3 * z
            out1[i] += b0 * u + b1 * v + b2 * w + b3 * z
            out2[i] += c0 * u + c1 * v + c2 * w + c3 * z
        r += 3
    while r < rows:
        out = total[r, begin:end]
        d0, d1, d2, d3 = weights[r, at], weights[r, at + 1], weights[r, at + 2], weights[r, at + 3]
        for i in range(n):
            u, v, w, z = np.float64(x0[i]), np.float64(x1[i]), np.float64(x2[i]), np.float64(x3[i])
            out[i] += d0 * u + d1 * v + d2 * w + d3 * z
        r += 1


@exact
def add_spectra(
    pixels: Int16s, start: int, stop: int, first: int, count: int, first_kept: int, no_data: int, weights: Floats,
    total: Floats, valid: Bools,
) -> None:  # fmt: skip
    """Add bands first..first+count of `pixels` (N, depth) int16, kept bands first_kept.., to sums of start..stop."""
    depth = pixels.shape[1]
    flat = pixels.reshape(pixels.size)
    if LOWEST <= no_data <= HIGHEST and _holds(flat[start * depth : stop * depth], no_data):
        for i in range(start, stop):
            at = i * depth + first
            valid[i] &= not _holds(flat[at : at + count], no_data)
    r = 0
    while r + 3 <= total.shape[0]:
        w0 = weights[r, first_kept : first_kept + count]
        w1 = weights[r + 1, first_kept : first_kept + count]
        w2 = weights[r + 2, first_kept : first_kept + count]
        out0, out1, out2 = total[r], total[r + 1], total[r + 2]
        for i in range(start, stop):
            at = i * depth + first
            spectrum = flat[at : at + count]
            sum0, sum1, sum2 = 0.0, 0.0, 0.0
            for b in range(count):
                x = np.float64(spectrum[b])
                sum0 += w0[b] * x
                sum1 += w1[b] * x
                sum2 += w2[b] * x
            out0[i] += sum0
            out1[i] += sum1
            out2[i] += sum2
        r += 3
    while r < total.shape[0]:
        w0, out0 = weights[r, first_kept : first_kept + count], total[r]
        for i in range(start, stop):
            at = i * depth + first
            spectrum = flat[at : at + count]
            sum0 = 0.0
            for b in range(count):
                sum0 += w0[b] * np.float64(spectrum[b])
            out0[i] += sum0
        r += 1
