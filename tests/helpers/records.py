"""A record of a run that nobody made, for tests of what reads it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from hsichunk.run import options
from hsichunk.run.notes import InputFile, SearchStage, Stage, Stages
from hsichunk.run.plan import Plan
from hsichunk.run.record import (
    BandCount,
    Certificate,
    DecodedChunks,
    MapExtent,
    PixelCounts,
    RunRecord,
)


def example(**changed: Any) -> RunRecord:
    """A record with numbers of its own in every place, and the fields given."""
    plan = Plan(**{each.name: number for number, each in enumerate(fields(Plan), 1)})
    cost = Stage(seconds=0.5, chunks_decoded=3, bytes_decoded=3000)
    search = SearchStage(seconds=0.25, sample_pixels=100, sweeps=2, swaps=1)
    whole = RunRecord(
        hsichunk="0.0",
        versions={"python": "3.12", "numpy": "2.2"},
        options=options.build({"tiles": ["a.h5"], "out": "out", "sam_threshold": "0.1,0.2,0.3,0.4"}),
        fingerprint={"hsichunk": "0.0", "k": 4},
        inputs=(InputFile(name="a.h5", size=3, metadata="00"),),
        site=MapExtent(name="SERC", crs="EPSG:32618", shape=(90, 70)),
        bands=BandCount(kept=30, of=40),
        plan=plan,
        resumed=False,
        cluster=None,
        stages=Stages(sample=cost, endmembers=search, pass_=cost, classes=Stage(), geotiff=Stage(seconds=1.5)),
        seconds=4.5,
        peak_memory=300_000_000,
        pixels=PixelCounts(valid=6000, masked=300, solved=6000),
        masks={"ndvi=0.2:": 0.25},
        bad_chunks=((0, 1, 2), (3, 0, 0)),
        skipped=(),
        pass_=DecodedChunks(chunks=12, bytes=12_000),
        fcls=Certificate(pivots=7, most_pivots=3, fallbacks=0, worst_kkt=1e-15),
        mean_abundance={"EM1": 0.25, "EM2": 0.75},
    )
    return replace(whole, **changed)
