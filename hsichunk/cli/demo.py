"""`hsichunk demo`: a tile of its own making, the whole job on it, and pictures of what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """What the demo left behind."""

    results: Path
    run: RunResult
    lines: tuple[str, ...]
    """what to tell the user"""


def demo(out: Path, size: int, progress: Progress) -> Demo:
    """Writes a NEON-layout tile of size x size pixels to `out`, runs the main job on it and draws the results."""
    out.mkdir(parents=True, exist_ok=True)
    tile, results = out / TILE, out / "results"
    progress("tile", 0, 1)
    truth = write_tile(tile, shape=(size, size), seed=0)
    progress("tile", 1, 1)
    # noise turns dark water far from its endmember: thresholds that keep it
    asked = options.build(
        {
            "tiles": [str(tile)],
            "out": str(results),
            "sam_threshold": 0.5,
            "sid_threshold": 1.0,
            "overwrite": True,
        }
    )
    with interpreter.dedicated():
        result = run(asked, progress)
    em = read_library(results / "endmembers.csv")
    pictures = figures.write(results, out, tile=tile)
    lines = (_against_truth(truth, em, results), f"tile     {tile}", *(f"picture  {path}" for path in pictures))
    return Demo(results, result, lines)


def _against_truth(truth: Any, em: xr.DataArray, results: Path) -> str:
    """How far the abundances lie from those the tile was mixed with, endmembers matched by their spectra."""
    products = zarr_store.open_store(results / STORE)
    known = truth.reflectance.sel(wavelength=em.wavelength.values, method="nearest").values
    cosine = (em.values @ known.T) / np.linalg.norm(em.values, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    match = cosine.argmax(1)
    error = np.abs(products.abundance.values - truth.abundance.values[match])
    return f"against the abundances that the tile was mixed with: mean difference {np.nanmean(error):.3f}"
