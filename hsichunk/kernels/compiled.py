"""How the loops of this folder are compiled, and when their machine code on disk is no longer theirs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from numba import njit


def _digest(folder: Path) -> str:
    """One value for all sources of a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


SOURCES = _digest(Path(__file__).parent)


def compiled(**options: Any) -> Any:
    """Decorator of a kernel: numba's njit without the interpreter's lock, kept on disk until any kernel changes.

    numba looks at the file that a kernel stands in, not at those whose constants, loops and blocks are compiled into
    it: a change of them alone would leave old machine code at work. So what numba knows a file by has the digest of
    all sources beside it.
    """

    def compile_later(function: Any) -> Any:
        kernel = njit(nogil=True, cache=True, **options)(function)
        index: Any = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
        if hasattr(index, "_source_stamp"):
            index._source_stamp = (index._source_stamp, SOURCES)
        return kernel

    return compile_later
