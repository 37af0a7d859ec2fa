"""Figures with axes: spectra and histograms, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk.classification.palette import class_colors
from hsichunk.endmembers.endmember_csv import Endmembers
from hsichunk.plot.spectra import missing_before
from hsichunk.readers.wavelengths import SAME
from hsichunk.results.report.map_statistics import Histogram
from hsichunk.results.report.pictures import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DASHES = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (2, 1.5)))
MOST_LABELS = 24
SHADE = "#d9d9d9"


def gaps(wavelength: NDArray[np.float64], every: NDArray[np.float64] | None = None) -> list[tuple[float, float]]:
    """Ranges in nm without bands: between those kept and, where all bands are known, before the first and after."""
    found = [(float(wavelength[i - 1]), float(wavelength[i])) for i in missing_before(wavelength)]
    if every is not None and every.min() < wavelength[0] - SAME:
        found.insert(0, (float(every.min()), float(wavelength[0])))
    if every is not None and every.max() > wavelength[-1] + SAME:
        found.append((float(wavelength[-1]), float(every.max())))
    return found


def spectra(em: Endmembers, k: int, dropped: Sequence[tuple[float, float]]) -> str:
    """Endmembers against wavelength, dropped windows shaded; of several sets of k, all in the colours of the first."""
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
        if one_set and k <= MOST_LABELS:  # yellow is not seen on white
            line.set_path_effects([Stroke(linewidth=2.6, foreground="#555555"), Normal()])
    ax.set_xlabel("wavelength (nm)")
    ax.set_ylabel("reflectance")
    ax.margins(x=0.01)
    if k <= MOST_LABELS:
        handles, labels = ax.get_legend_handles_labels()
        figure.legend(handles[:k], labels[:k], loc="outside lower center", ncols=min(k, 6), frameon=False)
    return _svg(figure)


def _within(pair: NDArray[np.float64], dropped: Sequence[tuple[float, float]]) -> bool:
    return any(low <= pair[0] + 1e-6 and pair[1] - 1e-6 <= high for low, high in dropped)


def histogram(of: Histogram, label: str, color: str, log: bool) -> str:
    """How many pixels have which value, in per cent."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.4))  # a layout engine would draw each figure twice
    ax = figure.add_axes((0.15, 0.21, 0.82, 0.74))
    shares = of.counts * (100 / max(int(of.counts.sum()), 1))
    positive = shares[shares > 0]
    floor = float(positive.min()) / 2 if log and positive.size else 0.0
    ax.stairs(np.maximum(shares, floor), of.edges, fill=True, color=color, ec="#333333", lw=0.6, baseline=floor)
    ax.set_xlim(of.low, of.high)
    if floor:
        ax.set_yscale("log")
        ax.set_ylim(floor, float(positive.max()) * 2)
    ax.set_xlabel(label)
    ax.set_ylabel("pixels (%)")
    return _svg(figure)


def _svg(figure: Figure) -> str:
    import matplotlib

    file = io.StringIO()
    # text stays text: a tenth of the size
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hsichunk"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return svg(file.getvalue())
