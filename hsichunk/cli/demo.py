"""Make a tile of known truth, run the whole job on it and draw the results, for `hsichunk demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from hsichunk.endmembers.library import read_library
from hsichunk.results import figures
from hsichunk.run import interpreter, options
from hsichunk.run.folder import STORE
from hsichunk.run.job import Progress
from hsichunk.run.runner import RunResult, run
from hsichunk.synthetic.tile import write_tile
from hsichunk.writers import zarr_store

TILE = "NEON_D02_SERC_DP3_368000_4306000_reflectance.h5"


@dataclass(frozen=True)
class Demo:
    """The results of the demo."""

    results: Path
    """folder of the run"""
    run: RunResult
    lines: tuple[str, ...]
    """what to print: how well the truth is found, and the paths of tile and pictures"""


def demo(out: Path, size: int, progress: Progress) -> Demo:
    """Write a tile of size x size pixels in NEON's layout to `out`, run the job on it and draw the results."""
    out.mkdir(parents=True, exist_ok=True)
    tile, results = out / TILE, out / "results"
    progress("tile", 0, 1)
    truth = write_tile(tile, shape=(size, size), seed=0)
    progress("tile", 1, 1)
    # noise turns the spectra of dark water far from their endmember: these thresholds keep them in its class
    demo_options = options.build(
        {
            "tiles": [str(tile)],
            "out": str(results),
            "sam_threshold": 0.5,
            "sid_threshold": 1.0,
            "overwrite": True,
        }
    )
    with interpreter.dedicated():
        result = run(demo_options, progress)
    em = read_library(results / "endmembers.csv")
    pictures = figures.write(results, out, tile=tile)
    lines = (_against_truth(truth, em, results), f"tile     {tile}", *(f"picture  {path}" for path in pictures))
    return Demo(results, result, lines)


def _against_truth(truth: xr.Dataset, em: xr.DataArray, results: Path) -> str:
    """Return in words how far the abundances lie from those of the truth; endmembers are matched by their spectra."""
    products = zarr_store.open_store(results / STORE)
    known = truth.reflectance.sel(wavelength=em.wavelength.values, method="nearest").values
    cosine = (em.values @ known.T) / np.linalg.norm(em.values, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    match = cosine.argmax(1)
    error = np.abs(products.abundance.values - truth.abundance.values[match])
    return f"against the abundances that the tile was mixed with: mean difference {np.nanmean(error):.3f}"
