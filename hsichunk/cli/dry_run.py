"""What a run would do, and in what memory and time: from metadata alone, and a few chunks to see how fast they come."""

from __future__ import annotations

import textwrap
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from hsichunk.cli.info import decodes_text, mb
from hsichunk.mosaic.site import Site
from hsichunk.run.make_plan import make_plan, to_decode
from hsichunk.run.open_inputs import prepared
from hsichunk.run.options import Options
from hsichunk.threads import in_parallel

TRIED = 8  # chunks a thread, of the first tile
# measured on two processors: the pass beside the decoding of its chunks; program, search and maps of one tile
PASS, REST = 1.6, 2.0


def dry_run(options: Options) -> dict[str, Any]:
    """Plain values, ready for JSON. Raises HsiError where the run would before it begins."""
    site, bands, options, _ = prepared(options)
    plan = make_plan(site, bands, options)
    chunks, size = to_decode(site, bands)
    owned = sum(window.shape[0] * window.shape[1] for place in site.tiles for window in place.owned)
    rate, scores = _rate(site, options.threads), len(options.metric)
    return {
        "tiles": len(site.tiles),
        "skipped": [list(one) for one in site.skipped],
        "shape": [site.rows, site.cols],
        "pixels": owned,
        "gaps": site.rows * site.cols - owned,
        "bands": {"kept": len(bands), "of": len(site.wavelength)},
        "chunks": chunks,
        "decoded": size,
        "results": site.rows * site.cols * (4 * ((1 + scores) * options.k + 1) + scores),
        "rate": rate,
        "seconds": round((plan.decodes * PASS * 1.3 + plan.refine_decodes) * size / rate + REST, 1),
        "plan": asdict(plan),
    }


def _rate(site: Site, threads: int) -> float:
    """Decoded bytes a second."""
    stored = site.tiles[0].file.reflectance
    grid = np.ndindex(*stored.grid)
    wanted = [place for _, place in zip(range(TRIED * threads), grid, strict=False)]

    def read(place: tuple[int, ...]) -> None:
        with stored.opened() as handle:
            stored.chunk(handle, place)

    began = time.perf_counter()
    in_parallel(read, wanted, threads)
    return len(wanted) * stored.chunk_bytes / max(time.perf_counter() - began, 1e-6)


def as_text(said: dict[str, Any]) -> str:
    """The same for people."""
    rows, cols = said["shape"]
    plan = said["plan"]
    lines = {
        "tiles": f"{said['tiles']}, {rows} x {cols} pixels together, {said['gaps']} of them in no tile"
        + (f"; {len(said['skipped'])} left out" if said["skipped"] else ""),
        "bands": f"{said['bands']['kept']} of {said['bands']['of']}",
        "decode": f"{said['chunks']} chunks, {mb(said['decoded'])}; {decodes_text(plan)}",
        "memory": f"about {mb(plan['peak'])} of {mb(plan['budget'])}, {plan['threads']} threads",
        "disk": f"up to {mb(said['results'])} of products.zarr before compression, as much again for the maps",
        "time": f"about {_duration(said['seconds'])} here, at {mb(said['rate'])} decoded a second",
    }
    out = []
    for name, text in lines.items():
        out += textwrap.wrap(f"{name:<9} {text}", 80, subsequent_indent=" " * 10, break_long_words=False)
    return "\n".join([*out, "nothing was done"])


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
