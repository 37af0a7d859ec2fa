"""The registry of file formats: how a path is recognised, and which module reads it.

A new reader is one more row of FORMATS. A reader is imported when the first of its files is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.remote import is_url
from hsichunk.errors import HsiError
from hsichunk.readers import envi
from hsichunk.readers.model import ReadOptions, TileFile

HDF5_NAMES = (".h5", ".hdf5", ".he5")
GDAL_NAMES = (".tif", ".tiff", ".vrt")


@dataclass(frozen=True)
class Format:
    """A file format and its reader."""

    name: str
    recognises: Callable[[str], bool]
    """whether a path is of this format, judged by its name and by the files beside it; opens no file"""
    read: str
    """ "module:function" of the reader: called with a path and ReadOptions, it returns a TileFile or raises HsiError"""
    description: str
    """what the files are, in the plural, as errors name them"""
    libraries: tuple[str, ...] = ()
    """modules that the reader imports when it is called; `prepare` imports them before processes are forked"""
    user_words: bool = False
    """whether the reader lets the caller state wavelengths, scale and no-data, as `open_image` does"""


def _is_emit(path: str) -> bool:
    name = Path(path).name.upper()
    return name.startswith("EMIT_L2A_RFL") and name.endswith(".NC")


def _is_hdf5(path: str) -> bool:
    return is_url(path) or path.lower().endswith(HDF5_NAMES)


def _is_envi(path: str) -> bool:
    file = Path(path)
    suffix = file.suffix.lower()
    if not file.name or suffix == ".nc":
        return False
    return suffix in (".hdr", *envi.IMAGES) or envi.header_of(file) is not None


EMIT = Format("EMIT", _is_emit, "hsichunk.readers.emit:read", "EMIT L2A reflectance granules (NetCDF-4)", ("h5py",))
NEON = Format("NEON", _is_hdf5, "hsichunk.readers.neon:read", "NEON AOP tiles and flight lines (HDF5)", ("h5py",))
GDAL = Format(
    "GeoTIFF",
    lambda path: path.lower().endswith(GDAL_NAMES),
    "hsichunk.readers.image_file:read",
    "GeoTIFF and what else GDAL reads",
    ("rasterio",),
    user_words=True,
)
ENVI = Format("ENVI", _is_envi, "hsichunk.readers.image_file:read", "ENVI images", ("rasterio",), user_words=True)

FORMATS = [EMIT, NEON, GDAL, ENVI]
"""in the order of search: the first format that recognises a path reads it"""


def register(new: Format) -> None:
    """Register a format for this process and those that it forks; it is searched before the others.

    Workers of a cluster have to register it, too. Raises HsiError for a name that is taken.
    """
    if any(new.name == other.name for other in FORMATS):
        raise HsiError(f"a format {new.name} is registered already; give it another name")
    FORMATS.insert(0, new)


def format_of(path: str | os.PathLike[str], *, image: bool = False) -> Format:
    """Return the format of a path; NEON's where none recognises it, so that errors say what a NEON tile is.

    With `image`, as for `open_image`, only formats whose values the caller may state are searched; where none of them
    recognises the path, the format is EMIT's for a NetCDF file that exists, else GDAL's.
    """
    name = os.fsdecode(path)
    for candidate in FORMATS:
        if (candidate.user_words or not image) and candidate.recognises(name):
            return candidate
    if not image:
        return NEON
    return EMIT if name.lower().endswith(".nc") and os.path.isfile(name) else GDAL


def prepare(paths: Iterable[str]) -> None:
    """Import the readers of all paths and their libraries once, so that no process forked later has to."""
    for needed in {id(candidate): candidate for candidate in map(format_of, paths)}.values():
        for name in (*needed.libraries, needed.read.partition(":")[0]):
            import_module(name)


def read(
    path: str | os.PathLike[str],
    *,
    floats: bool = False,
    swaths: bool = False,
    image: bool = False,
    wavelength: Sequence[float] | NDArray[np.generic] | None = None,
    units: str | None = None,
    scale: float | None = None,
    no_data: float | None = None,
) -> TileFile:
    """Return what the file at `path` says, in any format; reads no pixels.

    `floats` allows stored values that are floats, `swaths` pixels that lie on no grid, `image` restricts the formats as
    `format_of` does. The other options override what the file says: `wavelength` (n,) in `units`, `scale` in counts per
    unit reflectance, `no_data` as stored. Raises HsiError, which names the path, where no reader can read the file, and
    where options are stated for a format that does not take them; warns (HsiWarning) where a default replaces what the
    file leaves out.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise HsiError(f"open_tile got {type(path).__name__}; expected the path of a tile or image")
    name = os.fsdecode(path)
    options = ReadOptions(floats, swaths, wavelength, units, scale, no_data)
    chosen = format_of(name, image=image)
    if options.has_user_values and not chosen.user_words:
        raise HsiError(
            f"{name}: {chosen.description} say their wavelengths, scale and no-data themselves; open it without them"
        )
    module, _, function = chosen.read.partition(":")
    reader: Callable[[str, ReadOptions], TileFile] = getattr(import_module(module), function)
    file = reader(name, options)
    _check(file)
    if not floats and file.reflectance.dtype.kind == "f":
        raise HsiError(
            f"{name}: holds {file.reflectance.native}; expected whole numbers: unmix floats in Python, with "
            "hsi.open_tile, hsi.clean and hsi.unmix"
        )
    return file


def _check(file: TileFile) -> None:
    """Raise HsiError where the values of a reader contradict each other, or state an offset, which nothing applies."""
    bands, wavelength, fwhm = file.reflectance.shape[2], file.wavelength, file.fwhm
    if wavelength.shape != (bands,) or not (np.diff(wavelength) > 0).all():
        raise HsiError(f"{file.path}: {wavelength.size} wavelengths for {bands} bands; expected one a band, ascending")
    if fwhm is not None and fwhm.shape != (bands,):
        raise HsiError(f"{file.path}: {fwhm.size} widths for {bands} bands; expected one a band, or none")
    if not (math.isfinite(file.scale) and file.scale > 0):
        raise HsiError(f"{file.path}: the scale is {file.scale:g}; expected counts per unit reflectance, above 0")
    if file.offset != 0:
        raise HsiError(
            f"{file.path}: the offset is {file.offset:g}; expected 0: apply it and label the values with as_cube"
        )
    if file.place is not None and not (file.place.dx > 0 and file.place.dy > 0):
        size = f"{file.place.dx:g} x {file.place.dy:g}"
        raise HsiError(f"{file.path}: pixels of {size}; expected widths and heights above 0, north up")
