"""What an image of another sensor says of itself: ENVI, GeoTIFF and what else rasterio reads. Reads no pixels."""

from __future__ import annotations

import math
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.errors import HsiError, HsiWarning, one_line
from hsichunk.grid import Grid
from hsichunk.readers import envi
from hsichunk.readers.model import Provenance, ReadOptions, Source

_OPENING = threading.Lock()
COUNTS = 10000.0  # taken for reflectance 1 of whole numbers, where nothing says
_NUMBERED = re.compile(r"band[ _-]?([0-9]+(?:\.[0-9]+)?)", re.IGNORECASE)  # of Wyvern, Band_503: in nm
_NAMED = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*\(?\s*(nm|nanomet\w*|um|\u00b5m|\u03bcm|micromet\w*)\b", re.IGNORECASE)


@dataclass(frozen=True)
class StoredBands:
    """What a file says of its bands, in its own order."""

    wavelength: NDArray[np.float64]
    fwhm: NDArray[np.float64] | None
    good: NDArray[np.bool_]
    order: NDArray[np.intp]
    """positions of the bands in the file, by wavelength"""


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself, its pixels still on disk."""

    path: str
    """of the data file"""
    header: envi.Header | None
    driver: str
    """GDAL's name of the format"""
    interleave: str
    """band, line or pixel"""
    shape: tuple[int, int, int]
    """(lines, samples, bands) as stored"""
    dtype: np.dtype[Any]
    block: tuple[int, int]
    """lines and samples that are stored together"""
    bands: StoredBands
    scale: float
    """what reflectance 1 is stored as"""
    no_data: float | None
    grid: Grid | None
    """None for a file that lies nowhere"""
    stamp: tuple[int, int]
    """size of the data file and time of the last change, of the header too: another content is another image"""

    provenance: Provenance


def read_image(path: str | os.PathLike[str], options: ReadOptions) -> ImageHeader:
    """The metadata of an ENVI image, GeoTIFF or what else rasterio reads; see `open_image`."""
    data, header = _files(Path(path))
    name, stamp = str(data), stamp_of(data, header)
    with opened(name) as file:
        kind = np.dtype(file.dtypes[0])
        if len(set(file.dtypes)) != 1 or kind.kind not in "iuf":
            raise HsiError(f"{data}: bands of type {', '.join(sorted(set(file.dtypes)))}; expected one type of numbers")
        shape = (file.height, file.width, file.count)
        if file.driver == "ENVI" and header is not None:
            _check_size(name, header, shape, kind, stamp[0])
        no_data, no_data_from = _no_data(file, header, options.no_data)
        bands, wavelength_from, bad_bands_from = _bands(name, file, header, options)
        scale, scale_from = _scale(name, file, header, options.scale, kind)
        grid = _grid(name, file)
        return ImageHeader(
            path=name,
            header=header,
            driver=file.driver,
            interleave=file.interleaving.value.lower() if file.interleaving else "band",
            shape=shape,
            dtype=kind,
            block=file.block_shapes[0],
            bands=bands,
            scale=scale,
            no_data=no_data,
            grid=grid,
            stamp=stamp,
            provenance=Provenance(
                scale=scale_from,
                no_data=no_data_from,
                bad_bands=bad_bands_from,
                wavelength=wavelength_from,
                grid=Source.ABSENT if grid is None else Source.FILE,
            ),
        )


def stamp_of(data: str | os.PathLike[str], header: envi.Header | None) -> tuple[int, int]:
    """Size of a data file and time of the last change, of its header too."""
    status = os.stat(data)
    changed = [status.st_mtime_ns, *([] if header is None else [os.stat(header.path).st_mtime_ns])]
    return status.st_size, max(changed)


def is_packed(header: envi.Header) -> bool:
    """Whether the data file of an ENVI header is compressed (gzip)."""
    return header.count("file compression", 0) != 0


def _check_size(path: str, header: envi.Header, shape: tuple[int, int, int], kind: np.dtype[Any], size: int) -> None:
    """Raises HsiError for a file that ends too soon, which GDAL fills with zeros; warns of one that goes on."""
    expected = header.count("header offset", 0) + math.prod(shape) * kind.itemsize
    if is_packed(header) or size == expected:
        return
    said = f"{path}: {size} bytes; {header.path} has {' x '.join(map(str, shape))} values of {kind}, {expected} bytes"
    if size < expected:
        raise HsiError(f"{said}: get the whole file, or mend the header")
    warnings.warn(f"{said}; what follows them is not read", HsiWarning, stacklevel=4)


def _files(path: Path) -> tuple[Path, envi.Header | None]:
    """The data file and the ENVI header, if there is one. Raises HsiError where there is no such file."""
    if not path.is_file():
        raise HsiError(f"{path}: no such file; expected an image (ENVI, GeoTIFF)")
    if path.suffix.lower() == ".hdr":
        header = envi.read_header(path)
        return envi.data_of(path, envi.IMAGES), header
    beside = envi.header_of(path)
    return path, None if beside is None else envi.read_header(beside)


def open_file(path: str) -> Any:
    """The file as rasterio's, open until nothing refers to it. Raises HsiError where it cannot be opened."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with _OPENING, warnings.catch_warnings():  # which threads must not do at the same time
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path)
        except RasterioError as error:
            raise HsiError(f"{path}: cannot be opened ({one_line(error)})") from error


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """The same, closed after the block. Raises HsiError, too, where it cannot be read in it."""
    from rasterio.errors import RasterioError

    with open_file(path) as file:
        try:
            yield file
        except RasterioError as error:
            raise HsiError(f"{path}: cannot be read ({one_line(error)})") from error


def _bands(
    path: str, file: Any, header: envi.Header | None, options: ReadOptions
) -> tuple[StoredBands, Source, Source]:
    """The bands, and where their wavelengths and the bad ones among them came from."""
    count, given, units = file.count, options.wavelength, options.units
    values, width = None, None
    if given is not None:
        values = np.asarray(given, np.float64)
        if values.shape != (count,):
            raise HsiError(f"{path}: {values.size} wavelengths for {count} bands; expected one a band")
    elif header is not None and (values := header.numbers("wavelength", count)) is not None:
        width, units = header.numbers("fwhm", count), units or header.text("wavelength units")
    else:
        values, width, named = _tagged(file, units)
        if values is None:
            values, width, named = _numbered(file), None, units or "nm"
        units = named
    if values is None:
        raise HsiError(
            f"{path}: {count} bands without wavelengths; give them: open_image(path, wavelength=...), or in an ENVI "
            "header beside the file"
        )
    nm, factor = envi.wavelengths_nm(values, units, path)
    order = np.argsort(nm, kind="stable")
    if (np.diff(nm[order]) == 0).any():
        same = nm[order][:-1][np.diff(nm[order]) == 0][0]
        raise HsiError(f"{path}: two bands at {same:g} nm; give the wavelengths that tell them apart: wavelength=...")
    bbl = None if header is None else header.numbers("bbl", count)
    good = np.ones(count, np.bool_) if bbl is None else bbl != 0
    bands = StoredBands(nm, None if width is None else width * factor, good, order)
    return bands, Source.FILE if given is None else Source.USER, Source.ABSENT if bbl is None else Source.FILE


def _tagged(file: Any, units: str | None) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, str | None]:
    """Wavelengths, widths and their unit from the tags of bands, else their descriptions; None where one lacks them."""
    found, widths, named = [], [], units
    for band in range(1, file.count + 1):
        tags = {name.lower(): value for name, value in file.tags(band).items()}
        value, unit = tags.get("wavelength"), tags.get("wavelength_units")
        width = tags.get("fwhm")
        if value is None and (words := _NAMED.search(file.descriptions[band - 1] or "")):
            value, unit = words[1], words[2]
        if value is None:  # GDAL's own, rounded to 1 nm in some formats
            imagery = file.tags(band, ns="IMAGERY")
            value, unit = imagery.get("CENTRAL_WAVELENGTH_UM"), "um"
            width = imagery.get("FWHM_UM")
        found.append(_number(value))
        widths.append(_number(width))
        named = named or unit
    wave = np.array(found)
    whole = np.array(widths)
    return (None if np.isnan(wave).any() else wave), (None if np.isnan(whole).any() else whole), named


def _numbered(file: Any) -> NDArray[np.float64] | None:
    """Wavelengths in nm that the names of bands end with; None where a band has none, or they count the bands."""
    found = [_NUMBERED.fullmatch((name or "").strip()) for name in file.descriptions]
    wave = np.array([math.nan if words is None else float(words[1]) for words in found])
    steps = np.diff(wave)
    inside = len(steps) > 0 and wave.min() >= 300 and wave.max() <= 2600
    return wave if inside and (steps > 0).all() and not (steps == 1).all() else None


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan


def _scale(
    path: str, file: Any, header: envi.Header | None, given: float | None, kind: np.dtype[Any]
) -> tuple[float, Source]:
    """What reflectance 1 is stored as, and who says so."""
    stated, source = given, Source.FILE if given is None else Source.USER
    if stated is None and header is not None:
        stated = header.number("reflectance scale factor")
    if stated is None:
        steps, offsets = _gains(file, header)
        if len(steps) > 1 or offsets != {0.0}:
            raise HsiError(
                f"{path}: bands have scales of {min(steps):g} to {max(steps):g} and offsets of {min(offsets):g} to "
                f"{max(offsets):g}; expected one scale and no offset: apply them and label the array with as_cube"
            )
        (step,) = steps
        if step != 1.0:
            stated = round(1.0 / step, 9) if step else math.inf
    if stated is None:
        if kind.kind == "f":  # floats without a scale are reflectance
            return 1.0, Source.ABSENT
        warnings.warn(
            f"{path}: does not say what reflectance 1 is stored as; taken for {COUNTS:g}, scale= or "
            "'reflectance scale factor' in the header says otherwise",
            HsiWarning,
            stacklevel=3,
        )
        return COUNTS, Source.FALLBACK
    if not (math.isfinite(stated) and stated > 0):
        raise HsiError(f"{path}: reflectance scale factor is {stated:g}; expected a number above 0: give scale=")
    return float(stated), source


def _gains(file: Any, header: envi.Header | None) -> tuple[set[float], set[float]]:
    """What stored values are multiplied by, and what is then added: of the header, else of the bands."""
    if header is not None:
        gains = header.numbers("data gain values", file.count)
        offsets = header.numbers("data offset values", file.count)
        if gains is not None or offsets is not None:
            ones = {1.0} if gains is None else set(gains.tolist())
            return ones, {0.0} if offsets is None else set(offsets.tolist())
    return set(file.scales), set(file.offsets)


def _no_data(file: Any, header: envi.Header | None, given: float | None) -> tuple[float | None, Source]:
    """What stands for no data beside NaN, and who says so; None where nobody does."""
    stated = None if header is None else header.number("data ignore value")
    found = given if given is not None else stated if stated is not None else file.nodata
    if found is None or math.isnan(found):
        return None, Source.ABSENT
    return float(found), Source.FILE if given is None else Source.USER


def _grid(path: str, file: Any) -> Grid | None:
    """Where the pixels lie; None for a file that does not say. Raises HsiError unless the grid is north-up."""
    step = file.transform
    wkt = file.crs.to_wkt() if file.crs else None
    if step.is_identity:
        return None
    if step.b or step.d or step.a <= 0 or step.e >= 0:
        raise HsiError(f"{path}: the grid is turned or upside down ({tuple(step)[:6]}); only north-up grids are read")
    epsg = file.crs.to_epsg() if file.crs else None
    return Grid(step.c, step.f, step.a, -step.e, epsg, None if epsg else wkt)
