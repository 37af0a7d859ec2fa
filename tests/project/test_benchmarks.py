"""Each part of `python -m benchmarks` at toy size: it runs, and what it prints fits what it measured."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import child, floor, one_pass, user
from benchmarks.__main__ import main
from benchmarks.rows import HEADER, Row, interleaved, table
from benchmarks.tiles import SMALL, Setting, tile

pytestmark = pytest.mark.long

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def setting(data: Path) -> Setting:
    return Setting(data, SMALL, threads=2, repeat=1, warm=False)


@pytest.fixture
def measured(data: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs some parts and gives back their rows and the cells of the printed table."""

    def run(*arguments: str) -> tuple[Rows, list[list[str]]]:
        path = data / "rows.json"
        assert main(["--small", "--data", str(data), "--json", str(path), *arguments]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        rows: Rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        assert rows and len(cells) == len(rows) + 2 and cells[0] == list(HEADER)
        return rows, cells[2:]

    return run


def check(rows: Rows, cells: list[list[str]]) -> None:
    """Every ratio is that of the seconds it is made of, and the printed numbers are those of the rows."""
    for row, line in zip(rows, cells, strict=True):
        said = dict(zip(HEADER, line, strict=True))
        assert all(seconds > 0 for seconds in row["seconds"])
        assert row["median"] == statistics.median(row["seconds"])
        assert float(said["seconds"].split()[0]) == pytest.approx(row["median"], rel=0.01)
        assert float(said["us/pixel"]) == pytest.approx(row["median"] / row["pixels"] * 1e6, rel=0.01)
        ratios = [part.split(" x ", 1) for part in said["ratio"].split(", ") if part]
        printed = {name: float(value) for value, name in ratios}
        assert printed.keys() == row["against"].keys()
        for name, base in row["against"].items():
            ratio = statistics.median(a / b for a, b in zip(row["seconds"], base, strict=True))
            assert row["ratios"][name] == pytest.approx(ratio)
            assert printed[name] == pytest.approx(ratio, rel=0.01)


def test_floor_and_pass(measured: Any) -> None:
    rows, cells = measured("--only", "floor,pass", "--repeat", "2")
    check(rows, cells)
    assert {row["tile"].partition(",")[0] for row in rows} == {"spatial", "band"}
    assert all(len(row["seconds"]) == 2 for row in rows)
    beside = {row["tile"]: row["seconds"] for row in rows if row["what"] == "floor, beside the pass"}
    for row in rows:
        if row["part"] == "pass" and "floor" in row["against"]:
            assert row["against"]["floor"] == beside[row["tile"]]


def test_the_certificate_certifies(measured: Any) -> None:
    rows, cells = measured("--only", "certificate", "--repeat", "2")
    check(rows, cells)
    assert [row["tile"].partition(",")[0] for row in rows] == ["spatial"] * 3 + ["band"] * 3
    for base, row, whole in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert row["against"] == {"floor": base["seconds"]}
        assert 1 - 1e-9 <= row["numbers"]["largest"] <= 1 + 1e-9  # an endmember in its own place: 1
        assert row["numbers"]["passes"] >= 1
        assert whole["seconds"] == [row["numbers"]["search_seconds"]]


def test_run_decodes_what_the_floor_does_and_its_stages_add_up(measured: Any) -> None:
    rows, cells = measured("--only", "run", "--layouts", "band")
    check(rows, cells)
    assert [row["what"].split()[3] for row in rows[1::2]] == ["512MB", "2GB"]
    for base, run in zip(rows[::2], rows[1::2], strict=True):
        numbers = run["numbers"]
        assert numbers["chunks_pass"] + numbers["chunks_kept"] == base["numbers"]["chunks"]
        assert sum(v for name, v in numbers.items() if name.startswith("stage_")) == pytest.approx(run["median"])
        assert numbers["stage_rest"] > 0
        assert 50 << 20 < run["peak"] < 512 << 20


def test_dlr_says_how_far_areas_and_spectra_are_off(measured: Any, shared: Path) -> None:
    rows, _ = measured("--only", "dlr")
    image, field, found = (row["numbers"] for row in rows)
    assert image["error"] <= 0.05
    assert field["error"] <= 0.10
    assert found["angle"] <= 0.0365


def test_nnls_says_how_far_it_and_pysptools_are_from_scipy(measured: Any, shared: Path) -> None:
    rows, cells = measured("--only", "nnls")
    check(rows, cells)
    assert len(rows) == 5
    whole = rows[-1]
    assert whole["pixels"] == sum(row["pixels"] for row in rows[:-1]) >= 10_000
    for row, line in zip(rows, cells, strict=True):
        assert 0 < row["numbers"]["difference"] <= 1e-6
        assert f"differs from scipy.optimize.nnls by {row['numbers']['difference']:.1e}" in line[-1]
    assert whole["numbers"]["difference"] == max(row["numbers"]["difference"] for row in rows[:-1])
    pytest.importorskip("pysptools")
    assert whole["numbers"]["pysptools"] > 1e3 * whole["numbers"]["difference"]
    assert cells[-1][-1].endswith(f", PySpTools by {whole['numbers']['pysptools']:.1e}")


def test_growth_counts_tiles(measured: Any) -> None:
    rows, cells = measured("--only", "growth", "--layouts", "spatial")
    check(rows, cells)
    one, two = rows
    assert two["pixels"] == 2 * one["pixels"]
    used = [sum(row["numbers"][name] for name in ("chunks_pass", "chunks_kept")) for row in rows]
    assert used[1] == 2 * used[0]
    assert two["numbers"]["seconds_a_tile"] == pytest.approx(two["median"] / 2)
    assert two["numbers"]["peak_over_first"] == pytest.approx(two["peak"] / one["peak"])


def test_user_and_extrapolation(measured: Any) -> None:
    rows, cells = measured("--only", "user")
    check(rows, cells)
    whole, part = rows[-1], rows[-2]
    assert "extrapolated" in whole["note"] and whole["tile"].startswith("band")
    every, blocks = whole["numbers"]["of_blocks"], whole["numbers"]["blocks"]
    assert whole["seconds"] == pytest.approx([seconds * every / blocks for seconds in part["seconds"]])
    assert part["pixels"] * every == pytest.approx(whole["pixels"] * blocks)


def test_users_code_gives_our_numbers(setting: Setting) -> None:
    path = tile(setting, "spatial")
    spectra = one_pass.endmembers(path, setting.k)
    ours = one_pass.lazy(path, spectra, 1, solved=user.SOLVED)
    theirs = np.moveaxis(user.work(path, spectra, SMALL.window, 1), -1, 0)
    assert len(theirs) == user.layers(setting.k)
    both = np.concatenate([np.atleast_3d(ours[name].values.T).T for name in user.PRODUCTS])
    assert np.isnan(both).any() and np.isfinite(both).any()
    np.testing.assert_allclose(theirs, both, rtol=1e-3, atol=1e-3)


def test_pysptools_and_the_kernels(measured: Any) -> None:
    pytest.importorskip("pysptools")
    rows, cells = measured("--only", "pysptools,fcls", "--layouts", "spatial")
    check(rows, cells)
    steps = [row for row in rows if row["part"] == "pysptools"]
    assert [row["pixels"] for row in steps] == [SMALL.crop**2] * 5
    assert steps[-1]["median"] == pytest.approx(sum(row["median"] for row in steps[:-1]))
    numbers = steps[-1]["numbers"]
    a_pixel = numbers["run_seconds"] / numbers["run_pixels"]
    assert steps[-1]["ratios"]["hsichunk run"] == pytest.approx(steps[-1]["median"] / steps[-1]["pixels"] / a_pixel)
    assert {row["numbers"]["p"] for row in rows if row["part"] == "fcls"} == {4, 8, 12, 20}


def test_floor_inflates_every_chunk_that_holds_a_kept_band(setting: Setting) -> None:
    import h5py

    for layout, kept in (("band", 46), ("spatial", None)):
        found = floor.find(tile(setting, layout))
        with h5py.File(found.path) as file:
            stored = file["SERC/Reflectance/Reflectance_Data"]
            assert found.shape == stored.shape
            assert found.chunk_bytes == np.prod(stored.chunks) * 2
            assert 0 < found.chunks <= stored.id.get_num_chunks()
        assert kept is None or found.chunks == kept
        floor.inflate([found], 2)


def test_a_childs_peak_is_its_own() -> None:
    held = np.ones(60 << 20, np.uint8)  # would count as the child's, were it started from here
    spent = child.spend(["/bin/sh", "-c", "exit 0"])
    assert 0 < spent.peak < held.nbytes
    assert spent.cpu >= 0 and spent.seconds > 0
    with pytest.raises(RuntimeError, match="ended with 3: no such luck"):
        child.spend(["/bin/sh", "-c", "echo no such luck >&2; exit 3"])


def test_works_take_turns_and_ratios_pair_up() -> None:
    order: list[str] = []

    def work(name: str, seconds: list[float]) -> Any:
        def step() -> float:
            order.append(name)
            return seconds.pop(0)

        return step

    a, b = interleaved(3, work("a", [9, 1, 2, 4]), work("b", [9, 2, 8, 40]))
    assert order == list("ab" * 4)
    assert (a, b) == ((1, 2, 4), (2, 8, 40))
    row = Row("part", "tile", "what", 10, b, {"a": a})
    assert row.ratios == {"a": 4}  # of 2, 4 and 10; the medians' own ratio would be 4 too
    assert Row("part", "tile", "what", 10, (3, 8, 1), {"a": (1, 4, 1)}).ratios == {"a": 2}  # the medians' would be 3
    assert "| 8 (2-40)" in table([row])


def test_unknown_part_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(data), "--only", "florr"]) == 2
    assert "no part florr; there are floor, pass, run" in capsys.readouterr().err
