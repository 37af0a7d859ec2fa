"""TileFile: one frozen record of what any file says, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import ChunkedArray
from hsichunk.grid import Grid

NOWHERE: Final = Grid(-0.5, -0.5, 1.0, -1.0, None, None)
"""rows and columns counted from 0: the grid of a file that lies nowhere"""


class Source(Enum):
    """Where a value of a TileFile came from."""

    FILE = "file"
    """the file states it, or the definition of its product does"""
    FALLBACK = "fallback"
    """a stated stand-in for what the file leaves out, such as NEON's default; a warning (HsiWarning) named it"""
    USER = "user"
    """the user's word, which wins over the file's"""
    ABSENT = "absent"
    """nothing states it and nothing stands in"""


@dataclass(frozen=True)
class Provenance:
    """Where the values of a TileFile came from."""

    scale: Source = Source.FILE
    no_data: Source = Source.FILE
    bad_bands: Source = Source.FILE
    wavelength: Source = Source.FILE
    grid: Source = Source.FILE

    def words(self) -> dict[str, str]:
        """Plain text by name, ready for JSON."""
        return {name: source.value for name, source in vars(self).items()}


@dataclass(frozen=True)
class Bands:
    """The bands of a file in the order of `reflectance`, by wavelength."""

    wavelength: NDArray[np.float64]
    """centres in nm, ascending (n,)"""
    fwhm: NDArray[np.float64] | None = None
    """full widths at half maximum in nm (n,); None where the file has none"""
    windows: tuple[tuple[float, float], ...] = ()
    """bad-band windows in nm, both ends inclusive"""
    drop_last: int = 0
    """bands at the end that are noise"""

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which bands lie in no bad window (n,)."""
        return ~inside(self.wavelength, self.windows)


class Readable(Protocol):
    """What the labelled cube asks of stored values; a ChunkedArray is one."""

    @property
    def path(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, *selection: NDArray[np.intp], threads: int | None = None) -> NDArray[Any]:
        """The values at the outer product of one array of positions a dimension, in native byte order."""

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """The same for the same values alone."""


@dataclass(frozen=True)
class Layer:
    """One ancillary variable."""

    name: str
    dims: tuple[str, ...]
    stored: ChunkedArray
    attrs: dict[str, Any]
    coordinate: bool = False
    """whether it says where pixels lie, as latitudes and longitudes do"""


@dataclass(frozen=True)
class AsStored:
    """How the labelled cube shows a file whose stored values are not those of `TileFile.reflectance`, or in blocks."""

    values: Readable
    """the values with NaN and in the type that the file has"""
    blocks: tuple[int, int, int]
    """lines, samples and bands of a dask block"""
    no_data: float | None
    """what stands for no data among `values`; None where neither the file nor the user names it"""
    units: str = "counts"
    chunks: str | None = None
    """the stored chunks in words; None for those of `TileFile.reflectance`"""


@dataclass(frozen=True)
class TileFile:
    """What a file of any format says, its pixels still on disk.

    Readers make it and nobody else decides about scale, no-data, bad bands and place.
    """

    path: str
    """as it was given"""
    kind: str
    """what its pixels are, in words: "NEON AOP reflectance", "reflectance" """
    site: str
    """the name of the scene: NEON's site, or the stem of the file"""
    title: str
    """the title of its labelled cube"""
    reflectance: ChunkedArray
    """the stored chunks, (line, sample, band) with bands by wavelength"""
    bands: Bands
    scale: float
    """counts per unit reflectance"""
    no_data: int
    """what stands for no data in `reflectance`"""
    place: Grid | None
    """the grid of the pixels with its CRS; None for a file that lies nowhere, or in a swath"""
    offset: float = 0.0
    """reflectance of count 0, which no reader gives yet"""
    sensor: str | None = None
    """the instrument in words, where it is known"""
    layers: tuple[Layer, ...] = ()
    sun: tuple[tuple[str, float, float], ...] = ()
    """flight line, solar azimuth and solar zenith in degrees, for each line that logs them"""
    attrs: dict[str, Any] = field(default_factory=dict)
    """what else the file says of its reflectance"""
    provenance: Provenance = Provenance()
    as_stored: AsStored | None = None
    """of files that the labelled cube shows otherwise; None for those that it shows as `reflectance`, without dask"""
    names_site: bool = False
    """whether `site` is the name of a place, and not of the file"""

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Centres of the bands in nm, ascending (n,)."""
        return self.bands.wavelength

    @property
    def fwhm(self) -> NDArray[np.float64] | None:
        """Widths of the bands in nm (n,)."""
        return self.bands.fwhm

    @property
    def windows(self) -> tuple[tuple[float, float], ...]:
        """Bad-band windows in nm, both ends inclusive."""
        return self.bands.windows

    @property
    def drop_last(self) -> int:
        """Bands at the end that are noise."""
        return self.bands.drop_last

    @property
    def grid(self) -> Grid:
        """The grid of the pixels: rows and columns counted from 0 where the file lies nowhere."""
        return self.place or NOWHERE

    def on_bands(
        self,
        reflectance: ChunkedArray,
        wavelength: NDArray[np.float64],
        fwhm: NDArray[np.float64] | None,
    ) -> TileFile:
        """The same file with other values at other wavelengths (nm); the bad windows stay."""
        return replace(self, reflectance=reflectance, bands=replace(self.bands, wavelength=wavelength, fwhm=fwhm))


@dataclass(frozen=True)
class ReadOptions:
    """What a reader is asked for: what the caller can use, and the user's word on what files leave out."""

    floats: bool = False
    """whether values may be floats"""
    swaths: bool = False
    """whether pixels may lie at latitudes and longitudes, on no grid"""
    wavelength: Sequence[float] | NDArray[Any] | None = None
    units: str | None = None
    """of wavelengths"""
    scale: float | None = None
    no_data: float | None = None

    @property
    def said(self) -> bool:
        """Whether the user has said anything of what the file holds."""
        return any(word is not None for word in (self.wavelength, self.units, self.scale, self.no_data))


def inside(wavelength: NDArray[np.float64], ranges: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
    """Which wavelengths (nm) lie in one of the ranges (low, high), both ends inclusive."""
    found = np.zeros(len(wavelength), np.bool_)
    for low, high in ranges:
        found |= (wavelength >= low) & (wavelength <= high)
    return found


def bad_windows(wavelength: NDArray[np.float64], good: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Runs of bad bands as windows in nm, both ends bad bands themselves."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], good, [True]]).astype(np.int8))).reshape(-1, 2)
    return tuple((float(wavelength[first]), float(wavelength[after - 1])) for first, after in edges.tolist())


def no_data_count(value: float | None, dtype: np.dtype[Any]) -> int:
    """The whole number that means no data; where a file names none, or none that its type holds, the outermost one."""
    if dtype.kind == "f":  # where NaN is none, whatever else is
        return int(value) if value is not None and value.is_integer() else np.iinfo(np.int32).min
    most = np.iinfo(dtype)
    if value is not None and value.is_integer() and most.min <= value <= most.max:
        return int(value)
    return int(most.min or most.max)
