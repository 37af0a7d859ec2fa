"""The command `hsichunk`."""

from __future__ import annotations

import gc
import signal

from hsichunk.cli import endmember_commands, result_commands, run_commands
from hsichunk.cli.app import app
from hsichunk.cli.outcome import leave, stop

__all__ = ["app", "main"]

_ = run_commands, endmember_commands, result_commands  # their commands are registered


def main() -> None:
    """Entry point of the command `hsichunk`."""
    signal.signal(signal.SIGINT, stop)
    gc.set_threshold(100_000, 20, 1000)  # what modules are made of is no garbage: to look through it takes 0.2 s a time
    try:
        app(prog_name="hsichunk")
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else int(end.code is not None))
