"""Detectors against PySpTools' and Spectral Python's, and the statistics that they rest on against NumPy's."""

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
from hsichunk.analysis.detection import ace, cem, glrt, matched_filter, osp
from hsichunk.cube.from_array import as_cube
from hsichunk.cube.statistics import statistics
from hsichunk.errors import HsiError, HsiWarning
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.scenes import scene

ADAPTIVE = {"MatchedFilter": matched_filter, "ACE": ace, "CEM": cem, "GLRT": glrt}


def _thin(shared: Path, name: str) -> tuple[xr.DataArray, xr.DataArray, Any]:
    """A scene with few enough bands for its pixels: cube, endmembers and its spectra (n, L)."""
    found = scene(shared, name)
    step = {"samson": 3, "neon": 4, "dlr": 5}[name]
    cube = found.cube.isel(wavelength=slice(None, None, step))
    cube = cube.isel(y=slice(None, None, 2)) if name == "samson" else cube
    em = found.endmembers.isel(wavelength=slice(None, None, step))
    x = cube.values.reshape(-1, cube.shape[2]).astype(float)
    if found.counts:  # float32 reflectance is a rounding of them, which filters enlarge
        x = np.rint(x * 10000) / 10000
    return cube, em, x


def _pysptools(name: str, *args: Any) -> Any:
    with oracle.names_put_back():
        return getattr(oracle._module("detection.detect"), name)(*args)


@pytest.mark.parametrize("name", ["samson", "neon", "dlr"])
@pytest.mark.parametrize("detector", ADAPTIVE)
def test_detectors_are_pysptools(shared: Path, name: str, detector: str) -> None:
    cube, em, x = _thin(shared, name)
    many = ADAPTIVE[detector](cube, em)
    assert many.dims == ("endmember", "y", "x") and many.dtype == np.float32
    for i in range(em.sizes["endmember"]):
        expected = _pysptools(detector, x, em.values[i])
        assert_allclose(many.values[i].ravel(), expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max())
    one = ADAPTIVE[detector](cube, em[1])
    assert one.dims == ("y", "x") and one.name == many.name
    assert_array_equal(one, many[1])


@pytest.mark.parametrize("name", ["samson", "neon", "dlr"])
def test_osp_is_pysptools(shared: Path, name: str) -> None:
    cube, em, x = _thin(shared, name)
    out = osp(cube, em[1:], em[0])
    assert_allclose(out.values.ravel(), _pysptools("OSP", x, em.values[1:], em.values[0]), rtol=1e-5, atol=1e-5)
    several = osp(cube, em[2:], em[:2])
    assert_allclose(several[1].values.ravel(), _pysptools("OSP", x, em.values[2:], em.values[1]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["samson", "neon"])
def test_detectors_are_spectral_pythons(shared: Path, name: str) -> None:
    spectral = pytest.importorskip("spectral", reason="the oracle needs spectral (the `test` extra)")
    cube, em, _ = _thin(shared, name)
    values = cube.values.astype(float)
    expected = spectral.matched_filter(values, em.values[0])
    assert_allclose(matched_filter(cube, em[0]), expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max())
    # its ace takes the target as it is and no mean away from it unless the background has one
    background = spectral.calc_stats(values)
    assert_allclose(ace(cube, em[0]), spectral.ace(values, em.values[0], background), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["samson", "neon", "dlr"])
def test_statistics_are_numpys(shared: Path, name: str) -> None:
    cube = scene(shared, name).cube
    x = cube.values.reshape(-1, cube.shape[2]).astype(np.float64)
    if name != "samson":  # stored counts, of which float32 reflectance is a rounding; the statistics are the counts'
        x = np.rint(x * 10000) / 10000
    found = statistics(cube)
    assert_allclose(found.mean, x.mean(0), rtol=1e-9)
    expected = np.cov(x.T)
    deviation = np.sqrt(np.diag(expected))
    both = np.outer(deviation, deviation)
    assert_allclose(found.covariance / both, expected / both, rtol=0, atol=1e-9)
    assert_allclose(found.correlation, x.T @ x / len(x), rtol=1e-9)
    assert_array_equal(found.covariance, found.covariance.T)


@settings(max_examples=15)
@given(data=st.data())
def test_statistics_are_the_same_bits_on_any_chunks(data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = rng.normal(size=(17, 23, 6)) * 10.0 ** rng.integers(-6, 6, 6) + 3
    values[rng.random((17, 23)) < 0.1] = np.nan
    values[4, 5, 2] = np.inf
    cube = as_cube(values, np.linspace(400, 900, 6))
    plain = statistics(cube)
    valid = values[np.isfinite(values).all(-1)]
    assert plain.pixels == len(valid)
    assert_allclose(plain.covariance.diagonal(), valid.var(0, ddof=1), rtol=1e-7)
    grid = {d: tuple(data.draw(_chunks(cube.sizes[d]))) for d in ("y", "x")}
    other = statistics(cube.chunk(grid))
    assert_array_equal(other.covariance, plain.covariance)
    assert_array_equal(other.mean, plain.mean)


@st.composite
def _chunks(draw: Any, size: int) -> list[int]:
    out: list[int] = []
    while sum(out) < size:
        out.append(draw(st.integers(1, size - sum(out))))
    return out


RAGGED = {"y": (7, 1, 13, 9), "x": (11, 2, 12)}


@pytest.mark.parametrize("depth", [(52,), (20, 1, 31)])
@pytest.mark.parametrize("several", [False, True])
def test_osp_is_lazy_and_the_same_bits_with_nan(shared: Path, several: bool, depth: Any, no_compute: Any) -> None:
    cube, em, _ = _thin(shared, "samson")
    cube = cube.isel(y=slice(30), x=slice(25)).copy(deep=True)
    cube[3, 4, 17] = np.nan
    cube[29, 24] = np.inf
    unwanted, target = (em[2:], em[:2]) if several else (em[1:], em[0])
    plain = osp(cube, unwanted, target)
    lazy = cube.chunk({**RAGGED, "wavelength": depth})
    with no_compute():
        if len(depth) > 1:
            with pytest.warns(HsiWarning, match="rechunked"):
                out = osp(lazy, unwanted, target)
        else:
            out = osp(lazy, unwanted, target)
            assert out.chunks is not None and out.chunks[-2:] == (RAGGED["y"], RAGGED["x"])
    assert out.chunks is not None
    xr.testing.assert_identical(out.compute(), plain)
    gone = np.isnan(plain.values).reshape(-1, 30, 25)
    assert_array_equal(np.argwhere(gone.any(0)), [[3, 4], [29, 24]])
    assert_array_equal(gone.any(0), gone.all(0))
    good = ~gone[0].ravel()
    expected = _pysptools("OSP", cube.values.reshape(-1, 52).astype(float)[good], unwanted.values, em.values[0])
    assert_allclose(plain.values.reshape(-1, 750)[0, good], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("detector", ADAPTIVE)
@pytest.mark.parametrize("chunks", [(7, 11, 52), (30, 1, 52), (13, 25, 20)])
def test_same_bits_on_any_chunks_and_nan(shared: Path, detector: str, chunks: Any, no_compute: Any) -> None:
    cube, em, _ = _thin(shared, "samson")
    cube = cube.isel(y=slice(30), x=slice(25)).copy(deep=True)
    cube[3, 4, 17] = np.nan
    plain = ADAPTIVE[detector](cube, em)
    lazy = cube.chunk(dict(zip(("y", "x", "wavelength"), chunks, strict=True)))
    background = statistics(cube)
    if chunks[2] < 52:
        with pytest.warns(HsiWarning, match="rechunked"):
            out = ADAPTIVE[detector](lazy, em)
    else:
        with no_compute():
            ADAPTIVE[detector](lazy, em, background=background)
        out = ADAPTIVE[detector](lazy, em)
    assert out.chunks is not None
    xr.testing.assert_identical(out.compute(), plain)
    assert_array_equal(np.argwhere(np.isnan(plain.values).any(0)), [[3, 4]])


def test_a_background_of_another_cube_and_the_target_itself(shared: Path) -> None:
    cube, em, _ = _thin(shared, "samson")
    background = statistics(cube.isel(y=slice(40)))
    planted = cube.isel(y=slice(2)).copy(deep=True)
    planted[0, 0] = em[0].values
    planted[0, 1] = background.mean
    for detector, at_mean in ((matched_filter, 0), (ace, 0), (cem, None), (glrt, 0)):
        score = detector(planted, em[0], background=background).values
        assert at_mean is None or abs(score[0, 1] - at_mean) < 1e-4
        assert detector is glrt or abs(score[0, 0] - 1) < 1e-5


def test_ridge_is_what_it_says(shared: Path) -> None:
    cube, em, x = _thin(shared, "samson")
    covariance = np.cov(x.T)
    loaded = covariance + 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    apart, t = x - x.mean(0), em.values[0] - x.mean(0)
    solved = np.linalg.solve(loaded, t)
    assert_allclose(matched_filter(cube, em[0], ridge=1e-3).values.ravel(), apart @ solved / (t @ solved), atol=1e-5)


def test_refusals(shared: Path) -> None:
    cube, em, _ = _thin(shared, "samson")
    few = cube.isel(y=slice(5), x=slice(6))
    with pytest.raises(HsiError, match="no inverse"):
        ace(few, em[0])
    assert np.isfinite(ace(few, em[0], ridge=1e-6)).all()
    flat = cube.copy(deep=True)
    flat[..., 7] = 0.25
    with pytest.raises(HsiError, match=f"band {float(cube.wavelength[7]):g} nm"):
        matched_filter(flat, em[0])
    with pytest.raises(HsiError, match="at least two"):
        statistics(cube.where(False))
    with pytest.raises(HsiError, match="mixture"):
        osp(cube, em, em[0])
    with pytest.raises(HsiError, match="bands"):
        ace(cube, em[0, :9])
    with pytest.raises(HsiError, match="background has"):
        ace(cube, em[0], background=statistics(cube.isel(wavelength=slice(9))))
    with pytest.raises(HsiError, match="ridge"):
        ace(cube, em[0], ridge=-1.0)


def test_counts_of_a_tile(tmp_path: Path) -> None:
    from hsichunk.synthetic.tile import write_tile

    path = tmp_path / "tile.h5"
    write_tile(path, shape=(70, 80), seed=1)
    cube = hsi.clean(hsi.open_tile(path), every=12)
    em = hsi.nfindr(cube, 3)
    out = ace(cube, em[0], ridge=1e-9)
    assert "spatial_ref" in out.coords and out.encoding["grid_mapping"] == "spatial_ref"
    xr.testing.assert_identical(ace(cube.chunk(y=33, x=9), em[0], ridge=1e-9).compute(), out.compute())
    assert_allclose(out.sel(x=float(em.x[0]), y=float(em.y[0])), 1, rtol=1e-5)
