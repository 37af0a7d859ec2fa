"""The spectra of a file before units, scale and order are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hsichunk.array_types import Floats


@dataclass
class LibrarySpectra:
    """What a file of spectra says, as it says it."""

    where: str
    values: Floats
    """(k, L)"""
    wavelength: Floats | None = None
    names: Sequence[str] | None = None
    units: str | None = None
    """of the wavelengths"""
    fwhm: Floats | None = None
    """in the unit of the wavelengths"""
    scale: float | None = None
    """values of reflectance 1; None where the file does not say"""
    x: Floats | None = None
    y: Floats | None = None
