"""Find where the pixels of a map lie: an exact affine transform, stored by rioxarray or from the pixel centres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from hsichunk.array_types import Floats
from hsichunk.errors import HsiError
from hsichunk.schema import X, Y

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

_TOLERANCE: Final = 0.01  # of a pixel


def north_up(data: xr.DataArray) -> tuple[xr.DataArray, Affine | None, CRS | None]:
    """Return data with y descending and x ascending, its transform and its CRS, None where there is none.

    data: (..., y, x), lazy or not; flipped where needed, never computed. The stored GeoTransform counts where it agrees
    with the coordinates; otherwise the coordinates count, as pixel centres, because slicing changes only these. Raises
    HsiError for coordinates that are not evenly spaced.
    """
    import rioxarray  # noqa: F401  (gives DataArray.rio)
    from affine import Affine

    transform = _transform(data)
    if data.rio.crs is None and transform == Affine(1.0, 0.0, -0.5, 0.0, 1.0, -0.5):
        return data, None, None  # pixel numbers are no place on a map: rows stay in their order
    if transform is not None and transform.b == transform.d == 0:
        a, b, c, d, e, f = transform[:6]
        if e > 0:
            data, e, f = data.isel({Y: slice(None, None, -1)}), -e, f + e * data.sizes[Y]
        if a < 0:
            data, a, c = data.isel({X: slice(None, None, -1)}), -a, c + a * data.sizes[X]
        transform = Affine(a, b, c, d, e, f)
    return data, transform, data.rio.crs


def _transform(data: xr.DataArray) -> Affine | None:
    """Return the transform of data, stored or from its coordinates. Raises HsiError where the pixel size is unknown."""
    from affine import Affine

    stored = _stored(data)
    if Y not in data.coords or X not in data.coords:
        return stored
    y, x = (np.asarray(data[dim].values, dtype=np.float64) for dim in (Y, X))
    if stored is not None and _fits(stored, y, x):
        return stored
    dx, dy = _step(X, x), _step(Y, y)
    if dx is None or dy is None:
        # A single row or column has no spacing: take it from the stored transform, or from the other dimension.
        width, height = (abs(stored.a), -abs(stored.e)) if stored is not None else (abs(dy or 0.0), -abs(dx or 0.0))
        dx, dy = dx or width, dy or height
    if dx == 0 or dy == 0:
        raise HsiError("one pixel does not tell its size; give it with .rio.write_transform(...)")
    return Affine(dx, 0.0, x[0] - dx / 2, 0.0, dy, y[0] - dy / 2)


def _stored(data: xr.DataArray) -> Affine | None:
    """Return the GeoTransform that rioxarray stored, if there is one."""
    from affine import Affine

    if data.rio.grid_mapping not in data.coords:
        return None
    text = data.coords[data.rio.grid_mapping].attrs.get("GeoTransform")
    return Affine.from_gdal(*np.fromstring(text, sep=" ")) if text is not None else None


def _fits(transform: Affine, y: Floats, x: Floats) -> bool:
    """Whether a transform puts the first and last pixel centres where the coordinates are."""
    if transform.b or transform.d:
        return False
    columns, rows = np.array([0, x.size - 1]) + 0.5, np.array([0, y.size - 1]) + 0.5
    off_x = np.abs(transform.c + transform.a * columns - x[[0, -1]]) / abs(transform.a)
    off_y = np.abs(transform.f + transform.e * rows - y[[0, -1]]) / abs(transform.e)
    return bool(max(off_x.max(), off_y.max()) < _TOLERANCE)


def _step(dim: str, centres: Floats) -> float | None:
    """Return the signed spacing of pixel centres, None for a single one. Raises HsiError for uneven spacing."""
    if centres.size < 2:
        return None
    step = float(centres[-1] - centres[0]) / (centres.size - 1)
    even = centres[0] + step * np.arange(centres.size)
    if not np.abs(centres - even).max() < _TOLERANCE * abs(step):  # also raises for NaN
        steps = np.diff(centres)
        raise HsiError(
            f"coordinate {dim} is not evenly spaced (steps of {steps.min():g} to {steps.max():g}), a raster is; "
            "resample to a regular grid first"
        )
    return step
