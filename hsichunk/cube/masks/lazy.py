"""Evaluate the masks of a tile lazily, for xarray."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bools, Positions
from hsichunk.cube.cleaning import clean
from hsichunk.cube.masks.masks import Masks, parse
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.readers import formats, model
from hsichunk.readers.lazy_arrays import outer, stored_behind


def mask(tile: xr.Dataset, *what: str) -> xr.DataArray:
    """Return which pixels of a tile the masks leave out: bool (y, x), True where left out, backed by dask. Lazy.

    `tile` is what `open_tile` returns, or a selection of it that has not been loaded; `what` are the masks that
    `hsichunk run --mask` takes, as "weather", "ndvi=0.2:" or a file. Use it as `cube.where(~mask(tile, "shadow"))`.
    Raises HsiError for anything else, and where the tile lacks what a mask needs; a mask that has to read the whole
    tile to know what its layer means (shadow) does so here.
    """
    import dask.array as da
    from dask.base import tokenize

    masks = parse(what)
    cube = clean(tile, windows=(), drop_last=0)  # checks that it is a tile, and gives the blocks of other cubes
    behind = stored_behind(tile[schema.REFLECTANCE].transpose(schema.Y, schema.X, schema.WAVELENGTH).variable)
    if behind is None:
        raise HsiError("mask got a computed or loaded tile; expected what open_tile gives: make the mask first")
    stored, (rows, cols, _) = behind
    if isinstance(stored, TiledCounts):
        raise HsiError("mask got a mosaic of tiles; expected what open_tile gives of one: mask each tile by itself")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsiWarning)  # open_tile has given these warnings
        file = formats.read(stored.path)
    if file.reflectance.stamp != stored.stamp:
        raise HsiError(f"{stored.path}: changed since it was opened; open it again")
    masks.check(file)
    source = _LeftOut(masks, file, rows, cols)
    chunks = cube.chunks or ()
    token = tokenize(masks.fingerprint(), stored, rows, cols, chunks)
    data = da.from_array(  # type: ignore[no-untyped-call]
        source, chunks[:2], f"hsichunk-mask-{token}", asarray=False, lock=False, meta=np.empty((0, 0), np.bool_)
    )
    coords = {name: c for name, c in cube.coords.items() if schema.WAVELENGTH not in c.dims}
    attrs = {"long_name": "pixels left out", "masks": list(masks.names)}
    return xr.DataArray(data, coords, (schema.Y, schema.X), "left_out", attrs)


@dataclass(frozen=True, eq=False)
class _LeftOut:
    """Array-like view of the masks of a selection of pixels: the source of dask's blocks."""

    masks: Masks
    file: model.TileFile
    rows: Positions
    cols: Positions

    dtype = np.dtype(np.bool_)
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and of columns."""
        return len(self.rows), len(self.cols)

    def __getitem__(self, key: tuple[slice | Positions | int, ...]) -> Bools:
        # one thread: dask already runs several of these at once
        left_out = outer(key, (self.rows, self.cols), partial(self.masks.outer, self.file, threads=1))
        return np.asarray(left_out != 0)
