"""Sum the counts of a column of stored chunks over bands, chunk after chunk; each chunk is decoded once.

A column is the smallest set of pixels whose stored chunks belong to no other pixels: 32 x 63 pixels where chunks are
spatial, the whole tile where a chunk is a band. What is summed is the caller's: the pass
(`hsichunk.unmixing.stored_pass`) and the projection on a few axes (`hsichunk.cube.projection`) go through the chunks
alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bools, Floats
from hsichunk.chunks.counts import Counts, chunks_along
from hsichunk.errors import CorruptChunk, HsiError
from hsichunk.threads import in_parallel

FEWEST_PIXELS = 2048  # of a large column that are one job
TOGETHER = 40  # band chunks held and added in one visit of the sums, where memory allows
GROUP_BANDS = 16  # bands whose shares are added to running sums together, where a chunk has several
SMALL_COLUMN = 8 << 20  # decoded bytes up to which one thread works a column alone


class Adder(NamedTuple):
    """Adds counts to sums `total` (sums, N) of pixels `at`, and clears `valid` (N,) where one is no-data."""

    spectra: Callable[[NDArray[np.int16], tuple[tuple[int, int, int], ...], int | None, slice, Floats, Bools], None]
    """of pixels (N, bands of a chunk), runs of whose bands are kept: (first in the chunk, bands, first kept band)"""
    bands: Callable[[NDArray[np.int16], slice, int | None, slice, Floats, Bools], None]
    """of kept bands, one a row (bands, N)"""


@dataclass(frozen=True)
class BandChunk:
    """A chunk along the bands: its number, and which of its bands go to which columns of the operands."""

    number: int
    runs: tuple[tuple[int, int, int], ...]
    """(first band in the chunk, bands, first kept band)"""
    start: int
    stop: int


def band_chunks(counts: Counts) -> list[BandChunk]:
    """The chunks along the bands that hold a kept one."""
    depth = counts.stored.chunks[2]
    out = []
    number = counts.bands // depth
    for n in np.unique(number):
        at = np.flatnonzero(number == n)
        inside = counts.bands[at] - n * depth
        breaks = np.flatnonzero(np.diff(inside) != 1) + 1
        runs = tuple(
            (int(inside[part[0]]), len(part), int(at[part[0]])) for part in np.split(np.arange(len(at)), breaks)
        )
        out.append(BandChunk(int(n), runs, int(at[0]), int(at[-1]) + 1))
    return out


def is_small(counts: Counts) -> bool:
    """Whether a column is little enough for one thread to work it alone, whole spectra at a time."""
    return chunks_along(counts.bands, counts.stored.chunks[2]) * counts.stored.chunk_bytes <= SMALL_COLUMN


def sum_small(
    counts: Counts,
    column: tuple[int, int],
    rows: slice,
    chunks: list[BandChunk],
    adder: Adder,
    total: Floats,
    valid: Bools,
    corrupt: bool = False,
) -> list[list[int]]:
    """Adds some rows of a column to sums that stay in the cache, on this thread.

    With `corrupt` a chunk that cannot be decoded makes every pixel invalid, and its coords are given back.
    """
    stored, bad, every = counts.stored, list[list[int]](), slice(0, len(valid))
    with stored.opened() as handle:
        stored.announce(handle, ((*column, chunk.number) for chunk in chunks))
        for chunk in chunks:
            coords = (*column, chunk.number)
            try:
                values = stored.last_chunk(handle, coords)
            except CorruptChunk:
                if not corrupt:
                    raise
                bad.append([*coords])
                continue
            pixels = _pixels(counts, values, rows, chunk, valid)
            adder.spectra(pixels, chunk.runs, counts.no_data, every, total, valid)
    if bad:
        valid[:] = False
    return bad


def sum_large(
    counts: Counts,
    column: tuple[int, int],
    rows: slice,
    chunks: list[BandChunk],
    adder: Adder,
    total: Floats,
    valid: Bools,
    threads: int,
    together: int = TOGETHER,
    corrupt: bool = False,
) -> list[list[int]]:
    """The same by all threads: group after group of chunks inflated, its share added, the next.

    `together` is how many band chunks are held at a time.
    """
    stored, n = counts.stored, len(valid)
    single = stored.chunks[2] == 1
    together = together if single else max(1, GROUP_BANDS // stored.chunks[2])
    held: Any = np.empty((together, n), np.int16) if single else [None] * together
    step = max(FEWEST_PIXELS, -(-n // (2 * threads)))
    lots = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    bad: list[list[int]] = []
    for start in range(0, len(chunks), together):
        batch = chunks[start : start + together]

        def inflate(item: tuple[int, BandChunk]) -> None:
            position, chunk = item
            coords = (*column, chunk.number)
            try:
                with stored.opened() as handle:
                    values = stored.last_chunk(handle, coords)
            except CorruptChunk:
                if not corrupt:
                    raise
                bad.append([*coords])
                values = np.zeros(stored.chunks, stored.native)
            pixels = _pixels(counts, values, rows, chunk, valid)
            held[position] = pixels[:, 0] if single else pixels

        def add(at: slice, batch: list[BandChunk] = batch) -> None:
            if single:
                kept = slice(batch[0].start, batch[-1].stop)
                adder.bands(held, kept, counts.no_data, at, total, valid)
                return
            for pixels, chunk in zip(held, batch, strict=False):
                adder.spectra(pixels, chunk.runs, counts.no_data, at, total, valid)

        in_parallel(inflate, enumerate(batch), threads)
        in_parallel(add, lots, threads)
    if bad:
        valid[:] = False
    return sorted(bad)


def _pixels(counts: Counts, chunk: NDArray[Any], rows: slice, group: BandChunk, valid: Bools) -> NDArray[np.int16]:
    """Some rows of a chunk as int16 (n, bands)."""
    flat = chunk[rows].reshape(-1, chunk.shape[2])
    if flat.dtype == np.int16:
        return flat
    from hsichunk.kernels import float_sums

    out = np.empty(flat.shape, np.int16)
    # other bands do not matter, whatever they hold
    kept = [slice(first, first + count) for first, count, _ in group.runs]
    if not all(float_sums.narrow(flat[:, span], counts.no_data, out[:, span], valid) for span in kept):
        raise HsiError(
            f"{counts.stored.path}: counts from {flat.min()} to {flat.max()}; expected int16, -32768 to 32767"
        )
    return out
