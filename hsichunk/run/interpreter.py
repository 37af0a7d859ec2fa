"""Settings of the interpreter that suit a run and change it for all else in the process.

Only processes that do nothing but a run are `dedicated`: the command line enters it, and so do the workers of a cluster
that a run has started itself. Called from Python, a run leaves the interpreter of its caller as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH = 2e-4  # seconds
_PROCESS = {"dedicated": False}


@contextmanager
def dedicated() -> Iterator[None]:
    """Say that this process does nothing else, so that `loading` may change its settings."""
    before, _PROCESS["dedicated"] = _PROCESS["dedicated"], True
    try:
        yield
    finally:
        _PROCESS["dedicated"] = before


@contextmanager
def loading() -> Iterator[None]:
    """In a dedicated process, what suits libraries that load beside the first reading; nothing in any other.

    A thread that inflates needs the interpreter for a moment per chunk, and would wait 5 ms for it each time: the
    interval between switches is SWITCH. numba looks for the BLAS of SciPy, which no kernel here calls and which takes
    0.2 s and 20 MB: `scipy.linalg` is not to be found. Both are as before at the end.
    """
    if not _PROCESS["dedicated"]:
        yield
        return
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    sys.modules.setdefault("scipy.linalg", None)  # type: ignore[arg-type]  # None: an import of it fails
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if sys.modules.get("scipy.linalg", sys) is None:
            del sys.modules["scipy.linalg"]
