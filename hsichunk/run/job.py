"""The state of a run under way: options, tiles, plan, ledger, and what each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hsichunk import memory
from hsichunk.array_types import Floats, Positions
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
"""Called with the name of the stage, how much of it is done and how much there is: tiles of the sample, bytes decoded
in the pass or in the search over all pixels, maps written. In pass and search a thread of its own makes the calls."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress callback of a run that shows none."""


@dataclass
class Job:
    """A run under way."""

    options: Options
    site: Site
    bands: Positions
    """of the kept bands"""
    plan: plan.Plan
    ledger: Ledger
    progress: Progress
    inputs: tuple[InputFile, ...] = ()
    """the tiles, as the record names them"""
    stages: Stages = field(default_factory=Stages)
    """what each stage took so far"""
    resumed: bool = False
    """whether it resumes an earlier attempt"""
    masks: Masks | None = None
    """None where no pixel is masked"""
    cluster: Cluster | None = None
    """that does the pass; None where this process does it"""
    kept: KeptChunks = field(default_factory=KeptChunks)
    """chunks of the first tile that the sample decodes and the pass need not decode again"""

    def keep_chunks(self) -> None:
        """Keep for the pass what the sample decodes of the first tile, as many bytes as the plan allows."""
        first = self.site.tiles[0].file.reflectance
        if self.plan.kept and first.keeps_chunks:
            self.kept = first.kept = KeptChunks(self.plan.kept)

    @property
    def wavelength(self) -> Floats:
        """The wavelengths of the kept bands in nm."""
        return self.site.wavelength[self.bands]

    @property
    def zarr_chunk(self) -> tuple[int, int]:
        """The rows and columns of a stored chunk of products."""
        return plan.zarr_chunk(self.site.rows, self.site.cols, self.options.k, self.site.tile)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note what the block takes as the cost of a stage; a stage that comes again adds up."""
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
        """Add the numbers of a search to the stage of the endmembers, by the names of the fields of SearchStage."""
        self.stages = self.stages.with_search(**numbers)
