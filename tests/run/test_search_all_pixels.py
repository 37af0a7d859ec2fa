"""`run --refine` and `endmembers --refine`: what `nfindr(..., refine=True)` finds, with all options of a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

import hsichunk as hsi
from hsichunk import memory
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.cli import info, search
from hsichunk.cube.subspace import Scores
from hsichunk.endmembers import nfindr_all_pixels
from hsichunk.endmembers.library import read_library
from hsichunk.errors import HsiError, OptionError
from hsichunk.run import make_plan, plan, search_all_pixels, search_memory
from hsichunk.run.open_inputs import prepared
from hsichunk.run.runner import run
from tests.helpers import tiles as neon_files
from tests.helpers.runs import asked, assert_finished, checksums, endmembers, go, shell
from tests.helpers.scenes import scene
from tests.helpers.tiles import Counter

K = 5
FEW: dict[str, Any] = {"k": K, "sample": 60, "drop_last": 0, "memory": "1GB"}
WAVES = np.linspace(401.0, 889.0, 156)
LAYOUTS = {"spatial": (16, 21, 27), "band": (1000, 1000, 1)}
MB = plan.MB


class Stop(BaseException):
    """Stands in for a kill: nothing catches it."""


@pytest.fixture(scope="module")
def counts(shared: Path) -> Any:
    """The scene of Samson as NEON would have stored it."""
    cube = scene(shared, "samson").cube
    values = np.rint(np.nan_to_num(cube.values.astype(np.float64) * 10000, nan=-9999)).astype(np.int16)
    values[3, 4] = -9999
    return values


def neon(path: Path, values: Any, chunks: tuple[int, int, int], left: int = 0, top: int = 0) -> Path:
    """A tile of these counts in a stored layout, its corner so many pixels from that of the others."""

    def move(file: h5py.File) -> None:
        system = neon_files.system(file)
        text = neon_files.MAP_INFO.replace("368000.00", f"{368000 + left}.00").replace(
            "4307000.0", f"{4307000 - top}.0"
        )
        neon_files.replace(system, "Map_Info", text)

    chunks = tuple(min(c, n) for c, n in zip(chunks, values.shape, strict=True))  # type: ignore[assignment]
    nm = np.linspace(WAVES[0], WAVES[-1], values.shape[2])
    return neon_files.write_counts(
        path, values, wavelength=nm, chunks=chunks, compression="gzip", shuffle=True, then=move
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, counts: Any) -> dict[str, Path]:
    """One tile in two layouts."""
    folder = tmp_path_factory.mktemp("stored")
    paths = {}
    for name, chunks in LAYOUTS.items():
        (folder / name).mkdir()
        paths[name] = neon(folder / name / "tile.h5", counts, chunks)
    return paths


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, counts: Any) -> list[Path]:
    """The same scene as three tiles, of both layouts; the second covers a part of the first, the third lies beside."""
    folder = tmp_path_factory.mktemp("three")
    half, third = counts.shape[0] // 2, counts.shape[1] // 3
    return [
        neon(folder / "a.h5", counts[: half + 5], LAYOUTS["spatial"]),
        neon(folder / "b.h5", counts[half:, : 2 * third], LAYOUTS["band"], top=half),
        neon(folder / "c.h5", counts[half:, 2 * third :], (20, 20, 11), left=2 * third, top=half),
    ]


@pytest.fixture(scope="module")
def done(stored: dict[str, Path]) -> tuple[Path, dict[str, Any]]:
    """The folder of a refined run over the tile of spatial chunks, and its run.json."""
    out = stored["spatial"].parent / "out"
    return out, go(stored["spatial"], out, refine=True, **FEW)


def expected(cube: xr.DataArray, **changed: Any) -> Any:
    return hsi.nfindr(cube, **({"k": K, "sample": 60, "refine": True} | changed)).values


# what is found


def test_a_run_has_the_endmembers_of_all_pixels(
    stored: dict[str, Path], done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Those of nfindr, bit for bit, from both layouts and any budget; not those of the sample, which it starts from."""
    cube = hsi.clean(hsi.open_tile(stored["band"]), drop_last=0)
    assert_array_equal(endmembers(done[0]).values, expected(cube))
    assert not np.array_equal(expected(cube), expected(cube, refine=False))
    go(stored["band"], tmp_path / "out", refine=True, **FEW)
    ours, theirs = checksums(tmp_path / "out"), checksums(done[0])
    for sums in (ours, theirs):
        del sums["products.zarr/zarr.json"]  # names the run, which depends on the file
    assert ours == theirs
    assert_finished(tmp_path / "out")


def test_run_json_says_what_it_came_to(
    stored: dict[str, Path], done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """The attributes of nfindr, what was decoded, and nothing of a sample."""
    said = hsi.nfindr(hsi.clean(hsi.open_tile(stored["spatial"]), drop_last=0), K, sample=60, refine=True).attrs
    names = ("sample_pixels", "sweeps", "swaps", "converged", "certified", "refine_swaps", "refine_passes")
    stages = done[1]["stages"]
    assert {name: stages["endmembers"][name] for name in names} == {name: said[name] for name in names}
    assert stages["endmembers"]["certified"] == 1
    assert stages["endmembers"]["refine_swaps"] > 0
    assert "sample" not in stages
    assert list(stages)[:2] == ["refine", "endmembers"]
    assert done[1]["options"]["refine"] is True
    with h5py.File(stored["spatial"]) as file:
        high, wide, depth = neon_files.group(file)["Reflectance_Data"].shape
    once = -(-high // 16) * -(-wide // 21) * -(-depth // 27)
    assert stages["refine"]["chunks_decoded"] == done[1]["plan"]["refine_decodes"] * once == 2 * once
    assert 0 < stages["endmembers"]["chunks_decoded"] <= K * -(-depth // 27)
    band = go(stored["band"], tmp_path / "out", refine=True, **FEW)
    assert band["stages"]["refine"]["chunks_decoded"] == depth
    assert (band["plan"]["refine_decodes"], band["stages"]["endmembers"]["chunks_decoded"]) == (1, 0)


@pytest.mark.parametrize("budget", [100_000, 1_000_000])
def test_the_budget_decides_on_nothing_else(
    stored: dict[str, Path],
    done: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
) -> None:
    """Scores and spectra in files, a few chunks at a time."""
    files: list[int] = []
    made = search_all_pixels.SpectraReader._scratch_of

    def spied(self: Any, *given: Any) -> Any:
        files.append(1)
        return made(self, *given)

    monkeypatch.setattr(search_all_pixels.SpectraReader, "_scratch_of", spied)
    for module in (search_all_pixels, search_memory):  # the search, and the plan before it
        monkeypatch.setattr(module, "needs_of", lambda *_: search_memory.Needs(budget, 0, 2))
    for name, tile in stored.items():
        lines = list(
            search.write(asked(tile, tmp_path, refine=True, **FEW), str(tmp_path / f"{name}.csv"), None, print)
        )
        assert lines[0].startswith("largest simplex of all pixels, ")
        assert_array_equal(read_library(tmp_path / f"{name}.csv").values, endmembers(done[0]).values)
    assert files


def test_a_mosaic_of_three_tiles(three: list[Path], done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Of both layouts, overlapping: the endmembers of one tile of the same pixels, and of the mosaic."""
    report = go(three, tmp_path / "out", refine=True, **FEW)
    cube = hsi.clean(hsi.open_mosaic(three), drop_last=0)
    assert_array_equal(endmembers(tmp_path / "out").values, expected(cube))
    assert (tmp_path / "out" / "endmembers.csv").read_text() == (done[0] / "endmembers.csv").read_text()
    assert report["stages"]["endmembers"]["certified"] == 1


def test_each_tile_by_itself(three: list[Path], tmp_path: Path) -> None:
    """From the pixels that are its own: the second lacks what the first covers."""
    report = go(three, tmp_path / "out", refine=True, per_tile=True, **FEW)
    table = np.genfromtxt(tmp_path / "out" / "endmembers.csv", delimiter=",", skip_header=3)[:, 1:].T
    a, b, c = (hsi.clean(hsi.open_tile(path), drop_last=0) for path in three)
    shown = [a, b.isel(y=slice(5, None)), c.isel(y=slice(5, None))]  # the first by name covers five rows of both
    for number, cube in enumerate(shown):
        assert_array_equal(table[number * K : (number + 1) * K], expected(cube))
    alone = [hsi.nfindr(cube, K, sample=60, refine=True).attrs for cube in shown]
    stage = report["stages"]["endmembers"]
    assert stage["refine_swaps"] == sum(attrs["refine_swaps"] for attrs in alone) > 0
    assert stage["certified"] == 1


def test_a_tile_without_pixels_of_its_own_is_named(stored: dict[str, Path], tmp_path: Path) -> None:
    again = tmp_path / "zz.h5"
    shutil.copy(stored["spatial"], again)
    with pytest.raises(HsiError, match=r"^\S*zz.h5: 0 valid pixels"):
        run(asked([stored["spatial"], again], tmp_path / "out", refine=True, per_tile=True, **FEW))


def test_the_real_neon_crop(shared: Path, tmp_path: Path) -> None:
    """30 x 30 pixels of a tile, all bands."""
    tile = next((shared / "neon_sjer").glob("*.h5"))
    with pytest.warns(hsi.HsiWarning):
        report = go(tile, tmp_path / "out", refine=True, k=4, sample=40)
        cube = hsi.clean(hsi.open_tile(tile))
    assert_array_equal(endmembers(tmp_path / "out").values, expected(cube, k=4, sample=40))
    assert report["stages"]["endmembers"]["refine_swaps"] > 0


def test_floats_and_images(tmp_path: Path, counts: Any) -> None:
    """An ENVI image of floats, which lies nowhere: sums are no longer exact, the pixels are those of nfindr."""
    from tests.helpers.image_files import write_envi

    nm = np.linspace(450.0, 1300.0, counts.shape[2])
    for kind, lines in (("<f4", ""), ("<i2", "reflectance scale factor = 10000\n")):
        values = np.where(counts < 0, 0, counts)
        values = (values / 10000 if kind == "<f4" else values).astype(kind)
        image = write_envi(tmp_path / f"{kind[1:]}.img", values, "bip", lines + "data ignore value = -9999\n", nm=nm)
        stage = go(image, tmp_path / kind[1:], refine=True, **FEW)["stages"]["endmembers"]
        found = hsi.nfindr(hsi.clean(hsi.open_tile(image)), K, sample=60, refine=True)
        assert_array_equal(endmembers(tmp_path / kind[1:]).values, found.values)
        for name in ("sample_pixels", "refine_swaps"):  # rows are counted downwards: the sample is the same, too
            assert stage[name] == found.attrs[name]


# every option counts


@pytest.mark.parametrize(
    "bands",
    [
        {"drop": [[500, 600]], "drop_last": 3},
        {"keep": [[450, 700], [800, 900]]},
        {"every": 4},
        {"lesson_bands": True, "drop": [[850, 860]]},
    ],
)
def test_bands(stored: dict[str, Path], tmp_path: Path, bands: dict[str, Any]) -> None:
    given = asked(stored["spatial"], tmp_path, refine=True, **(FEW | bands))
    list(search.write(given, str(tmp_path / "em.csv"), None, print))
    em = read_library(tmp_path / "em.csv")
    cube = hsi.clean(hsi.open_tile(stored["spatial"]), **({"drop_last": 0} | bands))
    assert_array_equal(em.wavelength.values, cube.wavelength.values)
    assert em.sizes["wavelength"] < WAVES.size
    assert_array_equal(em.values, expected(cube))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_seed_and_sweeps(
    stored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(nfindr_all_pixels, "MOST_SEARCHED", 0)
    asks: list[Any] = []
    whole = search_all_pixels.refined

    def spied(spectra: Any, k: int, **given: Any) -> Any:
        asks.append({**given, "threads": nfindr_all_pixels.asked_for()})
        return whole(spectra, k, **given)

    monkeypatch.setattr(search_all_pixels, "refined", spied)
    given = asked(stored["spatial"], tmp_path, refine=True, **(FEW | {"seed": 7, "maxit": 2, "threads": threads}))
    list(search.write(given, str(tmp_path / "em.csv"), None, print))
    assert asks == [{"sample": 60, "seed": 7, "maxit": 2, "exclude": None, "threads": threads}]
    assert dask.config.get("num_workers", None) is None
    cube = hsi.clean(hsi.open_tile(stored["spatial"]), drop_last=0)
    assert_array_equal(read_library(tmp_path / "em.csv").values, expected(cube, seed=7, maxit=2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masked_pixels_are_no_candidates(stored: dict[str, Path], tmp_path: Path, layout: str) -> None:
    """As of a cube without them; the command finds the same, and other ones without the mask."""
    tile = hsi.open_tile(stored[layout])
    cube = hsi.clean(tile, drop_last=0)
    free = expected(cube)
    what = "ndvi=:0.5"
    report = go(stored[layout], tmp_path / "out", refine=True, mask=(what,), **FEW)
    found = endmembers(tmp_path / "out").values
    assert_array_equal(found, expected(cube.where(~hsi.mask(tile, what))))
    assert not np.array_equal(found, free)
    assert 0.1 < report["masks"][what] < 0.9
    words = ("--refine", "--sample", 60, "-k", K, "--mask", what, "-o", tmp_path / "em.csv")
    status, said = shell("endmembers", stored[layout], *words)
    assert status == 0, said
    ours = read_library(tmp_path / "em.csv").values
    assert_array_equal(ours, expected(hsi.clean(tile).where(~hsi.mask(tile, what))))


def test_bad_chunks_hold_no_candidates(stored: dict[str, Path], counts: Any, tmp_path: Path) -> None:
    """Where one cannot be decoded the run stops, or its pixels are left out."""
    place = (1, 1, 2)
    path = tmp_path / "bad.h5"
    shutil.copy(stored["spatial"], path)
    with h5py.File(path) as file:
        data = HDF5Array(path, neon_files.group(file)["Reflectance_Data"])
        offset, size = int(data.index.offset[place]), int(data.index.size[place])
    with path.open("r+b") as raw:
        raw.seek(offset + size // 2)
        raw.write(b"\xff" * (size // 4))
    with pytest.raises(HsiError, match="is corrupt"):
        run(asked(path, tmp_path / "out", refine=True, **FEW))
    assert not (tmp_path / "out").exists()
    report = go(path, tmp_path / "out", refine=True, on_error="mask", **FEW)
    less = counts.copy()
    less[16:32, 21:42] = -9999
    cube = hsi.clean(hsi.open_tile(neon(tmp_path / "less.h5", less, LAYOUTS["spatial"])), drop_last=0)
    assert_array_equal(endmembers(tmp_path / "out").values, expected(cube))
    assert report["bad_chunks"] == [list(place)]


def test_tiles_of_other_wavelengths(tmp_path: Path, counts: Any) -> None:
    """Interpolated before they are searched."""
    half = counts.shape[1] // 2
    one = neon(tmp_path / "a.h5", counts[:, :half], LAYOUTS["spatial"])
    two = neon(tmp_path / "b.h5", counts[:, half:], LAYOUTS["band"], left=half)
    with h5py.File(two, "r+") as file:
        file["SERC/Reflectance/Metadata/Spectral_Data/Wavelength"][...] += 1.5
    with pytest.warns(hsi.HsiWarning, match="interpolated"):
        go([one, two], tmp_path / "out", refine=True, bands="common", **FEW)
    with pytest.warns(hsi.HsiWarning, match="interpolated"):
        site = prepared(asked([one, two], tmp_path, bands="common", **FEW))[0]
    whole = site.tiles[1].file.reflectance.read(*(np.arange(n) for n in site.tiles[1].file.reflectance.shape))
    same = neon(tmp_path / "b2.h5", whole, LAYOUTS["band"], left=half)
    cube = hsi.clean(hsi.open_mosaic([one, same]), drop_last=0)
    assert_array_equal(endmembers(tmp_path / "out").values, expected(cube))


# refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "vca"), "method is 'vca'; expected nfindr, with --refine"),
        (("--endmembers", "em.csv"), "endmembers is 'em.csv'; expected no --refine beside it"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    for command in (("run", "--out"), ("endmembers", "-o"))[: 1 if "em.csv" in words else 2]:
        status, text = shell(command[0], "tile.h5", "--refine", command[1], tmp_path / "out.csv", *words)
        assert (status, text.count("\n")) == (2, 1), text
        assert said in text
    with pytest.raises(OptionError, match="refine is 'yes'; expected true or false"):
        asked(tmp_path, tmp_path, refine="yes")


def test_a_memory_too_small_is_refused_before_work(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its numbers, one of which is enough."""
    monkeypatch.setattr(plan, "PROGRAM", 0)
    monkeypatch.setattr(plan, "SEARCHING", 0)
    monkeypatch.setattr(plan, "MAPPING", 0)
    with Counter() as counter, pytest.raises(HsiError, match="cannot hold a search of all") as refusal:
        run(asked(three, tmp_path / "out", **(FEW | {"refine": True, "memory": "350MB"})))
    assert (counter.chunks, str(refusal.value).count("\n")) == (0, 0)
    assert not (tmp_path / "out").exists()
    found = re.search(r"give at least --memory (\d+)MB", str(refusal.value))
    assert found is not None
    assert int(found[1]) > 360
    for budget in (int(found[1]), 2 * int(found[1])):
        given = asked(three, tmp_path / "out", **(FEW | {"refine": True, "memory": f"{budget}MB"}))
        site, bands, given, _ = prepared(given)
        search = search_memory.needs(site, bands, given)
        assert search.peak <= budget * MB
        assert search.spectra >= search_memory.LEAST
        assert make_plan.make_plan(site, bands, given).peak >= search.peak
    assert go(three, tmp_path / "out", **(FEW | {"refine": True, "memory": f"{found[1]}MB"}))["plan"]["refine"] > 0


def test_without_enough_pixels(stored: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(HsiError, match="0 valid pixels") as refusal:
        run(asked(stored["spatial"], tmp_path / "out", refine=True, mask=("ndvi=0.9999:",), **FEW))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


# as a part of a run


def test_it_makes_another_run(stored: dict[str, Path], done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(done[0], tmp_path / "out")
    with Counter() as counter:
        assert run(asked(stored["spatial"], tmp_path / "out", refine=True, **FEW)).done_before
    assert counter.chunks == 0
    with pytest.raises(HsiError, match="made with other options"):
        run(asked(stored["spatial"], tmp_path / "out", **FEW))


def test_stopped_while_it_searches_it_begins_again(
    stored: dict[str, Path], done: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was written. Stopped later, it does not search again."""
    out = tmp_path / "out"

    def stop(*_: Any, **__: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(nfindr_all_pixels, "_scan", stop)
        with pytest.raises(Stop):
            run(asked(stored["spatial"], out, refine=True, **FEW))
    assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr("hsichunk.run.site_pass.run_pass", stop)
        with pytest.raises(Stop):
            run(asked(stored["spatial"], out, refine=True, **FEW))
    monkeypatch.setattr(nfindr_all_pixels, "_scan", stop)
    report = go(stored["spatial"], out, refine=True, **FEW)
    assert report["resumed"]
    assert report["stages"]["endmembers"]["refine_swaps"] == done[1]["stages"]["endmembers"]["refine_swaps"]
    assert checksums(out) == checksums(done[0])
    assert_finished(out)


def test_on_a_cluster_it_is_searched_here(three: list[Path], done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    report = go(three, tmp_path / "out", refine=True, cluster="local", workers=1, threads=1, **FEW)
    assert (tmp_path / "out" / "endmembers.csv").read_text() == (done[0] / "endmembers.csv").read_text()
    assert report["stages"]["refine"]["chunks_decoded"] > 0


def test_a_dry_run_tells_the_further_decodes(stored: dict[str, Path], tmp_path: Path) -> None:
    for layout, times in (("spatial", "2 times"), ("band", "once")):
        words = ("run", stored[layout], "--out", tmp_path / "out", "--dry-run")
        status, said = shell(*words, "--refine")
        said = " ".join(said.split())
        assert status == 0 and f"decoded once; before that {times} to search all pixels" in said
        assert "before that" not in shell(*words)[1]
    assert not (tmp_path / "out").exists()
    assert info.describe(asked(stored["band"], tmp_path)).plan.refine == 0


def test_progress_counts_what_is_decoded(stored: dict[str, Path], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def tell(stage: str, now: int, total: int) -> None:
        if stage == "refine":
            told.append((now, total))

    run(asked(stored["spatial"], tmp_path / "out", refine=True, **FEW), tell)
    assert told[-1][0] == told[-1][1] > 0


def test_other_runs_import_nothing_for_it() -> None:
    code = "import sys, hsichunk.run.runner, hsichunk.cli.search, hsichunk.cli.dry_run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "hsichunk.run.endmembers" in loaded
    assert {
        "xarray",
        "dask",
        "pandas",
        "numba",
        "hsichunk.run.search_all_pixels",
        "hsichunk.endmembers.nfindr_all_pixels",
    }.isdisjoint(loaded)


# memory


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[Scores]:
    """Scores of 64 MB in a file."""
    import mmap

    with open(tmp_path / "scores", "w+b") as file:
        file.truncate(64 << 20)
        held = mmap.mmap(file.fileno(), 64 << 20)
    values = np.frombuffer(held).reshape(-1, 4)
    yield Scores(values, np.ones(len(values), np.bool_), held)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system decides when")
def test_scores_in_a_file_do_not_stay_resident(mapped: Scores) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    mapped.values[:] = np.arange(len(mapped.values))[:, None]
    memory.release()
    before = resident()
    mapped.forget(slice(5, len(mapped.values) // 2))
    half = before - resident()
    mapped.forget()
    assert 24 << 20 < half < 40 << 20
    assert before - resident() > 56 << 20
    assert_array_equal(mapped.values[:, 1], np.arange(len(mapped.values)))  # it is in the file
    mapped.forget()
    picked = np.random.default_rng(0).permutation(len(mapped.values))[:2000]
    before = resident()
    assert_array_equal(mapped.at(picked)[:, 2], picked)
    assert resident() - before < 16 << 20


def test_written_options_have_it(tmp_path: Path) -> None:
    status, said = shell("run", "tile.h5", "--out", tmp_path / "out", "--refine", "--write-config", tmp_path / "o.yaml")
    assert status == 0, said
    assert "\nrefine: true\n" in (tmp_path / "o.yaml").read_text()
    assert json.dumps(asked(tmp_path, tmp_path).as_dict()["refine"]) == "false"
