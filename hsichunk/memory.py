"""Resident memory: sizes that modules share, how much there was and is, an allocator that gives back what is free."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 32 << 20
"""of pixels in one dask block of an image, whatever file it lies in"""
SPECTRA_BYTES: Final = 64 << 20
"""of whole spectra in a block of an image that had to be rechunked to them"""
GDAL_CACHE: Final = 16 << 20
"""bytes of GDAL's cache, for reading and writing; GDAL would take 5 % of the machine, and 64 MiB are no faster"""

# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MAPPED = 16 << 20  # bytes from which a block is mapped on its own; a decoded chunk is smaller
_SMALL = 128 << 10
_KEPT = 64 << 20  # bytes free at the end of the heap before they are given back


def peak() -> int:
    """Most resident bytes of this process so far."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        # ru_maxrss counts what the parent held when it started this process
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held() -> int | None:
    """Resident bytes of this process now; None where the system does not tell (other than Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def steady() -> None:
    """Has the C library keep decoded chunks in one heap, where the next takes the place of the last.

    Mapped one by one, each costs its page faults anew: a third more than inflating a band-chunked tile takes. In a heap
    a thread, as glibc has it, what one thread gave back the others do not find: a sixth more at the peak.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for option, value in ((_M_MMAP_THRESHOLD, _MAPPED), (_M_TRIM_THRESHOLD, _KEPT), (_M_ARENA_MAX, 1)):
            library.mallopt(option, value)


def thrifty() -> None:
    """Has the C library map each large block on its own from here on, and give it back when it is freed.

    For work that takes blocks of many sizes, which leave holes in a heap.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            library.mallopt(option, _SMALL)


def release() -> None:
    """Gives freed heap back to the system where the C library can (glibc keeps it, an arena a thread, otherwise)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
