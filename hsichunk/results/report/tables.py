"""The words, numbers and rows of tables in the report."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
import xarray as xr

from hsichunk import metrics, schema
from hsichunk.array_types import Ints
from hsichunk.atomic_files import Json
from hsichunk.classification.palette import class_colors, css
from hsichunk.results.finished_run import FinishedRun, MapGrid
from hsichunk.results.report.map_statistics import MapStatistics
from hsichunk.results.report.pictures import AGREEMENT

MOST_IN_MATRIX = 8  # classes of which all pairs of two maps are in a table
MOST_PAIRS = 20  # in the list of differences


@dataclass(frozen=True)
class ClassRow:
    """The row of a class, or of a way in which two class maps compare."""

    name: str
    color: str
    """as CSS"""
    pixels: int
    share: float
    """of the pixels with data"""
    area: str
    number: int
    """value in the class map, or index into AGREEMENT"""


def number(value: float, digits: int = 4) -> str:
    """Return a number with some significant digits."""
    return f"{value:.{digits}g}"


def percent(share: float) -> str:
    """Return 0.12 as 12.00 %, and a share above 0 that would round to 0.00 % as < 0.01 %."""
    return "< 0.01 %" if 0 < share < 5e-5 else f"{share:.2%}".replace("%", " %")


def integer(value: float) -> str:
    """Return a whole number with commas between thousands."""
    return f"{int(value):,}"


def area(pixels: int, grid: MapGrid) -> str:
    """Return the area of pixels in square metres and hectares, or their number where they have no size in metres."""
    if grid.unit not in ("m", "metre", "meter"):
        return f"{integer(pixels)} px"
    square_metres = pixels * grid.dx * grid.dy
    return f"{integer(round(square_metres))} m² ({square_metres / 1e4:.2f} ha)"


def class_rows(label: xr.DataArray, counts: Ints, grid: MapGrid) -> list[ClassRow]:
    """Return the rows of unclassified and of each class of a stored map; `counts` (256,) are pixels by value."""
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
    """Return the metric of a class map as people write it."""
    return metrics.BY_NAME[name.removesuffix("_class")].title


def rule(label: xr.DataArray) -> str:
    """Return the rule and the thresholds of a class map, from the attributes of the stored map."""
    thresholds = np.atleast_1d(label.attrs.get("threshold", ()))
    values = ", ".join(number(float(v)) for v in thresholds)
    unit = label.attrs.get("threshold_units", "")
    over = f" over the range of {label.attrs['threshold_range']}" if "threshold_range" in label.attrs else ""
    return f"{label.attrs.get('threshold_rule', '')} with threshold {values} {unit}".strip() + over


def agreement_rows(statistics: MapStatistics, grid: MapGrid) -> list[ClassRow]:
    """Return the rows of how the two compared class maps agree, in the order of AGREEMENT."""
    pairs = statistics.pairs
    same = int(np.trace(pairs)) - int(pairs[0, 0])
    first, second, neither = int(pairs[1:, 0].sum()), int(pairs[0, 1:].sum()), int(pairs[0, 0])
    total = int(pairs.sum())
    counts = (same, total - same - first - second - neither, first, second, neither)
    titles = [title(name) for name in statistics.compared]
    return [
        ClassRow(name.format(*titles), css(color), n, n / max(total, 1), area(n, grid), i)
        for i, ((name, color), n) in enumerate(zip(AGREEMENT, counts, strict=True))
    ]


def matrix(statistics: MapStatistics, names: list[str]) -> list[list[str]] | None:
    """Return the shares of the pixels by their class in the first compared map (rows) and in the second (columns).

    Each row begins with the name of its class. None for more classes than fit a page.
    """
    if len(names) > MOST_IN_MATRIX:
        return None
    total = max(int(statistics.pairs.sum()), 1)
    head = ["unclassified", *names]
    return [[name, *(percent(int(n) / total) for n in row)] for name, row in zip(head, statistics.pairs, strict=True)]


def differing_pairs(statistics: MapStatistics, names: list[str]) -> list[tuple[str, str, str, str]]:
    """Return the commonest pairs of different classes: that of the first map, of the second, pixels, share."""
    head = ["unclassified", *names]
    total = max(int(statistics.pairs.sum()), 1)
    counts = statistics.pairs.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_PAIRS]
    rows = []
    for i, j in zip(*(index.tolist() for index in np.unravel_index(order, counts.shape)), strict=True):
        if counts[i, j] > 0:
            rows.append((head[i], head[j], integer(counts[i, j]), percent(int(counts[i, j]) / total)))
    return rows


def left_out(results: FinishedRun, statistics: MapStatistics) -> list[tuple[str, str, str]]:
    """Return what was unmixed and what was not: words, pixels, share of the map."""
    total = results.grid.rows * results.grid.cols
    masked = results.record.pixels.masked
    outside = total - statistics.valid - masked
    rows = [
        ("pixels of the map", integer(total), percent(1.0)),
        ("unmixed", integer(statistics.valid), percent(statistics.valid / total)),
        ("in a tile, but without data or masked", integer(masked), percent(masked / total)),
    ]
    if outside > 0:
        rows.append(("in no tile", integer(outside), percent(outside / total)))
    return rows


def masks(results: FinishedRun) -> list[tuple[str, str]]:
    """Return each mask and the share of the tiles' pixels under it."""
    return [(name, percent(share)) for name, share in results.record.masks.items()]


def damage(results: FinishedRun) -> list[str]:
    """Return a line for each tile that was left out and for each damaged chunk."""
    record = results.record
    lines = [f"tile {tile.path} was left out: {tile.reason}" for tile in record.skipped]
    coords = (", ".join(map(str, chunk)) for chunk in record.bad_chunks)
    return [*lines, *(f"damaged chunk, its pixels left out: {each}" for each in coords)]


def stages(results: FinishedRun) -> list[tuple[str, str, str, str]]:
    """Return the name, seconds, decoded chunks and decoded megabytes of each stage."""
    return [
        (name, f"{stage.seconds:.2f}", integer(stage.chunks_decoded), f"{stage.bytes_decoded / 1e6:.1f}")
        for name, stage in results.record.stages.items()
    ]


def flatten(content: Json, name: str = "") -> list[tuple[str, str]]:
    """Return nested values of run.json as names, with dots between their parts, and text."""
    if isinstance(content, dict):
        return [row for key, value in content.items() for row in flatten(value, f"{name}.{key}" if name else key)]
    if isinstance(content, list):
        return [(name, ", ".join(map(str, content)) or "none")]
    return [(name, "none" if content is None else str(content))]


def command(results: FinishedRun) -> str:
    """Return the command line that repeats the run."""
    return shlex.join(["hsichunk", "run", *results.record.options.words()])
