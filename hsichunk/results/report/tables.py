"""What the report says in words and numbers."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np
import xarray as xr

from hsichunk import metrics, schema
from hsichunk.classification.palette import class_colors, css
from hsichunk.results.finished_run import Raster, Results
from hsichunk.results.report.map_statistics import Sums
from hsichunk.results.report.pictures import AGREEMENT
from hsichunk.run.options import Options

MATRIX = 8  # classes up to which all pairs of the two maps are in a table
MOST_PAIRS = 20
IN_FILE = ("keep", "drop", "drop_last", "maxit")  # options that the command line takes from a file alone
ARGUMENT = ("tiles", "out", "overwrite")


@dataclass(frozen=True)
class ClassRow:
    name: str
    color: str
    pixels: int
    share: float
    """of the pixels with data"""
    area: str
    number: int


def number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}"


def percent(share: float) -> str:
    """0.12 as 12.00 %; what is there but rounds to nothing as < 0.01 %."""
    return "< 0.01 %" if 0 < share < 5e-5 else f"{share:.2%}".replace("%", " %")


def whole(value: float) -> str:
    return f"{int(value):,}"


def area(pixels: int, raster: Raster) -> str:
    """Square metres, and hectares, where pixels have a size in metres."""
    if raster.unit not in ("m", "metre", "meter"):
        return f"{whole(pixels)} px"
    square = pixels * raster.dx * raster.dy
    return f"{whole(round(square))} m² ({square / 1e4:.2f} ha)"


def class_rows(label: xr.DataArray, counts: Any, raster: Raster) -> list[ClassRow]:
    """Unclassified and each class of a stored map."""
    names = str(label.attrs["flag_meanings"]).split()
    values = [int(v) for v in np.ravel(label.attrs["flag_values"])]
    valid = max(int(counts[: schema.CLASS_NO_DATA].sum()), 1)
    colors = class_colors(max(v for v in values if v != schema.CLASS_NO_DATA))
    return [
        ClassRow(name, css(colors[v]), int(counts[v]), int(counts[v]) / valid, area(int(counts[v]), raster), v)
        for v, name in zip(values, names, strict=True)
        if v != schema.CLASS_NO_DATA
    ]


def title(name: str) -> str:
    """A class map's metric as people write it."""
    return metrics.BY_NAME[name.removesuffix("_class")].title


def rule(label: xr.DataArray) -> str:
    """The thresholds of a class map, as it was stored."""
    given = np.atleast_1d(label.attrs.get("threshold", ()))
    values = ", ".join(number(float(v)) for v in given)
    unit = label.attrs.get("threshold_units", "")
    ranged = f" over the range of {label.attrs['threshold_range']}" if "threshold_range" in label.attrs else ""
    return f"{label.attrs.get('threshold_rule', '')} with threshold {values} {unit}".strip() + ranged


def agreement_rows(sums: Sums, raster: Raster) -> list[ClassRow]:
    pairs = sums.pairs
    same = int(np.trace(pairs)) - int(pairs[0, 0])
    first, second, neither = int(pairs[1:, 0].sum()), int(pairs[0, 1:].sum()), int(pairs[0, 0])
    total = int(pairs.sum())
    counts = (same, total - same - first - second - neither, first, second, neither)
    titles = [title(name) for name in sums.compared]
    return [
        ClassRow(name.format(*titles), css(color), n, n / max(total, 1), area(n, raster), i)
        for i, ((name, color), n) in enumerate(zip(AGREEMENT, counts, strict=True))
    ]


def matrix(sums: Sums, names: list[str]) -> list[list[str]] | None:
    """Shares of the pixels by the first map's class (rows) and the second's; None of more classes than fit a page."""
    if len(names) > MATRIX:
        return None
    total = max(int(sums.pairs.sum()), 1)
    head = ["unclassified", *names]
    return [[name, *(percent(int(n) / total) for n in row)] for name, row in zip(head, sums.pairs, strict=True)]


def differing(sums: Sums, names: list[str]) -> list[tuple[str, str, str, str]]:
    """The pairs of different classes that most pixels have: the first map's, the second's, pixels, share."""
    head = ["unclassified", *names]
    total = max(int(sums.pairs.sum()), 1)
    off = sums.pairs.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:MOST_PAIRS]
    places = [tuple(int(i) for i in np.unravel_index(int(flat), off.shape)) for flat in order]
    return [(head[i], head[j], whole(off[i, j]), percent(int(off[i, j]) / total)) for i, j in places if off[i, j] > 0]


def left_out(results: Results, sums: Sums) -> list[tuple[str, str, str]]:
    """What was not unmixed and why: words, pixels, share of the map."""
    raster = results.raster
    everything = raster.rows * raster.cols
    pixels = results.run.get("pixels", {})
    masked = int(pixels.get("masked", everything - sums.valid))
    outside = everything - sums.valid - masked
    rows = [
        ("pixels of the map", whole(everything), percent(1.0)),
        ("unmixed", whole(sums.valid), percent(sums.valid / everything)),
        ("in a tile, but without data or masked", whole(masked), percent(masked / everything)),
    ]
    if outside > 0:
        rows.append(("in no tile", whole(outside), percent(outside / everything)))
    return rows


def masks(results: Results) -> list[tuple[str, str]]:
    """Each mask and the share of the tiles' pixels under it."""
    return [(str(name), percent(float(share))) for name, share in results.run.get("masks", {}).items()]


def bad(results: Results) -> list[str]:
    """Damaged chunks and tiles that were left out, in words."""
    lines = [f"tile {each['path']} was left out: {each['reason']}" for each in results.run.get("skipped", ())]
    for each in results.run.get("bad_chunks", ()):
        if isinstance(each, dict):
            said = ", ".join(f"{name} {value}" for name, value in each.items())
        elif isinstance(each, (list, tuple)):
            said = ", ".join(str(part) for part in each)
        else:
            said = str(each)
        lines.append(f"damaged chunk, its pixels left out: {said}")
    return lines


def stages(results: Results) -> list[tuple[str, str, str, str]]:
    """Stage, seconds, chunks decoded, megabytes decoded."""
    return [
        (
            name,
            f"{float(each.get('seconds', 0)):.2f}",
            whole(each.get("chunks_decoded", 0)),
            f"{each.get('bytes_decoded', 0) / 1e6:.1f}",
        )
        for name, each in results.run.get("stages", {}).items()
    ]


def flat(content: Any, before: str = "") -> list[tuple[str, str]]:
    """Nested values of run.json as names and text."""
    if isinstance(content, dict):
        return [row for name, value in content.items() for row in flat(value, f"{before}.{name}" if before else name)]
    if isinstance(content, list):
        return [(before, ", ".join(map(str, content)) or "none")]
    return [(before, "none" if content is None else str(content))]


def command(results: Results) -> tuple[str, str | None]:
    """The command line that repeats the run, and the YAML file that it needs, if it does."""
    given = results.run.get("options", {})
    words = ["hsichunk", "run", *results.tiles, "--out", str(given.get("out", results.out))]
    file: dict[str, Any] = {}
    for each in fields(Options):
        if each.name in ARGUMENT or each.name not in given:
            continue
        value = given[each.name]
        default = None if each.default is MISSING else each.default
        if value == (list(default) if isinstance(default, tuple) else default):
            continue
        if each.name in IN_FILE:
            file[each.name.replace("_", "-")] = value
            continue
        words += _flag(each.name, value)
    if file:
        import yaml

        return shlex.join([*words, "--config", "options.yaml"]), str(yaml.safe_dump(file, sort_keys=False))
    return shlex.join(words), None


def _flag(name: str, value: Any) -> list[str]:
    flag = "-k" if name == "k" else f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    if value is False or value is None:
        return []
    if name == "memory":
        return [flag, f"{value}B"]
    if name == "mask":
        return [word for each in value for word in (flag, str(each))]
    return [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
