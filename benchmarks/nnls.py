"""Nonnegative least squares of every real pixel beside the project: hsichunk's and PySpTools' difference from SciPy."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, clock
from benchmarks.tiles import Setting, say

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
NEEDED = ("scipy", "pytest", "rasterio")
THEIRS = ("pysptools", "cvxopt", "sklearn")
EVERY = 7  # of which pixels PySpTools, which takes a millisecond for each, has one


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """A row a scene, and one over all of them: seconds of `hsi.nnls`, the largest differences in its note."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing or not SHARED.is_dir():
        say(f"nnls: left out, {', '.join(missing) or '../shared/data'} is not here")
        return []
    from tests.helpers.scenes import NAMES, scene

    rows = []
    for name in NAMES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a file that says nothing of its bad bands, GDAL on its tags
            found = scene(SHARED, name)
        rows.append(_row(name, found.cube, found.endmembers))
    pixels, seconds = sum(row.pixels for row in rows), sum(row.median for row in rows)
    numbers = {what: max(row.numbers[what] for row in rows) for what in rows[0].numbers}
    return [*rows, Row("nnls", "all four", "NNLS", pixels, (seconds,), numbers=numbers, note=_note(numbers))]


def _row(name: str, cube: Any, em: Any) -> Row:
    from scipy.optimize import nnls

    import hsichunk as hsi

    hsi.nnls(cube[:1], em)  # compiles
    ours: list[Any] = []
    took = clock(lambda: ours.append(hsi.nnls(cube, em).abundance.values))()
    x = cube.values.reshape(-1, cube.shape[2]).astype(np.float64)
    valid = np.isfinite(x).all(1)
    x, a = x[valid], ours[0].reshape(len(em), -1).T[valid]
    expected = np.array([nnls(em.values.T, spectrum)[0] for spectrum in x])
    numbers = {"difference": float(np.abs(a - expected).max())}
    if all(importlib.util.find_spec(needed) for needed in THEIRS):
        from tests.helpers import pysptools_oracle as oracle

        with oracle.names_put_back():
            theirs = oracle._module("abundance_maps.amaps").NNLS(x[::EVERY], em.values)
        numbers["pysptools"] = float(np.abs(theirs - expected[::EVERY]).max())
    where = f"{name}, {' x '.join(map(str, cube.shape))}"
    return Row("nnls", where, f"NNLS, {len(em)} endmembers", len(x), (took,), numbers=numbers, note=_note(numbers))


def _note(numbers: dict[str, float]) -> str:
    theirs = f", PySpTools by {numbers['pysptools']:.1e}" if "pysptools" in numbers else ""
    return f"differs from scipy.optimize.nnls by {numbers['difference']:.1e}{theirs}"
