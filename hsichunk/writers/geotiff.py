"""Write maps as cloud-optimised GeoTIFF, block by block, in bounded memory, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk.errors import HsiError
from hsichunk.schema import X, Y
from hsichunk.writers.cog import write_image
from hsichunk.writers.georeference import north_up
from hsichunk.writers.geotiff_labels import image_of
from hsichunk.writers.one_band import one_band

_STRIP_ROWS: Final = 512
# the types in which data are stored whose own type TIFF lacks
_STORED_AS: Final = {"bool": "uint8", "float16": "float32"}


class BlockTarget(Protocol):
    """An open file to which threads assign blocks (bands, rows, columns), several at a time."""

    def __setitem__(self, region: tuple[slice, slice, slice], block: NDArray[np.generic]) -> None: ...


def write_geotiff(data: xr.DataArray, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write a map (y, x), or one band per endmember (endmember, y, x), as cloud-optimised GeoTIFF. Return its path.

    Lazy data are computed once, with a few blocks in memory at a time. CRS and transform are exact; rows run from north
    to south. Floats have NaN as no data and averaged overviews. Class maps have 255 as no data, the palette, and their
    names and pixels in `<path>.aux.xml`; all other bands have exact statistics. The same data give the same bytes,
    whatever their blocks. The file gets its name when it is complete and synced. Missing parents are made.

    Raises HsiError for dimensions and types that GeoTIFF does not have, uneven coordinates, an existing file (unless
    overwrite), and a place that cannot be written. Source: GDAL's COG driver.
    """
    path = Path(path)
    if not isinstance(data, xr.DataArray):
        raise HsiError(f"a GeoTIFF holds one map, not a {type(data).__name__}; choose one, such as products['rmse']")
    stored = data.encoding.get("preferred_chunks", {})  # read first, because operations drop it
    data = bands_first(data, "a GeoTIFF")
    if os.path.lexists(path) and not overwrite:
        raise HsiError(f"{path} exists; choose another name, or overwrite=True to replace it")
    if path.is_dir():
        raise HsiError(f"{path} is a folder; give the name of a file in it, such as {path / 'map.tif'}")
    data, transform, crs = north_up(data)
    image = image_of(data, transform, crs)
    write_image(image, partial(store_blocks, data, stored), path)
    return path


def bands_first(data: xr.DataArray, kind: str) -> xr.DataArray:
    """Return data as (band, y, x) in a type that GDAL has, still lazy.

    Raises HsiError, which names the `kind` of file to write, for other dimensions, no pixels, and other types.
    """
    from rasterio.dtypes import check_dtype

    if not {Y, X} <= set(data.dims) or data.ndim not in (2, 3):
        raise HsiError(f"{kind} holds (y, x) or (band, y, x), not {data.dims}; select or rename dimensions first")
    if 0 in data.shape:
        raise HsiError(f"the map has no pixels (shape {data.shape}); select at least one")
    dtype = _STORED_AS.get(data.dtype.name, data.dtype.name)
    if not check_dtype(dtype):
        raise HsiError(f"{kind} holds numbers, not {data.dtype}; convert with .astype('float32')")
    if data.ndim == 2:
        data = one_band(data)
    if data.dtype != np.dtype(dtype):  # another byte order, too
        data = data.astype(dtype, keep_attrs=True)
    return data.transpose(..., Y, X)


def store_blocks(data: xr.DataArray, stored: Mapping[Hashable, int], target: BlockTarget) -> None:
    """Assign each block of data (band, y, x) to target[bands, rows, columns].

    `stored` are the preferred chunks of the encoding. Where dask runs in threads of this process, each task runs once.
    """
    if data.chunks is not None:
        import dask.array as da
        import dask.base
        import dask.local
        import dask.threaded

        scheduler = dask.base.get_scheduler(collections=[data.data])  # type: ignore[no-untyped-call]
        if scheduler in (dask.threaded.get, dask.local.get_sync):
            # dask annotates targets as arrays, but only assigns blocks to them; this target has a lock of its own.
            store: Callable[..., object] = da.store
            store(data.data, target, lock=False)
            return
    # Processes and clusters return one row of blocks at a time; data that are read when indexed, one block.
    rows = data.chunksizes.get(Y) or _even(data.sizes[Y], stored.get(Y, _STRIP_ROWS))
    cols = (data.sizes[X],) if X in data.chunksizes else _even(data.sizes[X], stored.get(X, data.sizes[X]))
    bottom = np.cumsum(rows).tolist()
    right = np.cumsum(cols).tolist()
    for top, end in zip([0, *bottom], bottom, strict=False):
        for left, stop in zip([0, *right], right, strict=False):
            block = data.isel({Y: slice(top, end), X: slice(left, stop)}).values
            target[slice(0, data.shape[0]), slice(top, end), slice(left, stop)] = block


def _even(size: int, side: int) -> list[int]:
    """Return the sizes of the parts of a dimension, `side` each; the last may be shorter."""
    return [min(side, size - start) for start in range(0, size, side)]
