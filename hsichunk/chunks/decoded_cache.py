"""Chunks that the sample has decoded, kept for the pass where memory allows: those are not decoded twice."""

from __future__ import annotations

import threading
from typing import Any

from numpy.typing import NDArray

ChunkCoords = tuple[int, ...]


class KeptChunks:
    """Decoded chunks of one stored array, up to `room` bytes; first filled, then emptied. Thread-safe."""

    def __init__(self, room: int = 0) -> None:
        self._room = room
        self._chunks: dict[ChunkCoords, NDArray[Any]] = {}
        self._lock = threading.Lock()
        self.chunks = 0
        """not decoded again so far"""
        self.bytes = 0

    def offer(self, coords: ChunkCoords, chunk: NDArray[Any]) -> None:
        """Keeps a chunk if there is room."""
        with self._lock:
            if coords not in self._chunks and chunk.nbytes <= self._room:
                self._chunks[coords] = chunk
                self._room -= chunk.nbytes

    def look(self, coords: ChunkCoords) -> NDArray[Any] | None:
        """The chunk if it is kept."""
        with self._lock:
            return self._counted(self._chunks.get(coords))

    def take(self, coords: ChunkCoords) -> NDArray[Any] | None:
        """The chunk if it is kept, which it is no longer: for the last that needs it."""
        with self._lock:
            return self._counted(self._chunks.pop(coords, None))

    def _counted(self, chunk: NDArray[Any] | None) -> NDArray[Any] | None:
        if chunk is not None:
            self.chunks += 1
            self.bytes += chunk.nbytes
        return chunk

    def close(self, most: int | None = None) -> None:
        """Keeps no more than there are, and of those no more than `most` bytes."""
        with self._lock:
            self._room = 0
            over = 0 if most is None else sum(chunk.nbytes for chunk in self._chunks.values()) - most
            while over > 0:
                over -= self._chunks.popitem()[1].nbytes
