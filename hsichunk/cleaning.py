"""From a tile of counts to a cube of reflectance: band selection by wavelength, no-data, scale; all of it lazy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from hsichunk import schema
from hsichunk.backend import LazyStored
from hsichunk.column import Counts
from hsichunk.errors import HsiError

BLOCK_BYTES = 32 << 20  # of reflectance in one dask block of a cube

Ranges = Iterable[Sequence[float]]


def clean(
    tile: xr.Dataset,
    *,
    windows: Ranges | None = None,
    drop_last: int = schema.NEON_DROP_LAST,
    drop: Ranges = (),
    keep: Ranges | None = None,
    every: int = 1,
    lesson_bands: bool = False,
) -> xr.DataArray:
    """The cube of a tile: float32 reflectance (y, x, wavelength), units "1", no-data NaN, bad bands gone. Lazy.

    `windows` are bad-band windows [(low, high), ...] in nm, both ends inclusive, in place of those named in the file;
    `drop` are further ones; `drop_last` the number of last bands to leave out; `keep` ranges outside which every band
    is dropped; `every` n-th of the bands that remain is kept. `lesson_bands` also drops the last good band below each
    window, as the index arithmetic of NEON's lesson does. Dropped bands are never decoded where stored chunks allow.
    Raises HsiError when no band is left.
    """
    reflectance, wavelength = _reflectance(tile)
    attrs = reflectance.attrs
    if windows is None:
        edges = np.asarray(attrs.get(schema.WINDOWS, ()), float).ravel()
        windows = list(zip(edges[::2], edges[1::2], strict=True))
    kept = select_bands(
        wavelength, [*_pairs(windows), *_pairs(drop)], drop_last, None if keep is None else _pairs(keep), every, lesson_bands
    )
    chosen = reflectance.isel({schema.WAVELENGTH: kept})
    scale, no_data = float(attrs.get(schema.SCALE, 1.0)), attrs.get(schema.NO_DATA)
    counts = _find_stored(chosen.variable, scale, no_data)
    data = _as_reflectance(chosen.data, scale, no_data) if counts is None else _lazy_cube(*counts)
    cube = chosen.copy(data=data).rename(schema.REFLECTANCE)
    cube.attrs = {**schema.PRODUCT_ATTRS[schema.REFLECTANCE], "counts_per_unit": scale}
    cube.encoding = {"grid_mapping": schema.GRID_MAPPING} if schema.GRID_MAPPING in cube.coords else {}
    return cube


def _reflectance(tile: xr.Dataset) -> tuple[xr.DataArray, NDArray[np.float64]]:
    if not isinstance(tile, xr.Dataset) or schema.REFLECTANCE not in tile:
        raise HsiError(f"clean got {type(tile).__name__}; expected a tile: the Dataset that open_tile gives")
    reflectance = tile[schema.REFLECTANCE]
    if set(reflectance.dims) != {schema.Y, schema.X, schema.WAVELENGTH} or schema.WAVELENGTH not in reflectance.coords:
        raise HsiError(f"reflectance has dimensions {reflectance.dims}; expected (y, x, wavelength) with wavelengths")
    return reflectance.transpose(schema.Y, schema.X, schema.WAVELENGTH), reflectance[schema.WAVELENGTH].values


def _pairs(ranges: Ranges) -> list[tuple[float, float]]:
    out = []
    for item in ranges:
        low, high = (float(v) for v in item)
        if not low <= high:
            raise HsiError(f"wavelength range {low:g} to {high:g}: expected (low, high) in nm")
        out.append((low, high))
    return out


def select_bands(
    wavelength: NDArray[np.float64],
    windows: list[tuple[float, float]],
    drop_last: int,
    keep: list[tuple[float, float]] | None,
    every: int,
    lesson_bands: bool,
) -> NDArray[np.intp]:
    """Positions of the kept bands, ascending."""
    if drop_last < 0 or every < 1:
        raise HsiError(f"drop_last={drop_last}, every={every}: expected at least 0 and at least 1")
    good = np.ones(len(wavelength), np.bool_) if keep is None else _inside(wavelength, keep)
    good &= ~_inside(wavelength, windows)
    if lesson_bands:
        for low, _ in windows:
            below = np.flatnonzero(wavelength < low)
            good[below[-1:]] = False
    if drop_last:
        good[-drop_last:] = False
    kept = np.flatnonzero(good)[::every]
    if not kept.size:
        raise HsiError(
            f"no band of {len(wavelength)} ({wavelength[0]:g} to {wavelength[-1]:g} nm) is left; widen keep or drop fewer"
        )
    return kept


def _inside(wavelength: NDArray[np.float64], ranges: list[tuple[float, float]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(wavelength), np.bool_)
    for low, high in ranges:
        inside |= (wavelength >= low) & (wavelength <= high)
    return inside


def _as_reflectance(data: Any, scale: float, no_data: float | None) -> Any:
    """The same arithmetic for NumPy and dask arrays of counts."""
    if data.dtype.kind == "f" and no_data is None and scale == 1:
        return data
    values = (data / scale).astype(np.float32)
    if no_data is None:
        return values
    import dask.array as da

    where = da.where if hasattr(data, "dask") else np.where
    return where(data == no_data, np.float32(np.nan), values)


@dataclass(frozen=True, eq=False)
class Cube:
    """Array-like view of a window of stored counts as reflectance, the source behind a cube's dask blocks."""

    counts: Counts
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]

    dtype = np.dtype(np.float32)
    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.rows), len(self.cols), len(self.counts.bands)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        rows, cols, bands = (
            np.atleast_1d(s[k]) for s, k in zip((self.rows, self.cols, self.counts.bands), key, strict=True)
        )
        # one thread: dask already runs several of these at once
        stored = self.counts.stored.read(rows, cols, bands, threads=1)
        values: NDArray[np.float32] = _as_reflectance(stored, self.counts.scale, self.counts.no_data)
        return values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.counts.__dask_tokenize__(), self.rows.tobytes(), self.cols.tobytes())


def _find_stored(variable: xr.Variable, scale: float, no_data: float | None) -> tuple[Counts, Any, Any] | None:
    """The stored array and positions behind a lazily indexed variable; None for anything else."""
    data = variable._data
    while isinstance(data, (indexing.MemoryCachedArray, indexing.CopyOnWriteArray)):
        data = data.array
    if not isinstance(data, indexing.LazilyIndexedArray) or not isinstance(data.array, LazyStored):
        return None
    stored = data.array.stored
    keys = data.key.tuple
    if any(np.ndim(k) > 1 for k in keys) or no_data is None or not math.isfinite(scale):
        return None
    rows, cols, bands = (np.atleast_1d(np.arange(n)[k]) for k, n in zip(keys, stored.shape, strict=True))
    return Counts(stored, bands, scale, int(no_data)), rows, cols


def _lazy_cube(counts: Counts, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Any:
    import dask.array as da
    from dask.base import tokenize

    source = Cube(counts, rows, cols)
    return da.from_array(
        source,
        chunks=_block_shape(source),
        name=f"{SOURCE_NAME}-{tokenize(source)}",
        asarray=False,
        lock=False,
        meta=np.empty((0, 0, 0), np.float32),
    )


SOURCE_NAME = "hsichunk-cube"


def _block_shape(cube: Cube) -> tuple[int, int, int]:
    """Blocks of whole stored chunks: whole spectra where that is cheap, else whole bands."""
    cy, cx, depth = cube.counts.stored.chunks
    ny, nx, bands = cube.shape
    column = min(cy, ny) * min(cx, nx) * 4
    if column * bands > BLOCK_BYTES:
        return min(cy, ny), min(cx, nx), max(1, min(bands, BLOCK_BYTES // column // depth * depth or depth))
    side = max(1, math.isqrt(BLOCK_BYTES // (column * bands)))
    wide = max(1, min(-(-nx // cx), side * max(1, cy // cx)))
    high = max(1, BLOCK_BYTES // (column * bands * wide))
    return min(ny, cy * high), min(nx, cx * wide), bands


@dataclass(frozen=True)
class _View:
    """Stands for a window of a Cube while slices of a graph are followed: holds positions, never pixels."""

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    bands: NDArray[np.intp]

    def __getitem__(self, key: tuple[Any, ...]) -> _View:
        if not isinstance(key, tuple) or len(key) != 3 or any(isinstance(k, (int, np.integer)) for k in key):
            raise TypeError("not a window")
        return _View(self.rows[key[0]], self.cols[key[1]], self.bands[key[2]])


def source_of(cube: xr.DataArray) -> tuple[Counts, NDArray[np.intp], NDArray[np.intp]] | None:
    """The counts behind a cube, and the rows and columns of them that it shows, when it is nothing but a selection.

    Follows the graph with positions in place of pixels: any layer but slicing means that the user has computed something,
    and the answer is None.
    """
    data = cube.data
    layers = getattr(getattr(data, "dask", None), "layers", {})
    origins = [name for name in layers if name.startswith(f"original-{SOURCE_NAME}-")]
    if len(origins) != 1 or cube.dims != (schema.Y, schema.X, schema.WAVELENGTH):
        return None
    origin = origins[0]
    if any(name != origin and not name.startswith((SOURCE_NAME, "getitem-")) for name in layers):
        return None
    from dask.local import get_sync

    graph = dict(data.dask)
    source: Cube = graph[origin]
    graph[origin] = _View(source.rows, source.cols, np.arange(len(source.counts.bands)))
    try:
        blocks = np.array(get_sync(graph, data.__dask_keys__()), dtype=object)
        first = blocks.reshape(-1)[0]
        if not isinstance(first, _View) or blocks.ndim != 3:
            return None
        rows = np.concatenate([view.rows for view in blocks[:, 0, 0]])
        cols = np.concatenate([view.cols for view in blocks[0, :, 0]])
        bands = np.concatenate([view.bands for view in blocks[0, 0, :]])
    except (TypeError, AttributeError, ValueError, IndexError):
        return None
    if (len(rows), len(cols), len(bands)) != cube.shape or (np.diff(bands) <= 0).any():
        return None
    counts = source.counts
    return Counts(counts.stored, counts.bands[bands], counts.scale, counts.no_data), rows, cols
