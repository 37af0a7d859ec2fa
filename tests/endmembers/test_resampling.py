"""Resampling to a sensor's bands, against numerical integration, Spectral Python and NumPy's interpolation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from hsichunk.endmembers.library import read_library
from hsichunk.endmembers.resampling import resample, response
from hsichunk.errors import HsiError

SIGMA = 1 / (2 * np.sqrt(2 * np.log(2)))


def em_of(values: np.ndarray, wavelength: np.ndarray) -> xr.DataArray:
    names = [f"EM{i + 1}" for i in range(len(values))]
    return xr.DataArray(values, {"endmember": names, "wavelength": wavelength}, ("endmember", "wavelength"))


def test_against_numerical_integration() -> None:
    rng = np.random.default_rng(0)
    nm = np.sort(rng.uniform(400, 700, 120))  # uneven, finer and coarser than the bands
    em = em_of(rng.random((2, 120)), nm)
    centres, fwhm = np.linspace(450, 650, 15), rng.uniform(2, 25, 15)
    got = resample(em, centres, fwhm).values
    for band, (centre, width) in enumerate(zip(centres, fwhm, strict=True)):
        fine = np.linspace(centre - 6 * width * SIGMA, centre + 6 * width * SIGMA, 200_001)
        weight = np.exp(-0.5 * ((fine - centre) / (width * SIGMA)) ** 2)
        for row, spectrum in enumerate(em.values):
            values = np.interp(fine, nm, spectrum)
            assert got[row, band] == pytest.approx(
                np.trapezoid(weight * values, fine) / np.trapezoid(weight, fine), abs=2e-6
            )


def test_against_spectral_python() -> None:
    """Spectral Python cuts the response off at half its height: inside, the weights are the same but for a factor."""
    spectral = pytest.importorskip("spectral")
    nm, centres, fwhm = (
        np.arange(400.0, 700.0),
        np.array([450.0, 521.3, 600.5, 640.0]),
        np.array([20.0, 31.0, 18.0, 40]),
    )
    theirs = np.asarray(spectral.BandResampler(nm.tolist(), centres.tolist(), None, fwhm.tolist()).matrix)
    ours = response(nm, centres, fwhm)
    for centre, width, one, two in zip(centres, fwhm, ours, theirs, strict=True):
        inside = np.abs(nm - centre) < width / 2 - 1
        assert inside.sum() > 14 and two[inside].sum() > 0.85
        np.testing.assert_allclose(one[inside] / one[inside].sum(), two[inside] / two[inside].sum(), rtol=2e-3)
    em = em_of(np.sin(nm / 60)[None] * 0.2 + 0.4, nm)
    np.testing.assert_allclose(resample(em, centres, fwhm).values[0], theirs @ em.values[0], atol=0.01)


def test_a_real_library_against_numerical_integration(shared: Path) -> None:
    em = read_library(shared / "usgs1995_aviris224_subset.csv")
    nm = em.wavelength.values
    centres, width = np.arange(430.0, 2450.0, 97.0), 12.0
    got = resample(em, centres, width).values
    fine = np.linspace(-40, 40, 20_001)
    weight = np.exp(-0.5 * (fine / (width * SIGMA)) ** 2)
    expected = [[np.sum(weight * np.interp(c + fine, nm, row)) / weight.sum() for c in centres] for row in em.values]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@given(st.floats(0, 60), st.integers(0, 2**31))
def test_straight_lines_stay_straight(width: float, seed: int) -> None:
    """Whatever the sampling and the width, to the ends of the library; and weights sum to one."""
    rng = np.random.default_rng(seed)
    nm = np.unique(rng.uniform(400, 500, 12))
    centres = np.sort(np.concatenate([[nm[0], nm[-1]], rng.uniform(nm[0], nm[-1], 7)]))
    em = em_of(np.stack([0.3 + 0.002 * (nm - 400), np.full(len(nm), 0.25)]), nm)
    got = resample(em, np.unique(centres), width).values
    np.testing.assert_allclose(got[0], 0.3 + 0.002 * (np.unique(centres) - 400), rtol=0, atol=1e-12)
    np.testing.assert_allclose(got[1], 0.25, rtol=0, atol=1e-13)
    np.testing.assert_allclose(response(nm, centres, np.full(len(centres), width)).sum(1), 1, atol=1e-12)


def test_without_fwhm_and_with_a_narrow_one() -> None:
    rng = np.random.default_rng(1)
    nm, centres = np.sort(rng.uniform(400, 900, 40)), np.linspace(450, 850, 17)
    em = em_of(rng.random((3, 40)), nm)
    expected = np.array([np.interp(centres, nm, row) for row in em.values])
    np.testing.assert_allclose(resample(em, centres).values, expected, atol=1e-14)
    np.testing.assert_allclose(resample(em, centres, 1e-6).values, expected, atol=1e-6)
    assert "fwhm" not in resample(em, centres).coords and (resample(em, centres, 3.0).fwhm == 3.0).all()
    same = resample(em, nm)
    assert same.values.tobytes() == em.values.tobytes()


def test_a_narrow_line_is_found_by_the_right_band() -> None:
    nm = np.arange(400.0, 501.0)
    line = np.zeros((1, 101))
    line[0, 50] = 1.0
    got = resample(em_of(line, nm), [430.0, 450.0, 470.0], 10.0).values[0]
    assert got[1] == pytest.approx(1 / (10 * SIGMA * np.sqrt(2 * np.pi)), rel=0.02) and got[0] == got[2] < 1e-3


def test_nan_and_beyond() -> None:
    nm = np.arange(400.0, 500.0, 2.0)
    values = np.full((2, 50), 0.5)
    values[1, 25] = np.nan  # 450 nm
    got = resample(em_of(values, nm), [399.0, 430.0, 449.0, 470.0, 498.0, 500.0], 4.0, outside="nan")
    assert np.isnan(got.values).tolist() == [
        [True, False, False, False, False, True],
        [True, False, True, False, False, True],
    ]
    np.testing.assert_allclose(got.values[0, 1:5], 0.5)
    with pytest.raises(HsiError, match=r"covers 400 to 498 nm, 2 of 3 bands lie beyond \(390 to 500 nm\)"):
        resample(em_of(values, nm), [390.0, 430.0, 500.0])


def test_refused() -> None:
    em = em_of(np.ones((1, 3)), np.array([400.0, 500.0, 600.0]))
    for wavelength, fwhm in (([500.0, 450.0], None), ([], None), ([450.0, 500.0], [1.0]), ([450.0], -1.0)):
        with pytest.raises(HsiError):
            resample(em, wavelength, fwhm)
