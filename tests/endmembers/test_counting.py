"""Numbers of endmembers: PySpTools' on its own settings, the truth on synthetic mixtures, the published test."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.cube.second_moments import moments
from hsichunk.endmembers import counting
from hsichunk.plot import eigenvalues
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.cubes import cube_of
from tests.helpers.scenes import scene
from tests.helpers.tiles import WIDE_LAYOUTS, wide_tile


def theirs(name: str, cube: xr.DataArray, *args: Any) -> Any:
    """PySpTools' HfcVd or HySime on float64; its count."""
    with oracle.names_put_back():
        counter = getattr(importlib.import_module("pysptools.material_count"), name)()
        found = counter.count(cube.values.astype(np.float64), *args)
    return found


def mixtures(shared: Path, count: int, *, snr: float = 30.0, side: int = 70) -> xr.DataArray:
    """A scene of so many real spectra, mixed at random, with white noise at `snr` dB."""
    library = np.genfromtxt(shared / "usgs1995_aviris224_subset.csv", delimiter=",", skip_header=1)[:, 2:].T
    library = library[:, np.isfinite(library).all(0)]
    rng = np.random.default_rng(count)
    spectra = library[np.linspace(0, len(library) - 1, count).astype(int)]
    assert np.linalg.matrix_rank(spectra) == count
    clean = rng.dirichlet(np.ones(count), side * side) @ spectra
    noisy = clean + rng.normal(0, np.sqrt((clean**2).mean() / 10 ** (snr / 10)), clean.shape)
    return hsi.as_cube(noisy.reshape(side, side, -1), np.linspace(400.0, 2500.0, clean.shape[1]))


@pytest.mark.parametrize("name", ["samson", "dlr", "neon"])
def test_hfc_is_that_of_pysptools_on_its_settings(shared: Path, name: str) -> None:
    cube = scene(shared, name).cube.compute()
    if name == "neon":  # bands that hold one value make its correlation NaN
        cube = cube.isel(wavelength=slice(5, 200))
    assert np.isfinite(cube.values).all()
    far = [1e-3, 1e-4, 1e-5]
    found = counting.hfc(cube.astype(np.float64), far, pysptools=True)
    assert found["count"].values.tolist() == theirs("HfcVd", cube)
    assert found.far.values.tolist() == far


@pytest.mark.parametrize("name", ["samson", "dlr"])
def test_the_whitening_of_pysptools_leaves_nothing_to_count(shared: Path, name: str) -> None:
    """It whitens with the covariance of the data in place of that of the noise; the page on PySpTools says so."""
    cube = scene(shared, name).cube.compute()
    assert theirs("HfcVd", cube, "default", True) == [0, 0, 0]
    assert int(counting.nwhfc(cube)["count"][0]) >= 2


@pytest.mark.parametrize("name", ["samson", "dlr", "neon"])
def test_hysime_is_that_of_pysptools(shared: Path, name: str) -> None:
    cube = scene(shared, name).cube.compute()
    count, axes = theirs("HySime", cube)
    found = counting.hysime(cube.astype(np.float64).drop_attrs(deep=False))
    assert int(found["count"]) == count
    ours = found["axis"].values[:count].T
    assert_allclose(np.linalg.svd(ours.T @ np.asarray(axes))[1], 1, atol=1e-6)  # the same subspace


@pytest.mark.parametrize("count", [3, 5, 8])
def test_hysime_names_the_true_number(shared: Path, count: int) -> None:
    cube = mixtures(shared, count)
    found = counting.hysime(cube)
    assert int(found["count"]) == count
    assert (found.cost.values[:count] < 0).all()
    assert (np.diff(found.cost.values) >= 0).all()


def test_noise_of_one_band_does_not_count_once_it_is_whitened(shared: Path) -> None:
    cube = mixtures(shared, 4, snr=40)
    found = [int(counting.nwhfc(cube, noise=noise)["count"][0]) for noise in ("regression", "neighbours")]
    assert 1 <= found[0] <= 4
    loud = cube.copy(deep=True)
    loud[..., 50] += np.random.default_rng(0).normal(0, 0.2, loud.shape[:2])
    again = [int(counting.nwhfc(loud, noise=noise)["count"][0]) for noise in ("regression", "neighbours")]
    assert again == found


def test_the_published_test_is_the_published_test(shared: Path) -> None:
    """Straight from the formula, pixel by pixel."""
    cube = scene(shared, "samson").cube.compute()
    x = cube.values.reshape(-1, cube.shape[2]).astype(np.float64)
    n = len(x)
    r = np.sort(np.linalg.eigvalsh(x.T @ x / n))[::-1]
    k = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    z = 3.090232306167813  # of the normal distribution at 1e-3
    expected = r - k > z * np.sqrt(2 / n * (r**2 + k**2))
    found = counting.hfc(cube)
    assert found["count"].values.tolist() == [expected.sum()]
    assert_allclose(found.correlation_eigenvalue, r, rtol=1e-9, atol=1e-14)
    assert_allclose(found.threshold[0], z * np.sqrt(2 / n * (r**2 + k**2)), rtol=1e-9, atol=1e-14)
    # it does not depend on units, PySpTools' does
    assert_array_equal(counting.hfc(cube * 1e4)["count"], found["count"])
    noise = 1 / np.diag(np.linalg.inv(np.cov(x.T, bias=True)))
    white = x / np.sqrt(noise)
    r = np.sort(np.linalg.eigvalsh(white.T @ white / n))[::-1]
    assert_allclose(counting.nwhfc(cube).correlation_eigenvalue, r, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("call", [counting.hfc, counting.nwhfc, counting.hysime])
def test_moments_do_in_place_of_the_cube(tmp_path: Path, call: Callable[..., xr.Dataset]) -> None:
    """And stored chunks do not matter."""
    cubes = [cube_of(wide_tile(tmp_path, chunks)) for chunks in WIDE_LAYOUTS]
    expected = call(cubes[0])
    xr.testing.assert_identical(call(cubes[1]), expected)
    xr.testing.assert_identical(call(cubes[0].compute()), expected)
    xr.testing.assert_identical(call(moments(cubes[2])), expected)
    if call is counting.nwhfc:
        by_neighbours = call(cubes[0], noise="neighbours")
        assert by_neighbours.attrs["noise"] == "neighbours"
        xr.testing.assert_identical(call(moments(cubes[1], noise=True), noise="neighbours"), by_neighbours)


@pytest.mark.parametrize("call", [counting.hfc, counting.nwhfc, counting.hysime])
def test_results_say_what_was_read(tmp_path: Path, call: Callable[..., xr.Dataset]) -> None:
    cube = cube_of(wide_tile(tmp_path, WIDE_LAYOUTS[1]))
    every, file, some = call(cube), call(moments(cube, memory=100_000)), call(moments(cube, sample=3000))
    sources = [(found.attrs["source"], found.attrs["scratch_bytes"]) for found in (every, file, some)]
    assert sources == [("every pixel", 0), ("every pixel", cube.size * 2), ("a sample", 0)]
    xr.testing.assert_equal(file, every)
    assert some.attrs["pixels"] < every.attrs["pixels"]


@pytest.mark.parametrize("call", [counting.hfc, counting.hysime])
def test_eigenvalues_are_drawn(shared: Path, call: Callable[..., xr.Dataset]) -> None:
    import matplotlib.pyplot as plt

    result = call(scene(shared, "dlr").cube)
    ax = eigenvalues.plot_counts(result)
    assert len(ax.lines) == 3
    assert ax.get_title().endswith(str(int(result["count"].values.ravel()[0])))
    given = plt.figure().gca()
    assert eigenvalues.plot_counts(result, ax=given) is given
    plt.close("all")


def test_what_cannot_be_done_is_refused_in_one_line(shared: Path) -> None:
    cube = scene(shared, "dlr").cube
    flat = cube.copy(deep=True)
    flat[..., 3] = 0.25
    asks: list[tuple[Callable[[], Any], str]] = [
        (lambda: counting.hfc(cube, 0.7), "false-alarm"),
        (lambda: counting.hfc(cube, []), "false-alarm"),
        (lambda: counting.hfc(flat, pysptools=True), "band 3"),
        (lambda: counting.nwhfc(flat), "mixtures of others"),
        (lambda: counting.nwhfc(flat, noise="neighbours"), "do not differ"),
        (lambda: counting.nwhfc(moments(cube), noise="neighbours"), "noise=True"),
        (lambda: counting.nwhfc(cube, noise="other"), "other"),  # type: ignore[arg-type]
        (lambda: eigenvalues.plot_counts(xr.Dataset()), "hysime"),
        (lambda: counting.hysime(cube.where(False)), "0 valid pixels"),
    ]
    for ask, said in asks:
        with pytest.raises(hsi.HsiError, match=said) as refusal:
            ask()
        assert "\n" not in str(refusal.value)
