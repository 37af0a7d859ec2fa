"""Principal components, MNF and whitening against scikit-learn and Spectral Python, and against what they promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.analysis.transforms import Transform, mnf, noise, pca, whiten
from hsichunk.cube.statistics import statistics
from hsichunk.errors import HsiError
from tests.helpers.scenes import scene


def _thin(shared: Path, name: str = "samson") -> xr.DataArray:
    step = {"samson": 4, "neon": 6}[name]
    return scene(shared, name).cube.isel(y=slice(50), wavelength=slice(None, None, step))


def _rows(values: xr.DataArray) -> Any:
    return np.moveaxis(values.values.astype(float), 0, -1).reshape(-1, values.shape[0])


def _spectra(cube: xr.DataArray) -> Any:
    return cube.values.reshape(-1, cube.shape[2]).astype(float)


@pytest.mark.parametrize("name", ["samson", "neon"])
def test_pca_is_scikit_learns(shared: Path, name: str) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    cube = _thin(shared, name)
    theirs = decomposition.PCA(6, svd_solver="full").fit(_spectra(cube))
    ours = pca(cube, 6)
    assert ours.components.dims == ("component", "wavelength") and ours.components.dtype == np.float64
    assert_allclose(ours.eigenvalues, theirs.explained_variance_, rtol=1e-6)
    assert_allclose(ours.mean, theirs.mean_, rtol=1e-8)
    sign = np.sign((ours.components.values * theirs.components_).sum(1))
    assert_allclose(ours.components, theirs.components_ * sign[:, None], atol=1e-6)
    scores = ours.transform(cube)
    assert scores.dims == ("component", "y", "x") and scores.dtype == np.float32 and scores.name == "pca"
    assert_allclose(_rows(scores), theirs.transform(_spectra(cube)) * sign, atol=1e-6)
    largest = np.abs(ours.components.values).argmax(1)
    assert (ours.components.values[np.arange(6), largest] > 0).all()


@pytest.mark.parametrize("name", ["samson", "neon"])
def test_mnf_and_noise_are_spectral_pythons(shared: Path, name: str) -> None:
    spectral = pytest.importorskip("spectral", reason="the oracle needs spectral (the `test` extra)")
    cube = _thin(shared, name)
    values = cube.values.astype(float)
    signal, rest = spectral.calc_stats(values), spectral.noise_from_diffs(values)
    found = noise(cube)
    deviation = np.sqrt(np.diag(rest.cov))
    both = np.outer(deviation, deviation)
    assert_allclose(found.covariance / both, rest.cov / both, atol=1e-9)
    theirs = spectral.mnf(signal, rest)
    ours = mnf(cube, 8)
    assert_allclose(ours.eigenvalues, theirs.napc.eigenvalues[:8].real, rtol=1e-5)
    scores, expected = _rows(ours.transform(cube)), theirs.reduce(values, num=8).reshape(-1, 8).real
    sign = np.sign((scores * expected).sum(0))
    assert_allclose(scores, expected * sign, atol=1e-3 * np.abs(expected).max())
    denoised = ours.inverse(ours.transform(cube))
    assert_allclose(denoised, theirs.denoise(values, num=8).real, atol=2e-5)
    xr.testing.assert_identical(denoised, mnf(cube).inverse(mnf(cube).transform(cube).isel(component=slice(8))))


def test_mnf_leaves_noise_white(shared: Path) -> None:
    cube = _thin(shared)
    fitted = mnf(cube)
    left = fitted.components.values @ noise(cube).covariance @ fitted.components.values.T
    assert_allclose(left, np.eye(len(left)), atol=1e-6)
    assert_allclose(statistics(_as_cube(fitted.transform(cube))).covariance.diagonal(), fitted.eigenvalues, rtol=1e-4)
    assert (np.diff(fitted.eigenvalues) <= 0).all()


def _as_cube(scores: xr.DataArray) -> xr.DataArray:
    out = scores.transpose("y", "x", "component").rename(component="wavelength")
    return out.assign_coords(wavelength=np.arange(out.sizes["wavelength"], dtype=float))


@pytest.mark.parametrize("name", ["samson", "neon"])
def test_whitening_whitens(shared: Path, name: str) -> None:
    cube = _thin(shared, name)
    fitted = whiten(cube)
    white = _rows(fitted.transform(cube))
    assert_allclose(np.cov(white.T), np.eye(white.shape[1]), atol=1e-4)
    assert_allclose(white.mean(0), 0, atol=1e-5)
    assert_allclose(fitted.components, fitted.components.values.T, atol=1e-6 * np.abs(fitted.components).max().item())


@pytest.mark.parametrize("fit", [pca, mnf, whiten])
def test_all_components_give_the_cube_back(shared: Path, fit: Any) -> None:
    cube = _thin(shared).isel(y=slice(40)).copy(deep=True)
    cube[3, 4, 7] = np.nan
    fitted: Transform = fit(cube)
    back = fitted.inverse(fitted.transform(cube))
    assert back.dims == cube.dims and back.dtype == np.float32 and back.name == "reflectance"
    expected = cube.where(cube.notnull().all("wavelength"))
    assert_allclose(back, expected, atol=2e-6)
    xr.testing.assert_identical(back.wavelength, cube.wavelength)


@pytest.mark.parametrize("fit", [pca, mnf, whiten, noise])
@pytest.mark.parametrize("chunks", [(7, 11), (40, 1), (39, 25)])
def test_same_bits_on_any_chunks_and_lazy(shared: Path, fit: Any, chunks: Any, no_compute: Any) -> None:
    cube = _thin(shared).isel(y=slice(40), x=slice(27)).copy(deep=True)
    cube[3, 4, 17] = np.nan
    lazy = cube.chunk(y=chunks[0], x=chunks[1])
    ours, plain = fit(lazy), fit(cube)
    if fit is noise:
        assert_array_equal(ours.covariance, plain.covariance)
        return
    for part in ("components", "mean", "eigenvalues", "basis"):
        xr.testing.assert_identical(getattr(ours, part), getattr(plain, part))
    with no_compute():
        scores = ours.transform(lazy)
        back = ours.inverse(scores)
    assert scores.chunks is not None and scores.chunks[1:] == lazy.chunks[:2] and back.chunks[:2] == lazy.chunks[:2]
    xr.testing.assert_identical(scores.compute(), plain.transform(cube))
    xr.testing.assert_identical(back.compute(), plain.inverse(plain.transform(cube)))
    assert_array_equal(np.argwhere(np.isnan(scores.values).any(0)), [[3, 4]])


def test_neighbours_on_both_sides_of_a_chunk_count(shared: Path) -> None:
    cube = _thin(shared).isel(y=slice(9), x=slice(10))
    deltas = cube.values[:-1, :-1].astype(float) - cube.values[1:, 1:]
    found = noise(cube.chunk(y=4, x=3))
    assert found.pixels == 8 * 9
    assert_allclose(found.covariance, np.cov(deltas.reshape(72, -1).T) / 2, rtol=1e-7, atol=1e-13)


def test_refusals_and_place(shared: Path, tmp_path: Path) -> None:
    from hsichunk.synthetic.tile import write_tile

    path = tmp_path / "tile.h5"
    write_tile(path, shape=(40, 50), seed=1)
    tile = hsi.clean(hsi.open_tile(path), every=20)
    fitted = pca(tile, 3)
    scores = fitted.transform(tile)
    assert scores.encoding["grid_mapping"] == "spatial_ref"
    xr.testing.assert_identical(scores.spatial_ref, tile.spatial_ref)
    xr.testing.assert_identical(fitted.inverse(scores).spatial_ref, tile.spatial_ref)
    cube = _thin(shared)
    with pytest.raises(HsiError, match="bands"):
        fitted.transform(cube)
    with pytest.raises(HsiError, match="component 9"):
        fitted.inverse(scores.assign_coords(component=[1, 2, 9]))
    with pytest.raises(HsiError, match="expected a DataArray"):
        fitted.inverse(tile)
    with pytest.raises(HsiError, match="components of"):
        pca(cube, 0)
    with pytest.raises(HsiError, match="no inverse"):
        whiten(cube.isel(y=slice(4), x=slice(5)))
    with pytest.raises(HsiError, match="two rows"):
        noise(cube.isel(y=slice(1)))
    with pytest.raises(HsiError, match="shape"):
        mnf(cube, noise_covariance=np.eye(3))
