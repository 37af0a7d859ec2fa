"""Endmembers made ready for the pass: every constant that the sums and the scores need, rounded so that sums are exact.

In counts x (int16) and endmembers e in counts rounded to 2**-b (a pixel is a whole number of counts already):

    sum            a term is a multiple of     512 terms stay below
    x e            2**-b, b from 14 to 24      2**(53 - b), by the choice of b
    x^2            1                           2**39
    x, floored     1                           2**24
    x ln q         2**-24                      2**29  (24 + 5; |ln q| < 17)
    q ln x         2**-49  (q 2**-27, ln 2**-22)  2**4   (sum q = 1, ln x < 10.4)
    x ln x         2**-22                      2**28
    x              1                           2**24  (as it is: for NCC)

Each is a multiple of a fixed power of two below 2**53 of them, so float64 adds without error in any order. b is each
endmember's own, as fine as its sum over bands allows: its scores do not depend on which others are scored with it.
The largest |x - e| over bands, Chebyshev's distance, is no sum, but as exact, and the same in any order as well.
Floats that are no counts take the same sums in float64, unrounded: right to 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import metrics, schema
from hsichunk.array_types import Floats
from hsichunk.errors import HsiError
from hsichunk.unmixing.sum_layout import SumLayout

EXACT_BITS = 53  # of a float64's mantissa
COUNT_BITS = 15  # |x| is at most 2**15
MOST_E_BITS = 24
Q_BITS, LN_Q_BITS = 27, 24
LARGEST_COUNT = 32767.0
MOST_BANDS = 512
ORDER = (schema.ABUNDANCE, schema.RMSE, *schema.METRICS, schema.NCC_DISTANCE, schema.KKT)


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
    """what x is multiplied with: (rows, L) e, for the plain sum one, for SID one and ln q (see `layout`)"""
    right: Floats
    """(p, L) what ln x is multiplied with (q), for SID; else (0, L)"""
    floor: float
    """counts below this are read as this by SID"""
    gram: Floats
    """(p, p) products of endmembers less their mean"""
    shift: Floats
    """(p,) products of endmembers less their mean with the mean"""
    mean_square: float
    """square of the mean endmember"""
    squares: Floats
    """(p,) squared lengths of the endmembers"""
    q_ln_q: Floats
    """(p,) sum of q ln q"""
    guard: float = 0.0
    """share of a spectrum's sum that SID adds to each of its values, in place of the floor"""
    constraint: str = schema.FCLS
    """what binds the abundances"""
    products_of: Floats = field(default_factory=lambda: np.empty((0, 0)))
    """(p, p) products of the endmembers as they are, for NNLS and UCLS"""
    centres: Floats = field(default_factory=lambda: np.empty((3, 0)))
    """(3, p) the mean of each endmember in two parts, and its length less the mean, for NCC"""

    @property
    def k(self) -> int:
        """Number of endmembers."""
        return len(self.names)

    @property
    def bands(self) -> int:
        """Number of bands L."""
        return len(self.left[0])

    @cached_property
    def layout(self) -> SumLayout:
        """The rows of the sums of a pixel, made from the products."""
        return SumLayout.of(self.k, self.products)

    @property
    def with_abundance(self) -> bool:
        return not {schema.ABUNDANCE, schema.RMSE, schema.KKT}.isdisjoint(self.products)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        weights = self.left.tobytes(), self.right.tobytes()
        return (self.names, self.products, self.scale, self.exact, self.guard, self.constraint, *weights)


def prepare(
    endmembers: Floats,
    names: Sequence[str],
    products: Sequence[str],
    scale: float,
    *,
    exact: bool,
    guard: float = 0.0,
    constraint: str = schema.FCLS,
) -> Solver:
    """The solver of `endmembers` (p, L) in reflectance for pixels in counts of `scale` a unit.

    `constraint` binds the abundances: "fcls", "nnls" or "ucls". A `guard` above 0 keeps SID's logarithms finite as
    PySpTools does: added to every share, in place of the floor. Raises HsiError for endmembers that are not finite,
    beyond what counts can hold, or mixtures of each other.
    """
    names = tuple(names)
    values = np.asarray(endmembers, np.float64) * scale
    _check(values, names, scale, exact, sums=set(products) != {schema.CHEBYSHEV})
    if exact:
        values, gram, shift, mean_square, plain = _rounded(values)
    else:
        gram, shift, mean_square = _shifted_floats(values)
        plain = values @ values.T
        np.fill_diagonal(plain, np.einsum("ij,ij->i", values, values))
    floor = max(1.0, float(np.rint(schema.SID_FLOOR * scale)))
    left, right, q_ln_q = values, np.empty((0, values.shape[1])), np.zeros(len(names))
    ones, needed = np.ones((1, values.shape[1])), SumLayout.of(len(names), products).needed
    if metrics.PLAIN_SUM in needed:
        left = np.concatenate([left, ones])
    if metrics.LOGARITHMS in needed:
        q, ln_q = _shares(values if guard else np.maximum(values, floor), exact, guard)
        left, right = np.concatenate([left, ones, ln_q]), q
        q_ln_q = (q * ln_q).sum(1)
    solver = Solver(
        names=names,
        products=tuple(p for p in ORDER if p in products),
        scale=scale,
        exact=exact,
        left=np.ascontiguousarray(left),
        right=np.ascontiguousarray(right),
        floor=floor,
        gram=gram,
        shift=shift,
        mean_square=mean_square,
        squares=np.diag(plain).copy(),
        q_ln_q=q_ln_q,
        guard=guard,
        constraint=constraint,
        products_of=plain,
        centres=_centres(values),
    )
    if solver.with_abundance and constraint == schema.FCLS:
        _check_affinely_independent(solver)
    elif solver.with_abundance:
        check_independent(plain, names, sum_to_one=False)
    return solver


def _check(values: Floats, names: tuple[str, ...], scale: float, exact: bool, sums: bool) -> None:
    p, bands = values.shape
    if not 1 <= p <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"{p} endmembers; expected 1 to {schema.MAX_ENDMEMBERS}")
    if exact and sums and bands > MOST_BANDS:
        raise HsiError(f"{bands} bands; sums of counts are exact up to {MOST_BANDS}: select bands with clean(every=2)")
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise HsiError(f"endmember {names[int(bad.argmax())]} holds values that are not finite; drop those bands or it")
    most = np.abs(values).max(1)
    if exact and (most > LARGEST_COUNT).any():
        worst = int(most.argmax())
        raise HsiError(
            f"endmember {names[worst]} reaches reflectance {most[worst] / scale:g}; expected at most "
            f"{LARGEST_COUNT / scale:g}, what int16 counts can hold: give it as a fraction, not in percent or counts"
        )


def _check_affinely_independent(solver: Solver) -> None:
    """Raises HsiError for endmembers of which some are mixtures of others that sum to one."""
    from hsichunk.kernels.fcls import dependent

    groups = dependent(solver.gram)
    if groups:
        named = "; ".join(", ".join(solver.names[i] for i in group) for group in groups)
        raise HsiError(f"endmembers {named} are equal or mixtures of each other; drop one of them")


def check_independent(gram: Floats, names: Sequence[str], *, sum_to_one: bool) -> None:
    """Raises HsiError for endmembers of which some are mixtures of others, by their products (p, p)."""
    from hsichunk.kernels.fcls import dependent

    # affine mixtures of the endmembers and of zero are their linear ones
    groups = dependent(gram if sum_to_one else np.pad(gram, (0, 1)))
    if groups:
        named = "; ".join(", ".join(names[i] for i in group if i < len(names)) for group in groups)
        raise HsiError(f"endmembers {named} are zero, multiples or mixtures of each other; drop one of them")


def check_unmixable(spectra: Floats, names: Sequence[str], *, sum_to_one: bool) -> None:
    """Raises HsiError for endmembers (p, L) that are not finite, or of which some are mixtures of others."""
    finite = np.isfinite(spectra).all(1)
    if not finite.all():
        raise HsiError(
            f"endmember {names[int(finite.argmin())]} holds values that are not finite; drop those bands or it"
        )
    check_independent(spectra @ spectra.T, names, sum_to_one=sum_to_one)


def fits(spectra: Floats, scale: float) -> bool:
    """Whether endmembers (p, L) have exact sums with counts of `scale` a unit."""
    return spectra.shape[1] <= MOST_BANDS and bool((np.abs(spectra) * scale <= LARGEST_COUNT).all())


def _centres(values: Floats) -> Floats:
    """(3, p): the mean of each endmember in two parts, and its length less the mean.

    The first part is a multiple of 2**-14, as every rounded endmember is of something finer, and no larger than the
    mean of |e|: its product with a sum of counts is exact, as the sums x e are.
    """
    mean = values.mean(1)
    coarse = np.trunc(np.ldexp(mean, 14)) * 2.0**-14
    # fsum rounds once, in whatever order: the same on every processor
    length = np.array([math.sqrt(math.fsum(row)) for row in ((values - mean[:, None]) ** 2).tolist()])
    length[(values == values[:, :1]).all(1)] = 0.0  # whatever its mean was rounded to
    return np.stack([coarse, mean - coarse, length])


def _rounded(values: Floats) -> tuple[Floats, Floats, Floats, float, Floats]:
    """Endmembers rounded to their own 2**-b, then what `_shifted` makes of them and their products.

    b is the largest for which 2**15 times the sum over bands of |e| stays below 2**53 units.
    """
    total = np.abs(values).sum(1) + values.shape[1] / 2**COUNT_BITS  # the second term covers the rounding
    bits = np.minimum(EXACT_BITS - COUNT_BITS - np.frexp(total)[1], MOST_E_BITS).astype(np.int64)
    steps = np.rint(np.ldexp(values, bits[:, None])).astype(np.int64)
    products = _exact_products(steps, [int(b) for b in bits])
    plain = np.array([[value / (1 << 2 * MOST_E_BITS) for value in row] for row in products])
    return np.ldexp(steps.astype(np.float64), -bits[:, None]), *_shifted(products), plain


def _exact_products(steps: NDArray[np.int64], bits: list[int]) -> list[list[int]]:
    """All e_i . e_j in units of 2**-(2 MOST_E_BITS) counts squared: by halves of integers, whose products fit int64."""
    high, low = steps >> 14, steps & 0x3FFF
    hh, hl, ll = (one.tolist() for one in (high @ high.T, high @ low.T, low @ low.T))
    finest = 2 * MOST_E_BITS

    def product(i: int, j: int) -> int:
        whole: int = (hh[i][j] << 28) + ((hl[i][j] + hl[j][i]) << 14) + ll[i][j]
        return whole << (finest - bits[i] - bits[j])

    return [[product(i, j) for j in range(len(steps))] for i in range(len(steps))]


def _shifted(products: list[list[int]]) -> tuple[Floats, Floats, float]:
    """(e_i - mean) . (e_j - mean), (e_i - mean) . mean and mean . mean: in integers, rounded once by the division."""
    p = len(products)
    unit = p * p << 2 * MOST_E_BITS
    along = [sum(row) for row in products]  # p times e_i . mean
    square = sum(along)  # p squared times mean . mean
    gram = [
        [(p * (p * v - a - b) + square) / unit for v, b in zip(row, along, strict=True)]
        for row, a in zip(products, along, strict=True)
    ]
    return np.array(gram), np.array([(p * a - square) / unit for a in along]), square / unit


def _shifted_floats(values: Floats) -> tuple[Floats, Floats, float]:
    mean = values.mean(0)
    apart = values - mean
    gram = apart @ apart.T
    return (gram + gram.T) / 2, apart @ mean, float(mean @ mean)


def _shares(values: Floats, exact: bool, guard: float) -> tuple[Floats, Floats]:
    """q = e / sum(e) + guard and ln q (p, L); rounded, each row of q still sums to exactly one."""
    q = values / values.sum(1, keepdims=True) + guard
    if not exact:
        return q, np.log(q)
    unit = 2.0**Q_BITS
    steps = np.floor(q * unit)
    for row, whole in zip(steps, q * unit, strict=True):
        missing = int(unit - row.sum())
        row[np.argsort(row - whole, kind="stable")[:missing]] += 1
    ln_q = np.rint(np.log(q) * 2.0**LN_Q_BITS) * 2.0**-LN_Q_BITS
    return steps / unit, ln_q
