"""The oracle itself: answers known from elsewhere, and nothing left behind on NumPy and SciPy."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.helpers import pysptools_oracle as oracle

pytest.importorskip("pysptools", reason="the oracle needs pysptools (the `reference` extra)")
scipy = pytest.importorskip("scipy", reason="the oracle needs scipy (the `reference` extra)")


def samson(shared: Path, step: int) -> tuple[Any, Any, Any]:
    """Every step-th pixel (rows, columns, bands), the endmembers (3, bands) and their abundances."""
    cube = scipy.io.loadmat(shared / "samson" / "Y_clean.mat")["Y_clean"][::step, ::step]
    endmembers = scipy.io.loadmat(shared / "samson" / "E.mat")["E"].T
    abundances = scipy.io.loadmat(shared / "samson" / "A_true.mat")["A_true"][::step, ::step]
    return cube, endmembers, abundances


def simplex(rng: np.random.Generator, rows: int, columns: int) -> tuple[Any, Any, list[tuple[int, int]]]:
    """Mixtures of three spectra, each pure in one pixel: (cube, spectra, places of the pure pixels)."""
    spectra = np.array([[0.1, 0.9, 0.2, 0.4], [0.8, 0.1, 0.3, 0.9], [0.2, 0.3, 0.9, 0.1]])
    shares = rng.dirichlet([2, 2, 2], (rows, columns))
    places = [(1, 2), (4, 7), (6, 0)]
    for place, pure in zip(places, np.eye(3), strict=True):
        shares[place] = pure
    return shares @ spectra, spectra, places


def test_names_are_there_inside_the_block_and_gone_after() -> None:
    put_back = [(owner, name) for owner, name, _ in oracle._names()]
    before = [name in vars(owner) for owner, name in put_back]
    with oracle.names_put_back():
        assert vars(np)["float"] is float and vars(np)["mat"] is np.asmatrix
        assert vars(scipy)["sqrt"](-1) == 1j
        assert all(hasattr(owner, name) for owner, name in put_back)
    assert [name in vars(owner) for owner, name in put_back] == before


def test_names_are_taken_away_after_a_failure() -> None:
    with pytest.raises(RuntimeError), oracle.names_put_back():
        raise RuntimeError
    assert "float" not in vars(np)


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_determinant(size: int) -> None:
    matrix = np.random.default_rng(size).normal(size=(size, size)).astype(np.float32)
    for rows in (matrix, matrix[::-1]):  # an exchange of rows changes the sign
        determinant, info = oracle._sdet_c(np.asfortranarray(rows))
        assert info == 0
        assert_allclose(determinant, np.linalg.det(rows.astype(float)), rtol=1e-4)
    assert oracle._sdet_c(np.zeros((size, size), np.float32))[0] == 0


@pytest.mark.parametrize("atgp_init", [True, False])
def test_nfindr_finds_the_pure_pixels(atgp_init: bool) -> None:
    cube, spectra, places = simplex(np.random.default_rng(0), 8, 9)
    found = oracle.nfindr(cube, 3, maxit=5, atgp_init=atgp_init, seed=4)
    assert sorted(zip(found.rows, found.columns, strict=True)) == sorted(places)
    order = [places.index(place) for place in zip(found.rows, found.columns, strict=True)]
    assert_array_equal(found.spectra, spectra[order].astype(np.float32))
    assert 1 <= found.sweeps <= 6


def test_atgp_starts_at_the_brightest_pixel() -> None:
    cube, _, places = simplex(np.random.default_rng(1), 8, 9)
    found = oracle.atgp(cube, 3)
    brightest = np.unravel_index((cube**2).sum(-1).argmax(), cube.shape[:2])
    assert (found.rows[0], found.columns[0]) == brightest
    assert sorted(zip(found.rows, found.columns, strict=True)) == sorted(places)


def test_random_state_is_given_back() -> None:
    cube, _, _ = simplex(np.random.default_rng(0), 8, 9)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    oracle.nfindr(cube, 3, maxit=1, atgp_init=False)
    assert random.random() == expected


def test_fcls_is_tight_and_the_default_is_not(shared: Path) -> None:
    cube, endmembers, abundances = samson(shared, 12)
    tight = oracle.fcls(cube, endmembers)
    assert tight.shape == (8, 8, 3)
    assert_allclose(tight, abundances, atol=1e-6)
    assert np.abs(oracle.fcls(cube, endmembers, tolerance=None) - abundances).max() > 1e-5
    from cvxopt import solvers

    assert "abstol" not in solvers.options


def test_fcls_against_nnls_with_a_heavy_sum_row() -> None:
    rng = np.random.default_rng(3)
    endmembers = rng.random((4, 12))
    cube = rng.random((3, 3, 12))
    weighed = np.vstack([endmembers.T, np.full((1, 4), 1e5)])
    expected = [[scipy.optimize.nnls(weighed, np.append(pixel, 1e5))[0] for pixel in row] for row in cube]
    assert_allclose(oracle.fcls(cube, endmembers), expected, atol=1e-6)


def test_maps_are_the_distances_of_scaled_spectra(shared: Path) -> None:
    cube, endmembers, _ = samson(shared, 24)
    pixels, spectra = oracle.normalize(cube), oracle.normalize(endmembers)
    assert pixels.min() == spectra.min() == 0
    assert pixels.max() == spectra.max() == 1
    angles, divergences = oracle.sam_map(cube, endmembers), oracle.sid_map(cube, endmembers)
    for row, column in np.ndindex(cube.shape[:2]):
        pixel = pixels[row, column]
        assert_allclose(angles[row, column], [oracle.distance_sam(pixel, e) for e in spectra], atol=1e-5)
        assert_allclose(divergences[row, column], [oracle.distance_sid(pixel, e) for e in spectra], atol=5e-6)


def test_distances_by_hand() -> None:
    assert_allclose(oracle.distance_sam(np.array([1.0, 0]), np.array([1.0, 1])), np.pi / 4)
    # p = (1/4, 3/4), q = (1/2, 1/2): sum (p - q) ln (p / q)
    expected = -0.25 * np.log(0.5) + 0.25 * np.log(1.5)
    assert_allclose(oracle.distance_sid(np.array([1.0, 3]), np.array([2.0, 2])), expected)


def test_threshold_rule_by_hand() -> None:
    distances = np.array([[0.0, 1.0], [0.4, 0.2], [1.0, 0.6]])
    assert oracle.threshold_rule(distances, 0.5).tolist() == [1, 2, 0]
    assert oracle.threshold_rule(distances, 0.0).tolist() == [0, 0, 0]  # strict
    # own ranges 0..1 and 0.2..1: limits 0.3 and 0.52
    assert oracle.threshold_rule(distances, [0.3, 0.4]).tolist() == [1, 2, 0]
    assert oracle.threshold_rule(np.array([[11.0], [13.0]]), [1.0]).tolist() == [0, 0]  # the guard of 10


def test_class_maps_follow_from_the_maps(shared: Path) -> None:
    cube, endmembers, _ = samson(shared, 6)
    for distances, classes in (
        (oracle.sam_map(cube, endmembers), oracle.sam_classify(cube, endmembers, 0.03)),
        (oracle.sid_map(cube, endmembers), oracle.sid_classify(cube, endmembers, 0.03)),
    ):
        limit = distances.min() + np.ptp(distances) * 0.03
        assert_array_equal(classes, np.where(distances.min(-1) < limit, distances.argmin(-1) + 1, 0))
    each = oracle.sid_classify(cube, endmembers, [0.8, 0.3, 0.001])
    assert set(np.unique(each)) == {0, 1, 2, 3} and not np.array_equal(each, classes)


def test_nearest_is_of_raw_spectra(shared: Path) -> None:
    cube, endmembers, _ = samson(shared, 24)
    nearest = oracle.nearest("SAM", cube, endmembers)
    norms = np.linalg.norm(cube, axis=-1)[..., None] * np.linalg.norm(endmembers, axis=-1)
    assert_array_equal(nearest, np.argmax(cube @ endmembers.T / norms, axis=-1))
