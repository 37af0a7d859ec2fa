"""How a job fits its memory: integer arithmetic from budget, stored chunks, endmembers and threads to the height of the strips.

Peak = the program itself + what each thread works with + the sums of a large column + the strips of products on their way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hsichunk.column import GROUP_BANDS, PIXEL_SLAB, SMALL_COLUMN
from hsichunk.errors import HsiError

MIB = 1 << 20
PROGRAM = 272 * MIB  # interpreter, libraries and compiled kernels: 250 MiB measured on Python 3.11, and some slack
TABLE = 16 * MIB  # supports of one thread's FCLS table, at most
STRIP_ROWS = 256
FEWEST_ROWS = 16
STRIP_COPIES = 3  # a strip as computed, as buffered for whole stored chunks, and as compressed
ZARR_CHUNK = 8 * MIB


@dataclass(frozen=True)
class Layout:
    """What the plan needs to know of one tile."""

    rows: int
    cols: int
    chunks: tuple[int, int, int]
    kept_chunks: int
    """chunks along the bands that hold a kept band"""
    bands: int
    item: int = 2


@dataclass(frozen=True)
class Plan:
    """What a run will hold and do. Sizes in bytes."""

    budget: int
    threads: int
    strip_rows: int
    """rows of products computed, buffered and written at a time"""
    pass_rows: int
    """rows of a tile whose sums are held at once; fewer than the tile has means that its chunks are decoded again"""
    decodes: int
    """times each chunk is decoded in the pass, at most"""
    columns: int
    """stored columns of the largest tile"""
    program: int
    workspace: int
    sums: int
    strips: int
    sample: int

    @property
    def peak(self) -> int:
        """Projected peak resident memory."""
        return self.program + max(self.workspace + self.sums + self.strips, self.sample)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "peak": self.peak}


def sums_rows(p: int, with_sid: bool = True) -> int:
    """float64 sums a pixel."""
    return 3 * p + 3 if with_sid else p + 1


def make(budget: int, layouts: Sequence[Layout], p: int, threads: int, *, sample: int) -> Plan:
    """The plan for tiles of some layouts and `p` endmembers; `sample` pixels are held for N-FINDR.

    Raises HsiError, with its numbers, when the budget cannot hold the smallest plan.
    """
    widest = max(layout.cols for layout in layouts)
    maps = 3 * p + 1
    pixel = 4 * maps * STRIP_COPIES
    for strip_rows in _halving(STRIP_ROWS, FEWEST_ROWS):
        plans = [_for_layout(layout, budget, p, threads, strip_rows * widest * pixel, strip_rows) for layout in layouts]
        drawn = _sample(sample, max(layout.bands for layout in layouts))
        merged = Plan(
            budget=budget,
            threads=threads,
            strip_rows=strip_rows,
            pass_rows=min(plan.pass_rows for plan in plans),
            decodes=max(plan.decodes for plan in plans),
            columns=max(plan.columns for plan in plans),
            program=PROGRAM,
            workspace=max(plan.workspace for plan in plans),
            sums=max(plan.sums for plan in plans),
            strips=max(plan.strips for plan in plans),
            sample=drawn,
        )
        if merged.peak <= budget:
            return merged
    least = -(-merged.peak // 1_000_000)
    raise HsiError(
        f"--memory {budget / 1e6:.0f}MB cannot hold the smallest plan: {least} MB ({merged.program / 1e6:.0f} the program, "
        f"{merged.workspace / 1e6:.0f} for {threads} threads, {merged.sums / 1e6:.0f} sums, {merged.strips / 1e6:.0f} results on "
        f"their way out, or {merged.sample / 1e6:.0f} for the sample); give at least --memory {least}MB, fewer threads or a smaller k"
    )


def _halving(start: int, stop: int) -> list[int]:
    out = [start]
    while out[-1] > stop:
        out.append(out[-1] // 2)
    return out


def _sample(pixels: int, bands: int) -> int:
    """The sample as counts and twice as float64 while its components are found, with its matrix products."""
    return pixels * bands * (2 + 2 * 8) + 3 * bands * bands * 8


def _for_layout(layout: Layout, budget: int, p: int, threads: int, strips: int, strip_rows: int) -> Plan:
    cy, cx, depth = layout.chunks
    chunk = cy * cx * depth * layout.item
    columns = -(-layout.rows // cy) * -(-layout.cols // cx)
    operands = 2 * 8 * PIXEL_SLAB * max(layout.bands, 16 * GROUP_BANDS)
    table = min(TABLE, 2**min(p, 24) * p * (p + 8) * 8)
    if layout.kept_chunks * chunk <= SMALL_COLUMN:
        n = cy * cx
        each = 2 * chunk + n * (2 * (layout.bands + 16) + 8 * (sums_rows(p) + 2 * p + 2) + 4 * (3 * p + 2)) + operands + table
        return Plan(budget, threads, strip_rows, layout.rows, 1, columns, PROGRAM, threads * each, 0, strips, 0)
    held = max(GROUP_BANDS, depth) * cy * cx * layout.item
    workspace = held + threads * (2 * chunk + operands + table + 4096 * 8 * (6 * p + 8))
    row = cx * (8 * sums_rows(p) + 1)
    free = budget - PROGRAM - workspace - strips
    rows = min(cy, layout.rows)
    passes = 1
    while passes < rows and -(-rows // passes) * row > free:
        passes += 1
    pass_rows = -(-rows // passes)
    return Plan(budget, threads, strip_rows, pass_rows, passes, columns, PROGRAM, workspace, pass_rows * row, strips, 0)


def zarr_chunk(rows: int, cols: int, p: int) -> tuple[int, int]:
    """Rows and columns of a stored chunk of results: a quarter of a 1000 x 1000 tile, less where endmembers are many."""
    high = 250
    while high > 50 and high * 1000 * 4 * p > ZARR_CHUNK:
        high //= 2
    return min(rows, high), min(cols, 1000)
