"""Abundances, residuals, angles and divergences against solvers and distances that others wrote, on real scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk import schema
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.cubes import endmembers_of
from tests.helpers.scenes import NAMES, Scene, samson_abundances, scene

SAMPLE = {"samson": np.s_[::8, ::8], "dlr": np.s_[::2, ::2], "neon": np.s_[::4, ::4], "emit": np.s_[::2, ::2]}


@pytest.fixture(scope="module", params=NAMES)
def real(request: pytest.FixtureRequest, shared: Path) -> tuple[Scene, xr.Dataset, Any]:
    """A real scene, every product of it, and its reflectance without float32's rounding."""
    found = scene(shared, request.param)
    return found, hsi.unmix(found.cube, found.endmembers, certificate=True).compute(), exact(found)


def exact(found: Scene) -> Any:
    values = found.cube.values.astype(np.float64)
    return np.rint(values * 10000) / 10000 if found.counts else values


def quadratic_programme(x: Any, e: Any) -> Any:
    """FCLS of spectra (n, L) by Goldfarb and Idnani's method: (p, n)."""
    quadprog = pytest.importorskip("quadprog", reason="the oracle needs quadprog (the `test` extra)")
    gram, p = e @ e.T, len(e)
    size = np.diag(gram).max()
    rules, bounds = np.column_stack([np.ones(p), np.eye(p)]), np.concatenate([[1.0], np.zeros(p)])
    return np.array([quadprog.solve_qp(gram / size, e @ v / size, rules, bounds, 1)[0] for v in x]).T


def at(values: xr.DataArray, places: Any) -> Any:
    """Sampled pixels of a product: (p, n) or (n,)."""
    picked = values.values[(..., *places)]
    return picked.reshape(*picked.shape[:-2], -1)


def sample_of(name: str, x: Any) -> Any:
    return x[SAMPLE[name]].reshape(-1, x.shape[-1])


def name_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["real"])


def test_fcls_equals_a_tight_quadratic_programme(real: Any, request: pytest.FixtureRequest) -> None:
    found, out, x = real
    name = name_of(request)
    expected = quadratic_programme(sample_of(name, x), found.endmembers.values)
    assert_allclose(at(out.abundance, SAMPLE[name]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("real", ["samson", "neon", "emit"], indirect=True)  # of dlr cvxopt itself is 1.3e-6 off
def test_fcls_equals_pysptools_with_cvxopt_at_tight_tolerances(real: Any, request: pytest.FixtureRequest) -> None:
    found, out, x = real
    places = SAMPLE[name_of(request)]
    expected = np.moveaxis(oracle.fcls(x[places], found.endmembers.values), -1, 0)
    assert_allclose(out.abundance.values[(slice(None), *places)], expected, rtol=0, atol=1e-6)


def test_samson_abundances_are_its_authors(shared: Path) -> None:
    found = scene(shared, "samson")
    assert_allclose(hsi.fcls(found.cube, found.endmembers).abundance, samson_abundances(shared), rtol=0, atol=1e-6)


def test_abundances_keep_the_constraints_and_their_own_certificate(real: Any) -> None:
    found, out, x = real
    a, e = out.abundance.values.astype(np.float64), found.endmembers.values
    assert a.min() >= 0
    assert_allclose(a.sum(0), 1, atol=1e-6)
    assert out.kkt.values.min() >= 0
    assert out.kkt.values.max() < 1e-11
    # Karush, Kuhn and Tucker by hand: no endmember's gradient below that of those in use
    apart = e - e.mean(0)
    gradient = np.einsum("pq,qyx->pyx", apart @ apart.T, a) - np.einsum("pl,yxl->pyx", apart, x - e.mean(0))
    violation = np.where(a > 0, gradient, -np.inf).max(0) - gradient.min(0)
    assert violation.max() < 1e-6 * (apart**2).sum(1).max()


def test_rmse_is_that_of_the_abundances(real: Any) -> None:
    found, out, x = real
    mixed = np.einsum("pyx,pl->yxl", out.abundance.values.astype(np.float64), found.endmembers.values)
    assert_allclose(out.rmse, np.sqrt(((x - mixed) ** 2).mean(-1)), rtol=0, atol=1e-7)


def test_sam_equals_pysptools_and_spectral(real: Any, request: pytest.FixtureRequest) -> None:
    found, out, x = real
    name, e = name_of(request), found.endmembers.values
    expected = [[oracle.distance_sam(v, one) for v in sample_of(name, x)] for one in e]
    assert_allclose(at(out.sam, SAMPLE[name]), expected, rtol=0, atol=1e-6)
    spectral = pytest.importorskip("spectral", reason="the oracle needs spectral (the `test` extra)")
    angles = np.moveaxis(spectral.spectral_angles(x, e), -1, 0)
    assert_allclose(out.sam, angles, rtol=0, atol=1e-6)


def test_sid_equals_pysptools_of_the_same_clamped_spectra(real: Any, request: pytest.FixtureRequest) -> None:
    found, out, x = real
    name, e = name_of(request), np.maximum(found.endmembers.values, schema.SID_FLOOR)
    spectra = np.maximum(sample_of(name, x), schema.SID_FLOOR)
    expected = [[oracle.distance_sid(v, one) for v in spectra] for one in e]
    assert_allclose(at(out.sid, SAMPLE[name]), expected, rtol=0, atol=1e-6)


def test_the_zeros_of_the_real_crop_come_out_finite(shared: Path) -> None:
    found = scene(shared, "neon")
    with_zeros = (found.cube.values == 0).any(-1)
    assert with_zeros.sum() == 8
    x = np.maximum(exact(found)[with_zeros], schema.SID_FLOOR)
    sid = hsi.sid(found.cube, found.endmembers).values[:, with_zeros]
    expected = [[oracle.distance_sid(v, one) for v in x] for one in np.maximum(found.endmembers.values, 1e-4)]
    assert_allclose(sid, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("counted", [True, False])
def test_a_pixel_that_is_an_endmember(shared: Path, counted: bool) -> None:
    found = scene(shared, "neon")
    cube = found.cube.compute() if counted else found.cube.compute().drop_attrs().astype(np.float64)
    picked = cube.values[[0, 12, 20], [3, 21, 8]].astype(np.float64)
    out = hsi.unmix(cube, endmembers_of(np.rint(picked * 1e4) / 1e4 if counted else picked, cube.wavelength))
    for i, (y, x) in enumerate(((0, 3), (12, 21), (20, 8))):
        pixel = out.isel(y=y, x=x)
        assert_allclose(pixel.abundance, np.eye(3)[i], rtol=0, atol=1e-9)
        assert pixel.rmse < 1e-7
        assert pixel.sam[i] < (1e-12 if counted else 1e-7)
        assert pixel.sid[i] < 1e-9


@pytest.mark.parametrize("scale", [None, 10000])
def test_a_pixel_of_nothing_but_zeros_is_defined(scale: float | None) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(100, 5000, (1, 3, 40))
    counts[0, 1] = 0
    values = counts.astype(np.int16) if scale else counts / 10000
    cube = hsi.as_cube(values, 400.0 + np.arange(40), scale=scale or 1)
    e = counts[0, [0, 2]] / 10000
    dark = hsi.unmix(cube, endmembers_of(e, cube.wavelength)).isel(y=0, x=1)
    assert_array_equal(dark.sam, np.float32(np.pi / 2))
    flat = np.full(40, 1e-4)
    assert_allclose(dark.sid, [oracle.distance_sid(flat, one) for one in e], rtol=0, atol=1e-6)
    assert_allclose(dark.abundance, quadratic_programme(np.zeros((1, 40)), e)[:, 0], rtol=0, atol=1e-6)


def ill_conditioned(p: int, condition: float, rng: np.random.Generator) -> Any:
    """Smooth spectra around one shape: the products of their differences have about the condition number asked for."""
    w = np.linspace(0, 1, 150)
    shapes = np.linalg.qr(np.stack([np.cos(np.pi * i * w) for i in range(p + 1)], 1))[0][:, 1:]
    turned = np.linalg.qr(rng.normal(size=(p, p)))[0] * np.geomspace(2, 2 / np.sqrt(condition), p)
    return np.clip(0.3 + 0.15 * np.sin(4 * w) + turned @ shapes.T, 0.001, 3)


@pytest.mark.parametrize("whole", [True, False], ids=["pixels", "library"])
@pytest.mark.parametrize(("p", "condition"), [(2, 1e2), (5, 1e4), (8, 1e5), (12, 1e6)])
@pytest.mark.parametrize("noise", [0.002, 0.05])
def test_fcls_of_ill_conditioned_endmembers(p: int, condition: float, whole: bool, noise: float) -> None:
    rng = np.random.default_rng(p)
    e = ill_conditioned(p, condition, rng)
    e = np.rint(e * 10000) / 10000 if whole else e
    mixed = rng.dirichlet(np.full(p, 0.5), 150) @ e
    counts = np.clip(np.rint((mixed + rng.normal(size=mixed.shape) * noise) * 10000), -30000, 30000).astype(np.int16)
    cube = hsi.as_cube(counts.reshape(10, 15, -1), np.arange(150) * 10.0 + 400, scale=10000)
    out = hsi.unmix(cube, endmembers_of(e, cube.wavelength), metric=(), certificate=True)
    expected = quadratic_programme(counts / 10000, e)
    assert_allclose(out.abundance.values.reshape(p, -1), expected, rtol=0, atol=1e-6)
    assert out.kkt.values.max() < 1e-10


def test_one_endmember_is_everything() -> None:
    cube = hsi.as_cube(np.full((2, 2, 5), 1234, np.int16), np.arange(5) + 400.0, scale=10000)
    out = hsi.unmix(cube, endmembers_of([[0.1, 0.2, 0.3, 0.4, 0.5]], cube.wavelength))
    assert_array_equal(out.abundance, 1)
    assert_allclose(out.rmse, np.sqrt(((0.1234 - np.arange(1, 6) / 10) ** 2).mean()), rtol=1e-6)


def test_single_products_are_rows_of_the_one_pass(shared: Path) -> None:
    found = scene(shared, "dlr")
    everything = hsi.unmix(found.cube, found.endmembers, certificate=True)
    assert list(hsi.unmix(found.cube, found.endmembers)) == list(schema.PRODUCTS)
    xr.testing.assert_identical(hsi.fcls(found.cube, found.endmembers), everything[["abundance", "rmse"]])
    xr.testing.assert_identical(hsi.sam(found.cube, found.endmembers), everything.sam)
    xr.testing.assert_identical(hsi.sid(found.cube, found.endmembers), everything.sid)
    certified = hsi.unmix(found.cube, found.endmembers, metric=(), certificate=True)
    xr.testing.assert_identical(certified, everything[["abundance", "rmse", "kkt"]])
    scores = hsi.unmix(found.cube, found.endmembers, solver=None, metric=["SID", "sam"])
    xr.testing.assert_identical(scores, everything[["sam", "sid"]])


@pytest.mark.parametrize("name", ["neon", "samson"])
def test_subset_and_order_of_endmembers(shared: Path, name: str) -> None:
    found = scene(shared, name)
    chosen = ["EM3", "EM1"]
    picked = found.endmembers.sel(endmember=chosen)
    everything, some = hsi.unmix(found.cube, found.endmembers), hsi.unmix(found.cube, picked)
    assert some.endmember.values.tolist() == chosen
    for metric in ("sam", "sid"):  # bit for bit: what a score is does not depend on which others are asked for
        xr.testing.assert_identical(some[metric], everything[metric].sel(endmember=chosen))
    x = sample_of(name, exact(found))
    assert_allclose(at(some.abundance, SAMPLE[name]), quadratic_programme(x, picked.values), rtol=0, atol=1e-6)


def test_scores_of_library_spectra_do_not_depend_on_the_others() -> None:
    """Fractions of a count are rounded by each endmember's own step: a bright one beside it must not coarsen it."""
    rng = np.random.default_rng(1)
    e = rng.uniform(0.001, 0.01, (3, 60))
    e[2] = rng.uniform(2.0, 3.0, 60)
    cube = hsi.as_cube(rng.integers(1, 9000, (4, 5, 60)).astype(np.int16), np.arange(60) + 400.0, scale=10000)
    em = endmembers_of(e, cube.wavelength)
    everything, some = hsi.unmix(cube, em), hsi.unmix(cube, em[:2])
    for metric in ("sam", "sid"):
        xr.testing.assert_identical(some[metric], everything[metric][:2])


def test_names_coordinates_and_attributes_carry_through(shared: Path) -> None:
    found = scene(shared, "neon")
    em = found.endmembers.assign_coords(endmember=["grass", "bare soil", "water", "roof"])
    em = em.assign_coords(x=("endmember", np.arange(4.0)), y=("endmember", np.arange(4.0)))
    out = hsi.unmix(found.cube, em, certificate=True)
    assert out.endmember.values.tolist() == ["grass", "bare soil", "water", "roof"]
    for name in ("y", "x", "spatial_ref"):
        xr.testing.assert_identical(out[name].variable, found.cube[name].variable)
    assert set(out.coords) == {"y", "x", "spatial_ref", "endmember"}
    for name, variable in out.items():
        assert variable.dtype == np.float32
        assert variable.attrs == schema.PRODUCT_ATTRS[str(name)]
        assert variable.encoding["grid_mapping"] == "spatial_ref"
        assert variable.dims == (("endmember", "y", "x") if name in schema.PER_ENDMEMBER else ("y", "x"))


def test_inputs_are_left_as_they_were(shared: Path) -> None:
    for name in ("dlr", "samson"):
        found = scene(shared, name)
        cube, em = found.cube.copy(deep=True), found.endmembers.copy(deep=True)
        hsi.unmix(found.cube, found.endmembers, certificate=True)
        xr.testing.assert_identical(found.cube, cube)
        xr.testing.assert_identical(found.endmembers, em)


def test_dimensions_may_come_in_any_order(shared: Path) -> None:
    found = scene(shared, "dlr")
    expected = hsi.unmix(found.cube, found.endmembers)
    turned = hsi.unmix(found.cube.transpose("wavelength", "x", "y"), found.endmembers.T)
    xr.testing.assert_identical(turned, expected)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "f8", "f2"])
def test_floats_of_any_kind(dtype: str) -> None:
    """Counts over a scale are counts in every float type that can tell them apart, in either byte order."""
    counts = np.random.default_rng(2).integers(1, 1000, (4, 5, 30))
    whole = hsi.as_cube(counts.astype(np.int16), np.arange(30) + 400.0, scale=10000)
    em = endmembers_of(counts[0, :3] / 10000, whole.wavelength)
    expected, found = hsi.unmix(whole, em), hsi.unmix(whole.astype(np.dtype(dtype), keep_attrs=True), em)
    if dtype == "f2":  # half precision: near, and no crash
        assert_allclose(found.sam, expected.sam, atol=1e-3)
    else:
        xr.testing.assert_identical(found, expected)


@pytest.mark.parametrize("chunked", [False, True])
def test_scaled_cubes_work_in_floats(shared: Path, chunked: bool) -> None:
    found = scene(shared, "neon")
    cube = hsi.minmax(found.cube if chunked else found.cube.compute())
    em = hsi.minmax(found.endmembers)
    out = hsi.unmix(cube, em).compute()
    x, places = cube.values, SAMPLE["neon"]
    sampled = x[places].reshape(-1, x.shape[-1])
    assert_allclose(at(out.abundance, places), quadratic_programme(sampled, em.values), rtol=0, atol=1e-6)
    assert_allclose(
        at(out.sam, places), [[oracle.distance_sam(v, e) for v in sampled] for e in em.values], rtol=0, atol=1e-6
    )
    floored, ends = np.maximum(sampled, 1e-4), np.maximum(em.values, 1e-4)
    assert_allclose(
        at(out.sid, places), [[oracle.distance_sid(v, e) for v in floored] for e in ends], rtol=0, atol=1e-6
    )


def test_a_pixel_that_scaling_turns_to_zeros_is_defined() -> None:
    """The darkest in every band: PySpTools loses the whole map to it. Its spectrum is flat, its angle a right one."""
    values = np.random.default_rng(0).uniform(0.1, 0.5, (2, 3, 20))
    values[0, 1], values[1, 1, 4] = 0.05, -np.inf
    cube = hsi.as_cube(values, np.arange(20) + 400.0)
    out = hsi.unmix(cube, endmembers_of(values[0, [0, 2]], cube.wavelength), solver=None, scaling="minmax")
    e = hsi.minmax(endmembers_of(values[0, [0, 2]], cube.wavelength)).values
    assert_array_equal(out.sam[:, 0, 1], np.float32(np.pi / 2))
    assert_allclose(out.sid[:, 0, 1], [oracle.distance_sid(np.ones(20), one) for one in e], rtol=1e-6)
    assert out.sid.isnull().sum() == out.sam.isnull().sum() == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["dlr", "emit"])
def test_a_pixel_that_is_not_finite_is_no_data_and_changes_no_other(shared: Path, name: str, value: float) -> None:
    found = scene(shared, name)
    expected = hsi.unmix(found.cube, found.endmembers, certificate=True)
    spoilt = found.cube.copy(deep=True)
    spoilt[3, 4, 17] = value
    out = hsi.unmix(spoilt, found.endmembers, certificate=True)
    here = np.zeros(out.rmse.shape, np.bool_)
    here[3, 4] = True
    for product in out:
        assert np.isnan(out[product].values[..., here]).all()
        assert out[product].values[..., ~here].tobytes() == expected[product].values[..., ~here].tobytes()


def mixture(em: xr.DataArray) -> xr.DataArray:
    half = (em[0] + em[1]) / 2
    return xr.concat([em, half.assign_coords(endmember="mixed").expand_dims("endmember")], "endmember")


def refusals(cube: xr.DataArray, em: xr.DataArray) -> list[tuple[Any, Any, Any, list[str]]]:
    """Cube, endmembers and keywords that cannot be worked, and what the message must say."""
    nm = cube.wavelength
    infinite, bright = em.copy(deep=True), em * 100
    infinite[1, 5] = np.nan
    return [
        (cube, em.isel(endmember=[0, 1, 0]).assign_coords(endmember=["a", "b", "c"]), None, ["a, c"]),
        (cube, mixture(em), None, ["EM1", "EM2", "mixed"]),
        (cube, em.isel(endmember=[0, 0]), None, ["EM1"]),
        (cube, em.isel(wavelength=slice(5, None)), None, [str(nm.size), str(nm.size - 5)]),
        (cube, em.assign_coords(wavelength=nm + 2), None, ["nm"]),
        (cube, infinite, None, ["EM2"]),
        (cube, bright, None, ["EM"]),
        (cube, em, {"metric": ("sam", "sad")}, ["metric is 'sad'", ", ".join(schema.METRICS)]),
        (cube, em, {"metric": 5}, ["metric is 5", "sam, sid"]),
        (cube, em, {"metric": None}, ["metric is None", "()"]),
        (cube, em, {"solver": "FCLSU"}, ["solver is 'FCLSU'", "fcls, nnls, ucls or None"]),
        (cube, em, {"solver": ("fcls",)}, ["solver is ('fcls',)"]),
        (cube, em, {"solver": None, "metric": ()}, ["solver is None", "metric is empty"]),
        (cube, em, {"solver": None, "certificate": True}, ["certificate", "solver is None"]),
        (cube, em, {"scaling": "max"}, ["scaling is 'max'", "minmax"]),
        (cube, infinite, {"solver": "nnls"}, ["EM2"]),
        (cube, mixture(em), {"solver": "ucls"}, ["EM1", "EM2", "mixed"]),
        (cube, em.values, None, ["ndarray"]),
        (cube.isel(wavelength=0), em, None, ["wavelength"]),
        (cube.drop_vars("wavelength"), em, None, ["wavelength"]),
        (cube.values, em, None, ["ndarray"]),
        ((cube * 10000).astype(np.int16), em, None, ["int16"]),
    ]


@pytest.mark.parametrize("number", range(22))
def test_what_cannot_be_done_is_refused_in_one_line(shared: Path, number: int) -> None:
    found = scene(shared, "dlr")
    cube, em, keywords, said = refusals(found.cube, found.endmembers)[number]
    with pytest.raises(hsi.HsiError) as refusal:
        hsi.unmix(cube, em, **(keywords or {}))
    assert "\n" not in str(refusal.value)
    assert all(word in str(refusal.value) for word in said), str(refusal.value)


def test_scores_do_not_ask_for_independent_endmembers(shared: Path) -> None:
    found = scene(shared, "dlr")
    twice = found.endmembers.isel(endmember=[0, 0]).assign_coords(endmember=["a", "b"])
    angles = hsi.sam(found.cube, twice)
    assert_array_equal(angles[0].values, angles[1].values)


def test_a_cube_of_more_bands_than_sums_are_exact_for() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 5000, (3, 4, 600)).astype(np.int16)
    cube = hsi.as_cube(counts, np.arange(600) + 400.0, scale=10000)
    e = counts[0, :3] / 10000
    out = hsi.unmix(cube, endmembers_of(e, cube.wavelength))
    expected = quadratic_programme(counts.reshape(-1, 600) / 10000, e)
    assert_allclose(out.abundance.values.reshape(3, -1), expected, rtol=0, atol=1e-6)
