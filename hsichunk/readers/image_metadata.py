"""Read the metadata of an image: ENVI, GeoTIFF or any other format that rasterio reads. Reads no pixels."""

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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.errors import HsiError, HsiWarning, one_line
from hsichunk.grid import Grid
from hsichunk.readers import envi
from hsichunk.readers.model import Provenance, ReadOptions, Source

if TYPE_CHECKING:
    import rasterio

_OPENING = threading.Lock()
COUNTS = 10000.0  # counts per unit reflectance of an image of whole numbers that does not say
_NUMBERED = re.compile(r"band[ _-]?([0-9]+(?:\.[0-9]+)?)", re.IGNORECASE)  # as Wyvern's Band_503: in nm
_NAMED = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*\(?\s*(nm|nanomet\w*|um|\u00b5m|\u03bcm|micromet\w*)\b", re.IGNORECASE)


@dataclass(frozen=True)
class StoredBands:
    """What a file says of its bands, in the order of the file."""

    wavelength: Floats
    """centres in nm (n,)"""
    fwhm: Floats | None
    """full widths at half maximum in nm (n,); None where the file has none"""
    good: Bools
    """which bands the file calls good (n,); all where it does not say"""
    order: Positions
    """positions of the bands in the file, by ascending wavelength (n,)"""


@dataclass(frozen=True)
class ImageHeader:
    """The metadata of an image; its pixels stay on disk."""

    path: str
    """of the data file"""
    header: envi.Header | None
    """the ENVI header beside the file; a GeoTIFF may have one too"""
    driver: str
    """GDAL's name of the format"""
    interleave: str
    """band, line or pixel"""
    shape: tuple[int, int, int]
    """(lines, samples, bands) as stored"""
    dtype: np.dtype[np.integer | np.floating]
    block: tuple[int, int]
    """lines and samples of GDAL's block of the file"""
    bands: StoredBands
    scale: float
    """counts per unit reflectance"""
    no_data: float | None
    """the no-data value beside NaN; None where neither the file nor the caller names one"""
    grid: Grid | None
    """None for a file without georeferencing"""
    stamp: tuple[int, int]
    """size of the data file, and time (ns) of the last change to it or its header: they differ for changed content"""
    provenance: Provenance


def read_image(path: str | os.PathLike[str], options: ReadOptions) -> ImageHeader:
    """Read the metadata of an ENVI image, a GeoTIFF or any other file that rasterio reads; see `open_image`."""
    data, header = _files(Path(path))
    name, stamp = str(data), stamp_of(data, header)
    with opened(name) as file:
        dtype = np.dtype(file.dtypes[0])
        if len(set(file.dtypes)) != 1 or dtype.kind not in "iuf":
            raise HsiError(f"{data}: bands of type {', '.join(sorted(set(file.dtypes)))}; expected one type of numbers")
        shape = (file.height, file.width, file.count)
        if file.driver == "ENVI" and header is not None:
            _check_size(name, header, shape, dtype, stamp[0])
        no_data, no_data_from = _no_data(file, header, options.no_data)
        bands, wavelength_from, bad_bands_from = _bands(name, file, header, options)
        scale, scale_from = _scale(name, file, header, options.scale, dtype.kind)
        grid = _grid(name, file)
        return ImageHeader(
            path=name,
            header=header,
            driver=file.driver,
            interleave=file.interleaving.value.lower() if file.interleaving else "band",
            shape=shape,
            dtype=dtype,
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
    """Return the size of a data file, and the time (ns) of the last change to it or to its header."""
    status = os.stat(data)
    changes = [status.st_mtime_ns, *([] if header is None else [os.stat(header.path).st_mtime_ns])]
    return status.st_size, max(changes)


def is_packed(header: envi.Header) -> bool:
    """Return whether the data file of an ENVI header is compressed (gzip)."""
    return header.count("file compression", 0) != 0


def _check_size(
    path: str, header: envi.Header, shape: tuple[int, int, int], dtype: np.dtype[np.generic], size: int
) -> None:
    """Raise HsiError for a file that is too short, which GDAL would fill with zeros; warn of one that is too long."""
    expected = header.count("header offset", 0) + math.prod(shape) * dtype.itemsize
    if is_packed(header) or size == expected:
        return
    values = f"{' x '.join(map(str, shape))} values of {dtype}, {expected} bytes"
    sizes = f"{path}: {size} bytes; {header.path} has {values}"
    if size < expected:
        raise HsiError(f"{sizes}: get the whole file, or mend the header")
    warnings.warn(f"{sizes}; what follows them is not read", HsiWarning, stacklevel=4)


def _files(path: Path) -> tuple[Path, envi.Header | None]:
    """Return the data file and the ENVI header, if there is one, for the path of either.

    Raises HsiError where there is no such file.
    """
    if not path.is_file():
        raise HsiError(f"{path}: no such file; expected an image (ENVI, GeoTIFF)")
    if path.suffix.lower() == ".hdr":
        header = envi.read_header(path)
        return envi.data_of(path, envi.IMAGES), header
    beside = envi.header_of(path)
    return path, None if beside is None else envi.read_header(beside)


def open_file(path: str) -> rasterio.DatasetReader:
    """Open a file with rasterio; it closes when nothing refers to it. Raises HsiError where it cannot be opened."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with _OPENING, warnings.catch_warnings():  # catching warnings is not safe in several threads at once
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path)
        except RasterioError as error:
            raise HsiError(f"{path}: cannot be opened ({one_line(error)})") from error


@contextmanager
def opened(path: str) -> Iterator[rasterio.DatasetReader]:
    """Open a file with rasterio for a block. Raises HsiError where it cannot be opened, or read in the block."""
    from rasterio.errors import RasterioError

    with open_file(path) as file:
        try:
            yield file
        except RasterioError as error:
            raise HsiError(f"{path}: cannot be read ({one_line(error)})") from error


class _Spectral(NamedTuple):
    """Wavelengths of all bands as some place states them."""

    wavelength: Floats
    """in `units`"""
    fwhm: Floats | None
    """in `units`"""
    units: str | None


def _bands(
    path: str, file: rasterio.DatasetReader, header: envi.Header | None, options: ReadOptions
) -> tuple[StoredBands, Source, Source]:
    """Return the bands, and the sources of their wavelengths and of the bad ones among them."""
    count = file.count
    spectral = _spectral(path, file, header, options)
    if spectral is None:
        raise HsiError(
            f"{path}: {count} bands without wavelengths; give them: open_image(path, wavelength=...), or in an ENVI "
            "header beside the file"
        )
    nm, factor = envi.wavelengths_nm(spectral.wavelength, spectral.units, path)
    order = np.argsort(nm, kind="stable")
    if (np.diff(nm[order]) == 0).any():
        same = nm[order][:-1][np.diff(nm[order]) == 0][0]
        raise HsiError(f"{path}: two bands at {same:g} nm; give the wavelengths that tell them apart: wavelength=...")
    bbl = None if header is None else header.numbers("bbl", count)
    good = np.ones(count, np.bool_) if bbl is None else bbl != 0
    bands = StoredBands(nm, None if spectral.fwhm is None else spectral.fwhm * factor, good, order)
    wavelength_from = Source.FILE if options.wavelength is None else Source.USER
    return bands, wavelength_from, Source.ABSENT if bbl is None else Source.FILE


def _spectral(
    path: str, file: rasterio.DatasetReader, header: envi.Header | None, options: ReadOptions
) -> _Spectral | None:
    """Return the wavelengths of the caller, else of the ENVI header, else of the bands; None where nothing has them."""
    if options.wavelength is not None:
        values = np.asarray(options.wavelength, np.float64)
        if values.shape != (file.count,):
            raise HsiError(f"{path}: {values.size} wavelengths for {file.count} bands; expected one a band")
        return _Spectral(values, None, options.units)
    if header is not None and (stated := header.numbers("wavelength", file.count)) is not None:
        widths = header.numbers("fwhm", file.count)
        return _Spectral(stated, widths, options.units or header.text("wavelength units"))
    return _of_tags(file, options.units) or _of_names(file, options.units)


def _of_tags(file: rasterio.DatasetReader, units: str | None) -> _Spectral | None:
    """Return wavelengths from the tags of bands, else from their descriptions; None where a band has none.

    Widths are None where a band has none. The unit is `units`, else the first that a band names.
    """
    wavelengths, widths = [], []
    for band in range(1, file.count + 1):
        tags = {name.lower(): value for name, value in file.tags(band).items()}
        value, unit = tags.get("wavelength"), tags.get("wavelength_units")
        width = tags.get("fwhm")
        if value is None and (described := _NAMED.search(file.descriptions[band - 1] or "")):
            value, unit = described[1], described[2]
        if value is None:  # GDAL's own tags come last: in some formats they are rounded to 1 nm
            imagery = file.tags(band, ns="IMAGERY")
            value, unit = imagery.get("CENTRAL_WAVELENGTH_UM"), "um"
            width = imagery.get("FWHM_UM")
        wavelengths.append(_number(value))
        widths.append(_number(width))
        units = units or unit
    if np.isnan(wavelengths).any():
        return None
    return _Spectral(np.array(wavelengths), None if np.isnan(widths).any() else np.array(widths), units)


def _of_names(file: rasterio.DatasetReader, units: str | None) -> _Spectral | None:
    """Return the wavelengths that the names of bands end with (Band_503), in nm unless `units` says otherwise.

    None where a band has none, and where the numbers are no wavelengths: outside 300 to 2600, or a count of the bands.
    """
    matches = [_NUMBERED.fullmatch((name or "").strip()) for name in file.descriptions]
    values = np.array([math.nan if match is None else float(match[1]) for match in matches])
    steps = np.diff(values)
    inside = len(steps) > 0 and values.min() >= 300 and values.max() <= 2600
    plausible = inside and (steps > 0).all() and not (steps == 1).all()
    return _Spectral(values, None, units or "nm") if plausible else None


def _number(text: str | None) -> float:
    """Return a text as a number, NaN for none."""
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan


def _scale(
    path: str, file: rasterio.DatasetReader, header: envi.Header | None, by_user: float | None, kind: str
) -> tuple[float, Source]:
    """Return the counts per unit reflectance and their source.

    The caller's scale `by_user` comes first, then the header's `reflectance scale factor`, then the one gain of the
    bands, then 1 for floats (`kind` "f") and COUNTS, with a warning, for whole numbers.
    """
    stated, source = by_user, Source.FILE if by_user is None else Source.USER
    if stated is None and header is not None:
        stated = header.number("reflectance scale factor")
    if stated is None:
        gains, offsets = _gains(file, header)
        if len(gains) > 1 or offsets != {0.0}:
            raise HsiError(
                f"{path}: bands have scales of {min(gains):g} to {max(gains):g} and offsets of {min(offsets):g} to "
                f"{max(offsets):g}; expected one scale and no offset: apply them and label the array with as_cube"
            )
        (gain,) = gains
        if gain != 1.0:
            stated = round(1.0 / gain, 9) if gain else math.inf
    if stated is None:
        if kind == "f":  # floats without a scale are reflectance
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


def _gains(file: rasterio.DatasetReader, header: envi.Header | None) -> tuple[set[float], set[float]]:
    """Return the distinct gains and offsets (reflectance = gain x stored + offset) of the header, else of the bands."""
    if header is not None:
        gains = header.numbers("data gain values", file.count)
        offsets = header.numbers("data offset values", file.count)
        if gains is not None or offsets is not None:
            distinct = {1.0} if gains is None else set(gains.tolist())
            return distinct, {0.0} if offsets is None else set(offsets.tolist())
    return set(file.scales), set(file.offsets)


def _no_data(
    file: rasterio.DatasetReader, header: envi.Header | None, by_user: float | None
) -> tuple[float | None, Source]:
    """Return the no-data value beside NaN and its source; None where neither the caller nor the file names one."""
    in_header = None if header is None else header.number("data ignore value")
    in_file = file.nodata if in_header is None else in_header
    value = in_file if by_user is None else by_user
    if value is None or math.isnan(value):
        return None, Source.ABSENT
    return float(value), Source.FILE if by_user is None else Source.USER


def _grid(path: str, file: rasterio.DatasetReader) -> Grid | None:
    """Return the grid of the pixels; None for a file without georeferencing. Raises HsiError unless it is north-up."""
    affine = file.transform
    wkt = file.crs.to_wkt() if file.crs else None
    if affine.is_identity:
        return None
    if affine.b or affine.d or affine.a <= 0 or affine.e >= 0:
        raise HsiError(f"{path}: the grid is turned or upside down ({tuple(affine)[:6]}); only north-up grids are read")
    epsg = file.crs.to_epsg() if file.crs else None
    return Grid(affine.c, affine.f, affine.a, -affine.e, epsg, None if epsg else wkt)
