"""Rectangles of pixels, and the chunks that lie under them.

What rectangles share, what lies around them, what is left of them and where they are cut is computed here alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Rows top..bottom and columns left..right of a stored array, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.top >= self.bottom or self.left >= self.right

    def shifted(self, down: int, across: int) -> Window:
        """The same rectangle, its rows and columns counted from a corner that lies so far up and to the left."""
        return Window(self.top + down, self.bottom + down, self.left + across, self.right + across)


def outside(window: Window, covered: Sequence[Window]) -> list[Window]:
    """What is left of a window after others are taken out, as rectangles."""
    left = [window]
    for hole in covered:
        left = [part for piece in left for part in minus(piece, hole)]
    return left


def minus(a: Window, b: Window) -> list[Window]:
    """What is left of `a` without `b`: up to four rectangles, above, left, right and below."""
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


def window_of(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Window | None:
    """The rectangle of stored pixels that positions make up, if they do."""
    if not (len(rows) and len(cols) and (np.diff(rows) == 1).all() and (np.diff(cols) == 1).all()):
        return None
    return Window(int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)


def around(windows: list[Window]) -> Window:
    """The smallest window that holds all of some."""
    return Window(
        min(w.top for w in windows),
        max(w.bottom for w in windows),
        min(w.left for w in windows),
        max(w.right for w in windows),
    )


def common(a: Window, b: Window) -> Window:
    """What two windows share; `empty` where that is nothing."""
    return Window(max(a.top, b.top), min(a.bottom, b.bottom), max(a.left, b.left), min(a.right, b.right))


def within(part: Window, window: Window) -> tuple[slice, slice]:
    """Rows and columns that a part of a window takes in an array of the window's shape."""
    top, left = window.top, window.left
    return slice(part.top - top, part.bottom - top), slice(part.left - left, part.right - left)


def cuts(start: int, stop: int, step: int) -> list[int]:
    """Start and stop, and the multiples of `step` between them."""
    return [start, *range((start // step + 1) * step, stop, step), stop]


def cut_rows(window: Window, unit: int, rows: int) -> Iterator[Window]:
    """A window cut across at multiples of `unit`, about `rows` apart; whole where it is no higher than that."""
    step = max(1, rows // unit) * unit if rows < window.bottom - window.top else window.bottom
    for top, bottom in pairwise(cuts(window.top, window.bottom, step)):
        yield Window(top, bottom, window.left, window.right)


def chunk_range(start: int, stop: int, size: int) -> range:
    """Numbers of the chunks of `size` along an axis that hold something of start..stop, ends excluded."""
    return range(start // size, -(-stop // size))


def chunk_columns(window: Window, chunks: Sequence[int]) -> list[tuple[int, int]]:
    """The columns of chunks under a window, (number down, number across), row by row; `chunks` as (y, x, ...)."""
    across = chunk_range(window.left, window.right, chunks[1])
    return [(i, j) for i in chunk_range(window.top, window.bottom, chunks[0]) for j in across]


def chunk_window(column: tuple[int, int], chunks: Sequence[int]) -> Window:
    """The pixels of a column of chunks of an array; at its edges some of them may lie outside."""
    top, left = column[0] * chunks[0], column[1] * chunks[1]
    return Window(top, top + chunks[0], left, left + chunks[1])
