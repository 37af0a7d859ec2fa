"""Draw the picture of README.md: colours, endmembers, abundances and classes of a finished run over one tile.

hsichunk run TILE --out RESULTS -k 4 --sam-threshold 0.3 --sid-threshold 0.3
python scripts/documentation/picture.py TILE RESULTS .github/neon_sjer.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import xarray as xr

import hsichunk as hsi

SIZE = (9.2, 7.9)  # inches: nearly square, so that it stays readable on a narrow screen
DPI = 100


def draw(tile: Path, results: Path, picture: Path) -> None:
    """Write a PNG file of the tile and of the run in the folder `results`."""
    products = xr.open_zarr(results / "products.zarr", decode_coords="all")
    spectra = hsi.read_library(results / "endmembers.csv")
    with plt.rc_context({"font.size": 11, "axes.titlesize": "medium"}):
        figure = plt.figure(figsize=SIZE, layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=(1.0, 1.12))
        left, right = lower.subfigures(1, 2, width_ratios=(1.2, 1.0))
        colours, lines = upper.subplots(1, 2, width_ratios=(1.0, 1.5))
        hsi.plot.rgb(hsi.open_tile(tile), ax=colours)
        colours.set_title("colours, stretched")
        hsi.plot.endmembers(spectra, ax=lines)
        lines.set_title("endmembers")
        lines.legend(loc="upper right")
        hsi.plot.abundances(products, fig=left)
        classes = hsi.plot.classes(products.sid_class, ax=right.add_subplot())
        classes.set_title("classes by SID")
        legend = classes.get_legend()
        names = [text.get_text() for text in legend.get_texts()]
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.03), "ncols": 2, "frameon": False}
        classes.legend(legend.legend_handles, names, fontsize="small", **below)
        for axes in (colours, classes, *left.axes[: len(spectra)]):
            axes.set(xticks=[], yticks=[], xlabel="", ylabel="")  # coordinates say little about so small an area
        figure.savefig(picture, dpi=DPI)
        plt.close(figure)


if __name__ == "__main__":
    draw(*map(Path, sys.argv[1:4]))
