"""UCLS, NNLS and the standard deviations of abundances: against SciPy, PySpTools and drawn noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.cube.from_array import as_cube
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.kernels.least_squares import active_set
from hsichunk.unmixing.abundance import abundance_std, nnls, ucls
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.cubes import endmembers_of
from tests.helpers.scenes import scene

SCENES = ("samson", "neon", "dlr", "emit")


def _pysptools(name: str, cube: Any, spectra: Any) -> Any:
    with oracle.names_put_back():
        return getattr(oracle._module("abundance_maps.amaps"), name)(cube, spectra)


def _scipy_nnls(x: Any, spectra: Any) -> Any:
    optimize = pytest.importorskip("scipy.optimize")
    return np.array([optimize.nnls(spectra.T, v)[0] for v in x])


def _rows(values: xr.DataArray) -> Any:
    return np.moveaxis(values.values, 0, -1).reshape(-1, values.shape[0])


@pytest.mark.parametrize("name", SCENES)
def test_nnls_is_scipys_and_not_pysptools(shared: Path, name: str) -> None:
    found = scene(shared, name)
    out = nnls(found.cube, found.endmembers)
    e = found.endmembers.values
    x = found.cube.values.reshape(-1, e.shape[1]).astype(float)
    expected = _scipy_nnls(x, e)
    assert_allclose(_rows(out.abundance), expected, rtol=0, atol=1e-6)
    assert_allclose(out.rmse.values.ravel(), np.sqrt(((x - expected @ e) ** 2).mean(1)), rtol=0, atol=1e-6)
    some = slice(None, None, 7)
    theirs = np.abs(_pysptools("NNLS", x[some], e) - expected[some]).max()
    ours = np.abs(_rows(out.abundance)[some] - expected[some]).max()
    print(f"{name}: NNLS differs from scipy.optimize.nnls by {ours:.1e}, PySpTools' by {theirs:.1e}")
    assert theirs > 1e3 * ours


@pytest.mark.parametrize("name", SCENES)
def test_ucls_is_least_squares_and_pysptools(shared: Path, name: str) -> None:
    found = scene(shared, name)
    e = found.endmembers.values
    x = found.cube.values.reshape(-1, e.shape[1]).astype(float)
    out = ucls(found.cube, found.endmembers)
    expected, *_ = np.linalg.lstsq(e.T, x.T, rcond=None)
    assert_allclose(_rows(out.abundance), expected.T, rtol=1e-6, atol=1e-6)
    assert_allclose(_rows(out.abundance), _pysptools("UCLS", x, e), rtol=1e-6, atol=1e-6)
    assert_allclose(out.rmse.values.ravel(), np.sqrt(((x - expected.T @ e) ** 2).mean(1)), rtol=0, atol=1e-6)


@settings(max_examples=40)
@given(p=st.integers(1, 9), seed=st.integers(0, 2**31), noise=st.sampled_from([0.0, 1e-3, 1.0]))
def test_nnls_meets_its_conditions_on_drawn_mixtures(p: int, seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    e = rng.uniform(0.05, 0.6, (p, 20))
    x = rng.dirichlet(np.full(p, 0.3), 30) @ e + noise * rng.normal(size=(30, 20))
    x[0], x[1] = 0, -e[0]  # nothing, and what no endmember helps
    out = nnls(as_cube(x.reshape(5, 6, 20), np.linspace(400, 900, 20)), endmembers_of(e, np.linspace(400, 900, 20)))
    assert_allclose(_rows(out.abundance), _scipy_nnls(x, e), rtol=1e-6, atol=1e-6)


def test_active_set_certificate_of_many_endmembers() -> None:
    rng = np.random.default_rng(5)
    e = rng.uniform(0, 1, (40, 60))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    gram, linear = e @ e.T, rng.normal(size=(200, 60)) @ e.T
    a = np.zeros((200, 40))
    active_set(gram, linear, a)
    gradient = a @ gram - linear
    assert a.min() >= 0
    assert gradient.min() > -1e-11  # nothing to be gained by more of any
    assert np.abs(gradient[a > 0]).max() < 1e-10


@pytest.mark.parametrize("unmix", [ucls, nnls])
@pytest.mark.parametrize("chunks", [(7, 11, 156), (30, 1, 156), (13, 30, 40)])
def test_same_bits_on_any_chunks_and_lazy(shared: Path, no_compute: Any, unmix: Any, chunks: Any) -> None:
    found = scene(shared, "samson")
    cube = found.cube.isel(y=slice(30), x=slice(25)).copy(deep=True)
    cube[3, 4, 17] = np.nan
    cube[9, 9, :] = np.nan
    plain = unmix(cube, found.endmembers)
    lazy = cube.chunk(dict(zip(("y", "x", "wavelength"), chunks, strict=True)))
    if chunks[2] < 156:
        with pytest.warns(HsiWarning, match="rechunked"), no_compute():
            out = unmix(lazy, found.endmembers)
    else:
        with no_compute():
            out = unmix(lazy, found.endmembers)
        assert out.abundance.chunks[1:] == lazy.chunks[:2]
    assert out.abundance.dtype == out.rmse.dtype == np.float32
    xr.testing.assert_identical(out.compute(), plain)
    gone = np.isnan(plain.rmse.values)
    assert sorted(zip(*np.nonzero(gone), strict=True)) == [(3, 4), (9, 9)]
    assert_array_equal(np.isnan(plain.abundance.values), np.broadcast_to(gone, plain.abundance.shape))


def test_place_on_the_ground_is_kept(tmp_path: Path) -> None:
    from hsichunk.synthetic.tile import write_tile

    path = tmp_path / "tile.h5"
    write_tile(path, shape=(40, 50), seed=1)
    cube = hsi.clean(hsi.open_tile(path))
    em = hsi.nfindr(cube, 3)
    out = nnls(cube, em)
    expected = hsi.fcls(cube, em)
    assert set(out.coords) == set(expected.coords)
    assert out.abundance.encoding["grid_mapping"] == "spatial_ref"
    xr.testing.assert_identical(out.coords.to_dataset(), expected.coords.to_dataset())  # spatial_ref with its CRS


def test_refusals(shared: Path) -> None:
    found = scene(shared, "samson")
    cube, em = found.cube.isel(y=slice(4)), found.endmembers
    double = em.copy(deep=True)
    double[1] = 2 * double[0]
    with pytest.raises(HsiError, match="EM1, EM2 are zero, multiples"):
        nnls(cube, double)
    assert np.isfinite(abundance_std(double, np.ones(156), method="fcls")).all()  # no affine mixture
    with pytest.raises(HsiError, match="bands"):
        ucls(cube.isel(wavelength=slice(10)), em)
    with pytest.raises(HsiError, match="shape"):
        abundance_std(em, np.ones(7))
    with pytest.raises(HsiError, match="method"):
        abundance_std(em, np.ones(156), method="lasso")  # type: ignore[arg-type]
    with pytest.raises(HsiError, match="give abundance="):
        abundance_std(em, nnls(cube, em).rmse)


NOISE = 4000  # drawn spectra: a standard deviation is known to 1.1 %


@pytest.fixture(scope="module")
def coloured() -> Any:
    """Endmembers, a noise covariance and draws of it, in float64."""
    rng = np.random.default_rng(2)
    e = rng.uniform(0.05, 0.6, (4, 30))
    root = np.tril(rng.normal(size=(30, 30))) * 2e-4
    return endmembers_of(e, np.linspace(400, 900, 30)), root @ root.T, rng.normal(size=(NOISE, 30)) @ root.T


@pytest.mark.parametrize("method", ["fcls", "nnls", "ucls"])
def test_std_is_that_of_drawn_noise(coloured: Any, method: Any) -> None:
    em, covariance, draws = coloured
    for a in ([0.4, 0.3, 0.2, 0.1], [0.7, 0.0, 0.3, 0.0]):
        if method != "ucls" and 0.0 in a:  # far below 0 without the constraint: the support is the same in every draw
            x = np.array(a) @ em.values - 0.3 * (em.values[1] + em.values[3]) + draws
        else:
            x = np.array(a) @ em.values + draws
        cube = as_cube(x.reshape(50, -1, 30), em.wavelength.values)
        out = {"fcls": hsi.fcls, "nnls": nnls, "ucls": ucls}[method](cube, em).abundance
        std = abundance_std(em, covariance, out, method=method)
        support = np.unique(_rows(out) > 0, axis=0)
        if method != "ucls":
            assert len(support) == 1  # else the draws say nothing about one support
        assert_allclose(_rows(out).std(0), _rows(std)[0], rtol=0.06, atol=1e-7)
        assert_allclose(_rows(std), _rows(std)[:1].repeat(NOISE, 0), rtol=1e-6)


@pytest.mark.parametrize("method", ["fcls", "nnls", "ucls"])
def test_std_from_the_noise_that_the_image_itself_shows(coloured: Any, method: Any) -> None:
    """Coloured noise on mixtures that change slowly: its covariance estimated from neighbours, by `hsi.moments`."""
    em, covariance, draws = coloured
    slow = 0.005 * np.sin(np.linspace(0, np.pi, 80))[:, None] * np.linspace(-1, 1, 50)
    truth = np.array([0.4, 0.3, 0.2, 0.1]) + slow[..., None] * np.array([1.0, -1.0, 0.5, -0.5])
    cube = as_cube(truth @ em.values + draws.reshape(80, 50, 30), em.wavelength.values)
    cube[5, 6] = np.nan  # no pair has it
    found = hsi.moments(cube, noise=True).noise_covariance
    out = {"fcls": hsi.fcls, "nnls": nnls, "ucls": ucls}[method](cube, em).abundance
    std = abundance_std(em, found, out, method=method)
    errors = (out.values - np.moveaxis(truth, -1, 0)).reshape(4, -1)
    assert_allclose(std[:, 40, 20], np.nanstd(errors, axis=1), rtol=0.06)
    assert_allclose(std[:, 40, 20], abundance_std(em, covariance, method=method), rtol=0.06)
    assert np.isnan(std[:, 5, 6]).all() and int(std.isnull().sum()) == 4
    alone = abundance_std(em, np.diag(found.values), method=method)  # as if bands had noise of their own
    assert np.abs(alone / std[:, 40, 20].values - 1).max() > 0.15
    lazy = abundance_std(em, hsi.moments(cube.chunk(y=33, x=7), noise=True).noise_covariance, out, method=method)
    xr.testing.assert_identical(lazy, std)


def test_std_of_white_noise_from_residuals(coloured: Any) -> None:
    em, _, _ = coloured
    rng = np.random.default_rng(3)
    x = np.array([0.4, 0.3, 0.2, 0.1]) @ em.values + 0.002 * rng.normal(size=(NOISE, 30))
    cube = as_cube(x.reshape(50, -1, 30), em.wavelength.values)
    for method, unmix in (("fcls", hsi.fcls), ("ucls", ucls)):
        out = unmix(cube, em)
        known = abundance_std(em, np.full(30, 0.002**2), method=method)  # type: ignore[arg-type]
        guessed = abundance_std(em, out.rmse, out.abundance, method=method)  # type: ignore[arg-type]
        # the mean of estimated variances is the variance
        assert_allclose(np.sqrt((_rows(guessed).astype(float) ** 2).mean(0)), known, rtol=0.008)
        lazy = abundance_std(em, out.rmse.chunk(x=9), out.abundance.chunk(y=7, x=11), method=method)  # type: ignore[arg-type]
        assert lazy.chunks is not None
        assert_allclose(lazy, guessed, rtol=1e-6)


def test_std_sums_to_nothing_on_the_simplex_and_keeps_no_data(shared: Path) -> None:
    found = scene(shared, "samson")
    cube = found.cube.isel(y=slice(20), x=slice(20)).copy(deep=True)
    cube[2, 3, 5] = np.nan
    out = hsi.fcls(cube, found.endmembers)
    std = abundance_std(found.endmembers, np.full(156, 1e-6), out.abundance)
    assert np.isnan(std.values[:, 2, 3]).all()
    assert np.isfinite(np.delete(_rows(std), 2 * 20 + 3, 0)).all()
    pure = (out.abundance.values > 0).sum(0) == 1
    assert pure.any() and (std.values[:, pure] == 0).all()  # all of one: nothing is left to be uncertain
    pair = ((out.abundance.values > 0).sum(0) == 2)[None] & (out.abundance.values > 0)
    two = std.values.transpose(1, 2, 0)[pair.transpose(1, 2, 0)].reshape(-1, 2)
    assert len(two) and np.allclose(two[:, 0], two[:, 1], rtol=1e-5)  # what one gains the other loses
