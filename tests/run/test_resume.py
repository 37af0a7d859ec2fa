"""Killed at any moment, a run goes on to the same bytes; what is done is not done again, what is doubtful is."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hsichunk import atomic_files
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.endmembers import endmember_csv
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.run import make_record
from hsichunk.run.ledger import Entry, Ledger
from hsichunk.run.runner import run
from hsichunk.writers import cog, zarr_blocks, zarr_store
from tests.helpers.runs import BITS, asked, assert_finished, checksums, go, shrink
from tests.helpers.tiles import small_tile

pytestmark = pytest.mark.long
CHUNKS = {"spatial": (16, 21, 9), "band": (90, 70, 1)}


class Stop(BaseException):
    """Stands in for a kill: nothing catches it."""


@pytest.fixture(scope="module", params=CHUNKS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    """The layout, a tile, and run.json of a run that nothing disturbed, in `done` beside the tile."""
    folder = tmp_path_factory.mktemp(request.param)
    tile = small_tile(folder / "tile.h5", chunks=CHUNKS[request.param])
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch.setattr, request.param)
        return request.param, tile, go(tile, folder / "done")


@pytest.fixture
def small(whole: tuple[str, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, Any]]:
    """The tile and its run.json, in a test that works it in the same strips."""
    shrink(monkeypatch.setattr, whole[0])
    return whole[1:]


def assert_equal(out: Path, report: dict[str, Any], small: tuple[Path, dict[str, Any]]) -> None:
    """A run that went on has left what the undisturbed one did."""
    assert_finished(out)
    assert checksums(out) == checksums(small[0].parent / "done")
    for name in ("pixels", "mean_abundance", "fcls", "inputs", "bands", "site"):
        assert report[name] == small[1][name], name
    assert list(report["stages"]) == list(small[1]["stages"])


def stop_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, after: bool) -> None:
    """Stops before or after the n-th call of a function."""
    original = getattr(owner, name)
    calls = iter(range(1, 1000))

    def stop(*given: Any, **named: Any) -> Any:
        number = next(calls)
        if number == call and not after:
            raise Stop
        result = original(*given, **named)
        if number == call:
            raise Stop
        return result

    monkeypatch.setattr(owner, name, stop)


STEPS = [
    (atomic_files, "write_json", 1),  # endmembers.json
    (zarr_blocks, "create", 1),
    (Ledger, "start", 1),
    (zarr_blocks, "write_block", 6),
    (Ledger, "add", 1),
    (Ledger, "add", 4),
    (cog, "write_image", 2),
    (endmember_csv, "write_endmembers", 1),
    (make_record, "summary", 1),
    (Ledger, "finish", 1),
    (Ledger, "tidy", 1),
]


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
@pytest.mark.parametrize(("owner", "name", "call"), STEPS, ids=[f"{name}{call}" for _, name, call in STEPS])
def test_a_run_stopped_at_any_step_goes_on(
    owner: Any, name: str, call: int, small: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    after = call % 2 == 0 or name in ("finish", "write_endmembers", "start")
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, owner, name, call, after)
        with pytest.raises(Stop):
            run(asked(small[0], out))
    assert (out / "run.json").exists() == (name in ("finish", "tidy"))
    report = go(small[0], out)
    assert report["finished"] == (name in ("finish", "tidy"))
    assert_equal(out, report, small)


RELATIVE: dict[str, Any] = {"relative": True, "sam_threshold": (0.3,)}


@pytest.fixture(scope="module")
def relative(whole: tuple[str, Path, dict[str, Any]]) -> dict[str, str]:
    """Checksums of an undisturbed run with thresholds that are shares."""
    out = whole[1].parent / "relative"
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch.setattr, whole[0])
        go(whole[1], out, **RELATIVE)
    return checksums(out)


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(zarr_store, "add", 1), (zarr_store, "add", 2), (atomic_files, "sync", 1)],
    ids=["first map", "second map", "before the store gets its name"],
)
def test_relative_class_maps_come_after_the_pass(
    owner: Any, name: str, call: int, small: tuple[Path, dict[str, Any]], relative: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, owner, name, call, after=call % 2 == 0)
        with pytest.raises(Stop):
            run(asked(small[0], out, **RELATIVE))
    go(small[0], out, **RELATIVE)
    assert_finished(out)
    assert checksums(out) == relative


def decoded(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, ...]]:
    """Places of the chunks that are decoded from here on."""
    seen: set[tuple[int, ...]] = set()
    chunk = HDF5Array.chunk

    def watch(self: HDF5Array, handle: int, place: tuple[int, ...]) -> Any:
        seen.add(place)
        return chunk(self, handle, place)

    monkeypatch.setattr(HDF5Array, "chunk", watch)
    return seen


SLOWLY = """
import sys, time
sys.path[:0] = {path!r}
from tests.helpers import runs
from hsichunk.writers import zarr_blocks
runs.shrink(setattr, {layout!r})
write = zarr_blocks.write_block
def slow(*given, **named):
    time.sleep(0.005)
    write(*given, **named)
    time.sleep(0.005)
zarr_blocks.write_block = slow
runs.run(runs.asked(runs.Path({tile!r}), runs.Path({out!r})))
"""


def start(whole: tuple[str, Path, dict[str, Any]], out: Path) -> subprocess.Popen[bytes]:
    code = SLOWLY.format(path=[p for p in sys.path if p], layout=whole[0], tile=str(whole[1]), out=str(out))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for(child: subprocess.Popen[bytes], good: Callable[[], bool]) -> None:
    """Until the condition holds; fails where the child ends before."""
    until = time.monotonic() + 60
    while not good():
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.parametrize("moment", range(3))
def test_killed_at_random_it_goes_on_to_the_same_bytes(
    moment: int,
    whole: tuple[str, Path, dict[str, Any]],
    small: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    draw = random.Random(f"{whole[0]} {moment}")
    strips = draw.randrange(5)
    lines = out / ".hsichunk" / "ledger.jsonl"
    state = out / ".hsichunk" / "state.json"

    def far_enough() -> bool:
        return state.exists() and (not strips or (lines.exists() and lines.read_bytes().count(b"\n") >= strips))

    child = start(whole, out)
    try:
        wait_for(child, far_enough)
        time.sleep(draw.random() * 0.04)
    finally:
        child.kill()
        errors = child.communicate()[1].decode()
    assert child.returncode == -signal.SIGKILL, errors
    entries = Ledger(out, {}).entries()
    assert len(entries) >= strips
    bottom = max((entry.bottom for entry in entries), default=0)
    seen = decoded(monkeypatch)
    report = go(small[0], out)
    assert report["resumed"]
    assert_equal(out, report, small)
    if whole[0] == "spatial":
        left = range(bottom // 16, 6) if bottom < 90 else ()
        assert {place[0] for place in seen} == set(left)  # strips that are done are not decoded again
        assert report["pass"] == small[1]["pass"]  # and each chunk counts once
    assert report["stages"]["pass"]["chunks_decoded"] == len(seen)
    assert report["stages"]["sample"] == json_of(out)["stages"]["sample"]


def json_of(out: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((out / "run.json").read_text())
    return said


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
def test_a_strip_is_noted_once_it_is_on_the_disk(
    small: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here, which names the file of a descriptor")
    synced: dict[str, int] = {}
    clock = iter(range(1, 1 << 30))

    def fsync(file: int) -> None:
        synced[os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")] = next(clock)

    monkeypatch.setattr(os, "fsync", fsync)
    add, write_block = Ledger.add, zarr_blocks.write_block
    written: list[tuple[int, int, str]] = []

    def block(group: Any, blocks: Any, rows: slice, cols: slice, **named: Any) -> None:
        written.extend((next(clock), rows.stop, name) for name in blocks)
        write_block(group, blocks, rows, cols, **named)

    def note(self: Ledger, entry: Entry) -> None:
        arrays = zarr.open_group(self.store, mode="r")
        for when, stop, name in written:
            top = "0/" * (arrays[name].ndim - 2)
            chunk = f"{self.store}/{name}/c/{top}{(stop - 1) // BITS}/0"
            assert synced[chunk] > when
        assert max(stop for _, stop, _ in written) >= entry.bottom
        before = next(clock)
        add(self, entry)
        assert synced[str(self.folder / "ledger.jsonl")] > before

    monkeypatch.setattr(zarr_blocks, "write_block", block)
    monkeypatch.setattr(Ledger, "add", note)
    run(asked(small[0], tmp_path / "out"))
    assert written


@pytest.fixture(scope="module")
def begun(whole: tuple[str, Path, dict[str, Any]]) -> Path:
    """A folder with some strips done, to copy."""
    out = whole[1].parent / "begun"
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch.setattr, whole[0])
        stop_at(monkeypatch, Ledger, "add", 3, after=True)
        with pytest.raises(Stop):
            run(asked(whole[1], out))
    return out


@pytest.fixture
def half(begun: Path, small: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A folder with some strips done."""
    return Path(shutil.copytree(begun, tmp_path / "out"))


def test_threads_and_memory_may_change(half: Path, small: tuple[Path, dict[str, Any]]) -> None:
    report = go(small[0], half, threads=1, memory="1GB")
    assert report["resumed"]
    assert_equal(half, report, small)


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
def test_other_options_are_refused_while_unfinished(half: Path, small: tuple[Path, dict[str, Any]]) -> None:
    before = sorted(half.rglob("*"))
    with pytest.raises(HsiError, match="seed was 0, is 5"):
        run(asked(small[0], half, seed=5))
    assert sorted(half.rglob("*")) == before
    report = go(small[0], half, seed=5, overwrite=True)
    assert not report["resumed"]
    assert_finished(half)
    assert not go(small[0], half, overwrite=True)["resumed"]
    assert_equal(half, json_of(half), small)


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
def test_another_version_does_not_go_on(
    half: Path, small: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsichunk.run.options.__version__", "99.0")
    with pytest.raises(HsiError, match=r'hsichunk was ".*", is "99\.0"'):
        run(asked(small[0], half))


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
def test_a_tile_that_changed_is_refused(half: Path, small: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = small_tile(tmp_path / "other" / "tile.h5", chunks=CHUNKS["spatial"], seed=9)
    with pytest.raises(HsiError, match=r"tile\.h5 has changed"):
        run(asked(other, half))


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
def test_the_same_tile_elsewhere_is_the_same(half: Path, small: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    report = go(Path(shutil.copyfile(small[0], tmp_path / "other" / "tile.h5")), half)
    assert report["resumed"]
    assert_equal(half, report, small)


def test_a_half_written_line_does_not_count(half: Path, small: tuple[Path, dict[str, Any]]) -> None:
    lines = half / ".hsichunk" / "ledger.jsonl"
    lines.write_bytes(lines.read_bytes()[:-30])
    report = go(small[0], half)
    assert report["resumed"]
    assert_equal(half, report, small)


def _empty_store(half: Path) -> None:
    group = zarr.open_group(half / ".hsichunk" / "products.zarr", mode="r+")
    group.attrs["hsichunk_run"] = "another"


def _other_layout(half: Path) -> None:
    group = zarr.open_group(half / ".hsichunk" / "products.zarr", mode="r+")
    old = group["rmse"]
    del group["rmse"]
    group.create_array("rmse", shape=old.shape, chunks=(30, 70), dtype=old.dtype, fill_value=np.nan)


def _other_shape(half: Path) -> None:
    group = zarr.open_group(half / ".hsichunk" / "products.zarr", mode="r+")
    group["sam"].resize((4, 80, 70))


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "another run's store": _empty_store,
    "another layout": _other_layout,
    "another shape": _other_shape,
    "no store": lambda half: shutil.rmtree(half / ".hsichunk" / "products.zarr"),
    "no metadata": lambda half: (half / ".hsichunk" / "products.zarr" / "zarr.json").unlink(),
    "broken metadata": lambda half: (half / ".hsichunk" / "products.zarr" / "zarr.json").write_text("{"),
    "no endmembers": lambda half: (half / ".hsichunk" / "endmembers.json").unlink(),
    "broken endmembers": lambda half: (half / ".hsichunk" / "endmembers.json").write_text('{"origins": [[1, 2]]}'),
    "published, strips missing": lambda half: (half / ".hsichunk" / "products.zarr").rename(half / "products.zarr"),
}


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
@pytest.mark.parametrize("how", DAMAGE)
def test_what_does_not_fit_is_not_trusted(how: str, half: Path, small: tuple[Path, dict[str, Any]]) -> None:
    DAMAGE[how](half)
    with pytest.warns(HsiWarning, match="damaged; starting anew"):
        report = go(small[0], half)
    assert not report["resumed"]
    assert_equal(half, report, small)


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
def test_a_state_that_cannot_be_read_is_no_state(half: Path, small: tuple[Path, dict[str, Any]]) -> None:
    (half / ".hsichunk" / "state.json").write_text("{")
    report = go(small[0], half)
    assert not report["resumed"]
    assert_equal(half, report, small)


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
def test_a_finished_folder_is_left_alone(small: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    out = small[0].parent / "done"
    stamps = {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}
    seen = decoded(monkeypatch)
    report = go(small[0], out, threads=1, memory="3GB")
    assert report["finished"]
    assert not seen
    assert {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))} == stamps
    with pytest.raises(HsiError, match="k was 4, is 3"):
        run(asked(small[0], out, k=3))


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("whole", ["spatial"], indirect=True)
def test_a_full_disk_ends_in_one_line_and_goes_on_once_there_is_room(
    little_disk: Path, small: tuple[Path, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    out = little_disk / "out"
    sizes = iter(range(300, 100_000, 300))
    failures = []
    for size in sizes:
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(little_disk)], check=True)
        try:
            report = go(small[0], out)
        except (HsiError, OSError) as error:
            failures.append(str(error))
            assert not (out / "run.json").exists()
        else:
            break
    assert len(failures) >= 2
    assert capfd.readouterr().err == ""
    for text in failures:
        assert "No space left" in text
        assert "\n" not in text
    assert report["resumed"]
    assert_equal(out, report, small)
