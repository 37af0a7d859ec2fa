"""Min-max scaling of stored counts: the range of each pixel's counts, and counts shifted to the lowest one."""

from __future__ import annotations

import numpy as np

from hsichunk.array_types import Int16s, Ints, Numbers
from hsichunk.kernels.compiled import compiled


@compiled()
def widen_range(counts: Numbers, no_data: int, least: Ints, most: Ints) -> None:
    """Widen the range `least` (n,) to `most` (n,) of each pixel to its counts (n, bands) other than `no_data`."""
    for i in range(counts.shape[0]):
        low, high = least[i], most[i]
        for j in range(counts.shape[1]):
            c = np.int64(counts[i, j])
            if c != no_data:
                low = min(low, c)
                high = max(high, c)
        least[i] = low
        most[i] = high


@compiled()
def shift(counts: Numbers, low: int, times: int, no_data: int, marker: int, out: Int16s) -> None:
    """`out` (n,) int16 = times (counts - low), `marker` where counts are `no_data`; what does not fit wraps."""
    for i in range(counts.shape[0]):
        c = np.int64(counts[i])
        out[i] = np.int16(marker if c == no_data else (c - low) * times)
