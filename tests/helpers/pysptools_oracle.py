"""PySpTools 0.15 on a current stack, for tests: its algorithms under typed functions.

PySpTools looks up names that NumPy and SciPy have removed. They are put back while one of its functions runs and taken
away after it, so that the code under test never sees them. Every function here skips the test that calls it, with the
reason, where PySpTools or what it needs is not installed.

Cubes M are (rows, columns, bands), endmembers U and E are (endmembers, bands), as PySpTools has them.
"""

from __future__ import annotations

import importlib
import random
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Threshold = float | list[float]

_MISSING = object()


class Picked(NamedTuple):
    """Pixels that an endmember search chose."""

    spectra: Array
    """(k, bands) float32, PySpTools' cast"""
    rows: list[int]
    columns: list[int]
    sweeps: int


def _sdet_c(a: Array) -> tuple[np.float32, int]:
    """float32 determinant and LAPACK's info, as scipy.linalg._flinalg.sdet_c of SciPy < 1.13."""
    from scipy.linalg.lapack import sgetrf

    lu, pivots, info = sgetrf(a)
    swaps = np.count_nonzero(pivots != np.arange(len(pivots)))
    return np.float32(np.prod(np.diag(lu), dtype=np.float32) * (-1) ** swaps), int(info)


def _names() -> list[tuple[Any, str, Any]]:
    scipy, integrate, linalg = map(_installed, ("scipy", "scipy.integrate", "scipy.linalg"))
    flinalg = types.ModuleType("scipy.linalg._flinalg")
    flinalg.sdet_c = _sdet_c  # type: ignore[attr-defined]
    return [
        (np, "float", float),
        (np, "int", int),
        (np, "bool", bool),
        (np, "object", object),
        (np, "PINF", np.inf),
        (np, "mat", np.asmatrix),
        (scipy, "sqrt", np.lib.scimath.sqrt),
        (integrate, "trapz", integrate.trapezoid),
        (linalg, "_flinalg", flinalg),
    ]


@contextmanager
def names_put_back() -> Iterator[None]:
    """What PySpTools misses is there inside the block; names that the stack still has are left as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, and those of the removed names
        added = [(owner, name, value) for owner, name, value in _names() if _lookup(owner, name) is _MISSING]
        for owner, name, value in added:
            setattr(owner, name, value)
        try:
            yield
        finally:
            for owner, name, _ in added:
                delattr(owner, name)


def _lookup(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        return _MISSING


def _module(name: str, *needs: str) -> Any:
    """A module of PySpTools, to be called inside `names_put_back`; skips the test where it is not installed."""
    for needed in ("pysptools", *needs):
        _installed(needed)
    return importlib.import_module(f"pysptools.{name}")


def _installed(name: str) -> Any:
    return pytest.importorskip(name, reason=f"the oracle needs {name.partition('.')[0]} (the `reference` extra)")


def nfindr(M: Array, k: int, maxit: int | None = None, *, atgp_init: bool = True, seed: int = 0) -> Picked:
    """N-FINDR. `seed` matters without `atgp_init` alone: PySpTools draws its start from Python's own generator."""
    with names_put_back():
        search = _module("eea.eea_int", "sklearn").NFINDR()
        state = random.getstate()
        random.seed(seed)
        try:
            spectra = search.extract(M, k, maxit=maxit, normalize=False, ATGP_init=atgp_init)
        finally:
            random.setstate(state)
        return _picked(search, spectra, int(search.get_iterations()))


def atgp(M: Array, k: int) -> Picked:
    with names_put_back():
        search = _module("eea.eea_int").ATGP()
        return _picked(search, search.extract(M, k, normalize=False), 0)


def _picked(search: Any, spectra: Array, sweeps: int) -> Picked:
    places = search.get_idx()  # (column, row)
    return Picked(spectra, [int(row) for _, row in places], [int(column) for column, _ in places], sweeps)


def fcls(M: Array, U: Array, *, tolerance: float | None = 1e-13) -> npt.NDArray[np.float32]:
    """FCLS abundances (rows, columns, k). PySpTools itself has tolerance=None, cvxopt's defaults: up to 7e-3 off."""
    with names_put_back():
        unmixer = _module("abundance_maps.amaps_int", "cvxopt").FCLS()
        options = importlib.import_module("cvxopt").solvers.options
        before = dict(options)
        if tolerance is not None:
            options.update(abstol=tolerance, reltol=tolerance, feastol=tolerance)
        try:
            abundances: npt.NDArray[np.float32] = unmixer.map(_plain(M), _plain(U), normalize=False)
        finally:
            options.clear()
            options.update(before)
        return abundances


def _plain(spectra: Array) -> Floats:
    """cvxopt refuses arrays whose dtype states its byte order, as those that scipy.io.loadmat returns."""
    plain = np.empty(spectra.shape)
    plain[...] = spectra
    return plain


def sam_map(M: Array, E: Array) -> Floats:
    """Angles (rows, columns, k) of SAM.classify: of min-max scaled spectra, from cosines rounded to 7 decimals."""
    return _classified("SAM", M, E, 0.5).angles  # type: ignore[no-any-return]


def sid_map(M: Array, E: Array) -> Floats:
    """Divergences (rows, columns, k) of SID.classify: of min-max scaled spectra, shares rounded to float32."""
    return _classified("SID", M, E, 0.5).sid  # type: ignore[no-any-return]


def sam_classify(M: Array, E: Array, threshold: Threshold) -> npt.NDArray[np.int64]:
    """Class map (rows, columns), 0 = unclassified; thresholds are fractions of the range over the image."""
    return _classified("SAM", M, E, threshold).cmap  # type: ignore[no-any-return]


def sid_classify(M: Array, E: Array, threshold: Threshold) -> npt.NDArray[np.int64]:
    """Class map (rows, columns), 0 = unclassified; thresholds are fractions of the range over the image."""
    return _classified("SID", M, E, threshold).cmap  # type: ignore[no-any-return]


def _classified(name: str, M: Array, E: Array, threshold: Threshold) -> Any:
    with names_put_back():
        classifier = getattr(_module("classification.cls_int"), name)()
        classifier.classify(M, E, threshold)
        return classifier


def normalize(M: Array) -> Floats:
    """(M - min) / (max - min) over all of M, what classify does to the cube and, apart, to the endmembers."""
    with names_put_back():
        return _module("classification.cls_int")._normalize(M)  # type: ignore[no-any-return]


def threshold_rule(distances: Floats, threshold: Threshold) -> npt.NDArray[np.int64]:
    """The rule alone, on any distances (pixels, k): labels (pixels,). In a list, distances of 10 and above are lost."""
    with names_put_back():
        rules = _module("classification.cls")
        rule = rules._multiple_values_min if isinstance(threshold, list) else rules._single_value_min
        labels: npt.NDArray[np.int64] = rule(distances, threshold)
        return labels


def distance_sam(s1: Array, s2: Array) -> float:
    """Angle in radians between two spectra as they are."""
    with names_put_back():
        return float(_module("distance").SAM(s1, s2))


def distance_sid(s1: Array, s2: Array) -> float:
    """Divergence in nats between two spectra as they are; NaN where one has negative values."""
    with names_put_back():
        return float(_module("distance").SID(s1, s2))


def nearest(metric: str, M: Array, E: Array) -> npt.NDArray[np.int64]:
    """Index (rows, columns), from 0, of the endmember at the smallest `metric`, "SAM" or "SID", of raw spectra."""
    with names_put_back():
        distance = _module("distance")
        index: npt.NDArray[np.int64] = distance.classify(getattr(distance, metric), M, E).astype(np.int64)
        return index
