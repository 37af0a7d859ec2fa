"""The command line: what it says, where it says it, and the status it ends with."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

import hsichunk
from hsichunk.cli.main import app
from hsichunk.errors import HsiError
from hsichunk.run.options import Options
from tests.helpers.runs import assert_finished, checksums, products
from tests.helpers.tiles import small_tile

COMMANDS = (
    "run", "info", "demo", "endmembers", "count", "classify", "plot", "export", "audit", "report", "view"
)  # fmt: skip
HSICHUNK = [sys.executable, "-m", "hsichunk"]


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tile(tmp_path_factory.mktemp("tile") / "tile.h5")


@pytest.fixture(scope="module")
def done(tile: Path) -> Path:
    """The folder of a run, by this very process."""
    assert call("run", tile, "--out", tile.parent / "done", "--threads", 2).exit_code == 0
    return tile.parent / "done"


def call(*arguments: Any) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="hsichunk")


def shell(*arguments: Any, **named: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, its streams no terminal."""
    return subprocess.run([*HSICHUNK, *map(str, arguments)], capture_output=True, text=True, **named)


def one_line(text: str) -> str:
    """What an error says, which is all that stderr holds."""
    assert text.startswith("hsichunk: "), text
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


# help


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=lambda c: c[0] if c else "hsichunk")
def test_help_teaches_in_80_columns(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    said = call(*command, "--help")
    assert said.exit_code == 0
    assert max(map(len, said.stdout.splitlines())) <= 80
    if command:
        assert f"Example: hsichunk {command[0]} " in said.stdout
    else:
        assert "hsichunk demo" in said.stdout
        assert "Exit status" in said.stdout
        assert all(re.search(rf"\b{name}\b", said.stdout) for name in COMMANDS)
    assert "..." not in said.stdout.replace("[TILE]...", "").replace("{TILE}...", "").replace("[,X...]", "").replace(
        "[ARGS]...", ""
    ).replace("[,NAME...]", "")  # not cut


def test_help_says_the_defaults_that_hold() -> None:
    said = " ".join(call("run", "--help").stdout.replace("│", " ").split())
    defaults = Options(("x",), "y")
    for text in (
        f"Number of endmembers to find ({defaults.k}).",
        f"Pixels in the sample that is searched ({defaults.sample}).",
        f"({defaults.share})",
        f"({defaults.sam_threshold[0]})",
        f"({defaults.sid_threshold[0]})",
        f"({defaults.sid_sam_threshold[0]})",
        f"({defaults.ncc_threshold[0]})",
        f"in any band: one, or one a class ({defaults.chebyshev_threshold[0]})",
        f"({','.join(defaults.metric)})",
        f"{defaults.method} (the default)",
        f"({defaults.memory // 10**9}GB)",
        f"({defaults.seed})",
        f"({defaults.every})",
    ):
        assert text in said, text


def test_no_command_shows_help() -> None:
    said = call()
    assert said.exit_code == 2
    assert "Usage: hsichunk" in said.output


def test_version() -> None:
    assert call("--version").stdout == f"hsichunk {hsichunk.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from hsichunk.cli.main import app
try:
    app({arguments!r}, prog_name="hsichunk")
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.split()
    assert "hsichunk.cli" in loaded
    heavy = {"numpy", "xarray", "numba", "h5py", "dask", "zarr", "rasterio", "matplotlib", "yaml"}
    assert heavy.isdisjoint(loaded)
    assert "hsichunk.run.runner" not in loaded


# the job


def test_run_says_what_came_of_it(tile: Path, tmp_path: Path) -> None:
    first = shell("run", tile, "--out", tmp_path / "out", "--memory", "1GB")
    assert (first.returncode, first.stderr) == (0, "")
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    lines = first.stdout.splitlines()
    pixels = report["pixels"]
    assert f"{pixels['valid']} pixels unmixed, {pixels['masked']} without data" in lines[0]
    means = products(tmp_path / "out").abundance.astype(float).mean(("y", "x"))
    told = re.findall(r"(EM\d) ([\d.]+)", lines[1])
    assert [name for name, _ in told] == means.endmember.values.tolist()
    np.testing.assert_allclose([float(value) for _, value in told], means.values, atol=5.1e-5)
    assert re.search(r"[\d.]+ s, peak memory \d+ MB", lines[2])
    assert report["options"]["memory"] == 10**9
    assert_finished(tmp_path / "out")

    before = checksums(tmp_path / "out")
    again = shell("run", tile, "--out", tmp_path / "out")
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing left to do" in again.stdout
    other = shell("run", tile, "--out", tmp_path / "out", "-k", "3")
    assert other.returncode == 1
    assert other.stdout == ""
    assert "k was 4, is 3" in one_line(other.stderr)
    assert checksums(tmp_path / "out") == before


def test_overwrite_replaces(tile: Path, tmp_path: Path) -> None:
    assert call("run", tile, "--out", tmp_path / "out").exit_code == 0
    said = call("run", tile, "--out", tmp_path / "out", "-k", 3, "--overwrite")
    assert said.exit_code == 0
    assert products(tmp_path / "out").sizes["endmember"] == 3
    assert_finished(tmp_path / "out")


def options_of(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> Options:
    """What the command asks for, without doing it."""
    asked: list[Options] = []

    def stop(options: Options, *_: Any) -> None:
        asked.append(options)
        raise HsiError("enough")

    monkeypatch.setattr("hsichunk.run.runner.run", stop)
    said = call("run", *arguments)
    assert said.exit_code == 1, said.output
    return asked[0]


def test_thresholds_with_commas_and_repeated_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tail = ("a.h5", "--out", "o", "-k", 3)
    commas = options_of(monkeypatch, *tail, "--sid-threshold", "0.8,0.3, 0.03")
    times = options_of(
        monkeypatch, *tail, "--sid-threshold", "0.8", "--sid-threshold", "0.3", "--sid-threshold", "0.03"
    )
    assert commas == times
    assert commas.sid_threshold == (0.8, 0.3, 0.03)
    assert commas.sam_threshold == (0.1,)


@pytest.mark.parametrize(
    ("size", "wanted"), [("2GB", 2 * 10**9), ("512MB", 512 * 10**6), ("1.5 GiB", 3 << 29), ("700000000", 7 * 10**8)]
)
def test_memory_is_read(size: str, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert options_of(monkeypatch, "a.h5", "--out", "o", "--memory", size).memory == wanted


def test_every_option_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    given = options_of(
        monkeypatch, "a.h5", "b.h5", "--out", "o", "-k", 5, "--seed", 7, "--sample", 99, "--share", 0.5,
        "--sam-threshold", 0.2, "--sid-threshold", 0.4, "--relative", "--every", 3, "--lesson-bands",
        "--memory", "3GB", "--threads", 3, "--overwrite", "--keep", "400:1300,1500:1700", "--keep", "2000:2300",
        "--drop", "900:1000", "--drop-last", 0, "--maxit", 9,
    )  # fmt: skip
    assert given == Options(
        ("a.h5", "b.h5"), "o", k=5, seed=7, sample=99, share=0.5, every=3, lesson_bands=True, sam_threshold=(0.2,),
        sid_threshold=(0.4,), relative=True, memory=3 * 10**9, threads=3, overwrite=True,
        keep=((400.0, 1300.0), (1500.0, 1700.0), (2000.0, 2300.0)), drop=((900.0, 1000.0),), drop_last=0, maxit=9,
    )  # fmt: skip


def test_a_config_file_gives_what_the_command_line_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "tiles: [a.h5]\nout: o\nk: 3\nmemory: 3GB\nsid-threshold: [0.8, 0.3, 0.03]\nsam_threshold: 0.3\n"
        "keep: [[400, 1300], [1500, 1700]]\ndrop-last: 0\nrelative: true\nmaxit: 9\nthreads: 1\n"
    )
    given = options_of(monkeypatch, "--config", path, "--memory", "1GB")
    assert given == Options(
        ("a.h5",), "o", k=3, memory=10**9, sid_threshold=(0.8, 0.3, 0.03), sam_threshold=(0.3,),
        keep=((400.0, 1300.0), (1500.0, 1700.0)), drop_last=0, relative=True, maxit=9, threads=1,
    )  # fmt: skip
    assert options_of(monkeypatch, "b.h5", "c.h5", "--config", path).tiles == ("b.h5", "c.h5")


# bad arguments


BAD_OPTIONS = {
    "-k 1": "k is 1",
    "-k 255": "k is 255",
    "-k four": "k is 'four'; expected a whole number",
    "--every 2.5": "every is '2.5'; expected a whole number",
    "--share half": "share is 'half'; expected a number",
    "--memory 5XB": "memory is '5XB'",
    "--memory -2GB": "memory is '-2GB'",
    "--memory 0": "memory is 0",
    "--threads 0": "threads is 0",
    "--share 0": "share is 0",
    "--share nan": "share is nan",
    "--sample 0": "sample is 0",
    "--seed -1": "seed is -1",
    "--every 0": "every is 0",
    "--sid-threshold x": "sid-threshold is 'x'",
    "--sid-threshold 0.8,": "sid-threshold is '0.8,'",
    "--sid-threshold -0.1": "sid-threshold is -0.1",
    "--sam-threshold nan": "sam-threshold is nan",
    "--sam-threshold 0.1,0.2,0.3": "one for each of k",
    "--relative --sam-threshold 1.5": "from 0 to 1",
    "--keep 400": "keep is '400'; expected ranges in nm, as 400:1300",
    "--drop 1000:900": "drop is (1000.0, 900.0); expected (low, high) in nm",
    "--maxit 0": "maxit is 0",
    "--drop-last -1": "drop-last is -1",
    "--config no.yaml": "cannot be read",
}


@pytest.mark.parametrize("arguments", BAD_OPTIONS)
def test_bad_options_are_refused_before_the_tile_is_read(arguments: str, tmp_path: Path) -> None:
    said = call("run", tmp_path / "none.h5", "--out", tmp_path / "out", *arguments.split())
    assert said.exit_code == 2
    assert BAD_OPTIONS[arguments] in one_line(said.stderr)
    assert said.stdout == ""
    assert list(tmp_path.iterdir()) == []


CONFIGS = {
    "k: 4.5": "k is 4.5",
    "k: four": "k is 'four'",
    "k: true": "k is True",
    "relative: 1": "relative is 1",
    "keep: 400": "keep is 400",
    "keep: [[1300, 400]]": "keep is",
    "drop: null": "drop is None",
    "kk: 4": "unknown option kk (did you mean k?); known are bands, ",
    "thread: 4": "unknown option thread (did you mean threads?); known are bands, ",
    "nothing-like-it: 4": "unknown option nothing_like_it; known are bands, ",
    "[1, 2]": "holds list",
    "k: [": "is no YAML",
    "tiles: [3]": "tiles is 3",
    "memory: [2]": "memory is [2]",
    "\x00": "is no YAML",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_bad_configs_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    arguments = ["--out", tmp_path / "out", "--config", path]
    said = call("run", *arguments) if "tiles" in text else call("run", tmp_path / "none.h5", *arguments)
    assert said.exit_code == 2
    assert CONFIGS[text] in one_line(said.stderr)
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.yaml"]


def test_what_is_missing_is_named() -> None:
    assert "no tiles given" in one_line(call("run", "--out", "o").stderr)
    said = call("run", "a.h5")
    assert "no out given" in one_line(said.stderr)
    assert said.exit_code == 2


@pytest.mark.parametrize("arguments", [["run", "a.h5", "--out"], ["run", "--nonsense"], ["nope"]])
def test_what_is_no_argument_at_all_ends_with_2(arguments: list[str]) -> None:
    said = call(*arguments)
    assert said.exit_code == 2
    assert "Traceback" not in said.output


# bad input


def text_file(path: Path) -> None:
    path.write_text("not a tile\n")


def change(then: Callable[[h5py.File], None], **tile: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        small_tile(path, shape=(20, 20), chunks=(10, 10, 20), **tile)
        with h5py.File(path, "r+") as file:
            then(file)

    return make


def cut(share: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        small_tile(path, shape=(20, 20), chunks=(10, 10, 20))
        os.truncate(path, int(path.stat().st_size * share))

    return make


CORRUPT = (2, 1, 1)


def corrupt(path: Path, place: tuple[int, int, int]) -> None:
    """Zeroes in the middle of a chunk."""
    small_tile(path)
    with h5py.File(path) as file:
        data = file["SERC/Reflectance/Reflectance_Data"]
        info = data.id.get_chunk_info_by_coord(tuple(p * c for p, c in zip(place, data.chunks, strict=True)))
    with open(path, "r+b") as raw:
        raw.seek(info.byte_offset + info.size // 2)
        raw.write(bytes(60))


def fill(counts: int) -> Callable[[h5py.File], None]:
    def then(file: h5py.File) -> None:
        file["SERC/Reflectance/Reflectance_Data"][...] = counts

    return then


def three_pixels(file: h5py.File) -> None:
    data = file["SERC/Reflectance/Reflectance_Data"]
    kept = data[5, 5:8]
    data[...] = -9999
    data[5, 5:8] = kept


def scale(value: float) -> Callable[[h5py.File], None]:
    def then(file: h5py.File) -> None:
        file["SERC/Reflectance/Reflectance_Data"].attrs["Scale_Factor"] = value

    return then


def no_group(file: h5py.File) -> None:
    file.move("SERC/Reflectance", "SERC/Radiance")


BAD_INPUT: dict[str, tuple[Callable[[Path], None], str, list[Any]]] = {
    "text": (text_file, "not an HDF5 file", []),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty", []),
    "missing": (lambda path: None, "cannot be opened", []),
    "folder": (lambda path: path.mkdir(), "is a folder", []),
    "cut at a hundredth": (cut(0.01), "truncated", []),
    "cut at a tenth": (cut(0.1), "truncated", []),
    "cut in half": (cut(0.5), "truncated", []),
    "a byte short": (cut(0.99999), "truncated", []),
    "no Reflectance": (change(no_group), "no /SITE/Reflectance group", []),
    "scale 0": (change(scale(0.0)), "Scale_Factor is 0", []),
    "all no-data": (change(fill(-9999)), "0 of 400 pixels drawn hold data", []),
    "more endmembers than pixels": (
        change(three_pixels),
        "3 of 400 pixels drawn hold data; expected at least k = 4",
        [],
    ),
    "more endmembers than bands": (change(lambda file: None), "k is 41", ["-k", 41]),
    "one colour": (change(fill(2000)), "span 0 dimensions", []),
    "too little memory": (change(lambda file: None), "--memory 90MB cannot hold", ["--memory", "90MB"]),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_ends_in_one_line_and_leaves_nothing(what: str, tmp_path: Path) -> None:
    make, message, arguments = BAD_INPUT[what]
    make(tmp_path / "tile.h5")
    said = call("run", tmp_path / "tile.h5", "--out", tmp_path / "deep" / "out", *arguments)
    assert said.exit_code == 1, said.output
    assert said.stdout == ""
    text = one_line(said.stderr)
    assert message in text
    if "memory" not in what and "bands" not in what and what != "one colour":
        assert "tile.h5" in text
    assert not (tmp_path / "deep").exists()


def test_a_corrupt_chunk_is_named_and_nothing_looks_whole(tmp_path: Path) -> None:
    corrupt(tmp_path / "tile.h5", CORRUPT)
    said = call("run", tmp_path / "tile.h5", "--out", tmp_path / "out", "--sample", 8)
    assert said.exit_code == 1
    text = one_line(said.stderr)
    assert f"tile.h5: chunk {CORRUPT} of" in text
    assert "corrupt" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".hsichunk"]  # the sample did not touch it


@pytest.mark.parametrize("what", ["cut in half", "all no-data"])
def test_bad_input_ends_in_one_line_in_a_process_too(what: str, tmp_path: Path) -> None:
    make, message, _ = BAD_INPUT[what]
    make(tmp_path / "tile.h5")
    said = shell("run", tmp_path / "tile.h5", "--out", tmp_path / "out")
    assert (said.returncode, said.stdout) == (1, "")
    assert message in one_line(said.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["tile.h5"]


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/self/none/out"])
def test_a_folder_that_cannot_be_written_ends_in_one_line(out: str, tile: Path, tmp_path: Path) -> None:
    if out.startswith("/proc") and not Path("/proc/self").is_dir():
        pytest.skip("no /proc here, a folder that not even root may write to")
    (tmp_path / "file").write_text("")
    said = call("run", tile, "--out", tmp_path / out)
    assert said.exit_code == 1
    assert "choose another --out" in one_line(said.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_tiles_that_do_not_belong_together_are_refused(tile: Path, tmp_path: Path) -> None:
    other = small_tile(tmp_path / "other.h5", epsg=32617)
    said = call("run", tile, other, "--out", tmp_path / "out")
    assert said.exit_code == 1
    assert "32617" in one_line(said.stderr)
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    said = shell("info", tmp_path / "none.h5", "--debug")
    assert said.returncode == 1
    assert "Traceback" in said.stderr
    assert "HsiError" in said.stderr


@pytest.mark.parametrize(
    "error", [ValueError("two\nlines"), MemoryError(), OSError(28, "No space left on device", "x")]
)
def test_any_other_error_is_one_line_too(error: Exception, tile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("hsichunk.run.runner.run", fail)
    said = call("run", tile, "--out", "o")
    assert said.exit_code == 1
    one_line(said.stderr)


def test_notes_go_to_stderr_one_line_each(shared: Path, tmp_path: Path) -> None:
    said = call("run", next((shared / "neon_sjer").glob("*.h5")), "--out", tmp_path / "out")
    assert said.exit_code == 0
    notes = said.stderr.splitlines()
    assert notes
    assert all(line.startswith("hsichunk: note: ") for line in notes)
    assert any("1340-1445" in line for line in notes)
    assert "900 pixels unmixed, 0 without data" in said.stdout


# stopping, and the terminal

SLOWLY = """
import sys, time
from hsichunk.writers import zarr_blocks
from hsichunk.cli.main import main
write = zarr_blocks.write_block
def slow(*given, **named):
    write(*given, **named)
    time.sleep(30)
zarr_blocks.write_block = slow
main()
"""


def test_an_interrupt_ends_in_one_line_and_the_run_goes_on(tile: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", SLOWLY, "run", str(tile), "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while not list(out.glob(".hsichunk/products.zarr/abundance/c/0/0/0")):
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        said, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert said == ""
    assert "goes on" in one_line(errors)
    assert not (out / "run.json").exists()
    assert call("run", tile, "--out", out).exit_code == 0
    assert checksums(out) == checksums(done)


def on_terminal(*arguments: Any) -> tuple[int, str]:
    """The command with a terminal for its output; its status and what the terminal got."""
    main, side = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    child = subprocess.Popen([*HSICHUNK, *map(str, arguments)], stdout=side, stderr=side, stdin=side, env=environment)
    os.close(side)
    shown = b""
    while True:
        try:
            got = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not got:
            break
        shown += got
    os.close(main)
    return child.wait(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_terminal_gets_bars(tile: Path, tmp_path: Path) -> None:
    status, shown = on_terminal("run", tile, "--out", tmp_path / "out")
    assert status == 0
    for name in ("reading the sample", "unmixing", "writing maps"):
        assert re.search(rf"{name}\s+\S+\s+100%", shown), shown
    assert "MB/s" in shown and re.search(r"\d MB(?!/)", shown)
    assert "0:00:0" in shown
    assert max(len(line) for line in re.split(r"[\r\n]+", shown) if "100%" in line) <= 80
    status, shown = on_terminal("run", tmp_path / "none.h5", "--out", tmp_path / "two")
    assert status == 1
    assert "hsichunk: " in shown
    assert "Traceback" not in shown


# info and demo


def test_info_describes_the_tile_and_the_plan(tile: Path) -> None:
    said = json.loads(call("info", tile, "--json", "--memory", "1GB", "--threads", 3, "-k", 5).stdout)
    assert said["shape"] == {"y": 90, "x": 70, "wavelength": 40}
    assert said["stored_chunks"] == [16, 21, 9]
    assert said["crs"] == "EPSG:32618"
    assert said["bounds"] == [368000.0, 4306910.0, 368070.0, 4307000.0]
    assert (said["scale"], said["no_data"]) == (10000.0, -9999)
    assert said["bad_band_windows"] == [[1340.0, 1445.0], [1790.0, 1955.0]]
    assert said["bytes"]["decoded"] == 90 * 70 * 40 * 2
    assert 0 < said["bytes"]["stored"] < said["bytes"]["file"] == tile.stat().st_size
    counts = h5py.File(tile)["SERC/Reflectance/Reflectance_Data"][:, :, 20]
    assert said["no_data_share"] == pytest.approx((counts == -9999).mean(), abs=0.03)
    assert (said["plan"]["budget"], said["plan"]["threads"], said["plan"]["decodes"]) == (10**9, 3, 1)
    wavelength = np.linspace(400, 2500, 40)
    bad = ((wavelength >= 1340) & (wavelength <= 1445)) | ((wavelength >= 1790) & (wavelength <= 1955))
    assert said["bands_kept"] == (~bad)[:-10].sum()


def test_info_for_people_says_the_same_in_80_columns(tile: Path) -> None:
    said = call("info", tile)
    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert lines[0] == str(tile)
    assert max(map(len, lines[1:])) <= 80
    for text in ("90 x 70 pixels", "EPSG:32618", "40 from 400.0 to 2500.0 nm", "16 x 21 x 9", "decoded once"):
        assert text in said.stdout


def test_info_shows_a_plan_that_cannot_be(tile: Path) -> None:
    assert (
        "cannot hold the smallest plan"
        in json.loads(call("info", tile, "--json", "--memory", "9MB").stdout)["plan"]["refused"]
    )
    assert "--memory 9MB cannot hold the smallest plan" in call("info", tile, "--memory", "9MB").stdout


def test_info_of_no_tile_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("text")
    said = call("info", tmp_path / "x.h5")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "not an HDF5 file" in one_line(said.stderr)


def test_demo_runs_and_draws(tmp_path: Path) -> None:
    import matplotlib.image

    said = call("demo", "--out", tmp_path / "demo", "--size", 64)
    assert said.exit_code == 0, said.output
    assert said.stderr == ""
    difference = re.search(r"mean difference ([\d.]+)", said.stdout)
    assert difference is not None
    assert float(difference[1]) < 0.1
    assert_finished(tmp_path / "demo" / "results")
    for name in ("rgb", "endmembers", "abundances", "sam_class", "sid_class"):
        path = tmp_path / "demo" / f"{name}.png"
        assert str(path) in said.stdout
        picture = matplotlib.image.imread(path)
        assert min(picture.shape[:2]) > 300
        assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 20
    assert len(np.unique(products(tmp_path / "demo" / "results").sam_class)) > 3


def test_demo_refuses_sizes_out_of_range() -> None:
    assert call("demo", "--size", 10).exit_code == 2


def test_a_run_imports_no_more_than_it_needs(tile: Path, tmp_path: Path) -> None:
    """xarray alone brings dask and pandas along: a second of a processor, and 60 MB."""
    code = """
import sys
class Watch:
    def find_spec(self, name, path, target=None):
        print("import", name, file=sys.stderr)
sys.meta_path.insert(0, Watch())
from hsichunk.cli.main import main
main()
"""
    arguments = ["run", str(tile), "--out", str(tmp_path / "out"), "-k", "3"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    imported = {line.split()[1] for line in done.stderr.splitlines() if line.startswith("import ")}
    assert {"zarr", "rasterio", "numba"} <= imported
    assert not imported & {"xarray", "dask.base", "pandas", "rioxarray", "matplotlib", "distributed", "scipy.linalg"}
