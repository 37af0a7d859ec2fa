"""What others compute of a pixel, for `audit`: abundances by cvxopt, SciPy or NumPy, spectral angle, divergence and
Chebyshev's distance by PySpTools, correlation by NumPy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import metrics, schema
from hsichunk.array_types import Floats
from hsichunk.errors import HsiError

CVXOPT = {"show_progress": False, "abstol": 1e-13, "reltol": 1e-13, "feastol": 1e-13, "maxiters": 200}
IN_SUPPORT = 1e-4  # cvxopt leaves up to that in abundances that are zero
ROUNDING = 1e-12  # a violation below it, relative to the lengths of the spectra, is none


def check_installed() -> None:
    """Raises HsiError where the `reference` extra is absent."""
    try:
        _cvxopt()
        _distances()
    except ImportError as error:
        raise HsiError(
            f"audit compares with cvxopt and PySpTools, and {error.name or error} is not installed; "
            "install both: pip install 'hsichunk[reference]'"
        ) from None


def _cvxopt() -> Any:
    import cvxopt.solvers

    return cvxopt


def _distances() -> tuple[Callable[..., float], Callable[..., float], Callable[..., float]]:
    """SAM, SID and Chebyshev's distance of two spectra.

    PySpTools' own import of them needs none of the names that NumPy has removed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pysptools.distance import SAM, SID, chebyshev
    return SAM, SID, chebyshev


def abundances(spectra: Floats, endmembers: Floats) -> Floats:
    """FCLS of spectra (n, L) by endmembers (p, L): (n, p) float64.

    cvxopt's interior point finds which endmembers take part. At cond 1e6 its numbers are still 1e-6 off, so the
    abundances themselves come from least squares on those endmembers, corrected until no multiplier is negative.
    """
    cvxopt = _cvxopt()
    p = len(endmembers)
    if p == 1:
        return np.ones((len(spectra), 1))
    centre = endmembers.mean(0)
    apart = endmembers - centre
    unit = float(np.einsum("ij,ij->i", apart, apart).max())  # abundances do not change with it; cvxopt's limits do
    gram = cvxopt.matrix(apart @ apart.T / unit)
    at_least_0 = -cvxopt.spmatrix(1.0, range(p), range(p)), cvxopt.matrix(0.0, (p, 1))
    to_one = cvxopt.matrix(1.0, (1, p)), cvxopt.matrix(1.0)
    out = np.empty((len(spectra), p))
    for row, x in zip(out, spectra, strict=True):
        linear = cvxopt.matrix(-(apart @ (x - centre)) / unit)
        try:
            found = np.ravel(cvxopt.solvers.qp(gram, linear, *at_least_0, *to_one, options=CVXOPT)["x"])
        except (ArithmeticError, ValueError):  # its matrices came out singular
            found = np.full(p, 1.0 / p)
        row[:] = _polished(endmembers, x, found)
    return out


def _polished(endmembers: Floats, x: Floats, start: Floats) -> Floats:
    """The optimum by an active set that starts with the endmembers that `start` uses; `start` where it does not end."""
    support = [int(i) for i in np.flatnonzero(start > min(IN_SUPPORT, start.max() / 2))]
    for _ in range(10 * len(start)):
        part = _on(endmembers, x, support)
        if part.min() < 0 and len(support) > 1:
            support.pop(int(part.argmin()))
            continue
        whole = np.zeros(len(start))
        whole[support] = part
        base = endmembers[support[int(part.argmax())]]
        toward = endmembers - base
        gain = toward @ (x - whole @ endmembers) / np.maximum(np.linalg.norm(toward, axis=1), 1e-300)
        gain[support] = -np.inf
        best = int(gain.argmax())
        if gain[best] <= ROUNDING * np.linalg.norm(x):
            return whole
        support.append(best)
    clipped: Floats = np.maximum(start, 0.0)
    clipped /= clipped.sum()
    return clipped


def _on(endmembers: Floats, x: Floats, support: list[int]) -> Floats:
    """Least squares with a sum of one on some endmembers, by a QR of their spectra: the condition is not squared."""
    base = endmembers[support[-1]]
    if len(support) == 1:
        return np.ones(1)
    rest = np.linalg.lstsq((endmembers[support[:-1]] - base).T, x - base, rcond=None)[0]
    return np.append(rest, 1.0 - rest.sum())


def nonnegative(spectra: Floats, endmembers: Floats) -> Floats:
    """SciPy's nonnegative least squares (n, p)."""
    from scipy.optimize import nnls

    return np.array([nnls(endmembers.T, x)[0] for x in spectra]).reshape(len(spectra), len(endmembers))


def unconstrained(spectra: Floats, endmembers: Floats) -> Floats:
    """NumPy's least squares (n, p)."""
    return np.asarray(np.linalg.lstsq(endmembers.T, spectra.T, rcond=None)[0].T, np.float64)


def rmse(spectra: Floats, endmembers: Floats, abundance: Floats) -> Floats:
    """Root mean square residual (n,) over bands."""
    left: Floats = np.sqrt(np.mean((spectra - abundance @ endmembers) ** 2, axis=1))
    return left


def angles(spectra: Floats, endmembers: Floats) -> Floats:
    """PySpTools' spectral angle (n, p), rad; a spectrum of zeros, which has none, is at a right angle to everything."""
    sam = _distances()[0]
    return np.array([[sam(x, e) if x.any() else np.pi / 2 for e in endmembers] for x in spectra])


def divergences(spectra: Floats, endmembers: Floats) -> Floats:
    """PySpTools' spectral information divergence (n, p), nats, of spectra raised to the floor that SID has here."""
    sid = _distances()[1]
    raised, pure = np.maximum(spectra, schema.SID_FLOOR), np.maximum(endmembers, schema.SID_FLOOR)
    return np.array([[sid(x, e) for e in pure] for x in raised])


def tangents(spectra: Floats, endmembers: Floats) -> Floats:
    """PySpTools' divergence times the tangent of its angle (n, p), nats; infinite from a right angle on."""
    angle = angles(spectra, endmembers)
    acute = angle.astype(np.float32) < np.pi / 2  # as the angle is stored
    return np.where(acute, divergences(spectra, endmembers) * np.tan(angle), np.inf)


def correlations(spectra: Floats, endmembers: Floats) -> Floats:
    """NumPy's correlation over bands (n, p); 0 where a spectrum is the same in every band, which has none."""
    out = np.zeros((len(spectra), len(endmembers)))
    for row, x in zip(out, spectra, strict=True):
        for i, e in enumerate(endmembers):
            row[i] = np.corrcoef(x, e)[0, 1] if np.ptp(x) > 0 and np.ptp(e) > 0 else 0.0
    return out


def correlation_angles(spectra: Floats, endmembers: Floats) -> Floats:
    """The angle (n, p) whose cosine is the mean of one and Pearson's correlation, rad, by the chord between spectra.

    Spectra less their mean, of length one: their chord d is right near 0, where the arccosine loses half the digits.
    cos a = 1 - d^2 / 4, which is sin(a / 2) = d / sqrt(8). A spectrum that is the same in every band has correlation 0.
    """
    x, out = _standardised(spectra), np.empty((len(spectra), len(endmembers)))
    for column, e in zip(out.T, _standardised(endmembers), strict=True):
        chord = np.linalg.norm(x - e, axis=1)
        angle = 2 * np.arcsin(np.minimum(chord / np.sqrt(8), 1.0))
        column[:] = np.where(x.any(1) & e.any(), angle, np.pi / 3)
    return out


def _standardised(spectra: Floats) -> Floats:
    """Spectra (n, L) less their mean, of length one, or of zeros where all bands are the same."""
    apart = np.where(np.ptp(spectra, axis=1, keepdims=True) > 0, spectra - spectra.mean(1, keepdims=True), 0.0)
    size = np.linalg.norm(apart, axis=1, keepdims=True)
    return apart / np.where(size > 0, size, 1.0)


def differences(spectra: Floats, endmembers: Floats) -> Floats:
    """PySpTools' Chebyshev distance (n, p), in reflectance."""
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


def wrong_labels(
    labels: NDArray[Any], distance: Floats, limit: Floats, closed: bool, slack: float
) -> NDArray[np.bool_]:
    """Which labels (n,) no rounding below `slack` of the distances (n, p) and limits (p,) explains.

    A label is right if its class is within its limit and none within its own is nearer; 0, if none is within.
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
