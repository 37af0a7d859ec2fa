"""A run under way: what was asked for, the tiles, the plan, the ledger, and what each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk import memory
from hsichunk.chunks.array import DECODED
from hsichunk.chunks.decoded_cache import KeptChunks
from hsichunk.chunks.remote import FETCHED
from hsichunk.mosaic.site import Site
from hsichunk.run import plan
from hsichunk.run.ledger import Ledger
from hsichunk.run.notes import InputFile, Stage, Stages
from hsichunk.run.options import Options

if TYPE_CHECKING:
    from hsichunk.cube.masks.masks import Masks
    from hsichunk.run.cluster import Cluster

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
    inputs: tuple[InputFile, ...] = ()
    stages: Stages = field(default_factory=Stages)
    resumed: bool = False
    """whether it goes on with an earlier attempt"""
    masks: Masks | None = None
    cluster: Cluster | None = None
    kept: KeptChunks = field(default_factory=KeptChunks)

    def keep_chunks(self) -> None:
        """Has the pass take over what the sample decodes of the tile that it begins with, as far as the plan goes."""
        first = self.site.tiles[0].file.reflectance
        if self.plan.kept and first.keeps_chunks:
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
        cost = Stage(
            seconds=round(time.perf_counter() - began, 3),
            chunks_decoded=after[0] - chunks,
            bytes_decoded=after[1] - size,
            chunks_kept=self.kept.chunks - kept,
            bytes_fetched=FETCHED.now()[1] - fetched,
        )
        self.stages = self.stages.plus(name, cost)

    def note_search(self, **numbers: int) -> None:
        """Adds to the stage of the endmembers what a search came to, by the names of SearchStage."""
        self.stages = self.stages.with_search(**numbers)
