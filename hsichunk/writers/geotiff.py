"""Maps to cloud-optimised GeoTIFF, block by block, in bounded memory, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from hsichunk.errors import HsiError
from hsichunk.schema import X, Y
from hsichunk.writers.cog import write_image
from hsichunk.writers.georeference import north_up
from hsichunk.writers.geotiff_labels import image_of
from hsichunk.writers.one_band import one_band

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
    data, transform, crs = north_up(data)
    image = image_of(data, transform, crs)
    write_image(image, partial(store_blocks, data, stored), path)
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


def store_blocks(data: xr.DataArray, stored: Mapping[Hashable, int], windows: Any) -> None:
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
