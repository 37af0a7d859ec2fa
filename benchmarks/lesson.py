"""PySpTools doing the whole of NEON's lesson on a crop: N-FINDR, FCLS, SID and SAM; per pixel beside hsichunk."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from benchmarks.rows import Row, Seconds, clock, interleaved
from benchmarks.tiles import Setting, named, say, tile
from benchmarks.whole_run import run_once

NEEDED = ("pysptools", "cvxopt", "sklearn", "scipy", "pytest")
REPEATED = 4  # times down and across
THRESHOLDS: dict[str, list[float]] = {"SID": [0.8, 0.3, 0.03], "SAM": [0.8, 0.3, 0.03]}


def crop(setting: Setting, layout: str) -> xr.DataArray:
    """The middle of a tile as reflectance in memory, no pixel without data."""
    import hsichunk as hsi

    side, size = setting.sizes.crop, setting.sizes.side
    middle = slice((size - side) // 2, (size - side) // 2 + side)
    cube = hsi.clean(hsi.open_tile(tile(setting, layout))).isel(y=middle, x=middle).compute()
    assert bool(cube.notnull().all())
    return cube


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """Each step of the lesson once, and FCLS beside ours on the same array."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        say(f"pysptools: left out, {', '.join(missing)} is not installed")
        return []
    from tests.helpers import pysptools_oracle as oracle

    layout = setting.layouts[0]
    cube = crop(setting, layout)
    say(f"pysptools: {cube.sizes['y']} x {cube.sizes['x']} pixels")
    image = cube.values.astype(np.float64)
    picked: list[Any] = []
    steps = {
        "NFINDR": lambda: picked.append(oracle.nfindr(image, setting.k, 5)),
        "FCLS": lambda: oracle.fcls(image, picked[0].spectra, tolerance=None),
        "SID": lambda: oracle.sid_classify(image, picked[0].spectra[:3], THRESHOLDS["SID"]),
        "SAM": lambda: oracle.sam_classify(image, picked[0].spectra[:3], THRESHOLDS["SAM"]),
    }
    oracle.sam_classify(image[:8, :8], oracle.nfindr(image[:8, :8], setting.k, 1).spectra, 0.5)  # imports
    took = {name: (clock(step)(),) for name, step in steps.items()}
    pixels = cube.sizes["y"] * cube.sizes["x"]
    where = f"{named(layout, setting.sizes.side, setting.sizes.bands)}, crop {cube.sizes['y']} x {cube.sizes['x']}"
    run, run_pixels, how = _run(setting, layout, done)
    beside = {"FCLS": _fcls(cube, picked[0].spectra)}
    rows = [
        Row("pysptools", where, f"PySpTools {name}", pixels, seconds, beside.get(name, {}))
        for name, seconds in took.items()
    ]
    whole = (sum(seconds for (seconds,) in took.values()),)
    note = f"whole process of hsichunk run per pixel ({how}), reading and writing included; PySpTools: neither"
    against = {"hsichunk run": (run / run_pixels * pixels,)}
    numbers = {"run_seconds": run, "run_pixels": float(run_pixels)}
    return [*rows, Row("pysptools", where, "PySpTools, the lesson", pixels, whole, against, None, numbers, note)]


def _run(setting: Setting, layout: str, done: Sequence[Row]) -> tuple[float, int, str]:
    """Seconds and pixels of a whole run: those that the part `run` found, or of one made now."""
    where = named(layout, setting.sizes.side, setting.sizes.bands)
    for row in done:
        if row.part == "run" and row.tile == where and row.peak:
            return row.median, row.pixels, f"the row of part run, {row.tile}"
    spent, _ = run_once(setting, [tile(setting, layout)])
    return spent.seconds, setting.sizes.side**2, f"one run, {where}"


def _fcls(cube: xr.DataArray, spectra: NDArray[np.float32]) -> dict[str, Seconds]:
    """Ours in memory, per as many pixels: the public call on REPEATED**2 times the array, the kernel on products."""
    import hsichunk as hsi
    from hsichunk.kernels.fcls import new_table, solve

    em = xr.DataArray(spectra.astype(np.float64), {"wavelength": cube.wavelength}, ("endmember", "wavelength"))
    e = em.values - em.values.mean(0)
    gram = e @ e.T
    x = cube.values.reshape(-1, cube.sizes["wavelength"]).astype(np.float64)
    linear = np.ascontiguousarray(e @ (x - em.values.mean(0)).T)
    p, n = linear.shape
    abundance, kkt, valid = np.empty((p, n)), np.empty(n), np.ones(n, np.bool_)
    table, counted = new_table(p), np.zeros(5, np.int64)
    # PySpTools takes the same time for each pixel; ours has some milliseconds a call, which many pixels share
    large = hsi.as_cube(np.tile(cube.values, (REPEATED, REPEATED, 1)), cube.wavelength.values)
    call, kernel = interleaved(
        5,
        clock(lambda: hsi.fcls(large, em)),
        clock(lambda: solve((gram + gram.T) / 2, linear, valid, table, abundance, kkt, counted)),
    )
    return {"hsi.fcls": (float(np.median(call)) / REPEATED**2,), "the FCLS kernel": (float(np.median(kernel)),)}
