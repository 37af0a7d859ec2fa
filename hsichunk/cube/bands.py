"""Which bands of a tile are kept: by wavelength, never by number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hsichunk.errors import HsiError
from hsichunk.readers.model import inside

Ranges = Iterable[Sequence[float]]


def ranges_of(ranges: Ranges, what: str) -> list[tuple[float, float]]:
    """Wavelength ranges [(low, high), ...] in nm, checked. Raises HsiError naming `what` for anything else."""
    out = []
    try:
        for low, high in ranges:
            out.append((float(low), float(high)))
    except (TypeError, ValueError):
        raise HsiError(f"{what} is {ranges!r}; expected ranges in nm, as [(1340, 1445), (1790, 1955)]") from None
    for low, high in out:
        if not low <= high:
            raise HsiError(f"{what} has the range {low:g} to {high:g}; expected (low, high) in nm")
    return out


def select_bands(
    wavelength: NDArray[np.float64],
    windows: list[tuple[float, float]],
    drop_last: int,
    keep: list[tuple[float, float]] | None,
    every: int,
    lesson_bands: bool,
) -> NDArray[np.intp]:
    """Positions of the kept bands, ascending: those inside `keep` (None: all), outside `windows`, every `every`-th.

    `wavelength` (bands,) in nm, ascending; ranges (low, high) include both ends; the last `drop_last` of all bands are
    left out. `lesson_bands` leaves out the last band below each window too, as the index arithmetic of NEON's lesson
    does. Raises HsiError when no band is left.
    """
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in (drop_last, every))
    if not whole or drop_last < 0 or every < 1:
        raise HsiError(f"drop_last={drop_last}, every={every}; expected whole numbers, from 0 and from 1")
    good = np.ones(len(wavelength), np.bool_) if keep is None else inside(wavelength, keep)
    good &= ~inside(wavelength, windows)
    if lesson_bands:
        for low, _ in windows:
            good[np.flatnonzero(wavelength < low)[-1:]] = False
    good[max(0, len(wavelength) - drop_last) :] = False
    kept = np.flatnonzero(good)[::every]
    if not kept.size:
        run = f"{wavelength[0]:g} to {wavelength[-1]:g} nm"
        raise HsiError(f"no band of {len(wavelength)} ({run}) is left; widen keep or drop fewer")
    return kept
