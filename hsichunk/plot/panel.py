"""What all figures share: making axes, drawing rasters, colour bars and histograms on them."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from hsichunk.array_types import Float32s, Floats
from hsichunk.errors import HsiError
from hsichunk.plot.raster import Raster

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

LABELS = (1.1, 0.9)  # inches beside and below a map for its ticks and axis labels
BAR = 0.9  # inches for a colour bar and its label
LABEL_WIDTH = 44  # characters that fit along a colour bar
STRIP = 0.6  # of the longer side; a side shorter than that leaves little room for ticks


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (6.4, 4.8)) -> Axes:
    """Return `ax`, or the axes of a new pyplot figure (`size` in inches)."""
    return ax if ax is not None else figure_or_new(None, size).add_subplot()


def figure_or_new(fig: Figure | None, size: tuple[float, float]) -> Figure:
    """Return `fig`, or a new pyplot figure (`size` in inches), with a layout that keeps labels apart."""
    if fig is None:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=size, layout="compressed")
    if fig.get_layout_engine() is None:
        fig.set_layout_engine("compressed")
    return fig


def map_size(raster: Raster[np.generic], side: float) -> tuple[float, float]:
    """Return width and height in inches of a map, with the area of `side` x `side` unless it is too narrow or long."""
    tall = math.sqrt(raster.tallness)
    width, height = np.clip((side / tall, side * tall), 0.4 * side, 2.5 * side)
    return float(width), float(height)


def colormap(name: str | Colormap) -> Colormap:
    """Return a copy of the colour map that leaves NaN transparent. Raises HsiError for an unknown name."""
    import matplotlib

    try:
        return matplotlib.colormaps.get_cmap(name).with_extremes(bad=(0, 0, 0, 0))
    except (ValueError, TypeError) as error:
        raise HsiError(f"colour map {name!r} is not known to matplotlib; use viridis, cividis, magma, ...") from error


def draw(
    raster: Raster[np.generic],
    ax: Axes,
    *,
    cmap: Colormap | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    interpolation: str | None = None,
) -> AxesImage:
    """Draw `raster` on `ax` where it lies, with square pixels and north up; the keywords are those of imshow."""
    from matplotlib.ticker import MaxNLocator

    image = ax.imshow(
        raster.values,
        extent=raster.drawn,
        origin="upper",
        aspect="equal",
        cmap=cmap,
        vmin=vmin,
        vmax=vmax,
        interpolation=interpolation,
    )
    left, right, bottom, top = raster.extent
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_xlabel(raster.labels[0])
    ax.set_ylabel(raster.labels[1])
    # Coordinates have six or seven digits: few of them fit side by side; in a narrow strip they stand upright.
    narrow, low = raster.tallness > 1 / STRIP, raster.tallness < STRIP
    ax.xaxis.set_major_locator(MaxNLocator(2 if narrow else 4, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(2 if low else 5, steps=[1, 2, 5, 10]))
    ax.ticklabel_format(useOffset=False, style="plain")
    ax.tick_params(axis="x", labelrotation=90 if narrow else 0)
    return image


def draw_shades(
    raster: Raster[np.float32], ax: Axes | None, cmap: str | Colormap, limits: tuple[float, float], label: str
) -> Axes:
    """Draw numbers as shades between two limits, with a colour bar along the longer side. Return the Axes.

    The colour bar ends in a point where values exceed the limit.
    """
    shades = colormap(cmap)
    width, height = map_size(raster, 4.0)
    low_strip = raster.tallness < STRIP
    bar = (0.0, BAR) if low_strip else (BAR, 0.0)
    ax = axes_or_new(ax, (width + LABELS[0] + bar[0], height + LABELS[1] + bar[1]))
    low, high = limits
    image = draw(raster, ax, cmap=shades, vmin=low, vmax=high)
    below, above = np.nanmin(raster.values) < low, np.nanmax(raster.values) > high
    thick, gap = 0.04 * max(1.0, raster.tallness), 0.03 * max(1.0, raster.tallness)
    if low_strip:
        thick, gap = 0.02 / raster.tallness, 0.02 / raster.tallness
    # An inset, because matplotlib's own bars are not as long as a map of fixed shape beside them.
    beside = (0.0, 1.0 + gap, 1.0, thick) if low_strip else (1.0 + gap, 0.0, thick, 1.0)
    ax.figure.colorbar(
        image,
        cax=ax.inset_axes(beside),
        location="top" if low_strip else "right",
        extend="both" if below and above else "min" if below else "max" if above else "neither",
        label=textwrap.fill(label, LABEL_WIDTH),
    )
    return ax


def stretch(values: Float32s, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Return the values at two percentiles, NaN left out, or two around them where they are the same.

    Raises HsiError unless the percentiles rise, from 0 to 100.
    """
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise HsiError(f"percentiles {lower:g} and {upper:g}; expected two rising ones from 0 to 100, such as (2, 98)")
    low, high = (float(v) for v in np.nanpercentile(values, percentiles))
    if high > low:
        return low, high
    half = abs(low) / 2 or 0.5
    return low - half, low + half


def check_bins(bins: int) -> int:
    """Return `bins`. Raises HsiError for fewer than one."""
    if bins < 1:
        raise HsiError(f"bins={bins}: a histogram has at least one; pass a positive number")
    return bins


def draw_histogram(
    ax: Axes, values: Float32s, limits: tuple[float, float], bins: int, log: bool, color: str | Floats = "C0"
) -> None:
    """Draw a histogram of `values` between `limits`, in per cent of all of them."""
    counts, edges = np.histogram(values, bins=bins, range=limits)
    ax.stairs(counts * (100 / values.size), edges, fill=True, color=color)
    ax.set_xlim(edges[0], edges[-1])
    if log:
        ax.set_yscale("log")
