"""Tiles of other wavelengths in one run: refused, or interpolated to those of the first."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from hsichunk.errors import HsiError, HsiWarning
from hsichunk.run.runner import run
from tests.helpers.runs import asked, go, products, shell
from tests.helpers.tiles import BANDS, LAYOUTS, SHAPE, small_tile

OWN = np.linspace(400.0, 2500.0, BANDS).astype(np.float32)
NO_DATA = -9999


def scene(folder: Path, layout: str) -> tuple[Path, Path, Path]:
    """A tile; its neighbour at shifted wavelengths; and that neighbour interpolated by NumPy, at those of the first."""
    first = small_tile(folder / "a.h5")
    shifted = OWN + np.float32(7.3)
    origin = (368000.0 + SHAPE[1], 4307000.0)
    other = small_tile(folder / "b.h5", chunks=LAYOUTS[layout], origin=origin, wavelength=shifted)
    with h5py.File(other, "r+") as file:  # no-data in one band alone
        file["SERC/Reflectance/Reflectance_Data"][3, 5, 10] = NO_DATA
    same = folder / "same" / "b.h5"
    same.parent.mkdir()
    small_tile(same, chunks=LAYOUTS[layout], origin=origin)
    with h5py.File(other) as file, h5py.File(same, "r+") as made:
        counts = file["SERC/Reflectance/Reflectance_Data"][:].astype(np.float64)
        stored = shifted.astype(np.float64)
        at = np.clip(OWN.astype(np.float64), stored[0], stored[-1])
        flat = counts.reshape(-1, BANDS)
        values = np.array([np.rint(np.interp(at, stored, spectrum)) for spectrum in flat])
        gone = np.array([np.interp(at, stored, (spectrum == NO_DATA).astype(float)) > 0 for spectrum in flat])
        values[gone] = NO_DATA
        made["SERC/Reflectance/Reflectance_Data"][:] = values.reshape(counts.shape).astype(np.int16)
    return first, other, same


@pytest.mark.parametrize("layout", ["spatial", "band"])
def test_interpolated_tiles_are_as_those_that_numpy_interpolates(layout: str, tmp_path: Path) -> None:
    first, other, same = scene(tmp_path, layout)
    with pytest.raises(HsiError, match=r"run them separately, or with --bands common"):
        run(asked([first, other], tmp_path / "refused"))
    with pytest.warns(HsiWarning, match=r"b.h5: its bands are interpolated to those of .*a.h5"):
        go([first, other], tmp_path / "out", bands="common")
    go([first, same], tmp_path / "expected")
    ours, theirs = products(tmp_path / "out"), products(tmp_path / "expected")
    # the share of a band between two others comes from another formula there: a count of 1 at halves
    for name in ("abundance", "sam", "rmse"):
        np.testing.assert_allclose(ours[name].values, theirs[name].values, atol=2e-4, err_msg=name)
    assert np.isnan(ours.rmse.values[3, SHAPE[1] + 5])
    xr.testing.assert_equal(ours.rmse[:, : SHAPE[1]].isnull(), theirs.rmse[:, : SHAPE[1]].isnull())


def test_searches_take_common_bands_too(tmp_path: Path) -> None:
    first, other, _ = scene(tmp_path, "spatial")
    with pytest.warns(HsiWarning, match="are interpolated"):
        go([first, other], tmp_path / "out", bands="common")
    status, said = shell("endmembers", first, other, "--bands", "common", "-o", tmp_path / "em.csv")
    assert status == 0, said
    assert (tmp_path / "em.csv").read_text() == (tmp_path / "out" / "endmembers.csv").read_text()
    status, said = shell("count", first, other, "--bands", "common", "--sample", 500)
    assert status == 0, said
    assert "HySime" in said


def test_bands_that_a_tile_does_not_reach(tmp_path: Path) -> None:
    first = small_tile(tmp_path / "a.h5")
    origin = (368000.0 + SHAPE[1], 4307000.0)
    other = small_tile(
        tmp_path / "b.h5", origin=origin, wavelength=np.linspace(800.0, 2500.0, BANDS).astype(np.float32)
    )
    with (
        pytest.warns(HsiWarning, match="interpolated"),
        pytest.raises(HsiError, match=r"b.h5: reaches from 800.0 to 2500.0 nm, not to 400.0 nm of the first tile"),
    ):
        run(asked([first, other], tmp_path / "out", bands="common"))
    assert not (tmp_path / "out").exists()


def test_tiles_of_the_same_bands_are_as_they_were(tmp_path: Path) -> None:
    first = small_tile(tmp_path / "a.h5")
    second = tmp_path / "b.h5"
    shutil.copy(first, second)
    go([first, second], tmp_path / "one")
    go([first, second], tmp_path / "two", bands="common")
    xr.testing.assert_equal(products(tmp_path / "one"), products(tmp_path / "two"))
