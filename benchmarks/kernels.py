"""FCLS kernels alone, a core: ours and the solvers that `benchmarks.fcls` compares it with, on drawn mixtures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import fcls
from benchmarks.rows import Row
from benchmarks.tiles import Setting, say

OURS = "hsichunk"


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """Core-seconds of each solver for the sizes of `benchmarks.fcls`; slow ones are given a share of the pixels."""
    rows: list[Row] = []
    for p in fcls.SIZES:
        rng = np.random.default_rng(p)
        spectra = fcls.spectra(p, rng)
        gram, linear = fcls.problem(spectra, fcls.mixtures(spectra, setting.sizes.mixtures, rng))
        fcls.ours(gram, linear[:, :64])  # compiles
        ours = 0.0
        for name, (solver, share) in fcls.SOLVERS.items():
            given = linear[:, : max(1, linear.shape[1] // share)]
            try:
                each, abundance = fcls.timed(solver, gram, given, setting.few)
            except ImportError:
                say(f"fcls: {name} is not installed")
                continue
            ours = each if name == OURS else ours
            gap = abs(fcls.gap(gram, given, abundance))
            n = given.shape[1]
            against = {OURS: (ours * n,)} if name != OURS else {}
            note = f"{1e-6 / each:.3g} Mpx/s; duality gap {gap:.0e}"
            numbers = {"p": float(p), "gap": gap}
            rows.append(Row("fcls", f"p = {p}", f"{name}, 1 core", n, (each * n,), against, None, numbers, note))
    return rows
