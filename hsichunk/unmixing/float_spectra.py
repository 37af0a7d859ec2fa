"""Compute abundances and correlations of spectra that are not counts from the spectra themselves, not from their sums.

Sums of counts are exact, so differences of them lose nothing. Sums of floats are rounded, and their differences would
lose digits. So these functions centre spectra, and subtract mixtures from them, band by band.
"""

from __future__ import annotations

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.kernels import float_sums
from hsichunk.kernels.least_squares import active_set, certify


def least_squares(x: Floats, spectra: Floats, constraint: str, certificate: bool) -> Floats:
    """Unmix spectra `x` (n, L) by endmembers `spectra` (k, L); abundances are at least 0 ("nnls") or unbound ("ucls").

    Returns (n, k + 1): the abundances, and the rmse in the unit of the spectra. With `certificate` a last column holds
    the violation of the optimality conditions, over the length of the spectrum.
    """
    length = np.sqrt(np.einsum("ij,ij->i", spectra, spectra))
    unit = spectra / length[:, None]  # lengths have no part in the answer, but they would have one in the rounding
    gram, by_band = unit @ unit.T, np.ascontiguousarray(x.T)
    bounded = constraint == schema.NNLS
    if bounded:
        linear = _products(unit, by_band)
        scaled = np.zeros((len(x), len(unit)))
        active_set(gram, np.ascontiguousarray(linear.T), scaled)
        abundance = np.ascontiguousarray((scaled / length).T)
    else:
        abundance = _products(np.ascontiguousarray(np.linalg.pinv(spectra.T)), by_band)
    columns = []
    if certificate:
        columns = [_violation(by_band, unit, gram, np.ascontiguousarray(abundance.T * length), bounded)]
    rmse = _residual(by_band, abundance, spectra)
    return np.column_stack([abundance.T, rmse, *columns])


def _products(weights: Floats, by_band: Floats) -> Floats:
    """Return weights (rows, L) @ by_band (L, n), added in the order of bands."""
    out = np.zeros((len(weights), by_band.shape[1]))
    float_sums.add_products(weights, by_band, out)
    return out


def _residual(by_band: Floats, abundance: Floats, spectra: Floats) -> Floats:
    """Return the rmse (n,) of abundances (k, n), from the residuals themselves, which replace `by_band` (L, n)."""
    float_sums.add_products(np.ascontiguousarray(-spectra.T), abundance, by_band)
    square = np.zeros(by_band.shape[1])
    float_sums.add_dots(by_band, by_band, square)
    return np.sqrt(square / len(by_band))


def _violation(by_band: Floats, unit: Floats, gram: Floats, scaled: Floats, bounded: bool) -> Floats:
    """Return the violation (n,) of the optimality conditions by abundances `scaled` (n, k).

    They are of endmembers `unit` (k, L) of length 1, whose Gram matrix is `gram` (k, k).
    """
    n, square = len(scaled), np.zeros((1, len(scaled)))
    float_sums.add_dots(by_band, by_band, square[0])
    abundance, rmse, kkt = np.empty(scaled.T.shape), np.empty(n), np.empty(n)
    linear, valid = np.ascontiguousarray(_products(unit, by_band).T), np.ones(n, np.bool_)
    certify(square, linear, gram, scaled, bounded, len(by_band), 1.0, valid, abundance, rmse, kkt)
    return kkt


def correlations(x: Floats, spectra: Floats, distance: bool) -> Floats:
    """Return Pearson's correlation (n, k) of spectra `x` (n, L) with endmembers `spectra` (k, L).

    With `distance` 1 - r instead. A spectrum that is the same in every band has correlation 0.
    """
    centred = spectra - spectra.mean(1, keepdims=True)
    size = np.sqrt(np.einsum("ij,ij->i", centred, centred))[:, None]
    unit = np.divide(centred, size, out=np.zeros_like(centred), where=size > 0)
    by_band = np.ascontiguousarray(x.T)
    bands, n = by_band.shape
    mean = _products(np.full((1, bands), 1.0 / bands), by_band)
    flat = (by_band == by_band[0]).all(0)  # the rounded mean may differ from the one value
    by_band -= mean
    square = np.zeros(n)
    float_sums.add_dots(by_band, by_band, square)
    product = _products(unit, by_band)
    length = np.where(flat | (square <= 0), np.inf, np.sqrt(square))
    correlation = np.clip(product / length, -1.0, 1.0)
    return 1.0 - correlation.T if distance else correlation.T
