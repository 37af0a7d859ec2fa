"""A command as a process of its own: seconds by the clock, processor seconds, most resident memory.

Linux counts the memory of whoever starts a process as that process's own peak, so a large parent would hide a small
child. This file is therefore its own launcher: run as a script it imports next to nothing, starts the command and says
what it took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """What a process took."""

    seconds: float
    cpu: float
    """seconds of processor time, all threads together"""
    peak: int
    """most resident bytes"""


def spend(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Spent:
    """Runs a command to its end, its output put away. Raises RuntimeError with its last words where it fails."""
    launcher = [sys.executable, "-I", "-S", __file__, *command]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(launcher, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {last}")
    said = json.loads(done.stdout)
    return Spent(said["seconds"], said["cpu"], said["peak"])


def _launch(command: list[str]) -> int:
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * unit}))
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(_launch(sys.argv[1:]))
