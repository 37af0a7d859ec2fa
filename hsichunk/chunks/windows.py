"""Rectangles of pixels: what they share, what lies around them, what is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def outside(window: Window, covered: Sequence[Window]) -> list[Window]:
    """What is left of a window after others are taken out, as rectangles."""
    left = [window]
    for hole in covered:
        left = [part for piece in left for part in minus(piece, hole)]
    return left


def minus(a: Window, b: Window) -> list[Window]:
    top, bottom = max(a.top, b.top), min(a.bottom, b.bottom)
    lft, right = max(a.left, b.left), min(a.right, b.right)
    if top >= bottom or lft >= right:
        return [a]
    parts = [
        Window(a.top, top, a.left, a.right),
        Window(top, bottom, a.left, lft),
        Window(top, bottom, right, a.right),
        Window(bottom, a.bottom, a.left, a.right),
    ]
    return [p for p in parts if p.top < p.bottom and p.left < p.right]


def window_of(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Window | None:
    """The rectangle of stored pixels that positions make up, if they do."""
    if not (len(rows) and len(cols) and (np.diff(rows) == 1).all() and (np.diff(cols) == 1).all()):
        return None
    return Window(int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)


def around(windows: list[Window]) -> Window:
    return Window(
        min(w.top for w in windows),
        max(w.bottom for w in windows),
        min(w.left for w in windows),
        max(w.right for w in windows),
    )


def common(a: Window, b: Window) -> Window:
    """What two windows share: no rows or columns, or fewer, where that is nothing."""
    return Window(max(a.top, b.top), min(a.bottom, b.bottom), max(a.left, b.left), min(a.right, b.right))


def within(part: Window, window: Window) -> tuple[slice, slice]:
    top, left = window.top, window.left
    return slice(part.top - top, part.bottom - top), slice(part.left - left, part.right - left)
