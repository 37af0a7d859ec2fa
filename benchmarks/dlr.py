"""What is measured on the ground: areas of the five 3 m targets of DLR HySU (Cerra et al. 2021), and their spectra."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.rows import Row
from benchmarks.tiles import Setting, say

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "dlr_hysu"
AREA, PIXEL, WINDOW = 9.0, 0.49, 7  # m2 of a target and of a pixel; side of the window in pixels


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """Mean error of the areas with the image's and the field library, and the angle of N-FINDR's endmembers."""
    if not SHARED.is_dir():
        say("dlr: skipped, ../shared/data is not here")
        return []
    import hsichunk as hsi
    from hsichunk.endmembers.library import endmembers_for

    cube = hsi.clean(hsi.open_tile(SHARED / "DLR_HySU_HS_large_targets.hdr"))
    pixels = cube.sizes["y"] * cube.sizes["x"]
    rows = []
    for name, what in (("DLR_HySU_HS_library", "image library"), ("DLR_HySU_SVC", "field library")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hsi.HsiWarning)  # values x 10000 under a scale of 1
            em = endmembers_for(SHARED / f"{name}.lib", cube.wavelength.values, cube.fwhm.values)
        began = time.perf_counter()
        abundance = hsi.fcls(cube, em).abundance.values
        took = time.perf_counter() - began
        error = np.mean([abs(_area(layer) - AREA) / AREA for layer in abundance[:5]])  # the sixth is grass
        note = f"mean error of five areas {error:.1%}"
        rows.append(Row("dlr", "13 x 16 x 135", f"FCLS, {what}", pixels, (took,), numbers={"error": error}, note=note))
        if name.endswith("HS_library"):
            library = em
    began = time.perf_counter()
    found = hsi.identify(hsi.nfindr(cube, 6, sample=None), library)
    took = time.perf_counter() - began
    angle = float(found.angle.sel(rank=1).mean())
    note = f"mean angle to the image library {angle:.4f} rad"
    rows.append(Row("dlr", "13 x 16 x 135", "N-FINDR, k = 6", pixels, (took,), numbers={"angle": angle}, note=note))
    return rows


def _area(layer: np.ndarray) -> float:  # type: ignore[type-arg]
    """m2 of abundance in the fullest window that holds the peak."""
    row, col = np.unravel_index(layer.argmax(), layer.shape)
    corners = [(r, c) for r in range(row - WINDOW + 1, row + 1) for c in range(col - WINDOW + 1, col + 1)]
    return PIXEL * max(float(layer[max(r, 0) : r + WINDOW, max(c, 0) : c + WINDOW].sum()) for r, c in corners)
