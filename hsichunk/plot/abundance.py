"""Figures of abundances with one panel per endmember: maps and histograms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.classification.palette import class_colors
from hsichunk.plot.panel import BAR, LABELS, check_bins, colormap, draw, draw_histogram, figure_or_new, map_size
from hsichunk.plot.raster import PIXELS, Raster
from hsichunk.plot.source import Source, check_layer, get_variable

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

GAP = (0.6, 0.35)  # inches between panels, across and down, for ticks that reach beyond them and for titles
MOST = 99.9  # percentile at which a histogram ends; otherwise a few pure pixels put all others into one bin


def abundances(
    products: xr.Dataset | xr.DataArray,
    *,
    fig: Figure | None = None,
    cmap: str | Colormap = "viridis",
    columns: int | None = None,
    pixels: int = PIXELS,
) -> Figure:
    """Draw the abundance of each endmember as a map from 0 to 1, its mean in the title. Return the Figure.

    Takes the products of `hsi.unmix` or their abundance (endmember, y, x). Every n-th pixel is read, `pixels` at
    most; a tilde marks the mean of such a part. No data is transparent. Raises HsiError for other input.
    """
    shades = colormap(cmap)
    names, raster = _read(products, pixels)
    width, height = map_size(raster, 2.4)
    columns = columns or min(len(names), math.ceil(math.sqrt(len(names) * raster.tallness)))
    rows = math.ceil(len(names) / columns)
    size = (columns * (width + GAP[0]) + LABELS[0] + BAR, rows * (height + GAP[1]) + 0.6)
    fig = figure_or_new(fig, size)
    axes = fig.subplots(rows, columns, squeeze=False)
    mean_is = f"{', ' if width > 1.8 else chr(10)}mean {'~' if raster.step > 1 else ''}"
    for i, ax in enumerate(axes.flat):
        if i >= len(names):
            ax.remove()
            continue
        layer = raster.with_values(raster.values[..., i])
        image = draw(layer, ax, cmap=shades, vmin=0.0, vmax=1.0)
        ax.set_title(f"{names[i]}{mean_is}{np.nanmean(layer.values, dtype=np.float64):.3g}", fontsize="medium")
        if i % columns:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
        if i + columns < len(names):
            ax.set_xlabel("")
            ax.tick_params(labelbottom=False)
    fig.colorbar(image, ax=fig.axes, label="abundance", aspect=min(20 * rows, 40))
    return fig


def abundance_histograms(
    products: xr.Dataset | xr.DataArray,
    *,
    bins: int = 50,
    log: bool = False,
    fig: Figure | None = None,
    pixels: int = PIXELS,
) -> Figure:
    """Draw the histogram of each endmember's abundance, one panel each. Return the Figure.

    Each panel runs from 0 to the 99.9th percentile of its own abundances; heights are per cent of all pixels with
    data. Input, reading and errors are those of `abundances`.
    """
    bins = check_bins(bins)
    names, raster = _read(products, pixels)
    columns = min(len(names), 4)
    rows = math.ceil(len(names) / columns)
    fig = figure_or_new(fig, (columns * 2.8 + 0.6, rows * 2.4 + 0.3))
    axes = fig.subplots(rows, columns, squeeze=False)
    colors = class_colors(len(names))[1:] / 255
    for i, ax in enumerate(axes.flat):
        if i >= len(names):
            ax.remove()
            continue
        values = raster.values[..., i]
        values = values[np.isfinite(values)]
        end = float(np.percentile(values, MOST)) or float(values.max()) or 1.0
        draw_histogram(ax, values, (0.0, end), bins, log, color=colors[i])
        ax.set_title(names[i])
        ax.locator_params(axis="x", nbins=4)
    fig.supxlabel("abundance", fontsize="medium")
    fig.supylabel("share of pixels (%)", fontsize="medium")
    return fig


def _read(products: xr.Dataset | xr.DataArray, pixels: int) -> tuple[list[str], Raster[np.float32]]:
    """Return the names of the endmembers, and the raster (y, x, endmember), float32."""
    data = get_variable(products, schema.ABUNDANCE) if isinstance(products, xr.Dataset) else products
    data = check_layer(data, "abundances", schema.ENDMEMBER, schema.Y, schema.X)
    return [str(name) for name in data[schema.ENDMEMBER].to_numpy()], Source(data).read(pixels)
