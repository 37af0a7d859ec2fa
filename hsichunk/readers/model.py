"""What a file says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.array import ChunkedArray
from hsichunk.grid import Grid as Grid


@dataclass(frozen=True)
class Layer:
    """One ancillary variable."""

    name: str
    dims: tuple[str, ...]
    stored: ChunkedArray
    attrs: dict[str, Any]


@dataclass(frozen=True)
class NeonFile:
    """A NEON reflectance file, its pixels still on disk."""

    path: str
    site: str
    reflectance: ChunkedArray
    scale: float
    """counts per unit reflectance"""
    no_data: int
    windows: tuple[tuple[float, float], ...]
    """bad-band windows in nm, both ends inclusive"""
    wavelength: NDArray[np.float64]
    fwhm: NDArray[np.float64] | None
    grid: Grid
    layers: tuple[Layer, ...]
    sun: tuple[tuple[str, float, float], ...]
    """flight line, solar azimuth and solar zenith in degrees, for each line that logs them"""
    attrs: dict[str, Any]
    drop_last: int = schema.NEON_DROP_LAST
    """bands at the end that are noise"""


def inside(wavelength: NDArray[np.float64], ranges: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
    """Which wavelengths (nm) lie in one of the ranges (low, high), both ends inclusive."""
    found = np.zeros(len(wavelength), np.bool_)
    for low, high in ranges:
        found |= (wavelength >= low) & (wavelength <= high)
    return found
