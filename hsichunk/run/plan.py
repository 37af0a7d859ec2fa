"""How a job fits its memory: integer arithmetic from budget, stored chunks, endmembers and threads to the plan.

Peak = the largest of three stages: the sample with the search for endmembers, the pass (what each thread works with,
the sums of a large column, the strips of products on their way out), and the maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from hsichunk import schema
from hsichunk.chunks.columns import GROUP_BANDS, SMALL_COLUMN, TOGETHER
from hsichunk.errors import HsiError
from hsichunk.memory import GDAL_CACHE
from hsichunk.unmixing.stored_pass import FINISH_SLAB
from hsichunk.unmixing.sum_layout import SumLayout
from hsichunk.writers.zarr_layout import CHUNK_BYTES

MB = 1_000_000
# interpreter, libraries and compiled kernels while the sample is searched, in the pass, and with GDAL started: the most
# that was measured, and a little on top. How much of its 150 MB of LLVM the system maps differs by 50 MB.
SEARCHING, PROGRAM, MAPPING = 335 * MB, 340 * MB, 375 * MB
XARRAY = 65 * MB  # with dask and pandas, which most runs do without
STRIP_ROWS = 250  # a quarter of a tile: whole stored chunks of results
FEWEST_ROWS = 15
HELD_TOGETHER = (TOGETHER, 16, 8)  # band chunks held at a time, the fewer the slower
FEWEST_SUMS = 25  # rows; fewer at a time would decode a tile more than 40 times
ZARR_CHUNK = 8 << 20
KEPT = 0.9  # of what a budget leaves free, for chunks that are not decoded again; a heap of them has holes


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
    """bytes of a stored count"""

    @property
    def chunk(self) -> int:
        """Bytes of a decoded chunk."""
        cy, cx, depth = self.chunks
        return cy * cx * depth * self.item

    @property
    def small(self) -> bool:
        """Whether one thread works a column alone; sums are held for a column at a time then."""
        return self.kept_chunks * self.chunk <= SMALL_COLUMN

    @property
    def high(self) -> int:
        """Rows of a column that lie in the tile."""
        return min(self.chunks[0], self.rows)

    @property
    def columns(self) -> int:
        return -(-self.rows // self.chunks[0]) * -(-self.cols // self.chunks[1])


@dataclass(frozen=True)
class Plan:
    """What a run will hold and do. Sizes in bytes."""

    budget: int
    """memory that was allowed"""
    threads: int
    """threads that work at a time"""
    strip_rows: int
    """rows of products computed at a time"""
    together: int
    """band chunks held and added to the sums of a large column at a time"""
    pass_rows: int
    """rows of a large column whose sums are held at once; fewer than it has means that its chunks are decoded again"""
    decodes: int
    """times each chunk is decoded in the pass, at most"""
    columns: int
    """stored columns of the largest tile"""
    program: int
    """interpreter, libraries and compiled kernels in the pass"""
    workspace: int
    """what the threads work with in the pass"""
    sums: int
    """sums of the rows of a large column that are held at once"""
    strips: int
    """strips of products on their way to the store"""
    sample: int
    """the sample and the search for endmembers, the program included"""
    passing: int
    """the pass, the program included"""
    maps: int
    """class maps and GeoTIFFs, the program included"""
    kept: int
    """chunks that the sample has decoded and the pass need not"""
    peak: int
    """projected peak resident memory of the whole process"""
    once: int
    """the smallest budget with which each chunk is decoded once"""
    refine: int = 0
    """the search over all pixels where it is asked for, the program included"""
    refine_decodes: int = 0
    """times each chunk is decoded for that, at most"""


def make(
    budget: int,
    layouts: Sequence[Layout],
    p: int,
    threads: int,
    *,
    sample: int,
    image: tuple[int, int] | None = None,
    metrics: Sequence[str] = (schema.SAM, schema.SID),
    method: str = schema.METHODS[0],
    sampled: int = 0,
    libraries: int = 0,
) -> Plan:
    """The plan for tiles of some layouts and `p` endmembers: the fewest decodes, then the most held at a time.

    About `sample` pixels are held for the search, `method`; `image` is the size of the whole, when there are several
    tiles; `metrics` are the scores made; `sampled` bytes that the sample decodes are of use to the pass;
    `libraries` are loaded besides. Raises HsiError, with its numbers, when the budget cannot hold the smallest plan.
    """
    image = image or (max(layout.rows for layout in layouts), max(layout.cols for layout in layouts))
    searching = SEARCHING + libraries + _sample(sample, p, threads, layouts, method)
    plans = list(_candidates(budget, layouts, p, threads, searching, image, metrics, libraries))
    fitting = [plan for plan in plans if plan.peak <= budget]
    if not fitting:
        raise HsiError(_refusal(min(plans, key=lambda plan: plan.peak)))
    best = min(fitting, key=lambda plan: (plan.decodes, -plan.together, -plan.strip_rows))
    unbounded = _candidates(1 << 62, layouts, p, threads, searching, image, metrics, libraries)
    # the first tile's alone: more tiles, and the same memory
    working = max(best.sample, best.passing)
    kept = min(int(KEPT * (budget - working)), sampled)
    return replace(best, once=min(plan.peak for plan in unbounded), kept=kept, peak=max(best.peak, working + kept))


def _candidates(
    budget: int,
    layouts: Sequence[Layout],
    p: int,
    threads: int,
    searching: int,
    image: tuple[int, int],
    metrics: Sequence[str],
    libraries: int,
) -> Iterator[Plan]:
    """For each number of chunks and height of strips the fewest decodes that fit, or else the smallest plan."""
    program, mapping = PROGRAM + libraries, MAPPING + libraries + _maps(p, threads, *image)
    large = [layout for layout in layouts if not layout.small]
    for together, strip_rows in product(HELD_TOGETHER, _halving(STRIP_ROWS, FEWEST_ROWS)):
        for decodes, pass_rows in _splits(large):
            held = [_held(layout, p, threads, strip_rows, together, pass_rows, metrics) for layout in layouts]
            plan = Plan(
                budget=budget,
                threads=threads,
                strip_rows=strip_rows,
                together=together,
                pass_rows=pass_rows,
                decodes=decodes,
                columns=max(layout.columns for layout in layouts),
                program=program,
                workspace=max(max(one.summing, one.finishing) for one in held),
                sums=max(one.sums for one in held),
                strips=max(one.strips for one in held),
                sample=searching,
                passing=(passing := program + max(one.peak for one in held)),
                maps=mapping,
                kept=0,
                peak=max(passing, searching, mapping),
                once=0,
            )
            if plan.peak <= budget:
                break
        yield plan


def _refusal(least: Plan) -> str:
    parts = [f"{least.program / MB:.0f} the program", f"{least.workspace / MB:.0f} for {_threads(least.threads)}"]
    if least.sums:
        parts.append(f"{least.sums / MB:.0f} sums of {least.pass_rows} rows")
    parts.append(f"{least.strips / MB:.0f} results on their way out")
    return (
        f"--memory {least.budget / MB:.0f}MB cannot hold the smallest plan, {-(-least.peak // MB)} MB "
        f"({', '.join(parts)}; or {least.sample / MB:.0f} to find endmembers, or {least.maps / MB:.0f} to write maps); "
        f"give at least --memory {-(-least.peak // MB)}MB, or fewer --threads, a smaller k or --sample"
    )


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _halving(start: int, stop: int) -> list[int]:
    out = [start]
    while out[-1] // 2 >= stop:
        out.append(out[-1] // 2)
    return out


def _splits(large: Sequence[Layout]) -> Iterator[tuple[int, int]]:
    """(decodes, rows summed at once), from whole columns to the fewest rows that make sense."""
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


def _sums(p: int, metrics: Sequence[str]) -> int:
    """Bytes of a pixel's sums."""
    return 8 * SumLayout.of(p, metrics).rows


def _products(p: int, metrics: Sequence[str]) -> int:
    """Values of products a pixel, class maps aside."""
    return (1 + len(metrics)) * p + 1


@dataclass(frozen=True)
class _Held:
    """What the pass over one layout holds."""

    small: bool
    summing: int
    """while chunks become sums"""
    finishing: int
    """while sums become products"""
    sums: int
    waiting: int
    """rows of products that wait for the next pass over the tile, to fill a stored chunk with them"""
    strips: int

    @property
    def peak(self) -> int:
        if self.small:  # some threads do the one, some the other
            return max(self.summing, self.finishing) + self.strips
        return self.sums + max(self.summing + self.waiting, self.finishing + self.strips)


def _held(
    layout: Layout, p: int, threads: int, strip_rows: int, together: int, pass_rows: int, metrics: Sequence[str]
) -> _Held:
    cy, cx, depth = layout.chunks
    narrowed = 0 if layout.item == 2 else cy * cx * depth * 2
    inflating = 2 * layout.chunk + narrowed  # as stored and as decoded
    tables = threads * fcls_table(p)
    side = zarr_chunk(layout.rows, layout.cols, p)[0]
    if layout.small:
        n = cy * cx
        work = tables + threads * (inflating + n * (_sums(p, metrics) + _finishing(p, metrics)))
        strip = min(layout.rows, max(1, strip_rows // layout.high) * layout.high)
        return _Held(True, work, work, 0, 0, _strips(layout, p, strip, side, metrics))
    rows = min(pass_rows, layout.high)
    if depth == 1:
        group = 2 * together * rows * cx  # of bands the rows in hand are kept, of thicker chunks the whole
    else:
        together = max(1, GROUP_BANDS // depth)
        group = together * (layout.chunk if layout.item == 2 else narrowed)
    slab = max(FINISH_SLAB, cx)
    return _Held(
        small=False,
        summing=group + min(threads, together) * inflating,
        finishing=tables + threads * slab * (_sums(p, metrics) + _finishing(p, metrics)),
        sums=rows * cx * (_sums(p, metrics) + 1),
        waiting=0 if rows == layout.rows else 4 * layout.cols * min(side, layout.rows) * _products(p, metrics),
        strips=_strips(layout, p, min(layout.rows, strip_rows), side, metrics),
    )


def _finishing(p: int, metrics: Sequence[str]) -> int:
    """Linear terms, abundances, products and what becomes of them, of one pixel."""
    return (32 + 8 * len(metrics)) * p + 64


def fcls_table(p: int) -> int:
    """Maps of all supports of p endmembers, at most 16 MiB, and a slab of pixels."""
    supports = 2**p if p <= 13 else 1
    return 8 * (supports * (p + 4) * (p + 2) + 4 * p * 264 + 4 * p * p)


def _strips(layout: Layout, p: int, strip: int, side: int, metrics: Sequence[str]) -> int:
    """A strip as computed, what waits for a stored chunk to fill, and one product on its way through compression."""
    held = min(layout.rows, strip + side)
    return 4 * layout.cols * held * (_products(p, metrics) + 3 * p)


def _sample(pixels: int, p: int, threads: int, layouts: Sequence[Layout], method: str) -> int:
    """The sample as counts, read and put together; then as float64 with its components, or the search in them.

    ATGP holds float64 spectra and what is left of them.
    """
    bands = max(layout.bands for layout in layouts)
    drawn = pixels + 6 * _root(pixels)  # the draw is as many in the mean
    counts = drawn * bands * max(layout.item for layout in layouts)
    reading = 2 * counts + drawn * bands + threads * 3 * max(layout.chunk for layout in layouts)
    copies = 2 if method == "atgp" else 1
    components = counts + 8 * drawn * (copies * bands + 2 * p) + 64 * bands * bands
    search = counts + 8 * drawn * 7 * p
    return max(reading, components, search)


def _root(number: int) -> int:
    return int(number**0.5) + 1


def _maps(p: int, threads: int, rows: int, cols: int) -> int:
    """Blocks of scores in dask's hands; after that what GDAL holds to make a cloud-optimised GeoTIFF.

    Measured with GDAL 3.10: 55 MB for p = 4, 150 for p = 30, whatever the size; of a small image four times its size.
    """
    high, wide = zarr_chunk(rows, cols, p)
    layers = max(1, min(p, CHUNK_BYTES // (4 * high * wide)))
    tile = (p << 20) // (4 if p <= 64 else 16)  # all bands of 256 or 128 pixels square
    gdal = GDAL_CACHE + 34 * MB + min(25 * tile, 60 * MB + 12 * tile)
    block = 2 * 4 * layers * high * wide  # as stored and as decoded
    return max(threads * block, block + min(gdal, 4 * 4 * p * rows * cols))


def zarr_chunk(rows: int, cols: int, p: int, tile: tuple[int, int] | None = None) -> tuple[int, int]:
    """Rows and columns of a stored chunk of results: a quarter of a 1000 x 1000 tile, less for many endmembers.

    `tile` is the size of all tiles, where they lie side by side: a chunk that two share would be written twice.
    """
    high = 250
    while high > 50 and high * 1000 * 4 * p > ZARR_CHUNK:
        high //= 2
    wide = 1000
    if tile is not None:
        high, wide = _part(tile[0], high), _part(tile[1], wide)
    return min(rows, high), min(cols, wide)


def _part(size: int, most: int) -> int:
    """The largest even share of a tile's side, where there is one of a handy size."""
    return next((share for share in range(min(size, most), most // 4, -1) if size % share == 0), most)
