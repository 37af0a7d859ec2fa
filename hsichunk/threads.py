"""One pool of threads a process for inflating and summing: tasks times inner threads stay within what was asked for."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import AnyArray

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S", bound=np.generic)


def available() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _pool(threads: int, pid: int) -> ThreadPoolExecutor:
    del pid  # a pool does not survive a fork: the key makes a new one in the child
    return ThreadPoolExecutor(threads, thread_name_prefix="hsichunk")


def in_parallel(work: Callable[[T], R], jobs: Iterable[T], threads: int) -> list[R]:
    """Return `work` of every job, done on at most `threads` threads of the process; the first error ends the rest.

    A job must not call this itself: then no job waits for a thread of the pool, and waiting for jobs cannot lock up.
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
        for future in futures:  # no job may still write into arrays that the caller gives up
            with contextlib.suppress(BaseException):
                future.result()
        raise


def asked_for() -> int:
    """Return the number of threads that one task may keep busy.

    It is a dask worker's own number of threads, else dask's `num_workers`, else every processor, and 1 with dask's
    scheduler of a single thread. Tasks that run side by side share one pool of this size, so that together they stay
    within it too.
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


class PerThread(threading.local, Generic[K, V]):
    """A dictionary, `items`, of which each thread has its own."""

    def __init__(self) -> None:  # runs once in every thread that uses the object
        self.items: dict[K, V] = {}


_SCRATCH: PerThread[str, AnyArray] = PerThread()


def scratch(name: str, shape: tuple[int, ...], dtype: type[S]) -> NDArray[S]:
    """Return working space of this thread, of some shape and type; its content is undefined.

    The next call with the same name gets the same memory, if that is large enough and of the same type.
    """
    size = math.prod(shape)
    space = _SCRATCH.items.get(name)
    if space is None or space.size < size or space.dtype != dtype:
        space = _SCRATCH.items[name] = np.empty(size, dtype)
    return space[:size].view(dtype).reshape(shape)  # the view tells type checkers the type
