"""What the report says in words and numbers."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from hsichunk import metrics, schema
from hsichunk.classification.palette import class_colors, css
from hsichunk.results.finished_run import FinishedRun, MapGrid
from hsichunk.results.report.map_statistics import Sums
from hsichunk.results.report.pictures import AGREEMENT

MATRIX = 8  # classes up to which all pairs of the two maps are in a table
MOST_PAIRS = 20


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


def area(pixels: int, grid: MapGrid) -> str:
    """Square metres, and hectares, where pixels have a size in metres."""
    if grid.unit not in ("m", "metre", "meter"):
        return f"{whole(pixels)} px"
    square = pixels * grid.dx * grid.dy
    return f"{whole(round(square))} m² ({square / 1e4:.2f} ha)"


def class_rows(label: xr.DataArray, counts: Any, grid: MapGrid) -> list[ClassRow]:
    """Unclassified and each class of a stored map."""
    names = str(label.attrs["flag_meanings"]).split()
    values = [int(v) for v in np.ravel(label.attrs["flag_values"])]
    valid = max(int(counts[: schema.CLASS_NO_DATA].sum()), 1)
    colors = class_colors(max(v for v in values if v != schema.CLASS_NO_DATA))
    return [
        ClassRow(name, css(colors[v]), int(counts[v]), int(counts[v]) / valid, area(int(counts[v]), grid), v)
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


def agreement_rows(sums: Sums, grid: MapGrid) -> list[ClassRow]:
    pairs = sums.pairs
    same = int(np.trace(pairs)) - int(pairs[0, 0])
    first, second, neither = int(pairs[1:, 0].sum()), int(pairs[0, 1:].sum()), int(pairs[0, 0])
    total = int(pairs.sum())
    counts = (same, total - same - first - second - neither, first, second, neither)
    titles = [title(name) for name in sums.compared]
    return [
        ClassRow(name.format(*titles), css(color), n, n / max(total, 1), area(n, grid), i)
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


def left_out(results: FinishedRun, sums: Sums) -> list[tuple[str, str, str]]:
    """What was not unmixed and why: words, pixels, share of the map."""
    grid = results.grid
    everything = grid.rows * grid.cols
    masked = results.record.pixels.masked
    outside = everything - sums.valid - masked
    rows = [
        ("pixels of the map", whole(everything), percent(1.0)),
        ("unmixed", whole(sums.valid), percent(sums.valid / everything)),
        ("in a tile, but without data or masked", whole(masked), percent(masked / everything)),
    ]
    if outside > 0:
        rows.append(("in no tile", whole(outside), percent(outside / everything)))
    return rows


def masks(results: FinishedRun) -> list[tuple[str, str]]:
    """Each mask and the share of the tiles' pixels under it."""
    return [(name, percent(share)) for name, share in results.record.masks.items()]


def bad(results: FinishedRun) -> list[str]:
    """Damaged chunks and tiles that were left out, in words."""
    record = results.record
    lines = [f"tile {tile.path} was left out: {tile.reason}" for tile in record.skipped]
    places = (", ".join(map(str, place)) for place in record.bad_chunks)
    return [*lines, *(f"damaged chunk, its pixels left out: {place}" for place in places)]


def stages(results: FinishedRun) -> list[tuple[str, str, str, str]]:
    """Stage, seconds, chunks decoded, megabytes decoded."""
    return [
        (name, f"{stage.seconds:.2f}", whole(stage.chunks_decoded), f"{stage.bytes_decoded / 1e6:.1f}")
        for name, stage in results.record.stages.items()
    ]


def flat(content: Any, before: str = "") -> list[tuple[str, str]]:
    """Nested values of run.json as names and text."""
    if isinstance(content, dict):
        return [row for name, value in content.items() for row in flat(value, f"{before}.{name}" if before else name)]
    if isinstance(content, list):
        return [(before, ", ".join(map(str, content)) or "none")]
    return [(before, "none" if content is None else str(content))]


def command(results: FinishedRun) -> str:
    """The command line that repeats the run."""
    return shlex.join(["hsichunk", "run", *results.record.options.words()])
