"""Hold the spectra of a library as its file has them, before units, scale and order are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hsichunk.array_types import Floats


@dataclass
class LibrarySpectra:
    """The content of a file of spectra, unchanged; None for what it does not say."""

    source: str
    """the file, as errors name it"""
    values: Floats
    """(k, L) in the unit of the file"""
    wavelength: Floats | None = None
    """(L,)"""
    names: Sequence[str] | None = None
    """(k,)"""
    units: str | None = None
    """of the wavelengths"""
    fwhm: Floats | None = None
    """(L,) in the unit of the wavelengths"""
    scale: float | None = None
    """the value that stands for reflectance 1"""
    x: Floats | None = None
    """(k,) easting of the source pixels"""
    y: Floats | None = None
    """(k,) northing of the source pixels"""
