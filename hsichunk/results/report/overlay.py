"""What the report draws over the picture of the site: marks of endmembers, outlines of tiles, a scale bar.

Positions are in thousandths of the longer side of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsichunk.classification.palette import class_colors, css
from hsichunk.results.finished_run import FinishedRun, MapGrid
from hsichunk.results.quicklook import MapTile

MOST_MARKS = 120  # endmembers marked on the map
LABEL = (130.0, 36.0)  # width and height of the room for a name


@dataclass(frozen=True)
class Mark:
    """The pixel that an endmember came from, with its name beside it."""

    x: float
    y: float
    name: str
    color: str
    """as CSS"""
    line: float
    """y of the name, which is moved down where another name is in its way"""


@dataclass(frozen=True)
class Outline:
    """The outline of a tile."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class ScaleBar:
    """A bar of a round length."""

    share: float
    """of the width of the map"""
    text: str
    """the length with its unit"""


def marks(results: FinishedRun) -> list[Mark]:
    """Return the marks of the endmembers that came from a pixel of the map, of the first 120."""
    em, grid = results.endmembers, results.grid
    k = len(results.names)
    colors = class_colors(k)
    indices, points = [], []
    for index in range(len(em.names[:MOST_MARKS])):
        at = grid.pixel(em.x[index], em.y[index])
        if at is not None:
            indices.append(index)
            points.append(_position(grid, at[0] + 0.5, at[1] + 0.5))
    return [
        Mark(x, y, em.names[index].split()[-1], css(colors[index % k + 1]), line)
        for index, (x, y), line in zip(indices, points, _label_lines(points), strict=True)
    ]


def _label_lines(points: Sequence[tuple[float, float]]) -> list[float]:
    """Return the y of the name beside each point: its own, or below the names that are in its way."""
    lines = [y for _, y in points]
    used: list[tuple[float, float]] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][1], points[i][0])):  # from top to bottom
        x, line = points[index]
        for used_x, used_line in used:
            if abs(used_x - x) < LABEL[0] and line < used_line + LABEL[1]:
                line = used_line + LABEL[1]
        used.append((x, line))
        lines[index] = round(line, 2)
    return lines


def outlines(tiles: Sequence[MapTile], grid: MapGrid) -> list[Outline]:
    """Return the outlines of the tiles."""
    return [Outline(*_position(grid, tile.top, tile.left), *_position(grid, tile.rows, tile.cols)) for tile in tiles]


def scale_bar(grid: MapGrid) -> ScaleBar:
    """Return a bar of a round length (1, 2 or 5 times a power of ten) of about a fifth of the map's width."""
    width, unit = grid.cols * grid.dx, "m" if grid.north_up else "px"
    target = width / 5
    power = 10 ** np.floor(np.log10(target))
    length = float(max(m * power for m in (1, 2, 5) if m * power <= target))
    text = f"{length / 1000:g} k{unit}" if length >= 1000 and unit == "m" else f"{length:g} {unit}"
    return ScaleBar(length / width, text)


def _position(grid: MapGrid, row: float, col: float) -> tuple[float, float]:
    """Return x and y of a row and a column of the map."""
    unit = 1000 / max(grid.rows, grid.cols)
    return round(col * unit, 2), round(row * unit, 2)
