"""Small maps on the grid of a NEON tile, for the tests of what writes them."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401  # the accessor rio
import xarray as xr

from hsichunk import schema

EPSG = 32618
NAMES = ["EM1", "EM2", "water & ice", "forêt"]


def located(data: np.ndarray[Any, Any] | da.Array, name: str, **attrs: Any) -> xr.DataArray:
    """(…, y, x) at the place of a NEON tile, in metres."""
    dims = ("endmember", "y", "x")[-data.ndim :]
    coords: dict[str, Any] = {
        "y": ("y", 4307000 - np.arange(data.shape[-2]) - 0.5, schema.Y_ATTRS),
        "x": ("x", 368000 + np.arange(data.shape[-1]) + 0.5, schema.X_ATTRS),
    }
    if data.ndim == 3:
        coords["endmember"] = NAMES[: data.shape[0]]
    array: xr.DataArray = xr.DataArray(data, dims=dims, coords=coords, name=name, attrs=attrs).rio.write_crs(EPSG)
    return array.rio.write_transform()


def abundance(height: int = 70, width: int = 90) -> xr.DataArray:
    values = np.random.default_rng(0).random((4, height, width), dtype=np.float32)
    values[:, :, :5] = np.nan
    return located(values, "abundance", **schema.PRODUCT_ATTRS["abundance"])


def class_map(height: int = 70, width: int = 90) -> xr.DataArray:
    values = np.random.default_rng(1).integers(0, 5, (height, width)).astype(np.uint8)
    values[:, :5] = schema.CLASS_NO_DATA
    meanings = " ".join(["unclassified", *(name.replace(" ", "_") for name in NAMES), "no_data"])
    return located(
        values, "sam_class", flag_values=np.array([0, 1, 2, 3, 4, 255], np.uint8), flag_meanings=meanings, units="1"
    )


def blocks_written(monkeypatch: pytest.MonkeyPatch, target: Any) -> list[tuple[int, ...]]:
    """The shapes of all blocks that dask or xarray puts into a class of targets, as they come."""
    shapes: list[tuple[int, ...]] = []
    put = target.__setitem__

    def spied(self: Any, region: Any, block: Any) -> None:
        shapes.append(block.shape)
        put(self, region, block)

    monkeypatch.setattr(target, "__setitem__", spied)
    return shapes


def bits(values: Any) -> Any:
    array = np.ascontiguousarray(values)
    return array.view(f"u{array.dtype.itemsize}")
