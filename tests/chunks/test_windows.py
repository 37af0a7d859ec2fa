"""The arithmetic of rectangles against sets of pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from hsichunk.chunks.windows import (
    Window,
    around,
    chunk_columns,
    chunk_range,
    chunk_window,
    common,
    cut_rows,
    cuts,
    minus,
    within,
)

SIDE = 24


def flags(window: Window) -> NDArray[np.bool_]:
    """The pixels of a window among those of an image."""
    out = np.zeros((SIDE, SIDE), np.bool_)
    if not window.empty:
        out[window.top : window.bottom, window.left : window.right] = True
    return out


def drawn(random: np.random.Generator) -> Window:
    top, bottom = sorted(random.choice(SIDE + 1, 2, replace=False).tolist())
    left, right = sorted(random.choice(SIDE + 1, 2, replace=False).tolist())
    return Window(top, bottom, left, right)


@pytest.mark.parametrize("seed", range(20))
def test_two_windows(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = drawn(random), drawn(random)
    shared = common(a, b)
    assert (flags(shared) == (flags(a) & flags(b))).all()
    assert shared.empty == (not (flags(a) & flags(b)).any())
    rest = [flags(part) for part in minus(a, b)]
    assert (np.sum(rest, axis=0) == (flags(a) & ~flags(b))).all()  # no pixel twice
    hull = flags(around([a, b]))
    assert hull[flags(a) | flags(b)].all()
    rows, cols = np.nonzero(flags(a) | flags(b))
    assert around([a, b]) == Window(rows.min(), rows.max() + 1, cols.min(), cols.max() + 1)
    if not shared.empty:
        own = np.zeros(a.shape, np.bool_)
        own[within(shared, a)] = True
        assert (own == flags(b)[a.top : a.bottom, a.left : a.right]).all()
    assert a.shifted(3, -2).shifted(-3, 2) == a
    assert a.shifted(3, -2) == Window(a.top + 3, a.bottom + 3, a.left - 2, a.right - 2)


@pytest.mark.parametrize("seed", range(20))
def test_columns_of_chunks_are_those_that_hold_a_pixel(seed: int) -> None:
    random = np.random.default_rng(seed)
    window, chunks = drawn(random), (*random.integers(1, 9, 2).tolist(), 5)
    rows, cols = np.nonzero(flags(window))
    under = sorted(set(zip((rows // chunks[0]).tolist(), (cols // chunks[1]).tolist(), strict=True)))
    assert chunk_columns(window, chunks) == under
    assert [*chunk_range(window.top, window.bottom, chunks[0])] == sorted({i for i, _ in under})
    covered = np.sum([flags(common(window, chunk_window(column, chunks))) for column in under], axis=0)
    assert (covered == flags(window)).all()
    assert all(chunk_window(column, chunks).shape == chunks[:2] for column in under)


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
@pytest.mark.parametrize("unit", [1, 4])
def test_rows_are_cut_at_multiples(rows: int, unit: int) -> None:
    window = Window(5, 23, 2, 9)
    parts = [*cut_rows(window, unit, rows)]
    assert parts[0].top == window.top
    assert parts[-1].bottom == window.bottom
    assert all(a.bottom == b.top for a, b in itertools.pairwise(parts))
    assert all((part.left, part.right) == (2, 9) for part in parts)
    assert all(part.top % unit == 0 for part in parts[1:])
    assert max(part.bottom - part.top for part in parts) <= max(rows, unit)
    if rows == 100:
        assert parts == [window]


def test_cuts() -> None:
    assert cuts(5, 23, 6) == [5, 6, 12, 18, 23]
    assert cuts(6, 18, 6) == [6, 12, 18]
    assert cuts(7, 11, 6) == [7, 11]
