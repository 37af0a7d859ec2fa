"""Abundances and correlations of spectra that are no counts, from the spectra themselves rather than from their sums.

Sums of counts are exact, so nothing is lost in their differences; sums of floats are rounded. Here spectra are centred,
or mixtures subtracted from them, band by band.
"""

from __future__ import annotations

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.kernels import float_sums
from hsichunk.kernels.least_squares import active_set, certify


def least_squares(x: Floats, spectra: Floats, constraint: str, certificate: bool) -> Floats:
    """Spectra (n, L) to abundances by endmembers `spectra` (p, L), at least 0 ("nnls") or unbound ("ucls"), and rmse.

    (n, p + 1), in the unit of the spectra; with `certificate` a last column, the violation of the optimality conditions
    over the length of the spectrum.
    """
    length = np.sqrt(np.einsum("ij,ij->i", spectra, spectra))
    unit = spectra / length[:, None]  # a column's length is no part of the answer, but of the rounding
    gram, by_band = unit @ unit.T, np.ascontiguousarray(x.T)
    bounded = constraint == schema.NNLS
    if bounded:
        linear = _products(unit, by_band)
        found = np.zeros((len(x), len(unit)))
        active_set(gram, np.ascontiguousarray(linear.T), found)
        abundance = np.ascontiguousarray((found / length).T)
    else:
        abundance = _products(np.ascontiguousarray(np.linalg.pinv(spectra.T)), by_band)
    columns = []
    if certificate:
        columns = [_violation(by_band, unit, gram, np.ascontiguousarray(abundance.T * length), bounded)]
    rmse = _residual(by_band, abundance, spectra)
    return np.column_stack([abundance.T, rmse, *columns])


def _products(weights: Floats, by_band: Floats) -> Floats:
    out = np.zeros((len(weights), by_band.shape[1]))
    float_sums.add_products(weights, by_band, out)
    return out


def _residual(by_band: Floats, abundance: Floats, spectra: Floats) -> Floats:
    """The rmse (n,) of abundances (p, n), from the residual itself. Writes over `by_band` (L, n)."""
    float_sums.add_products(np.ascontiguousarray(-spectra.T), abundance, by_band)
    square = np.zeros(by_band.shape[1])
    float_sums.add_dots(by_band, by_band, square)
    return np.sqrt(square / len(by_band))


def _violation(by_band: Floats, unit: Floats, gram: Floats, found: Floats, bounded: bool) -> Floats:
    """The violation (n,) by abundances `found` (n, p) of endmembers `unit` (p, L), whose lengths are 1."""
    n, square = len(found), np.zeros((1, len(found)))
    float_sums.add_dots(by_band, by_band, square[0])
    abundance, rmse, kkt = np.empty(found.T.shape), np.empty(n), np.empty(n)
    linear, valid = np.ascontiguousarray(_products(unit, by_band).T), np.ones(n, np.bool_)
    certify(square, linear, gram, found, bounded, len(by_band), 1.0, valid, abundance, rmse, kkt)
    return kkt


def correlations(x: Floats, spectra: Floats, distance: bool) -> Floats:
    """Spectra (n, L) to Pearson's correlation with endmembers `spectra` (p, L), or 1 less it: (n, p)."""
    apart = spectra - spectra.mean(1, keepdims=True)
    size = np.sqrt(np.einsum("ij,ij->i", apart, apart))[:, None]
    unit = np.divide(apart, size, out=np.zeros_like(apart), where=size > 0)
    by_band = np.ascontiguousarray(x.T)
    bands, n = by_band.shape
    mean = _products(np.full((1, bands), 1.0 / bands), by_band)
    flat = (by_band == by_band[0]).all(0)  # whatever its mean was rounded to
    by_band -= mean
    square = np.zeros(n)
    float_sums.add_dots(by_band, by_band, square)
    product = _products(unit, by_band)
    length = np.where(flat | (square <= 0), np.inf, np.sqrt(square))
    correlation = np.clip(product / length, -1.0, 1.0)
    return 1.0 - correlation.T if distance else correlation.T
