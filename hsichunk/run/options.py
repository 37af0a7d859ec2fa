"""The options of a run: one table, and one validated object from the command line, a YAML file or keywords.

A new option is a row here: a field of `Options` with its record. The command line (`hsichunk.cli.arguments`), the
config file (`hsichunk.run.config_file`), the fingerprint of a run and a page of the docs are made from the table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hsichunk import metrics, schema
from hsichunk.errors import OptionError
from hsichunk.run.option import (
    ABUNDANCES,
    ALL,
    BANDS,
    CLASSES,
    ENDMEMBERS,
    INFO,
    INPUT,
    READS,
    RUN,
    SEARCH,
    SEARCHES,
    WORK,
    Option,
    Rule,
    option,
)
from hsichunk.run.option_kinds import (
    NAME,
    NUMBER,
    NUMBERS,
    RANGES,
    SCORES,
    SIZE,
    SWITCH,
    TEXT,
    TEXTS,
    WHOLE,
    RawValue,
    dashed,
    either,
    wrong,
)
from hsichunk.version import __version__

if TYPE_CHECKING:
    from hsichunk.atomic_files import Json

T = TypeVar("T")
NFINDR: Final = schema.METHODS[0]
ASCENDING: Final[Rule[tuple[tuple[float, float], ...]]] = (
    lambda ranges: all(-math.inf < low <= high < math.inf for low, high in ranges),
    "(low, high) in nm",
)


def _processors() -> int:
    from hsichunk.threads import available  # imports NumPy, which the help does without

    return available()


def _table(cls: type[T]) -> type[T]:
    """Give the fields of a class of options their defaults, and add a threshold for each metric after `metric`."""
    rows: dict[str, Option[Any]] = {}
    types = {}
    for name, annotation in cls.__annotations__.items():
        rows[name], types[name] = vars(cls)[name].metadata["option"], annotation
        if name == "metric":
            for metric in metrics.METRICS:
                threshold = f"{metric.name}_threshold"
                rows[threshold] = Option((metric.threshold,), NUMBERS, f"{metric.limit}: one, or one a class.", CLASSES)
                types[threshold] = "tuple[float, ...]"
    for name, row in rows.items():
        metadata = {"option": replace(row, name=name)}
        if callable(row.default):
            setattr(cls, name, field(default_factory=row.default, metadata=metadata))
        else:
            setattr(cls, name, field(default=row.default, metadata=metadata))
    cls.__annotations__ = types
    return cls


@dataclass(frozen=True)
@_table
class Options:
    """The options of a run, each of them checked. Raises OptionError for values that do not fit together."""

    # fmt: off
    tiles: tuple[str, ...] = option(
        MISSING, TEXTS, "NEON reflectance tiles (HDF5), ENVI images, GeoTIFFs.", commands=READS, metavar="TILE",
        positional=True, rule=(bool, "at least one tile"), changes="inputs")
    out: str = option(
        MISSING, TEXT, "Folder for the results; it is made if it is missing.", metavar="DIR", changes="work")
    overwrite: bool = option(
        False, SWITCH, "Replace results that were made with other options.", changes="work",
        asked_each_time=True)

    k: int = option(
        4, WHOLE, "Number of endmembers to find.", SEARCH, (RUN, ENDMEMBERS, INFO),
        rule=(lambda k: 2 <= k <= schema.MAX_ENDMEMBERS, f"2 to {schema.MAX_ENDMEMBERS} endmembers"))
    seed: int = option(
        0, WHOLE, "Seed of the sample of pixels.", SEARCH, READS,
        rule=(lambda seed: 0 <= seed < 2**63, "a whole number from 0"))
    sample: int = option(
        20_000, WHOLE, "Pixels in the sample that is searched.", SEARCH, SEARCHES,
        rule=(lambda n: n >= 1, "at least one pixel"))
    share: float = option(
        0.125, NUMBER, "Share of the cells of 64 x 64 pixels that the sample is drawn from.", SEARCH, SEARCHES,
        rule=(lambda share: 0 < share <= 1, "a share above 0, at most 1"))
    method: str = option(
        NFINDR, NAME, "Search method: nfindr (the default), atgp, ppi, fippi (finds about k, more or fewer) or vca.",
        SEARCH, SEARCHES, choices=schema.METHODS)
    maxit: int | None = option(
        None, WHOLE, "Most sweeps of N-FINDR, or rounds of FIPPI.", SEARCH, SEARCHES, default_text="3 k sweeps",
        rule=(lambda n: n >= 1, "at least one sweep"))
    refine: bool = option(
        False, SWITCH, "Search all pixels, in this process, until none makes the simplex larger: reads the tiles "
        "twice.", SEARCH, SEARCHES)
    exclude: float | None = option(
        None, NUMBER, "Leave outliers out of the search: pixels so many robust deviations from the median (as 50), or "
        "the farthest share of all (as 1e-5).", SEARCH, SEARCHES,
        rule=(lambda x: 0 < x < math.inf, "a distance of 1 or more (as 50), or a share of pixels below 1 (as 1e-5)"))
    endmembers: str | None = option(
        None, TEXT, "Use the endmembers of this file (CSV, NetCDF, ENVI .sli or .lib) instead of a search.", SEARCH,
        changes="inputs")
    per_tile: bool = option(False, SWITCH, "Find endmembers of each tile among its own pixels.", SEARCH)

    solver: str = option(
        schema.FCLS, NAME, "Constraints: fcls, at least 0 and summing to one (the default), nnls, at least 0, or "
        "ucls, no constraint.", ABUNDANCES, choices=tuple(schema.CONSTRAINTS))

    metric: tuple[str, ...] = option(
        (schema.SAM, schema.SID), SCORES, "Scores to store, each with its class map: some of "
        f"{either(dashed(schema.METRICS), 'and')}.", CLASSES, choices=schema.METRICS)
    relative: bool = option(
        False, SWITCH, "Take thresholds as shares of the range of the scores over the image (PySpTools' rule).",
        CLASSES)

    keep: tuple[tuple[float, float], ...] | None = option(
        None, RANGES, "Keep only bands within these ranges (nm), as 400:1300,1500:1700.", BANDS, READS,
        rule=ASCENDING)
    drop: tuple[tuple[float, float], ...] = option(
        (), RANGES, "Drop bands within these ranges (nm), beside the bad-band windows of the file.", BANDS, READS,
        rule=ASCENDING)
    drop_last: int | None = option(
        None, WHOLE, "Bands to drop at the end.", BANDS, READS,
        default_text="10 of NEON's tiles, which are noise; none of images", rule=(lambda n: n >= 0, "no or some bands"))
    every: int = option(
        1, WHOLE, "Keep every n-th band.", BANDS, READS,
        rule=(lambda n: n >= 1, "1 for all bands, 2 for every other, ..."))
    lesson_bands: bool = option(
        False, SWITCH, "Keep the 360 bands of NEON's lesson instead of all good ones.", BANDS, READS)

    mask: tuple[str, ...] = option(
        (), TEXTS, "Pixels to leave out, may be given again: weather, shadow, water, ndvi=0.2:1 (the range to keep), "
        "brightness=0.02:0.8, or a raster or polygon file.", INPUT, SEARCHES, metavar="WHAT")
    on_error: str = option(
        "stop", NAME, "On a bad tile: stop (the default), skip it, or mask: skip it, and leave out the pixels of bad "
        "chunks.", INPUT, SEARCHES, metavar="WHAT", choices=("stop", "skip", "mask"))
    bands: str = option(
        "same", NAME, "Tiles of other wavelengths: same (the default) refuses them, common interpolates them to the "
        "wavelengths of the first tile.", INPUT, READS, metavar="WHAT", choices=("same", "common"))

    memory: int = option(
        2_000_000_000, SIZE, "Most memory that the whole process may hold, as 512MB.", WORK, ALL,
        rule=(lambda size: size > 0, "bytes, as 2GB"), changes="work")
    threads: int = option(
        _processors, WHOLE, "Number of threads.", WORK, ALL, default_text="all processors",
        rule=(lambda n: n >= 1, "at least one thread"), changes="work")
    scheduler: str | None = option(
        None, TEXT, "Use the workers of this dask scheduler, as tcp://host:8786.", WORK, metavar="ADDRESS",
        changes="work")
    cluster: str | None = option(
        None, NAME, "Use worker processes on this machine, each with --threads and --memory.", WORK, metavar="local",
        choices=("local",), changes="work")
    workers: int = option(
        2, WHOLE, "Number of worker processes of a local cluster.", WORK,
        rule=(lambda n: n >= 1, "at least one process"), changes="work")
    profile: str | None = option(
        None, TEXT, "Save dask's performance report (HTML).", WORK, changes="work")
    # fmt: on

    def __post_init__(self) -> None:
        for row in TABLE.values():
            self._check(row)
        method = self.method
        self._need(self.maxit is None or method in (NFINDR, "fippi"), "maxit", f"none for {method}")
        self._need(self.exclude is None or not self.endmembers, "endmembers", "no --exclude beside it")
        self._need(not (self.cluster and self.scheduler), "scheduler", "no --cluster beside it")
        self._need(not (self.per_tile and self.endmembers), "endmembers", "no --per-tile beside it")
        self._need(method == NFINDR or not self.endmembers, "method", "no --endmembers beside it")
        self._need(not self.refine or method == NFINDR, "method", "nfindr, with --refine")
        self._need(not (self.refine and self.endmembers), "endmembers", "no --refine beside it")
        self._need(method != "fippi" or not self.per_tile, "method", "one that finds k, with --per-tile")
        self._check_thresholds()

    def _check(self, row: Option[Any]) -> None:
        """Raise OptionError where a value breaks the rule of its row or is none of its choices."""
        value = getattr(self, row.name)
        if value is None:
            return
        if isinstance(value, tuple) and row.choices:
            self._need(
                bool(value) and set(value) <= set(row.choices), row.name, f"some of {', '.join(dashed(row.choices))}"
            )
        elif row.choices:
            self._need(value in row.choices, row.name, either(dashed(row.choices)))
        if row.rule is not None:
            self._need(row.rule[0](value), row.name, row.rule[1])

    def _check_thresholds(self) -> None:
        """Raise OptionError for thresholds that are too many, too few, or not within the range of their metric."""
        k_unknown = self.endmembers is not None or self.method == "fippi"  # `with_k` checks their number later
        for metric in metrics.METRICS:
            name, values = f"{metric.name}_threshold", self.threshold(metric.name)
            enough = k_unknown or len(values) in (1, self.k)
            self._need(enough, name, f"one number, or {self.k}: one for each of k endmembers")
            low, high = (0.0, 1.0) if self.relative else (metric.lowest, metric.highest)
            expected = f"numbers from {low:g} to {high:g}" if math.isfinite(high) else f"finite numbers from {low:g}"
            if self.relative:
                expected = "shares from 0 to 1 (relative)"
            self._need(all(math.isfinite(v) and low <= v <= high for v in values), name, expected)

    def threshold(self, metric: str) -> tuple[float, ...]:
        """Return the thresholds of a metric's classes: one, or one a class."""
        values: tuple[float, ...] = getattr(self, f"{metric}_threshold")
        return values

    @property
    def products(self) -> tuple[str, ...]:
        """The names of the products that the pass stores."""
        return (schema.ABUNDANCE, schema.RMSE, *self.metric)

    def with_k(self, k: int) -> Options:
        """Return the options for the k endmembers of a file, or that a search without a fixed number has found.

        Raises OptionError for thresholds that are neither one nor k.
        """
        source = f"in {self.endmembers}" if self.endmembers else f"that {self.method} finds"
        for metric in schema.METRICS:
            expected = f"one number, or {k}: one for each of the endmembers {source}"
            self._need(len(self.threshold(metric)) in (1, k), f"{metric}_threshold", expected)
        return replace(self, k=k)

    def _need(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise wrong(name, getattr(self, name), expected)

    def as_dict(self) -> dict[str, Json]:
        """Return the options as plain values for JSON."""
        plain: dict[str, Json] = json.loads(json.dumps(asdict(self)))
        return plain

    def words(self) -> list[str]:
        """Return the words of `hsichunk run` that ask for the same; defaults are left out."""
        rows = [row for row in TABLE.values() if not row.asked_each_time]
        values = ((row, getattr(self, row.name)) for row in rows)
        return [word for row, value in values if value != row.value() for word in row.words(value)]

    def fingerprint(self, inputs: Sequence[Json]) -> dict[str, Json]:
        """Return what the results depend on: version, options that change results, inputs.

        A run resumes an earlier one, or is done already, where the fingerprints are equal.
        """
        options = {name: value for name, value in self.as_dict().items() if TABLE[name].changes == "results"}
        return {"hsichunk": __version__, **options, "inputs": inputs}


TABLE: Final[dict[str, Option[Any]]] = {each.name: each.metadata["option"] for each in fields(Options)}
"""The record of every option by its name, in the order of the help"""


def build(values: Mapping[str, RawValue]) -> Options:
    """Return options from words or plain values, by name: 2GB becomes bytes, "0.8,0.3" becomes numbers.

    Raises OptionError, which names the option.
    """
    check_names(values)
    for name, expected in (("tiles", "the path of at least one tile"), ("out", "a folder for the results: --out DIR")):
        if name not in values:
            raise OptionError(f"no {name} given; expected {expected}")
    read: dict[str, Any] = {name: TABLE[name].read(value) for name, value in values.items()}
    return Options(**read)


def check_names(values: Mapping[str, RawValue], where: str = "") -> None:
    """Raise OptionError for names of no option, each with the option of the nearest name."""
    import difflib

    unknown = []
    for name in sorted(set(values) - set(TABLE)):
        near = difflib.get_close_matches(name, TABLE, 1)
        unknown.append(f"{name} (did you mean {near[0]}?)" if near else name)
    if unknown:
        raise OptionError(f"{where}unknown option {', '.join(unknown)}; known are {', '.join(sorted(TABLE))}")
