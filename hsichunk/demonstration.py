"""`hsichunk demo`: a tile of its own making, the whole job on it, and pictures of what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hsichunk as hsi
from hsichunk import options, zarr_store
from hsichunk.run import Progress, run
from hsichunk.threads import available

TILE = "NEON_D02_SERC_DP3_368000_4306000_reflectance.h5"


@dataclass(frozen=True)
class Demo:
    """What the demo left behind."""

    results: Path
    report: dict[str, Any]
    lines: tuple[str, ...]
    """what to tell the user"""


def demo(out: Path, size: int, progress: Progress) -> Demo:
    """Writes a NEON-layout tile of size x size pixels to `out`, runs the main job on it and draws the results."""
    out.mkdir(parents=True, exist_ok=True)
    tile, results = out / TILE, out / "results"
    progress("tile", 0, 1)
    truth = hsi.synthetic.write_tile(tile, shape=(size, size), seed=0)
    progress("tile", 1, 1)
    asked = options.build({"tiles": [str(tile)], "out": str(results), "threads": available(), "overwrite": True})
    report = run(asked, progress)
    pictures = draw(tile, results, out)
    return Demo(results, report, (_against_truth(truth, results), f"tile     {tile}", *(f"picture  {p}" for p in pictures)))


def _against_truth(truth: Any, results: Path) -> str:
    """How far the abundances lie from those the tile was mixed with, endmembers matched by their spectra."""
    products = zarr_store.open_store(results / "products.zarr")
    table = np.genfromtxt(results / "endmembers.csv", delimiter=",", skip_header=3)
    known = truth.reflectance.sel(wavelength=table[:, 0], method="nearest").values
    found = table[:, 1:].T
    cosine = (found @ known.T) / np.linalg.norm(found, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    match = cosine.argmax(1)
    error = np.abs(products.abundance.values - truth.abundance.values[match])
    return f"against the abundances that the tile was mixed with: mean difference {np.nanmean(error):.3f}"


def draw(tile: Path, results: Path, out: Path) -> list[Path]:
    """The pictures of the lesson: colours, endmembers, abundances and classes."""
    from matplotlib.figure import Figure

    opened = hsi.open_tile(tile)
    products = zarr_store.open_store(results / "products.zarr")
    em = hsi.nfindr(hsi.clean(opened), products.sizes["endmember"])

    def panel(draw_it: Any, what: Any, width: float = 7.0) -> Figure:
        figure = Figure(figsize=(width, 5.5), layout="constrained")
        draw_it(what, ax=figure.add_subplot())
        return figure

    figures = {
        "rgb": panel(hsi.plot.rgb, opened),
        "endmembers": panel(hsi.plot.endmembers, em, 9.0),
        "abundances": hsi.plot.abundances(products.abundance, fig=Figure(figsize=(10, 8), layout="constrained")),
        "sam_class": panel(hsi.plot.classes, products.sam_class),
        "sid_class": panel(hsi.plot.classes, products.sid_class),
    }
    paths = []
    for name, figure in figures.items():
        paths.append(out / f"{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths
