"""Start the command `hsichunk`, with all its commands."""

from __future__ import annotations

import gc
import signal

from hsichunk.cli import endmember_commands, result_commands, run_commands
from hsichunk.cli.app import app
from hsichunk.cli.outcome import leave, stop

__all__ = ["app", "main"]

_ = run_commands, endmember_commands, result_commands  # importing them has registered their commands


def main() -> None:
    """Entry point of the command `hsichunk`."""
    signal.signal(signal.SIGINT, stop)
    gc.set_threshold(100_000, 20, 1000)  # imported modules are no garbage, and each search through them takes 0.2 s
    try:
        app(prog_name="hsichunk")
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else int(end.code is not None))
