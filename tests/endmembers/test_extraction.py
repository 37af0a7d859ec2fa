"""ATGP, PPI, FIPPI and VCA over every pixel: PySpTools' pixels where it is right, pure pixels, and no chunks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_info, threadpool_limits

import hsichunk as hsi
from hsichunk.cube import spectra_reader
from hsichunk.endmembers import extraction
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.cubes import cube_of, numbers_of
from tests.helpers.scenes import scene
from tests.helpers.tiles import WIDE_LAYOUTS, wide_tile

SCENES = ("samson", "dlr", "neon")


def pure_scene(k: int, *, noise: float = 0.0) -> tuple[xr.DataArray, list[int]]:
    """Mixtures of k spectra, each of which is the whole of one pixel; and those pixels."""
    rng = np.random.default_rng(k)
    spectra = rng.uniform(0.05, 0.9, (k, 60))
    share = rng.dirichlet(np.ones(k), 1500)
    share = share[share.max(1) < 0.9][:900]
    pure = sorted(int(p) for p in rng.choice(900, k, replace=False))
    share[pure] = np.eye(k)
    values = share @ spectra + rng.normal(0, noise, (900, 60)) if noise else share @ spectra
    return hsi.as_cube(values.reshape(30, 30, 60), np.arange(60) * 10 + 400.0), pure


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("k", [3, 6, 10])
def test_atgp_is_that_of_pysptools(shared: Path, monkeypatch: pytest.MonkeyPatch, name: str, k: int) -> None:
    """From a sample, which the passes over the image make whole."""
    monkeypatch.setattr(extraction, "SAMPLE", 25)
    cube = scene(shared, name).cube.compute()
    theirs = oracle.atgp(cube.values.astype(np.float64), k)
    found = extraction.atgp(cube, k)
    assert found.attrs["passes"] > 1
    assert found.attrs["certified"] == 1
    assert numbers_of(cube, found) == [
        row * cube.sizes["x"] + col for row, col in zip(theirs.rows, theirs.columns, strict=True)
    ]


def eea(name: str) -> Any:
    return getattr(importlib.import_module("pysptools.eea.eea"), name)


@pytest.mark.parametrize("name", SCENES)
def test_votes_are_those_of_pysptools(shared: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """On its skewers, which are drawn from one corner of all directions."""
    cube = scene(shared, name).cube.compute()
    flat = cube.values.reshape(-1, cube.shape[2])
    skewers = np.random.default_rng(0).random((60, flat.shape[1]))
    apart = flat.astype(np.float64) - flat.mean(0, dtype=np.float64)
    expected = np.bincount(np.abs(apart @ skewers.T).argmax(0), minlength=len(flat))
    votes = extraction.ppi_votes(cube, skewers=skewers, pysptools=True)
    assert_array_equal(votes.values.ravel(), expected)
    monkeypatch.setattr(np.random, "rand", lambda *shape: skewers.T)
    with oracle.names_put_back():
        theirs = eea("PPI")(flat, 3, 60)[1]
    votes = extraction.ppi_votes(cube, skewers=skewers, pysptools=True).values.ravel()
    assert_array_equal(votes[theirs], np.sort(votes)[::-1][:3])


def test_both_ends_of_a_skewer_have_a_vote(shared: Path) -> None:
    cube = scene(shared, "samson").cube.compute()
    flat = cube.values.reshape(-1, cube.shape[2]).astype(np.float64)
    skewers = np.random.default_rng(3).normal(size=(700, flat.shape[1]))
    along = flat @ skewers.T
    expected = np.bincount(np.concatenate([along.argmin(0), along.argmax(0)]), minlength=len(flat))
    votes = extraction.ppi_votes(cube, skewers=700, seed=3)
    assert_array_equal(votes.values.ravel(), expected)
    assert votes.dtype == np.float32
    em = extraction.ppi(cube, 4, skewers=700, seed=3)
    assert_array_equal(em.votes, np.sort(expected)[::-1][:4])
    assert_array_equal(expected[numbers_of(cube, em)], em.votes)


@pytest.mark.parametrize(("name", "k"), [("samson", 3), ("samson", 6), ("dlr", 4), ("dlr", 6), ("neon", 4)])
def test_fippi_is_that_of_pysptools(shared: Path, name: str, k: int) -> None:
    cube = scene(shared, name).cube.compute()
    flat = cube.values.reshape(-1, cube.shape[2]).astype(np.float64)
    with oracle.names_put_back():
        pytest.importorskip("sklearn", reason="PySpTools' FIPPI needs scikit-learn")
        theirs = eea("FIPPI")(flat, q=k)[1]
    assert numbers_of(cube, extraction.fippi(cube, k)) == [int(p) for p in theirs]


@pytest.mark.parametrize("k", [2, 3, 5, 8])
@pytest.mark.parametrize("snr", [None, 0.0])
def test_vca_finds_pure_pixels(k: int, snr: float | None) -> None:
    """In both of its subspaces, for any seed."""
    cube, pure = pure_scene(k)
    for seed in range(5):
        found = extraction.vca(cube, k, seed=seed, snr=snr)
        assert sorted(numbers_of(cube, found)) == pure
    assert found.attrs["snr"] == (np.inf if snr is None else 0.0) or found.attrs["snr"] > 100


def test_vca_knows_the_noise() -> None:
    for noise, expected in ((0.001, 54.0), (0.01, 34.0), (0.1, 14.0)):
        cube, pure = pure_scene(4, noise=noise)
        found = extraction.vca(cube, 4)
        power = 10 * np.log10((pure_scene(4)[0].values ** 2).mean() / noise**2)
        assert_allclose(power, expected, atol=2)
        assert_allclose(found.attrs["snr"], power, atol=2)
        if noise < 0.1:
            assert sorted(numbers_of(cube, found)) == pure


@pytest.mark.parametrize("search", [extraction.atgp, extraction.ppi])
def test_others_find_pure_pixels(search: Callable[[xr.DataArray, int], xr.DataArray]) -> None:
    cube, pure = pure_scene(4, noise=1e-4)
    assert sorted(numbers_of(cube, search(cube, 4))) == pure


SEARCHES: list[Callable[[xr.DataArray], xr.DataArray]] = [
    lambda cube: extraction.atgp(cube, 6),
    lambda cube: extraction.ppi(cube, 4, skewers=300, seed=2),
    lambda cube: extraction.fippi(cube, 4),
    lambda cube: extraction.vca(cube, 4, seed=1),
    lambda cube: extraction.bundles(cube, 3, repeats=2, sample=500),
    lambda cube: extraction.ppi_votes(cube, skewers=100),
    lambda cube: extraction.ppi_votes(cube, skewers=100, pysptools=True),
]


@pytest.mark.parametrize("number", range(len(SEARCHES)))
def test_chunks_do_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    search = SEARCHES[number]
    expected = search(cube_of(wide_tile(folder)).compute())
    others = [
        cube_of(wide_tile(folder)).compute().chunk(y=37, x=41, wavelength=9),
        cube_of(wide_tile(folder, WIDE_LAYOUTS[1])),
    ]
    for cube in others:
        xr.testing.assert_identical(search(cube), expected)
    monkeypatch.setattr(spectra_reader, "MEMORY", 200_000)
    for cube in (*others, cube_of(wide_tile(folder, WIDE_LAYOUTS[0]))):
        xr.testing.assert_identical(search(cube), expected)


@pytest.mark.parametrize("number", range(len(SEARCHES) + 2))
def test_threads_of_blas_do_not_matter(shared: Path, number: int) -> None:
    """Values that are no counts, whose sums are rounded. The other tests have one thread (tests/conftest.py)."""
    by_nfindr = [lambda cube: hsi.nfindr(cube, 4), lambda cube: hsi.nfindr(cube, 4, refine=True, exclude=4.0)]
    search = [*SEARCHES, *by_nfindr][number]
    cube = scene(shared, "samson").cube[::2, ::2].compute() * np.float32(0.77)
    with threadpool_limits(1, user_api="blas"):
        expected = search(cube)
    with threadpool_limits(2, user_api="blas"):
        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas" and "cvxopt" not in pool["filepath"]]
        assert {pool["num_threads"] for pool in pools} == {2}  # cvxopt's own, which no search uses, stays at one
        xr.testing.assert_identical(search(cube), expected)


@pytest.mark.parametrize("number", range(len(SEARCHES)))
def test_no_data_is_no_candidate(folder: Path, number: int) -> None:
    cube = cube_of(wide_tile(folder)).isel(y=slice(0, 50), x=slice(0, 60)).compute()
    assert np.isnan(cube.values).any()
    spoilt = cube.copy(deep=True)
    spoilt[30, 40] = 3.0
    spoilt[30, 40, 7] = np.nan
    found = SEARCHES[number](spoilt)
    if found.name == "ppi_votes":
        assert_array_equal(np.isnan(found), np.isnan(spoilt).any("wavelength"))
    else:
        assert np.isfinite(found.values).all()
        assert found.values.max() < 2


@pytest.mark.parametrize("number", range(4))
def test_endmembers_are_labelled_as_those_of_nfindr(shared: Path, number: int) -> None:
    cube = scene(shared, "dlr").cube.compute()
    found, expected = SEARCHES[number](cube), hsi.nfindr(cube, 4)
    assert (found.dims, found.dtype, found.name) == (expected.dims, expected.dtype, expected.name)
    assert set(expected.coords) <= set(found.coords)
    assert found.attrs["units"] == "1"
    assert found.endmember.values.tolist() == [f"EM{i + 1}" for i in range(len(found))]
    there = cube.sel(y=found.y, x=found.x).transpose("endmember", "wavelength")
    assert_array_equal(found.values.astype(cube.dtype), there.values)
    hsi.sam(cube, found)


def test_bundles_hold_like_spectra_side_by_side(shared: Path) -> None:
    cube = scene(shared, "samson").cube.compute()
    found = extraction.bundles(cube, 3, repeats=5, sample=500)
    assert found.dims == ("bundle", "endmember", "wavelength")
    assert found.shape == (5, 3, 156)
    assert found.x.dims == found.y.dims == ("bundle", "endmember")
    first = found[0].values
    for bundle in range(5):
        unit = found[bundle].values / np.linalg.norm(found[bundle].values, axis=1, keepdims=True)
        cosine = unit @ (first / np.linalg.norm(first, axis=1, keepdims=True)).T
        assert_array_equal(cosine.argmax(1), range(3))
        assert_allclose(np.cos(found.angle[bundle]), np.diag(cosine), atol=1e-9)
        alone = hsi.nfindr(cube, 3, sample=500, share=1.0, seed=bundle)
        assert set(alone.x.values) == set(found.x[bundle].values)
    assert len(np.unique(found.x.values)) > 3
    assert_array_equal(found.sel(bundle=2, endmember="EM1"), cube.sel(y=found.y[1, 0], x=found.x[1, 0]))


def test_matching_takes_the_closest_pair_first() -> None:
    angle = np.array([[0.3, 0.1, 0.9], [0.2, 0.05, 0.8], [0.5, 0.6, 0.7]])
    assert extraction._matched(angle).tolist() == [0, 1, 2]
    assert extraction._matched(angle[:, ::-1]).tolist() == [2, 1, 0]


def test_what_cannot_be_done_is_refused_in_one_line(shared: Path) -> None:
    cube = scene(shared, "dlr").cube
    flat = cube.where(cube < -9, 0.5)
    asks: list[tuple[Callable[[], Any], str]] = [
        (lambda: extraction.atgp(cube, 1), "k is 1"),
        (lambda: extraction.atgp(flat, 2), "1 independent"),
        (lambda: extraction.atgp(cube.where(False), 2), "0 independent"),
        (lambda: extraction.ppi(cube, 4, skewers=0), "at least one"),
        (lambda: extraction.ppi(cube, 40, skewers=2), "more skewers"),
        (lambda: extraction.ppi_votes(cube, skewers=np.ones((3, 7))), "135 bands"),
        (lambda: extraction.ppi_votes(cube.where(False)), "0 valid pixels"),
        (lambda: extraction.fippi(flat, 3), "0 dimensions"),
        (lambda: extraction.vca(flat, 3), "dimensions"),
        (lambda: extraction.vca(cube.values, 3), "ndarray"),
        (lambda: extraction.bundles(cube, 3, repeats=0), "repeats"),
    ]
    for ask, said in asks:
        with pytest.raises(hsi.HsiError, match=said) as refusal:
            ask()
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("search", ["atgp", "ppi", "fippi", "vca"])
@pytest.mark.parametrize("chunks", WIDE_LAYOUTS)
def test_the_guard_leaves_outliers_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, search: str, chunks: tuple[int, int, int]
) -> None:
    """As where they hold no data, from stored chunks and from memory, however many of them fit there."""
    plain = cube_of(wide_tile(folder, chunks))
    found = getattr(hsi, search)
    guarded = found(plain, 4, exclude=10 / (90 * 130))  # the farthest ten at most: some that the search would take
    far = guarded.attrs["excluded"]
    assert 5 < far <= 10 and guarded.attrs["exclude"] == 10 / (90 * 130)
    assert "excluded" not in found(plain, 4).attrs
    assert_array_equal(found(plain.compute(), 4, exclude=10 / (90 * 130)).values, guarded.values)
    spoilt, flagged = plain.compute(), plain.compute().copy(deep=True)
    for y, x in [(3, 5), (40, 77), (88, 128)]:
        spoilt[y, x], flagged[y, x] = 40.0 * spoilt[y, x].fillna(0.2), np.nan
    expected = found(flagged, 4)
    again = found(spoilt, 4, exclude=100.0)
    assert again.attrs["excluded"] == 3
    assert_array_equal(again.values, expected.values)
    assert not np.array_equal(found(spoilt, 4).values, expected.values)
    with pytest.raises(hsi.HsiError, match="exclude is -1"):
        found(plain, 4, exclude=-1)
