"""Make an image of one band (band, y, x) of a map (y, x), without reading it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

BAND = "band"


def one_band(data: xr.DataArray) -> xr.DataArray:
    """Return a map (y, x) as (band, y, x).

    xarray's own expand_dims would load all of a map that is read when indexed.
    """
    if data.chunks is not None:
        return data.expand_dims(BAND)
    lazy = indexing.LazilyIndexedArray(_OneBand(data.variable))
    variable = xr.Variable((BAND, *data.dims), lazy, data.attrs, data.encoding)
    return xr.DataArray(variable, data.coords, name=data.name)


class _OneBand(BackendArray):
    """The lazy values (1, y, x) of a variable (y, x)."""

    def __init__(self, data: xr.Variable) -> None:
        self._data = data
        self.shape = (1, *data.shape)
        self.dtype = data.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[np.generic]:
        basic = indexing.IndexingSupport.BASIC
        values: NDArray[np.generic] = indexing.explicit_indexing_adapter(key, self.shape, basic, self._read)
        return values

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[np.generic]:
        block: NDArray[np.generic] = self._data[key[1:]].values[np.newaxis][key[0]]
        return block
