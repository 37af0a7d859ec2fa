"""Draw the figures of a finished run, each as a file: `hsichunk figures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from hsichunk import schema
from hsichunk.endmembers.library import read_library
from hsichunk.errors import HsiError
from hsichunk.plot import abundance as plot_abundance
from hsichunk.plot import classmap, maps
from hsichunk.plot import spectra as plot_spectra
from hsichunk.readers.tiles import open_tile
from hsichunk.run.folder import STORE
from hsichunk.writers import zarr_store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")


def write(results: Path, folder: Path, suffix: str = "png", tile: Path | None = None) -> list[Path]:
    """Draw endmembers, abundances, class maps and an overview of a finished run into a folder. Return their paths.

    With `tile`, its picture in colours is drawn, too. Raises HsiError for an unknown format and for a folder without
    results.
    """
    if suffix not in FORMATS:
        raise HsiError(f"format is {suffix!r}; expected {', '.join(FORMATS)}")
    products = zarr_store.open_store(results / STORE)
    from matplotlib.figure import Figure

    def panel(draw: Callable[..., Axes], data: xr.Dataset | xr.DataArray, width: float = 7.0) -> Figure:
        figure = Figure(figsize=(width, 5.5), layout="constrained")
        draw(data, ax=figure.add_subplot())
        return figure

    spectra = read_library(results / "endmembers.csv")
    figures = {
        "endmembers": panel(plot_spectra.endmembers, spectra, 9.0),
        "abundances": plot_abundance.abundances(products.abundance, fig=Figure(figsize=(10, 8), layout="constrained")),
        **{name: panel(classmap.classes, products[name]) for name in schema.CLASS_OF.values() if name in products},
    }
    figures["overview"] = _overview(spectra, products)
    if tile is not None:
        figures = {"rgb": panel(maps.rgb, open_tile(tile)), **figures}
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.{suffix}")
        figure.savefig(paths[-1], dpi=110, bbox_inches="tight")
    return paths


def _overview(spectra: xr.DataArray, products: xr.Dataset) -> Figure:
    """Return one figure of the results: endmembers, their abundances, the classes of the last metric."""
    from matplotlib.figure import Figure

    metric = [name for name in schema.CLASS_OF.values() if name in products][-1]
    figure = Figure(figsize=(16, 5), layout="constrained")
    [[left, middle, right]] = figure.subfigures(1, 3, squeeze=False, width_ratios=(1.1, 1.2, 1.3))
    plot_spectra.endmembers(spectra, ax=left.add_subplot())
    plot_abundance.abundances(products.abundance, fig=middle)
    for ax in middle.axes[: len(spectra)]:
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")  # the class map beside them has the same axes
    classmap.classes(products[metric], ax=right.add_subplot())
    return figure
