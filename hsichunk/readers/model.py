"""The record that every reader returns: TileFile, what a file says and where each value came from."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.chunks.array import ChunkedArray
from hsichunk.grid import Grid

NOWHERE: Final = Grid(-0.5, -0.5, 1.0, -1.0, None, None)
"""the grid of a file without georeferencing: x and y are column and row numbers, counted from 0"""

AttributeValue: TypeAlias = str | float | Sequence[float] | NDArray[np.generic]
"""the value of an attribute of a variable, as NetCDF allows it: text, a number or a list of numbers"""


class Source(Enum):
    """Where a value of a TileFile came from."""

    FILE = "file"
    """the file states the value, or the definition of its product does"""
    FALLBACK = "fallback"
    """a default such as NEON's replaces what the file leaves out; a warning (HsiWarning) names it"""
    USER = "user"
    """the caller states the value, which overrides the file's"""
    ABSENT = "absent"
    """neither the file nor the caller states the value, and no default replaces it"""


@dataclass(frozen=True)
class Provenance:
    """Where the values of a TileFile came from."""

    scale: Source = Source.FILE
    no_data: Source = Source.FILE
    bad_bands: Source = Source.FILE
    wavelength: Source = Source.FILE
    grid: Source = Source.FILE

    def words(self) -> dict[str, str]:
        """Return the source of each value as text, by the name of the value, ready for JSON."""
        return {name: source.value for name, source in vars(self).items()}


@dataclass(frozen=True)
class Bands:
    """The bands of a file in the order of `reflectance`, which is by wavelength."""

    wavelength: Floats
    """centres in nm, ascending (n,)"""
    fwhm: Floats | None = None
    """full widths at half maximum in nm (n,); None where the file has none"""
    windows: tuple[tuple[float, float], ...] = ()
    """bad-band windows (low, high) in nm, both ends inclusive"""
    drop_last: int = 0
    """number of bands at the end that are noise"""

    @property
    def good(self) -> Bools:
        """Which bands lie in no bad-band window (n,); `drop_last` does not count here."""
        return ~inside(self.wavelength, self.windows)


class Readable(Protocol):
    """The part of ChunkedArray that the labelled cube needs of stored values."""

    @property
    def path(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[np.generic]: ...

    def read(self, *selection: Positions, threads: int | None = None) -> NDArray[np.generic]:
        """Read the values at the outer product of one array of positions a dimension, in native byte order."""

    def __dask_tokenize__(self) -> tuple[Hashable, ...]:
        """Return what identifies the values: equal for equal values alone."""


@dataclass(frozen=True)
class Layer:
    """One ancillary variable of a file."""

    name: str
    dims: tuple[str, ...]
    stored: ChunkedArray
    attrs: dict[str, AttributeValue]
    coordinate: bool = False
    """whether the values say where pixels lie, as latitudes and longitudes do"""


class SolarAngles(NamedTuple):
    """The sun's position above one flight line."""

    flight_line: str
    azimuth: float
    """degrees"""
    zenith: float
    """degrees"""


@dataclass(frozen=True)
class AsStored:
    """What the labelled cube shows of a file in place of `TileFile.reflectance`, in blocks of dask.

    `TileFile.reflectance` of an image has the no-data value for NaN and int16 for bytes; this has what is stored.
    """

    values: Readable
    """the values in the file's own type, NaN included"""
    blocks: tuple[int, int, int]
    """lines, samples and bands of a dask block"""
    no_data: float | None
    """the no-data value among `values`; None where neither the file nor the caller names one"""
    units: str = "counts"
    """of `values`: "counts", or "1" for reflectance"""
    chunks: str | None = None
    """a description of the stored chunks; None where they are those of `TileFile.reflectance`"""


@dataclass(frozen=True)
class TileFile:
    """What a file of any format says; its pixels stay on disk.

    Readers alone make this record, so that scale, no-data, bad bands and place are decided nowhere else.
    """

    path: str
    """of the file, as the caller gave it"""
    kind: str
    """what the pixels are, as text: "NEON AOP reflectance", "reflectance" """
    site: str
    """the name of the scene: NEON's site, or the file's name without its suffix"""
    title: str
    """the title of the labelled cube"""
    reflectance: ChunkedArray
    """the stored values in chunks, (line, sample, band), bands by wavelength"""
    bands: Bands
    scale: float
    """counts per unit reflectance: reflectance is count / scale"""
    no_data: int
    """the no-data value among the values of `reflectance`"""
    place: Grid | None
    """the grid of the pixels with its CRS; None for a file without georeferencing, and for a swath"""
    offset: float = 0.0
    """the reflectance of count 0; no reader states one yet, and formats.read refuses any but 0"""
    sensor: str | None = None
    """the name of the instrument; None where it is not known"""
    layers: tuple[Layer, ...] = ()
    sun: tuple[SolarAngles, ...] = ()
    """one for each flight line that logs them"""
    attrs: dict[str, AttributeValue] = field(default_factory=dict)
    """further attributes of the reflectance in the file"""
    provenance: Provenance = Provenance()
    as_stored: AsStored | None = None
    """what the labelled cube shows in place of `reflectance`; None where it shows `reflectance` itself, without dask"""
    names_site: bool = False
    """whether `site` is the name of a place; False where it is that of the file"""

    @property
    def wavelength(self) -> Floats:
        """Centres of the bands in nm, ascending (n,)."""
        return self.bands.wavelength

    @property
    def fwhm(self) -> Floats | None:
        """Full widths of the bands at half maximum in nm (n,); None where the file has none."""
        return self.bands.fwhm

    @property
    def windows(self) -> tuple[tuple[float, float], ...]:
        """Bad-band windows (low, high) in nm, both ends inclusive."""
        return self.bands.windows

    @property
    def drop_last(self) -> int:
        """Number of bands at the end that are noise."""
        return self.bands.drop_last

    @property
    def grid(self) -> Grid:
        """The grid of the pixels; that of column and row numbers (NOWHERE) for a file without georeferencing."""
        return self.place or NOWHERE

    def on_bands(self, reflectance: ChunkedArray, wavelength: Floats, fwhm: Floats | None) -> TileFile:
        """Return the file with other values at other wavelengths (nm); the bad-band windows stay."""
        return replace(self, reflectance=reflectance, bands=replace(self.bands, wavelength=wavelength, fwhm=fwhm))


@dataclass(frozen=True)
class ReadOptions:
    """What a caller asks of a reader: which files it can use, and values that override the file's."""

    floats: bool = False
    """whether stored values may be floats"""
    swaths: bool = False
    """whether pixels may lie at latitudes and longitudes, on no grid"""
    wavelength: Sequence[float] | NDArray[np.generic] | None = None
    """of the bands in the file's order (n,), in `units`"""
    units: str | None = None
    """of wavelengths, the caller's or the file's"""
    scale: float | None = None
    """counts per unit reflectance"""
    no_data: float | None = None
    """the stored no-data value"""

    @property
    def has_user_values(self) -> bool:
        """Whether the caller states any of the values that files hold."""
        return any(value is not None for value in (self.wavelength, self.units, self.scale, self.no_data))


def inside(wavelength: Floats, ranges: Iterable[tuple[float, float]]) -> Bools:
    """Return which wavelengths (n,) in nm lie in one of the ranges (low, high), both ends inclusive: bool (n,)."""
    in_any = np.zeros(len(wavelength), np.bool_)
    for low, high in ranges:
        in_any |= (wavelength >= low) & (wavelength <= high)
    return in_any


def bad_windows(wavelength: Floats, good: Bools) -> tuple[tuple[float, float], ...]:
    """Return the runs of bad bands as windows (low, high) in nm; both ends are wavelengths of bad bands."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], good, [True]]).astype(np.int8))).reshape(-1, 2)
    return tuple((float(wavelength[first]), float(wavelength[after - 1])) for first, after in edges.tolist())


def no_data_count(value: float | None, dtype: np.dtype[np.generic]) -> int:
    """Return the whole number that stands for no data among values of a type.

    It is `value` where that is a whole number of the type. Else, and where the file names none, it is the smallest
    number of the type, the largest of an unsigned type, or the smallest of int32 for floats.
    """
    if dtype.kind == "f":  # among floats NaN is no data too, so any number may stand for it
        return int(value) if value is not None and value.is_integer() else np.iinfo(np.int32).min
    limits = np.iinfo(dtype.str)
    if value is not None and value.is_integer() and limits.min <= value <= limits.max:
        return int(value)
    return int(limits.min or limits.max)
