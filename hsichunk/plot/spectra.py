"""Figures of spectra: endmembers against wavelength, and the histogram of reflectance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats, Positions
from hsichunk.classification.palette import class_colors
from hsichunk.plot.panel import axes_or_new, check_bins, draw_histogram
from hsichunk.plot.source import check_layer, reflectance, wavelengths_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 1.5  # times the usual step between bands; where the step is longer, bands are missing
AROUND = 4  # steps on either side that the usual one is the median of: two spectrometers of a sensor may differ
LEGEND_ROWS = 16
HISTOGRAM_PIXELS = 20_000  # of hundreds of bands each


def endmembers(em: xr.DataArray, *, ax: Axes | None = None) -> Axes:
    """Draw endmembers (endmember, wavelength) in reflectance, broken where bands were dropped. Return the Axes.

    Endmember i has the colour of class i. Raises HsiError for other dimensions or without wavelengths.
    """
    em = check_layer(em, "endmembers", schema.ENDMEMBER, schema.WAVELENGTH)
    centres = wavelengths_of(em)
    order = np.argsort(centres, kind="stable")
    spectra = em.transpose(schema.ENDMEMBER, schema.WAVELENGTH).to_numpy()[:, order]
    breaks = missing_before(centres[order])
    x = np.insert(centres[order], breaks, (centres[order][breaks - 1] + centres[order][breaks]) / 2)
    names = em[schema.ENDMEMBER].to_numpy().astype(str)
    colors = class_colors(len(names))[1:] / 255
    ax = axes_or_new(ax, (8.0, 4.5))
    for name, spectrum, color in zip(names, spectra, colors, strict=True):
        y = np.insert(spectrum.astype(np.float64), breaks, np.nan)
        (line,) = ax.plot(x, y, color=color, label=name)
        if isolated := _isolated(y):
            line.set(marker=".", markevery=isolated)
    ax.set_xlabel("wavelength (nm)")
    ax.set_ylabel("reflectance")
    ax.margins(x=0.02)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, ncols=-(-len(names) // LEGEND_ROWS))
    return ax


def histogram(
    cube: xr.Dataset | xr.DataArray,
    *,
    bins: int = 50,
    log: bool = False,
    ax: Axes | None = None,
    pixels: int = HISTOGRAM_PIXELS,
) -> Axes:
    """Draw the histogram of the reflectance values of all bands, from the least to the greatest. Return the Axes.

    Takes a cleaned cube, or a tile with its bad bands. Every n-th pixel is read, `pixels` at most; heights are per cent
    of the values read that are data, so they do not depend on how many. Raises HsiError as `band` does.
    """
    bins = check_bins(bins)
    raster = reflectance(cube).read(pixels)
    values = raster.values[np.isfinite(raster.values)]
    ax = axes_or_new(ax)
    draw_histogram(ax, values, (float(values.min()), float(values.max())), bins, log)
    ax.set_xlabel("reflectance")
    ax.set_ylabel("share of values (%)")
    return ax


def missing_before(centres: Floats) -> Positions:
    """Return the numbers of the bands before which bands are missing: the step in nm is far longer than around it."""
    steps = np.diff(centres)
    usual = [np.median(steps[max(0, i - AROUND) : i + AROUND + 1]) for i in range(steps.size)]
    return np.flatnonzero(steps > GAP * np.asarray(usual)) + 1


def _isolated(y: Floats) -> list[int]:
    """Return the numbers of points between NaN, which no line reaches."""
    known = np.pad(np.isfinite(y), 1)
    return [int(i) for i in np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])]
