"""What a job notes for its record while it is under way: its tiles, and what each stage took.

Apart from the rest of the record, which is loaded when a run has been done.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from hsichunk.run.json_records import ABSENT, name_in_json


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A tile as the run read it."""

    name: str
    """name of the file, or its address"""
    size: int
    """bytes of the file"""
    metadata: str
    """SHA-256 of its metadata and of the places of its stored chunks"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage took; of a resumed run, in the last attempt that did it."""

    seconds: float = 0.0
    """wall-clock time"""
    chunks_decoded: int = 0
    """stored chunks decoded"""
    bytes_decoded: int = 0
    """their bytes after decoding"""
    chunks_kept: int = 0
    """chunks that an earlier stage had decoded and that were still in memory"""
    bytes_fetched: int = 0
    """bytes read from addresses"""

    def plus(self, other: Stage) -> Self:
        """Both together: what comes of a stage that is done in parts."""
        sums = {one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Stage)}
        return replace(self, **{**sums, "seconds": round(self.seconds + other.seconds, 3)})


@dataclass(frozen=True, kw_only=True)
class SearchStage(Stage):
    """The search for endmembers; where each tile has its own, the sum over all searches."""

    sample_pixels: int | None = field(default=None, metadata=ABSENT)
    """pixels with data in the sample"""
    sweeps: int | None = field(default=None, metadata=ABSENT)
    """sweeps of N-FINDR over the sample"""
    swaps: int | None = field(default=None, metadata=ABSENT)
    """endmembers replaced in these sweeps"""
    converged: int | None = field(default=None, metadata=ABSENT)
    """1 where the last sweep replaced none, else 0; of several searches the least (with refine)"""
    certified: int | None = field(default=None, metadata=ABSENT)
    """1 where no single pixel makes the simplex larger, else 0; of several searches the least (with refine)"""
    refine_swaps: int | None = field(default=None, metadata=ABSENT)
    """endmembers replaced by pixels beside the sample (with refine)"""
    refine_passes: int | None = field(default=None, metadata=ABSENT)
    """passes over all pixels after the sample (with refine)"""
    excluded: int | None = field(default=None, metadata=ABSENT)
    """outliers left out of the search (with exclude)"""

    def with_search(self, **numbers: int) -> SearchStage:
        """Adds what one search came to, by the names of the fields."""
        merged = {}
        for name, value in numbers.items():
            before = getattr(self, name)
            least = name in ("converged", "certified")
            merged[name] = value if before is None else min(before, value) if least else before + value
        return replace(self, **merged)


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The stages in their order; one that was not gone through is missing."""

    sample: Stage | None = field(default=None, metadata=ABSENT)
    """drawing and reading the sample"""
    refine: Stage | None = field(default=None, metadata=ABSENT)
    """the search over all pixels (with refine)"""
    endmembers: SearchStage | None = field(default=None, metadata=ABSENT)
    """the search for endmembers in the sample, or its end over all pixels; missing where a file gives them"""
    pass_: Stage | None = field(default=None, metadata=ABSENT)
    """the one pass: abundances, residual, scores and class maps, written strip by strip"""
    classes: Stage | None = field(default=None, metadata=ABSENT)
    """class maps of relative thresholds, and the store's final name"""
    geotiff: Stage | None = field(default=None, metadata=ABSENT)
    """GeoTIFFs of the maps"""

    def plus(self, name: str, cost: Stage) -> Stages:
        """With the cost of a stage, by its name in JSON, added."""
        attribute = f"{name}_" if keyword.iskeyword(name) else name
        before = getattr(self, attribute) or (SearchStage() if name == "endmembers" else Stage())
        changed: dict[str, Any] = {attribute: before.plus(cost)}
        return replace(self, **changed)

    def with_search(self, **numbers: int) -> Stages:
        """With what a search for endmembers came to added."""
        return replace(self, endmembers=(self.endmembers or SearchStage()).with_search(**numbers))

    def items(self) -> Iterator[tuple[str, Stage]]:
        """Name in JSON and cost of each stage that was gone through."""
        for one in fields(self):
            if (stage := getattr(self, one.name)) is not None:
                yield name_in_json(one), stage
