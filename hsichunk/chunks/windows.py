"""Compute with rectangles of pixels and the chunks that lie under them: intersections, differences, bounds, cuts.

No other module computes these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hsichunk.array_types import Positions


@dataclass(frozen=True)
class Window:
    """Rows from `top` to `bottom` and columns from `left` to `right` of a stored array, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and of columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def empty(self) -> bool:
        """Whether the window holds no pixel."""
        return self.top >= self.bottom or self.left >= self.right

    def shifted(self, down: int, across: int) -> Window:
        """Return the window moved `down` rows and `across` columns.

        This is the same rectangle, counted from a corner that lies as far up and to the left.
        """
        return Window(self.top + down, self.bottom + down, self.left + across, self.right + across)


def outside(window: Window, covered: Sequence[Window]) -> list[Window]:
    """Return the parts of a window that lie outside all of some others, as rectangles."""
    parts = [window]
    for hole in covered:
        parts = [rest for part in parts for rest in minus(part, hole)]
    return parts


def minus(a: Window, b: Window) -> list[Window]:
    """Return the parts of `a` outside `b`: up to four rectangles, above, left of, right of and below `b`."""
    hole = common(a, b)
    if hole.empty:
        return [a]
    parts = [
        Window(a.top, hole.top, a.left, a.right),
        Window(hole.top, hole.bottom, a.left, hole.left),
        Window(hole.top, hole.bottom, hole.right, a.right),
        Window(hole.bottom, a.bottom, a.left, a.right),
    ]
    return [part for part in parts if not part.empty]


def window_of(rows: Positions, cols: Positions) -> Window | None:
    """Return the window that the outer product of rows and columns is; None where they do not follow one another."""
    if not (len(rows) and len(cols) and (np.diff(rows) == 1).all() and (np.diff(cols) == 1).all()):
        return None
    return Window(int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)


def around(windows: list[Window]) -> Window:
    """Return the smallest window that holds all of some."""
    return Window(
        min(w.top for w in windows),
        max(w.bottom for w in windows),
        min(w.left for w in windows),
        max(w.right for w in windows),
    )


def common(a: Window, b: Window) -> Window:
    """Return the window that two windows share; it is `empty` where they share no pixel."""
    return Window(max(a.top, b.top), min(a.bottom, b.bottom), max(a.left, b.left), min(a.right, b.right))


def within(part: Window, window: Window) -> tuple[slice, slice]:
    """Return the rows and the columns of a part of a window in an array of the window's shape."""
    top, left = window.top, window.left
    return slice(part.top - top, part.bottom - top), slice(part.left - left, part.right - left)


def cuts(start: int, stop: int, step: int) -> list[int]:
    """Return `start`, the multiples of `step` between `start` and `stop`, and `stop`."""
    return [start, *range((start // step + 1) * step, stop, step), stop]


def cut_rows(window: Window, unit: int, rows: int) -> Iterator[Window]:
    """Cut a window into windows of about `rows` rows, at multiples of `unit`; one of at most `rows` stays whole."""
    step = max(1, rows // unit) * unit if rows < window.bottom - window.top else window.bottom
    for top, bottom in pairwise(cuts(window.top, window.bottom, step)):
        yield Window(top, bottom, window.left, window.right)


def chunk_range(start: int, stop: int, size: int) -> range:
    """Return the numbers of the chunks of `size` along an axis that hold positions from start to stop (excluded)."""
    return range(start // size, -(-stop // size))


def chunk_columns(window: Window, chunks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the columns of chunks under a window as (number down, number across), row by row.

    `chunks` is the shape of a chunk, (y, x, ...).
    """
    across = chunk_range(window.left, window.right, chunks[1])
    return [(i, j) for i in chunk_range(window.top, window.bottom, chunks[0]) for j in across]


def chunk_window(column: tuple[int, int], chunks: Sequence[int]) -> Window:
    """Return the pixels of a column of chunks; at the edges of the array some of them may lie outside it."""
    top, left = column[0] * chunks[0], column[1] * chunks[1]
    return Window(top, top + chunks[0], left, left + chunks[1])
