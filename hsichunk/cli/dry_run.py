"""Estimate what a run would do, in what memory and time, from metadata and the decoding of a few chunks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.cli.info import decodes_text, mb, wrapped
from hsichunk.mosaic.site import Site
from hsichunk.run.make_plan import make_plan, to_decode
from hsichunk.run.open_inputs import prepared
from hsichunk.run.options import Options
from hsichunk.run.plan import Plan
from hsichunk.threads import in_parallel

TRIED = 8  # chunks of the first tile that each thread decodes to measure the rate
# measured on two processors: the pass takes PASS times as long as decoding alone; program, search and maps of one tile
# take REST seconds
PASS, REST = 1.6, 2.0


@dataclass(frozen=True)
class Estimate:
    """What a run would do; sizes in bytes."""

    tiles: int
    skipped: int
    """tiles left out"""
    rows: int
    cols: int
    """of the site"""
    gaps: int
    """pixels of the site that lie in no tile"""
    bands_kept: int
    bands: int
    """of each tile"""
    chunks: int
    """stored chunks to decode"""
    decoded: int
    """their size after decoding"""
    results: int
    """size of the products before compression"""
    rate: float
    """bytes decoded a second"""
    seconds: float
    """of the whole run"""
    plan: Plan


def dry_run(options: Options) -> Estimate:
    """Return the estimate of a run. Raises HsiError where the run would before it begins."""
    site, bands, options, _ = prepared(options)
    plan = make_plan(site, bands, options)
    chunks, size = to_decode(site, bands)
    owned = sum(window.shape[0] * window.shape[1] for tile in site.tiles for window in tile.owned)
    rate, scores = _rate(site, options.threads), len(options.metric)
    return Estimate(
        tiles=len(site.tiles),
        skipped=len(site.skipped),
        rows=site.rows,
        cols=site.cols,
        gaps=site.rows * site.cols - owned,
        bands_kept=len(bands),
        bands=len(site.wavelength),
        chunks=chunks,
        decoded=size,
        results=site.rows * site.cols * (4 * ((1 + scores) * options.k + 1) + scores),
        rate=rate,
        seconds=round((plan.decodes * PASS * 1.3 + plan.refine_decodes) * size / rate + REST, 1),
        plan=plan,
    )


def _rate(site: Site, threads: int) -> float:
    """Decode a few chunks and return the decoded bytes a second."""
    stored = site.tiles[0].file.reflectance
    tried = [coords for _, coords in zip(range(TRIED * threads), np.ndindex(*stored.grid), strict=False)]

    def decode(coords: ChunkCoords) -> None:
        with stored.opened() as handle:
            stored.chunk(handle, coords)

    began = time.perf_counter()
    in_parallel(decode, tried, threads)
    return len(tried) * stored.chunk_bytes / max(time.perf_counter() - began, 1e-6)


def as_text(estimate: Estimate) -> str:
    """Return the estimate for people, in lines of at most 80 characters."""
    plan = estimate.plan
    lines = {
        "tiles": f"{estimate.tiles}, {estimate.rows} x {estimate.cols} pixels together, {estimate.gaps} of them in no "
        "tile" + (f"; {estimate.skipped} left out" if estimate.skipped else ""),
        "bands": f"{estimate.bands_kept} of {estimate.bands}",
        "decode": f"{estimate.chunks} chunks, {mb(estimate.decoded)}; {decodes_text(plan)}",
        "memory": f"about {mb(plan.peak)} of {mb(plan.budget)}, {plan.threads} threads",
        "disk": f"up to {mb(estimate.results)} of products.zarr before compression, as much again for the maps",
        "time": f"about {_duration(estimate.seconds)} here, at {mb(estimate.rate)} decoded a second",
    }
    return "\n".join([*wrapped(lines), "nothing was done"])


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
