"""Tutorials of the documentation: their blocks run as written, one after the other, and print what stands there."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from tests.helpers.pages import ROOT, TEXTS, TUTORIALS, Step, steps

pytestmark = pytest.mark.long
ELSEWHERE = ("dask_jobqueue",)  # needs a Slurm cluster; tests/run/test_cluster.py runs it on a stand-in
SECONDS = 120
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SHIM = '#!/bin/sh\nexec "{python}" -m hsichunk "$@"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the command `hsichunk` of this checkout on the path."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "hsichunk"
    command.write_text(SHIM.format(python=sys.executable))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def run_shell(code: str) -> str:
    done = subprocess.run(["sh", "-e", "-c", code], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_python(code: str, page: str, names: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, page, "exec"), names)
    plt.close("all")
    return printed.getvalue()


def check(step: Step, printed: str) -> None:
    if step.output is not None:
        assert doctest.OutputChecker().check_output(step.output, printed, LENIENT), f"{step.code}\nprinted\n{printed}"


@pytest.mark.parametrize("page", TUTORIALS)
def test_tutorials_run_as_written(page: str, folder: Path) -> None:
    names: dict[str, Any] = {}
    done = 0
    for step in steps(TEXTS[page]):
        if any(module in step.code for module in ELSEWHERE):
            continue
        check(step, run_shell(step.code) if step.language == "sh" else run_python(step.code, page, names))
        done += 1
    assert done >= 3
    assert any(folder.iterdir())


def test_wrong_output_is_noticed() -> None:
    step = Step("python", "print(1)", "2\n")
    with pytest.raises(AssertionError, match="printed"):
        check(step, run_python(step.code, "a page", {}))


def test_a_failing_command_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no such thing"):
        run_shell("echo no such thing >&2; false; true")
