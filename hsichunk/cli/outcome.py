"""How a command ends: an exit status, and one line for each error and warning."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any

import typer


def do(work: Callable[[], None], debug: bool) -> None:
    """Runs a command: errors become one line and an exit status, warnings one line each."""
    # only the search for endmembers uses BLAS, on one thread: its pools would take memory and spin. Before numpy.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    import warnings

    from hsichunk.errors import HsiError, HsiWarning, OptionError

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
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
        except Exception as error:  # a fault of ours: still one line
            _end(f"unexpected {type(error).__name__}: {error}; --debug shows where", 1, debug)


def say(message: str) -> None:
    typer.echo(f"hsichunk: {' '.join(message.split())}", err=True)


def _end(message: str, status: int, debug: bool) -> None:
    if debug:
        raise  # what is being handled: this is called from except blocks only
    say(message)
    raise typer.Exit(status)


def stop(*_: Any) -> None:
    """Ends at once, as a kill would: what is stored is safe, and unwinding an interrupted import can lock up."""
    lines = "hsichunk: stopped; the same command goes on where it was\n"
    if sys.stderr.isatty():
        lines = f"\n\x1b[?25h{lines}"  # below the bars, and with the cursor that they hide
    os.write(2, lines.encode())
    os._exit(130)


def leave(status: int) -> None:
    """Ends without taking the interpreter apart, which takes a quarter of a second and saves nothing."""
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads
        status = status or 1
    os._exit(status)
