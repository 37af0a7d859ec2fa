"""`unmix` is the one door: any solver and metrics, of any kind of cube, to the bits of the functions of one product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

import hsichunk as hsi
from hsichunk import schema
from hsichunk.chunks.array import DECODED
from hsichunk.results import reference
from tests.helpers.cubes import chunks_under, cube_of, endmembers_of
from tests.helpers.runs import endmembers, go, products
from tests.helpers.tiles import LAYOUTS, SHAPE

ALONE = {
    "sam": hsi.sam,
    "sid": hsi.sid,
    "ncc": hsi.ncc,
    "chebyshev": hsi.chebyshev,
}
SOLVERS: tuple[Any, ...] = ("fcls", "nnls", "ucls")
KINDS = ("stored", "memory", "arithmetic", "floats", "mixed")


@pytest.fixture(scope="module")
def em(tiles: dict[str, Path]) -> xr.DataArray:
    cube = cube_of(tiles["slab"]).compute()
    at = np.argwhere(cube.notnull().all("wavelength").values)[[10, 4000]]
    library = np.random.default_rng(0).uniform(0.01, 0.6, (2, cube.sizes["wavelength"]))
    return endmembers_of([*(cube.values[y, x] for y, x in at), *library], cube.wavelength)


def cube_as(tiles: dict[str, Path], kind: str) -> xr.DataArray:
    stored = cube_of(tiles["slab"])
    if kind == "stored":
        return stored
    if kind == "arithmetic":
        return stored * np.float32(0.9) + np.float32(0.001)
    memory = stored.compute()
    if kind == "floats":
        return memory.drop_attrs() * 0.77
    if kind == "mixed":  # counts, and pixels that are none
        return memory.where(memory.x % 3 > 1, memory * np.float32(1.0001))
    return memory


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_all_of_it_at_once_is_each_alone(tiles: dict[str, Path], em: xr.DataArray, kind: str, solver: Any) -> None:
    cube = cube_as(tiles, kind)
    out = hsi.unmix(cube, em, solver=solver, metric=schema.METRICS, certificate=True)
    assert all((variable.chunks is not None) == (kind in ("stored", "arithmetic")) for variable in out.values())
    out = out.compute()
    assert list(out) == ["abundance", "rmse", *schema.METRICS, "kkt"]
    xr.testing.assert_identical(out[["abundance", "rmse"]], getattr(hsi, solver)(cube, em).compute())
    for name, alone in ALONE.items():
        xr.testing.assert_identical(out[name], alone(cube, em).compute())
    for name in schema.METRICS:
        one = hsi.unmix(cube, em, solver=None, metric=name.replace("_", "-")).compute()
        assert list(one) == [name]
        xr.testing.assert_identical(one[name], out[name])
    with np.errstate(invalid="ignore"):
        assert_allclose(out.sid_sam, hsi.sid_sam(cube, em), rtol=1e-6, atol=1e-6)
    assert float(out.kkt.max()) < 1e-10
    assert 0 < out.kkt.isnull().mean() < 0.9
    assert out.abundance.attrs == schema.abundance_attrs(solver)


@pytest.mark.parametrize("kind", ["stored", "arithmetic", "floats"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_abundances_and_scores_are_right(tiles: dict[str, Path], em: xr.DataArray, kind: str, solver: Any) -> None:
    pytest.importorskip("pysptools.distance", reason="the reference extra")
    cube = cube_as(tiles, kind)
    out = hsi.unmix(cube, em, solver=solver, metric=schema.METRICS).compute()
    x = cube.values.astype(np.float64).reshape(-1, cube.sizes["wavelength"])
    if kind == "stored":
        x = np.rint(x * 1e4) / 1e4
    picked = np.flatnonzero(np.isfinite(x).all(1))[::97]
    expected = {"abundance": reference.ABUNDANCES[solver](x[picked], em.values)}
    expected |= {name: reference.SCORES[name](x[picked], em.values) for name in schema.METRICS}
    for name, values in expected.items():
        found = out[name].values.reshape(len(em), -1)[:, picked].T
        assert_allclose(found, values, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stored_counts_are_one_pass_with_the_bits_of_a_run(
    tiles: dict[str, Path], tmp_path: Path, no_compute: Any, layout: str
) -> None:
    go(tiles[layout], tmp_path / "out", solver="nnls", metric=",".join(schema.METRICS))
    cube = cube_of(tiles[layout])
    found = endmembers(tmp_path / "out").assign_coords(wavelength=cube.wavelength.values)
    with no_compute():
        lazy = hsi.unmix(cube, found, solver="nnls", metric=schema.METRICS)
    before = DECODED.now()[0]
    out = lazy.compute()
    assert DECODED.now()[0] - before == chunks_under(cube, slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    ran = products(tmp_path / "out")
    for name in out:
        np.testing.assert_array_equal(out[name], ran[str(name)])


@pytest.mark.parametrize("solver", SOLVERS)
def test_scaled_cubes(tiles: dict[str, Path], em: xr.DataArray, solver: Any) -> None:
    cube = cube_of(tiles["slab"])
    out = hsi.unmix(cube, em, solver=solver, metric=schema.METRICS, scaling="minmax", certificate=True).compute()
    scaled, own = hsi.minmax(cube), hsi.minmax(em)
    plain = hsi.unmix(scaled, own, solver=solver, metric=schema.METRICS).compute()
    for name in ("abundance", "rmse", "sam", "ncc", "chebyshev"):
        assert_allclose(out[name], plain[name], rtol=1e-6, atol=1e-6, err_msg=name)
    xr.testing.assert_identical(out.sid, hsi.sid(cube, em, scaling="minmax").compute())
    assert float(out.kkt.max()) < 1e-10


def test_metrics_in_any_form_and_order(tiles: dict[str, Path], em: xr.DataArray) -> None:
    cube = cube_of(tiles["slab"]).isel(y=slice(0, 20)).compute()
    expected = hsi.unmix(cube, em, metric=("sam", "sid_sam"))
    assert list(expected) == ["abundance", "rmse", "sam", "sid_sam"]
    for form in (["sid-sam", "sam"], iter(("SAM", "sid_sam", "sam")), {"sam": 1, " sid-sam ": 2}):
        xr.testing.assert_identical(hsi.unmix(cube, em, metric=form), expected)
    assert list(hsi.unmix(cube, em)) == list(schema.PRODUCTS)
