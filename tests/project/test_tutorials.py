"""Tutorials of the documentation: their blocks run as written, one after the other, and print what stands there."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hsichunk.readers import formats
from hsichunk.readers.model import ReadOptions
from tests.helpers import conformance
from tests.helpers.pages import ROOT, TEXTS, TUTORIALS, Step, steps

pytestmark = pytest.mark.long
ELSEWHERE = ("dask_jobqueue",)  # needs a Slurm cluster; tests/run/test_cluster.py runs it on a stand-in
SECONDS = 120
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SHIMS = {"hsichunk": '"{python}" -m hsichunk', "python": '"{python}"'}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, where a page may save and import modules and register formats.

    The commands `python` and `hsichunk` are on the path, with the packages of this interpreter and of this checkout.
    """
    work, commands = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    commands.mkdir()
    for name, words in SHIMS.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {words.format(python=sys.executable)} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(formats, "FORMATS", [*formats.FORMATS])
    monkeypatch.syspath_prepend(work)
    monkeypatch.chdir(work)
    yield work
    for name in [path.stem for path in work.glob("*.py")]:
        sys.modules.pop(name, None)


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
        if step.file:
            (folder / step.file).write_text(step.code)
            continue
        check(step, run_shell(step.code) if step.language == "sh" else run_python(step.code, page, names))
        done += 1
    assert done >= 3
    assert any(folder.iterdir())


def test_the_reader_of_the_tutorial_keeps_the_contract(folder: Path, tmp_path: Path) -> None:
    """The page says that the tests check its array."""
    [step] = [step for step in steps(TEXTS["reader.md"]) if step.file == "raw_cube.py"]
    (folder / step.file).write_text(step.code)
    raw_cube = importlib.import_module("raw_cube")
    truth = np.random.default_rng(0).integers(0, 9000, (37, 11, 13)).astype(">i2")
    header = {"shape": truth.shape, "dtype": truth.dtype.str, "scale": 10000, "no_data": -9999}

    def make(place: Path) -> conformance.Storage:
        path = place / "a.cube"
        path.write_bytes(truth.tobytes())
        path.with_suffix(".json").write_text(json.dumps(header | {"wavelength_nm": list(range(400, 413))}))

        def change() -> None:
            before = os.stat(path)
            path.write_bytes(truth[::-1].tobytes())
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))

        return conformance.Storage(lambda: raw_cube.read(str(path), ReadOptions()).reflectance, truth, change, None)

    (tmp_path / "arrays").mkdir()
    conformance.run(make, tmp_path / "arrays")


def test_wrong_output_is_noticed() -> None:
    step = Step("python", "print(1)", "2\n")
    with pytest.raises(AssertionError, match="printed"):
        check(step, run_python(step.code, "a page", {}))


def test_a_failing_command_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no such thing"):
        run_shell("echo no such thing >&2; false; true")
