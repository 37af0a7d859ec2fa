"""Resident memory: how much there was, and an allocator that gives back what nobody holds."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

_M_MMAP_THRESHOLD = -3  # glibc's malloc.h
LARGE = 1 << 20


def peak() -> int:
    """Most resident bytes of this process so far."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        # ru_maxrss counts what the parent held when it started this process
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def steady() -> None:
    """Has the C library map each block of a MiB and more on its own, and so give it back when it is freed.

    glibc raises that limit to the largest block freed so far, up to 32 MiB, and from then on keeps such blocks, an
    arena a thread: a tenth more at the peak of a band-chunked tile, another tenth from one run to the next.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)


def release() -> None:
    """Gives freed heap back to the system where the C library can (glibc keeps it, an arena a thread, otherwise)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
