"""Change settings of the interpreter that slow a run down, in processes that do nothing but a run.

The settings hold for everything in the process. Only the command line, and the workers of a cluster that a run has
started itself, enter `dedicated`. A run that is called from Python leaves the interpreter of its caller as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH = 2e-4  # seconds between switches of threads
_PROCESS = {"dedicated": False}


@contextmanager
def dedicated() -> Iterator[None]:
    """Mark this process as one that does nothing but a run, so that `loading` may change its settings."""
    before, _PROCESS["dedicated"] = _PROCESS["dedicated"], True
    try:
        yield
    finally:
        _PROCESS["dedicated"] = before


@contextmanager
def loading() -> Iterator[None]:
    """Set what suits libraries that load beside the first reading, in a dedicated process; do nothing in any other.

    A thread that inflates needs the interpreter for a moment per chunk, and would wait 5 ms for it each time: the
    interval between switches becomes SWITCH. numba imports the BLAS of SciPy, which no kernel here calls and which
    takes 0.2 s and 20 MB: imports of `scipy.linalg` fail. Both settings are restored at the end.
    """
    if not _PROCESS["dedicated"]:
        yield
        return
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    sys.modules.setdefault("scipy.linalg", None)  # type: ignore[arg-type]  # None makes an import fail
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if sys.modules.get("scipy.linalg", sys) is None:
            del sys.modules["scipy.linalg"]
