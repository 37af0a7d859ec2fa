"""The record of a finished run, which run.json holds: its options, its inputs, its costs and its results.

Each field's docstring is its description on the page of the documentation and in the published JSON Schema.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hsichunk.atomic_files import read_json
from hsichunk.errors import HsiError
from hsichunk.run import json_records
from hsichunk.run.folder import RUN_JSON
from hsichunk.run.json_records import ABSENT, RecordError
from hsichunk.run.notes import InputFile, Stages
from hsichunk.run.options import Options
from hsichunk.run.plan import Plan
from hsichunk.version import __version__

if TYPE_CHECKING:
    from hsichunk.atomic_files import Json

SCHEMA: Final = 1
"""version of the format; every change of a name, a type or a meaning makes a new one"""


@dataclass(frozen=True, kw_only=True)
class MapExtent:
    """The image that the tiles form on their common grid."""

    name: str
    """site that the first tile names, or else the name of its file"""
    crs: str | None
    """EPSG code, as EPSG:32618, or WKT; null without a CRS"""
    shape: tuple[int, int]
    """rows and columns of the maps"""


@dataclass(frozen=True, kw_only=True)
class BandCount:
    """The number of bands used."""

    kept: int
    """bands that were unmixed"""
    of: int
    """bands of each tile"""


@dataclass(frozen=True, kw_only=True)
class ClusterSize:
    """The size of the cluster that did the pass."""

    workers: int
    """worker processes"""
    threads: int
    """threads of each worker"""


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """Pixels of the tiles; where tiles overlap, each pixel of the common grid counts once."""

    valid: int
    """pixels unmixed"""
    masked: int
    """pixels left out: without data in a kept band, masked, or in a damaged chunk"""
    solved: int
    """pixels whose abundances were solved for"""


@dataclass(frozen=True, kw_only=True)
class SkippedTile:
    """A tile that was left out."""

    path: str
    """path or address of the tile, as it was given"""
    reason: str
    """why it could not be read"""


@dataclass(frozen=True, kw_only=True)
class DecodedChunks:
    """Stored chunks decoded for the pixels of the pass; of a resumed run, in all of its attempts."""

    chunks: int
    """stored chunks"""
    bytes: int
    """their bytes after decoding"""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How well the solver met the optimality conditions, and the work that it took."""

    pivots: int | None = field(default=None, metadata=ABSENT)
    """changes of the support of all pixels together (fcls)"""
    most_pivots: int | None = field(default=None, metadata=ABSENT)
    """most changes of the support of any one pixel (fcls)"""
    fallbacks: int | None = field(default=None, metadata=ABSENT)
    """pixels that the second solver solved (fcls)"""
    worst_kkt: float
    """largest violation of the optimality conditions in any pixel"""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a finished run was asked for, what it read, what it took and what it found."""

    schema: int = field(default=SCHEMA)
    """version of this format"""
    hsichunk: str
    """version of the package that made the run"""
    versions: dict[str, str]
    """versions of Python and of the packages that the run used"""
    options: Options
    """the options as they were resolved, defaults included"""
    fingerprint: dict[str, Json]
    """what the results depend on: version, the options that change results, tiles, the digest of endmembers that were
    given, masks and the digests of their files; a run resumes an earlier one, or is done already, only where all of it
    is the same"""
    inputs: tuple[InputFile, ...]
    """the tiles by name: where tiles overlap, the first one counts"""
    site: MapExtent
    """the image that the tiles form on their common grid"""
    bands: BandCount
    """number of bands used"""
    plan: Plan
    """how the work was divided to fit the memory given; sizes in bytes"""
    resumed: bool
    """whether the run resumed an earlier attempt"""
    cluster: ClusterSize | None
    """the cluster that did the pass; null where one process did it"""
    stages: Stages
    """time and decoding of each stage"""
    seconds: float
    """wall-clock time of the run in seconds; of a resumed run, of its last attempt"""
    peak_memory: int
    """peak resident memory of the process in bytes; of a resumed run, of its last attempt"""
    pixels: PixelCounts
    """number of pixels unmixed and left out"""
    masks: dict[str, float]
    """share of the pixels under each mask, by the mask as it was given; a pixel may lie under several"""
    bad_chunks: tuple[tuple[int, ...], ...]
    """coordinates in the chunk grid, along the stored axes, of each chunk that could not be decoded (with on_error
    mask)"""
    skipped: tuple[SkippedTile, ...]
    """tiles left out (with on_error skip or mask)"""
    pass_: DecodedChunks
    """chunks that the pass decoded"""
    fcls: Certificate | None = field(default=None, metadata=ABSENT)
    """certificate of abundances that are at least 0 and sum to one"""
    nnls: Certificate | None = field(default=None, metadata=ABSENT)
    """certificate of abundances that are at least 0"""
    ucls: Certificate | None = field(default=None, metadata=ABSENT)
    """certificate of abundances without bounds"""
    mean_abundance: dict[str, float]
    """mean abundance over the valid pixels, by the name of the endmember"""

    def __post_init__(self) -> None:
        if not isinstance(getattr(self, self.options.solver), Certificate):
            raise RecordError(f"{self.options.solver} is missing")

    @property
    def certificate(self) -> Certificate:
        """The certificate of the solver that the run used."""
        certificate: Certificate = getattr(self, self.options.solver)
        return certificate

    @classmethod
    def from_json(cls, content: Json, where: str | os.PathLike[str] = RUN_JSON) -> RunRecord:
        """Return the record that a run.json holds. Raises HsiError, which names `where`, for any other content."""
        where = os.fspath(where)
        if not isinstance(content, dict) or not isinstance(made_by := content.get("hsichunk"), str):
            raise HsiError(f"{where}: is no record of a run; expected the {RUN_JSON} of a finished `hsichunk run`")
        if (version := content.get("schema")) != SCHEMA:
            raise HsiError(
                f"{where}: hsichunk {made_by[:20]} wrote it in format {version or 0}, hsichunk {__version__} reads "
                f"format {SCHEMA}; use that version, or run again with --overwrite"
            )
        try:
            return json_records.from_json(cls, content)
        except (RecordError, HsiError) as error:  # Options raises an HsiError for a value that it refuses
            raise HsiError(f"{where}: is damaged, {error}; run again with --overwrite") from error

    def as_json(self) -> dict[str, Json]:
        """Return the content of run.json as plain values."""
        return json_records.as_json(self)


def fingerprint_in(content: Json) -> Json:
    """Return the fingerprint in the content of a run.json of any format; None where it has none."""
    return content.get("fingerprint") if isinstance(content, dict) else None


def read_record(out: Path) -> RunRecord:
    """Return the record of the finished run in a folder. Raises HsiError where no record can be read."""
    path = out / RUN_JSON
    if not path.exists():
        raise HsiError(
            f"{out}: holds no {RUN_JSON}; expected the folder of a finished run: hsichunk run TILE --out DIR"
        )
    return RunRecord.from_json(read_json(path), path)
