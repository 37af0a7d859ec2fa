"""A run under way: what was asked for, the tiles, the plan, the ledger, and what each stage took."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import memory, plan
from hsichunk.chunks.array import DECODED
from hsichunk.chunks.counts import chunks_along
from hsichunk.chunks.decoded_cache import KeptChunks
from hsichunk.chunks.hdf5 import StoredArray
from hsichunk.chunks.remote import FETCHED, name_of
from hsichunk.cube.bands import select_bands
from hsichunk.cube.sampling import CELL
from hsichunk.ledger import Ledger
from hsichunk.mosaic.site import Site
from hsichunk.options import Options

if TYPE_CHECKING:
    from hsichunk.cluster import Cluster
    from hsichunk.cube.masks.masks import Masks

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done and how much there is: tiles of the sample, bytes decoded in the pass,
maps written. During the pass the calls come from a thread of their own."""


def silent(stage: str, done: int, total: int) -> None:
    """No progress."""


@dataclass
class Job:
    """A run under way."""

    options: Options
    site: Site
    bands: NDArray[np.intp]
    """positions of the kept bands"""
    plan: plan.Plan
    ledger: Ledger
    progress: Progress
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    resumed: bool = False
    """whether it goes on with an earlier attempt"""
    masks: Masks | None = None
    cluster: Cluster | None = None
    kept: KeptChunks = field(default_factory=KeptChunks)

    def keep_chunks(self) -> None:
        """Has the pass take over what the sample decodes of the tile that it begins with, as far as the plan goes."""
        first = self.site.places[0].file.reflectance
        if self.plan.kept and isinstance(first, StoredArray):
            self.kept = first.kept = KeptChunks(self.plan.kept)

    @property
    def wavelength(self) -> NDArray[np.float64]:
        return self.site.wavelength[self.bands]

    @property
    def zarr_chunk(self) -> tuple[int, int]:
        """Rows and columns of a stored chunk of results."""
        return plan.zarr_chunk(self.site.rows, self.site.cols, self.options.k, self.site.tile)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Notes the seconds, chunks and bytes of a stage; of one that comes again, all together."""
        began, (chunks, size), fetched = time.perf_counter(), DECODED.now(), FETCHED.now()[1]
        kept = self.kept.chunks
        yield
        memory.release()
        after = DECODED.now()
        came = {
            "seconds": round(time.perf_counter() - began, 3),
            "chunks_decoded": after[0] - chunks,
            "bytes_decoded": after[1] - size,
            "chunks_kept": self.kept.chunks - kept,
            "bytes_fetched": FETCHED.now()[1] - fetched,
        }
        so_far = self.stages.setdefault(name, dict.fromkeys(came, 0))
        for what, value in came.items():
            so_far[what] = round(so_far[what] + value, 3)


def kept_bands(site: Site, options: Options) -> NDArray[np.intp]:
    """Positions of the bands that the options keep."""
    windows = list(site.places[0].file.windows)
    keep = None if options.keep is None else list(options.keep)
    drop_last = site.drop_last if options.drop_last is None else options.drop_last
    return select_bands(
        site.wavelength, [*windows, *options.drop], drop_last, keep, options.every, options.lesson_bands
    )


def layouts(site: Site, bands: NDArray[np.intp]) -> list[plan.Layout]:
    """The different layouts of a site's tiles, as the plan takes them."""
    found = set()
    for place in site.places:
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
        sampled=_sampled(site, bands, options),
        libraries=plan.XARRAY if options.refine or options.relative else 0,
        metrics=options.metric,
        method=options.method,
    )
    if not options.refine:
        return made
    from hsichunk import whole_image

    search = whole_image.needs(site, bands, options)
    return replace(made, refine=search.peak, refine_decodes=search.decodes, peak=max(made.peak, search.peak))


def to_decode(site: Site, bands: NDArray[np.intp]) -> tuple[int, int]:
    """Stored chunks under the pixels of all tiles that count, in the kept bands, and their decoded bytes."""
    chunks = size = 0
    for place in site.places:
        stored = place.file.reflectance
        kept = chunks_along(bands, stored.chunks[2])
        columns = {
            (i, j)
            for window in place.owned
            for i in range(window.top // stored.chunks[0], -(-window.bottom // stored.chunks[0]))
            for j in range(window.left // stored.chunks[1], -(-window.right // stored.chunks[1]))
        }
        chunks += len(columns) * kept
        size += len(columns) * kept * stored.chunk_bytes
    return chunks, size


def _sampled(site: Site, bands: NDArray[np.intp], options: Options) -> int:
    """Bytes, about, of the first tile's chunks that the sample decodes."""
    stored = site.places[0].file.reflectance
    elsewhere = options.scheduler is not None or options.cluster is not None
    if not isinstance(stored, StoredArray) or options.endmembers is not None or options.refine or elsewhere:
        return 0  # no sample, none that the pass could use, or a search that needs the memory itself
    cy, cx, depth = stored.chunks
    touched = min(1.0, options.share * (1 + cy / CELL) * (1 + cx / CELL))
    chunks = stored.grid[0] * stored.grid[1] * chunks_along(bands, depth)
    return math.ceil(touched * chunks) * stored.chunk_bytes


def inputs_of(site: Site) -> list[dict[str, Any]]:
    """Name, size and checksum of the metadata of each tile; the places of its chunks stand for what they hold."""
    out = []
    for place in site.places:
        file, stored = place.file, place.file.reflectance
        said = repr((file.site, stored.shape, stored.chunks, str(stored.dtype), file.scale, file.no_data, file.windows))
        said += repr(asdict(file.grid)) + file.wavelength.tobytes().hex()
        digest = hashlib.sha256(said.encode())
        if stored.direct and stored.filters:
            digest.update(stored.index.offset.tobytes() + stored.index.size.tobytes())
        else:
            digest.update(str(stored.stamp).encode())  # only the time of its last change tells other counts
        out.append({"name": name_of(file.path), "size": stored.stamp[0], "metadata": digest.hexdigest()})
    return out
