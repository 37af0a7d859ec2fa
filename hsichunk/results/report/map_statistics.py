"""Statistics and small pictures of the maps for the report, from two readings of them, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bytes, Float32s, Floats, Ints, Positions

BINS = 60  # of a histogram
NO_DATA = schema.CLASS_NO_DATA


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many pixels have which value, in equal bins over the range of the data."""

    counts: Ints
    """pixels of each bin"""
    low: float
    high: float

    @property
    def edges(self) -> Floats:
        """The edges of the bins, one more than there are bins."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    def percentile(self, share: float) -> float:
        """Return the upper edge of the bin up to which a share (0..1) of the pixels lies."""
        total = int(self.counts.sum())
        if not total:
            return self.high
        return float(self.edges[1 + int(np.searchsorted(np.cumsum(self.counts), share * total))])


@dataclass(frozen=True, eq=False)
class MapStatistics:
    """Statistics of all pixels of the maps, and a small picture of each map."""

    valid: int
    """pixels with data"""
    mean: Floats
    """(k,) mean abundance of each endmember"""
    abundance: tuple[Histogram, ...]
    """of each endmember"""
    rmse: Histogram
    mean_rmse: float
    classes: dict[str, Ints]
    """by class map: pixels of each value, 0 to 255"""
    compared: tuple[str, ...]
    """the first two class maps, where there are two: those of SAM and SID, if they are there"""
    pairs: Ints
    """(k + 1, k + 1) pixels by the classes of these two"""
    abundance_pictures: Float32s
    """(drawn, h, w) means of cells, NaN without data"""
    rmse_picture: Float32s
    """(h, w) means of cells, NaN without data"""
    class_pictures: dict[str, Bytes]
    """by class map: (h, w) every n-th pixel"""
    drawn: tuple[int, ...]
    """which endmembers have a picture"""
    abundance_step: int
    """pixels of the map along a side of a pixel of an abundance picture"""
    step: int
    """the same of the pictures of rmse and classes"""


def blocks(products: xr.Dataset) -> Iterator[dict[str, slice]]:
    """Yield the rows and columns of the stored chunks of the maps, one row of chunks after the other."""
    layout = products[schema.RMSE].encoding.get("preferred_chunks", {})
    sides = {dim: max(1, int(layout.get(dim, 256))) for dim in (schema.Y, schema.X)}
    rows, cols = products.sizes[schema.Y], products.sizes[schema.X]
    for top in range(0, rows, sides[schema.Y]):
        for left in range(0, cols, sides[schema.X]):
            yield {
                schema.Y: slice(top, min(top + sides[schema.Y], rows)),
                schema.X: slice(left, min(left + sides[schema.X], cols)),
            }


def samples(size: int, step: int) -> Positions:
    """Return the pixel in the middle of each `step` along a side of `size` pixels."""
    return np.minimum(np.arange(0, size, step) + step // 2, size - 1)


def step_for(rows: int, cols: int, side: int) -> int:
    """Return how many pixels along a side make one of a picture whose longer side is `side` pixels at most."""
    return max(1, -(-max(rows, cols) // side))


def read_statistics(products: xr.Dataset, side: int, most_drawn: int, abundance_pixels: int) -> MapStatistics:
    """Read abundances, rmse and class maps. The longer side of a picture has `side` pixels at most.

    `most_drawn` endmembers, those of the greatest mean abundance, get a picture; all these pictures together have
    `abundance_pixels` pixels at most.
    """
    valid, total, low, high = _ranges(products)
    k = len(total)
    mean = total / max(valid, 1)
    drawn = tuple(sorted(np.argsort(-mean, kind="stable")[:most_drawn].tolist()))
    rows, cols = products.sizes[schema.Y], products.sizes[schema.X]
    abundance_side = min(side, max(32, int((abundance_pixels / len(drawn)) ** 0.5)))
    step, abundance_step = step_for(rows, cols, side), step_for(rows, cols, abundance_side)

    layers = [*(schema.ABUNDANCE,) * k, schema.RMSE]
    counts = np.zeros((len(layers), BINS), np.int64)
    abundance_cells = _CellMeans((len(drawn),), rows, cols, abundance_step)
    rmse_cells = _CellMeans((), rows, cols, step)
    sampled = samples(rows, step), samples(cols, step)
    names = tuple(name for name in schema.CLASS_OF.values() if name in products)
    compared = names[:2] if len(names) > 1 else ()
    class_pictures = {name: np.full((len(sampled[0]), len(sampled[1])), NO_DATA, np.uint8) for name in names}
    class_counts = {name: np.zeros(256, np.int64) for name in names}
    pairs = np.zeros((256, 256), np.int64)
    rmse_total = 0.0
    for block in blocks(products):
        abundance = products[schema.ABUNDANCE].isel(block).transpose(schema.ENDMEMBER, schema.Y, schema.X).values
        rmse = products[schema.RMSE].isel(block).values
        for index, layer in enumerate((*abundance, rmse)):
            counts[index] += _histogram(layer, low[index], high[index])
        rmse_total += float(np.nansum(rmse, dtype=np.float64))
        abundance_cells.add(abundance[list(drawn)], block)
        rmse_cells.add(rmse, block)
        label = {name: products[name].isel(block).values for name in names}
        for name, values in label.items():
            class_counts[name] += np.bincount(values.ravel(), minlength=256)
            _copy_samples(class_pictures[name], values, block, sampled)
        if compared:
            pair = label[compared[0]].astype(np.intp) * 256 + label[compared[1]]
            pairs += np.bincount(pair.ravel(), minlength=1 << 16).reshape(256, 256)

    histograms = [Histogram(c, float(a), float(b)) for c, a, b in zip(counts, low, high, strict=True)]
    return MapStatistics(
        valid=valid,
        mean=mean,
        abundance=tuple(histograms[:-1]),
        rmse=histograms[-1],
        mean_rmse=rmse_total / max(valid, 1),
        classes=class_counts,
        compared=compared,
        pairs=pairs[: k + 1, : k + 1],
        abundance_pictures=abundance_cells.mean(),
        rmse_picture=rmse_cells.mean(),
        class_pictures=class_pictures,
        drawn=drawn,
        abundance_step=abundance_step,
        step=step,
    )


def _ranges(products: xr.Dataset) -> tuple[int, Floats, Floats, Floats]:
    """Return the pixels with data, the sum of each abundance (k,), and the ends of the ranges of all layers.

    These are the least and the greatest value of each abundance and, last, of the rmse: (k + 1,) and (k + 1,). A range
    without width is widened, so that a histogram has bins.
    """
    k = products.sizes[schema.ENDMEMBER]
    low, high = np.full(k + 1, np.inf), np.full(k + 1, -np.inf)
    total = np.zeros(k)
    valid = 0
    for block in blocks(products):
        abundance = products[schema.ABUNDANCE].isel(block).transpose(schema.ENDMEMBER, schema.Y, schema.X).values
        rmse = products[schema.RMSE].isel(block).values
        valid += int(np.isfinite(rmse).sum())
        total += np.nansum(abundance, axis=(1, 2), dtype=np.float64)
        for index, layer in enumerate((*abundance, rmse)):
            known = layer[np.isfinite(layer)]
            if known.size:
                low[index] = min(low[index], float(known.min()))
                high[index] = max(high[index], float(known.max()))
    without_width = ~(low < high)  # one value, or none
    middle = np.where(np.isfinite(low), low, 0.0)
    low, high = np.where(without_width, middle - 0.5e-3, low), np.where(without_width, middle + 0.5e-3, high)
    return valid, total, low, high


def _histogram(layer: Float32s, low: float, high: float) -> Ints:
    known = layer[np.isfinite(layer)]
    return np.histogram(known.astype(np.float64), BINS, (low, high))[0].astype(np.int64)


def _copy_samples(picture: Bytes, values: Bytes, block: dict[str, slice], sampled: tuple[Positions, Positions]) -> None:
    """Copy the pixels of a block whose row and column are `sampled` into the picture."""
    target, source = [], []
    for dim, positions in zip((schema.Y, schema.X), sampled, strict=True):
        inside = (positions >= block[dim].start) & (positions < block[dim].stop)
        target.append(np.flatnonzero(inside))
        source.append(positions[inside] - block[dim].start)
    picture[np.ix_(*target)] = values[np.ix_(*source)]


class _CellMeans:
    """Means over cells of `step` x `step` pixels, of maps (..., rows, cols) that are added block by block."""

    def __init__(self, layers: tuple[int, ...], rows: int, cols: int, step: int) -> None:
        shape = (*layers, -(-rows // step), -(-cols // step))
        self._step = step
        self._total, self._count = np.zeros(shape, np.float32), np.zeros(shape, np.int32)

    def add(self, values: Float32s, block: dict[str, slice]) -> None:
        """Add the values (..., rows, cols) of a block; those that are not finite do not count."""
        known = np.isfinite(values)
        cells: list[slice] = []
        starts: list[Positions] = []
        for dim in (schema.Y, schema.X):
            cell = np.arange(block[dim].start, block[dim].stop) // self._step
            cells.append(slice(int(cell[0]), int(cell[-1]) + 1))
            starts.append(np.flatnonzero(np.diff(cell, prepend=cell[0] - 1)))
        for sums, layer in ((self._total, np.where(known, values, 0)), (self._count, known.astype(np.int32))):
            summed = np.add.reduceat(np.add.reduceat(layer, starts[0], axis=-2), starts[1], axis=-1)
            sums[..., cells[0], cells[1]] += summed

    def mean(self) -> Float32s:
        """Return the means of the cells, NaN for a cell without data."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self._total / self._count, np.float32)
