"""Work in children: what it gives, says and raises, and that a crash or a loop of it is one line and no more."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from hsichunk.errors import CorruptChunk, HsiError, HsiWarning
from hsichunk.mosaic.child_process import contained, contained_each

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def double(name: str, value: Any) -> Any:
    return value * 2


def misbehave(name: str, how: str) -> str:
    """Does what its second argument says."""
    deeds: dict[str, Callable[[], Any]] = {
        "crash": lambda: ctypes.string_at(0),
        "abort": os.abort,
        "loop": lambda: [None for _ in iter(int, 1)],
        "leave": lambda: os._exit(7),
        "refuse": lambda: (_ for _ in ()).throw(CorruptChunk(f"{name}: refused")),
        "warn": lambda: warnings.warn(f"{name}: careful", HsiWarning, stacklevel=1),
        "other warning": lambda: warnings.warn("of no interest", DeprecationWarning, stacklevel=1),
        "memory": lambda: np.ones(200 << 20, np.uint8),
        "work": lambda: None,
    }
    deeds[how]()
    return f"{name} {how}"


def children() -> set[int]:
    """Of this process: those that other tests have left, too."""
    return {child.pid for child in psutil.Process().children()}


def descriptors() -> set[tuple[str, str]]:
    """Number and target of each open descriptor of this process; none where the system does not list them."""
    found = set()
    for number in os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else ():
        with contextlib.suppress(OSError):  # that of the listing itself
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


@pytest.fixture(autouse=True)
def all_reaped() -> Any:
    """Each test leaves neither a child nor an open descriptor of its own; others may close theirs meanwhile."""
    gc.collect()  # what other tests have left open is closed before it is counted
    before, opened = children(), descriptors()
    yield
    assert children() <= before
    assert descriptors() <= opened


def test_a_value_comes_back_whole() -> None:
    big = np.arange(3_000_000)
    np.testing.assert_array_equal(contained(double, ("a", big), 20), big * 2)
    assert contained(os.getpid, (), 20) != os.getpid()
    assert contained(double, ("a", ""), 20) == ""


def test_an_error_comes_back_as_what_it_is() -> None:
    with pytest.raises(CorruptChunk, match=r"x\.h5: refused"):
        contained(misbehave, ("x.h5", "refuse"), 20)
    with pytest.raises(KeyError, match="fly"):
        contained(misbehave, ("x.h5", "fly"), 20)


def test_a_child_does_not_take_all_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("what a process holds is not known here")
    assert contained(misbehave, ("x.h5", "memory"), 20) == "x.h5 memory"
    monkeypatch.setattr("hsichunk.mosaic.child_process.MOST_MEMORY", 50 << 20)
    with pytest.raises(MemoryError):
        contained(misbehave, ("x.h5", "memory"), 20)


def test_a_warning_is_given_here() -> None:
    with pytest.warns(HsiWarning, match=r"x\.h5: careful") as caught:
        assert contained(misbehave, ("x.h5", "warn"), 20) == "x.h5 warn"
    assert len(caught) == 1
    assert contained(misbehave, ("x.h5", "other warning"), 20) == "x.h5 other warning"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("crash", "x.h5: crashed the HDF5 library .SIGSEGV."),
        ("abort", "x.h5: crashed the HDF5 library .SIGABRT."),
        ("leave", "x.h5: crashed the HDF5 library .ended."),
        ("loop", r"x.h5: HDF5 did not end within 0.4 s"),
    ],
)
def test_a_death_is_one_line_that_names_the_file(how: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HsiError, match=words) as caught:
        contained(misbehave, ("x.h5", how), 0.4 if how == "loop" else 20)
    assert "\n" not in str(caught.value)
    assert "download it again" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_pickled_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"lock"):
        contained(threading.Lock, (), 20)


@pytest.mark.parametrize("children", [1, 2, 5, 40])
def test_those_beside_a_bad_one_go_on(children: int) -> None:
    deeds = ["work", "crash", "work", "warn", "loop", "abort", "refuse", "crash", "work", "work", "leave"]
    jobs = [(f"{number}.h5", deed) for number, deed in enumerate(deeds)]
    outcomes = contained_each(misbehave, jobs, 0.5, children)
    assert len(outcomes) == len(deeds)
    for (name, deed), outcome in zip(jobs, outcomes, strict=True):
        assert (outcome.error is None) == (deed in ("work", "warn")), deed
        assert outcome.warnings == ((f"{name}: careful",) if deed == "warn" else ())
        if outcome.error is None:
            assert outcome.value == f"{name} {deed}"
        else:
            assert name in str(outcome.error)


def test_each_job_has_the_whole_time() -> None:
    outcomes = contained_each(lambda name: time.sleep(0.25), [("a",), ("b",), ("c",)], 0.6, 1)
    assert [outcome.error for outcome in outcomes] == [None] * 3


def test_no_job_is_no_child() -> None:
    assert contained_each(double, [], 1, 3) == []


def test_without_fork_it_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert contained(os.getpid, (), 20) == os.getpid()
    with pytest.warns(HsiWarning, match="careful"):
        contained(misbehave, ("x.h5", "warn"), 20)
    with pytest.raises(CorruptChunk):
        contained(misbehave, ("x.h5", "refuse"), 20)


def test_it_works_beside_threads_and_from_them() -> None:
    stop = threading.Event()
    busy = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in busy:
        thread.start()
    found: list[Any] = []
    jobs = [(str(n), "work") for n in range(6)]
    workers = [threading.Thread(target=lambda: found.append(contained_each(misbehave, jobs, 20, 2))) for _ in range(4)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    for thread in busy:
        thread.join()
    assert [[o.value for o in outcomes] for outcomes in found] == [[f"{n} work" for n in range(6)]] * 4


def test_a_child_leaves_the_parents_exit_and_output_alone(tmp_path: Path) -> None:
    """Text that waits in a buffer is written once, and what runs at exit runs once, also after an interrupt."""
    script = f"""
import atexit, os, signal, sys, threading, time
from hsichunk.mosaic.child_process import contained, contained_each
def ends():
    with open({str(tmp_path / "exits")!r}, "a") as file:
        file.write("x")
atexit.register(ends)
sys.stdout.write("once ")
contained(len, ("abc",), 20)
try:
    contained(sys.exit, (3,), 20)
except Exception as error:
    print(error)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    contained_each(time.sleep, [(30,), (30,)], 60, 2)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 10)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("none left")
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    assert ended.stdout.split("\n")[0].startswith("once 3: crashed")
    assert ended.stdout.split("\n")[1:] == ["interrupted True", "none left", ""]
    assert (tmp_path / "exits").read_text() == "x"
