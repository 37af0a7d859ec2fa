"""Select the bands of a tile that are kept: by wavelength, never by number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hsichunk.array_types import Floats, Positions
from hsichunk.errors import HsiError
from hsichunk.readers.model import inside

Ranges = Iterable[Sequence[float]]
"""wavelength ranges (low, high) in nm, as users give them"""


def ranges_of(ranges: Ranges, what: str) -> list[tuple[float, float]]:
    """Return wavelength ranges [(low, high), ...] in nm, checked. Raises HsiError, naming `what`, for anything else."""
    checked = []
    try:
        for low, high in ranges:
            checked.append((float(low), float(high)))
    except (TypeError, ValueError):
        raise HsiError(f"{what} is {ranges!r}; expected ranges in nm, as [(1340, 1445), (1790, 1955)]") from None
    for low, high in checked:
        if not low <= high:
            raise HsiError(f"{what} has the range {low:g} to {high:g}; expected (low, high) in nm")
    return checked


def select_bands(
    wavelength: Floats,
    windows: list[tuple[float, float]],
    drop_last: int,
    keep: list[tuple[float, float]] | None,
    every: int,
    lesson_bands: bool,
) -> Positions:
    """Return positions of the kept bands, ascending: every `every`-th of those in `keep` (None: all), not in `windows`.

    `wavelength` (bands,) in nm, ascending; ranges (low, high) include both ends; the last `drop_last` of all bands are
    left out. `lesson_bands` also leaves out the last band below each window, as the index arithmetic of NEON's lesson
    does. Raises HsiError when no band is left.
    """
    integral = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in (drop_last, every))
    if not integral or drop_last < 0 or every < 1:
        raise HsiError(f"drop_last={drop_last}, every={every}; expected whole numbers, from 0 and from 1")
    good = np.ones(len(wavelength), np.bool_) if keep is None else inside(wavelength, keep)
    good &= ~inside(wavelength, windows)
    if lesson_bands:
        for low, _ in windows:
            good[np.flatnonzero(wavelength < low)[-1:]] = False
    good[max(0, len(wavelength) - drop_last) :] = False
    bands = np.flatnonzero(good)[::every]
    if not bands.size:
        extent = f"{wavelength[0]:g} to {wavelength[-1]:g} nm"
        raise HsiError(f"no band of {len(wavelength)} ({extent}) is left; widen keep or drop fewer")
    return bands
