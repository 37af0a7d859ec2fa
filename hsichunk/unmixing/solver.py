"""Prepare endmembers for the pass: compute the constants of the sums and scores, rounded so that the sums are exact.

Pixels x are whole counts (int16). Endmembers e are in counts, too, rounded to multiples of 2**-b:

    sum            a term is a multiple of     512 terms stay below
    x e            2**-b, b from 14 to 24      2**(53 - b), by the choice of b
    x^2            1                           2**39
    x, floored     1                           2**24
    x ln q         2**-24                      2**29  (24 + 5; |ln q| < 17)
    q ln x         2**-49  (q 2**-27, ln 2**-22)  2**4   (sum q = 1, ln x < 10.4)
    x ln x         2**-22                      2**28
    x              1                           2**24  (as it is: for NCC)

Each sum is fewer than 2**53 units of a fixed power of two, so float64 adds its terms without error, in any order. Each
endmember has its own b, as large as its sum over bands allows, so its scores do not depend on the other endmembers. The
largest |x - e| over bands, Chebyshev's distance, is no sum, but it is exact and independent of order, too. Values that
are not counts have the same sums in float64, with endmembers that are not rounded; their products are right to 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hsichunk import metrics, schema
from hsichunk.array_types import Floats, Ints
from hsichunk.errors import HsiError
from hsichunk.unmixing.sum_layout import SumLayout

EXACT_BITS = 53  # of the mantissa of a float64
COUNT_BITS = 15  # |x| is at most 2**15
MOST_E_BITS = 24  # the largest b of an endmember
Q_BITS, LN_Q_BITS = 27, 24  # q is a multiple of 2**-27, ln q of 2**-24
LARGEST_COUNT = 32767.0
MOST_BANDS = 512
ORDER = (schema.ABUNDANCE, schema.RMSE, *schema.METRICS, schema.NCC_DISTANCE, schema.KKT)
"""the order of products in results"""


@dataclass(frozen=True, eq=False)
class Solver:
    """k endmembers over L bands, prepared for the products that are asked for; pure data, pickled to any worker."""

    names: tuple[str, ...]
    products: tuple[str, ...]
    scale: float
    """counts per unit reflectance"""
    exact: bool
    """whether the constants are rounded for exact sums of counts"""
    left: Floats
    """(rows, L) weights of x: e, then ones for the plain sum, then ones and ln q for SID, as `layout` has their sums"""
    right: Floats
    """(k, L) weights of ln x, which are q, for SID; (0, L) without it"""
    floor: float
    """SID reads counts below this as this"""
    gram: Floats
    """(k, k) inner products of the endmembers less their mean"""
    shift: Floats
    """(k,) inner products of the endmembers less their mean with their mean"""
    mean_square: float
    """squared length of the mean endmember"""
    squares: Floats
    """(k,) squared lengths of the endmembers"""
    q_ln_q: Floats
    """(k,) sum of q ln q over bands"""
    guard: float = 0.0
    """share of the sum of a spectrum that SID adds to each of its values, in place of the floor"""
    constraint: str = schema.FCLS
    """the constraint on abundances, "fcls", "nnls" or "ucls", as in `unmix`"""
    plain_gram: Floats = field(default_factory=lambda: np.empty((0, 0)))
    """(k, k) inner products of the endmembers themselves, for NNLS and UCLS"""
    centres: Floats = field(default_factory=lambda: np.empty((3, 0)))
    """(3, k) for NCC: the mean of each endmember in two parts, and the length of the endmember less its mean"""

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
        """The rows of the sums that the products need of a pixel."""
        return SumLayout.of(self.k, self.products)

    @property
    def with_abundance(self) -> bool:
        """Whether any product needs abundances."""
        return not {schema.ABUNDANCE, schema.RMSE, schema.KKT}.isdisjoint(self.products)

    def __dask_tokenize__(self) -> tuple[tuple[str, ...] | str | float | bytes, ...]:
        weights = self.left.tobytes(), self.right.tobytes()
        return (self.names, self.products, self.scale, self.exact, self.guard, self.constraint, *weights)


class Solvers(NamedTuple):
    """The solvers for reflectance in memory, which may or may not be counts over a scale."""

    counts: Solver | None
    """for pixels whose values are whole counts over the scale; None where the cube names no scale"""
    floats: Solver
    """for all other pixels"""


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
    """Return the solver of `endmembers` (k, L) in reflectance for pixels in counts of `scale` a unit.

    With `exact` its constants are rounded so that sums of counts are exact. `constraint` is "fcls", "nnls" or "ucls". A
    `guard` above 0 keeps the logarithms of SID finite as PySpTools does: it is added to every share, in place of the
    floor. Raises HsiError for endmembers that are not finite, beyond what counts can hold, or mixtures of each other.
    """
    names = tuple(names)
    values = np.asarray(endmembers, np.float64) * scale
    _check(values, names, scale, exact, sums=set(products) != {schema.CHEBYSHEV})
    if exact:
        values, centred, plain_gram = _rounded(values)
    else:
        centred = _centred_floats(values)
        plain_gram = values @ values.T
        np.fill_diagonal(plain_gram, np.einsum("ij,ij->i", values, values))
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
        products=tuple(name for name in ORDER if name in products),
        scale=scale,
        exact=exact,
        left=np.ascontiguousarray(left),
        right=np.ascontiguousarray(right),
        floor=floor,
        gram=centred.gram,
        shift=centred.shift,
        mean_square=centred.mean_square,
        squares=np.diag(plain_gram).copy(),
        q_ln_q=q_ln_q,
        guard=guard,
        constraint=constraint,
        plain_gram=plain_gram,
        centres=_centres(values),
    )
    if solver.with_abundance and constraint == schema.FCLS:
        _check_affinely_independent(solver)
    elif solver.with_abundance:
        check_independent(plain_gram, names, sum_to_one=False)
    return solver


def _check(values: Floats, names: tuple[str, ...], scale: float, exact: bool, sums: bool) -> None:
    """Raise HsiError for endmembers (k, L) in counts that a solver cannot take; `sums` says whether it adds any."""
    k, bands = values.shape
    if not 1 <= k <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"{k} endmembers; expected 1 to {schema.MAX_ENDMEMBERS}")
    if exact and sums and bands > MOST_BANDS:
        raise HsiError(f"{bands} bands; sums of counts are exact up to {MOST_BANDS}: select bands with clean(every=2)")
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise _not_finite(names[int(bad.argmax())])
    largest = np.abs(values).max(1)
    if exact and (largest > LARGEST_COUNT).any():
        worst = int(largest.argmax())
        raise HsiError(
            f"endmember {names[worst]} reaches reflectance {largest[worst] / scale:g}; expected at most "
            f"{LARGEST_COUNT / scale:g}, what int16 counts can hold: give it as a fraction, not in percent or counts"
        )


def _not_finite(name: str) -> HsiError:
    return HsiError(f"endmember {name} holds values that are not finite; drop those bands or that endmember")


def _check_affinely_independent(solver: Solver) -> None:
    """Raise HsiError for endmembers of which some are mixtures of others with shares that sum to one."""
    from hsichunk.kernels.fcls import dependent

    groups = dependent(solver.gram)
    if groups:
        named = "; ".join(", ".join(solver.names[i] for i in group) for group in groups)
        raise HsiError(f"endmembers {named} are equal or mixtures of each other; drop one of them")


def check_independent(gram: Floats, names: Sequence[str], *, sum_to_one: bool) -> None:
    """Raise HsiError for endmembers of which some are mixtures of others, judged by their inner products (k, k)."""
    from hsichunk.kernels.fcls import dependent

    # a linear mixture of the endmembers is an affine mixture of the endmembers and of zero
    groups = dependent(gram if sum_to_one else np.pad(gram, (0, 1)))
    if groups:
        named = "; ".join(", ".join(names[i] for i in group if i < len(names)) for group in groups)
        raise HsiError(f"endmembers {named} are zero, multiples or mixtures of each other; drop one of them")


def check_unmixable(spectra: Floats, names: Sequence[str], *, sum_to_one: bool) -> None:
    """Raise HsiError for endmembers (k, L) that are not finite, or of which some are mixtures of others."""
    finite = np.isfinite(spectra).all(1)
    if not finite.all():
        raise _not_finite(names[int(finite.argmin())])
    check_independent(spectra @ spectra.T, names, sum_to_one=sum_to_one)


def fits(spectra: Floats, scale: float) -> bool:
    """Return whether endmembers (k, L) have exact sums with counts of `scale` a unit of reflectance."""
    return spectra.shape[1] <= MOST_BANDS and bool((np.abs(spectra) * scale <= LARGEST_COUNT).all())


def _centres(values: Floats) -> Floats:
    """Return (3, k): the mean of each endmember in a coarse part and the rest, and its length less the mean.

    The coarse part is a multiple of 2**-14, which is no finer than the unit of any rounded endmember, and no larger
    than the mean of |e|. So its product with a sum of counts is exact, as the sums x e are.
    """
    mean = values.mean(1)
    coarse = np.trunc(np.ldexp(mean, 14)) * 2.0**-14
    # fsum rounds once, whatever the order of terms, so every processor gives the same bits
    length = np.array([math.sqrt(math.fsum(row)) for row in ((values - mean[:, None]) ** 2).tolist()])
    length[(values == values[:, :1]).all(1)] = 0.0  # the rounded mean may differ from the one value
    return np.stack([coarse, mean - coarse, length])


class _Centred(NamedTuple):
    """Inner products of endmembers less their mean; the fields are those of `Solver`."""

    gram: Floats
    shift: Floats
    mean_square: float


def _rounded(values: Floats) -> tuple[Floats, _Centred, Floats]:
    """Round endmembers (k, L) to multiples of their own 2**-b; return them with their centred and their plain products.

    b is the largest for which 2**15 times the sum over bands of |e| stays below 2**53 units.
    """
    total = np.abs(values).sum(1) + values.shape[1] / 2**COUNT_BITS  # the second term covers the rounding
    bits = np.minimum(EXACT_BITS - COUNT_BITS - np.frexp(total)[1], MOST_E_BITS).astype(np.int64)
    steps = np.rint(np.ldexp(values, bits[:, None])).astype(np.int64)
    products = _exact_products(steps, [int(b) for b in bits])
    plain_gram = np.array([[value / (1 << 2 * MOST_E_BITS) for value in row] for row in products])
    return np.ldexp(steps.astype(np.float64), -bits[:, None]), _centred(products), plain_gram


def _exact_products(steps: Ints, bits: list[int]) -> list[list[int]]:
    """Return all e_i . e_j in units of 2**-(2 MOST_E_BITS) counts squared, as integers of any size.

    Endmember i is `steps` (k, L) times 2**-`bits`[i]. The steps are split into high and low bits, whose products fit
    into int64.
    """
    high, low = steps >> 14, steps & 0x3FFF
    hh, hl, ll = (matrix.tolist() for matrix in (high @ high.T, high @ low.T, low @ low.T))
    finest = 2 * MOST_E_BITS

    def product(i: int, j: int) -> int:
        in_steps: int = (hh[i][j] << 28) + ((hl[i][j] + hl[j][i]) << 14) + ll[i][j]
        return in_steps << (finest - bits[i] - bits[j])

    return [[product(i, j) for j in range(len(steps))] for i in range(len(steps))]


def _centred(products: list[list[int]]) -> _Centred:
    """Return (e_i - mean) . (e_j - mean), (e_i - mean) . mean and mean . mean, from the integers of `_exact_products`.

    All arithmetic is on integers; only the division at the end rounds.
    """
    k = len(products)
    unit = k * k << 2 * MOST_E_BITS
    along = [sum(row) for row in products]  # k times e_i . mean
    square = sum(along)  # k squared times mean . mean
    gram = [
        [(k * (k * v - a - b) + square) / unit for v, b in zip(row, along, strict=True)]
        for row, a in zip(products, along, strict=True)
    ]
    return _Centred(np.array(gram), np.array([(k * a - square) / unit for a in along]), square / unit)


def _centred_floats(values: Floats) -> _Centred:
    """Return the same of endmembers (k, L) that are not rounded, in float64."""
    mean = values.mean(0)
    deviations = values - mean
    gram = deviations @ deviations.T
    return _Centred((gram + gram.T) / 2, deviations @ mean, float(mean @ mean))


def _shares(values: Floats, exact: bool, guard: float) -> tuple[Floats, Floats]:
    """Return q = e / sum(e) + guard and ln q, (k, L) each; with `exact` rounded so that each row of q sums to one.

    The units that rounding down takes from a row go to the bands that lost most.
    """
    q = values / values.sum(1, keepdims=True) + guard
    if not exact:
        return q, np.log(q)
    unit = 2.0**Q_BITS
    steps = np.floor(q * unit)
    for row, unrounded in zip(steps, q * unit, strict=True):
        missing = int(unit - row.sum())
        row[np.argsort(row - unrounded, kind="stable")[:missing]] += 1
    ln_q = np.rint(np.log(q) * 2.0**LN_Q_BITS) * 2.0**-LN_Q_BITS
    return steps / unit, ln_q
