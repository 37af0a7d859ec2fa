"""Chebyshev's distance in the pass and in runs: SciPy's, and the same bits whatever the tile is stored like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.chunks import columns
from hsichunk.chunks.array import DECODED
from hsichunk.chunks.windows import Window
from hsichunk.cube.cleaning import source_of
from hsichunk.results.audit import audit
from hsichunk.run.make_plan import make_plan
from hsichunk.unmixing import count_sums, scoring
from hsichunk.unmixing.solver import prepare
from hsichunk.unmixing.stored_pass import solve_window
from tests.helpers import image_files
from tests.helpers.cubes import cube_of, endmembers_of
from tests.helpers.runs import assert_same, endmembers, go, products
from tests.helpers.scenes import scene
from tests.helpers.tiles import LAYOUTS, WIDE_LAYOUTS, WIDE_SHAPE, small_tile, wide_tile

distance = pytest.importorskip("scipy.spatial.distance")
LOWEST, HIGHEST = -32768, 32767


def expected_of(cube: Any, em: Any) -> Any:
    """SciPy's distances (endmember, y, x) of reflectance in float64; NaN where a band is."""
    values = np.asarray(cube, np.float64)
    found = distance.cdist(values.reshape(-1, values.shape[2]), np.asarray(em, np.float64), "chebyshev")
    found[~np.isfinite(values).all(2).ravel()] = np.nan
    return np.moveaxis(found, 1, 0).reshape(len(em), *values.shape[:2])


# kernels


@pytest.mark.parametrize("bands", [1, 7, 8, 9, 61])
@pytest.mark.parametrize("others", [(), ("sid", "ncc")])
def test_maxima_are_exact_and_sums_beside_them_untouched(bands: int, others: tuple[str, ...]) -> None:
    rng = np.random.default_rng(bands)
    counts = rng.integers(LOWEST, HIGHEST + 1, (300, bands)).astype(np.int16)
    counts[0], counts[1], counts[2] = LOWEST, HIGHEST, 0
    counts[3:9] = rng.integers(-2, 3, (6, bands))  # below the floor of SID
    e = rng.uniform(-1.0, 3.2, (3, bands)).clip(0.01 if others else None)
    plain = prepare(e, "abc", others or ("sam",), 1e4, exact=True)
    both = prepare(e, "abc", (*(others or ("sam",)), "chebyshev"), 1e4, exact=True)
    assert (both.layout.rows, both.layout.maxima, plain.layout.maxima) == (plain.layout.rows + 3, 3, 0)
    largest = np.abs(counts[None].astype(object) - both.left[:3, None].astype(object)).max(2).astype(np.float64)
    found = []
    half = bands // 2
    one_each = [(b, 1, b) for b in reversed(range(bands))]
    for runs in ([(0, bands, 0)], one_each, [(0, half, 0), (half, bands - half, half)]):
        total, valid = np.zeros((both.layout.rows, 300)), np.ones(300, np.bool_)
        count_sums.add_spectra(both, counts, runs, None, slice(0, 300), total, valid)
        found.append(total)
    for together in (1, 5, 16):
        total, valid = np.zeros((both.layout.rows, 300)), np.ones(300, np.bool_)
        for first in range(0, bands, together):
            kept = slice(first, min(first + together, bands))
            count_sums.add_bands(both, counts[:, kept].T, kept, None, slice(0, 300), total, valid)
        found.append(total)
    alone = np.zeros((plain.layout.rows, 300))
    count_sums.add_spectra(plain, counts, [(0, bands, 0)], None, slice(0, 300), alone, np.ones(300, np.bool_))
    for total in found:
        assert_array_equal(total[-3:], largest)
        assert total[:-3].tobytes() == alone.tobytes()
    made = scoring.score_sums(both, found[0], np.arange(300) != 7)[0]["chebyshev"]
    assert made.dtype == np.float32 and np.isnan(made[:, 7]).all()
    assert_array_equal(np.delete(made, 7, 1), np.delete(largest / 1e4, 7, 1).astype(np.float32))


def test_a_pixel_is_at_no_distance_from_itself() -> None:
    counts = np.random.default_rng(0).integers(1, 9999, (5, 6, 30)).astype(np.int16)
    cube = hsi.as_cube(counts, np.arange(30) + 400.0, scale=10000)
    found = hsi.chebyshev(cube, endmembers_of(counts[2, 3:5] / 1e4, cube.wavelength))
    assert found[0, 2, 3] == 0 and found[1, 2, 4] == 0 and (found > 0).sum() == 2 * 30 - 2


def test_more_bands_than_sums_of_counts_allow() -> None:
    counts = np.random.default_rng(0).integers(-50, 9999, (4, 5, 700)).astype(np.int16)
    cube = hsi.as_cube(counts, np.arange(700) + 400.0, scale=10000)
    em = endmembers_of(np.random.default_rng(1).uniform(0, 1, (2, 700)), cube.wavelength)
    assert_allclose(hsi.chebyshev(cube, em), expected_of(counts / 1e4, em), rtol=0, atol=1e-7)
    solver = prepare(em.values, "ab", ("chebyshev",), 1e4, exact=True)
    with pytest.raises(hsi.HsiError, match="700 bands; sums of counts are exact up to 512"):
        prepare(em.values, "ab", ("chebyshev", "sam"), 1e4, exact=True)
    assert solver.layout.rows == 2 + 1 + 2


# the pass


@pytest.mark.parametrize("name", ["samson", "dlr", "neon", "emit"])
def test_real_scenes_are_scipys(shared: Path, name: str) -> None:
    found = scene(shared, name)
    cube = found.cube
    values = np.rint(cube.values.astype(np.float64) * 1e4) / 1e4 if found.counts else cube.values
    ours = hsi.chebyshev(cube, found.endmembers)
    assert_allclose(ours, expected_of(values, found.endmembers), rtol=1e-7, atol=2e-8)
    assert np.isfinite(ours).any()


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS)
def test_same_bits_from_any_layout_each_chunk_decoded_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, no_compute: Any, chunks: tuple[int, int, int]
) -> None:
    cube = cube_of(wide_tile(folder, chunks))
    memory = cube_of(wide_tile(folder, WIDE_LAYOUTS[0])).compute()
    rng = np.random.default_rng(0)
    library = rng.uniform(0.01, 0.6, (2, cube.sizes["wavelength"]))
    em = endmembers_of([*memory[[40, 60], [50, 80]].values[[0, 1], [0, 1]], *library], cube.wavelength)
    exactly = np.rint(memory.values.astype(np.float64) * 1e4) / 1e4
    whole = hsi.chebyshev(memory, em)
    assert_allclose(whole, expected_of(exactly, em), rtol=1e-7, atol=2e-8)
    assert 0.02 < whole[0].isnull().mean() < 0.9
    with no_compute():
        lazy = hsi.chebyshev(cube, em)
    source = source_of(cube)
    assert source is not None
    counts = source[0]
    depth = len(np.unique(counts.bands // chunks[2]))
    before = DECODED.now()[0]
    xr.testing.assert_identical(lazy.compute(), whole)
    assert DECODED.now()[0] - before == -(-WIDE_SHAPE[0] // chunks[0]) * -(-WIDE_SHAPE[1] // chunks[1]) * depth
    for asked in (("chebyshev",), ("sam", "chebyshev"), ("abundance", "sid", "ncc", "chebyshev")):
        solver = prepare(em.values, em.endmember.values, asked, counts.scale, exact=True)
        for small in (0, 1 << 40):
            monkeypatch.setattr(columns, "SMALL_COLUMN", small)
            for threads in (1, 2):
                found = solve_window(counts, solver, Window(0, WIDE_SHAPE[0], 0, WIDE_SHAPE[1]), threads)[0]
                assert found["chebyshev"].tobytes() == whole.values.tobytes()


# runs


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with it alone."""
    folder = tmp_path_factory.mktemp("alone")
    go(small_tile(folder / "NEON_tile_reflectance.h5"), folder / "out", metric="chebyshev", chebyshev_threshold=0.15)
    return folder / "out"


def test_a_run_gives_what_the_function_does(done: Path) -> None:
    out, cube = products(done), hsi.clean(hsi.open_tile(done.parent / "NEON_tile_reflectance.h5"))
    em = endmembers(done).assign_coords(wavelength=cube.wavelength.values)
    ours = hsi.chebyshev(cube, em)
    assert out.chebyshev.dtype == np.float32
    assert_array_equal(out.chebyshev, ours)
    assert {name: out.chebyshev.attrs[name] for name in ours.attrs} == ours.attrs
    exactly = np.rint(cube.values.astype(np.float64) * 1e4) / 1e4
    assert_allclose(out.chebyshev, expected_of(exactly, em), rtol=1e-7, atol=2e-8)
    assert out.chebyshev.isnull().any()
    label = hsi.classify(ours, 0.15)
    assert_array_equal(out.chebyshev_class, label)
    assert len(np.unique(label)) > 3 and out.chebyshev_class.attrs["flag_meanings"] == label.attrs["flag_meanings"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["small", "large", "again"])
def test_runs_give_the_same_bits(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, way: str
) -> None:
    """From each layout, beside other metrics, on one thread, and where the sums do not fit the memory."""
    if way != "small":
        monkeypatch.setattr(columns, "SMALL_COLUMN", 0)
        monkeypatch.setattr("hsichunk.run.plan.SMALL_COLUMN", 0)
    tile = small_tile(tmp_path / "NEON_tile_reflectance.h5", chunks=LAYOUTS[layout])
    given: dict[str, Any] = {"chebyshev_threshold": 0.15, "threads": 1 if way == "large" else 2}
    given["metric"] = {"small": "chebyshev", "large": "sam,chebyshev", "again": "sid,ncc,chebyshev"}[way]
    if way == "again":
        monkeypatch.setattr(
            "hsichunk.run.runner.make_plan",
            lambda *asked: replace(make_plan(*asked), pass_rows=13, decodes=7, strip_rows=7, together=8),
        )
        with pytest.warns(hsi.HsiWarning, match="sums of 13 rows at a time"):
            go(tile, tmp_path / "out", **given)
    else:
        go(tile, tmp_path / "out", **given)
    assert_same(products(done), products(tmp_path / "out"), [*map(str, products(done).data_vars)])


@pytest.mark.parametrize("given", [0.3, [0.1, 0.5, 0.3, 0.2]])
def test_relative_maps(tmp_path: Path, given: Any) -> None:
    go(small_tile(tmp_path / "tile.h5"), tmp_path / "out", metric="chebyshev", relative=True, chebyshev_threshold=given)
    out = products(tmp_path / "out")
    label = hsi.classify(out.chebyshev, given, relative=True)
    assert_array_equal(out.chebyshev_class, label)
    assert len(np.unique(label)) > 2


def test_audit_is_pysptools(done: Path) -> None:
    pytest.importorskip("pysptools")
    pytest.importorskip("cvxopt")
    report = audit(done, pixels=300)
    assert report.passed, report.as_dict()
    assert {*report.differences} == {"abundance", "rmse", "chebyshev"}
    assert report.differences["chebyshev"].worst < 1e-7
    assert report.wrong_labels == {"chebyshev_class": 0}


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_floats_are_the_same_bits_from_any_order(tmp_path: Path, interleave: str) -> None:
    rng = np.random.default_rng(0)
    values, nm = rng.uniform(0, 0.7, (30, 25, 24)).astype(np.float32), np.linspace(450.0, 1300.0, 24)
    values[5, 7] = -9999
    made = []
    for order, threads, metric in ((interleave, 1, "chebyshev"), ("bip", 2, "sid,chebyshev")):
        (tmp_path / order / str(threads)).mkdir(parents=True)
        path = tmp_path / order / str(threads) / "scene.img"
        image_files.write_envi(path, values, order, "data ignore value = -9999\n", nm=nm)
        go(path, path.parent / "out", k=3, threads=threads, metric=metric)
        made.append(products(path.parent / "out"))
    assert_same(made[0], made[1], ["chebyshev", "chebyshev_class"])
    cube = hsi.clean(hsi.open_tile(path))
    em = endmembers(path.parent / "out").assign_coords(wavelength=cube.wavelength.values)
    assert_allclose(made[0].chebyshev, expected_of(cube.values, em), rtol=1e-7, atol=2e-8)
    assert_allclose(made[0].chebyshev, hsi.chebyshev(cube, em), rtol=1e-7, atol=2e-8)
    assert made[0].chebyshev.isnull().sum() == 3
