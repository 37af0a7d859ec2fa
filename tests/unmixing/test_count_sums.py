"""The claim under all others: sums of counts are exact, the same in any order; and what is made of them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hsichunk import schema
from hsichunk.kernels import float_sums, scores
from hsichunk.unmixing import count_sums, scoring
from hsichunk.unmixing.solver import LN_Q_BITS, MOST_BANDS, Q_BITS, Solver, prepare

SCALE = 10000.0
LOWEST, HIGHEST = -32768, 32767


def library(p: int, bands: int, seed: int = 0, scale: float = SCALE) -> Any:
    """Endmembers at the edge of what counts can hold, with fractions of a count, one of them dark, one with zeros."""
    rng = np.random.default_rng(seed)
    spectra = rng.uniform(0.0, HIGHEST, (p, bands)) / scale
    spectra[0] = HIGHEST / scale
    spectra[1] *= 1e-3
    spectra[2, ::3] = 0.0
    return spectra


def solver_of(spectra: Any, products: tuple[str, ...] = schema.PRODUCTS, scale: float = SCALE) -> Solver:
    return prepare(spectra, [f"EM{i + 1}" for i in range(len(spectra))], products, scale, exact=True)


def extremes(n: int, bands: int, seed: int = 1) -> Any:
    """Pixels of counts: the lowest, the highest, around the floor, and anything."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(LOWEST, HIGHEST + 1, (n, bands))
    counts[0], counts[1], counts[2] = LOWEST, HIGHEST, 0
    counts[3] = rng.choice([-1, 0, 1, 2], bands)
    counts[4] = np.where(np.arange(bands) % 2, LOWEST, HIGHEST)
    return counts.astype(np.int16)


def by_spectra(solver: Solver, counts: Any) -> Any:
    total = np.zeros((solver.layout.rows, len(counts)))
    whole = slice(0, len(counts))
    count_sums.add_spectra(solver, counts, [(0, solver.bands, 0)], None, whole, total, np.ones(len(counts), np.bool_))
    return total


def by_bands(solver: Solver, counts: Any, together: int, no_data: Any = None) -> Any:
    """The same through the kernel for band chunks, `together` bands at a time."""
    n, number = counts.shape
    total, valid = np.zeros((solver.layout.rows, n)), np.ones(n, np.bool_)
    for first in range(0, number, together):
        kept = slice(first, min(first + together, number))
        stored = np.ascontiguousarray(counts[:, kept].T)
        count_sums.add_bands(solver, stored, kept, no_data, slice(0, n), total, valid)
    return (total, valid) if no_data is not None else total


def exact_sums(solver: Solver, counts: Any) -> list[list[Fraction]]:
    """Rows of sums in rational arithmetic, from the same rounded constants."""
    p = solver.k
    e, ln_q = (
        [[Fraction(v) for v in row.tolist()] for row in part] for part in (solver.left[:p], solver.left[p + 1 :])
    )
    q = [[Fraction(v) for v in row.tolist()] for row in solver.right]
    table, unit = float_sums.log_table(solver.floor), Fraction(float_sums.LN_UNIT)
    out = []
    for pixel in counts.tolist():
        floored = [max(c, int(solver.floor)) for c in pixel]
        ln = [int(table[c + 32768]) * unit for c in pixel]
        rows = [Fraction(sum(c * c for c in pixel)), *(_dot(pixel, row) for row in e), Fraction(sum(floored))]
        rows += [_dot(floored, row) for row in ln_q] + [_dot(ln, row) for row in q] + [_dot(floored, ln)]
        out.append(rows)
    return [list(row) for row in zip(*out, strict=True)]


def _dot(a: Any, b: Any) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


@pytest.mark.parametrize("scale", [10000.0, 65535.0])
def test_sums_equal_rational_arithmetic_at_the_extremes(scale: float) -> None:
    solver, counts = solver_of(library(3, MOST_BANDS, scale=scale), scale=scale), extremes(6, MOST_BANDS)
    assert solver.floor == round(scale / 10000)
    expected = exact_sums(solver, counts)
    for total in (by_spectra(solver, counts), by_bands(solver, counts, 1), by_bands(solver, counts, 16)):
        assert [[Fraction(v) for v in row] for row in total.tolist()] == expected


def test_no_sum_leaves_the_integers_that_float64_holds() -> None:
    """Whatever the counts: the sum of the largest possible terms stays below 2**53 units, with 512 bands."""
    peaks = np.zeros((4, MOST_BANDS))
    for row, bright in zip(peaks, (1, 5, 50, 150), strict=True):  # about 50 bright bands are worst for x ln q
        row[:bright] = HIGHEST / SCALE
    for spectra in (
        library(4, MOST_BANDS),
        peaks,
        np.full((1, MOST_BANDS), HIGHEST / SCALE),
        library(3, 7),
        library(3, 1),
    ):
        solver = solver_of(spectra, (schema.SAM, schema.SID))
        p, bands = solver.k, solver.bands
        most = 2**15
        e, ln_q = (np.vectorize(Fraction, otypes=[object])(v) for v in (solver.left[:p], solver.left[p + 1 :]))
        q = np.vectorize(Fraction, otypes=[object])(solver.right)
        for row in e:
            unit = Fraction(1, max(v.denominator for v in row))
            assert sum(abs(v) for v in row) * most < 2**53 * unit
        assert all((v * 2**LN_Q_BITS).denominator == 1 for v in ln_q.ravel())
        assert max(sum(abs(v) for v in row) for row in ln_q) * most < Fraction(2**53, 2**LN_Q_BITS)
        assert all((v * 2**Q_BITS).denominator == 1 for v in q.ravel())
        assert (q.sum(axis=1) == 1).all()
        largest = int(float_sums.log_table(solver.floor).max())
        assert largest * 2**Q_BITS < 2**53
        assert bands * most * largest < 2**53
        assert bands * most**2 < 2**53


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(1, 40), st.integers(3, 60))
def test_sums_are_the_same_in_any_order_of_bands(random: Any, together: int, bands: int) -> None:
    solver, counts = solver_of(library(3, bands)), extremes(6, bands)
    order = list(range(bands))
    random.shuffle(order)
    shuffled = replace(solver, left=solver.left[:, order].copy(), right=solver.right[:, order].copy())
    expected = by_spectra(solver, counts)
    assert by_spectra(shuffled, np.ascontiguousarray(counts[:, order])).tobytes() == expected.tobytes()
    assert by_bands(shuffled, counts[:, order], together).tobytes() == expected.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    pixels=st.integers(1, 100),
    before=st.integers(0, 40),
    bands=st.integers(10, 100),
    depth=st.integers(1, 100),
    p=st.integers(3, 8),
    dark=st.booleans(),
    seed=st.integers(0, 99),
)
def test_kernels_are_a_matrix_product_whatever_the_blocks(
    pixels: int, before: int, bands: int, depth: int, p: int, dark: bool, seed: int
) -> None:
    """NumPy's, in float64: sums are exact, so any order gives the bits. Whole blocks of pixels and bands, and parts."""
    products = (*schema.PRODUCTS, schema.NCC, schema.CHEBYSHEV)
    solver, rng = solver_of(library(p, bands, seed), products), np.random.default_rng(seed)
    counts = rng.integers(-20 if dark else 1, 9000, (before + pixels + 3, bands)).astype(np.int16)
    marked = rng.random(counts.shape) < 0.3 / bands
    counts[marked] = -9999
    x = counts.astype(np.float64).T
    floored = np.maximum(x, solver.floor)
    ln = float_sums.log_table(solver.floor)[counts.T.astype(np.int64) + 32768] * float_sums.LN_UNIT
    plain, shared = solver.left[: p + 1], solver.left[p + 1 :]
    rows = [(x * x).sum(0), *plain @ x, *shared @ floored, *solver.right @ ln, (floored * ln).sum(0)]
    expected = np.array([*rows, *np.abs(x - solver.left[:p, :, None]).max(1)])
    at = slice(before, before + pixels)
    expected[:, : at.start] = expected[:, at.stop :] = 0.0
    holds = ~marked.any(1)
    holds[: at.start] = holds[at.stop :] = True

    total, valid = np.zeros((solver.layout.rows, len(counts))), np.ones(len(counts), np.bool_)
    for first in range(0, bands, depth):  # chunks `depth` deep, one band more on either side
        kept = counts[:, first : first + depth]
        chunk = np.pad(kept, ((0, 0), (1, 1)), constant_values=-9999)
        count_sums.add_spectra(solver, chunk, [(1, kept.shape[1], first)], -9999, at, total, valid)
    assert_array_equal(total, expected)
    assert_array_equal(valid, holds)

    total, valid = np.zeros((solver.layout.rows, len(counts))), np.ones(len(counts), np.bool_)
    for first in range(0, bands, depth):
        kept_bands = slice(first, min(first + depth, bands))
        count_sums.add_bands(solver, counts[:, kept_bands].T, kept_bands, -9999, at, total, valid)
    assert_array_equal(total, expected)
    assert_array_equal(valid, holds)


DIGEST = """
import hashlib, numpy as np
from hsichunk import schema
from hsichunk.unmixing import count_sums, scoring
from hsichunk.unmixing.solver import prepare
rng, made = np.random.default_rng(3), hashlib.sha256()
solver = prepare(rng.uniform(0.01, 0.9, (4, 90)), list("abcd"), schema.PRODUCTS, 10_000.0, exact=True)
counts = rng.integers(-30, 12000, (77, 90)).astype(np.int16)
for band_major in (False, True):
    total, valid, at = np.zeros((solver.layout.rows, 77)), np.ones(77, np.bool_), slice(0, 77)
    if band_major:
        count_sums.add_bands(solver, counts.T, slice(0, 90), None, at, total, valid)
    else:
        count_sums.add_spectra(solver, counts, [(0, 90, 0)], None, at, total, valid)
    for values in scoring.score_sums(solver, total, valid)[0].values():
        made.update(values.tobytes())
print(made.hexdigest())
"""


def test_other_processors_give_the_same_products() -> None:
    """numba for any x86-64 or ARM processor: narrow vectors, no product fused with a sum; against this one."""

    def digest(**environment: str) -> str:
        command, settings = [sys.executable, "-c", DIGEST], {**os.environ, **environment}
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout

    assert digest(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == digest()


def test_sums_without_sid_are_the_first_rows() -> None:
    spectra, counts = library(3, 50), extremes(6, 50)
    short = by_spectra(solver_of(spectra, (schema.SAM,)), counts)
    assert_array_equal(short, by_spectra(solver_of(spectra), counts)[:4])
    assert_array_equal(short, by_bands(solver_of(spectra, (schema.SAM,)), counts, 5))


def test_constants_lie_close_to_what_they_stand_for() -> None:
    spectra = library(4, 362)
    solver = solver_of(spectra)
    assert np.abs(solver.left[:4] - spectra * SCALE).max() <= 2.0**-15
    floored = np.maximum(solver.left[:4], 1.0)
    q = floored / floored.sum(1, keepdims=True)
    assert np.abs(solver.right - q).max() <= 2.0**-Q_BITS
    assert np.abs(solver.left[5:] - np.log(q)).max() <= 2.0 ** -(LN_Q_BITS + 1)
    table = float_sums.log_table(1.0)
    for count in (LOWEST, -1, 0, 1, 2, 3, 9999, HIGHEST):
        assert abs(table[count + 32768] * float_sums.LN_UNIT - math.log(max(count, 1))) <= float_sums.LN_UNIT / 2


def test_a_pixel_as_endmember_stays_whole() -> None:
    counts = np.random.default_rng(4).integers(-50, 15000, (5, 100))
    solver = solver_of(counts / SCALE)
    assert_array_equal(solver.left[:5], counts)
    assert_array_equal(solver.squares, (counts.astype(object) ** 2).sum(1).astype(float))


def test_gram_matrix_is_rational_arithmetic_rounded_once() -> None:
    """Endmembers alike but for a count here and there: the plain product would keep no digit of the differences."""
    rng = np.random.default_rng(5)
    spectra = (rng.integers(30000, 32000, 300) + rng.integers(0, 2, (4, 300)) + rng.uniform(0, 1, (4, 300))) / SCALE
    solver = solver_of(spectra, (schema.ABUNDANCE,))
    e = [[Fraction(v) for v in row] for row in solver.left[:4].tolist()]
    mean = [sum(values) / 4 for values in zip(*e, strict=True)]
    apart = [[a - b for a, b in zip(row, mean, strict=True)] for row in e]
    assert solver.gram.tolist() == [[float(_dot(a, b)) for b in apart] for a in apart]
    assert solver.shift.tolist() == [float(_dot(a, mean)) for a in apart]
    assert solver.mean_square == float(_dot(mean, mean))


@pytest.mark.parametrize("kernel", ["spectra", "bands"])
def test_no_data_is_marked_and_its_neighbours_are_left_alone(kernel: str) -> None:
    solver, counts = solver_of(library(3, 40)), np.abs(extremes(6, 40)).astype(np.int16)
    clean = by_spectra(solver, counts)
    counts[2, 17] = -9999
    if kernel == "spectra":
        total, valid = np.zeros((solver.layout.rows, 6)), np.ones(6, np.bool_)
        count_sums.add_spectra(solver, counts, [(0, solver.bands, 0)], -9999, slice(0, len(counts)), total, valid)
    else:
        total, valid = by_bands(solver, counts, 16, np.int16(-9999))
    assert valid.tolist() == [True, True, False, True, True, True]
    assert total[:, valid].tobytes() == clean[:, valid].tobytes()


@pytest.mark.parametrize("scale", [10000.0, 1000.0, 255.0, 65535.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_count_is_recovered_from_its_reflectance(scale: float, dtype: Any) -> None:
    counts = np.arange(LOWEST, HIGHEST + 1).reshape(512, 128)
    rows, valid, counted = np.zeros((512, 128), np.int16), np.ones(512, np.bool_), np.ones(512, np.bool_)
    values = (counts / scale).astype(dtype)
    assert float_sums.recover_counts(values, scale, rows, valid, counted) == 0
    assert_array_equal(rows[:, :128], counts)
    assert valid.all() and counted.all()


def test_what_is_no_count_is_told_apart_pixel_by_pixel() -> None:
    values = np.full((6, 5), 0.1234)
    values[1, 2] = np.nan
    values[2, 3] = 0.12345
    values[3, 0] = np.inf
    values[4, 4] = 3.2768
    values[5] = [np.nan, 0.12345, 0.1, 0.1, 0.1]
    rows, valid, counted = np.zeros((6, 5), np.int16), np.ones(6, np.bool_), np.ones(6, np.bool_)
    assert float_sums.recover_counts(values, SCALE, rows, valid, counted) == 4
    assert valid.tolist() == [True, False, True, True, True, False]
    assert counted.tolist() == [True, True, False, False, False, False]


def test_float_sums_of_a_pixel_do_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(6)
    weights, x = rng.normal(size=(7, 100)), rng.normal(size=(100, 300))
    total, dots = np.zeros((7, 300)), np.zeros(300)
    float_sums.add_products(weights, x, total)
    float_sums.add_dots(x, x, dots)
    assert_allclose(total, weights @ x, rtol=0, atol=1e-12)
    assert_allclose(dots, (x * x).sum(0), rtol=1e-13)
    for start, stop in ((0, 1), (5, 77), (299, 300), (64, 300)):
        part, some = np.zeros((7, stop - start)), np.zeros(stop - start)
        float_sums.add_products(weights, np.ascontiguousarray(x[:, start:stop]), part)
        float_sums.add_dots(x[:, start:stop], x[:, start:stop], some)
        assert part.tobytes() == total[:, start:stop].tobytes()
        assert some.tobytes() == dots[start:stop].tobytes()


def test_one_pixel_is_added_as_among_many() -> None:
    rng = np.random.default_rng(7)
    weights, pixels = rng.normal(size=(5, 40)), rng.normal(size=(50, 40))
    total, dots = np.zeros((5, 50)), np.zeros(50)
    float_sums.add_products(weights, np.ascontiguousarray(pixels.T), total)
    float_sums.add_dots(np.ascontiguousarray(pixels.T), np.ascontiguousarray(pixels.T), dots)
    alone = np.ascontiguousarray(pixels[:1].T)  # of which NumPy leaves the strides as they are
    some, dot = np.zeros((5, 1)), np.zeros(1)
    float_sums.add_products(weights, alone, some)
    float_sums.add_dots(alone, alone, dot)
    assert (some.tobytes(), dot.tobytes()) == (total[:, :1].tobytes(), dots[:1].tobytes())
    one_band = np.zeros((5, 50))
    float_sums.add_products(
        np.ascontiguousarray(weights[:, 0][None].T), np.ascontiguousarray(pixels[:, :1].T), one_band
    )
    assert_allclose(one_band, np.outer(weights[:, 0], pixels[:, 0]), rtol=1e-15)
    with pytest.raises(ValueError, match="not contiguous"):
        float_sums.add_products(weights, np.asfortranarray(pixels.T), total)


def test_arccos_to_the_last_bits() -> None:
    tiny = 10.0 ** -np.arange(1, 20)
    near = [np.linspace(-1, 1, 4001), 1 - tiny, tiny - 1, tiny, -tiny, np.nextafter([1, 0.5, 0.5, -0.5], [0, 0, 1, 0])]
    for c in np.concatenate(near).tolist():
        assert scores.arccos(c) == pytest.approx(math.acos(c), rel=1e-15, abs=0)
    assert scores.arccos(1.0) == 0.0
    assert scores.arccos(1.0 + 1e-15) == 0.0
    assert scores.arccos(-1.0 - 1e-15) == math.pi
    assert scores.arccos(0.0) == math.pi / 2


@settings(max_examples=50)
@given(st.lists(st.integers(1, HIGHEST), min_size=3, max_size=30))
def test_a_pixel_is_at_no_distance_from_itself(counts: list[int]) -> None:
    pixel = np.array([counts], np.int16)
    solver = solver_of(pixel / SCALE, (schema.SAM, schema.SID))
    products, _ = scoring.score_sums(solver, by_spectra(solver, pixel), np.ones(1, np.bool_))
    assert products[schema.SAM].item() == 0.0
    assert products[schema.SID].item() < 1e-12
