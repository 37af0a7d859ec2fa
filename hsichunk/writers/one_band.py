"""A map (y, x) as an image of one band, without reading it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

BAND = "band"


def one_band(data: xr.DataArray) -> xr.DataArray:
    """(band, y, x) of a map (y, x). xarray's expand_dims would load all of one that is read when indexed."""
    if data.chunks is not None:
        return data.expand_dims(BAND)
    lazy = indexing.LazilyIndexedArray(_OneBand(data.variable))
    variable = xr.Variable((BAND, *data.dims), lazy, data.attrs, data.encoding)
    return xr.DataArray(variable, data.coords, name=data.name)


class _OneBand(BackendArray):
    def __init__(self, data: xr.Variable) -> None:
        self._data = data
        self.shape = (1, *data.shape)
        self.dtype = data.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        block: NDArray[Any] = self._data[key[1:]].values[np.newaxis][key[0]]
        return block
