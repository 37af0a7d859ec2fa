"""NNLS, UCLS and correlation straight from stored chunks: one decode each, a run's bits, and floats beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.chunks.array import DECODED
from tests.helpers.cubes import chunks_under, cube_of, endmembers_of
from tests.helpers.runs import endmembers, go, products
from tests.helpers.tiles import LAYOUTS, SHAPE

KINDS = {
    "nnls": hsi.nnls,
    "ucls": hsi.ucls,
    "ncc": lambda cube, em: hsi.ncc(cube, em).to_dataset(),
    "ncc_distance": lambda cube, em: hsi.ncc(cube, em, distance=True).to_dataset(),
}
EXACT = ("nnls", "ucls")


@pytest.fixture(scope="module")
def em(tiles: dict[str, Path]) -> xr.DataArray:
    """Two pixels and two library spectra with fractions of a count."""
    cube = cube_of(tiles["slab"]).compute()
    at = np.argwhere(cube.notnull().all("wavelength").values)[[10, 4000]]
    library = np.random.default_rng(0).uniform(0.01, 0.6, (2, cube.sizes["wavelength"]))
    return endmembers_of([*(cube.values[y, x] for y, x in at), *library], cube.wavelength)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_chunk_once_and_the_bits_of_the_cube_in_memory(
    tiles: dict[str, Path], em: xr.DataArray, no_compute: Any, layout: str, kind: str
) -> None:
    cube = cube_of(tiles[layout])  # warnings are errors: nothing is rechunked
    with no_compute():
        lazy = KINDS[kind](cube, em)
    before = DECODED.now()[0]
    out = lazy.compute()
    assert DECODED.now()[0] - before == chunks_under(cube, slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    memory = cube_of(tiles["slab"]).compute()
    xr.testing.assert_identical(out, KINDS[kind](memory, em))
    gone = memory.isnull().any("wavelength")
    assert 0 < gone.mean() < 0.9
    for values in out.data_vars.values():
        assert_array_equal(values.isnull(), gone.broadcast_like(values).transpose(*values.dims))
        assert values.dtype == np.float32
    part = cube.isel(y=slice(13, 61), x=slice(5, 50))
    xr.testing.assert_equal(KINDS[kind](part, em).compute(), out.isel(y=slice(13, 61), x=slice(5, 50)))


@pytest.mark.parametrize("solver", EXACT)
def test_a_run_gives_the_same_bits(tiles: dict[str, Path], tmp_path: Path, solver: str) -> None:
    go(tiles["band"], tmp_path / "out", solver=solver, metric="ncc")
    out = products(tmp_path / "out")
    for layout in ("band", "spatial"):
        cube = cube_of(tiles[layout])
        found = endmembers(tmp_path / "out").assign_coords(wavelength=cube.wavelength.values)
        ours = KINDS[solver](cube, found)
        for name in ("abundance", "rmse"):
            assert_array_equal(out[name], ours[name])
            assert out[name].attrs["long_name"] == ours[name].attrs["long_name"]
        assert_array_equal(out.ncc, hsi.ncc(cube, found))
        assert_array_equal(out.ncc_class, hsi.classify(hsi.ncc(cube, found), 0.9))


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_right(tiles: dict[str, Path], em: xr.DataArray, kind: str) -> None:
    cube = cube_of(tiles["band"]).compute()
    x = (np.rint(cube.values.astype(np.float64) * 1e4) / 1e4).reshape(-1, cube.shape[2])
    valid = np.flatnonzero(np.isfinite(x).all(1))[::5]
    x, e = x[valid], em.values
    out = KINDS[kind](cube, em)
    if kind in EXACT:
        optimize = pytest.importorskip("scipy.optimize")
        solve = (lambda v: optimize.nnls(e.T, v)[0]) if kind == "nnls" else lambda v: np.linalg.lstsq(e.T, v)[0]
        expected = np.array([solve(v) for v in x])
        rmse = np.sqrt(((x - expected @ e) ** 2).mean(1))
        assert_allclose(out.rmse.values.reshape(-1)[valid], rmse, rtol=1e-6, atol=1e-8)
        found = out.abundance
    else:
        spatial = pytest.importorskip("scipy.spatial.distance")
        expected = spatial.cdist(x, e, "correlation")
        expected = 1 - expected if kind == "ncc" else expected
        found = out[kind]
    assert_allclose(found.values.reshape(len(e), -1)[:, valid].T, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_floats_among_counts_are_worked_as_floats(tiles: dict[str, Path], em: xr.DataArray, kind: str) -> None:
    """A pixel that is no counts comes to what it does where nothing is said of counts, its neighbours to theirs."""
    cube = cube_of(tiles["slab"]).compute()
    changed = cube.copy(deep=True)
    changed[20:30, 10:20] *= np.float32(1.000123)
    out, plain = KINDS[kind](changed, em), KINDS[kind](cube, em)
    floats = KINDS[kind](changed.drop_attrs(), em)
    inside = xr.zeros_like(cube[..., 0], bool)
    inside[20:30, 10:20] = True
    for name, values in out.items():
        assert_array_equal(values, xr.where(inside, floats[name], plain[name]).transpose(*values.dims))
        assert not values.equals(plain[name])
    lazy = KINDS[kind](changed.chunk(y=17, x=23), em)
    xr.testing.assert_identical(lazy.compute(), out)


@pytest.mark.parametrize("kind", KINDS)
def test_what_sums_of_counts_cannot_hold_is_worked_as_floats(em: xr.DataArray, kind: str) -> None:
    rng = np.random.default_rng(0)
    cube = hsi.as_cube(rng.integers(1, 9999, (4, 5, 700)).astype(np.int16), np.arange(700) + 400.0, scale=10000)
    library = endmembers_of(rng.uniform(0, 1, (3, 700)), cube.wavelength)
    xr.testing.assert_equal(KINDS[kind](cube, library), KINDS[kind](cube.drop_attrs(), library))
    few = cube[..., :300]
    percent = library[:, :300] * 100  # beyond what int16 counts hold
    xr.testing.assert_equal(KINDS[kind](few, percent), KINDS[kind](few.drop_attrs(), percent))
