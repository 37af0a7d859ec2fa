"""Draw the report's figures with axes, spectra and histograms, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hsichunk.array_types import Floats
from hsichunk.classification.palette import class_colors
from hsichunk.endmembers.endmember_csv import Endmembers
from hsichunk.plot.spectra import missing_before
from hsichunk.readers.wavelengths import SAME
from hsichunk.results.report.map_statistics import Histogram
from hsichunk.results.report.pictures import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DASHES = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (2, 1.5)))
MOST_LABELS = 24  # endmembers in a legend
SHADE = "#d9d9d9"  # of dropped windows


def gaps(kept: Floats, all_bands: Floats | None = None) -> list[tuple[float, float]]:
    """Return the ranges in nm between kept bands where bands were dropped.

    Where all bands of the tiles are known, the ranges before the first kept band and after the last belong to them.
    """
    ranges = [(float(kept[i - 1]), float(kept[i])) for i in missing_before(kept)]
    if all_bands is not None and all_bands.min() < kept[0] - SAME:
        ranges.insert(0, (float(all_bands.min()), float(kept[0])))
    if all_bands is not None and all_bands.max() > kept[-1] + SAME:
        ranges.append((float(kept[-1]), float(all_bands.max())))
    return ranges


def spectra(em: Endmembers, k: int, dropped: Sequence[tuple[float, float]]) -> str:
    """Draw endmembers against wavelength, with the dropped windows shaded, as data URI.

    Where there are several sets of k, as with --per-tile, all have the colours of the first.
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import Normal, Stroke

    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    ax = figure.add_subplot()
    for low, high in dropped:
        ax.axvspan(low, high, color=SHADE, lw=0)
    colors = class_colors(k)[1:] / 255
    breaks = [i + 1 for i in range(len(em.wavelength) - 1) if _within(em.wavelength[i : i + 2], dropped)]
    x = np.insert(em.wavelength, breaks, np.nan)
    one_set = len(em.names) == k
    for index, spectrum in enumerate(em.spectra):
        number = index % k
        (line,) = ax.plot(
            x,
            np.insert(spectrum, breaks, np.nan),
            color=colors[number],
            ls=DASHES[number % len(DASHES)],
            lw=1.6 if one_set else 0.8,
            label=em.names[index] if one_set else f"EM{number + 1} of each tile",
        )
        if one_set and k <= MOST_LABELS:  # yellow lines need an edge on white
            line.set_path_effects([Stroke(linewidth=2.6, foreground="#555555"), Normal()])
    ax.set_xlabel("wavelength (nm)")
    ax.set_ylabel("reflectance")
    ax.margins(x=0.01)
    if k <= MOST_LABELS:
        handles, labels = ax.get_legend_handles_labels()
        figure.legend(handles[:k], labels[:k], loc="outside lower center", ncols=min(k, 6), frameon=False)
    return _svg(figure)


def _within(pair: Floats, dropped: Sequence[tuple[float, float]]) -> bool:
    """Whether two neighbouring bands are the ends of a dropped window, or lie in one."""
    return any(low <= pair[0] + 1e-6 and pair[1] - 1e-6 <= high for low, high in dropped)


def histogram(values: Histogram, label: str, color: str, log: bool) -> str:
    """Draw the share of pixels by value, in per cent, as data URI."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.4))  # a layout engine would draw each figure twice
    ax = figure.add_axes((0.15, 0.21, 0.82, 0.74))
    shares = values.counts * (100 / max(int(values.counts.sum()), 1))
    positive = shares[shares > 0]
    floor = float(positive.min()) / 2 if log and positive.size else 0.0
    ax.stairs(np.maximum(shares, floor), values.edges, fill=True, color=color, ec="#333333", lw=0.6, baseline=floor)
    ax.set_xlim(values.low, values.high)
    if floor:
        ax.set_yscale("log")
        ax.set_ylim(floor, float(positive.max()) * 2)
    ax.set_xlabel(label)
    ax.set_ylabel("pixels (%)")
    return _svg(figure)


def _svg(figure: Figure) -> str:
    """Return a figure as data URI of an SVG that is the same in every run."""
    import matplotlib

    file = io.StringIO()
    # Text that stays text makes a tenth of the size of text as outlines.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hsichunk"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return svg(file.getvalue())
