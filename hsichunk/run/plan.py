"""Compute how a job fits its memory: integers from budget, stored chunks, endmembers and threads to the plan.

The peak is the largest of three stages: the sample with the search for endmembers, the pass (what each thread works
with, the sums of a large column, the strips of products on their way to the store), and the maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from hsichunk import schema
from hsichunk.chunks.columns import GROUP_BANDS, SMALL_COLUMN, TOGETHER
from hsichunk.errors import HsiError
from hsichunk.memory import GDAL_CACHE
from hsichunk.unmixing.stored_pass import FINISH_SLAB
from hsichunk.unmixing.sum_layout import SumLayout
from hsichunk.writers.zarr_layout import CHUNK_BYTES

MB = 1_000_000
# interpreter, libraries and compiled kernels while the sample is searched, in the pass, and with GDAL started: a little
# above the most that was measured. The system maps more or less of the 150 MB of LLVM, which makes 50 MB of difference.
SEARCHING, PROGRAM, MAPPING = 335 * MB, 340 * MB, 375 * MB
XARRAY = 65 * MB  # with dask and pandas, which most runs do not import
STRIP_ROWS = 250  # a quarter of a tile: whole stored chunks of results
FEWEST_ROWS = 15  # of a strip
HELD_TOGETHER = (TOGETHER, 16, 8)  # band chunks held at a time; fewer are slower
FEWEST_SUMS = 25  # rows; fewer at a time would decode a tile more than 40 times
ZARR_CHUNK = 8 << 20  # bytes of a stored chunk of results, about, at most
KEPT = 0.9  # share of the free budget for chunks that are not decoded again; memory that holds them has holes


@dataclass(frozen=True)
class Layout:
    """What the plan needs to know of one tile."""

    rows: int
    cols: int
    chunks: tuple[int, int, int]
    """rows, columns and bands of a stored chunk"""
    kept_chunks: int
    """chunks along the bands that hold a kept band"""
    bands: int
    """number of kept bands"""
    item: int = 2
    """bytes of a stored count"""

    @property
    def chunk(self) -> int:
        """The bytes of a decoded chunk."""
        cy, cx, depth = self.chunks
        return cy * cx * depth * self.item

    @property
    def small(self) -> bool:
        """Whether one thread works a column alone, so that only its sums are held."""
        return self.kept_chunks * self.chunk <= SMALL_COLUMN

    @property
    def high(self) -> int:
        """The rows of a column that lie in the tile."""
        return min(self.chunks[0], self.rows)

    @property
    def columns(self) -> int:
        """The number of columns of chunks."""
        return -(-self.rows // self.chunks[0]) * -(-self.cols // self.chunks[1])


@dataclass(frozen=True)
class Plan:
    """What a run will hold and do; sizes in bytes."""

    budget: int
    """memory that the process may hold"""
    threads: int
    """number of threads"""
    strip_rows: int
    """rows of products computed at a time"""
    together: int
    """band chunks held and added to the sums of a large column at a time"""
    pass_rows: int
    """rows of a large column whose sums are held at once; fewer than it has means that its chunks are decoded again"""
    decodes: int
    """times each chunk is decoded in the pass, at most"""
    columns: int
    """columns of stored chunks in the tile that has most"""
    program: int
    """memory of interpreter, libraries and compiled kernels in the pass"""
    workspace: int
    """memory that the threads work with in the pass"""
    sums: int
    """memory of the sums of a large column that are held at once"""
    strips: int
    """memory of the strips of products on their way to the store"""
    sample: int
    """memory of the sample and of the search for endmembers, the program included"""
    passing: int
    """memory of the pass, the program included"""
    maps: int
    """memory while class maps and GeoTIFFs are written, the program included"""
    kept: int
    """memory of chunks that the sample has decoded and that the pass need not decode again"""
    peak: int
    """projected peak resident memory of the whole process"""
    once: int
    """the smallest budget with which each chunk is decoded once"""
    refine: int = 0
    """memory of the search over all pixels, the program included; 0 without one"""
    refine_decodes: int = 0
    """times each chunk is decoded in the search over all pixels, at most"""


def make(
    budget: int,
    layouts: Sequence[Layout],
    k: int,
    threads: int,
    *,
    sample: int,
    image: tuple[int, int] | None = None,
    metrics: Sequence[str] = (schema.SAM, schema.SID),
    method: str = schema.METHODS[0],
    sampled: int = 0,
    libraries: int = 0,
) -> Plan:
    """Return the plan for tiles of some layouts and `k` endmembers: the fewest decodes, then the most held at a time.

    `sample` is the number of pixels, about, that the search by `method` holds; `image` the rows and columns of the
    whole, where there are several tiles; `metrics` the scores that the pass makes; `sampled` the bytes that the sample
    decodes and the pass can use; `libraries` the bytes of further libraries. Raises HsiError, with its numbers, where
    the budget cannot hold the smallest plan.
    """
    pixel = _Pixel.of(k, metrics)
    image = image or (max(layout.rows for layout in layouts), max(layout.cols for layout in layouts))
    searching = SEARCHING + libraries + _sample(sample, k, threads, layouts, method)
    program, mapping = PROGRAM + libraries, MAPPING + libraries + _maps(k, threads, *image)
    plans = list(_candidates(budget, layouts, pixel, threads, searching, program, mapping))
    fitting = [plan for plan in plans if plan.peak <= budget]
    if not fitting:
        raise HsiError(_refusal(min(plans, key=lambda plan: plan.peak)))
    best = min(fitting, key=lambda plan: (plan.decodes, -plan.together, -plan.strip_rows))
    unbounded = _candidates(1 << 62, layouts, pixel, threads, searching, program, mapping)
    # chunks of the first tile alone are kept: so more tiles need no more memory
    working = max(best.sample, best.passing)
    kept = min(int(KEPT * (budget - working)), sampled)
    return replace(best, once=min(plan.peak for plan in unbounded), kept=kept, peak=max(best.peak, working + kept))


def _candidates(
    budget: int, layouts: Sequence[Layout], pixel: _Pixel, threads: int, searching: int, program: int, mapping: int
) -> Iterator[Plan]:
    """Yield the plan of fewest decodes that fits, or else the smallest one, for each number of chunks and strip height.

    `searching` and `mapping` are the bytes of search and maps, `program` those of the program in the pass.
    """
    large = [layout for layout in layouts if not layout.small]
    for together, strip_rows in product(HELD_TOGETHER, _halving(STRIP_ROWS, FEWEST_ROWS)):
        for decodes, pass_rows in _splits(large):
            held = [_held(layout, pixel, threads, strip_rows, together, pass_rows) for layout in layouts]
            plan = Plan(
                budget=budget,
                threads=threads,
                strip_rows=strip_rows,
                together=together,
                pass_rows=pass_rows,
                decodes=decodes,
                columns=max(layout.columns for layout in layouts),
                program=program,
                workspace=max(max(each.summing, each.finishing) for each in held),
                sums=max(each.sums for each in held),
                strips=max(each.strips for each in held),
                sample=searching,
                passing=(passing := program + max(each.peak for each in held)),
                maps=mapping,
                kept=0,
                peak=max(passing, searching, mapping),
                once=0,
            )
            if plan.peak <= budget:
                break
        yield plan


def _refusal(least: Plan) -> str:
    """Return the message for a budget that cannot hold the smallest plan."""
    threads = f"{least.threads} thread{'s' if least.threads != 1 else ''}"
    parts = [f"{least.program / MB:.0f} for the program", f"{least.workspace / MB:.0f} for {threads}"]
    if least.sums:
        parts.append(f"{least.sums / MB:.0f} for sums of {least.pass_rows} rows")
    parts.append(f"{least.strips / MB:.0f} for results on their way to the store")
    return (
        f"--memory {least.budget / MB:.0f}MB cannot hold the smallest plan, {-(-least.peak // MB)} MB "
        f"({', '.join(parts)}; or {least.sample / MB:.0f} to find endmembers, or {least.maps / MB:.0f} to write maps); "
        f"give at least --memory {-(-least.peak // MB)}MB, or fewer --threads, a smaller k or --sample"
    )


def _halving(start: int, stop: int) -> list[int]:
    """Return start, its half, its quarter and so on, as long as they are not below stop."""
    values = [start]
    while values[-1] // 2 >= stop:
        values.append(values[-1] // 2)
    return values


def _splits(large: Sequence[Layout]) -> Iterator[tuple[int, int]]:
    """Yield (decodes, rows summed at once), from whole columns down to FEWEST_SUMS rows."""
    high = max((layout.high for layout in large), default=0)
    if not high:
        yield 1, 0
        return
    last = 0
    for decodes in range(1, -(-high // min(high, FEWEST_SUMS)) + 1):
        rows = -(-high // decodes)
        if rows != last:
            yield max(-(-layout.high // rows) for layout in large), rows
        last = rows


class _Pixel(NamedTuple):
    """What the pass holds of one pixel."""

    k: int
    """endmembers"""
    sums: int
    """bytes of the sums"""
    products: int
    """number of stored values, without class maps"""
    finishing: int
    """bytes of linear terms, abundances, products and what is computed of them"""

    @classmethod
    def of(cls, k: int, metrics: Sequence[str]) -> _Pixel:
        sums = 8 * SumLayout.of(k, metrics).rows
        return cls(k, sums, products=(1 + len(metrics)) * k + 1, finishing=(32 + 8 * len(metrics)) * k + 64)


@dataclass(frozen=True)
class _Held:
    """The bytes that the pass over one layout holds."""

    small: bool
    summing: int
    """workspace while chunks become sums"""
    finishing: int
    """workspace while sums become products"""
    sums: int
    """of the rows of a large column that are held at once"""
    waiting: int
    """rows of products that wait for the next pass over the tile, to fill a stored chunk with them"""
    strips: int
    """strips of products on their way to the store"""

    @property
    def peak(self) -> int:
        if self.small:  # some threads sum while others finish
            return max(self.summing, self.finishing) + self.strips
        return self.sums + max(self.summing + self.waiting, self.finishing + self.strips)


def _held(layout: Layout, pixel: _Pixel, threads: int, strip_rows: int, together: int, pass_rows: int) -> _Held:
    cy, cx, depth = layout.chunks
    narrowed = 0 if layout.item == 2 else cy * cx * depth * 2
    inflating = 2 * layout.chunk + narrowed  # as stored and as decoded
    tables = threads * fcls_table(pixel.k)
    side = zarr_chunk(layout.rows, layout.cols, pixel.k)[0]
    if layout.small:
        workspace = tables + threads * (inflating + cy * cx * (pixel.sums + pixel.finishing))
        strip = min(layout.rows, max(1, strip_rows // layout.high) * layout.high)
        return _Held(True, workspace, workspace, 0, 0, _strips(layout, pixel, strip, side))
    rows = min(pass_rows, layout.high)
    if depth == 1:
        group = 2 * together * rows * cx  # of a band only the rows that are summed are held, of thicker chunks all
    else:
        together = max(1, GROUP_BANDS // depth)
        group = together * (layout.chunk if layout.item == 2 else narrowed)
    slab = max(FINISH_SLAB, cx)
    return _Held(
        small=False,
        summing=group + min(threads, together) * inflating,
        finishing=tables + threads * slab * (pixel.sums + pixel.finishing),
        sums=rows * cx * (pixel.sums + 1),
        waiting=0 if rows == layout.rows else 4 * layout.cols * min(side, layout.rows) * pixel.products,
        strips=_strips(layout, pixel, min(layout.rows, strip_rows), side),
    )


def fcls_table(k: int) -> int:
    """Return the bytes of the maps of all supports of k endmembers, at most 16 MiB, and of a slab of pixels."""
    supports = 2**k if k <= 13 else 1
    return 8 * (supports * (k + 4) * (k + 2) + 4 * k * 264 + 4 * k * k)


def _strips(layout: Layout, pixel: _Pixel, strip: int, side: int) -> int:
    """Return the bytes of a strip, of what waits to fill a stored chunk, and of one product while it is compressed."""
    held = min(layout.rows, strip + side)
    return 4 * layout.cols * held * (pixel.products + 3 * pixel.k)


def _sample(pixels: int, k: int, threads: int, layouts: Sequence[Layout], method: str) -> int:
    """Return the bytes of the sample: as counts while it is read, then as float64 with its components, or the search.

    ATGP holds spectra and their residuals as float64.
    """
    bands = max(layout.bands for layout in layouts)
    drawn = pixels + 6 * (int(pixels**0.5) + 1)  # `pixels` is the mean of the number drawn
    counts = drawn * bands * max(layout.item for layout in layouts)
    reading = 2 * counts + drawn * bands + threads * 3 * max(layout.chunk for layout in layouts)
    copies = 2 if method == "atgp" else 1
    components = counts + 8 * drawn * (copies * bands + 2 * k) + 64 * bands * bands
    search = counts + 8 * drawn * 7 * k
    return max(reading, components, search)


def _maps(k: int, threads: int, rows: int, cols: int) -> int:
    """Return the bytes of blocks of scores in dask, or of what GDAL holds afterwards to make a GeoTIFF.

    Measured with GDAL 3.10: 55 MB for k = 4, 150 for k = 30, whatever the size; of a small image four times its size.
    """
    high, wide = zarr_chunk(rows, cols, k)
    layers = max(1, min(k, CHUNK_BYTES // (4 * high * wide)))
    square = (k << 20) // (4 if k <= 64 else 16)  # all bands of 256 or 128 pixels square
    gdal = GDAL_CACHE + 34 * MB + min(25 * square, 60 * MB + 12 * square)
    block = 2 * 4 * layers * high * wide  # as stored and as decoded
    return max(threads * block, block + min(gdal, 4 * 4 * k * rows * cols))


def zarr_chunk(rows: int, cols: int, k: int, tile: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the rows and columns of a stored chunk of results: a quarter of a 1000 x 1000 tile, less for large k.

    `tile` is the size of all tiles, where they lie side by side: a chunk that two tiles share would be written twice.
    """
    high = 250
    while high > 50 and high * 1000 * 4 * k > ZARR_CHUNK:
        high //= 2
    wide = 1000
    if tile is not None:
        high, wide = _part(tile[0], high), _part(tile[1], wide)
    return min(rows, high), min(cols, wide)


def _part(size: int, most: int) -> int:
    """Return the largest divisor of a tile's side from a quarter of `most` to `most`; `most` where there is none."""
    return next((share for share in range(min(size, most), most // 4, -1) if size % share == 0), most)
