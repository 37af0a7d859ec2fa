"""When two wavelengths are one: the tolerance that every comparison of bands has."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SAME: Final = 1e-3
"""nm: two wavelengths that are no farther apart are one"""


def same_bands(one: NDArray[Any], two: NDArray[Any]) -> bool:
    """Whether two lists of wavelengths (nm) are those of the same bands."""
    return len(one) == len(two) and bool((np.abs(one - two) <= SAME).all())


def bands_at(wanted: NDArray[Any], wavelength: NDArray[Any]) -> NDArray[np.intp] | None:
    """Positions in `wavelength` (L,) of the wanted wavelengths (n,), all in nm: (n,); None where one is not there."""
    nearest: NDArray[np.intp] = np.abs(wavelength[:, None] - wanted[None, :]).argmin(0)
    return nearest if same_bands(wavelength[nearest], wanted) else None
