"""Endmembers made ready for the pass: every constant that the sums and the scores need, rounded so that sums are exact.

In counts x (int16) and endmembers e in counts rounded to 2**-12 (a pixel is a whole number of counts already):

    sum            a term is a multiple of     512 terms stay below
    x e            2**-12                      2**39  (15 + 15 + 9)
    x^2            1                           2**39
    x, floored     1                           2**24
    x ln q         2**-24                      2**29  (24 + 5; |ln q| < 17)
    q ln x         2**-49  (q 2**-25, ln 2**-24)  2**4   (sum q = 1, ln x < 10.4)
    x ln x         2**-24                      2**28

Each is a multiple of a fixed power of two below 2**53 of them, so float64 adds without error in any order. Floats that are no
counts take the same sums in float64, unrounded: right to 1e-6, not bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.errors import HsiError

E_BITS, Q_BITS, LN_Q_BITS = 12, 25, 24
LARGEST_COUNT = 32767.0
MOST_BANDS = 512

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solver:
    """p endmembers over L bands, and what is asked for. Pure data: pickles to any worker."""

    names: tuple[str, ...]
    products: tuple[str, ...]
    scale: float
    """counts per unit reflectance"""
    exact: bool
    """whether the constants are rounded for exact sums of counts"""
    left: Floats
    """(2p + 1, L) or, without SID, (p, L): what x is multiplied with (e, one, ln q)"""
    right: Floats
    """(p, L) what ln x is multiplied with (q)"""
    floor: float
    """counts below this are read as this by SID"""
    gram: Floats
    """(p, p) products of endmembers less their mean"""
    shift: Floats
    """(p,) products of endmembers less their mean with the mean"""
    mean_square: float
    """square of the mean endmember"""
    norms: Floats
    """(p,) lengths of the endmembers"""
    q_ln_q: Floats
    """(p,) sum of q ln q"""

    @property
    def p(self) -> int:
        """Number of endmembers."""
        return len(self.names)

    @property
    def bands(self) -> int:
        """Number of bands L."""
        return self.left.shape[1]

    @property
    def with_sid(self) -> bool:
        return schema.SID in self.products

    @property
    def with_abundance(self) -> bool:
        return not {schema.ABUNDANCE, schema.RMSE, schema.KKT}.isdisjoint(self.products)

    @property
    def sums(self) -> int:
        """Rows of sums a pixel needs."""
        return 3 * self.p + 3 if self.with_sid else self.p + 1

    @property
    def layers(self) -> int:
        """float32 maps that all products make up."""
        return sum(self.p if name in schema.PER_ENDMEMBER else 1 for name in self.products)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.names, self.products, self.scale, self.exact, self.left.tobytes(), self.right.tobytes())


def prepare(endmembers: Floats, names: Sequence[str], products: Sequence[str], scale: float, *, exact: bool) -> Solver:
    """The solver of `endmembers` (p, L) in reflectance for pixels in counts of `scale` a unit.

    Raises HsiError for endmembers that are not finite, beyond what counts can hold, or affinely dependent.
    """
    names = tuple(names)
    values = np.asarray(endmembers, np.float64) * scale
    _check(values, names, scale, exact)
    if exact:
        steps = np.rint(values * 2.0**E_BITS).astype(np.int64)
        values = steps * 2.0**-E_BITS
        products_of = _exact_products(steps)
    else:
        products_of = [[Fraction(float(v)) for v in row] for row in values @ values.T]
    gram, shift, mean_square = _shifted(products_of) if exact else _shifted_floats(values)
    floor = max(1.0, float(np.rint(schema.SID_FLOOR * scale)))
    left, right, q_ln_q = values, np.empty((0, values.shape[1])), np.zeros(len(names))
    if schema.SID in products:
        q, ln_q = _shares(np.maximum(values, floor), exact)
        left, right = np.concatenate([values, np.ones((1, values.shape[1])), ln_q]), q
        q_ln_q = (q * ln_q).sum(1)
    solver = Solver(
        names=names,
        products=tuple(p for p in schema.ALL_PRODUCTS if p in products),
        scale=scale,
        exact=exact,
        left=np.ascontiguousarray(left),
        right=np.ascontiguousarray(right),
        floor=floor,
        gram=gram,
        shift=shift,
        mean_square=mean_square,
        norms=np.sqrt([float(row[i]) for i, row in enumerate(products_of)]),
        q_ln_q=q_ln_q,
    )
    if solver.with_abundance:
        _check_independent(solver)
    return solver


def _check(values: Floats, names: tuple[str, ...], scale: float, exact: bool) -> None:
    p, bands = values.shape
    if not 1 <= p <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"{p} endmembers; expected 1 to {schema.MAX_ENDMEMBERS}")
    if exact and bands > MOST_BANDS:
        raise HsiError(f"{bands} bands; sums of counts are exact up to {MOST_BANDS}: select bands with clean(every=2)")
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise HsiError(f"endmember {names[int(bad.argmax())]} holds values that are not finite; drop those bands or it")
    most = np.abs(values).max(1)
    if exact and (most > LARGEST_COUNT).any():
        worst = int(most.argmax())
        raise HsiError(
            f"endmember {names[worst]} reaches reflectance {most[worst] / scale:g}; expected at most "
            f"{LARGEST_COUNT / scale:g}, what int16 counts can hold: give reflectance as a fraction, not in percent or counts"
        )


def _check_independent(solver: Solver) -> None:
    from hsichunk.kernels.fcls import dependent

    groups = dependent(solver.gram)
    if groups:
        named = "; ".join(", ".join(solver.names[i] for i in group) for group in groups)
        raise HsiError(f"endmembers {named} are equal or mixtures of each other; drop one of them")


def _exact_products(steps: NDArray[np.int64]) -> list[list[Fraction]]:
    """All e_i . e_j in counts squared, without rounding: halves of the integers, whose products fit int64."""
    high, low = steps >> 14, steps & 0x3FFF
    hh, hl, ll = high @ high.T, high @ low.T, low @ low.T
    p = len(steps)
    unit = 1 << 2 * E_BITS
    return [
        [
            Fraction((int(hh[i, j]) << 28) + ((int(hl[i, j]) + int(hl[j, i])) << 14) + int(ll[i, j]), unit)
            for j in range(p)
        ]
        for i in range(p)
    ]


def _shifted(products: list[list[Fraction]]) -> tuple[Floats, Floats, float]:
    """Gram matrix about the mean endmember, (e_i - mean) . mean, and mean . mean: exact, then rounded once."""
    p = len(products)
    along = [sum(row, Fraction(0)) / p for row in products]
    square = sum(along, Fraction(0)) / p
    gram = np.array([[float(products[i][j] - along[i] - along[j] + square) for j in range(p)] for i in range(p)])
    return gram, np.array([float(a - square) for a in along]), float(square)


def _shifted_floats(values: Floats) -> tuple[Floats, Floats, float]:
    mean = values.mean(0)
    apart = values - mean
    gram = apart @ apart.T
    return (gram + gram.T) / 2, apart @ mean, float(mean @ mean)


def _shares(values: Floats, exact: bool) -> tuple[Floats, Floats]:
    """q = e / sum(e) and ln q (p, L); rounded, each row of q still sums to exactly one."""
    q = values / values.sum(1, keepdims=True)
    if not exact:
        return q, np.log(q)
    unit = 2.0**Q_BITS
    steps = np.floor(q * unit)
    for row, whole in zip(steps, q * unit, strict=True):
        missing = int(unit - row.sum())
        row[np.argsort(row - whole, kind="stable")[:missing]] += 1
    ln_q = np.rint(np.log(q) * 2.0**LN_Q_BITS) * 2.0**-LN_Q_BITS
    return steps / unit, ln_q
