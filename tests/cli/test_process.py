"""What a run costs before and beside its work: compiled kernels from the disk, one thread of BLAS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.tiles import small_tile

BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def child(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process whose environment does not say how many threads BLAS may have."""
    command = [sys.executable, "-c", code, *arguments]
    plain = {name: value for name, value in os.environ.items() if name not in BLAS}
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**plain, **environment})


def test_kernels_are_compiled_once_for_all_processes() -> None:
    code = "from hsichunk.unmixing.stored_pass import load_kernels; load_kernels()"
    child(code)
    said = child(code, NUMBA_DEBUG_CACHE="1").stdout.splitlines()
    assert sum("data loaded from" in line for line in said) >= 3
    assert not [line for line in said if "data saved" in line]


def test_blas_has_one_thread_before_it_is_loaded(tmp_path: Path) -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path, target=None):
        if name == "numpy":
            print("numpy", os.environ.get("OPENBLAS_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS"), file=sys.stderr)
sys.meta_path.insert(0, Watch())
from hsichunk.cli.main import main
main()
"""
    tile = small_tile(tmp_path / "tile.h5")
    said = child(code, "run", str(tile), "--out", str(tmp_path / "out")).stderr.splitlines()
    assert [line.split()[1] for line in said if line.startswith("numpy ")] == ["1"]
