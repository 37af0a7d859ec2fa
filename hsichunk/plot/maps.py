"""Figures of one map: a band, a colour composite, or any number per pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.errors import HsiError
from hsichunk.plot.panel import LABELS, axes_or_new, draw, draw_shades, map_size, stretch
from hsichunk.plot.raster import PIXELS
from hsichunk.plot.source import Source, check_layer, nearest_bands, no_data_of, reflectance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


def band(
    tile_or_cube: xr.Dataset | xr.DataArray,
    wavelength: float = 660.0,
    *,
    ax: Axes | None = None,
    cmap: str | Colormap = "cividis",
    percentiles: tuple[float, float] = (2, 98),
    pixels: int = PIXELS,
) -> Axes:
    """Draw the band nearest to `wavelength` (nm) as a map in reflectance, with a colour bar. Return the Axes.

    Takes a tile as stored or a cleaned cube. Colours run between two `percentiles` of the values drawn, and no data is
    transparent. Every n-th pixel is read, `pixels` at most. Raises HsiError if the data have no wavelengths or none
    near.
    """
    source = reflectance(tile_or_cube)
    (number,), (centre,) = nearest_bands(source.layer, [wavelength])
    raster = source.read(pixels, number)
    ax = draw_shades(raster, ax, cmap, stretch(raster.values, percentiles), "reflectance")
    ax.set_title(f"{centre:.1f} nm")
    return ax


def rgb(
    tile_or_cube: xr.Dataset | xr.DataArray,
    wavelengths: tuple[float, float, float] = (660.0, 550.0, 480.0),
    *,
    ax: Axes | None = None,
    percentiles: tuple[float, float] = (2, 98),
    pixels: int = PIXELS,
) -> Axes:
    """Draw the bands nearest to three `wavelengths` (nm) as red, green and blue. Return the Axes.

    Each colour is stretched between two `percentiles` of its own values; a pixel without data in any of the three is
    transparent. Every n-th pixel is read, `pixels` at most. Raises HsiError as `band` does.
    """
    if len(wavelengths) != 3:
        raise HsiError(f"found {len(wavelengths)} wavelengths; expected three, for red, green and blue")
    source = reflectance(tile_or_cube)
    numbers, centres = nearest_bands(source.layer, wavelengths)
    raster = source.read(pixels, numbers)
    valid = np.isfinite(raster.values).all(axis=2)
    if not valid.any():
        raise HsiError("no pixel has data in all three bands; choose other wavelengths")
    colors = np.zeros((*valid.shape, 4), dtype=np.float32)
    for channel in range(3):
        low, high = stretch(raster.values[valid][:, channel], percentiles)
        colors[valid, channel] = np.clip((raster.values[valid][:, channel] - low) / (high - low), 0, 1)
    colors[valid, 3] = 1
    width, height = map_size(raster, 4.0)
    ax = axes_or_new(ax, (width + LABELS[0], height + LABELS[1]))
    draw(raster.with_values(colors), ax)
    ax.set_title("RGB {:.0f}, {:.0f}, {:.0f} nm".format(*centres))
    return ax


def map(
    layer: xr.DataArray,
    *,
    ax: Axes | None = None,
    cmap: str | Colormap = "viridis",
    percentiles: tuple[float, float] = (2, 98),
    pixels: int = PIXELS,
) -> Axes:
    """Draw one number per pixel (y, x): `out.rmse`, `out.sid.sel(endmember="EM1")`, `tile.slope`. Return the Axes.

    Colours, no data and reading are as in `band`. Raises HsiError unless `layer` has the dimensions y and x alone.
    """
    layer = check_layer(layer, "a layer", schema.Y, schema.X)
    raster = Source(layer, no_data=no_data_of(layer.attrs)).read(pixels)
    ax = draw_shades(raster, ax, cmap, stretch(raster.values, percentiles), _quantity(layer))
    name = str(layer.name or "")
    if schema.ENDMEMBER in layer.coords and layer[schema.ENDMEMBER].ndim == 0:
        name = f"{name} {layer[schema.ENDMEMBER].item()}".strip()
    ax.set_title(name)
    return ax


def _quantity(layer: xr.DataArray) -> str:
    """Return the name and the unit of the values, for the colour bar."""
    text = str(layer.attrs.get("long_name") or layer.name or "")
    unit = str(layer.attrs.get("units", "1"))
    return text if unit == "1" else f"{text} ({unit})"
