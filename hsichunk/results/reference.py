"""Reference values of pixels for `audit`, by independent code.

Abundances are computed by cvxopt, SciPy or NumPy; spectral angle, divergence and Chebyshev's distance by PySpTools;
correlation by NumPy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np

from hsichunk import metrics, schema
from hsichunk.array_types import Bools, Bytes, Floats
from hsichunk.errors import HsiError

CVXOPT = {"show_progress": False, "abstol": 1e-13, "reltol": 1e-13, "feastol": 1e-13, "maxiters": 200}
IN_SUPPORT = 1e-4  # cvxopt returns up to that for abundances that are zero
ROUNDING = 1e-12  # a violation up to it, relative to the lengths of the spectra, does not count


def check_installed() -> None:
    """Raise HsiError where the `reference` extra is not installed."""
    try:
        _cvxopt()
        _distances()
    except ImportError as error:
        raise HsiError(
            f"audit compares with cvxopt and PySpTools, and {error.name or error} is not installed; "
            "install both: pip install 'hsichunk[reference]'"
        ) from None


def _cvxopt() -> ModuleType:
    import cvxopt.solvers

    module: ModuleType = cvxopt
    return module


def _distances() -> tuple[Callable[..., float], Callable[..., float], Callable[..., float]]:
    """Return PySpTools' functions of SAM, SID and Chebyshev's distance of two spectra.

    This module of PySpTools, unlike others, needs no name that NumPy has removed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pysptools.distance import SAM, SID, chebyshev
    return SAM, SID, chebyshev


def abundances(spectra: Floats, endmembers: Floats) -> Floats:
    """Return the FCLS abundances (n, k), float64, of spectra (n, L) by endmembers (k, L).

    cvxopt's interior point finds which endmembers take part. At a condition number of 1e6 its abundances are still 1e-6
    off, so they are computed by least squares on those endmembers, which change until no multiplier is negative.
    """
    cvxopt = _cvxopt()
    k = len(endmembers)
    if k == 1:
        return np.ones((len(spectra), 1))
    centre = endmembers.mean(0)
    apart = endmembers - centre
    unit = float(np.einsum("ij,ij->i", apart, apart).max())  # scales cvxopt's tolerances, not the abundances
    gram = cvxopt.matrix(apart @ apart.T / unit)
    nonnegativity = -cvxopt.spmatrix(1.0, range(k), range(k)), cvxopt.matrix(0.0, (k, 1))
    sum_to_one = cvxopt.matrix(1.0, (1, k)), cvxopt.matrix(1.0)
    out = np.empty((len(spectra), k))
    for row, x in zip(out, spectra, strict=True):
        linear = cvxopt.matrix(-(apart @ (x - centre)) / unit)
        try:
            start = np.ravel(cvxopt.solvers.qp(gram, linear, *nonnegativity, *sum_to_one, options=CVXOPT)["x"])
        except (ArithmeticError, ValueError):  # cvxopt's own matrices became singular
            start = np.full(k, 1.0 / k)
        row[:] = _polish(endmembers, x, start)
    return out


def _polish(endmembers: Floats, x: Floats, start: Floats) -> Floats:
    """Return the optimum (k,) by an active set that begins with the endmembers that `start` uses.

    Where it does not end in 10 k steps, the result is `start`, clipped at 0 and of sum 1.
    """
    support = [int(i) for i in np.flatnonzero(start > min(IN_SUPPORT, start.max() / 2))]
    for _ in range(10 * len(start)):
        part = _solve_support(endmembers, x, support)
        if part.min() < 0 and len(support) > 1:
            support.pop(int(part.argmin()))
            continue
        abundance = np.zeros(len(start))
        abundance[support] = part
        base = endmembers[support[int(part.argmax())]]
        toward = endmembers - base
        gain = toward @ (x - abundance @ endmembers) / np.maximum(np.linalg.norm(toward, axis=1), 1e-300)
        gain[support] = -np.inf
        best = int(gain.argmax())
        if gain[best] <= ROUNDING * np.linalg.norm(x):
            return abundance
        support.append(best)
    clipped: Floats = np.maximum(start, 0.0)
    clipped /= clipped.sum()
    return clipped


def _solve_support(endmembers: Floats, x: Floats, support: list[int]) -> Floats:
    """Return the least-squares abundances, of sum one, of the endmembers in `support`.

    NumPy's lstsq works on the spectra themselves, so that the condition number is not squared.
    """
    base = endmembers[support[-1]]
    if len(support) == 1:
        return np.ones(1)
    rest = np.linalg.lstsq((endmembers[support[:-1]] - base).T, x - base, rcond=None)[0]
    return np.append(rest, 1.0 - rest.sum())


def nonnegative(spectra: Floats, endmembers: Floats) -> Floats:
    """Return SciPy's nonnegative least-squares abundances (n, k)."""
    from scipy.optimize import nnls

    return np.array([nnls(endmembers.T, x)[0] for x in spectra]).reshape(len(spectra), len(endmembers))


def unconstrained(spectra: Floats, endmembers: Floats) -> Floats:
    """Return NumPy's least-squares abundances (n, k)."""
    return np.asarray(np.linalg.lstsq(endmembers.T, spectra.T, rcond=None)[0].T, np.float64)


def rmse(spectra: Floats, endmembers: Floats, abundance: Floats) -> Floats:
    """Return the root mean square residual (n,) over bands."""
    residual: Floats = np.sqrt(np.mean((spectra - abundance @ endmembers) ** 2, axis=1))
    return residual


def angles(spectra: Floats, endmembers: Floats) -> Floats:
    """Return PySpTools' spectral angle (n, k), rad; pi / 2 for a spectrum of zeros, which has none."""
    sam = _distances()[0]
    return np.array([[sam(x, e) if x.any() else np.pi / 2 for e in endmembers] for x in spectra])


def divergences(spectra: Floats, endmembers: Floats) -> Floats:
    """Return PySpTools' spectral information divergence (n, k), nats, of spectra raised to hsichunk's floor of SID."""
    sid = _distances()[1]
    raised, pure = np.maximum(spectra, schema.SID_FLOOR), np.maximum(endmembers, schema.SID_FLOOR)
    return np.array([[sid(x, e) for e in pure] for x in raised])


def tangents(spectra: Floats, endmembers: Floats) -> Floats:
    """Return PySpTools' divergence times the tangent of its angle (n, k), nats; infinite from a right angle on."""
    angle = angles(spectra, endmembers)
    acute = angle.astype(np.float32) < np.pi / 2  # float32, as the angle is stored
    return np.where(acute, divergences(spectra, endmembers) * np.tan(angle), np.inf)


def correlations(spectra: Floats, endmembers: Floats) -> Floats:
    """Return NumPy's correlation over bands (n, k); 0 for a spectrum that is the same in every band, which has none."""
    out = np.zeros((len(spectra), len(endmembers)))
    for row, x in zip(out, spectra, strict=True):
        for i, e in enumerate(endmembers):
            row[i] = np.corrcoef(x, e)[0, 1] if np.ptp(x) > 0 and np.ptp(e) > 0 else 0.0
    return out


def correlation_angles(spectra: Floats, endmembers: Floats) -> Floats:
    """Return the angle (n, k), rad, whose cosine is the mean of one and Pearson's correlation.

    It comes from the chord d between spectra less their mean, of length one: cos a = 1 - d^2 / 4, which is
    sin(a / 2) = d / sqrt(8). Near 0, where the arccosine loses half the digits, the chord keeps them. A spectrum that
    is the same in every band has correlation 0.
    """
    x, out = _standardised(spectra), np.empty((len(spectra), len(endmembers)))
    for column, e in zip(out.T, _standardised(endmembers), strict=True):
        chord = np.linalg.norm(x - e, axis=1)
        angle = 2 * np.arcsin(np.minimum(chord / np.sqrt(8), 1.0))
        column[:] = np.where(x.any(1) & e.any(), angle, np.pi / 3)
    return out


def _standardised(spectra: Floats) -> Floats:
    """Return spectra (n, L) less their mean, of length one; zeros where all bands are the same."""
    apart = np.where(np.ptp(spectra, axis=1, keepdims=True) > 0, spectra - spectra.mean(1, keepdims=True), 0.0)
    size = np.linalg.norm(apart, axis=1, keepdims=True)
    return apart / np.where(size > 0, size, 1.0)


def differences(spectra: Floats, endmembers: Floats) -> Floats:
    """Return PySpTools' Chebyshev distance (n, k), in reflectance."""
    chebyshev = _distances()[2]
    return np.array([[chebyshev(x, e) for e in endmembers] for x in spectra])


ABUNDANCES = {schema.FCLS: abundances, schema.NNLS: nonnegative, schema.UCLS: unconstrained}
SCORES = {
    schema.SAM: angles,
    schema.SID: divergences,
    schema.SID_SAM: tangents,
    schema.NCC: correlations,
    schema.CHEBYSHEV: differences,
    metrics.SCA: correlation_angles,
}


def wrong_labels(labels: Bytes, distance: Floats, limit: Floats, closed: bool, slack: float) -> Bools:
    """Return which labels (n,) no rounding below `slack` of the distances (n, k) and limits (k,) explains.

    A label is right if its class is within its limit and no nearer class is within its own. The label 0 is right if no
    class is within its limit. With `closed`, a distance equal to its limit is within it.
    """
    margin = slack * np.maximum(1.0, np.abs(distance))
    surely = distance < limit - margin
    maybe = distance <= limit + margin if closed else distance < limit + margin
    wrong = np.empty(len(labels), np.bool_)
    for i, label in enumerate(np.asarray(labels, np.int64).tolist()):
        if label == schema.UNCLASSIFIED:
            wrong[i] = surely[i].any()
        elif label > distance.shape[1]:
            wrong[i] = True
        else:
            own = distance[i, label - 1]
            nearer = surely[i] & (distance[i] < own - 2 * margin[i, label - 1])
            wrong[i] = not maybe[i, label - 1] or nearer.any()
    return wrong
