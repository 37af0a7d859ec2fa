"""Continuum removal against PySpTools and SciPy's hull, Savitzky-Golay against SciPy and PySpTools."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hsichunk.analysis.spectral_filters import continuum_removed, savgol
from hsichunk.errors import HsiError
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.scenes import scene


def _hull_removed(x: Any, wavelength: Any) -> Any:
    with oracle.names_put_back():
        remove = oracle._module("spectro.hull_removal").convex_hull_removal
        return np.array([remove(v.tolist(), wavelength.tolist())[0] for v in x])


@pytest.mark.parametrize("name", ["samson", "neon", "dlr"])
def test_continuum_is_pysptools(shared: Path, name: str) -> None:
    found = scene(shared, name)
    step = {"samson": 16, "neon": 6, "dlr": 2}[name]
    cube = found.cube.isel(y=slice(None, None, step), x=slice(None, None, step))
    out = continuum_removed(cube)
    assert out.dims == cube.dims and out.dtype == np.float32
    nm = cube.wavelength.values
    expected = _hull_removed(cube.values.reshape(-1, len(nm)).astype(float), nm)
    positive = (cube.values[..., [0, -1]] > 0).all(-1).ravel()  # PySpTools closes its hull along 0 at the ends
    assert positive.mean() > 0.8
    assert_allclose(out.values.reshape(-1, len(nm))[positive], expected[positive], atol=1e-6)
    em = continuum_removed(found.endmembers)
    assert em.dtype == np.float64 and em.dims == ("endmember", "wavelength")
    whole = (found.endmembers.values > 0).all(1)
    assert_allclose(em.values[whole], _hull_removed(found.endmembers.values, nm)[whole], atol=1e-12)
    assert_array_equal(continuum_removed(found.endmembers[0]), em[0])


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), bands=st.integers(1, 30), levels=st.integers(1, 4))
def test_continuum_is_qhulls(seed: int, bands: int, levels: int) -> None:
    spatial = pytest.importorskip("scipy.spatial")
    rng = np.random.default_rng(seed)
    nm = np.sort(rng.choice(np.arange(400, 900), bands, replace=False)).astype(float)
    x = rng.integers(1, 2 + levels, (5, bands)) / 10.0  # few levels: many points in one line
    out = continuum_removed(xr.DataArray(x, {"wavelength": nm}, ("endmember", "wavelength"))).values
    for spectrum, ours in zip(x, out, strict=True):
        top = spectrum
        if bands > 1:
            closed = np.array([*zip(nm, spectrum, strict=True), (nm[0], -1.0), (nm[-1], -1.0)])
            corner = np.sort([i for i in spatial.ConvexHull(closed).vertices if i < bands])
            top = np.interp(nm, nm[corner], spectrum[corner])
        assert_allclose(ours, spectrum / top, rtol=1e-12)
        assert ours.max() <= 1 + 1e-12 and ours[0] == ours[-1] == 1


def test_continuum_of_what_is_not_above_zero() -> None:
    spectra = xr.DataArray(
        [[0.0, 0.0, 0.0], [-0.1, -0.2, -0.1], [0.2, 0.1, 0.2]],
        {"wavelength": [400.0, 500, 600]},
        ("endmember", "wavelength"),
    )
    assert_allclose(continuum_removed(spectra), [[1, 1, 1], [1, 1, 1], [1, 0.5, 1]])


@pytest.mark.parametrize("window", [(5, 2, 0), (11, 3, 0), (7, 2, 1), (9, 4, 2), (1, 0, 0), (5, 1, 2)])
@pytest.mark.parametrize("name", ["samson", "neon"])
def test_savgol_is_scipys_between_gaps(shared: Path, name: str, window: tuple[int, int, int]) -> None:
    signal = pytest.importorskip("scipy.signal")
    cube = scene(shared, name).cube.isel(y=slice(None, None, 5), x=slice(None, None, 7))
    size, order, deriv = window
    nm = cube.wavelength.values
    runs = np.split(np.arange(len(nm)), np.flatnonzero(np.diff(nm) > 50) + 1)
    assert len(runs) == {"samson": 1, "neon": 3}[name]  # NEON's two windows of water vapour
    x = cube.values.astype(float)
    expected = np.empty_like(x)
    for run in runs:
        apart = float(np.diff(nm[run]).mean())
        expected[..., run] = signal.savgol_filter(x[..., run], size, order, deriv, delta=apart, mode="interp")
    out = savgol(cube, size, order, deriv)
    assert_allclose(out, expected, rtol=1e-5, atol=2e-7)
    assert out.attrs["units"] == (f"nm-{deriv}" if deriv else "1")


def test_savgol_is_pysptools_away_from_the_ends(shared: Path) -> None:
    found = scene(shared, "samson")
    cube = found.cube.isel(y=slice(6), x=slice(5))
    with oracle.names_put_back():
        theirs = oracle._module("noise.dnoise_int").SavitzkyGolay().denoise_spectra(cube.values.astype(float), 11, 4)
    assert_allclose(savgol(cube, 11, 4)[..., 5:-5], theirs[..., 5:-5], atol=1e-6)


def test_savgol_keeps_a_step_over_a_gap_and_polynomials() -> None:
    nm = np.r_[np.arange(400, 500, 5.0), np.arange(700, 800, 5.0)]
    step = xr.DataArray(np.where(nm < 600, 0.1, 0.7), {"wavelength": nm}, ("wavelength",))
    assert_allclose(savgol(step, 7, 2), step, rtol=1e-12)
    cubic = xr.DataArray(1e-6 * (nm - 450) ** 3, {"wavelength": nm}, ("wavelength",))
    assert_allclose(savgol(cubic, 7, 3), cubic, atol=1e-9)
    assert_allclose(savgol(cubic, 7, 3, 1), 3e-6 * (nm - 450) ** 2, atol=1e-8)
    every = step.isel(wavelength=slice(None, None, 2))
    assert_allclose(savgol(every, 5, 1), every, rtol=1e-12)  # evenly thinned is not missing


@pytest.mark.parametrize(
    "work", [continuum_removed, partial(savgol, window=5, order=2), partial(savgol, window=7, order=2, deriv=1)]
)
@pytest.mark.parametrize("chunks", [(7, 11), (30, 1), (13, 25)])
def test_same_bits_on_any_chunks_lazy_and_nan(shared: Path, work: Any, chunks: Any, no_compute: Any) -> None:
    cube = scene(shared, "neon").cube.compute().copy(deep=True)
    cube[3, 4, 17] = np.nan
    plain = work(cube)
    with no_compute():
        lazy = work(cube.chunk(y=chunks[0], x=chunks[1]))
    assert lazy.chunks is not None and lazy.dtype == np.float32
    xr.testing.assert_identical(lazy.compute(), plain)
    assert set(plain.coords) == set(cube.coords)
    assert np.isnan(plain.values[3, 4]).all() and not np.isnan(plain.values[3, 5]).any()
    em = cube.isel(y=xr.DataArray([3, 5], dims="endmember"), x=xr.DataArray([4, 6], dims="endmember"))
    few = work(em.astype(float))
    assert np.isnan(few.values[0]).all()
    assert_allclose(few.values[1], plain.values[5, 6], rtol=1e-6)


def test_refusals() -> None:
    nm = np.r_[np.arange(400, 420, 5.0), np.arange(700, 800, 5.0)]
    spectrum = xr.DataArray(np.ones(len(nm)), {"wavelength": nm}, ("wavelength",))
    with pytest.raises(HsiError, match="4 bands from 400 to 415 nm"):
        savgol(spectrum, 5, 2)
    for window, order, deriv in ((4, 2, 0), (5, 5, 0), (5, 2, -1), (-1, 0, 0)):
        with pytest.raises(HsiError, match="odd window"):
            savgol(spectrum, window, order, deriv)
    with pytest.raises(HsiError, match="do not increase"):
        continuum_removed(spectrum[::-1])
    with pytest.raises(HsiError, match="no wavelengths"):
        continuum_removed(spectrum.drop_vars("wavelength"))
    with pytest.raises(HsiError, match="counts"):
        continuum_removed(spectrum.astype(int))
    with pytest.raises(HsiError, match="ndarray"):
        continuum_removed(spectrum.values)  # type: ignore[arg-type]
