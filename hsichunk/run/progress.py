"""Report the progress of a pass several times a second, from a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TICK = 0.2  # seconds


@contextmanager
def ticking(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` five times a second while the block runs, from a thread of its own.

    For work that counts what it has done and does not call a callback itself.
    """
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(_TICK):
            tell()

    thread = threading.Thread(target=tick, name="hsichunk-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
