"""Settings of the interpreter: changed in processes of our own alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hsichunk.run import interpreter, options, warm_up
from hsichunk.run.runner import run
from hsichunk.synthetic.tile import write_tile


def state() -> tuple[float, bool]:
    """The interval between switches, and whether scipy.linalg is hidden."""
    return sys.getswitchinterval(), sys.modules.get("scipy.linalg", sys) is None


def test_a_dedicated_process_has_them_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "scipy.linalg", raising=False)
    usual = state()
    assert usual[1] is False
    with interpreter.dedicated():
        assert state() == usual
        with interpreter.loading():
            interval, hidden = state()
            assert interval == pytest.approx(interpreter.SWITCH)
            assert hidden
        assert state() == usual
    with interpreter.loading():
        assert state() == usual


def test_what_is_loaded_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.linalg", sys)
    with interpreter.dedicated(), interpreter.loading():
        assert sys.modules["scipy.linalg"] is sys
    assert sys.modules["scipy.linalg"] is sys


def test_the_end_of_the_imports_is_the_end_of_them() -> None:
    usual = state()[0]
    with interpreter.dedicated(), warm_up.importing() as imported:
        imported()
        assert state()[0] == usual
    assert state()[0] == usual


def test_a_run_from_python_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tile(tmp_path / "t.h5", shape=(30, 20), bands=30, seed=2)
    asked = {"tiles": [str(tmp_path / "t.h5")], "out": str(tmp_path / "out"), "k": 3, "threads": 1}
    seen: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", seen.append)
    run(options.build(asked))
    assert seen == []


def test_a_command_changes_them_while_it_loads(tmp_path: Path) -> None:
    write_tile(tmp_path / "t.h5", shape=(30, 20), bands=30, seed=2)
    code = """
import sys
set_interval = sys.setswitchinterval
def watched(seconds):
    print("interval", seconds, file=sys.stderr)
    set_interval(seconds)
sys.setswitchinterval = watched
from hsichunk.cli.main import main
main()
"""
    arguments = ["run", str(tmp_path / "t.h5"), "--out", str(tmp_path / "out"), "-k", "3"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("interval")]
    assert said == [f"interval {interpreter.SWITCH}", "interval 0.005"]
