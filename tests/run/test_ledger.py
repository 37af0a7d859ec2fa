"""The state of a run: what counts as done, what is refused, and what is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hsichunk.atomic_files import read_json, write_json
from hsichunk.errors import HsiError
from hsichunk.run.folder import FILES, LATER
from hsichunk.run.ledger import Entry, Ledger, differences
from hsichunk.unmixing.scoring import Tally
from tests.helpers.records import example

ASKED: dict[str, Any] = {"k": 4, "seed": 0, "inputs": [{"name": "a.h5", "size": 3, "metadata": "00"}]}
TALLY = Tally(valid=3, masked=1, solved=3, worst_kkt=1e-16, abundance=[1 << 40, 7], chunks=5, bytes=1000)


def book(out: Path, **changed: Any) -> Ledger:
    return Ledger(out, ASKED | changed)


def begun(out: Path) -> Ledger:
    made = book(out)
    with made.locked():
        made.clear()
        made.start()
    return made


def finished(out: Path) -> Ledger:
    made = begun(out)
    for name in FILES:
        (out / name).write_text("x")
    made.finish(example(fingerprint=ASKED))
    return made


def entry(bottom: int) -> Entry:
    return Entry(0, 0, bottom, TALLY)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    assert book(tmp_path / "a" / "b").look(False) == "new"
    assert list(tmp_path.iterdir()) == []
    begun(tmp_path / "c")
    before = sorted(tmp_path.rglob("*"))
    assert book(tmp_path / "c").look(False) == "resumed"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_new_then_resumed_then_done(tmp_path: Path) -> None:
    assert book(tmp_path).look(False) == "new"
    begun(tmp_path)
    assert book(tmp_path).look(False) == "resumed"
    finished(tmp_path)
    assert book(tmp_path).look(False) == "done"
    assert not (tmp_path / ".hsichunk").exists()


def test_overwrite_does_not_redo_what_is_asked_for(tmp_path: Path) -> None:
    begun(tmp_path)
    assert book(tmp_path).look(True) == "resumed"
    finished(tmp_path)
    assert book(tmp_path).look(True) == "done"


@pytest.mark.parametrize("make", [begun, finished])
def test_other_options_are_refused_with_what_differs(make: Any, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(HsiError, match=r"k was 4, is 5; seed was 0, is 1.*--overwrite"):
        book(tmp_path, k=5, seed=1).look(False)
    assert book(tmp_path, k=5, seed=1).look(True) == "new"


def test_what_a_finished_run_lacks_is_named(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "rmse.tif").unlink()
    with pytest.raises(HsiError, match=r"rmse\.tif is gone.*--overwrite"):
        book(tmp_path).look(False)
    assert book(tmp_path).look(True) == "new"


def test_results_of_unknown_origin_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "endmembers.csv").write_text("mine")
    with pytest.raises(HsiError, match=r"endmembers\.csv of unknown origin"):
        book(tmp_path).look(False)
    (tmp_path / "endmembers.csv").unlink()
    (tmp_path / "run.json").write_text("{ half")
    with pytest.raises(HsiError, match=r"run\.json of unknown origin"):
        book(tmp_path).look(False)
    assert book(tmp_path).look(True) == "new"


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    finished(tmp_path)
    assert book(tmp_path, k=5).look(True) == "new"
    with book(tmp_path, k=5).locked():
        book(tmp_path, k=5).clear()
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", ".hsichunk"}
    assert [path.name for path in (tmp_path / ".hsichunk").iterdir()] == ["lock"]


def test_clearing_takes_run_json_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hsichunk.run import ledger

    finished(tmp_path)
    for name in LATER:
        (tmp_path / name).write_text("x")
    taken: list[str] = []
    remove = ledger._remove

    def watch(path: Path) -> None:
        if path.exists():
            taken.append(path.name)
        remove(path)

    monkeypatch.setattr(ledger, "_remove", watch)
    with book(tmp_path).locked():
        book(tmp_path).clear()
    assert taken[0] == "run.json"
    assert set(taken) == {"run.json", *FILES, *LATER}


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/that"])
def test_a_folder_that_cannot_be_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HsiError, match="choose another --out") as refused:
        book(tmp_path / name).look(False)
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc here, a folder that not even root may write to")
    with pytest.raises(HsiError, match="cannot be written"):
        book(Path("/proc/self/out")).look(False)


def test_entries_come_back_as_noted(tmp_path: Path) -> None:
    made = begun(tmp_path)
    assert made.entries() == []
    for bottom in (10, 20):
        made.add(entry(bottom))
    assert book(tmp_path).entries() == [entry(10), entry(20)]


DAMAGE = {
    "half a line": lambda text: text[: len(text) - 20],
    "no end of line": lambda text: text[:-1],
    "not JSON": lambda text: text.replace(b'{"tile"', b'\x00"tile"'),
    "a number": lambda text: text.replace(text.splitlines()[-1], b"12"),
    "a name short": lambda text: text.replace(b'"bottom": 20', b'"bottoms": 20'),
    "text for a number": lambda text: text.replace(b'"bottom": 20', b'"bottom": "20"'),
    "an unknown tally": lambda text: text.replace(b'"valid"', b'"value"'),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_line_and_all_after_it_do_not_count(how: str, tmp_path: Path) -> None:
    made = begun(tmp_path)
    for bottom in (10, 20):
        made.add(entry(bottom))
    path = made.folder / "ledger.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + DAMAGE[how](second))
    assert made.entries() == [entry(10)]
    assert path.read_bytes() == first  # and are cut off, so that what is added next is read
    made.add(entry(15))
    assert made.entries() == [entry(10), entry(15)]
    path.write_bytes(DAMAGE[how](second) + first)
    assert made.entries() == []


def test_a_tally_survives_its_line_exactly(tmp_path: Path) -> None:
    made = begun(tmp_path)
    tally = replace(TALLY, worst_kkt=0.1 + 0.2, abundance=[(1 << 62) + 1])
    made.add(Entry(2, 1, 30, tally))
    assert made.entries()[0].tally == tally


def test_json_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(HsiError, match="No space"):
        write_json(path, {"a": 2})
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert read_json(path) == {"a": 1}
    assert read_json(tmp_path / "b.json") is None


def test_two_runs_do_not_work_in_one_folder(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from hsichunk.errors import HsiError
from hsichunk.run.ledger import Ledger
try:
    with Ledger(Path({str(tmp_path)!r}), {{}}).locked():
        print("in")
except HsiError as error:
    print(error)
"""

    def other() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    with book(tmp_path).locked():
        assert "another run is at work there" in other()
    assert other() == "in\n"


def test_leftovers_of_killed_writers_go_in_the_end(tmp_path: Path) -> None:
    made = begun(tmp_path)
    (tmp_path / ".abundance.tif.ab12.part").mkdir()
    (tmp_path / ".abundance.tif.ab12.part" / "x").write_text("")
    (tmp_path / ".run.json.part").write_text("")
    (tmp_path / ".other.part").write_text("")
    made.finish(example(fingerprint=ASKED))
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", ".other.part"}


def test_differences_name_tiles() -> None:
    one = ASKED["inputs"][0]
    assert differences(ASKED, {**ASKED, "inputs": [{**one, "size": 4}]}) == "a.h5 has changed"
    more = [one, {**one, "name": "b.h5"}]
    assert differences(ASKED, {**ASKED, "inputs": more}) == 'tiles were ["a.h5"], are ["a.h5", "b.h5"]'
    assert "the tiles differ" in differences({**ASKED, "inputs": 3}, ASKED)
    assert json.dumps("x" * 100)[:57] in differences({**ASKED, "keep": "x" * 100}, ASKED)
    assert differences("old", ASKED)
