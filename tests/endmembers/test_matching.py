"""Matching endmembers with libraries: real ones, and angles against the definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hsichunk.endmembers.library import read_library
from hsichunk.endmembers.matching import identify, renamed
from hsichunk.endmembers.nfindr import nfindr
from hsichunk.endmembers.resampling import resample
from hsichunk.errors import HsiError
from tests.helpers import scenes

NM = np.linspace(400.0, 900.0, 25)


def em_of(values: Any, wavelength: Any = NM, names: Any = None) -> xr.DataArray:
    given = {"endmember": names or [f"EM{i + 1}" for i in range(len(values))], "wavelength": wavelength}
    return xr.DataArray(np.array(values, float), given, ("endmember", "wavelength"), "reflectance")


def test_dlr_endmembers_are_the_targets(shared: Path) -> None:
    """The image library has the five targets and grass: every endmember of the image is one of them."""
    library = read_library(shared / "dlr_hysu" / "DLR_HySU_HS_library.lib", scale=10000)
    cube = scenes.scene(shared, "dlr").cube.assign_coords(wavelength=library.wavelength.values)
    em = nfindr(cube, 6, sample=None, seed=0)
    found = identify(em, library)
    assert set(found.match.sel(rank=1).values) == set(library.endmember.values)
    assert float(found.angle.sel(rank=1).mean()) == pytest.approx(0.0361, abs=5e-4)  # measured by others
    assert (found.angle.sel(rank=1) < found.angle.sel(rank=2)).all()
    named = renamed(em, found)
    assert list(named.endmember.values) == list(found.match.sel(rank=1).values)
    np.testing.assert_array_equal(named.values, em.values)
    assert list(em.endmember.values) == [f"EM{i}" for i in range(1, 7)]


def test_usgs_spectra_resampled_and_dimmed_find_themselves(shared: Path) -> None:
    library = read_library(shared / "usgs1995_aviris224_subset.csv")
    nm = np.arange(420.0, 2480.0, 5.0)
    picked = [3, 9, 13]
    em = resample(library.isel(endmember=picked), nm, 6.0) * 0.3
    em = em.assign_coords(endmember=["EM1", "EM2", "EM3"])
    found = identify(em, library)
    assert found.match.values[:, 0].tolist() == library.endmember.values[picked].tolist()
    assert float(found.angle[:, 0].max()) < 1e-12 and (found.bands == len(nm)).all()
    assert float(found.angle[:, 1].min()) > 0.02


def test_angles_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    em, library = em_of(rng.random((3, 25))), em_of(rng.random((5, 25)), names=list("abcde"))
    found = identify(em, library, k=5)
    for i in range(3):
        cosine = library.values @ em.values[i] / np.linalg.norm(library.values, axis=1) / np.linalg.norm(em.values[i])
        expected = np.arccos(cosine)
        np.testing.assert_allclose(found.angle.values[i], np.sort(expected), atol=1e-12)
        assert found.match.values[i].tolist() == [list("abcde")[j] for j in np.argsort(expected)]
    assert found.angle.dims == ("endmember", "rank") and found["rank"].values.tolist() == [1, 2, 3, 4, 5]


def test_small_angles_keep_their_digits() -> None:
    em = em_of(np.ones((1, 25)))
    other = np.ones((1, 25))
    other[0, :2] += [1e-9, -1e-9]
    got = float(identify(em, em_of(other), k=1).angle[0, 0])
    assert got == pytest.approx(np.sqrt(2) * 1e-9 / 5, rel=1e-6)  # arccos would give 0 or 1.5e-8


def test_a_library_that_covers_part_of_the_bands() -> None:
    em = em_of(np.random.default_rng(1).random((2, 25)))
    part = em_of(em.values[:, 5:15], NM[5:15], ["a", "b"])
    found = identify(em, part, k=1)
    assert found.bands.values.tolist() == [[10], [10]] and found.match.values[:, 0].tolist() == ["a", "b"]
    assert float(found.angle.max()) < 1e-7


def test_names_that_come_again_are_numbered() -> None:
    values = np.random.default_rng(2).random((2, 25))
    em = em_of([values[0], values[0] * 2, values[1]])
    named = renamed(em, identify(em, em_of(values, names=["Grass", "Soil"])))
    assert list(named.endmember.values) == ["Grass", "Grass_2", "Soil"]


def test_refused() -> None:
    em = em_of(np.random.default_rng(3).random((2, 25)))
    for bad, expected in (
        (lambda: identify(em, em, k=3), "k is 3; expected 1 to 2"),
        (lambda: identify(em.values, em), "expected a DataArray"),  # type: ignore[arg-type]
        (lambda: identify(em, em * 0), "has no angle"),
        (lambda: identify(em, em_of(em.values[:, :2], [395.0, 402.0])), "1 bands in common"),
        (lambda: renamed(em, identify(em[:1], em)), "not of these endmembers"),
    ):
        with pytest.raises(HsiError, match=expected):
            bad()
