"""The decorator that compiles the kernels, and discards their machine code on disk when any source changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def _digest(folder: Path) -> str:
    """Return one hash over all Python sources of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


SOURCES = _digest(Path(__file__).parent)


def compiled(
    *, error_model: Literal["python", "numpy"] = "python", fastmath: bool | set[str] = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that compiles a kernel with numba, releases the interpreter's lock and caches on disk.

    numba's cache watches only the file in which a kernel is defined, but constants, loops and blocks of other files are
    compiled into it. Old machine code would stay in use after a change in one of those. The stamp by which the cache
    knows a file therefore includes the digest of all sources in this folder.
    """

    def compile_later(function: Callable[P, R]) -> Callable[P, R]:
        kernel = njit(nogil=True, cache=True, error_model=error_model, fastmath=fastmath)(function)
        index = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
        if index is not None and hasattr(index, "_source_stamp"):
            index._source_stamp = (index._source_stamp, SOURCES)
        return kernel

    return compile_later
