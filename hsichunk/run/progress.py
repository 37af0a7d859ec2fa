"""Call a function several times a second from a thread of its own, to tell how far a pass has come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TICK = 0.2  # seconds


@contextmanager
def ticking(tell: Callable[[], None]) -> Iterator[None]:
    """Calls `tell` five times a second from a thread of its own, for work that only counts how far it is."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(_TICK):
            tell()

    thread = threading.Thread(target=tick, name="hsichunk-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
