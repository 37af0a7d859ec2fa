"""What min-max scaling asks of stored counts: their range, and counts less the smallest."""

from __future__ import annotations

from typing import Any

import numpy as np

from hsichunk.kernels.compiled import compiled


@compiled()
def widen(counts: Any, no_data: int, least: Any, most: Any) -> None:
    """Lowers `least` (n,) and raises `most` (n,) int64 to the counts (n, bands) of each pixel that are data."""
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
def shift(counts: Any, low: int, times: int, no_data: int, marker: int, out: Any) -> None:
    """`out` (n,) int16 = times (counts - low), the marker where they are no data; what does not fit wraps."""
    for i in range(counts.shape[0]):
        c = np.int64(counts[i])
        out[i] = np.int16(marker if c == no_data else (c - low) * times)
