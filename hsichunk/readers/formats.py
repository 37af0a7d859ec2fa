"""The registry of formats: who recognises a path, and which module reads it. A new reader is one more line of FORMATS.

Readers are imported when the first of their files is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

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
    """A kind of file and who reads it."""

    name: str
    recognises: Callable[[str], bool]
    """whether a path is of it, told by its name and by what lies beside it; opens nothing"""
    read: str
    """ "module:function" of the reader, called with the path and ReadOptions; gives a TileFile or raises HsiError"""
    description: str
    libraries: tuple[str, ...] = ()
    """what the reader imports beside its own module: imported before processes that read metadata are forked"""
    user_words: bool = False
    """whether the reader takes the user's word for wavelengths, scale and no-data, as `open_image` asks it to"""


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
"""asked in this order; the first that recognises a path reads it"""


def register(found: Format) -> None:
    """Makes one more format known, asked before those that are: in this process and in those that it forks.

    Raises HsiError for a name that is taken. Workers of a cluster have to register it, too.
    """
    if any(found.name == other.name for other in FORMATS):
        raise HsiError(f"a format {found.name} is registered already; give it another name")
    FORMATS.insert(0, found)


def format_of(path: str | os.PathLike[str], *, image: bool = False) -> Format:
    """The format of a path; NEON's where none recognises it, so that errors say what a NEON tile is.

    With `image`, as for `open_image`, the first that takes the user's word; for what none of them recognises EMIT's
    where it is a NetCDF file, else GDAL's.
    """
    name = os.fsdecode(path)
    for found in FORMATS:
        if (found.user_words or not image) and found.recognises(name):
            return found
    if not image:
        return NEON
    return EMIT if name.lower().endswith(".nc") and os.path.isfile(name) else GDAL


def prepare(paths: Iterable[str]) -> None:
    """Imports the readers of all paths and what they need: here once, and in no process forked later."""
    for found in {id(one): one for one in map(format_of, paths)}.values():
        for name in (*found.libraries, found.read.partition(":")[0]):
            import_module(name)


def read(
    path: str | os.PathLike[str],
    *,
    floats: bool = False,
    swaths: bool = False,
    image: bool = False,
    wavelength: Sequence[float] | NDArray[Any] | None = None,
    units: str | None = None,
    scale: float | None = None,
    no_data: float | None = None,
) -> TileFile:
    """What the file at `path` says, in any format; reads no pixels.

    `floats` allows values that are no whole numbers, `swaths` pixels that lie on no grid; `image` as `format_of` has
    it; the others are the user's word. Raises HsiError, naming the path, where no reader can make a TileFile of it;
    warns (HsiWarning) where a stated value stands in for what the file leaves out.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise HsiError(f"open_tile got {type(path).__name__}; expected the path of a tile or image")
    name = os.fsdecode(path)
    options = ReadOptions(floats, swaths, wavelength, units, scale, no_data)
    found = format_of(name, image=image)
    if options.said and not found.user_words:
        raise HsiError(
            f"{name}: {found.description} say their wavelengths, scale and no-data themselves; open it without them"
        )
    module, _, function = found.read.partition(":")
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
    """Raises HsiError where what a reader gives contradicts itself, or says what nothing honours yet."""
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
