"""Statistics of bands that arrive in blocks: the same bits whatever the blocks, their order and their threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_PIECE_BITS: Final = 14
_PIECE: Final = 1 << _PIECE_BITS  # pixels that are summed at a time: what is made of them stays in the cache
_KEPT_BITS: Final = 53 - _PIECE_BITS - 2  # of a value, below the largest, in one round: sums of so few bits are exact
_POINT: Final = 1130  # sums are whole numbers of 2**-1130: every float is one
_LARGEST: Final = 1e150  # whose square is a float yet


@dataclass
class _Band:
    """What is known of a band so far; `total` and `squares` in units of 2**-1130."""

    pixels: int = 0
    valid: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: int = 0
    squares: int = 0

    def add(self, other: _Band) -> None:
        self.pixels += other.pixels
        self.valid += other.valid
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total += other.total
        self.squares += other.squares


class BandStatistics:
    """Minimum, maximum, mean, standard deviation and share of valid pixels of each band; thread-safe.

    No-data pixels and numbers that are not finite do not count. Sums are exact (float64 squares are rounded once, each
    by itself), so no order of additions can change a bit. Source: Rump, Ogita and Oishi, SIAM J. Sci. Comput. 31
    (2008) 189, for the sum without rounding.
    """

    def __init__(self, bands: int, no_data: float | None) -> None:
        self._no_data = None if no_data is None or math.isnan(no_data) else no_data
        self._bands = [_Band() for _ in range(bands)]
        self._lock = threading.Lock()

    def add(self, first: int, block: NDArray[Any]) -> None:
        """Counts pixels (bands, rows, columns) of the bands from `first` (0 is the first of all) on."""
        found = [self._of(values) for values in block]
        with self._lock:
            for band, more in zip(self._bands[first:], found, strict=False):
                band.add(more)

    def tags(self, band: int) -> dict[str, str]:
        """GDAL's metadata items of a band (from 0)."""
        one = self._bands[band]
        tags = {"STATISTICS_VALID_PERCENT": _percent(one.valid, one.pixels)}
        if one.valid:
            tags |= {"STATISTICS_MINIMUM": repr(one.low), "STATISTICS_MAXIMUM": repr(one.high)}
        if one.valid and max(-one.low, one.high) < _LARGEST:
            n = one.valid
            spread = max((n * one.squares << _POINT) - one.total**2, 0)  # n**2 times the variance
            tags["STATISTICS_MEAN"] = repr(one.total / (n << _POINT))
            tags["STATISTICS_STDDEV"] = repr(math.sqrt(spread / (n * n << 2 * _POINT)))
        return tags

    def _of(self, values: NDArray[Any]) -> _Band:
        band = _Band(pixels=values.size)
        for piece in _pieces(values):
            if piece.dtype.kind == "f":
                good = np.isfinite(piece)
            elif self._no_data is not None:
                good = piece != self._no_data
            else:
                good = np.ones(piece.shape, bool)
            numbers = (piece if good.all() else piece[good]).astype(np.float64)
            if numbers.size:
                low, high = float(numbers.min()), float(numbers.max())
                largest = max(-low, high)
                band.add(_Band(0, numbers.size, low, high))
                if 0 < largest < _LARGEST:
                    band.squares += _exact_sum(numbers * numbers, largest * largest)
                    band.total += _exact_sum(numbers, largest)
        return band


class ClassCounts:
    """Pixels of each value of a class map; thread-safe."""

    def __init__(self) -> None:
        self.counts = np.zeros(256, np.int64)
        self._lock = threading.Lock()

    def add(self, first: int, block: NDArray[np.uint8]) -> None:
        """Counts pixels (1, rows, columns)."""
        del first
        for piece in _pieces(block[0]):
            found = np.bincount(piece, minlength=256)
            with self._lock:
                self.counts += found


def _pieces(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Parts of (rows, columns), each flat and small."""
    rows, cols = values.shape
    wide = min(cols, _PIECE)
    high = _PIECE // wide
    for top in range(0, rows, high):
        for left in range(0, cols, wide):
            yield values[top : top + high, left : left + wide].ravel()


def _exact_sum(values: NDArray[np.float64], largest: float) -> int:
    """The sum of at most 2**14 numbers up to `largest`, in units of 2**-1130; takes `values` apart."""
    total = 0
    exponent = math.frexp(largest)[1] + 1  # of squares `largest` may be rounded
    while values.any():
        # adding this cuts off all but the highest bits of each: their sum has fewer than 53, and is not rounded
        cutter = math.ldexp(1.0, exponent + 53 - _KEPT_BITS)
        high = (values + cutter) - cutter
        values -= high
        total += _fixed(float(high.sum()))
        exponent -= _KEPT_BITS
    return total


def _fixed(value: float) -> int:
    mantissa, exponent = math.frexp(value)
    return int(math.ldexp(mantissa, 53)) << (exponent - 53 + _POINT)


def _percent(valid: int, pixels: int) -> str:
    """As GDAL says it: 100 is all of them."""
    text = f"{100 * valid / pixels:.4g}"
    return "99.99" if text == "100" and valid < pixels else text
