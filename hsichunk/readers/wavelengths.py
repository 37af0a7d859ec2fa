"""Compare bands by wavelength, with the one tolerance that every comparison uses."""

from __future__ import annotations

from typing import Final

import numpy as np

from hsichunk.array_types import Floats, Positions

SAME: Final = 1e-3
"""nm: wavelengths that are no farther apart belong to the same band"""


def same_bands(first: Floats, second: Floats) -> bool:
    """Return whether two lists of wavelengths (nm) are of the same bands in the same order."""
    return len(first) == len(second) and bool((np.abs(first - second) <= SAME).all())


def bands_at(wanted: Floats, wavelength: Floats) -> Positions | None:
    """Return the positions (n,) in `wavelength` (L,) of the wanted bands (n,), in nm; None where one is absent."""
    nearest = np.abs(wavelength[:, None] - wanted[None, :]).argmin(0)
    return nearest if same_bands(wavelength[nearest], wanted) else None
