"""Linear detectors and transforms straight from stored chunks: one decode each, exact sums, floats as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.chunks import columns
from hsichunk.chunks.array import DECODED
from hsichunk.cube.statistics import Statistics, statistics
from tests.helpers.cubes import chunks_under, cube_of, endmembers_of
from tests.helpers.tiles import LAYOUTS, SHAPE

KINDS = ("matched_filter", "cem", "osp", "pca", "mnf")


@pytest.fixture(scope="module")
def background(tiles: dict[str, Path]) -> Statistics:
    return statistics(cube_of(tiles["slab"]))


@pytest.fixture(scope="module")
def fitted(tiles: dict[str, Path]) -> dict[str, Any]:
    cube = cube_of(tiles["slab"])
    return {"pca": hsi.pca(cube, 5), "mnf": hsi.mnf(cube, 4, noise_covariance=np.eye(cube.shape[2]) * 1e-5)}


def made(kind: str, cube: xr.DataArray, background: Statistics, fitted: dict[str, Any]) -> xr.DataArray:
    if kind in fitted:
        return fitted[kind].transform(cube)
    rng = np.random.default_rng(0)
    em = endmembers_of(rng.uniform(0.05, 0.6, (4, cube.sizes["wavelength"])), cube.wavelength)
    if kind == "osp":
        return hsi.osp(cube, em[1:], em[0])
    return getattr(hsi, kind)(cube, em[:3], background=background, ridge=1e-6)


@pytest.mark.parametrize("small", [None, 0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_chunk_once_and_the_bits_of_the_cube_in_memory(
    tiles: dict[str, Path],
    background: Statistics,
    fitted: dict[str, Any],
    no_compute: Any,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    kind: str,
    small: int | None,
) -> None:
    if small is not None:
        monkeypatch.setattr(columns, "SMALL_COLUMN", small)
    cube = cube_of(tiles[layout])  # warnings are errors: nothing is rechunked
    with no_compute():
        lazy = made(kind, cube, background, fitted)
    before = DECODED.now()[0]
    out = lazy.compute()
    assert DECODED.now()[0] - before == chunks_under(cube, slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    memory = cube_of(tiles["slab"]).compute()
    xr.testing.assert_identical(out, made(kind, memory, background, fitted))
    gone = memory.isnull().any("wavelength")
    assert 0 < gone.mean() < 0.9 and out.dtype == np.float32
    assert_array_equal(out.isnull(), gone.broadcast_like(out).transpose(*out.dims))
    part = made(kind, cube.isel(y=slice(13, 61), x=slice(5, 50)), background, fitted)
    xr.testing.assert_equal(part.compute(), out.isel(y=slice(13, 61), x=slice(5, 50)))


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_counts_are_numpys(
    tiles: dict[str, Path], background: Statistics, fitted: dict[str, Any], kind: str
) -> None:
    """Those of counts in float64, which float32 reflectance in memory is a rounding of."""
    cube = cube_of(tiles["band"])
    out = made(kind, cube, background, fitted).values.reshape(-1, cube[..., 0].size)
    exactly = cube.compute().drop_attrs().astype(np.float64)
    exactly = exactly.copy(data=np.rint(exactly.values * 1e4) / 1e4)
    expected = made(kind, exactly, background, fitted).values.reshape(out.shape)  # as floats, spectrum by spectrum
    valid = np.isfinite(expected).all(0)
    size = np.abs(expected[:, valid]).max()
    assert_allclose(out[:, valid], expected[:, valid], rtol=1e-6, atol=1e-7 * size)
    if kind == "pca":
        x = exactly.values.reshape(-1, cube.shape[2])[valid]
        scores = (x - fitted["pca"].mean.values) @ fitted["pca"].components.values.T
        assert_allclose(out[:, valid], scores.T, rtol=1e-6, atol=1e-7 * size)


@pytest.mark.parametrize("kind", KINDS)
def test_floats_among_counts_are_worked_as_floats(
    tiles: dict[str, Path], background: Statistics, fitted: dict[str, Any], kind: str
) -> None:
    cube = cube_of(tiles["slab"]).compute()
    changed = cube.copy(deep=True)
    changed[20:30, 10:20] *= np.float32(1.000123)
    inside = xr.zeros_like(cube[..., 0], bool)
    inside[20:30, 10:20] = True
    out, plain = (made(kind, one, background, fitted) for one in (changed, cube))
    floats = made(kind, changed.drop_attrs(), background, fitted)
    assert_array_equal(out, xr.where(inside, floats, plain).transpose(*out.dims))
    assert not out.equals(plain)


def test_more_sums_than_are_held_for_a_column_are_made_of_spectra(tiles: dict[str, Path]) -> None:
    cube = cube_of(tiles["band"])
    whole = hsi.pca(cube)
    assert whole.components.sizes["component"] == cube.sizes["wavelength"] > 24
    with pytest.warns(hsi.HsiWarning, match="rechunked to whole spectra"):
        scores = whole.transform(cube.chunk(wavelength=9))
    few = hsi.pca(cube, 24).transform(cube)
    xr.testing.assert_equal(scores[:24].compute(), few.compute())
