"""Make a cube of reflectance from a tile of counts, lazily: select bands by wavelength, scale, mask no-data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr
from xarray.core import indexing

from hsichunk import schema
from hsichunk.array_types import DaskArray, DaskToken, Float32s, Floats, LazyOrNumpy, Positions, is_lazy
from hsichunk.chunks.counts import Counts
from hsichunk.cube.bands import Ranges, ranges_of
from hsichunk.cube.bands import select_bands as select_bands
from hsichunk.errors import HsiError
from hsichunk.memory import BLOCK_BYTES
from hsichunk.readers import lineage, provenance
from hsichunk.readers.lazy_arrays import outer, stored_behind

BAND_BLOCK_BYTES = 4 << 20  # of reflectance in a dask block of some bands: where whole spectra exceed BLOCK_BYTES
SOURCE_NAME = "hsichunk-cube"


def clean(
    tile: xr.Dataset,
    *,
    windows: Ranges | None = None,
    drop_last: int | None = None,
    drop: Ranges = (),
    keep: Ranges | None = None,
    every: int = 1,
    lesson_bands: bool = False,
) -> xr.DataArray:
    """Return the cube of a tile: float32 reflectance (y, x, wavelength), units "1", no-data NaN, no bad bands. Lazy.

    `windows` are bad-band windows [(low, high), ...] in nm, both ends inclusive, in place of those that the file names;
    `drop` are further ones; `drop_last` is the number of last bands of the tile to leave out (None: NEON's 10, and none
    of an image); `keep` are ranges outside which every band is dropped; of the bands that remain every `every`-th is
    kept. `lesson_bands` also drops the last band below each window, as the index arithmetic of NEON's lesson does.
    Dropped bands are never decoded where stored chunks allow. Computes nothing, and returns a cube in memory only for a
    tile in memory. Raises HsiError for anything that is no tile, and when no band is left.
    """
    reflectance, wavelength = _reflectance(tile)
    attrs = reflectance.attrs
    scale, no_data = _scale(reflectance), attrs.get(schema.NO_DATA)
    if drop_last is None:
        drop_last = int(attrs.get(schema.DROP_LAST, schema.NEON_DROP_LAST))
    if windows is None:
        edges = np.ravel(attrs.get(schema.WINDOWS, ()))
        windows = list(zip(edges[::2], edges[1::2], strict=True))
    bad = [*ranges_of(windows, "windows"), *ranges_of(drop, "drop")]
    within = None if keep is None else ranges_of(keep, "keep")
    kept = select_bands(wavelength, bad, drop_last, within, every, lesson_bands)
    coords = reflectance.coords.to_dataset().isel({schema.WAVELENGTH: kept}).coords
    data = _data(reflectance.variable, kept, scale, no_data)
    cube = xr.DataArray(data, coords, reflectance.dims, schema.REFLECTANCE)
    if cube.chunks:  # a chunked tile has chunked widths, of other bands
        chunked = {name: c for name, c in cube.coords.items() if c.chunks and schema.WAVELENGTH in c.dims}
        cube = cube.assign_coords({n: c.chunk({schema.WAVELENGTH: cube.chunks[2]}) for n, c in chunked.items()})
    cube.attrs = dict(schema.PRODUCT_ATTRS[schema.REFLECTANCE])
    if reflectance.dtype.kind in "iu":  # floats are no counts: SID would take reflectance 1 for the smallest
        cube.attrs[schema.COUNTS_PER_UNIT] = scale
    if schema.GRID_MAPPING in cube.coords:
        cube.attrs |= provenance.crs_words(cube.coords[schema.GRID_MAPPING].attrs)
    cube.attrs |= provenance.carried(tile.attrs)
    cube.attrs[provenance.CLEANED] = provenance.cleaned_words(
        wavelength, kept, bad, drop_last, within, every, lesson_bands
    )
    cube.encoding = {"grid_mapping": schema.GRID_MAPPING} if schema.GRID_MAPPING in cube.coords else {}
    return cube


def _reflectance(tile: xr.Dataset) -> tuple[xr.DataArray, Floats]:
    """Return the reflectance of a tile as (y, x, wavelength), and its wavelengths. Raises HsiError for no tile."""
    if not isinstance(tile, xr.Dataset) or schema.REFLECTANCE not in tile:
        raise HsiError(f"clean got {type(tile).__name__}; expected a tile: the Dataset that open_tile gives")
    reflectance = tile[schema.REFLECTANCE]
    if set(reflectance.dims) != {schema.Y, schema.X, schema.WAVELENGTH} or schema.WAVELENGTH not in reflectance.coords:
        raise HsiError(f"reflectance has dimensions {reflectance.dims}; expected (y, x, wavelength) with wavelengths")
    wavelength = np.asarray(reflectance[schema.WAVELENGTH].values, np.float64)
    if not wavelength.size or not (np.diff(wavelength) > 0).all():
        raise HsiError("the tile's wavelengths do not increase; bring them in order with tile.sortby('wavelength')")
    return reflectance.transpose(schema.Y, schema.X, schema.WAVELENGTH), wavelength


def _scale(reflectance: xr.DataArray) -> float:
    """Return counts per unit reflectance. Raises HsiError where arithmetic on the tile has lost them."""
    if schema.SCALE not in reflectance.attrs:
        raise HsiError(
            f"reflectance has no attribute {schema.SCALE}, which open_tile sets: keep the attributes of the tile "
            "(xr.set_options(keep_attrs=True)), or label an array of your own with as_cube"
        )
    scale = float(reflectance.attrs[schema.SCALE])
    if not (math.isfinite(scale) and scale > 0):
        raise HsiError(f"{schema.SCALE} of reflectance is {scale:g}; expected counts per unit reflectance, as 10000")
    return scale


def _data(variable: xr.Variable, kept: Positions, scale: float, no_data: float | None) -> LazyOrNumpy:
    """Return reflectance (y, x, kept) of counts: in memory where these are, else lazy, from the file if possible."""
    behind = stored_behind(variable) if no_data is not None and float(no_data).is_integer() else None
    if behind is not None and no_data is not None:
        stored, (rows, cols, bands) = behind
        if (np.diff(bands) > 0).all():
            source = LazyReflectance(Counts(stored, bands[kept], scale, int(no_data)), rows, cols)
            return _lazy(source, _chosen(variable.chunks, kept) if variable.chunks else _blocks(source))
    if isinstance(variable._data, indexing.ExplicitlyIndexed) and not variable._in_memory:
        variable = variable.chunk("auto")
    return as_reflectance(variable.isel({schema.WAVELENGTH: kept}).data, scale, no_data)


def _chosen(chunks: tuple[tuple[int, ...], ...], kept: Positions) -> tuple[tuple[int, ...], ...]:
    """Return the chunks that the user chose, without the bands that are not kept."""
    block = np.searchsorted(np.cumsum(chunks[2]), kept, side="right")
    return chunks[0], chunks[1], tuple(np.unique(block, return_counts=True)[1].tolist())


def as_reflectance(
    data: LazyOrNumpy, scale: float, no_data: float | None, dtype: type[np.floating] = np.float32
) -> LazyOrNumpy:
    """Return counts over scale, no-data NaN; the same arithmetic, bit for bit, for NumPy and dask arrays."""
    small = data.dtype.kind in "iu" and data.dtype.itemsize <= 2
    values: LazyOrNumpy
    if (small or data.dtype == np.float32) and dtype is np.float32 and float(np.float32(scale)) == scale:
        # both operands exact in float32: one rounded division gives the same number as one in float64, rounded again
        values = data.astype(np.float32, copy=False) / np.float32(scale)
    else:
        values = (data / np.float64(scale)).astype(dtype, copy=False)
    if no_data is None:
        return values
    if not is_lazy(values):
        return np.where(data == no_data, dtype(np.nan), values)
    import dask.array as da

    masked: DaskArray = da.where(data == no_data, dtype(np.nan), values)
    return masked


@dataclass(frozen=True, eq=False)
class LazyReflectance:
    """Array-like view of stored counts as reflectance (rows, cols, kept bands): the source of a cube's dask blocks."""

    counts: Counts
    rows: Positions
    """of the stored array that the cube shows"""
    cols: Positions
    """of the stored array that the cube shows"""

    dtype = np.dtype(np.float32)
    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of rows, columns and kept bands."""
        return len(self.rows), len(self.cols), len(self.counts.bands)

    def __getitem__(self, key: tuple[slice | Positions | int, ...]) -> Float32s:
        # one thread: dask already runs several of these at once
        read = partial(self.counts.stored.read, threads=1)
        stored = outer(key, (self.rows, self.cols, self.counts.bands), read)
        return np.asarray(as_reflectance(stored, self.counts.scale, self.counts.no_data))

    def __dask_tokenize__(self) -> DaskToken:
        return (self.counts.__dask_tokenize__(), self.rows.tobytes(), self.cols.tobytes())


def _lazy(source: LazyReflectance, chunks: tuple[tuple[int, ...], ...]) -> DaskArray:
    """Return reflectance as a dask array of blocks of these sizes."""
    import dask.array as da
    from dask.base import tokenize

    lazy: DaskArray = da.from_array(  # type: ignore[no-untyped-call]
        source,
        chunks=chunks,
        name=f"{SOURCE_NAME}-{tokenize(source, chunks)}",
        asarray=False,
        lock=False,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return lazy


def _blocks(source: LazyReflectance) -> tuple[tuple[int, ...], ...]:
    """Return sizes of blocks that share no stored chunk: of whole spectra where these are small, else of some bands."""
    bands = len(source.counts.bands)
    positions = (source.rows, source.cols, source.counts.bands)
    runs = [_runs(along, size) for along, size in zip(positions, source.counts.stored.chunks, strict=True)]
    high, wide, deep = (max(1, *lengths) for lengths in runs)
    if high * wide * bands * 4 > BLOCK_BYTES:  # bytes of the whole spectra of one column of stored chunks
        return runs[0], runs[1], _merged(runs[2], max(deep, BAND_BLOCK_BYTES // (high * wide * 4)))
    # about square: as many columns of chunks across as down, in pixels
    side = math.isqrt(BLOCK_BYTES // (bands * 4))
    across = _merged(runs[1], max(wide, side // wide * wide))
    down = BLOCK_BYTES // (max(1, *across) * bands * 4)
    return _merged(runs[0], max(high, down)), across, (bands,)


def _runs(positions: Positions, size: int) -> tuple[int, ...]:
    """Return the lengths of the runs of positions that lie in one stored chunk."""
    if not len(positions):
        return (0,)
    starts = np.flatnonzero(np.diff(positions // size, prepend=-1))
    return tuple(np.diff(starts, append=len(positions)).tolist())


def _merged(runs: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return the lengths of runs after neighbours have been joined, up to `most`."""
    joined: list[int] = []
    for run in runs:
        if joined and joined[-1] + run <= most:
            joined[-1] += run
        else:
            joined.append(run)
    return tuple(joined)


class ShownCounts(NamedTuple):
    """The counts behind a cube, and which part of them the cube shows."""

    counts: Counts
    rows: Positions
    """of the stored array, one for each row of the cube"""
    cols: Positions
    """of the stored array, one for each column of the cube"""


def source_of(cube: xr.DataArray) -> ShownCounts | None:
    """Return the counts behind a cube, and the rows and columns of them that it shows, if it is merely a selection.

    Slices, lists, transposes and chunks of a cube that `clean` returned are selections. The answer is None for anything
    that the user has computed, and for a selection that shows bands in another order than by wavelength.
    """
    if set(cube.dims) != {schema.Y, schema.X, schema.WAVELENGTH}:
        return None
    behind = lineage.follow(cube.variable._data, lambda node: node if isinstance(node, LazyReflectance) else None)
    if behind is None:
        return None
    source, window = behind
    # a dimension that was renamed to another's name is no longer what it was
    if window.axes != tuple((schema.Y, schema.X, schema.WAVELENGTH).index(str(dim)) for dim in cube.dims):
        return None
    at = dict(zip(cube.dims, window.at, strict=True))
    bands = at[schema.WAVELENGTH]
    if not (np.diff(bands) > 0).all():
        return None
    counts = replace(source.counts, bands=source.counts.bands[bands])
    return ShownCounts(counts, source.rows[at[schema.Y]], source.cols[at[schema.X]])
