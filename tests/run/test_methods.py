"""Runs with other searches, solvers and metrics: what the functions give, whatever the tile is stored like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk import schema
from hsichunk.chunks import columns
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.chunks.windows import Window
from hsichunk.cube.sampling import Sample
from hsichunk.endmembers.extraction_in_memory import pick
from hsichunk.errors import HsiError
from hsichunk.results import reference
from hsichunk.results.audit import audit
from hsichunk.results.finished_run import open_results
from hsichunk.results.report.writer import write_report
from hsichunk.results.viewer.maps import Maps
from hsichunk.run import geotiffs, plan, product_store
from hsichunk.run.folder import files
from hsichunk.run.option_kinds import dashed
from hsichunk.run.runner import run
from hsichunk.unmixing import solver, stored_pass
from hsichunk.unmixing.sum_layout import SumLayout
from tests.helpers.cubes import cube_of
from tests.helpers.runs import asked, assert_same, checksums, endmembers, go, products, shell
from tests.helpers.tiles import SHAPE, small_tile

CHUNKS = {"spatial": (16, 21, 9), "band": (90, 70, 1)}
EVERY = ",".join(schema.METRICS).replace("_", "-")
WHOLE = {"share": 1.0, "sample": SHAPE[0] * SHAPE[1]}
"""every pixel is in the sample"""


@pytest.fixture(scope="module", params=CHUNKS)
def tile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tile in either layout, worked by all threads together where a chunk is a band."""
    folder = tmp_path_factory.mktemp(request.param)
    return small_tile(folder / "NEON_tile_reflectance.h5", chunks=CHUNKS[request.param])


@pytest.fixture
def large(tile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "band" in str(tile):
        monkeypatch.setattr(columns, "SMALL_COLUMN", 0)
        monkeypatch.setattr(plan, "SMALL_COLUMN", 0)


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without SAM, SID and FCLS, beside its tile."""
    folder = tmp_path_factory.mktemp("lean")
    tile = small_tile(folder / "NEON_tile_reflectance.h5")
    words = ("--method", "vca", "--solver", "nnls", "--metric", "sid-sam,ncc,chebyshev", "--threads", 2)
    status, said = shell("run", tile, "--out", folder / "out", *words, "--ncc-threshold", "0.9,0.95,0.97,0.8")
    assert status == 0, said
    return folder / "out"


def unmixed(tile: Path, out: Path) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """The products of a run, its cube in float64 and its endmembers, on the same wavelengths."""
    cube, em = exactly(tile), endmembers(out)
    return products(out), cube, em.assign_coords(wavelength=cube.wavelength.values)


def exactly(tile: Path) -> xr.DataArray:
    """The cube, its reflectance not rounded to float32: UCLS enlarges that to more than 1e-6."""
    cube = cube_of(tile).compute()
    return cube.copy(data=np.rint(cube.values * 1e4) / np.float64(1e4))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("constraint", ["nnls", "ucls"])
def test_solvers_and_metrics_are_those_of_the_functions(tile: Path, tmp_path: Path, constraint: str) -> None:
    report = go(tile, tmp_path / "out", solver=constraint, metric=EVERY, sid_sam_threshold=0.01)
    out, cube, em = unmixed(tile, tmp_path / "out")
    assert {*out.data_vars} == {"abundance", "rmse", *schema.METRICS, *schema.CLASS_OF.values()}
    of = getattr(hsi, constraint)(cube, em)
    size = np.maximum(1.0, np.abs(of.abundance.values))
    assert float((np.abs(out.abundance.values - of.abundance.values) / size)[:, np.isfinite(of.rmse)].max()) < 1e-6
    assert_allclose(out.rmse, of.rmse, atol=1e-6)
    assert out.abundance.attrs["long_name"] == of.abundance.attrs["long_name"]
    both = hsi.unmix(cube, em, solver=None)
    assert_same(out, both, ["sam", "sid"])
    assert_array_equal(out.chebyshev, hsi.chebyshev(cube_of(tile), em))
    assert_array_equal(out.chebyshev_class, hsi.classify(out.chebyshev, schema.THRESHOLDS["chebyshev"]))
    assert len(np.unique(out.chebyshev_class)) > 3
    for name, values in [(name, getattr(hsi, name)(cube, em)) for name in ("sid_sam", "ncc", "chebyshev")]:
        assert_allclose(out[name], values, rtol=1e-6, atol=1e-6)
        assert out[name].attrs["long_name"] == values.attrs["long_name"]
    assert_array_equal(out.sid_sam_class, hsi.classify(out.sid_sam, 0.01))
    label = hsi.classify_similarity(out.ncc, 0.9)
    assert_array_equal(out.ncc_class, label)
    assert len(np.unique(label)) > 3
    assert out.ncc_class.attrs["threshold_rule"] == label.attrs["threshold_rule"] == "similarity >= threshold"
    assert report["options"]["metric"] == list(schema.METRICS)
    assert set(report[constraint]) == {"worst_kkt"} and report[constraint]["worst_kkt"] < 1e-10
    assert report["mean_abundance"]["EM2"] == pytest.approx(float(of.abundance[1].mean()), abs=1e-6)
    high, wide, deep = CHUNKS["band" if "band" in str(tile) else "spatial"]
    nm = hsi.open_tile(tile).wavelength.values
    along = len(np.unique(np.searchsorted(nm, cube.wavelength.values) // deep))
    once = report["stages"]["pass"]
    assert once["chunks_decoded"] + once["chunks_kept"] == -(-SHAPE[0] // high) * -(-SHAPE[1] // wide) * along
    for name in ("sid_sam_class", "ncc_class", "chebyshev_class"):
        with rasterio.open(tmp_path / "out" / f"{name}.tif") as raster:
            assert_array_equal(raster.read(1), out[name])


def test_nnls_is_scipys(tile: Path, tmp_path: Path) -> None:
    nnls = pytest.importorskip("scipy.optimize").nnls
    go(tile, tmp_path / "out", solver="nnls", k=5, metric="ncc")
    out, cube, em = unmixed(tile, tmp_path / "out")
    values, found = cube.values.reshape(-1, cube.shape[2]), out.abundance.values.reshape(5, -1)
    valid = np.flatnonzero(np.isfinite(values).all(1))[::7]
    expected = np.array([nnls(em.values.T, values[i])[0] for i in valid])
    assert_allclose(found[:, valid].T, expected, atol=1e-6)
    assert (expected == 0).any() and abs(expected.sum(1) - 1).max() > 1e-3


def test_both_layouts_and_any_threads_give_the_same_bits(tmp_path: Path) -> None:
    made = []
    for name, chunks in CHUNKS.items():
        (tmp_path / name).mkdir()
        tile = small_tile(tmp_path / name / "NEON_tile_reflectance.h5", chunks=chunks)
        for threads in (1, 2):
            out = tmp_path / name / str(threads)
            go(tile, out, method="vca", solver="ucls", metric=EVERY, threads=threads)
            made.append(products(out))
    for other in made[1:]:
        assert_same(made[0], other)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("method", ["atgp", "vca", "ppi", "fippi"])
def test_a_sample_of_everything_gives_the_endmembers_of_the_functions(tile: Path, tmp_path: Path, method: str) -> None:
    go(tile, tmp_path / "out", method=method, seed=3, metric="sid", **WHOLE)
    seeded = {"seed": 3} if method in ("vca", "ppi") else {}
    expected = getattr(hsi, method)(cube_of(tile), 4, **seeded)
    found = endmembers(tmp_path / "out")
    assert_array_equal(found.values, expected.values)
    assert products(tmp_path / "out").sizes["endmember"] == expected.sizes["endmember"]
    lines = (tmp_path / "out" / "endmembers.csv").read_text().splitlines()
    assert [float(v) for v in lines[1].split(",")[1:]] == expected.x.values.tolist()


def test_fippi_decides_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tile, out = small_tile(tmp_path / "tile.h5"), tmp_path / "out"
    report = go(tile, out, method="fippi", metric=EVERY, **WHOLE)
    k = products(out).sizes["endmember"]
    assert k != 4 and report["options"]["k"] == 4 and len(report["mean_abundance"]) == k
    assert go(tile, out, method="fippi", metric=EVERY, **WHOLE)["mean_abundance"] == report["mean_abundance"]
    assert run(asked(tile, out, method="fippi", metric=EVERY, **WHOLE)).done_before
    with pytest.raises(HsiError, match=f"expected one number, or {k}: one for each of the endmembers that fippi finds"):
        run(asked(tile, tmp_path / "other", method="fippi", sid_threshold="0.1,0.2", **WHOLE))
    # and a run that stopped before its maps goes on with as many
    with monkeypatch.context() as patch:
        patch.setattr(geotiffs, "write_maps", _stop)
        with pytest.raises(KeyboardInterrupt):
            go(tile, tmp_path / "stopped", method="fippi", metric=EVERY, **WHOLE)
    assert go(tile, tmp_path / "stopped", method="fippi", metric=EVERY, **WHOLE)["resumed"]
    assert checksums(tmp_path / "stopped") == checksums(out)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_seeds_and_rounds_count() -> None:
    rng = np.random.default_rng(1)
    mixed = rng.dirichlet(np.ones(6), 3000) @ rng.uniform(500, 9000, (6, 30))
    counts = np.rint(mixed + rng.normal(0, 30, mixed.shape)).astype(np.int16)
    sample = Sample(counts, 1e4, np.arange(3000.0), np.arange(3000.0), 3000)
    for method in ("ppi", "vca"):
        one, again, other = (pick(sample, method, 6, seed, None).y.tolist() for seed in (0, 0, 1))
        assert one == again and one != other
    assert len(pick(sample, "fippi", 6, 0, 1).names) <= len(pick(sample, "fippi", 6, 0, None).names)
    few = Sample(np.repeat(counts[:2], 5, axis=0), 1e4, np.arange(10.0), np.arange(10.0), 10)
    for method in ("atgp", "vca", "fippi"):
        with pytest.raises(HsiError, match=r"independent spectra|dimensions"):
            pick(few, method, 3, 0, None)
    with pytest.raises(HsiError, match="2 pixels have votes"):
        pick(few, "ppi", 3, 0, None)


@pytest.mark.usefixtures("large")
def test_a_run_resumes_after_the_loss_of_a_strip(tile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "zarr_chunk", lambda rows, cols, p, tile=None: (min(rows, 12), min(cols, 1000)))
    monkeypatch.setattr(plan, "STRIP_ROWS", 10)
    given: dict[str, Any] = {"method": "atgp", "solver": "nnls", "metric": "sid_sam,ncc,chebyshev"}
    go(tile, tmp_path / "whole", **given)
    with monkeypatch.context() as patch:
        patch.setattr(geotiffs, "write_maps", _stop)
        patch.setattr(product_store, "tidy", _stop)
        with pytest.raises(KeyboardInterrupt):
            go(tile, tmp_path / "out", **given)
    ledger = tmp_path / "out" / ".hsichunk" / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    assert len(lines) > 3
    ledger.write_text("".join(lines[:-2]))
    store = zarr.open_group(tmp_path / "out" / ".hsichunk" / "products.zarr", mode="r+")
    for name in ("abundance", "ncc", "ncc_class", "chebyshev", "chebyshev_class"):
        store[name][..., -12:, :] = 0
    other = {**given, "solver": "ucls"}
    with pytest.raises(HsiError, match="made with other options"):
        go(tile, tmp_path / "out", **other)
    report = go(tile, tmp_path / "out", **given)
    assert report["resumed"]
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")


def test_other_methods_have_no_place_in_the_same_folder(lean: Path) -> None:
    tile = lean.parent / "NEON_tile_reflectance.h5"
    given = {"method": "vca", "solver": "nnls", "metric": "chebyshev,ncc,sid_sam", "ncc_threshold": "0.9,0.95,0.97,0.8"}
    assert run(asked(tile, lean, **given)).done_before  # the order of metrics is none of their meaning
    for changed in ({"method": "atgp"}, {"solver": "fcls"}, {"metric": "ncc"}, {"ncc_threshold": 0.5}):
        with pytest.raises(HsiError, match="made with other options") as caught:
            run(asked(tile, lean, **(given | changed)))
        assert f"({next(iter(changed)).replace('_', '-')} was" in str(caught.value)


def test_what_was_not_asked_for_is_not_there(lean: Path) -> None:
    assert {path.name for path in lean.glob("*")} == {*files(("sid_sam", "ncc", "chebyshev")), "run.json"}
    assert not list(lean.glob("s[ai][md]_class*"))
    stored = zarr.open_group(lean / "products.zarr", mode="r")
    assert {*stored.array_keys()} >= {"abundance", "rmse", "chebyshev", "sid_sam_class", "ncc_class", "chebyshev_class"}
    assert {"sam", "sid", "sam_class", "sid_class"}.isdisjoint(stored.array_keys())
    item = json.loads((lean / "item.json").read_text())
    wanted = {"abundance", "rmse", "sid_sam_class", "ncc_class", "chebyshev_class", "products", "endmembers", "run"}
    assert {*item["assets"]} == wanted


def test_everything_after_a_run_copes(lean: Path, tmp_path: Path) -> None:
    page = write_report(lean).read_text()
    (lean / "report.html").unlink()
    assert "Where SID-SAM and NCC disagree" in page and "only NCC gives a class" in page and "Chebyshev" in page
    assert "--method vca --solver nnls --metric sid_sam,ncc,chebyshev" in page
    status, said = shell("plot", lean, "-o", tmp_path)
    assert status == 0, said
    assert (tmp_path / "ncc_class.png").exists() and not (tmp_path / "sam_class.png").exists()
    status, said = shell("classify", lean, "--metric", "ncc", "--threshold", 0.97, "-o", tmp_path / "map.tif")
    assert status == 0, said
    out = products(lean)
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert_array_equal(raster.read(1), hsi.classify_similarity(out.ncc, 0.97))
    words = ("--metric", "chebyshev", "--threshold", "0.3", "--relative", "-o", tmp_path / "other.tif")
    status, said = shell("classify", lean, *words)
    assert status == 0, said
    with rasterio.open(tmp_path / "other.tif") as raster:
        assert_array_equal(raster.read(1), hsi.classify(out.chebyshev, 0.3, relative=True))
    for given, words in ((0.5, ()), (0.3, ("--threshold", "0.3", "--relative", "-o", tmp_path / "most.tif"))):
        status, said = shell("classify", lean, "--metric", "abundance", *words)
        assert status == 0, said
        with rasterio.open(said.splitlines()[-1]) as raster:
            assert_array_equal(raster.read(1), hsi.classify_abundance(out.abundance, given, relative=bool(words)))
        Path(said.splitlines()[-1]).unlink()
    status, said = shell("export", lean, "-o", tmp_path / "envi")
    assert status == 0, said
    assert list((tmp_path / "envi").glob("chebyshev_class*"))
    for words in ((), ("--metric", "sam")):
        status, said = shell("classify", lean, *words)
        assert (status, said.count("\n")) == (1, 1) and "expected sid_sam or ncc or chebyshev or abundance" in said
    maps = Maps(open_results(lean))
    assert [layer for layer in maps.layers if layer.endswith("classes")] == [
        "SID-SAM classes",
        "NCC classes",
        "Chebyshev classes",
    ]
    grid = maps.grid
    view = maps.view(grid.left, grid.right, grid.bottom, grid.top)
    for metric in ("ncc", "chebyshev"):
        assert_array_equal(maps.labels(metric, view, maps.stored_thresholds()[metric]), out[f"{metric}_class"])
    for given in ([0.3], [0.1, 0.2, 0.3, 0.4]):
        label = hsi.classify_similarity(out.ncc, given[0] if len(given) == 1 else given, relative=True)
        assert_array_equal(maps.labels("ncc", view, given, relative=True), label)
    assert maps.picture("SID-SAM classes", view, maps.stored_thresholds()).shape == (*SHAPE, 4)


def test_one_metric_alone(tmp_path: Path) -> None:
    tile = small_tile(tmp_path / "NEON_tile_reflectance.h5")
    go(tile, tmp_path / "out", metric="sid")
    go(tile, tmp_path / "usual")
    usual = products(tmp_path / "usual")
    assert_same(products(tmp_path / "out"), usual.drop_vars(["sam", "sam_class"]))
    page = write_report(tmp_path / "out").read_text()
    assert "disagree" not in page and "spectral information divergence (SID)" in page
    assert audit(tmp_path / "out").passed


def test_pages_of_the_viewer(lean: Path) -> None:
    pytest.importorskip("bokeh")
    from bokeh.document import Document

    from hsichunk.results.viewer.page import Page

    shown = Page(Document(), Maps(open_results(lean)))
    assert {*shown.thresholds()} == {"sid_sam", "ncc", "chebyshev"}
    assert shown.thresholds()["ncc"] == [0.9, 0.95, 0.97, 0.8]


@pytest.mark.parametrize(("constraint", "relative"), [("nnls", False), ("ucls", True)])
def test_audit(tmp_path: Path, constraint: str, relative: bool) -> None:
    pytest.importorskip("cvxopt")
    tile, out = small_tile(tmp_path / "NEON_tile_reflectance.h5", shape=(20, 24), chunks=(4, 7, 9)), tmp_path / "out"
    thresholds = (
        {"ncc_threshold": "0.1,0.2,0.3,0.4", "sid_sam_threshold": 0.05, "chebyshev_threshold": 0.2} if relative else {}
    )
    go(tile, out, solver=constraint, metric=EVERY, relative=relative, **thresholds)
    report = audit(out, pixels=None)
    assert report.passed, report.as_dict()
    assert {*report.differences} == {"abundance", "rmse", *schema.METRICS}
    assert {*report.wrong_labels} == {f"{name}_class" for name in schema.METRICS}
    store = zarr.open_group(out / "products.zarr", mode="r+")
    at = tuple(int(v) for v in np.argwhere(np.isfinite(store["rmse"][...]))[40])
    for name, by in (("abundance", 3e-6), ("ncc", -3e-6), ("sid_sam", 3e-6), ("chebyshev", 3e-6)):
        before = float(store[name][(1, *at)])
        store[name][(1, *at)] = before + by * max(1.0, abs(before))
        again = audit(out, pixels=None)
        assert not again.passed and again.differences[name].worst > 1e-6
        store[name][(1, *at)] = before
    label = int(store["ncc_class"][at])
    store["ncc_class"][at] = label % 4 + 1
    assert audit(out, pixels=None).wrong_labels["ncc_class"] == 1


def test_relative_maps_of_similarities(tmp_path: Path) -> None:
    tile = small_tile(tmp_path / "tile.h5")
    for number, given in enumerate((0.3, [0.1, 0.2, 0.3, 0.4])):
        out = tmp_path / str(number)
        go(tile, out, metric="ncc,sid_sam", relative=True, ncc_threshold=given, sid_sam_threshold=0.2)
        stored = products(out)
        assert_array_equal(stored.ncc_class, hsi.classify_similarity(stored.ncc, given, relative=True))
        assert_array_equal(stored.sid_sam_class, hsi.classify(stored.sid_sam, 0.2, relative=True))


def test_several_tiles_with_masks_and_own_endmembers(tmp_path: Path) -> None:
    tiles = [small_tile(tmp_path / f"NEON_{i}.h5", origin=(368000.0 + 70 * i, 4307000.0), seed=i) for i in range(2)]
    given: dict[str, Any] = {"method": "atgp", "solver": "ucls", "metric": "ncc", "mask": ["ndvi=-1:0.7"], "share": 1.0}
    report = go(tiles, tmp_path / "out", per_tile=True, **given)
    assert report["masks"]["ndvi=-1:0.7"] > 0
    found, em = products(tmp_path / "out"), endmembers(tmp_path / "out")
    for i, tile in enumerate(tiles):
        part, cube = found.isel(x=slice(70 * i, 70 * i + 70)), exactly(tile)
        own = em.isel(endmember=slice(4 * i, 4 * i + 4)).assign_coords(
            wavelength=cube.wavelength.values, endmember=["a", "b", "c", "d"]
        )
        kept = np.isfinite(part.rmse.values)
        assert 0.1 < kept.mean() < 1
        expected = hsi.ucls(cube, own)
        assert_allclose(part.abundance.values[:, kept], expected.abundance.values[:, kept], rtol=1e-6, atol=1e-6)
        assert_allclose(part.ncc.values[:, kept], hsi.ncc(cube, own).values[:, kept], atol=1e-6)


def test_a_cluster_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    tile = small_tile(tmp_path / "NEON_tile_reflectance.h5")
    given = {"method": "ppi", "solver": "nnls", "metric": "sid_sam,ncc,chebyshev"}
    go(tile, tmp_path / "here", **given)
    go(tile, tmp_path / "there", cluster="local", workers=1, **given)
    assert checksums(tmp_path / "there") == checksums(tmp_path / "here")


def test_correlation_of_nearly_flat_spectra_is_right(tmp_path: Path) -> None:
    """One count of difference in 40 bands of 9000: sums of x e alone would leave nothing of it."""
    rng = np.random.default_rng(0)
    counts = (9000 + rng.integers(0, 2, (6, 7, 40))).astype(np.int16)
    counts[0, 0] = 9000
    e = (9000 + rng.integers(0, 2, (3, 40)) + rng.uniform(0, 0.1, (3, 40))) / 1e4
    made = solver.prepare(e, "abc", ("ncc",), 1e4, exact=True)
    assert made.layout.rows == 3 + 2
    out = _solve(tmp_path, counts, made)["ncc"].reshape(3, -1)
    expected = reference.correlations(counts.reshape(-1, 40) / 1e4, e)
    assert_allclose(out.T, expected, atol=1e-6)
    assert (out[:, 0] == 0).all() and np.abs(expected[1:]).max() > 0.2


def test_sid_sam_beyond_a_right_angle(tmp_path: Path) -> None:
    counts = np.zeros((2, 3, 4), np.int16)
    counts[0, 1], counts[0, 2], counts[1, 0] = [9, 0, 0, 0], [0, 0, 0, 9], [-9, 1, 1, 1]
    counts[1, 1], counts[1, 2] = [1000, 2000, 30, 40], [5, 2, 8, 1]
    e = np.array([[0.5, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.1]])
    out = _solve(tmp_path, counts, solver.prepare(e, "ab", ("sid_sam", "ncc", "sam"), 1e4, exact=True))
    cube = hsi.as_cube(counts / 1e4, np.arange(4) + 400.0)
    em = xr.DataArray(e, {"endmember": ["a", "b"], "wavelength": cube.wavelength.values}, ("endmember", "wavelength"))
    assert_allclose(out["sid_sam"], hsi.sid_sam(cube, em), rtol=1e-6)
    assert np.isinf(out["sid_sam"]).any() and np.isfinite(out["sid_sam"]).any()
    assert_allclose(out["ncc"], hsi.ncc(cube, em), atol=1e-6)


def _solve(folder: Path, counts: Any, made: solver.Solver) -> dict[str, Any]:
    rows, cols, bands = counts.shape
    path = folder / "counts.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("counts", data=counts, chunks=(2, 2, 3), compression="gzip")
    with h5py.File(path) as file:
        stored = HDF5Array(path, file["counts"])
    return stored_pass.solve_window(Counts(stored, np.arange(bands), 1e4, -9999), made, Window(0, rows, 0, cols), 2)[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "sga"), "method is 'sga'; expected nfindr, atgp, ppi, fippi or vca"),
        (("--solver", "lasso"), "solver is 'lasso'; expected fcls, nnls or ucls"),
        (("--metric", "sam,euclid"), f"expected some of {', '.join(dashed(schema.METRICS))}"),
        (("--chebyshev-threshold", "-0.1"), "chebyshev-threshold is -0.1; expected finite numbers from 0"),
        (("--ncc-threshold", "1.5"), "ncc-threshold is 1.5; expected numbers from -1 to 1"),
        (("--sid-sam-threshold", "1,2"), "sid-sam-threshold is (1.0, 2.0); expected one number, or 4"),
        (("--method", "vca", "--endmembers", "em.csv"), "no --endmembers beside it"),
        (("--method", "fippi", "--per-tile"), "expected one that finds k, with --per-tile"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    status, text = shell("run", "tile.h5", "--out", tmp_path / "out", *words)
    assert status != 0 and said in text
    assert text.count("\n") == 1, text
    assert not (tmp_path / "out").exists()


def test_options_come_from_a_file_too(tmp_path: Path) -> None:
    tile = small_tile(tmp_path / "NEON_tile_reflectance.h5")
    config = tmp_path / "options.yaml"
    words = ("--method", "ppi", "--solver", "ucls", "--metric", "SID-SAM", "--metric", "ncc,sam", "--threads", 2)
    status, said = shell("run", tile, "--out", tmp_path / "one", *words, "--write-config", config)
    assert status == 0, said
    status, said = shell("run", "--config", config)
    assert status == 0, said
    options = json.loads((tmp_path / "one" / "run.json").read_text())["options"]
    assert (options["method"], options["solver"], options["metric"]) == ("ppi", "ucls", ["sam", "sid_sam", "ncc"])
    status, said = shell("run", tile, "--out", tmp_path / "one", *words)
    assert status == 0 and "finished before" in said
    status, said = shell("run", tile, "--out", tmp_path / "one", *words, "--dry-run")
    assert status == 0, said


def test_endmembers_alone_by_another_method(lean: Path, tmp_path: Path) -> None:
    tile = lean.parent / "NEON_tile_reflectance.h5"
    status, said = shell("endmembers", tile, "--method", "vca", "-o", tmp_path / "em.csv")
    assert status == 0, said
    assert (tmp_path / "em.csv").read_text() == (lean / "endmembers.csv").read_text()


def test_endmembers_that_cannot_be_told_apart(tmp_path: Path) -> None:
    e = np.random.default_rng(0).uniform(0.1, 0.8, (2, 20))
    twice = np.concatenate([e, 2 * e[:1]])
    solver.prepare(twice, "abc", schema.PRODUCTS, 1e4, exact=True)  # a line through the origin is no affine mixture
    for constraint in ("nnls", "ucls"):
        with pytest.raises(HsiError, match="a, c are zero, multiples or mixtures"):
            solver.prepare(twice, "abc", schema.PRODUCTS, 1e4, exact=True, constraint=constraint)


def test_the_plan_counts_what_is_asked_for() -> None:
    layout = plan.Layout(1000, 1000, (1000, 1000, 1), 362, 362)
    usual, all_of_them, one = (
        plan.make(4 << 30, [layout], 4, 2, sample=1000, metrics=metrics)
        for metrics in (("sam", "sid"), schema.METRICS, ("ncc",))
    )
    assert usual == plan.make(4 << 30, [layout], 4, 2, sample=1000)
    assert (usual.sums, all_of_them.sums, one.sums) == tuple(10**6 * (8 * rows + 1) for rows in (15, 20, 6))
    assert one.strips < usual.strips < all_of_them.strips
    sample, atgp = (plan.make(4 << 30, [layout], 4, 2, sample=20_000, method=m).sample for m in ("vca", "atgp"))
    assert atgp - sample > 8 * 20_000 * 362
    for metrics, rows in ((schema.METRICS, 20), (("ncc",), 6), (("sid_sam",), 15), (("chebyshev",), 9)):
        e = np.random.default_rng(0).uniform(0.1, 0.8, (4, 20))
        made = solver.prepare(e, "abcd", metrics, 1e4, exact=True)
        assert made.layout.rows == SumLayout.of(4, metrics).rows == rows
