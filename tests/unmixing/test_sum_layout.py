"""Every row of the sums is told by its name: what the kernels leave there is the sum that the layout says."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hsichunk import metrics, schema
from hsichunk.unmixing import count_sums
from hsichunk.unmixing.solver import prepare
from hsichunk.unmixing.sum_layout import SumLayout

ROWS = ("along", "plain", "floored_sum", "x_ln_q", "q_ln_x", "x_ln_x", "furthest")
ASKED = [names for n in (1, 2, 4) for names in combinations(metrics.BY_NAME, n)]


@pytest.mark.parametrize("asked", ASKED, ids="+".join)
def test_rows_hold_the_sums_of_their_names(asked: tuple[str, ...]) -> None:
    rng = np.random.default_rng(len(asked))
    counts = rng.integers(-5, 9000, (50, 30)).astype(np.int16)
    solver = prepare(rng.uniform(0.01, 0.8, (3, 30)), "abc", asked, 1e4, exact=True)
    layout = solver.layout
    total, valid = np.zeros((layout.rows, 50)), np.ones(50, np.bool_)
    count_sums.add_spectra(solver, counts, [(0, 30, 0)], None, slice(0, 50), total, valid)
    x, e = counts.astype(np.float64), solver.left[:3]
    raised, pure = np.maximum(x, solver.floor), np.maximum(e, solver.floor)
    q, ln = pure / pure.sum(1, keepdims=True), np.log(raised)
    expected = {
        "along": e @ x.T,
        "plain": x.sum(1)[None],
        "floored_sum": raised.sum(1)[None],
        "x_ln_q": np.log(q) @ raised.T,
        "q_ln_x": q @ ln.T,
        "x_ln_x": (raised * ln).sum(1)[None],
        "furthest": np.abs(x - e[:, None]).max(2),
    }
    assert_array_equal(total[layout.square], (x**2).sum(1))
    for name in ROWS:
        rows = total[getattr(layout, name)]
        assert_allclose(rows, expected[name][: len(rows)], rtol=1e-5, err_msg=name)
    sizes = {name: getattr(layout, name).stop - getattr(layout, name).start for name in ROWS}
    logs, plain, far = (need in layout.needed for need in (metrics.LOGARITHMS, metrics.PLAIN_SUM, metrics.FURTHEST))
    assert list(sizes.values()) == [3, plain, logs, 3 * logs, 3 * logs, logs, 3 * far]
    assert layout.rows == 1 + sum(sizes.values()) and layout.maxima == sizes["furthest"]
    assert len(solver.left) == sum(sizes[name] for name in ("along", "plain", "floored_sum", "x_ln_q"))
    assert len(solver.right) == sizes["q_ln_x"] and layout.logarithms == logs


def test_products_without_optional_sums() -> None:
    for products in ((schema.ABUNDANCE, schema.RMSE, schema.KKT), (schema.SAM,), ()):
        assert SumLayout.of(4, products) == SumLayout(4) and SumLayout(4).rows == 5
    assert SumLayout.of(4, (schema.NCC_DISTANCE,)) == SumLayout.of(4, (schema.NCC,)) != SumLayout(4)
