"""Chunks that the sample has decoded, kept for the pass where memory allows: those are not decoded twice."""

from __future__ import annotations

import threading
from typing import Any

from numpy.typing import NDArray

Place = tuple[int, ...]


class KeptChunks:
    """Decoded chunks of one stored array, up to `room` bytes; first filled, then emptied. Thread-safe."""

    def __init__(self, room: int = 0) -> None:
        self._room = room
        self._chunks: dict[Place, NDArray[Any]] = {}
        self._filling = True
        self._lock = threading.Lock()
        self.chunks = 0
        """taken so far"""
        self.bytes = 0

    def offer(self, place: Place, chunk: NDArray[Any]) -> None:
        """Keeps a chunk if there is room."""
        with self._lock:
            if self._filling and place not in self._chunks and chunk.nbytes <= self._room:
                self._chunks[place] = chunk
                self._room -= chunk.nbytes

    def take(self, place: Place) -> NDArray[Any] | None:
        """The chunk if it is kept; once `full`, it is kept no longer."""
        with self._lock:
            chunk = self._chunks.get(place) if self._filling else self._chunks.pop(place, None)
            if chunk is not None:
                self.chunks += 1
                self.bytes += chunk.nbytes
            return chunk

    def full(self) -> None:
        """From here on chunks are taken only."""
        self._filling = False

    def clear(self) -> None:
        """Lets go of the rest."""
        with self._lock:
            self._chunks.clear()
            self._room = 0
