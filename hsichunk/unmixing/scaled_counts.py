"""Min-max scaling of a cube that still is stored counts: the pass of `hsichunk.unmixing.stored_pass` over counts less
the smallest.

(x - low) / (high - low) of reflectance is (count - lowest count) / (highest - lowest): whole numbers over a scale, as
counts themselves are. The range comes first, from one more decode of each chunk, and no spectrum is put together for
either. What PySpTools adds to each share of a spectrum tells where a value is 0, and nowhere else: those few pixels are
read once more, and their divergences made of floats.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Ints
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.derived import DerivedArray
from hsichunk.chunks.windows import Window, within
from hsichunk.threads import asked_for, in_parallel
from hsichunk.unmixing.scoring import Products
from hsichunk.unmixing.solver import LARGEST_COUNT, Solver, prepare
from hsichunk.unmixing.stored_pass import solve_window
from hsichunk.unmixing.values_pass import solve_spectra

NO_DATA = -1  # of counts less the smallest
NONE = np.int64(np.iinfo(np.int64).max)
AT_ONCE = 64 << 20  # bytes of the spectra of pixels that are read once more

Range = tuple[int, int]


@dataclass(frozen=True)
class Scaled:
    """What is asked of a cube whose counts are to be scaled."""

    spectra: NDArray[np.float64]
    """(p, L) endmembers, scaled by their own range"""
    loose: Solver
    """of values 0..1 that are no counts"""

    @property
    def products(self) -> tuple[str, ...]:
        return self.loose.products

    @property
    def k(self) -> int:
        """Number of endmembers."""
        return self.loose.k

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("hsichunk.Scaled", self.spectra.tobytes(), self.loose.__dask_tokenize__())


class ShiftedCounts(DerivedArray):
    """`times` stored counts less the smallest of them, as int16; -1 for no-data. Beyond the range they mean nothing."""

    def __init__(self, base: ChunkedArray, low: int, times: int, no_data: int) -> None:
        unwritten = base.fill is not None and base.fill == no_data
        super().__init__(base, dtype=np.dtype(np.int16), fill=np.asarray(NO_DATA, np.int16) if unwritten else None)
        self.low, self.times, self.no_data = low, times, no_data

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("hsichunk.ShiftedCounts", self.base.__dask_tokenize__(), self.low, self.times, self.no_data)

    def decode(self, handle: Any, place: ChunkCoords) -> NDArray[Any]:
        """The decoded chunk at `place`, shifted."""
        from hsichunk.kernels import shifted_counts

        values = self.base.chunk(handle, place)
        shifted = np.empty(values.shape, np.int16)
        shifted_counts.shift(_flat(values), self.low, self.times, self.no_data, NO_DATA, shifted.reshape(-1))
        return shifted


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """The same, not to be written: decoded bytes are not, and one kind of array is one compilation."""
    view = np.ascontiguousarray(values).reshape(-1).view()
    view.flags.writeable = False
    return view


def find_ends(counts: Counts | None, window: Window, shown: Iterable[Window], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The smallest and the largest count (2, rows, columns) of each pixel of a window over its kept bands.

    Decodes each stored chunk once. Pixels that none of the windows in `shown` holds, and those of nothing but no-data,
    have the ends of `dtype` the wrong way round, which widen no range.
    """
    least, most = np.full(window.shape, NONE), np.full(window.shape, -NONE)
    if counts is not None:
        _widen(counts, window, least, most)
    inside = np.zeros(window.shape, np.bool_)
    for part in shown:
        inside[within(part, window)] = True
    inside &= least <= most
    limits = np.iinfo(dtype)
    return np.stack([np.where(inside, least, limits.max), np.where(inside, most, limits.min)]).astype(dtype)


def _widen(counts: Counts, window: Window, least: Ints, most: Ints) -> None:
    from hsichunk.kernels import shifted_counts

    rows, cols = np.arange(window.top, window.bottom), np.arange(window.left, window.right)
    number, lock = counts.bands // counts.stored.chunks[2], threading.Lock()

    def look(n: int) -> None:
        values = counts.stored.read(rows, cols, counts.bands[number == n], threads=1)
        with lock:
            shifted_counts.widen(
                values.reshape(-1, values.shape[2]), counts.no_data, least.reshape(-1), most.reshape(-1)
            )

    in_parallel(look, np.unique(number).tolist(), asked_for())


def range_of(ends: NDArray[Any], axis: Any = None, keepdims: bool = True) -> NDArray[Any]:
    """The range (2, 1, 1) of all pixels whose own ends (2, rows, columns) are given, as dask reduces an array."""
    return np.stack([ends[0].min(), ends[1].max()]).reshape(2, 1, 1)


def solve_scaled(
    counts: Counts, scaled: Scaled, window: Window, ends: NDArray[Any], whole: Range, products: Products
) -> None:
    """Every product of the scaled pixels of a window, given their own ends and the range of all, put into arrays."""
    low, high = whole
    if low > high:  # nothing but no-data
        low, high = 0, 1
    every = high - low > LARGEST_COUNT  # farther apart than whole numbers of 16 bits
    if every:
        for values in products.values():
            values.fill(np.nan)
    else:
        # a small range is a larger one in finer units: the solver knows what is little among counts by the thousand
        times = max(1, int(schema.NEON_SCALE) // max(high - low, 1))
        shifted = replace(counts, stored=ShiftedCounts(counts.stored, low, times, counts.no_data), no_data=NO_DATA)
        loose = scaled.loose
        unit = float(max(high - low, 1) * times)
        solver = prepare(
            scaled.spectra,
            loose.names,
            loose.products,
            unit,
            exact=True,
            guard=loose.guard,
            constraint=loose.constraint,
        )
        solve_window(shifted, replace(solver, floor=1.0), window, asked_for(), products)
    again = [n for n in products if every or n in (schema.SID, schema.SID_SAM)]
    if again:
        dark = (ends[0] <= ends[1]) & (ends[0] <= (high if every else low))
        _solve_again(counts, scaled, window, dark, (low, high), again, products)


def _solve_again(
    counts: Counts,
    scaled: Scaled,
    window: Window,
    which: NDArray[np.bool_],
    whole: Range,
    names: list[str],
    products: Products,
) -> None:
    """Some products of some pixels anew, from their own spectra as floats."""
    rows, cols = np.nonzero(which)
    step = max(1, AT_ONCE // (8 * scaled.loose.bands))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        values = counts.gather(rows[part] + window.top, cols[part] + window.left, asked_for())
        floats = (values.astype(np.float64) - whole[0]) / max(whole[1] - whole[0], 1)
        floats[values == counts.no_data] = np.nan
        made = solve_spectra(floats[None], (None, scaled.loose), asked_for())
        for name in names:
            products[name][..., rows[part], cols[part]] = made[name][..., 0, :]
