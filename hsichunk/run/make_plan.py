"""Make the plan of a run from its site, bands and options: block sizes, passes, projected memory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.counts import chunks_along
from hsichunk.chunks.windows import chunk_columns
from hsichunk.cube.bands import select_bands
from hsichunk.cube.sampling import CELL
from hsichunk.mosaic.site import Site
from hsichunk.run import plan
from hsichunk.run.options import Options


def kept_bands(site: Site, options: Options) -> NDArray[np.intp]:
    """Positions of the bands that the options keep."""
    windows = list(site.tiles[0].file.windows)
    keep = None if options.keep is None else list(options.keep)
    drop_last = site.drop_last if options.drop_last is None else options.drop_last
    return select_bands(
        site.wavelength, [*windows, *options.drop], drop_last, keep, options.every, options.lesson_bands
    )


def layouts(site: Site, bands: NDArray[np.intp]) -> list[plan.Layout]:
    """The different layouts of a site's tiles, as the plan takes them."""
    found = set()
    for place in site.tiles:
        stored = place.file.reflectance
        rows, cols, _ = stored.shape
        cy, cx, depth = stored.chunks
        kept = chunks_along(bands, depth)
        found.add(plan.Layout(rows, cols, (cy, cx, depth), kept, len(bands), stored.dtype.itemsize))
    return sorted(found, key=lambda layout: (layout.chunks, layout.rows, layout.cols))


def make_plan(site: Site, bands: NDArray[np.intp], options: Options, threads: int | None = None) -> plan.Plan:
    """The plan of a run. Raises HsiError when its memory cannot hold one."""
    sample = min(options.sample, site.rows * site.cols)
    found = layouts(site, bands)
    at_once = threads or options.threads
    made = plan.make(
        options.memory,
        found,
        options.k,
        at_once,
        sample=sample,
        image=(site.rows, site.cols),
        sampled=sampled(site, bands, options),
        libraries=plan.XARRAY if options.refine or options.relative else 0,
        metrics=options.metric,
        method=options.method,
    )
    if not options.refine:
        return made
    from hsichunk.run import search_memory

    search = search_memory.needs(site, bands, options)
    return replace(made, refine=search.peak, refine_decodes=search.decodes, peak=max(made.peak, search.peak))


def to_decode(site: Site, bands: NDArray[np.intp]) -> tuple[int, int]:
    """Stored chunks under the pixels of all tiles that count, in the kept bands, and their decoded bytes."""
    chunks = size = 0
    for place in site.tiles:
        stored = place.file.reflectance
        kept = chunks_along(bands, stored.chunks[2])
        columns = {column for window in place.owned for column in chunk_columns(window, stored.chunks)}
        chunks += len(columns) * kept
        size += len(columns) * kept * stored.chunk_bytes
    return chunks, size


def sampled(site: Site, bands: NDArray[np.intp], options: Options) -> int:
    """Bytes, about, of the first tile's chunks that the sample decodes."""
    stored = site.tiles[0].file.reflectance
    elsewhere = options.scheduler is not None or options.cluster is not None
    if options.endmembers is not None or options.refine or elsewhere:
        return 0  # no sample, none that the pass could use, or a search that needs the memory itself
    cy, cx, depth = stored.chunks
    touched = min(1.0, options.share * (1 + cy / CELL) * (1 + cx / CELL))
    chunks = stored.grid[0] * stored.grid[1] * chunks_along(bands, depth)
    return math.ceil(touched * chunks) * stored.chunk_bytes
