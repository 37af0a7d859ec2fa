"""One pool of threads a process for inflating and summing: tasks times inner threads stay within what was asked for."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")


def available() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _pool(threads: int, pid: int) -> ThreadPoolExecutor:
    del pid  # a pool does not survive a fork: the key makes a new one in the child
    return ThreadPoolExecutor(threads, thread_name_prefix="hsichunk")


def in_parallel(work: Callable[[T], R], jobs: Iterable[T], threads: int) -> list[R]:
    """`work` of every job, on at most `threads` threads of the process; the first error ends the rest.

    Jobs are leaves: they never call this themselves, so waiting for them cannot lock up.
    """
    jobs = list(jobs)
    if threads <= 1 or len(jobs) <= 1:
        return [work(job) for job in jobs]
    futures = [_pool(threads, os.getpid()).submit(work, job) for job in jobs]
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        for future in futures:  # nothing of ours may still write into arrays that the caller gives up
            with contextlib.suppress(BaseException):
                future.result()
        raise


def asked_for() -> int:
    """Threads that one task may keep busy: a dask worker's own number, dask's `num_workers`, or every processor.

    Tasks that run side by side share one pool of this size, so their sum stays within it too.
    """
    import sys

    import dask

    if dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
        return 1
    if "distributed" in sys.modules:
        from distributed import get_worker

        with contextlib.suppress(ValueError):
            return int(get_worker().state.nthreads)
    return int(dask.config.get("num_workers", None) or available())


_local = threading.local()


def of_this_thread(name: str) -> dict[Any, Any]:
    """A dictionary that this thread keeps under a name."""
    kept: dict[Any, Any] = _local.__dict__.setdefault(name, {})
    return kept


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Working space of this thread, used again by the next call; its content is whatever was left."""
    held = of_this_thread("scratch")
    size = math.prod(shape)
    if name not in held or held[name].size < size or held[name].dtype != dtype:
        held[name] = np.empty(size, dtype)
    space: NDArray[Any] = held[name][:size].reshape(shape)
    return space
