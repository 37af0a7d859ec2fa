"""Make the plan of a run from its site, bands and options: block sizes, passes, projected memory."""

from __future__ import annotations

import math
from dataclasses import replace

from hsichunk.array_types import Positions
from hsichunk.chunks.counts import chunks_along
from hsichunk.chunks.windows import chunk_columns
from hsichunk.cube.bands import select_bands
from hsichunk.cube.sampling import CELL
from hsichunk.mosaic.site import Site
from hsichunk.run import plan
from hsichunk.run.options import Options


def kept_bands(site: Site, options: Options) -> Positions:
    """Return the positions of the bands that the options keep."""
    windows = list(site.tiles[0].file.windows)
    keep = None if options.keep is None else list(options.keep)
    drop_last = site.drop_last if options.drop_last is None else options.drop_last
    return select_bands(
        site.wavelength, [*windows, *options.drop], drop_last, keep, options.every, options.lesson_bands
    )


def layouts(site: Site, bands: Positions) -> list[plan.Layout]:
    """Return the different layouts of a site's tiles, as the plan takes them."""
    distinct = set()
    for tile in site.tiles:
        stored = tile.file.reflectance
        rows, cols, _ = stored.shape
        cy, cx, depth = stored.chunks
        kept_chunks = chunks_along(bands, depth)
        distinct.add(plan.Layout(rows, cols, (cy, cx, depth), kept_chunks, len(bands), stored.dtype.itemsize))
    return sorted(distinct, key=lambda layout: (layout.chunks, layout.rows, layout.cols))


def make_plan(site: Site, bands: Positions, options: Options, threads: int | None = None) -> plan.Plan:
    """Return the plan of a run. Raises HsiError where its memory cannot hold the smallest plan.

    `threads` are those of a cluster's worker; None for those of the options.
    """
    run_plan = plan.make(
        options.memory,
        layouts(site, bands),
        options.k,
        threads or options.threads,
        sample=min(options.sample, site.rows * site.cols),
        image=(site.rows, site.cols),
        sampled=sampled(site, bands, options),
        libraries=plan.XARRAY if options.refine or options.relative else 0,
        metrics=options.metric,
        method=options.method,
    )
    if not options.refine:
        return run_plan
    from hsichunk.run import search_memory

    search = search_memory.needs(site, bands, options)
    peak = max(run_plan.peak, search.peak)
    return replace(run_plan, refine=search.peak, refine_decodes=search.decodes, peak=peak)


def to_decode(site: Site, bands: Positions) -> tuple[int, int]:
    """Return the number of stored chunks that hold a pixel of the site in a kept band, and their decoded bytes."""
    chunks = size = 0
    for tile in site.tiles:
        stored = tile.file.reflectance
        kept_chunks = chunks_along(bands, stored.chunks[2])
        columns = {column for window in tile.owned for column in chunk_columns(window, stored.chunks)}
        chunks += len(columns) * kept_chunks
        size += len(columns) * kept_chunks * stored.chunk_bytes
    return chunks, size


def sampled(site: Site, bands: Positions, options: Options) -> int:
    """Return an estimate of the bytes of the first tile's chunks that the sample decodes and the pass can use."""
    stored = site.tiles[0].file.reflectance
    on_cluster = options.scheduler is not None or options.cluster is not None
    if options.endmembers is not None or options.refine or on_cluster:
        return 0  # there is no sample, the search needs the memory itself, or other processes do the pass
    cy, cx, depth = stored.chunks
    touched = min(1.0, options.share * (1 + cy / CELL) * (1 + cx / CELL))
    chunks = stored.grid[0] * stored.grid[1] * chunks_along(bands, depth)
    return math.ceil(touched * chunks) * stored.chunk_bytes
