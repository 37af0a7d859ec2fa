"""The options of a run: one validated object, from the command line or a YAML file."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from hsichunk import schema
from hsichunk.errors import HsiError

# how a job is done, not what comes out of it: these may differ when a run goes on
_HOW = frozenset({"out", "memory", "threads", "overwrite", "tiles"})


@dataclass(frozen=True)
class Options:
    """Everything that a run is asked for."""

    tiles: tuple[str, ...]
    out: str
    k: int = 4
    """number of endmembers to find"""
    endmembers: str | None = None
    """file of endmembers to use instead of finding some"""
    seed: int = 0
    sample: int = 20_000
    """pixels drawn for N-FINDR"""
    share: float = 0.125
    """share of the 64 x 64 pixel cells of the grid that they are drawn from"""
    maxit: int | None = None
    """sweeps of N-FINDR, at most; 3 k when not given"""
    drop_last: int = schema.NEON_DROP_LAST
    every: int = 1
    keep: tuple[tuple[float, float], ...] | None = None
    """wavelength ranges in nm outside which bands are dropped"""
    drop: tuple[tuple[float, float], ...] = ()
    """wavelength ranges in nm to drop beside the windows named in the file"""
    lesson_bands: bool = False
    sam_threshold: tuple[float, ...] = (0.1,)
    sid_threshold: tuple[float, ...] = (0.05,)
    relative: bool = False
    """thresholds as shares of the range of distances over the image, PySpTools' rule"""
    memory: int = 2_000_000_000
    """bytes that the whole process may hold"""
    threads: int = 2
    overwrite: bool = False

    def __post_init__(self) -> None:
        self._need(len(self.tiles) > 0, "tiles", "at least one tile")
        self._need(2 <= self.k <= schema.MAX_ENDMEMBERS, "k", f"2 to {schema.MAX_ENDMEMBERS} endmembers")
        self._need(self.sample >= 1, "sample", "at least one pixel")
        self._need(0 < self.share <= 1, "share", "a share above 0, at most 1")
        self._need(self.maxit is None or self.maxit >= 1, "maxit", "at least one sweep")
        self._need(self.drop_last >= 0, "drop_last", "no or some bands")
        self._need(self.every >= 1, "every", "1 for all bands, 2 for every other, ...")
        self._need(self.threads >= 1, "threads", "at least one thread")
        self._need(self.memory > 0, "memory", "bytes, as 2GB")
        self._need(0 <= self.seed < 2**63, "seed", "a whole number from 0")
        for name in ("sam_threshold", "sid_threshold"):
            values = getattr(self, name)
            good = len(values) > 0 and all(math.isfinite(v) and v >= 0 for v in values)
            self._need(good, name, "numbers from 0, one or one a class")

    def _need(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise HsiError(f"{name.replace('_', '-')} is {getattr(self, name)!r}; expected {expected}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def fingerprint(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """What the results depend on: the options that matter and the inputs. Runs with equal ones go on in one folder."""
        what = {name: value for name, value in self.as_dict().items() if name not in _HOW}
        if self.endmembers is not None:
            with open(self.endmembers, "rb") as file:
                what["endmembers"] = hashlib.sha256(file.read()).hexdigest()
        return {**what, "inputs": [{"name": i["name"], "size": i["size"], "metadata": i["metadata"]} for i in inputs]}


def read_config(path: str | os.PathLike[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options from a YAML file under those given on the command line. Raises HsiError for unknown names."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            loaded = yaml.safe_load(file) or {}
    except OSError as error:
        raise HsiError(f"{os.fspath(path)}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HsiError(f"{os.fspath(path)}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(loaded, dict):
        raise HsiError(f"{os.fspath(path)}: holds {type(loaded).__name__}; expected options, as 'k: 4'")
    known = {f.name for f in fields(Options)}
    options = {str(name).replace("-", "_"): value for name, value in loaded.items()}
    if unknown := sorted(set(options) - known):
        raise HsiError(f"{os.fspath(path)}: unknown option {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return {**options, **given}


def build(values: Mapping[str, Any]) -> Options:
    """Options from plain values, sequences made tuples and sizes such as 2GB made bytes."""
    made = dict(values)
    try:
        for name in ("tiles", "sam_threshold", "sid_threshold"):
            if name in made:
                made[name] = tuple(made[name]) if isinstance(made[name], (list, tuple)) else (made[name],)
        for name in ("sam_threshold", "sid_threshold"):
            if name in made:
                made[name] = tuple(float(v) for v in made[name])
        for name in ("keep", "drop"):
            if made.get(name):
                made[name] = tuple((float(low), float(high)) for low, high in made[name])
        if isinstance(made.get("memory"), str):
            from dask.utils import parse_bytes

            made["memory"] = int(parse_bytes(made["memory"]))
        for f in fields(Options):
            if f.type in ("int", "float", "bool") and f.name in made and not isinstance(made[f.name], (int, float)):
                raise ValueError(f"{f.name} is {made[f.name]!r}")
        return Options(**made)
    except (TypeError, ValueError) as error:
        raise HsiError(f"options: {' '.join(str(error).split())}; see hsichunk run --help") from error


