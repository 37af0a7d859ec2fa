"""Spectra: endmembers against wavelength, and how reflectance is spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.classification.palette import class_colors
from hsichunk.plot.panel import axes_or_new, checked_bins, shares
from hsichunk.plot.source import checked, reflectance, wavelengths_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 1.5  # times the usual step between bands: some are missing
AROUND = 4  # steps on either side that tell what is usual, for instruments of two spectrometers with steps of their own
LEGEND_ROWS = 16
HISTOGRAM_PIXELS = 20_000  # of hundreds of bands each


def endmembers(em: xr.DataArray, *, ax: Axes | None = None) -> Axes:
    """Draw endmembers (endmember, wavelength) in reflectance, broken where bands were dropped. Gives back the Axes.

    Endmember i has the colour of class i. Raises HsiError for other dimensions or without wavelengths.
    """
    em = checked(em, "endmembers", schema.ENDMEMBER, schema.WAVELENGTH)
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
        if lone := _lone(y):
            line.set(marker=".", markevery=lone)
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
    """Draw how the reflectance values of all bands are spread, from the least to the greatest. Gives back the Axes.

    Takes a cleaned cube (or a tile, bad bands and all). Every n-th pixel is read, `pixels` at most; heights are
    per cent of the values read that are data, so they do not depend on how many. Raises HsiError as `band` does.
    """
    bins = checked_bins(bins)
    raster = reflectance(cube).read(pixels)
    values = raster.values[np.isfinite(raster.values)]
    ax = axes_or_new(ax)
    shares(ax, values, (float(values.min()), float(values.max())), bins, log)
    ax.set_xlabel("reflectance")
    ax.set_ylabel("share of values (%)")
    return ax


def missing_before(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Numbers of the bands before which some are missing: the step in nm is far longer there than around it."""
    steps = np.diff(centres)
    usual = [np.median(steps[max(0, i - AROUND) : i + AROUND + 1]) for i in range(steps.size)]
    return np.flatnonzero(steps > GAP * np.asarray(usual)) + 1


def _lone(y: npt.NDArray[np.float64]) -> list[int]:
    """Points without a neighbour to draw a line to."""
    known = np.pad(np.isfinite(y), 1)
    return [int(i) for i in np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])]
