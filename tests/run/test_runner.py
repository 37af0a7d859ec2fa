"""The whole job: the same bits whatever the layout, threads and memory, each chunk decoded once, and all of it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import rioxarray

import hsichunk as hsi
from hsichunk import memory, schema
from hsichunk.chunks.decoded_cache import KeptChunks
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.mosaic.site import open_site
from hsichunk.run import plan
from hsichunk.run.make_plan import kept_bands, make_plan
from hsichunk.run.runner import run
from tests.helpers.runs import asked, assert_finished, assert_same, checksums, endmembers, go, products
from tests.helpers.tiles import BANDS, LAYOUTS, SHAPE, small_tile


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tile(tmp_path_factory.mktemp("tile") / "tile.h5")


@pytest.fixture(scope="module")
def done(tile: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished run, and its run.json."""
    out = tile.parent / "done"
    return out, go(tile, out)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[Any, ...]]:
    """Counts how often each chunk of the reflectance is decoded; the pass takes none over from the sample."""
    monkeypatch.setattr("hsichunk.run.plan.KEPT", 0)
    seen: Counter[tuple[Any, ...]] = Counter()
    chunk = HDF5Array.decode

    def watch(self: HDF5Array, handle: int, place: tuple[int, ...]) -> Any:
        if len(place) == 3:
            seen[os.path.basename(self.path), *place] += 1
        return chunk(self, handle, place)

    monkeypatch.setattr(HDF5Array, "decode", watch)
    return seen


@pytest.fixture
def only_large_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small test tiles worked as whole band-chunked tiles are: all threads on one column, its sums held."""
    for name in ("chunks.columns", "run.plan"):
        monkeypatch.setattr(f"hsichunk.{name}.SMALL_COLUMN", 0)


def split(monkeypatch: pytest.MonkeyPatch, **changed: int) -> None:
    """Has the plan come out otherwise, as it does for tiles too large for a test."""
    monkeypatch.setattr("hsichunk.run.runner.make_plan", lambda *given: replace(make_plan(*given), **changed))


def kept_places(tile: Path, chunks: tuple[int, int, int]) -> set[tuple[int, int, int]]:
    """Every stored chunk that holds a kept band."""
    bands = kept_bands(open_site([tile]), asked(tile, Path("out")))
    rows, cols = (range(-(-n // c)) for n, c in zip(SHAPE, chunks, strict=False))
    return {(i, j, int(b)) for i in rows for j in cols for b in np.unique(bands // chunks[2])}


def test_a_run_leaves_results_and_nothing_else(done: tuple[Path, dict[str, Any]]) -> None:
    assert_finished(done[0])


def test_run_json_says_everything(tile: Path, done: tuple[Path, dict[str, Any]]) -> None:
    out, report = done
    stored = products(out)
    assert set(report["versions"]) >= {"python", "numpy", "numba", "xarray", "dask", "zarr", "h5py", "rasterio"}
    assert report["options"] == asked(tile, out).as_dict()
    assert report["inputs"][0]["name"] == "tile.h5"
    assert report["inputs"][0]["size"] == tile.stat().st_size
    assert len(report["inputs"][0]["metadata"]) == 64
    assert list(report["stages"]) == ["sample", "endmembers", "pass", "classes", "geotiff"]
    for stage in report["stages"].values():
        assert stage["seconds"] >= 0
        assert stage["bytes_decoded"] == stage["chunks_decoded"] * 16 * 21 * 9 * 2
    assert report["site"] == {"name": "SERC", "crs": "EPSG:32618", "shape": [*SHAPE]}
    assert report["bands"]["of"] == BANDS
    valid = np.isfinite(stored.rmse.values)
    assert report["pixels"] == {"valid": valid.sum(), "masked": (~valid).sum(), "solved": valid.sum()}
    assert 0 < report["pixels"]["masked"] < valid.size
    assert report["resumed"] is False
    assert 0 <= report["fcls"]["worst_kkt"] < 1e-9
    assert report["fcls"]["fallbacks"] == 0
    assert report["seconds"] > 0
    assert 50e6 < report["peak_memory"] < 64e9


def test_mean_abundances_are_those_of_the_stored_abundances(done: tuple[Path, dict[str, Any]]) -> None:
    out, report = done
    mean = products(out).abundance.astype(float).mean(("y", "x"))
    assert list(report["mean_abundance"]) == mean.endmember.values.tolist()
    np.testing.assert_allclose(list(report["mean_abundance"].values()), mean.values, rtol=0, atol=1e-9)


def test_products_are_those_of_the_lazy_api(tile: Path, done: tuple[Path, dict[str, Any]]) -> None:
    cube = hsi.clean(hsi.open_tile(tile))
    em = endmembers(done[0])
    found = hsi.nfindr(cube, 4)
    np.testing.assert_array_equal(em.values, found.values)
    lines = (done[0] / "endmembers.csv").read_text().splitlines()
    for name, line in zip(("x", "y"), lines[1:3], strict=True):
        assert line.split(",") == [name, *map(repr, found[name].values.tolist())]
    assert_same(hsi.unmix(cube, em).compute(), products(done[0]), [*schema.PRODUCTS])


def test_the_store_is_labelled(tile: Path, done: tuple[Path, dict[str, Any]]) -> None:
    stored = products(done[0])
    cube = hsi.clean(hsi.open_tile(tile))
    np.testing.assert_array_equal(stored.y.values, cube.y.values)
    np.testing.assert_array_equal(stored.x.values, cube.x.values)
    assert stored.rio.crs.to_epsg() == 32618
    assert stored.attrs["Conventions"].startswith("CF-")
    for name in schema.PRODUCTS:
        assert stored[name].attrs["units"] == schema.PRODUCT_ATTRS[name]["units"]
        assert stored[name].encoding["grid_mapping"] == schema.GRID_MAPPING


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_chunk_is_decoded_once_and_gives_the_same_bits(
    layout: str,
    tmp_path: Path,
    done: tuple[Path, dict[str, Any]],
    decoded: Counter[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tile = small_tile(tmp_path / "tile.h5", chunks=LAYOUTS[layout])
    monkeypatch.setattr("hsichunk.run.site_pass.ticking", _counting_from_here(decoded))
    report = go(tile, tmp_path / "out", threads=1)
    assert_same(products(done[0]), products(tmp_path / "out"))
    places = kept_places(tile, LAYOUTS[layout])
    assert {place[1:]: n for place, n in decoded.items()} == dict.fromkeys(places, 1)
    assert report["pass"]["chunks"] == len(places) == report["stages"]["pass"]["chunks_decoded"]
    assert report["plan"]["decodes"] == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_what_the_sample_has_decoded_is_not_decoded_again_where_memory_allows(
    layout: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = small_tile(tmp_path / "tile.h5", chunks=LAYOUTS[layout])
    places = kept_places(tile, LAYOUTS[layout])
    chunk = int(np.prod(LAYOUTS[layout])) * 2
    monkeypatch.setattr("hsichunk.run.plan.KEPT", 0)
    plain = go(tile, tmp_path / "plain", share=share)
    assert [stage["chunks_kept"] for stage in plain["stages"].values()] == [0] * 5
    assert plain["plan"]["kept"] == 0
    seen: Counter[tuple[int, ...]] = Counter()
    decode = HDF5Array.decode
    monkeypatch.setattr(HDF5Array, "decode", lambda *at: (seen.update([at[2]]), decode(*at))[1])
    monkeypatch.setattr("hsichunk.run.plan.KEPT", 0.9)
    monkeypatch.setattr("hsichunk.run.make_plan.sampled", lambda *_: len(places) * chunk)  # what it says is an estimate
    make = KeptChunks.__init__
    for most in (3, len(places)):
        monkeypatch.setattr(KeptChunks, "__init__", lambda self, room=0, most=most: make(self, min(room, most * chunk)))
        seen.clear()
        report = go(tile, tmp_path / f"kept {most}", share=share)
        assert_same(products(tmp_path / "plain"), products(tmp_path / f"kept {most}"))
        first, then = report["stages"]["sample"], report["stages"]["pass"]
        kept = min(most, first["chunks_decoded"])
        assert 3 < first["chunks_decoded"] <= len(places)
        assert (then["chunks_kept"], then["chunks_decoded"]) == (kept, len(places) - kept)
        assert report["pass"]["chunks"] == len(places)
        assert sum(seen.values()) == first["chunks_decoded"] + then["chunks_decoded"]
    assert set(seen) == places
    assert max(seen.values()) == 1  # in the whole run


def _counting_from_here(decoded: Counter[tuple[Any, ...]]) -> Any:
    """Stands in for what wraps the pass: forgets what was decoded for the sample."""
    from hsichunk.run.progress import ticking

    def begin(tell: Any) -> Any:
        decoded.clear()
        return ticking(tell)

    return begin


@pytest.mark.usefixtures("only_large_columns")
@pytest.mark.parametrize(
    ("chunks", "rows"),
    [
        ((90, 70, 1), None),
        ((90, 70, 1), 13),
        ((45, 35, 1), 13),
        ((40, 70, 12), 13),
        ((33, 23, 5), None),
        ((33, 23, 5), 13),
    ],
)
def test_sums_that_do_not_fit_are_decoded_again_for_the_same_bits(
    chunks: tuple[int, int, int],
    rows: int | None,
    tmp_path: Path,
    done: tuple[Path, dict[str, Any]],
    decoded: Counter[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tile = small_tile(tmp_path / "tile.h5", chunks=chunks)
    monkeypatch.setattr("hsichunk.run.site_pass.ticking", _counting_from_here(decoded))
    decodes = 1
    if rows is not None:
        decodes = -(-chunks[0] // rows)
        split(monkeypatch, pass_rows=rows, decodes=decodes, strip_rows=7)
        with pytest.warns(
            HsiWarning, match=rf"sums of {rows} rows at a time: .* up to {decodes} times; --memory \d+MB"
        ):
            report = go(tile, tmp_path / "out")
    else:
        report = go(tile, tmp_path / "out")
    assert_same(products(done[0]), products(tmp_path / "out"))
    places = kept_places(tile, chunks)
    assert {place[1:] for place in decoded} == places
    assert max(decoded.values()) == decodes == report["plan"]["decodes"]
    assert report["pass"]["chunks"] == sum(decoded.values())
    if SHAPE[0] % chunks[0] == 0:
        assert set(decoded.values()) == {decodes}
    assert report["pixels"] == done[1]["pixels"]
    assert report["mean_abundance"] == done[1]["mean_abundance"]


@pytest.mark.usefixtures("only_large_columns")
@pytest.mark.parametrize("side", [1000, 40])
def test_strips_smaller_and_larger_than_stored_chunks_give_the_same_bits(
    side: int, tmp_path: Path, done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "zarr_chunk", lambda rows, cols, p, tile=None: (min(rows, 12), min(cols, side)))
    split(monkeypatch, strip_rows=31)
    go(small_tile(tmp_path / "tile.h5", chunks=(90, 33, 4)), tmp_path / "out")
    assert_same(products(done[0]), products(tmp_path / "out"))


def test_one_thread_and_two_leave_equal_files(tile: Path, tmp_path: Path, done: tuple[Path, dict[str, Any]]) -> None:
    go(tile, tmp_path / "out", threads=1, memory="700MB")
    assert checksums(tmp_path / "out") == checksums(done[0])


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("sid", ["0.2", "0.8,0.3,0.03,0.5"])
def test_classes_are_those_of_the_stored_scores(sid: str, relative: bool, tile: Path, tmp_path: Path) -> None:
    go(tile, tmp_path / "out", sid_threshold=sid, sam_threshold=0.3, relative=relative)
    stored = products(tmp_path / "out")
    limits = [float(value) for value in sid.split(",")]
    for name, threshold in (("sam", 0.3), ("sid", limits if len(limits) > 1 else limits[0])):
        label = hsi.classify(stored[name], threshold, relative=relative)
        assert len(np.unique(label)) > 2
        np.testing.assert_array_equal(stored[f"{name}_class"].values, label.values)
        assert stored[f"{name}_class"].attrs["flag_meanings"] == label.attrs["flag_meanings"]
        with rasterio.open(tmp_path / "out" / f"{name}_class.tif") as raster:
            np.testing.assert_array_equal(raster.read(1), label.values)


def test_geotiffs_hold_what_the_store_does(done: tuple[Path, dict[str, Any]]) -> None:
    stored = products(done[0])
    for name in ("abundance", "rmse", "sam_class", "sid_class"):
        with rasterio.open(done[0] / f"{name}.tif") as raster:
            np.testing.assert_array_equal(raster.read().squeeze(), stored[name].values)
            assert raster.crs.to_epsg() == 32618
            assert tuple(raster.transform)[:6] == (1.0, 0.0, 368000.0, 0.0, -1.0, 4307000.0)


def test_the_real_crop(shared: Path, tmp_path: Path) -> None:
    path = next((shared / "neon_sjer").glob("*.h5"))
    with pytest.warns(HsiWarning, match="1340-1445"):
        report = go(path, tmp_path / "out", k=4)
        bands = kept_bands(open_site([path]), asked(path, tmp_path))
    stored = products(tmp_path / "out")
    assert report["pixels"] == {"valid": 900, "masked": 0, "solved": 900}
    assert report["site"]["crs"] == "EPSG:32611"
    abundance = stored.abundance.values
    assert abundance.min() >= 0
    assert abundance.max() <= 1
    np.testing.assert_allclose(abundance.sum(0), 1, rtol=0, atol=1e-5)
    for name in schema.PRODUCTS:
        assert np.isfinite(stored[name].values).all(), name
    with h5py.File(path) as file:
        counts = file["SJER/Reflectance/Reflectance_Data"][:]
        info = np.ravel(file["SJER/Reflectance/Metadata/Coordinate_System/Map_Info"][()])[0].decode().split(",")
    assert (counts[:, :, bands] == 0).any(2).sum() == 8
    left, top = float(info[3]), float(info[4])
    with rasterio.open(tmp_path / "out" / "abundance.tif") as raster:
        assert raster.crs.to_epsg() == 32611
        assert raster.descriptions == ("EM1", "EM2", "EM3", "EM4")
        assert (raster.transform.c, raster.transform.f, raster.res) == (left, top, (1.0, 1.0))
        np.testing.assert_array_equal(raster.read(), abundance)
    with rioxarray.open_rasterio(tmp_path / "out" / "sid_class.tif") as opened:
        assert opened.rio.crs.to_epsg() == 32611
        np.testing.assert_array_equal(opened.x.values, stored.x.values)
        np.testing.assert_array_equal(opened.y.values, stored.y.values)
    means = stored.abundance.astype(float).mean(("y", "x")).values
    np.testing.assert_allclose(list(report["mean_abundance"].values()), means, rtol=0, atol=1e-9)


# several tiles


def _holed(path: Path, origin: tuple[float, float]) -> Path:
    """The same pixels of the scene made no-data, whatever tile they lie in."""
    with h5py.File(path, "r+") as file:
        data = file["SERC/Reflectance/Reflectance_Data"]
        rows, cols, _ = data.shape
        north = 4307000 - origin[1] + np.arange(rows)
        east = origin[0] - 368000 + np.arange(cols)
        hole = ((north[:, None] * 7 + east * 3) % 11 == 0) | ((north[:, None] > 40) & (east > 50))
        counts = data[:]
        counts[hole] = -9999
        data[...] = counts
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One big tile, run."""
    folder = tmp_path_factory.mktemp("scene")
    tile = _holed(small_tile(folder / "tile.h5", no_data="none"), (368000.0, 4307000.0))
    return folder / "out", go(tile, folder / "out")


QUARTERS = (
    ("b.h5", (50, 40), (368000.0, 4307000.0), "DP3.001", (16, 21, 9)),
    ("a.h5", (50, 30), (368040.0, 4307000.0), "DP3.002", (50, 30, 1)),
    ("d.h5", (40, 40), (368000.0, 4306950.0), "DP3.002", (7, 40, 40)),
    ("c.h5", (40, 30), (368040.0, 4306950.0), "DP3.001", (40, 10, 4)),
)


def _quarters(folder: Path) -> list[Path]:
    out = []
    for name, shape, origin, product, chunks in QUARTERS:
        path = small_tile(folder / name, shape=shape, origin=origin, product=product, chunks=chunks, no_data="none")
        out.append(_holed(path, origin))
    return out


@pytest.mark.parametrize("large", [False, True])
def test_four_tiles_are_the_one_that_they_make_up(
    large: bool, scene: tuple[Path, dict[str, Any]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if large:
        request.getfixturevalue("only_large_columns")
    report = go(_quarters(tmp_path), tmp_path / "out")
    assert_same(products(scene[0]), products(tmp_path / "out"))
    assert checksums(tmp_path / "out")["endmembers.csv"] == checksums(scene[0])["endmembers.csv"]
    for name in ("pixels", "mean_abundance", "site", "bands"):
        assert report[name] == scene[1][name]
    assert [entry["name"] for entry in report["inputs"]] == ["a.h5", "b.h5", "c.h5", "d.h5"]


def test_gaps_are_no_data(scene: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    tiles = _quarters(tmp_path)
    report = go([tiles[0], tiles[3]], tmp_path / "out", share=1.0)
    stored = products(tmp_path / "out")
    assert stored.rmse.shape == SHAPE
    assert (stored.sam_class.values[:50, 40:] == 255).all()
    assert np.isnan(stored.abundance.values[:, 50:, :40]).all()
    assert report["pixels"]["valid"] + report["pixels"]["masked"] == 50 * 40 + 40 * 30
    with rasterio.open(tmp_path / "out" / "rmse.tif") as raster:
        assert np.isnan(raster.read(1)[50:, :40]).all()
    valid = np.isfinite(products(scene[0]).rmse.values)
    np.testing.assert_array_equal(np.isfinite(stored.rmse.values)[:50, :40], valid[:50, :40])


@pytest.mark.usefixtures("only_large_columns")
def test_overlaps_that_cost_decodes_are_said(tmp_path: Path) -> None:
    small: dict[str, Any] = {"shape": (30, 30), "chunks": (30, 30, 1), "no_data": "none"}
    small_tile(tmp_path / "a.h5", **small, origin=(368000.0, 4307000.0))
    small_tile(tmp_path / "b.h5", **small, origin=(368020.0, 4306990.0))
    with pytest.warns(HsiWarning, match=r"b\.h5: .* its chunks are decoded up to 2 times"):
        report = go([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out")
    assert report["pass"]["chunks"] == 3 * report["bands"]["kept"]
    assert report["pixels"]["valid"] == 2 * 900 - 200


def test_where_tiles_overlap_the_first_by_name_is_taken(tmp_path: Path) -> None:
    small: dict[str, Any] = {"shape": (30, 30), "chunks": (8, 8, 9), "no_data": "none"}
    small_tile(tmp_path / "b.h5", **small, seed=1, origin=(368000.0, 4307000.0))
    small_tile(tmp_path / "a.h5", **small, seed=2, origin=(368020.0, 4306990.0))
    tiles = [tmp_path / "b.h5", tmp_path / "a.h5"]
    go(tiles, tmp_path / "one")
    go(tiles[::-1], tmp_path / "two")
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")
    stored = products(tmp_path / "one")
    em = endmembers(tmp_path / "one")
    a, b = (hsi.unmix(hsi.clean(hsi.open_tile(tmp_path / name)), em).compute() for name in ("a.h5", "b.h5"))
    np.testing.assert_array_equal(stored.abundance.values[:, 10:, 20:], a.abundance.values)
    np.testing.assert_array_equal(stored.abundance.values[:, :10, :30], b.abundance.values[:, :10])
    np.testing.assert_array_equal(stored.abundance.values[:, 10:30, :20], b.abundance.values[:, 10:, :20])


# what is refused before anything is written


def test_a_plan_that_cannot_be_is_refused_before_any_work(
    tile: Path, tmp_path: Path, decoded: Counter[tuple[Any, ...]]
) -> None:
    with pytest.raises(HsiError, match="--memory 100MB cannot hold the smallest plan"):
        run(asked(tile, tmp_path / "out", memory="100MB"))
    assert list(tmp_path.iterdir()) == []
    assert not decoded


def test_dependent_endmembers_leave_nothing(tile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hsichunk.endmembers import nfindr_in_memory

    found = nfindr_in_memory.pick

    def twice(*given: Any, **named: Any) -> nfindr_in_memory.Picked:
        picked = found(*given, **named)
        picked.spectra[1] = picked.spectra[0]
        return picked

    monkeypatch.setattr(nfindr_in_memory, "pick", twice)
    with pytest.raises(HsiError, match="EM1, EM2"):
        run(asked(tile, tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


# memory and progress


def test_progress_counts_up_to_all_there_is(tile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsichunk.run.progress._TICK", 0.001)
    said: list[tuple[str, int, int]] = []
    run(asked(tile, tmp_path / "out", threads=1), lambda *step: said.append(step))
    stages = list(dict.fromkeys(stage for stage, _, _ in said))
    assert stages == ["sample", "pass", "maps"]
    for stage in stages:
        steps = [(now, total) for name, now, total in said if name == stage]
        assert len({total for _, total in steps}) == 1
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]
        assert all(0 <= now <= total for now, total in steps)
    pass_total = next(total for stage, _, total in said if stage == "pass")
    assert pass_total == len(kept_places(tile, LAYOUTS["spatial"])) * 16 * 21 * 9 * 2


def test_peak_memory_is_that_of_this_process_alone() -> None:
    code = "from hsichunk.memory import peak; print(peak())"
    parent = f"""
import subprocess, sys
held = bytearray(300_000_000)
held[::4096] = bytes(len(held[::4096])) or held
print(subprocess.run([sys.executable, "-c", {code!r}], capture_output=True, text=True).stdout)
"""
    said = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True).stdout
    assert 5e6 < int(said) < 200e6
    assert memory.peak() > 50e6


def test_peak_memory_stays_within_the_budget(tmp_path: Path) -> None:
    tile = small_tile(
        tmp_path / "tile.h5", shape=(400, 400), wavelength=np.linspace(400, 2500, 120), chunks=(400, 400, 1)
    )
    for out in ("compiled", "out"):  # the first run of all compiles kernels, which takes memory of its own
        said = subprocess.run(
            [sys.executable, "-m", "hsichunk", "run", str(tile), "--out", str(tmp_path / out), "--memory", "450MB"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stderr == ""
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["plan"]["sums"] > 0
    assert report["peak_memory"] <= report["plan"]["peak"] <= 450e6
