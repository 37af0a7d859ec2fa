"""Statistics of bands that arrive in blocks, with the same bits for any blocks, in any order, on any threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bytes, Floats

Scalar = TypeVar("Scalar", bound=np.generic)

_PIECE_BITS: Final = 14
_PIECE: Final = 1 << _PIECE_BITS  # pixels that are summed at a time, so few that temporaries stay in the cache
_KEPT_BITS: Final = 53 - _PIECE_BITS - 2  # of a value, below the largest, in one round: sums of so few are exact
_POINT: Final = 1130  # sums are whole numbers of 2**-1130, as every float is
_LARGEST: Final = 1e150  # the square of a value below it is finite


@dataclass
class _Band:
    """The statistics of a band so far; `total` and `squares` are in units of 2**-1130."""

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

    No-data pixels and numbers that are not finite do not count. Sums are exact (of squares that are each rounded to
    float64 once), so the order of additions cannot change a bit. Source of the sum without rounding: Rump, Ogita and
    Oishi, SIAM J. Sci. Comput. 31 (2008) 189.
    """

    def __init__(self, bands: int, no_data: float | None) -> None:
        self._no_data = None if no_data is None or math.isnan(no_data) else no_data
        self._bands = [_Band() for _ in range(bands)]
        self._lock = threading.Lock()

    def add(self, first: int, block: NDArray[np.generic]) -> None:
        """Add pixels (bands, rows, columns) of the bands from number `first` (0 is the first of all) on."""
        parts = [self._statistics_of(values) for values in block]
        with self._lock:
            for band, part in zip(self._bands[first:], parts, strict=False):
                band.add(part)

    def tags(self, number: int) -> dict[str, str]:
        """Return GDAL's metadata items of a band, counted from 0."""
        band = self._bands[number]
        tags = {"STATISTICS_VALID_PERCENT": _percent(band.valid, band.pixels)}
        if band.valid:
            tags |= {"STATISTICS_MINIMUM": repr(band.low), "STATISTICS_MAXIMUM": repr(band.high)}
        if band.valid and max(-band.low, band.high) < _LARGEST:
            n = band.valid
            spread = max((n * band.squares << _POINT) - band.total**2, 0)  # n**2 times the variance
            tags["STATISTICS_MEAN"] = repr(band.total / (n << _POINT))
            tags["STATISTICS_STDDEV"] = repr(math.sqrt(spread / (n * n << 2 * _POINT)))
        return tags

    def _statistics_of(self, values: NDArray[np.generic]) -> _Band:
        band = _Band(pixels=values.size)
        for piece in _pieces(values):
            if piece.dtype.kind == "f":
                valid = np.isfinite(piece)
            elif self._no_data is not None:
                valid = piece != self._no_data
            else:
                valid = np.ones(piece.shape, bool)
            numbers = (piece if valid.all() else piece[valid]).astype(np.float64)
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

    def add(self, first: int, block: Bytes) -> None:
        """Add pixels (1, rows, columns); `first` is 0, as a class map has one band."""
        del first
        for piece in _pieces(block[0]):
            counts = np.bincount(piece, minlength=256)
            with self._lock:
                self.counts += counts


def _pieces(values: NDArray[Scalar]) -> Iterator[NDArray[Scalar]]:
    """Yield parts of values (rows, columns), each flat and of at most 2**14 pixels."""
    rows, cols = values.shape
    width = min(cols, _PIECE)
    height = _PIECE // width
    for top in range(0, rows, height):
        for left in range(0, cols, width):
            yield values[top : top + height, left : left + width].ravel()


def _exact_sum(values: Floats, largest: float) -> int:
    """Return the sum of at most 2**14 numbers up to `largest`, in units of 2**-1130; `values` are overwritten."""
    total = 0
    exponent = math.frexp(largest)[1] + 1  # one more, as the largest of squares may be rounded
    while values.any():
        # Adding the cutter keeps only the highest bits of each value: their sum has fewer than 53 and is not rounded.
        cutter = math.ldexp(1.0, exponent + 53 - _KEPT_BITS)
        high = (values + cutter) - cutter
        values -= high
        total += _fixed(float(high.sum()))
        exponent -= _KEPT_BITS
    return total


def _fixed(value: float) -> int:
    """Return a float in units of 2**-1130, exactly."""
    mantissa, exponent = math.frexp(value)
    return int(math.ldexp(mantissa, 53)) << (exponent - 53 + _POINT)


def _percent(valid: int, pixels: int) -> str:
    """Return the share of valid pixels as GDAL writes it: 100 only where all of them are valid."""
    text = f"{100 * valid / pixels:.4g}"
    return "99.99" if text == "100" and valid < pixels else text
