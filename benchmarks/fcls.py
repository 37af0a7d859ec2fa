"""FCLS on drawn mixtures: this package against SPAMS and three QP solvers. Run as `python -m benchmarks.fcls`."""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsichunk.kernels import fcls

Floats = npt.NDArray[np.float64]
Solver = Callable[[Floats, Floats], Floats]

SIZES = (4, 8, 12, 20)
BANDS = 120
NOISE = 0.01  # reflectance
SPAMS_UNIT = 30.0  # its tolerances are absolute: at 1 it stops early, at 1e5 it fails


def spectra(p: int, rng: np.random.Generator, bands: int = BANDS) -> Floats:
    """(p, bands) drawn endmembers: smooth, between 0.01 and 0.95 like reflectance."""
    at = np.linspace(0.0, 1.0, bands)
    centre, width, height = rng.random((3, p, 8, 1))
    features = (height - 0.5) * np.exp(-(((at - centre) / (0.02 + 0.12 * width)) ** 2))
    drawn: Floats = np.clip(0.25 + 0.15 * rng.random((p, 1)) + features.sum(1), 0.01, 0.95)
    return drawn


def collinear(p: int, cond: float, rng: np.random.Generator, bands: int = BANDS) -> Floats:
    """(p, bands) drawn endmembers so near to each other that the condition of their Gram matrix, shifted, is `cond`."""
    sides = np.linalg.qr(rng.normal(size=(bands, p - 1)))[0]
    corners = np.linalg.qr(np.hstack([np.ones((p, 1)), rng.normal(size=(p, p - 1))]))[0][:, 1:]
    drawn: Floats = 0.3 + (corners * np.geomspace(1.0, cond**-0.5, p - 1)) @ sides.T
    return drawn


def mixtures(endmembers: Floats, n: int, rng: np.random.Generator, noise: float = NOISE) -> Floats:
    """(n, bands) pixels: Dirichlet mixtures, some members nearly absent, and noise of every band."""
    p, bands = endmembers.shape
    shares: Floats = rng.dirichlet(np.full(p, 0.5), n)
    return shares @ endmembers + noise * rng.normal(size=(n, bands))


def problem(endmembers: Floats, pixels: Floats) -> tuple[Floats, Floats]:
    """G (p, p) and b (p, n), both less the mean endmember, over the largest element of G's diagonal."""
    mean = endmembers.mean(0)
    shifted = endmembers - mean
    gram = shifted @ shifted.T
    scale = gram.diagonal().max()
    return gram / scale, np.ascontiguousarray(shifted @ (pixels - mean).T) / scale


def ours(gram: Floats, linear: Floats) -> Floats:
    """Abundances (p, n) from this package."""
    p, n = linear.shape
    abundance, kkt = np.empty((p, n)), np.empty(n)
    valid, stats = np.ones(n, np.bool_), np.zeros(5, np.int64)
    fcls.solve(gram, linear, valid, fcls.new_table(p), abundance, kkt, stats)
    return abundance


def with_quadprog(gram: Floats, linear: Floats) -> Floats:
    """Abundances (p, n) from quadprog (Goldfarb & Idnani); as the sum is one, 11' only adds a constant to G."""
    import quadprog

    p = len(gram)
    bounds = np.hstack([np.ones((p, 1)), np.eye(p)])
    least = np.eye(p + 1)[0]
    return np.array([quadprog.solve_qp(gram + 1.0, b + 1.0, bounds, least, 1)[0] for b in linear.T]).T


def with_daqp(gram: Floats, linear: Floats) -> Floats:
    """Abundances (p, n) from DAQP, a dual active-set solver."""
    import daqp

    p = len(gram)
    upper, lower = np.append(np.full(p, 1e30), 1.0), np.append(np.zeros(p), 1.0)
    sense = np.zeros(p + 1, ctypes.c_int)
    sense[p] = 5  # an equality
    hessian, sums = gram + 1.0, np.ones((1, p))
    tight = {"primal_tol": 1e-13, "dual_tol": 1e-13}
    return np.array([daqp.solve(hessian, -1.0 - b, sums, upper, lower, sense, **tight)[0] for b in linear.T]).T


def with_cvxopt(gram: Floats, linear: Floats) -> Floats:
    """Abundances (p, n) from CVXOPT's interior-point QP solver, all tolerances 1e-13."""
    from cvxopt import matrix, solvers

    p = len(gram)
    options = {"show_progress": False, "abstol": 1e-13, "reltol": 1e-13, "feastol": 1e-13}
    fixed = (matrix(-np.eye(p)), matrix(np.zeros(p)), matrix(np.ones((1, p))), matrix(1.0))
    quadratic = matrix(gram)
    return np.array([np.ravel(solvers.qp(quadratic, matrix(-b), *fixed, options=options)["x"]) for b in linear.T]).T


def with_spams(gram: Floats, linear: Floats) -> Floats:
    """Abundances (p, n) from SPAMS' decompSimplex, given p - 1 bands that hold all of G and b."""
    import spams

    values, vectors = np.linalg.eigh(gram)
    lengths = np.sqrt(values[1:])[:, None]
    root = SPAMS_UNIT * lengths * vectors[:, 1:].T
    pixels = SPAMS_UNIT * (vectors[:, 1:].T @ linear) / lengths
    found = spams.decompSimplex(np.asfortranarray(pixels), np.asfortranarray(root), computeXtX=True, numThreads=1)
    return np.asarray(found.todense())


SOLVERS: dict[str, tuple[Solver, int]] = {  # with the share of the pixels that each is given
    "hsichunk": (ours, 1),
    "SPAMS": (with_spams, 50),
    "quadprog": (with_quadprog, 200),
    "daqp": (with_daqp, 200),
    "cvxopt": (with_cvxopt, 1000),
}


def gap(gram: Floats, linear: Floats, abundance: Floats) -> float:
    """Worst distance of the objective from its optimum at most (the duality gap), over the largest of G's diagonal."""
    slope = gram @ abundance - linear
    return float(((slope * abundance).sum(0) - slope.min(0)).max() / gram.diagonal().max())


def timed(solver: Solver, gram: Floats, linear: Floats, repeats: int) -> tuple[float, Floats]:
    """Core-seconds a pixel, the best of some runs, and the abundances."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        abundance = solver(gram, linear)
        seconds.append(time.process_time() - start)
    return max(min(seconds), 1e-9) / linear.shape[1], abundance


def compare(p: int, pixels: int, repeats: int) -> list[list[str]]:
    """Rows of the table for p endmembers."""
    rng = np.random.default_rng(p)
    endmembers = spectra(p, rng)
    gram, linear = problem(endmembers, mixtures(endmembers, pixels, rng))
    ours(gram, linear[:, :64])  # compiles
    few = max(1, pixels // SOLVERS["cvxopt"][1])
    exact = with_cvxopt(gram, linear[:, :few])
    rows: list[list[str]] = []
    first = 0.0
    for name, (solver, share) in SOLVERS.items():
        given = linear[:, : max(few, pixels // share)]
        try:
            seconds, abundance = timed(solver, gram, given, repeats)
        except ImportError:
            rows.append([str(p), name, "not installed", "", "", "", ""])
            continue
        first = first or seconds
        error = f"{np.abs(abundance[:, :few] - exact).max():.0e}" if name != "cvxopt" else "-"
        speed, ratio = f"{1e-6 / seconds:.4f}", f"{seconds / first:.0f}"
        rows.append([str(p), name, str(given.shape[1]), speed, ratio, error, f"{abs(gap(gram, given, abundance)):.0e}"])
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table: speed of each solver, how many times the time of ours it takes, and how exact it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fcls", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few pixels, to see that it runs")
    small = parser.parse_args(argv).small
    header = ["p", "solver", "pixels", "Mpx/s a core", "x our time", "error vs cvxopt", "duality gap"]
    table: list[list[Any]] = [header]
    for p in SIZES:
        table += compare(p, 2000 if small else 300_000, 1 if small else 3)
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
