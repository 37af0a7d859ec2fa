"""Unmix a min-max scaled cube that is still stored counts: run the pass over counts less the smallest.

(x - low) / (high - low) of reflectance is (count - lowest count) / (highest - lowest): whole numbers over a scale, as
counts themselves are. So the pass of `hsichunk.unmixing.stored_pass` applies, after one more decode of each chunk that
finds the range; neither puts whole spectra together. The 2.2e-16 that PySpTools adds to each share of a spectrum
matters only where a value is 0. Those few pixels are read once more, and their divergences are computed from floats.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Bools, DaskToken, Floats, Ints, Number
from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.derived import DerivedArray
from hsichunk.chunks.windows import Window, within
from hsichunk.threads import asked_for, in_parallel
from hsichunk.unmixing.scoring import Products
from hsichunk.unmixing.solver import LARGEST_COUNT, Solver, Solvers, prepare
from hsichunk.unmixing.stored_pass import solve_window
from hsichunk.unmixing.values_pass import solve_spectra

NO_DATA = -1  # of counts less the smallest
NONE = np.int64(np.iinfo(np.int64).max)  # the least count of a pixel without data; its negative is the most
AT_ONCE = 64 << 20  # bytes of spectra that are read at a time for pixels with a value of 0

Range: TypeAlias = tuple[int, int]
"""the lowest and the highest count"""
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Scaled:
    """Endmembers and products for a cube whose counts are to be scaled."""

    spectra: Floats
    """(k, L) endmembers, scaled by their own range"""
    solver: Solver
    """for values 0..1 that are not counts"""

    @property
    def products(self) -> tuple[str, ...]:
        """Names of the products."""
        return self.solver.products

    @property
    def k(self) -> int:
        """Number of endmembers."""
        return self.solver.k

    def __dask_tokenize__(self) -> DaskToken:
        return ("hsichunk.Scaled", self.spectra.tobytes(), self.solver.__dask_tokenize__())


class ShiftedCounts(DerivedArray):
    """Stored counts less `low`, times `times`, as int16; -1 for no-data. Results that do not fit into int16 wrap."""

    def __init__(self, base: ChunkedArray, low: int, times: int, no_data: int) -> None:
        unwritten = base.fill is not None and base.fill == no_data
        super().__init__(base, dtype=np.dtype(np.int16), fill=np.asarray(NO_DATA, np.int16) if unwritten else None)
        self.low, self.times, self.no_data = low, times, no_data

    def __dask_tokenize__(self) -> DaskToken:
        return ("hsichunk.ShiftedCounts", self.base.__dask_tokenize__(), self.low, self.times, self.no_data)

    def decode(self, handle: Any, coords: ChunkCoords) -> NDArray[np.int16]:
        """Return the decoded chunk at `coords`, shifted."""
        from hsichunk.kernels import shifted_counts

        values = self.base.chunk(handle, coords)
        shifted = np.empty(values.shape, np.int16)
        shifted_counts.shift(_flat(values), self.low, self.times, self.no_data, NO_DATA, shifted.reshape(-1))
        return shifted


def _flat(values: NDArray[T]) -> NDArray[T]:
    """Return the values as one read-only dimension.

    Decoded bytes are read-only; making all arrays so lets one compiled kernel serve them all.
    """
    view = np.ascontiguousarray(values).reshape(-1).view()
    view.flags.writeable = False
    return view


def find_ends(
    counts: Counts | None, window: Window, shown: Iterable[Window], dtype: np.dtype[Number]
) -> NDArray[np.integer]:
    """Return the smallest and the largest count (2, rows, columns), as `dtype`, of each pixel over its kept bands.

    Decodes each stored chunk once. Pixels outside all windows in `shown`, and pixels of nothing but no-data, get the
    largest value of `dtype` as their smallest count and the smallest as their largest, which widens no range.
    """
    least, most = np.full(window.shape, NONE), np.full(window.shape, -NONE)
    if counts is not None:
        _widen(counts, window, least, most)
    inside = np.zeros(window.shape, np.bool_)
    for part in shown:
        inside[within(part, window)] = True
    inside &= least <= most
    limits = np.iinfo(dtype.str)
    return np.stack([np.where(inside, least, limits.max), np.where(inside, most, limits.min)]).astype(dtype)


def _widen(counts: Counts, window: Window, least: Ints, most: Ints) -> None:
    """Lower `least` and raise `most` (rows, columns) to the counts of the pixels of a window that are data."""
    from hsichunk.kernels import shifted_counts

    rows, cols = np.arange(window.top, window.bottom), np.arange(window.left, window.right)
    chunk_number, lock = counts.bands // counts.stored.chunks[2], threading.Lock()

    def widen_by(number: int) -> None:
        values = counts.stored.read(rows, cols, counts.bands[chunk_number == number], threads=1)
        with lock:
            shifted_counts.widen_range(
                values.reshape(-1, values.shape[2]), counts.no_data, least.reshape(-1), most.reshape(-1)
            )

    in_parallel(widen_by, np.unique(chunk_number).tolist(), asked_for())


def range_of(
    ends: NDArray[np.integer], axis: tuple[int, ...] | None = None, keepdims: bool = True
) -> NDArray[np.integer]:
    """Return the range (2, 1, 1) of all pixels from their ends (2, rows, columns).

    `axis` and `keepdims` are there because dask passes them to the functions of a reduction; they change nothing.
    """
    return np.stack([ends[0].min(), ends[1].max()]).reshape(2, 1, 1)


def solve_scaled(
    counts: Counts, scaled: Scaled, window: Window, ends: NDArray[np.integer], extent: Range, products: Products
) -> None:
    """Fill the arrays `products` with those of the scaled pixels of a window.

    `ends` (2, rows, columns) are the pixels' own smallest and largest counts, `extent` those of the cube.
    """
    low, high = extent
    if low > high:  # nothing but no-data
        low, high = 0, 1
    all_as_floats = high - low > LARGEST_COUNT  # counts less the smallest do not fit into int16
    if all_as_floats:
        for values in products.values():
            values.fill(np.nan)
    else:
        # a small range is spread in finer units: the limits of the solver are made for counts by the thousand
        times = max(1, int(schema.NEON_SCALE) // max(high - low, 1))
        shifted = replace(counts, stored=ShiftedCounts(counts.stored, low, times, counts.no_data), no_data=NO_DATA)
        unit = float(max(high - low, 1) * times)
        solver = prepare(
            scaled.spectra,
            scaled.solver.names,
            scaled.solver.products,
            unit,
            exact=True,
            guard=scaled.solver.guard,
            constraint=scaled.solver.constraint,
        )
        solve_window(shifted, replace(solver, floor=1.0), window, asked_for(), products)
    from_floats = [name for name in products if all_as_floats or name in (schema.SID, schema.SID_SAM)]
    if from_floats:
        pixels = (ends[0] <= ends[1]) & (ends[0] <= (high if all_as_floats else low))
        _solve_as_floats(counts, scaled, window, pixels, (low, high), from_floats, products)


def _solve_as_floats(
    counts: Counts,
    scaled: Scaled,
    window: Window,
    pixels: Bools,
    extent: Range,
    names: list[str],
    products: Products,
) -> None:
    """Compute some products of some pixels (rows, columns) of a window from their spectra as floats."""
    rows, cols = np.nonzero(pixels)
    step = max(1, AT_ONCE // (8 * scaled.solver.bands))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        values = counts.gather(rows[part] + window.top, cols[part] + window.left, asked_for())
        floats = (values.astype(np.float64) - extent[0]) / max(extent[1] - extent[0], 1)
        floats[values == counts.no_data] = np.nan
        solved = solve_spectra(floats[None], Solvers(None, scaled.solver), asked_for())
        for name in names:
            products[name][..., rows[part], cols[part]] = solved[name][..., 0, :]
