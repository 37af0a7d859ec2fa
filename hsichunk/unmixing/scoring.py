"""Compute the products of pixels from their sums, and count what a pass did (Tally)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hsichunk import metrics, schema
from hsichunk.array_types import Bools, Float32s, Floats
from hsichunk.threads import PerThread, scratch
from hsichunk.unmixing.linear_sums import Linear
from hsichunk.unmixing.solver import Solver

if TYPE_CHECKING:
    from hsichunk.kernels import fcls

ABUNDANCE_UNIT = 2.0**30  # abundances are summed as whole numbers of 1 over this, so that the order does not matter

Products: TypeAlias = dict[str, Float32s]
"""products of pixels by name: (k, ...) of one per endmember, else (...)"""


@dataclass
class Tally:
    """Counts of what a pass did with some pixels; tallies of windows add up in any order."""

    valid: int = 0
    """pixels with products"""
    masked: int = 0
    """pixels without: no-data, or left out"""
    solved: int = 0
    """pixels whose abundances were solved"""
    pivots: int = 0
    """pivots of the FCLS solver in all pixels"""
    most_pivots: int = 0
    """pivots in the pixel that took most"""
    fallbacks: int = 0
    """pixels that took the fallback of the FCLS solver"""
    worst_kkt: float = 0.0
    """largest violation of the optimality conditions, relative"""
    abundance: list[int] = field(default_factory=list)
    """sum of the abundances of each endmember over valid pixels, in units of 2**-30"""
    chunks: int = 0
    """chunks that were decoded"""
    bytes: int = 0
    """bytes of these, decoded"""
    flagged: list[int] = field(default_factory=list)
    """pixels left out by each mask, the lowest bit of the flags first; several masks may leave out one pixel"""
    bad: list[list[int]] = field(default_factory=list)
    """coordinates, in the chunk grid, of the chunks that could not be decoded"""

    def add(self, other: Tally) -> None:
        """Add the counts of other pixels to these."""
        for name in ("valid", "masked", "solved", "pivots", "fallbacks", "chunks", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.most_pivots = max(self.most_pivots, other.most_pivots)
        self.worst_kkt = max(self.worst_kkt, other.worst_kkt)
        self.abundance = _sum(self.abundance, other.abundance)
        self.flagged = _sum(self.flagged, other.flagged)
        self.bad = [*self.bad, *other.bad]


def _sum(first: list[int], second: list[int]) -> list[int]:
    """Return the sums of two lists item by item; a shorter one counts as filled up with zeros."""
    return [a + b for a, b in zip_longest(first, second, fillvalue=0)]


def empty_products(solver: Solver | Linear, shape: tuple[int, ...]) -> Products:
    """Return arrays for the products of pixels of some shape, not filled."""
    return {
        name: np.empty((solver.k, *shape) if name in schema.PER_ENDMEMBER else shape, np.float32)
        for name in solver.products
    }


def score_sums(solver: Solver, total: Floats, valid: Bools) -> tuple[Products, Tally]:
    """Return the products (k, n) or (n,) float32 of n pixels with sums `total` (rows, n), NaN where not `valid` (n,).

    Abundance and kkt come with the products that were asked for whenever they were solved. The tally holds the counts
    of the solver alone: solved, pivots and fallbacks.
    """
    from hsichunk.kernels import fcls, scores

    k, n = solver.k, len(valid)
    out = empty_products(solver, (n,))
    tally = Tally()
    if solver.with_abundance and solver.constraint != schema.FCLS:
        tally.solved = int(valid.sum())
        out |= _least_squares(solver, total, valid)
    elif solver.with_abundance:
        linear, abundance = scratch("linear", (k, n), np.float64), scratch("abundance", (k, n), np.float64)
        kkt, stats = scratch("kkt", (n,), np.float64), np.zeros(5, np.int64)
        scores.linear_terms(total, solver.shift, linear)
        fcls.solve(solver.gram, linear, valid, _table(k), abundance, kkt, stats)
        tally.solved, tally.pivots, tally.most_pivots, tally.fallbacks = (int(v) for v in stats[:4])
        rmse = out.get(schema.RMSE)
        if rmse is not None:
            args = (solver.gram, solver.mean_square, solver.bands, solver.scale)
            scores.residual(total, linear, abundance, *args, valid, rmse)
        # the tally of the pass needs both, asked for or not
        out[schema.ABUNDANCE] = abundance.astype(np.float32)
        out[schema.KKT] = kkt.astype(np.float32)
    _score(solver, total, valid, out)
    return out, tally


def _score(solver: Solver, total: Floats, valid: Bools, out: Products) -> None:
    """Fill the scores (k, n) among the products, each by its own kernel."""
    from hsichunk.kernels import scores

    layout = solver.layout
    if schema.SAM in out:
        scores.angles(total, solver.squares, valid, out[schema.SAM])
    if layout.logarithms:
        sid = out[schema.SID] if schema.SID in out else scratch("sid", (solver.k, len(valid)), np.float32)
        scores.divergences(total[layout.floored], solver.q_ln_q, valid, sid)
        if schema.SID_SAM in out:
            scores.divergences_by_tangent(total, solver.squares, sid, valid, out[schema.SID_SAM])
    for name in (schema.NCC, schema.NCC_DISTANCE):
        if name in out:
            distance = name == schema.NCC_DISTANCE
            scores.correlations(total, total[layout.plain], solver.centres, solver.bands, valid, distance, out[name])
    if metrics.SCA in out:
        centres, squares = solver.centres, solver.squares
        scores.correlation_angles(total, total[layout.plain], centres, squares, solver.bands, valid, out[metrics.SCA])
    if schema.CHEBYSHEV in out:
        scores.largest_differences(total[layout.furthest], solver.scale, valid, out[schema.CHEBYSHEV])


def _least_squares(solver: Solver, total: Floats, valid: Bools) -> Products:
    """Return abundances (k, n) by NNLS or UCLS, which need not sum to one, with their rmse and kkt (n,)."""
    from hsichunk.kernels import least_squares

    k, n = solver.k, len(valid)
    length = np.sqrt(solver.squares)
    # endmembers of length 1: their lengths have no part in the answer, but would have one in the rounding
    linear = np.ascontiguousarray((total[solver.layout.along] / length[:, None]).T)
    linear[~valid] = 0.0  # the sums of pixels without data are of no use
    gram, scaled = solver.plain_gram / np.outer(length, length), np.zeros((n, k))
    np.fill_diagonal(gram, 1.0)
    bounded = solver.constraint == schema.NNLS
    (least_squares.active_set if bounded else least_squares.unconstrained)(gram, linear, scaled)
    abundance, rmse, kkt = np.empty((k, n)), np.empty(n), np.empty(n)
    least_squares.certify(total, linear, gram, scaled, bounded, solver.bands, solver.scale, valid, abundance, rmse, kkt)
    products = {schema.ABUNDANCE: abundance / length[:, None], schema.RMSE: rmse, schema.KKT: kkt}
    return {name: values.astype(np.float32) for name, values in products.items()}


def count_pixels(tally: Tally, products: Products, valid: Bools, pixels: int) -> None:
    """Set, in the tally of some pixels, the counts that follow from their finished products.

    `valid` (n,) marks those of the n pixels with products; `pixels` is how many of the n lie in the window.
    """
    tally.valid = int(valid.sum())
    tally.masked = pixels - tally.valid
    if schema.ABUNDANCE in products:
        from hsichunk.kernels import scores

        abundance, totals = products[schema.ABUNDANCE], np.zeros(len(products[schema.ABUNDANCE]), np.int64)
        tally.worst_kkt = float(scores.add_abundances(abundance, products[schema.KKT], valid, ABUNDANCE_UNIT, totals))
        tally.abundance = totals.tolist()


_TABLES: PerThread[int, fcls.Table] = PerThread()
"""support maps by the number of endmembers"""


def _table(k: int) -> fcls.Table:
    """Return this thread's table of support maps for k endmembers."""
    tables = _TABLES.items
    if k not in tables:
        from hsichunk.kernels import fcls

        tables[k] = fcls.new_table(k)
    return tables[k]
