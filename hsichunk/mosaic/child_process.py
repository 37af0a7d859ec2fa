"""Work that may crash this process or never end, done in children of it: HDF5 does both on damaged metadata.

A child is a fork: nothing is imported anew, and it costs milliseconds. Where there is no fork the work is done in
process, uncontained.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import selectors
import signal
import struct
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from hsichunk.errors import HsiError, HsiWarning

R = TypeVar("R")

MOST_MEMORY = 4 << 30  # bytes that a child may take beside what it shares with its parent
_LENGTH = struct.Struct("<Q")
_forking = threading.Lock()  # a child must not inherit the pipe of another that is just being made: it would never end


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What came of a piece of work: its value or its error, and the warnings (HsiWarning) that it gave."""

    value: R | None = None
    error: Exception | None = None
    warnings: tuple[str, ...] = ()

    def warn(self) -> None:
        """Gives the warnings again, here."""
        for message in self.warnings:
            warnings.warn(message, HsiWarning, stacklevel=3)

    def result(self) -> R:
        """The value, after the warnings; raises the error instead."""
        self.warn()
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only where R is


def contained(function: Callable[..., R], args: Sequence[Any], seconds: float) -> R:
    """`function(*args)`, done in a child that has `seconds` for it. What it returns or raises must pickle.

    Raises what `function` raises; HsiError, naming the first argument, where the child crashes or does not end.
    """
    return contained_each(function, [args], seconds, 1)[0].result()


def contained_each(
    function: Callable[..., R], jobs: Sequence[Sequence[Any]], seconds: float, children: int
) -> list[Outcome[R]]:
    """`function(*job)` of every job, in at most so many children at a time, each job with `seconds` of its own.

    The job that a child dies of has an HsiError as its outcome; another child goes on with the rest.
    """
    if not hasattr(os, "fork"):
        return [_attempt(function, job) for job in jobs]
    done: dict[int, Outcome[R]] = {}
    at_work: dict[int, _Child] = {}

    def start(numbers: list[int]) -> None:
        if numbers:
            child = _start(function, jobs, numbers, seconds)
            at_work[child.pipe] = child
            waiting.register(child.pipe, selectors.EVENT_READ)

    with selectors.DefaultSelector() as waiting:
        try:
            for first in range(min(children, len(jobs))):
                start(list(range(first, len(jobs), children)))
            while at_work:
                for key, _ in waiting.select():
                    child = at_work[key.fd]
                    outcome = child.receive()
                    if outcome is not None:
                        done[child.left.pop(0)] = outcome
                        continue
                    waiting.unregister(child.pipe)
                    del at_work[child.pipe]
                    ended = child.end()
                    if child.left:
                        number = child.left.pop(0)
                        done[number] = Outcome(error=_death(jobs[number][0], ended, seconds))
                        start(child.left)
        finally:
            for child in at_work.values():
                child.end()
    return [done[number] for number in range(len(jobs))]


@dataclass
class _Child:
    """A child at work, seen from its parent."""

    pid: int
    pipe: int
    left: list[int]
    """numbers of the jobs that it has not reported on, in its order"""

    def receive(self) -> Any:
        """The next outcome; None where the child has ended, or died in the middle of one."""
        head = self._read(_LENGTH.size)
        body = head and self._read(_LENGTH.unpack(head)[0])
        return pickle.loads(body) if body else None

    def _read(self, size: int) -> bytes:
        parts = []
        while size and (part := os.read(self.pipe, min(size, 1 << 20))):
            parts.append(part)
            size -= len(part)
        return b"" if size else b"".join(parts)

    def end(self) -> int | None:
        """Kills the child if it still runs, and reaps it: the number of the signal that it died of, if it did."""
        os.close(self.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # of no effect on one that is dying: the cause of its death is set
        try:
            status = os.waitpid(self.pid, 0)[1]
        except ChildProcessError:  # this process has asked the system to reap its children
            return None
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def _start(function: Callable[..., Any], jobs: Sequence[Sequence[Any]], numbers: list[int], seconds: float) -> _Child:
    with _forking:
        read, write = os.pipe()
        try:
            with warnings.catch_warnings():  # Python 3.12 and later: forked while threads run
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
                if pid == 0:
                    _work(function, [jobs[number] for number in numbers], seconds, read, write)
        except OSError as error:
            os.close(read)
            raise HsiError(f"no process can be started ({error.strerror}); end some others") from error
        finally:
            os.close(write)
    return _Child(pid, read, list(numbers))


def _work(
    function: Callable[..., Any], jobs: Sequence[Sequence[Any]], seconds: float, read: int, write: int
) -> NoReturn:
    """Runs in the child: reports after each job and exits with os._exit, so that no finalizer of the parent runs."""
    status = 1
    try:
        os.close(read)
        _settle()
        for job in jobs:
            signal.setitimer(signal.ITIMER_REAL, seconds)  # the system ends it, whatever loop it is in
            outcome = _attempt(function, job)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(write, outcome)
        status = 0
    finally:
        os._exit(status)


def _settle() -> None:
    """Makes the fork a process that can die quietly: no core, no last words, no finalizers, not all of the memory."""
    gc.disable()
    faulthandler.disable()
    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", "rb") as file:
            shared = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_AS, (shared + MOST_MEMORY, hard))


def _attempt(function: Callable[..., R], job: Sequence[Any]) -> Outcome[R]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value, failed = None, None
        try:
            value = function(*job)
        except Exception as error:
            failed = error
    said = tuple(str(warning.message) for warning in caught if issubclass(warning.category, HsiWarning))
    return Outcome(value, failed, said)


def _send(pipe: int, outcome: Outcome[Any]) -> None:
    if outcome.error is not None:  # what it came from need not pickle, and is not told
        outcome.error.__cause__ = outcome.error.__context__ = None
    try:
        body = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # of an outcome that cannot be told, why it cannot
        body = pickle.dumps(Outcome(error=TypeError(f"{outcome.error or outcome.value!r}: {error}")))
    left = memoryview(_LENGTH.pack(len(body)) + body)
    while left:
        left = left[os.write(pipe, left) :]


def _death(name: Any, number: int | None, seconds: float) -> HsiError:
    if number == signal.SIGALRM:
        return HsiError(f"{name}: HDF5 did not end within {seconds:g} s on its metadata; download it again")
    how = "ended" if number is None else signal.Signals(number).name
    return HsiError(f"{name}: crashed the HDF5 library ({how}), its metadata are damaged; download it again")
