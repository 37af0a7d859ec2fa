"""The options of a run: one validated object, from the command line or a YAML file."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from hsichunk import schema
from hsichunk.errors import OptionError
from hsichunk.version import __version__

# how a job is done, not what comes out of it: these may differ when a run goes on
_HOW = frozenset(
    {"out", "memory", "threads", "overwrite", "tiles", "scheduler", "cluster", "workers", "profile", "endmembers"}
)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Options:
    """Everything that a run is asked for."""

    tiles: tuple[str, ...]
    out: str
    k: int = 4
    """number of endmembers to find"""
    method: str = schema.METHODS[0]
    """how they are found in the sample: nfindr, atgp, ppi, fippi (which finds as many as there are) or vca"""
    seed: int = 0
    sample: int = 20_000
    """pixels drawn for the search"""
    share: float = 0.125
    """share of the 64 x 64 pixel cells of the grid that they are drawn from"""
    maxit: int | None = None
    """sweeps of N-FINDR at most, 3 k when not given; rounds of FIPPI at most"""
    refine: bool = False
    """search all pixels by N-FINDR, until none makes the simplex larger"""
    exclude: float | None = None
    """outliers are no candidates: robust standard deviations from the median, or the share (below 1) of the farthest"""
    drop_last: int | None = None
    """bands at the end to drop; when not given NEON's ten of NEON's tiles, none of images"""
    every: int = 1
    keep: tuple[tuple[float, float], ...] | None = None
    """wavelength ranges in nm outside which bands are dropped"""
    drop: tuple[tuple[float, float], ...] = ()
    """wavelength ranges in nm to drop beside the windows named in the file"""
    lesson_bands: bool = False
    solver: str = schema.FCLS
    """what binds abundances: fcls (at least 0, sum one), nnls (at least 0) or ucls (nothing)"""
    metric: tuple[str, ...] = (schema.SAM, schema.SID)
    """scores to store, each with its class map: sam, sid, sid_sam, ncc, chebyshev"""
    sam_threshold: tuple[float, ...] = (schema.THRESHOLDS[schema.SAM],)
    """largest spectral angle (rad) of a class; one, or one a class"""
    sid_threshold: tuple[float, ...] = (schema.THRESHOLDS[schema.SID],)
    """largest divergence (nats) of a class; one, or one a class"""
    sid_sam_threshold: tuple[float, ...] = (schema.THRESHOLDS[schema.SID_SAM],)
    """largest divergence times tangent of the angle (nats) of a class; one, or one a class"""
    ncc_threshold: tuple[float, ...] = (schema.THRESHOLDS[schema.NCC],)
    """smallest correlation of a class; one, or one a class"""
    chebyshev_threshold: tuple[float, ...] = (schema.THRESHOLDS[schema.CHEBYSHEV],)
    """largest difference (reflectance) of a class in any band; one, or one a class"""
    sca_threshold: tuple[float, ...] = (0.1,)
    """largest correlation angle (rad) of a class; one, or one a class"""
    relative: bool = False
    """thresholds as shares of the range of distances over the image, PySpTools' rule"""
    memory: int = 2_000_000_000
    """bytes that the whole process may hold"""
    threads: int = 2
    overwrite: bool = False
    endmembers: str | None = None
    """file of endmembers to use instead of finding k"""
    per_tile: bool = False
    """endmembers of each tile from its own pixels"""
    mask: tuple[str, ...] = ()
    """pixels to leave out: see `hsichunk.cube.masks.masks`"""
    on_error: str = "stop"
    """what a bad tile or chunk does: stop, skip (the tile is left out), mask (the pixels of a bad chunk, too)"""
    bands: str = "same"
    """tiles must have the same wavelengths, or are interpolated to those of the first: common"""
    scheduler: str | None = None
    """address of a dask scheduler"""
    cluster: str | None = None
    """local: worker processes of its own"""
    workers: int = 2
    """processes of a local cluster"""
    profile: str | None = None
    """HTML file for dask's performance report"""

    def __post_init__(self) -> None:
        self._need(len(self.tiles) > 0, "tiles", "at least one tile")
        self._need(2 <= self.k <= schema.MAX_ENDMEMBERS, "k", f"2 to {schema.MAX_ENDMEMBERS} endmembers")
        self._need(self.method in schema.METHODS, "method", _either(schema.METHODS))
        self._need(self.solver in schema.CONSTRAINTS, "solver", _either(schema.CONSTRAINTS))
        self._need(self.maxit is None or self.method in ("nfindr", "fippi"), "maxit", f"none for {self.method}")
        self._check_metric()
        self._need(0 <= self.seed < 2**63, "seed", "a whole number from 0")
        self._need(self.sample >= 1, "sample", "at least one pixel")
        self._need(0 < self.share <= 1, "share", "a share above 0, at most 1")
        self._need(self.maxit is None or self.maxit >= 1, "maxit", "at least one sweep")
        self._check_exclude()
        self._need(self.drop_last is None or self.drop_last >= 0, "drop_last", "no or some bands")
        self._need(self.every >= 1, "every", "1 for all bands, 2 for every other, ...")
        for name in ("keep", "drop"):
            self._need(all(low <= high for low, high in getattr(self, name) or ()), name, "(low, high) in nm")
        self._need(self.memory > 0, "memory", "bytes, as 2GB")
        self._need(self.threads >= 1, "threads", "at least one thread")
        self._need(self.workers >= 1, "workers", "at least one process")
        self._need(self.on_error in ("stop", "skip", "mask"), "on_error", "stop, skip or mask")
        self._need(self.bands in ("same", "common"), "bands", "same or common")
        self._need(self.cluster in (None, "local"), "cluster", "local")
        self._need(not (self.cluster and self.scheduler), "scheduler", "no --cluster beside it")
        self._need(not (self.per_tile and self.endmembers), "endmembers", "no --per-tile beside it")
        self._need(self.method == schema.METHODS[0] or not self.endmembers, "method", "no --endmembers beside it")
        self._need(not self.refine or self.method == schema.METHODS[0], "method", "nfindr, with --refine")
        self._need(not (self.refine and self.endmembers), "endmembers", "no --refine beside it")
        self._need(self.method != "fippi" or not self.per_tile, "method", "one that finds k, with --per-tile")
        self._check_thresholds()

    def _check_exclude(self) -> None:
        good = self.exclude is None or (math.isfinite(self.exclude) and self.exclude > 0)
        self._need(good, "exclude", "a distance of 1 or more (as 50), or a share of pixels below 1 (as 1e-5)")
        self._need(self.exclude is None or not self.endmembers, "endmembers", "no --exclude beside it")

    def _check_metric(self) -> None:
        known = bool(self.metric) and set(self.metric) <= set(schema.METRICS)
        self._need(known, "metric", f"some of {', '.join(schema.METRICS)}")

    def _check_thresholds(self) -> None:
        for metric in schema.METRICS:
            name = f"{metric}_threshold"
            values = self.threshold(metric)
            unknown = self.endmembers is not None or self.method == "fippi"  # a file may hold another number
            enough = unknown or len(values) in (1, self.k)
            self._need(enough, name, f"one number, or {self.k}: one for each of k endmembers")
            low, high, expected = 0.0, math.inf, "finite numbers from 0"
            if self.relative:
                high, expected = 1.0, "shares from 0 to 1 (relative)"
            elif metric in schema.SIMILARITIES:
                low, high, expected = -1.0, 1.0, "numbers from -1 to 1"
            self._need(all(math.isfinite(v) and low <= v <= high for v in values), name, expected)

    def threshold(self, metric: str) -> tuple[float, ...]:
        """The thresholds of a metric's classes: one, or one a class."""
        values: tuple[float, ...] = getattr(self, f"{metric}_threshold")
        return values

    @property
    def products(self) -> tuple[str, ...]:
        """What the pass stores."""
        return (schema.ABUNDANCE, schema.RMSE, *self.metric)

    def with_k(self, k: int) -> Options:
        """The same for k endmembers that come from a file, or that a search without a number has found."""
        where = f"in {self.endmembers}" if self.endmembers else f"that {self.method} finds"
        for metric in schema.METRICS:
            one_each = f"one number, or {k}: one for each of the endmembers {where}"
            self._need(len(self.threshold(metric)) in (1, k), f"{metric}_threshold", one_each)
        return replace(self, k=k)

    def _need(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise _wrong(name, getattr(self, name), expected)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def fingerprint(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """What the results depend on: version, options that matter, inputs. Runs with equal ones share a folder."""
        what = {name: value for name, value in self.as_dict().items() if name not in _HOW}
        return {"hsichunk": __version__, **what, "inputs": inputs}


def _wrong(name: str, value: Any, expected: str) -> OptionError:
    shown = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return OptionError(f"{name.replace('_', '-')} is {shown!r}; expected {expected}")


def _either(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def read_config(path: str | os.PathLike[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options from a YAML file under those given on the command line. Raises OptionError for what is not one."""
    import yaml

    where = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            loaded = yaml.safe_load(file)
    except OSError as error:
        raise OptionError(f"{where}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{where}: is no YAML ({' '.join(str(error).split())})") from error
    if loaded is None:
        loaded = {}
    if not isinstance(loaded, dict):
        raise OptionError(f"{where}: holds {type(loaded).__name__}; expected options, as 'k: 4'")
    known = {f.name for f in fields(Options)}
    options = {str(name).replace("-", "_"): value for name, value in loaded.items()}
    if unknown := sorted(set(options) - known):
        raise OptionError(f"{where}: unknown option {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return {**options, **given}


def build(values: Mapping[str, Any]) -> Options:
    """Options from plain values: sizes such as 2GB made bytes, "0.8,0.3" numbers. Raises OptionError, naming it."""
    for name, expected in (("tiles", "the path of at least one tile"), ("out", "a folder for the results: --out DIR")):
        if name not in values:
            raise OptionError(f"no {name} given; expected {expected}")
    made = {name: _READ[name](name, value) for name, value in values.items()}
    return Options(**made)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, value, "a whole number")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, value, "a number")
    return float(value)


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise _wrong(name, value, "a path")
    return os.fspath(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    return tuple(_text(name, v) for v in (value if isinstance(value, (list, tuple)) else (value,)))


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Numbers as one, a list, or text with commas."""
    out: list[float] = []
    for item in value if isinstance(value, (list, tuple)) else (value,):
        try:
            out += [float(part) for part in item.split(",")] if isinstance(item, str) else [_number(name, item)]
        except ValueError:
            raise _wrong(name, item, "numbers, as 0.1 or 0.8,0.3,0.03") from None
    return tuple(out)


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "a name")
    return value.strip().lower().replace("-", "_")


def _metrics(name: str, value: Any) -> tuple[str, ...]:
    """Names as one, a list, or text with commas; each once, in the order in which they are stored."""
    words: list[str] = []
    for item in value if isinstance(value, (list, tuple)) else (value,):
        words += [_word(name, part) for part in item.split(",")] if isinstance(item, str) else [_word(name, item)]
    order = [*schema.METRICS, *words]
    return tuple(sorted(set(words), key=order.index))


def _ranges(name: str, value: Any) -> tuple[tuple[float, float], ...]:
    try:
        return tuple((_number(name, low), _number(name, high)) for low, high in value)
    except (TypeError, ValueError):
        raise _wrong(name, value, "ranges in nm, as [[400, 1300], [1500, 1700]]") from None


def _bytes(name: str, value: Any) -> int:
    """Bytes of 2GB, 512 MB, 1.5GiB or a whole number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", str(value).strip().lower())
    if isinstance(value, bool) or not found or found[2] not in _UNITS:
        raise _wrong(name, value, "bytes, as 2GB or 512MB")
    return int(float(found[1]) * _UNITS[found[2]])


def _or_none(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else read(name, value)


_READ: dict[str, Callable[[str, Any], Any]] = {
    "tiles": _texts,
    "out": _text,
    "k": _whole,
    "method": _word,
    "seed": _whole,
    "sample": _whole,
    "share": _number,
    "maxit": _or_none(_whole),
    "refine": _switch,
    "exclude": _or_none(_number),
    "drop_last": _or_none(_whole),
    "every": _whole,
    "keep": _or_none(_ranges),
    "drop": _ranges,
    "lesson_bands": _switch,
    "solver": _word,
    "metric": _metrics,
    "sam_threshold": numbers,
    "sid_threshold": numbers,
    "sid_sam_threshold": numbers,
    "ncc_threshold": numbers,
    "chebyshev_threshold": numbers,
    "sca_threshold": numbers,
    "relative": _switch,
    "memory": _bytes,
    "threads": _whole,
    "overwrite": _switch,
    "endmembers": _or_none(_text),
    "per_tile": _switch,
    "mask": _texts,
    "on_error": _text,
    "bands": _text,
    "scheduler": _or_none(_text),
    "cluster": _or_none(_text),
    "workers": _whole,
    "profile": _or_none(_text),
}
