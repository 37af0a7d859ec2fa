"""Everything the report says of the maps, from two readings of them, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema

BINS = 60
NO_DATA = schema.CLASS_NO_DATA


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many pixels have which value, over the range of the data."""

    counts: NDArray[np.int64]
    low: float
    high: float

    @property
    def edges(self) -> NDArray[np.float64]:
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    def percentile(self, share: float) -> float:
        """The upper edge of the bin that a share (0..1) of the pixels lies up to."""
        total = int(self.counts.sum())
        if not total:
            return self.high
        return float(self.edges[1 + int(np.searchsorted(np.cumsum(self.counts), share * total))])


@dataclass(frozen=True, eq=False)
class Sums:
    """What came of all pixels."""

    valid: int
    mean: NDArray[np.float64]
    """abundance of each endmember"""
    abundance: tuple[Histogram, ...]
    rmse: Histogram
    mean_rmse: float
    classes: dict[str, NDArray[np.int64]]
    """by map: pixels of each value, 0 to 255"""
    compared: tuple[str, ...]
    """the first two class maps, where there are two: those of SAM and SID, if they are there"""
    pairs: NDArray[np.int64]
    """(k + 1, k + 1) pixels by the classes of these two"""
    pictures: dict[str, NDArray[Any]]
    """abundance (drawn, h, w) and rmse (h, w) as means of cells, NaN without data; class maps (h, w) as samples"""
    drawn: tuple[int, ...]
    """which endmembers have a picture"""
    steps: dict[str, int]
    """pixels of the map along a side of a pixel of a picture"""


def blocks(products: xr.Dataset) -> Iterator[dict[str, slice]]:
    """The stored chunks of the maps, row by row."""
    layout = products[schema.RMSE].encoding.get("preferred_chunks", {})
    sides = {dim: max(1, int(layout.get(dim, 256))) for dim in (schema.Y, schema.X)}
    rows, cols = products.sizes[schema.Y], products.sizes[schema.X]
    for top in range(0, rows, sides[schema.Y]):
        for left in range(0, cols, sides[schema.X]):
            yield {
                schema.Y: slice(top, min(top + sides[schema.Y], rows)),
                schema.X: slice(left, min(left + sides[schema.X], cols)),
            }


def samples(size: int, step: int) -> NDArray[np.intp]:
    """The pixel in the middle of each `step` along a side."""
    return np.minimum(np.arange(0, size, step) + step // 2, size - 1)


def step_for(rows: int, cols: int, side: int) -> int:
    """How many pixels make one of a picture whose longer side is `side` at most."""
    return max(1, -(-max(rows, cols) // side))


def read_sums(products: xr.Dataset, side: int, most_drawn: int, abundance_pixels: int) -> Sums:
    """Reads abundances, rmse and class maps. Pictures are `side` pixels long at most.

    `most_drawn` endmembers, those of the greatest mean abundance, get a picture; these have `abundance_pixels` together
    at most.
    """
    valid, total, low, high = _ranges(products)
    k = len(total)
    mean = total / max(valid, 1)
    drawn = tuple(sorted(np.argsort(-mean, kind="stable")[:most_drawn].tolist()))
    rows, cols = products.sizes[schema.Y], products.sizes[schema.X]
    small = min(side, max(32, int((abundance_pixels / len(drawn)) ** 0.5)))
    step, small_step = step_for(rows, cols, side), step_for(rows, cols, small)

    layers = [*(schema.ABUNDANCE,) * k, schema.RMSE]
    counts = np.zeros((len(layers), BINS), np.int64)
    cells = {
        schema.ABUNDANCE: _Cells((len(drawn),), rows, cols, small_step),
        schema.RMSE: _Cells((), rows, cols, step),
    }
    picked = samples(rows, step), samples(cols, step)
    names = tuple(name for name in schema.CLASS_OF.values() if name in products)
    compared = names[:2] if len(names) > 1 else ()
    classes = {name: np.full((len(picked[0]), len(picked[1])), NO_DATA, np.uint8) for name in names}
    tallies = {name: np.zeros(256, np.int64) for name in names}
    pairs = np.zeros((256, 256), np.int64)
    rmse_total = 0.0
    for place in blocks(products):
        abundance = products[schema.ABUNDANCE].isel(place).transpose(schema.ENDMEMBER, schema.Y, schema.X).values
        rmse = products[schema.RMSE].isel(place).values
        for index, layer in enumerate((*abundance, rmse)):
            counts[index] += _histogram(layer, low[index], high[index])
        rmse_total += float(np.nansum(rmse, dtype=np.float64))
        cells[schema.ABUNDANCE].add(abundance[list(drawn)], place)
        cells[schema.RMSE].add(rmse, place)
        label = {name: products[name].isel(place).values for name in names}
        for name, values in label.items():
            tallies[name] += np.bincount(values.ravel(), minlength=256)
            _pick(classes[name], values, place, picked)
        if compared:
            both = label[compared[0]].astype(np.intp) * 256 + label[compared[1]]
            pairs += np.bincount(both.ravel(), minlength=1 << 16).reshape(256, 256)

    histograms = [Histogram(c, float(a), float(b)) for c, a, b in zip(counts, low, high, strict=True)]
    return Sums(
        valid,
        mean,
        tuple(histograms[:-1]),
        histograms[-1],
        rmse_total / max(valid, 1),
        tallies,
        compared,
        pairs[: k + 1, : k + 1],
        {**{name: each.mean() for name, each in cells.items()}, **classes},
        drawn,
        {schema.ABUNDANCE: small_step, schema.RMSE: step},
    )


def _ranges(products: xr.Dataset) -> tuple[int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pixels with data, the sum of each abundance, and least and greatest value of each abundance and of the rmse."""
    k = products.sizes[schema.ENDMEMBER]
    low, high = np.full(k + 1, np.inf), np.full(k + 1, -np.inf)
    total = np.zeros(k)
    valid = 0
    for place in blocks(products):
        abundance = products[schema.ABUNDANCE].isel(place).transpose(schema.ENDMEMBER, schema.Y, schema.X).values
        rmse = products[schema.RMSE].isel(place).values
        valid += int(np.isfinite(rmse).sum())
        total += np.nansum(abundance, axis=(1, 2), dtype=np.float64)
        for index, layer in enumerate((*abundance, rmse)):
            found = layer[np.isfinite(layer)]
            if found.size:
                low[index] = min(low[index], float(found.min()))
                high[index] = max(high[index], float(found.max()))
    empty = ~(low < high)  # one value, or none
    middle = np.where(np.isfinite(low), low, 0.0)
    low, high = np.where(empty, middle - 0.5e-3, low), np.where(empty, middle + 0.5e-3, high)
    return valid, total, low, high


def _histogram(layer: NDArray[Any], low: float, high: float) -> NDArray[np.int64]:
    found = layer[np.isfinite(layer)]
    return np.histogram(found.astype(np.float64), BINS, (low, high))[0].astype(np.int64)


def _pick(
    picture: NDArray[np.uint8],
    values: NDArray[np.uint8],
    place: dict[str, slice],
    picked: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> None:
    at, of = [], []
    for dim, positions in zip((schema.Y, schema.X), picked, strict=True):
        inside = (positions >= place[dim].start) & (positions < place[dim].stop)
        at.append(np.flatnonzero(inside))
        of.append(positions[inside] - place[dim].start)
    picture[np.ix_(*at)] = values[np.ix_(*of)]


class _Cells:
    """Means over cells of `step` x `step` pixels."""

    def __init__(self, layers: tuple[int, ...], rows: int, cols: int, step: int) -> None:
        shape = (*layers, -(-rows // step), -(-cols // step))
        self._step = step
        self._total, self._count = np.zeros(shape, np.float32), np.zeros(shape, np.int32)

    def add(self, values: NDArray[Any], place: dict[str, slice]) -> None:
        known = np.isfinite(values)
        into: list[slice] = []
        starts: list[NDArray[np.intp]] = []
        for dim in (schema.Y, schema.X):
            cell = np.arange(place[dim].start, place[dim].stop) // self._step
            into.append(slice(int(cell[0]), int(cell[-1]) + 1))
            starts.append(np.flatnonzero(np.diff(cell, prepend=cell[0] - 1)))
        for sums, layer in ((self._total, np.where(known, values, 0)), (self._count, known.astype(np.int32))):
            summed = np.add.reduceat(np.add.reduceat(layer, starts[0], axis=-2), starts[1], axis=-1)
            sums[..., into[0], into[1]] += summed

    def mean(self) -> NDArray[np.float32]:
        with np.errstate(invalid="ignore"):
            return np.asarray(self._total / self._count, np.float32)
