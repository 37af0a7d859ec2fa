"""Turn the sums of pixels into their products, and count what a pass did (Tally)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk import metrics, schema
from hsichunk.threads import of_this_thread, scratch
from hsichunk.unmixing.linear_sums import Linear
from hsichunk.unmixing.solver import Solver

if TYPE_CHECKING:
    from hsichunk.kernels import fcls

ABUNDANCE_UNIT = 2.0**30  # abundances are summed in this unit, in integers: the mean does not depend on the order


@dataclass
class Tally:
    """What a pass over some pixels came to; adds up over windows in any order."""

    valid: int = 0
    masked: int = 0
    solved: int = 0
    pivots: int = 0
    most_pivots: int = 0
    fallbacks: int = 0
    worst_kkt: float = 0.0
    abundance: list[int] = field(default_factory=list)
    """sum of the abundances of each endmember over valid pixels, in units of 2**-30"""
    chunks: int = 0
    bytes: int = 0
    flagged: list[int] = field(default_factory=list)
    """pixels left out by each mask, the lowest bit of the flags first; a pixel may have several"""
    bad: list[list[int]] = field(default_factory=list)
    """places of the chunks that could not be decoded"""

    def add(self, other: Tally) -> None:
        for name in ("valid", "masked", "solved", "pivots", "fallbacks", "chunks", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.most_pivots = max(self.most_pivots, other.most_pivots)
        self.worst_kkt = max(self.worst_kkt, other.worst_kkt)
        self.abundance = _sum(self.abundance, other.abundance)
        self.flagged = _sum(self.flagged, other.flagged)
        self.bad = [*self.bad, *other.bad]


def _sum(ours: list[int], theirs: list[int]) -> list[int]:
    return [a + b for a, b in zip_longest(ours, theirs, fillvalue=0)]


Products = dict[str, NDArray[np.float32]]


def empty_products(solver: Solver | Linear, shape: tuple[int, ...]) -> Products:
    """Arrays for the products of pixels of some shape, not filled."""
    return {
        name: np.empty((solver.k, *shape) if name in schema.PER_ENDMEMBER else shape, np.float32)
        for name in solver.products
    }


def score_sums(solver: Solver, total: NDArray[np.float64], valid: NDArray[np.bool_]) -> tuple[Products, Tally]:
    """Products (p, n) or (n,) float32 of pixels with sums `total`, and the solver's own counts."""
    from hsichunk.kernels import fcls, scores

    p, n = solver.k, len(valid)
    out = empty_products(solver, (n,))
    tally = Tally()
    if solver.with_abundance and solver.constraint != schema.FCLS:
        tally.solved = int(valid.sum())
        out |= _least_squares(solver, total, valid)
    elif solver.with_abundance:
        linear, abundance = scratch("linear", (p, n), np.float64), scratch("abundance", (p, n), np.float64)
        kkt, stats = scratch("kkt", (n,), np.float64), np.zeros(5, np.int64)
        scores.linear_terms(total, solver.shift, linear)
        fcls.solve(solver.gram, linear, valid, _table(p), abundance, kkt, stats)
        tally.solved, tally.pivots, tally.most_pivots, tally.fallbacks = (int(v) for v in stats[:4])
        rmse = out.get(schema.RMSE)
        if rmse is not None:
            args = (solver.gram, solver.mean_square, solver.bands, solver.scale)
            scores.residual(total, linear, abundance, *args, valid, rmse)
        # kept beside the asked-for products: the tally needs both
        out[schema.ABUNDANCE] = abundance.astype(np.float32)
        out[schema.KKT] = kkt.astype(np.float32)
    _score(solver, total, valid, out)
    return out, tally


def _score(solver: Solver, total: NDArray[np.float64], valid: NDArray[np.bool_], out: Products) -> None:
    """Fills the scores (p, n) among the products, a call of its kernel each."""
    from hsichunk.kernels import scores

    layout = solver.layout
    if schema.SAM in out:
        scores.angles(total, solver.squares, valid, out[schema.SAM])
    if layout.logarithms:
        sid = out[schema.SID] if schema.SID in out else scratch("sid", (solver.k, len(valid)), np.float32)
        scores.divergences(total[layout.floored], solver.q_ln_q, valid, sid)
        if schema.SID_SAM in out:
            scores.mixed(total, solver.squares, sid, valid, out[schema.SID_SAM])
    for name in (schema.NCC, schema.NCC_DISTANCE):
        if name in out:
            distance = name == schema.NCC_DISTANCE
            scores.correlations(total, total[layout.plain], solver.centres, solver.bands, valid, distance, out[name])
    if metrics.SCA in out:
        centres, squares = solver.centres, solver.squares
        scores.correlation_angles(total, total[layout.plain], centres, squares, solver.bands, valid, out[metrics.SCA])
    if schema.CHEBYSHEV in out:
        scores.differences(total[layout.furthest], solver.scale, valid, out[schema.CHEBYSHEV])


def _least_squares(solver: Solver, total: NDArray[np.float64], valid: NDArray[np.bool_]) -> Products:
    """Abundances (p, n) that need not sum to one, their rmse and violation (n,), from sums `total`."""
    from hsichunk.kernels import least_squares

    p, n = solver.k, len(valid)
    length = np.sqrt(solver.squares)
    linear = np.ascontiguousarray((total[1 : 1 + p] / length[:, None]).T)
    linear[~valid] = 0.0  # what no-data comes to has no use
    gram, found = solver.products_of / np.outer(length, length), np.zeros((n, p))
    np.fill_diagonal(gram, 1.0)
    bounded = solver.constraint == schema.NNLS
    (least_squares.active_set if bounded else least_squares.unconstrained)(gram, linear, found)
    abundance, rmse, kkt = np.empty((p, n)), np.empty(n), np.empty(n)
    least_squares.certify(total, linear, gram, found, bounded, solver.bands, solver.scale, valid, abundance, rmse, kkt)
    made = {schema.ABUNDANCE: abundance / length[:, None], schema.RMSE: rmse, schema.KKT: kkt}
    return {name: values.astype(np.float32) for name, values in made.items()}


def tally_of(tally: Tally, products: Products, valid: NDArray[np.bool_], pixels: int) -> None:
    """Adds to a tally what the finished products of some pixels say."""
    tally.valid = int(valid.sum())
    tally.masked = pixels - tally.valid
    if schema.ABUNDANCE in products:
        from hsichunk.kernels import scores

        abundance, whole = products[schema.ABUNDANCE], np.zeros(len(products[schema.ABUNDANCE]), np.int64)
        tally.worst_kkt = float(scores.add_up(abundance, products[schema.KKT], valid, ABUNDANCE_UNIT, whole))
        tally.abundance = whole.tolist()


def _table(p: int) -> fcls.Table:
    tables: dict[int, fcls.Table] = of_this_thread("tables")
    if p not in tables:
        from hsichunk.kernels import fcls

        tables[p] = fcls.new_table(p)
    return tables[p]
