"""Run functions in child processes, because HDF5 may crash or loop for ever on damaged metadata.

A child is a fork of this process, so it imports nothing anew and starts in milliseconds. On systems without fork the
functions run in this process, unprotected.
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
from typing import Generic, NoReturn, TypeVar, TypeVarTuple

from hsichunk.errors import HsiError, HsiWarning

R = TypeVar("R")
Args = TypeVarTuple("Args")

MOST_MEMORY = 4 << 30  # bytes that a child may allocate beside what it shares with its parent
_LENGTH = struct.Struct("<Q")
# A child that inherited the write end of another child's pipe would keep that pipe open after its owner's death.
_forking = threading.Lock()


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """The outcome of one call: its value or its error, and the warnings (HsiWarning) that it issued."""

    value: R | None = None
    error: Exception | None = None
    warnings: tuple[str, ...] = ()

    def warn(self) -> None:
        """Issue the warnings again, in this process."""
        for message in self.warnings:
            warnings.warn(message, HsiWarning, stacklevel=3)

    def result(self) -> R:
        """Issue the warnings, then return the value or raise the error."""
        self.warn()
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only where R is


def contained(function: Callable[[*Args], R], args: tuple[*Args], seconds: float) -> R:
    """Return `function(*args)`, run in a child that has `seconds` for it. Values and errors must pickle.

    Raises what `function` raises; HsiError, naming the first argument, where the child crashes or does not end in time.
    """
    return contained_each(function, [args], seconds, 1)[0].result()


def contained_each(
    function: Callable[[*Args], R], jobs: Sequence[tuple[*Args]], seconds: float, children: int
) -> list[Outcome[R]]:
    """Return the outcome of `function(*job)` for every job, in the order of `jobs`.

    At most `children` children run at a time, and each job has `seconds` of its own. A job that kills its child has an
    HsiError as its outcome; another child takes over the jobs that were still waiting.
    """
    if not hasattr(os, "fork"):
        return [_attempt(function, job) for job in jobs]
    outcomes: dict[int, Outcome[R]] = {}
    running: dict[int, _Child[R]] = {}

    def start(numbers: list[int]) -> None:
        if numbers:
            child = _start(function, jobs, numbers, seconds)
            running[child.pipe] = child
            selector.register(child.pipe, selectors.EVENT_READ)

    with selectors.DefaultSelector() as selector:
        try:
            for first in range(min(children, len(jobs))):
                start(list(range(first, len(jobs), children)))
            while running:
                for key, _ in selector.select():
                    child = running[key.fd]
                    outcome = child.receive()
                    if outcome is not None:
                        outcomes[child.pending.pop(0)] = outcome
                        continue
                    selector.unregister(child.pipe)
                    del running[child.pipe]
                    signal_number = child.end()
                    if child.pending:
                        number = child.pending.pop(0)
                        outcomes[number] = Outcome(error=_death(jobs[number], signal_number, seconds))
                        start(child.pending)
        finally:
            for child in running.values():
                child.end()
    return [outcomes[number] for number in range(len(jobs))]


@dataclass
class _Child(Generic[R]):
    """A running child, as its parent sees it."""

    pid: int
    pipe: int
    """file descriptor of the read end"""
    pending: list[int]
    """numbers of the jobs that the child has not reported on, in the order in which it runs them"""

    def receive(self) -> Outcome[R] | None:
        """Return the next outcome; None where the child has ended, or died while it was sending one."""
        head = self._read(_LENGTH.size)
        body = head and self._read(_LENGTH.unpack(head)[0])
        if not body:
            return None
        outcome: Outcome[R] = pickle.loads(body)
        return outcome

    def _read(self, size: int) -> bytes:
        """Return the next `size` bytes, or none at all where the pipe ends before them."""
        parts = []
        while size and (part := os.read(self.pipe, min(size, 1 << 20))):
            parts.append(part)
            size -= len(part)
        return b"" if size else b"".join(parts)

    def end(self) -> int | None:
        """Kill the child if it still runs and reap it; return the number of the signal that killed it, if one did."""
        os.close(self.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # has no effect on a dying child: the cause of its death is already set
        try:
            status = os.waitpid(self.pid, 0)[1]
        except ChildProcessError:  # this process has asked the system to reap its children
            return None
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def _start(
    function: Callable[[*Args], R], jobs: Sequence[tuple[*Args]], numbers: list[int], seconds: float
) -> _Child[R]:
    """Fork a child that runs the jobs of some numbers, one after the other."""
    with _forking:
        read, write = os.pipe()
        try:
            with warnings.catch_warnings():  # Python 3.12 and later warn of a fork while threads run
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
                if pid == 0:
                    _run_child(function, [jobs[number] for number in numbers], seconds, read, write)
        except OSError as error:
            os.close(read)
            raise HsiError(f"no process can be started ({error.strerror}); end some others") from error
        finally:
            os.close(write)
    return _Child(pid, read, list(numbers))


def _run_child(
    function: Callable[[*Args], R], jobs: Sequence[tuple[*Args]], seconds: float, read: int, write: int
) -> NoReturn:
    """Runs in the child: reports after each job and exits with os._exit, so that no finalizer of the parent runs."""
    status = 1
    try:
        os.close(read)
        _isolate()
        for job in jobs:
            signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process even in a loop inside HDF5
            outcome = _attempt(function, job)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(write, outcome)
        status = 0
    finally:
        os._exit(status)


def _isolate() -> None:
    """Let this child die without a trace: no core file, no output, no finalizers, and a bound on its memory."""
    gc.disable()
    faulthandler.disable()
    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", "rb") as file:
            shared = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_AS, (shared + MOST_MEMORY, hard))


def _attempt(function: Callable[[*Args], R], job: tuple[*Args]) -> Outcome[R]:
    """Return the outcome of one call, made in this process."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value, failure = None, None
        try:
            value = function(*job)
        except Exception as error:
            failure = error
    messages = tuple(str(warning.message) for warning in caught if issubclass(warning.category, HsiWarning))
    return Outcome(value, failure, messages)


def _send(pipe: int, outcome: Outcome[R]) -> None:
    """Write an outcome to the pipe: its length, then its pickle."""
    if outcome.error is not None:  # causes need not pickle, and no message shows them
        outcome.error.__cause__ = outcome.error.__context__ = None
    try:
        body = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # an outcome that does not pickle is reported as the reason why
        reason: Outcome[R] = Outcome(error=TypeError(f"{outcome.error or outcome.value!r}: {error}"))
        body = pickle.dumps(reason)
    unsent = memoryview(_LENGTH.pack(len(body)) + body)
    while unsent:
        unsent = unsent[os.write(pipe, unsent) :]


def _death(job: tuple[object, ...], signal_number: int | None, seconds: float) -> HsiError:
    """Return the error of a job whose child died of a signal; it names the job's first argument, a path."""
    name = job[0]
    if signal_number == signal.SIGALRM:
        return HsiError(f"{name}: HDF5 did not end within {seconds:g} s on its metadata; download it again")
    how = "ended" if signal_number is None else signal.Signals(signal_number).name
    return HsiError(f"{name}: crashed the HDF5 library ({how}), its metadata are damaged; download it again")
