"""End commands with an exit status, and one line for each error and warning."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import TextIO

import typer


def do(work: Callable[[], None], debug: bool) -> None:
    """Run a command: errors become one line and an exit status, warnings one line each."""
    # only the search for endmembers uses BLAS, and on one thread: pools of threads would take memory and spin. NumPy is
    # not imported yet, and BLAS reads these variables when it is.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    import warnings

    from hsichunk.errors import HsiError, HsiWarning, OptionError

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, HsiWarning):
            say(f"note: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", HsiWarning)
        try:
            work()
        except (typer.Exit, BrokenPipeError):
            raise
        except OptionError as error:
            _end(str(error), 2, debug)
        except HsiError as error:
            _end(str(error), 1, debug)
        except MemoryError:
            _end("out of memory; give a smaller --memory", 1, debug)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _end(f"{where}{error.strerror or error}", 1, debug)
        except Exception as error:  # a fault of the program, which users see as one line, too
            _end(f"unexpected {type(error).__name__}: {error}; --debug shows where", 1, debug)


def say(message: str) -> None:
    """Print a message on the standard error, on one line."""
    typer.echo(f"hsichunk: {' '.join(message.split())}", err=True)


def _end(message: str, status: int, debug: bool) -> None:
    """End the command with a message. Called in except blocks alone: with `debug` it raises the error again."""
    if debug:
        raise
    say(message)
    raise typer.Exit(status)


def stop(signum: int, frame: FrameType | None) -> None:
    """End at once, as a kill would, on Ctrl-C: stored data are safe, and unwinding an interrupted import can hang."""
    lines = "hsichunk: stopped; the same command goes on where it was\n"
    if sys.stderr.isatty():
        lines = f"\n\x1b[?25h{lines}"  # below the bars, and with the cursor that they hide
    os.write(2, lines.encode())
    os._exit(130)


def leave(status: int) -> None:
    """End the process without finalizing the interpreter, which would take a quarter of a second and save nothing."""
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the reader of the output is gone
        status = status or 1
    os._exit(status)
