"""Sum the counts of a column of stored chunks over bands, chunk after chunk; each chunk is decoded once.

A column is the smallest set of pixels whose stored chunks belong to no other pixels: 32 x 63 pixels where chunks are
spatial, the whole tile where a chunk is a band. The caller decides what is summed: the pass
(`hsichunk.unmixing.stored_pass`) and the projection on a few axes (`hsichunk.cube.projection`) go through the chunks
in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hsichunk.array_types import Bools, Floats, Int16s, Numbers
from hsichunk.chunks.counts import BandRun, Counts, chunks_along
from hsichunk.errors import CorruptChunk, HsiError
from hsichunk.threads import in_parallel

FEWEST_PIXELS = 2048  # of a large column that one job adds up
TOGETHER = 40  # band chunks held and added in one visit of the sums, where memory allows
GROUP_BANDS = 16  # bands whose shares are added to running sums together, where a chunk has several
SMALL_COLUMN = 8 << 20  # decoded bytes of a column up to which one thread works it alone


class Adder(NamedTuple):
    """Two ways to add counts to sums `total` (sums, N) of the pixels in a slice, for two layouts of the counts.

    Both clear `valid` (N,) where a count is no-data.
    """

    spectra: Callable[[Int16s, tuple[BandRun, ...], int | None, slice, Floats, Bools], None]
    """from pixels (N, bands of a chunk), the runs of their kept bands, and the no-data count"""
    bands: Callable[[Int16s, slice, int | None, slice, Floats, Bools], None]
    """from kept bands, one a row (bands, N), their slice of the kept bands, and the no-data count"""


@dataclass(frozen=True)
class BandChunk:
    """A chunk along the bands that holds kept ones."""

    number: int
    """of the chunk along the bands"""
    runs: tuple[BandRun, ...]
    start: int
    """index of its first band among the kept ones"""
    stop: int
    """index after its last band among the kept ones"""


def band_chunks(counts: Counts) -> list[BandChunk]:
    """Return the chunks along the bands that hold a kept one."""
    depth = counts.stored.chunks[2]
    chunk_of = counts.bands // depth
    chunks = []
    for number in np.unique(chunk_of):
        kept = np.flatnonzero(chunk_of == number)
        in_chunk = counts.bands[kept] - number * depth
        breaks = np.flatnonzero(np.diff(in_chunk) != 1) + 1
        runs = tuple(
            BandRun(int(in_chunk[run[0]]), len(run), int(kept[run[0]]))
            for run in np.split(np.arange(len(kept)), breaks)
        )
        chunks.append(BandChunk(int(number), runs, int(kept[0]), int(kept[-1]) + 1))
    return chunks


def is_small(counts: Counts) -> bool:
    """Whether one thread works a column alone, whole spectra at a time."""
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
    """Add the counts of some rows of a column to sums that stay in the cache, on this thread.

    With `corrupt`, a chunk that cannot be decoded makes every pixel invalid instead of ending this with CorruptChunk.
    Returns the coords of these chunks.
    """
    stored, bad, every_pixel = counts.stored, list[list[int]](), slice(0, len(valid))
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
            adder.spectra(pixels, chunk.runs, counts.no_data, every_pixel, total, valid)
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
    """Add the counts of some rows of a column as `sum_small` does, on all threads.

    All threads decode a group of chunks, then add its share to the sums, then go on with the next group. `together` is
    how many chunks of one band are held at a time.
    """
    stored, n = counts.stored, len(valid)
    single = stored.chunks[2] == 1
    together = together if single else max(1, GROUP_BANDS // stored.chunks[2])
    # decoded chunks by their position in the group: those of one band are rows of one array, others stand by themselves
    bands = np.empty((together if single else 0, n), np.int16)
    spectra: dict[int, Int16s] = {}
    step = max(FEWEST_PIXELS, -(-n // (2 * threads)))
    parts = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    bad: list[list[int]] = []
    for start in range(0, len(chunks), together):
        group = chunks[start : start + together]

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
            if single:
                bands[position] = pixels[:, 0]
            else:
                spectra[position] = pixels

        def add(part: slice, group: list[BandChunk] = group) -> None:
            if single:
                kept = slice(group[0].start, group[-1].stop)
                adder.bands(bands, kept, counts.no_data, part, total, valid)
                return
            for position, chunk in enumerate(group):
                adder.spectra(spectra[position], chunk.runs, counts.no_data, part, total, valid)

        in_parallel(inflate, enumerate(group), threads)
        in_parallel(add, parts, threads)
    if bad:
        valid[:] = False
    return sorted(bad)


def _pixels(counts: Counts, values: Numbers, rows: slice, chunk: BandChunk, valid: Bools) -> Int16s:
    """Return some rows of a decoded chunk as int16 (n, bands).

    From another type only kept bands are copied, and pixels that hold no-data in one of these are cleared in `valid`.
    Raises HsiError where a count does not fit int16.
    """
    flat = values[rows].reshape(-1, values.shape[2])
    if flat.dtype == np.int16:
        return flat.astype(np.int16, copy=False)
    from hsichunk.kernels import float_sums

    out = np.empty(flat.shape, np.int16)
    # bands that are not kept do not matter, whatever they hold
    kept = [slice(run.first, run.first + run.bands) for run in chunk.runs]
    if not all(float_sums.narrow(flat[:, span], counts.no_data, out[:, span], valid) for span in kept):
        raise HsiError(
            f"{counts.stored.path}: counts from {flat.min()} to {flat.max()}; expected int16, -32768 to 32767"
        )
    return out
