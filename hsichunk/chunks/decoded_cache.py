"""Keep decoded chunks of the sample for the pass, as far as memory allows, so that they are not decoded twice."""

from __future__ import annotations

import threading

from hsichunk.array_types import Numbers

ChunkCoords = tuple[int, ...]
"""indices of a chunk in the grid of chunks, one for each dimension"""


class KeptChunks:
    """Decoded chunks of one stored array, up to `room` bytes; first filled, then emptied. Thread-safe."""

    def __init__(self, room: int = 0) -> None:
        self._room = room
        self._chunks: dict[ChunkCoords, Numbers] = {}
        self._lock = threading.Lock()
        self.chunks = 0
        """how many times a kept chunk has been handed out instead of being decoded"""
        self.bytes = 0
        """decoded bytes of these"""

    def offer(self, coords: ChunkCoords, chunk: Numbers) -> None:
        """Keep a chunk if there is room."""
        with self._lock:
            if coords not in self._chunks and chunk.nbytes <= self._room:
                self._chunks[coords] = chunk
                self._room -= chunk.nbytes

    def look(self, coords: ChunkCoords) -> Numbers | None:
        """Return the chunk if it is kept."""
        with self._lock:
            return self._counted(self._chunks.get(coords))

    def take(self, coords: ChunkCoords) -> Numbers | None:
        """Return the chunk if it is kept, and keep it no longer: for the last caller that needs it."""
        with self._lock:
            return self._counted(self._chunks.pop(coords, None))

    def _counted(self, chunk: Numbers | None) -> Numbers | None:
        if chunk is not None:
            self.chunks += 1
            self.bytes += chunk.nbytes
        return chunk

    def close(self, most: int | None = None) -> None:
        """Take no more chunks, and drop kept ones until they hold at most `most` bytes (None: drop none)."""
        with self._lock:
            self._room = 0
            excess = 0 if most is None else sum(chunk.nbytes for chunk in self._chunks.values()) - most
            while excess > 0:
                excess -= self._chunks.popitem()[1].nbytes
