"""Axes and figures: made when none is given, and one way to draw a raster on them."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

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
STRIP = 0.6  # of the other side: a side as short leaves little room for ticks


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (6.4, 4.8)) -> Axes:
    """`ax`, or the axes of a new pyplot figure (`size` in inches)."""
    return ax if ax is not None else figure_or_new(None, size).add_subplot()


def figure_or_new(fig: Figure | None, size: tuple[float, float]) -> Figure:
    """`fig`, or a new pyplot figure (`size` in inches); laid out so that labels do not overlap."""
    if fig is None:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=size, layout="compressed")
    if fig.get_layout_engine() is None:
        fig.set_layout_engine("compressed")
    return fig


def map_size(raster: Raster, side: float) -> tuple[float, float]:
    """Width and height in inches of a map: of an area of `side` x `side`, unless that makes it too narrow or long."""
    tall = math.sqrt(raster.tallness)
    width, height = np.clip((side / tall, side * tall), 0.4 * side, 2.5 * side)
    return float(width), float(height)


def colormap(name: str | Colormap) -> Colormap:
    """A copy of the colour map that leaves NaN transparent."""
    import matplotlib

    try:
        return matplotlib.colormaps.get_cmap(name).with_extremes(bad=(0, 0, 0, 0))
    except (ValueError, TypeError) as error:
        raise HsiError(f"colour map {name!r} is not known to matplotlib; use viridis, cividis, magma, ...") from error


def draw(raster: Raster, ax: Axes, **how: Any) -> AxesImage:
    """Draw `raster` on `ax` at its place, square pixels, north up; `how` goes to imshow."""
    from matplotlib.ticker import MaxNLocator

    image = ax.imshow(raster.values, extent=raster.drawn, origin="upper", aspect="equal", **how)
    left, right, bottom, top = raster.extent
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_xlabel(raster.labels[0])
    ax.set_ylabel(raster.labels[1])
    # coordinates of six and seven digits: few of them side by side, or upright in a narrow strip
    narrow, low = raster.tallness > 1 / STRIP, raster.tallness < STRIP
    ax.xaxis.set_major_locator(MaxNLocator(2 if narrow else 4, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(2 if low else 5, steps=[1, 2, 5, 10]))
    ax.ticklabel_format(useOffset=False, style="plain")
    ax.tick_params(axis="x", labelrotation=90 if narrow else 0)
    return image


def draw_shades(raster: Raster, ax: Axes | None, cmap: str | Colormap, limits: tuple[float, float], label: str) -> Axes:
    """Draw numbers as shades between two limits; a colour bar along the long side points where values exceed them."""
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
    # inset, because beside a map of fixed shape matplotlib's own bars have another length
    beside = (0.0, 1.0 + gap, 1.0, thick) if low_strip else (1.0 + gap, 0.0, thick, 1.0)
    ax.figure.colorbar(
        image,
        cax=ax.inset_axes(beside),
        location="top" if low_strip else "right",
        extend="both" if below and above else "min" if below else "max" if above else "neither",
        label=textwrap.fill(label, LABEL_WIDTH),
    )
    return ax


def stretch(values: npt.NDArray[np.float32], percentiles: tuple[float, float]) -> tuple[float, float]:
    """The values at two percentiles, NaN left out; never the same value twice."""
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise HsiError(f"percentiles {lower:g} and {upper:g}; expected two rising ones from 0 to 100, such as (2, 98)")
    low, high = (float(v) for v in np.nanpercentile(values, percentiles))
    if high > low:
        return low, high
    half = abs(low) / 2 or 0.5
    return low - half, low + half


def checked_bins(bins: int) -> int:
    """`bins`; raises HsiError if there are none."""
    if bins < 1:
        raise HsiError(f"bins={bins}: a histogram has at least one; pass a positive number")
    return bins


def shares(
    ax: Axes, values: npt.NDArray[np.float32], limits: tuple[float, float], bins: int, log: bool, color: Any = "C0"
) -> None:
    """Draw a histogram of `values` between `limits`, in per cent of all of them."""
    counts, edges = np.histogram(values, bins=bins, range=limits)
    ax.stairs(counts * (100 / values.size), edges, fill=True, color=color)
    ax.set_xlim(edges[0], edges[-1])
    if log:
        ax.set_yscale("log")
