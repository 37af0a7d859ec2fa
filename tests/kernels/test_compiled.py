"""Machine code on disk is used again until a source of any kernel changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "hsichunk"
CODE = """
import numpy as np
from hsichunk.kernels import shifted_counts
low, high = np.full(2, 9), np.full(2, -9)
shifted_counts.widen_range(np.zeros((2, 3), np.int16), -1, low, high)
stats = shifted_counts.widen_range.stats
print(shifted_counts.__file__)
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def hits_and_misses(folder: Path) -> str:
    """Of the cache, in a new process that takes the package from a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder)
    where, found = done.stdout.splitlines()
    assert Path(where).is_relative_to(folder)
    return found


def test_a_change_of_any_source_compiles_anew(tmp_path: Path) -> None:
    copy = tmp_path / "hsichunk"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert hits_and_misses(tmp_path) == "0 1"
    assert hits_and_misses(tmp_path) == "1 0"
    with open(copy / "kernels" / "llvm_blocks.py", "a", encoding="utf-8") as file:
        file.write("# another file than the kernel's\n")
    assert hits_and_misses(tmp_path) == "0 1"
    assert hits_and_misses(tmp_path) == "1 0"
