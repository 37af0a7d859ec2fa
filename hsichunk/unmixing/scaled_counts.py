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
from hsichunk.chunks.decoded_cache import Place
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

    def decode(self, handle: Any, place: Place) -> NDArray[Any]:
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


def find_range(counts: Counts, window: Window, shown: list[Window]) -> tuple[Ints, Range]:
    """The smallest count of each pixel of a window over its kept bands, and the range over all of them.

    Decodes each stored chunk once. Pixels that none of the windows in `shown` holds have no part, nor has no-data.
    """
    from hsichunk.kernels import shifted_counts

    rows, cols = np.arange(window.top, window.bottom), np.arange(window.left, window.right)
    least, most, lock = np.full(window.shape, NONE), np.full(window.shape, -NONE), threading.Lock()
    number = counts.bands // counts.stored.chunks[2]

    def look(n: int) -> None:
        values = counts.stored.read(rows, cols, counts.bands[number == n], threads=1)
        with lock:
            shifted_counts.widen(
                values.reshape(-1, values.shape[2]), counts.no_data, least.reshape(-1), most.reshape(-1)
            )

    in_parallel(look, np.unique(number).tolist(), asked_for())
    inside = np.zeros(window.shape, np.bool_)
    for part in shown:
        inside[within(part, window)] = True
    least[~inside], most[~inside] = NONE, -NONE
    return least, (int(least.min()), int(most.max()))


def join_ranges(found: Iterable[tuple[Ints, Range]]) -> Range:
    """The range of all windows."""
    low, high = zip(*(one for _, one in found), strict=True)
    return min(low), max(high)


def solve_scaled(counts: Counts, scaled: Scaled, window: Window, found: tuple[Ints, Range], whole: Range) -> Products:
    """Every product of the scaled pixels of a window, given its smallest counts and the range of all windows."""
    low, high = whole
    if low > high:  # nothing but no-data
        low, high = 0, 1
    every = high - low > LARGEST_COUNT
    if not every:
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
        products = solve_window(shifted, replace(solver, floor=1.0), window, asked_for())[0]
    else:  # farther apart than whole numbers of 16 bits
        shape = window.shape
        products = {n: np.full((*v.shape[:-2], *shape), np.nan, np.float32) for n, v in _few(scaled, 1).items()}
    again = [n for n in products if every or n in (schema.SID, schema.SID_SAM)]
    if again:
        _solve_again(counts, scaled, window, found[0] <= (high if every else low), (low, high), again, products)
    return products


def _few(scaled: Scaled, n: int) -> Products:
    return solve_spectra(np.zeros((1, n, scaled.loose.bands)), (None, scaled.loose), 1)


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
