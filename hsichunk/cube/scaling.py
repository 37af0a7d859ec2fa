"""Scale spectra by their minimum and maximum, as PySpTools does it before SAM and SID."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import DaskArray, Floats
from hsichunk.errors import HsiError

# attributes that say how counts become reflectance: they are not true of scaled values
_OF_COUNTS = (schema.SCALE, schema.NO_DATA, schema.COUNTS_PER_UNIT, "standard_name")


def minmax(spectra: xr.DataArray) -> xr.DataArray:
    """Return (x - min) / (max - min) with one min and max over all pixels and bands: float64, 0..1, NaN kept.

    spectra: a cube (y, x, wavelength) or endmembers (endmember, wavelength), any real dtype, NaN = no data. PySpTools
    0.15 (`_normalize`, classification/cls_int.py) scales cube and endmembers separately, each by its own range, so
    call this on each. NaN and infinite values are left out of the range; spectra that are all equal become 0.

    The result is float64 because PySpTools computes in the dtype of its input, which its users give in float64. It is
    lazy where the input is, and the input is then read twice: once for the range and, when that is known, again for
    the values. Otherwise the whole cube would be held in between. Raises HsiError for complex numbers and for stored
    counts.
    """
    if not np.issubdtype(spectra.dtype, np.number) or np.issubdtype(spectra.dtype, np.complexfloating):
        raise HsiError(f"spectra are {spectra.dtype}, expected real numbers")
    if schema.NO_DATA in spectra.attrs and np.issubdtype(spectra.dtype, np.integer):
        no_data = spectra.attrs[schema.NO_DATA]
        raise HsiError(f"spectra are stored {spectra.dtype} with {no_data} for no data, expected NaN; clean them first")
    values = spectra.astype(np.float64)  # before any difference: those of int16 counts would wrap
    finite = np.isfinite(values)
    low = values.where(finite, np.inf).min(skipna=False)
    high = values.where(finite, -np.inf).max(skipna=False)
    if values.chunks is not None:
        values = values.copy(data=_read_again(values.data, low.data, high.data))

    scaled: xr.DataArray = xr.apply_ufunc(_scale, values, low, high, dask="parallelized", output_dtypes=[np.float64])
    scaled.name = spectra.name
    scaled.attrs = {key: value for key, value in spectra.attrs.items() if key not in _OF_COUNTS}
    scaled.attrs |= {"units": "1", "long_name": f"{spectra.attrs.get('long_name', 'spectra')}, min-max scaled"}
    return scaled


def _scale(values: Floats, low: Floats, high: Floats) -> Floats:
    """Return scaled values of any shape; low and high are scalars."""
    if not low < high:
        return np.where(np.isnan(values), np.nan, 0.0)
    return (values - low) / (high - low)


def _read_again(values: DaskArray, low: DaskArray, high: DaskArray) -> DaskArray:
    """Return the same array under new keys, to be computed after `low` and `high`."""
    from dask.base import tokenize
    from dask.graph_manipulation import bind

    # bind draws its keys at random unless it gets a seed; the graph must be the same every time
    again: DaskArray = bind(values, parents=[low, high], seed=tokenize(values.name, low.name, high.name))
    return again
