"""Resident memory: block sizes that modules share, measurements, and settings of the C library's allocator."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 32 << 20
"""bytes of pixels in one dask block of an image, whatever file it lies in"""
SPECTRA_BYTES: Final = 64 << 20
"""bytes of whole spectra in one dask block of an image that had to be rechunked to them"""
GDAL_CACHE: Final = 16 << 20
"""bytes of GDAL's cache, for reading and writing; GDAL would take 5 % of the machine, and 64 MiB are no faster"""

# options of glibc's mallopt, from malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MAPPED = 16 << 20  # bytes from which a block is mapped on its own; a decoded chunk is smaller
_SMALL = 128 << 10  # the same in `map_large_blocks`
_FREE = 64 << 20  # bytes that may be free at the end of the heap before they are given back


def peak() -> int:
    """Return the largest number of resident bytes of this process so far."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        # not ru_maxrss where it can be avoided: it counts what the parent held when it started this process
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident() -> int | None:
    """Return the resident bytes of this process now, or None on systems other than Linux, which do not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def use_one_heap() -> None:
    """Make the C library keep decoded chunks in one heap, where the next chunk takes the place of the last.

    If each chunk were mapped on its own, as glibc does by default, its pages would fault anew, which adds a third to
    the time of inflating a band-chunked tile. With one heap a thread, another default, no thread could use what another
    has freed, which adds a sixth to the peak.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for option, value in ((_M_MMAP_THRESHOLD, _MAPPED), (_M_TRIM_THRESHOLD, _FREE), (_M_ARENA_MAX, 1)):
            library.mallopt(option, value)


def map_large_blocks() -> None:
    """Make the C library map each large block on its own from here on, and give it back when it is freed.

    This is for work that takes blocks of many sizes, which would leave holes in a heap.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            library.mallopt(option, _SMALL)


def release() -> None:
    """Give freed heap back to the system where the C library can; glibc keeps it otherwise, in an arena a thread."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
