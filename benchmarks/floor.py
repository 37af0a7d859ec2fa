"""The floor under any pass over a tile: its stored chunks read and inflated, and nothing else.

Every chunk that holds a kept band is read with pread and inflated with isal, on some threads. The chunk index is read
before, as h5py alone can. Chunks go to threads in lots, into buffers of the right size: whatever a pass may do well,
its floor does too.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, clock, interleaved
from benchmarks.tiles import Setting, kept_bands, named, tile

Place = tuple[int, int]  # first byte and bytes of a stored chunk


@dataclass(frozen=True)
class Floor:
    """The chunks of one file that a pass cannot do without."""

    path: Path
    lots: tuple[tuple[Place, ...], ...]
    """chunks over the same pixels together where they are small, one by one where they are not"""
    chunk_bytes: int
    shape: tuple[int, int, int]

    @property
    def chunks(self) -> int:
        return sum(map(len, self.lots))

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1]


def find(path: Path) -> Floor:
    """The floor of the tile at `path`."""
    import h5py

    found: list[Any] = []
    with h5py.File(path) as file:
        group = next(group["Reflectance"] for group in file.values() if "Reflectance" in group)
        data = group["Reflectance_Data"]
        kept = kept_bands(np.ravel(group["Metadata/Spectral_Data/Wavelength"]))
        data.id.chunk_iter(found.append)
        shape, size, item = data.shape, data.chunks, data.dtype.itemsize
    needed = [c for c in found if kept[c.chunk_offset[2] : c.chunk_offset[2] + size[2]].any()]
    columns: dict[tuple[int, ...], list[Place]] = defaultdict(list)
    whole = size[:2] == shape[:2]
    for chunk in needed:
        columns[chunk.chunk_offset if whole else chunk.chunk_offset[:2]].append((chunk.byte_offset, chunk.size))
    return Floor(path, tuple(map(tuple, columns.values())), int(np.prod(size)) * item, shape)


def inflate(floors: Sequence[Floor], threads: int) -> None:
    """Reads and inflates all chunks of some tiles, one tile after the other."""
    from isal import isal_zlib

    with ThreadPoolExecutor(threads) as pool:
        for floor in floors:
            handle = os.open(floor.path, os.O_RDONLY)

            def work(lot: tuple[Place, ...], handle: int = handle, size: int = floor.chunk_bytes) -> None:
                for start, stored in lot:
                    isal_zlib.decompress(os.pread(handle, stored, start), bufsize=size)

            try:
                for _ in pool.map(work, floor.lots):
                    pass
            finally:
                os.close(handle)


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """The floor alone, on the threads asked for and on one."""
    rows = []
    for layout in setting.layouts:
        floor = find(tile(setting, layout))
        asked, one = (clock(partial(inflate, [floor], threads)) for threads in (setting.threads, 1))
        many, single = interleaved(setting.repeat, asked, one)
        where = named(layout, setting.sizes.side, setting.sizes.bands)
        numbers = {"chunks": floor.chunks, "decoded_bytes": floor.chunks * floor.chunk_bytes}
        note = f"{floor.chunks} chunks, {floor.chunks * floor.chunk_bytes / 1e6:.0f} MB inflated"
        rows.append(
            Row("floor", where, f"pread + isal, {setting.threads} threads", floor.pixels, many, {}, None, numbers, note)
        )
        rows.append(Row("floor", where, "pread + isal, 1 thread", floor.pixels, single, {"floor": many}, None, numbers))
    return rows
