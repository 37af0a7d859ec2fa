"""The parts of the record that a job fills while it is under way: its tiles, and what each stage took.

They stand apart from the rest of the record, which is imported only when a run is done.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Self

from hsichunk.run.json_records import ABSENT, name_in_json


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A tile that the run read."""

    name: str
    """name of the file, or its address"""
    size: int
    """bytes of the file"""
    metadata: str
    """SHA-256 of its metadata and of the positions of its stored chunks in the file"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Time and decoding of a stage; of a resumed run, in the last attempt that did it."""

    seconds: float = 0.0
    """wall-clock time in seconds"""
    chunks_decoded: int = 0
    """number of stored chunks decoded"""
    bytes_decoded: int = 0
    """bytes of these chunks after decoding"""
    chunks_kept: int = 0
    """number of chunks that an earlier stage had decoded and that were still in memory"""
    bytes_fetched: int = 0
    """bytes read from addresses"""

    def plus(self, other: Stage) -> Self:
        """Return the sum of both, for a stage that is done in parts."""
        sums = {each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(Stage)}
        return replace(self, **{**sums, "seconds": round(self.seconds + other.seconds, 3)})


@dataclass(frozen=True, kw_only=True)
class SearchStage(Stage):
    """The search for endmembers; where each tile has endmembers of its own, the sum over all searches."""

    sample_pixels: int | None = field(default=None, metadata=ABSENT)
    """pixels with data in the sample"""
    sweeps: int | None = field(default=None, metadata=ABSENT)
    """sweeps of N-FINDR over the sample"""
    swaps: int | None = field(default=None, metadata=ABSENT)
    """endmembers replaced in these sweeps"""
    converged: int | None = field(default=None, metadata=ABSENT)
    """1 where the last sweep replaced no endmember, else 0; of several searches the least (with refine)"""
    certified: int | None = field(default=None, metadata=ABSENT)
    """1 where no single pixel makes the simplex larger, else 0; of several searches the least (with refine)"""
    refine_swaps: int | None = field(default=None, metadata=ABSENT)
    """endmembers replaced by pixels outside the sample (with refine)"""
    refine_passes: int | None = field(default=None, metadata=ABSENT)
    """passes over all pixels after the sample (with refine)"""
    excluded: int | None = field(default=None, metadata=ABSENT)
    """outliers left out of the search (with exclude)"""

    def with_search(self, **numbers: int) -> SearchStage:
        """Return the stage with the numbers of one more search, by the names of the fields."""
        merged = {}
        for name, value in numbers.items():
            before = getattr(self, name)
            if before is None:
                merged[name] = value
            else:
                merged[name] = min(before, value) if name in ("converged", "certified") else before + value
        return replace(self, **merged)


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The stages in their order; a stage that the run did not go through is missing."""

    sample: Stage | None = field(default=None, metadata=ABSENT)
    """drawing and reading of the sample"""
    refine: Stage | None = field(default=None, metadata=ABSENT)
    """the search over all pixels (with refine)"""
    endmembers: SearchStage | None = field(default=None, metadata=ABSENT)
    """the search for endmembers in the sample, or the end of the search over all pixels; missing where a file gives the
    endmembers"""
    pass_: Stage | None = field(default=None, metadata=ABSENT)
    """the one pass: abundances, residual, scores and class maps, written strip by strip"""
    classes: Stage | None = field(default=None, metadata=ABSENT)
    """class maps of relative thresholds, and the renaming of the store to its final name"""
    geotiff: Stage | None = field(default=None, metadata=ABSENT)
    """writing of the GeoTIFFs"""

    def plus(self, name: str, cost: Stage) -> Stages:
        """Return the stages with the cost of one of them added; `name` is its name in JSON."""
        attribute = f"{name}_" if keyword.iskeyword(name) else name
        before = getattr(self, attribute)
        if before is None:
            before = SearchStage() if name == "endmembers" else Stage()
        return replace(self, **{attribute: before.plus(cost)})

    def with_search(self, **numbers: int) -> Stages:
        """Return the stages with the numbers of one more search for endmembers; see `SearchStage.with_search`."""
        return replace(self, endmembers=(self.endmembers or SearchStage()).with_search(**numbers))

    def items(self) -> Iterator[tuple[str, Stage]]:
        """Yield name in JSON and cost of each stage that the run went through."""
        for each in fields(self):
            if (stage := getattr(self, each.name)) is not None:
                yield name_in_json(each), stage
