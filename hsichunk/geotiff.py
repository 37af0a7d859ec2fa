"""Maps to cloud-optimised GeoTIFF, block by block, in bounded memory, whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk.band_statistics import BandStatistics, ClassCounts
from hsichunk.errors import HsiError
from hsichunk.georeference import north_up
from hsichunk.geotiff_labels import class_names, class_table, describe, no_data
from hsichunk.one_band import one_band
from hsichunk.schema import X, Y
from hsichunk.staging import staging, sync_one

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

_CACHE_BYTES: Final = 16 * 2**20  # GDAL would take 5 % of the machine; 64 MiB are no faster
_TILE_BYTES: Final = 16 * 2**20  # of all bands of one tile, which GDAL interleaves by pixel
_STRIP_ROWS: Final = 512
# GDAL's types for those that TIFF lacks; all else that NumPy and TIFF share stays as it is
_STORED_AS: Final = {"bool": "uint8", "float16": "float32"}


def write_geotiff(data: xr.DataArray, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write a map (y, x), or one band per endmember (endmember, y, x), as cloud-optimised GeoTIFF; give back its path.

    Lazy data are computed once, a few blocks in memory at a time. CRS and transform are exact; rows run from north to
    south. Floats have NaN as no data and averaged overviews, class maps 255, the palette, and their names and pixels in
    `<path>.aux.xml`; other bands carry exact statistics. The same data give the same bytes, whatever their blocks. The
    file gets its name when it is complete and synced. Missing parents are made.

    Raises HsiError for other dimensions or types than GeoTIFF has, uneven coordinates, an existing file (unless
    overwrite), and a place that cannot be written. Source: GDAL's COG driver.
    """
    path = Path(path)
    if not isinstance(data, xr.DataArray):
        raise HsiError(f"a GeoTIFF holds one map, not a {type(data).__name__}; choose one, such as products['rmse']")
    stored = data.encoding.get("preferred_chunks", {})  # which no operation keeps
    data = bands_first(data, "a GeoTIFF")
    if os.path.lexists(path) and not overwrite:
        raise HsiError(f"{path} exists; choose another name, or overwrite=True to replace it")
    if path.is_dir():
        raise HsiError(f"{path} is a folder; give the name of a file in it, such as {path / 'map.tif'}")
    names = class_names(data)
    with staging(path) as folder, gdal():
        cog = folder / path.name
        source = cog.with_name(f"{path.name}.source")
        counted = _write_source(data, source, stored, ClassCounts() if names else None)
        _copy_to_cog(data, source, cog)
        if counted is not None:
            _aux(cog).write_text(class_table(names, counted.counts), encoding="utf-8")
        _publish(cog, path)
    return path


def bands_first(data: xr.DataArray, what: str) -> xr.DataArray:
    """Check data for `what` is written, and give it as (band, y, x) in a type that GDAL has, still lazy."""
    from rasterio.dtypes import check_dtype

    if not {Y, X} <= set(data.dims) or data.ndim not in (2, 3):
        raise HsiError(f"{what} holds (y, x) or (band, y, x), not {data.dims}; select or rename dimensions first")
    if 0 in data.shape:
        raise HsiError(f"the map has no pixels (shape {data.shape}); select at least one")
    dtype = _STORED_AS.get(data.dtype.name, data.dtype.name)
    if not check_dtype(dtype):
        raise HsiError(f"{what} holds numbers, not {data.dtype}; convert with .astype('float32')")
    if data.ndim == 2:
        data = one_band(data)
    if data.dtype != np.dtype(dtype):  # another byte order, too
        data = data.astype(dtype, keep_attrs=True)
    return data.transpose(..., Y, X)


@contextmanager
def gdal() -> Iterator[None]:
    """GDAL with a small cache, whose errors are those of writing."""
    import rasterio
    from rasterio._err import CPLE_BaseError

    with rasterio.Env(), _SMALL_CACHE:
        try:
            yield
        except CPLE_BaseError as error:
            raise OSError(errno.EIO, str(error)) from error


class _SmallCache:
    """GDAL's cache is one for the process: small from the first file that is being written to the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        import rasterio
        from rasterio.env import get_gdal_config, set_gdal_config

        with self._lock:
            if not self._users:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # as asked for
                self._undo.callback(set_gdal_config, "GDAL_CACHEMAX", get_gdal_config("GDAL_CACHEMAX"))
                set_gdal_config("GDAL_CACHEMAX", _CACHE_BYTES)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._undo.close()


_SMALL_CACHE: Final = _SmallCache()


def _write_source(
    data: xr.DataArray, source: Path, stored: Mapping[Hashable, int], classes: ClassCounts | None
) -> ClassCounts | None:
    """Write the blocks to a tiled GeoTIFF without compression, in any order, and their statistics; count classes."""
    import rasterio

    side = tile_side(data)
    data, transform, crs = north_up(data)
    bands, height, width = data.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": data.dtype.name}
    profile |= {"nodata": no_data(data), "crs": crs, "bigtiff": "IF_SAFER"}
    profile |= {"tiled": True, "blockxsize": side, "blockysize": side, "interleave": "band"}
    if transform is not None:
        profile["transform"] = transform
    statistics = BandStatistics(bands, no_data(data)) if classes is None and data.dtype.kind in "iuf" else None
    with rasterio.open(source, "w", **profile) as raster:
        describe(raster, data)
        store_blocks(data, _Windows(raster, statistics or classes), stored)
        if statistics is not None:
            for band in range(bands):
                raster.update_tags(band + 1, **statistics.tags(band))
    tiles = bands * -(-height // side) * -(-width // side)
    if source.stat().st_size < tiles * side * side * data.dtype.itemsize:
        # GDAL writes the last blocks on closing, where rasterio does not hear of errors
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return classes


class _Windows:
    """An open raster as a thing to assign blocks to, which is what dask stores into: many threads at a time."""

    def __init__(self, raster: DatasetWriter, seen: BandStatistics | ClassCounts | None = None) -> None:
        self._raster, self._seen = raster, seen
        self._lock = threading.Lock()

    def __setitem__(self, region: tuple[slice, slice, slice], block: npt.NDArray[Any]) -> None:
        from rasterio.windows import Window

        bands, rows, cols = region
        indexes = list(range(bands.start + 1, bands.stop + 1))
        with self._lock:
            self._raster.write(block, indexes=indexes, window=Window.from_slices(rows, cols))
        if self._seen is not None:
            self._seen.add(bands.start, block)


def store_blocks(data: xr.DataArray, windows: Any, stored: Mapping[Hashable, int]) -> None:
    """Assign each block of data (band, y, x) to windows[bands, rows, columns]; tasks run once if dask works here.

    `windows` takes blocks of several threads at a time; `stored` are the preferred chunks of the encoding.
    """
    if data.chunks is not None:
        import dask.array as da
        import dask.base
        import dask.local
        import dask.threaded

        run = dask.base.get_scheduler(collections=[data.data])  # type: ignore[no-untyped-call]
        if run in (dask.threaded.get, dask.local.get_sync):
            da.store(data.data, windows, lock=False)  # it has its own
            return
    # processes and clusters hand back one row of blocks at a time; what is read when indexed, a block
    rows = data.chunksizes.get(Y) or _even(data.sizes[Y], stored.get(Y, _STRIP_ROWS))
    cols = (data.sizes[X],) if X in data.chunksizes else _even(data.sizes[X], stored.get(X, data.sizes[X]))
    bottom = np.cumsum(rows).tolist()
    right = np.cumsum(cols).tolist()
    for top, end in zip([0, *bottom], bottom, strict=False):
        for left, stop in zip([0, *right], right, strict=False):
            block = data.isel({Y: slice(top, end), X: slice(left, stop)}).values
            windows[slice(0, data.shape[0]), slice(top, end), slice(left, stop)] = block


def _even(size: int, side: int) -> list[int]:
    return [min(side, size - start) for start in range(0, size, side)]


def _copy_to_cog(data: xr.DataArray, source: Path, cog: Path) -> None:
    from rasterio.shutil import copy

    resampling = "AVERAGE" if data.dtype.kind == "f" else "MODE" if "flag_values" in data.attrs else "NEAREST"
    copy(
        source,
        cog,
        driver="COG",
        # measured on abundances: a predictor costs a third more time and makes them larger, higher levels gain 2 %
        COMPRESS="DEFLATE",
        LEVEL=1,
        PREDICTOR="NO",
        BLOCKSIZE=tile_side(data),
        OVERVIEW_RESAMPLING=resampling,
        BIGTIFF="IF_SAFER",
        # with more threads GDAL 3.10 leaves a truncated file, and no error, when the disk is full
        NUM_THREADS=1,
    )


def tile_side(data: xr.DataArray) -> int:
    """Pixels along the side of the squares that a GeoTIFF of `data` is stored in."""
    pixel = data.shape[0] * data.dtype.itemsize
    return 256 if 256 * 256 * pixel <= _TILE_BYTES else 128  # 512: twice the memory, and slower on large images


def _aux(raster: Path) -> Path:
    return raster.with_name(f"{raster.name}.aux.xml")


def _publish(cog: Path, path: Path) -> None:
    """Move the finished file to its name, its names before it; what GIS left beside an older file goes."""
    sync_one(cog)
    if _aux(cog).exists():
        sync_one(_aux(cog))
        os.replace(_aux(cog), _aux(path))
    else:
        _aux(path).unlink(missing_ok=True)
    path.with_name(f"{path.name}.ovr").unlink(missing_ok=True)
    os.replace(cog, path)
    sync_one(path.parent)
