"""Images of other sensors, ENVI and GeoTIFF, as the labelled, lazy datasets that tiles are."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import envi, schema
from hsichunk.backend import with_grid
from hsichunk.emit import is_emit, open_emit
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.grid import Grid

BLOCK_BYTES = 32 << 20  # of stored values in one dask block
COUNTS = 10000.0  # taken for reflectance 1 of whole numbers, where nothing says
_NAMED = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*\(?\s*(nm|nanomet\w*|um|\u00b5m|\u03bcm|micromet\w*)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Bands:
    """What a file says of its bands, in its own order."""

    wavelength: NDArray[np.float64]
    fwhm: NDArray[np.float64] | None
    good: NDArray[np.bool_]
    order: NDArray[np.intp]
    """positions of the bands in the file, by wavelength"""


@dataclass(frozen=True)
class Pixels:
    """Stored values (y, x, band) of a file that rasterio opens; read where they are asked for."""

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    order: NDArray[np.intp]
    stamp: tuple[int, int]
    """size and time of the last change: another content is another array"""

    ndim = 3

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[Any]:
        from rasterio.windows import Window

        rows, cols, bands = (np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True))
        if not (len(rows) and len(cols) and len(bands)):
            values = np.empty((len(rows), len(cols), len(bands)), self.dtype)
        else:
            top, left = int(rows.min()), int(cols.min())
            window = Window(left, top, int(cols.max()) - left + 1, int(rows.max()) - top + 1)
            with _opened(self.path) as file:
                stored = file.read((self.order[bands] + 1).tolist(), window=window)
            values = np.moveaxis(stored, 0, -1)[rows - top][:, cols - left]
        return values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.path, self.shape, str(self.dtype), self.order.tobytes(), self.stamp)


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file is for `open_image`, told by its name and by a header beside it; opens nothing."""
    path = Path(path)
    suffix = path.suffix.lower()
    if is_emit(path):
        return True
    if suffix in (".h5", ".hdf5", ".he5", ".nc"):
        return False
    return suffix in (".hdr", ".vrt", *envi.IMAGES) or envi.header_of(path) is not None


def open_image(
    path: str | os.PathLike[str],
    wavelength: Sequence[float] | NDArray[Any] | None = None,
    *,
    units: str | None = None,
    scale: float | None = None,
    no_data: float | None = None,
) -> xr.Dataset:
    """Opens an image of any sensor: ENVI, by its header or its data file, GeoTIFF, what else rasterio reads, EMIT.

    Returns a Dataset as open_tile does: `reflectance(y, x, wavelength)` as stored, lazy (dask, whole spectra), bands in
    the order of their wavelengths; attributes that name scale, no-data and bad bands (the header's `bbl`); `wavelength`
    and, if known, `fwhm` in nm; `y`, `x` pixel centres and `spatial_ref`, or rows and columns counted where the file
    lies nowhere. `clean(image)` makes the cube: no band at the end is dropped beside the bad ones.

    Wavelengths are those given, or of the ENVI header (beside a GeoTIFF, too), or of the tags or descriptions of the
    bands; in `units`, in those that are named, or in micrometres when all are below 50. What reflectance 1 is stored as
    is `scale`, or the header's `reflectance scale factor`, or the scale of the bands, or 1 for floats; 10000 for whole
    numbers, with an HsiWarning. Raises HsiError for what is no image, bands without wavelengths and turned grids.
    """
    if Path(path).suffix.lower() == ".nc" and Path(path).is_file():
        image = open_emit(path)
        image[schema.REFLECTANCE].attrs[schema.DROP_LAST] = 0
        return image
    data, header = _files(Path(path))
    with _opened(str(data)) as file:
        kind = np.dtype(file.dtypes[0])
        if len(set(file.dtypes)) != 1 or kind.kind not in "iuf":
            raise HsiError(f"{data}: bands of type {', '.join(sorted(set(file.dtypes)))}; expected one type of numbers")
        bands = _bands(str(data), file, header, wavelength, units)
        attrs = {"long_name": "reflectance as stored", "units": "counts", schema.DROP_LAST: 0}
        attrs[schema.SCALE] = _scale(str(data), file, header, scale, kind)
        none = no_data if no_data is not None else _no_data(file, header)
        if none is not None and not math.isnan(none):
            attrs[schema.NO_DATA] = int(none) if float(none).is_integer() else float(none)
        nm = bands.wavelength[bands.order]
        attrs[schema.WINDOWS] = envi.windows(nm, bands.good[bands.order])
        shape = (file.height, file.width, len(nm))
        blocks = _blocks(shape, kind.itemsize, file.block_shapes[0])
        grid = _grid(str(data), file)
    stamp = os.stat(data)
    pixels = Pixels(os.path.abspath(data), shape, kind, bands.order, (stamp.st_size, stamp.st_mtime_ns))
    return _dataset(pixels, blocks, nm, bands, grid, attrs, Path(path).name)


def _dataset(
    pixels: Pixels,
    blocks: tuple[int, int, int],
    nm: NDArray[np.float64],
    bands: Bands,
    grid: Grid | None,
    attrs: dict[str, Any],
    name: str,
) -> xr.Dataset:
    import dask.array as da

    rows, cols, _ = pixels.shape
    values = da.from_array(pixels, chunks=blocks, asarray=False, lock=False, meta=np.empty((0, 0, 0), pixels.dtype))  # type: ignore[no-untyped-call]
    coords: dict[str, Any] = {
        schema.Y: (schema.Y, np.arange(rows) if grid is None else grid.y(rows), {} if grid is None else schema.Y_ATTRS),
        schema.X: (schema.X, np.arange(cols) if grid is None else grid.x(cols), {} if grid is None else schema.X_ATTRS),
        schema.WAVELENGTH: (schema.WAVELENGTH, nm, schema.WAVELENGTH_ATTRS),
    }
    if bands.fwhm is not None:
        coords[schema.FWHM] = (schema.WAVELENGTH, bands.fwhm[bands.order], schema.FWHM_ATTRS)
    dims = (schema.Y, schema.X, schema.WAVELENGTH)
    dataset = xr.Dataset({schema.REFLECTANCE: (dims, values, attrs)}, coords, {"title": f"reflectance, {name}"})
    dataset[schema.REFLECTANCE].encoding["source"] = pixels.path
    return dataset if grid is None else with_grid(dataset, grid)


def _files(path: Path) -> tuple[Path, envi.Header | None]:
    """The data file and the ENVI header, if there is one. Raises HsiError where there is no such file."""
    if not path.is_file():
        raise HsiError(f"{path}: no such file; expected an image (ENVI, GeoTIFF)")
    if path.suffix.lower() == ".hdr":
        header = envi.read_header(path)
        return envi.data_of(path, envi.IMAGES), header
    beside = envi.header_of(path)
    return path, None if beside is None else envi.read_header(beside)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            file = rasterio.open(path)
        except RasterioError as error:
            raise HsiError(f"{path}: cannot be opened ({' '.join(str(error).split())[:120]})") from error
    with file:
        try:
            yield file
        except RasterioError as error:
            raise HsiError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]})") from error


def _bands(
    path: str, file: Any, header: envi.Header | None, given: Sequence[float] | NDArray[Any] | None, units: str | None
) -> Bands:
    count = file.count
    values, width = None, None
    if given is not None:
        values = np.asarray(given, np.float64)
        if values.shape != (count,):
            raise HsiError(f"{path}: {values.size} wavelengths for {count} bands; expected one a band")
    elif header is not None and (values := header.numbers("wavelength", count)) is not None:
        width, units = header.numbers("fwhm", count), units or header.text("wavelength units")
    else:
        values, width, units = _tagged(file, units)
    if values is None:
        raise HsiError(f"{path}: {count} bands without wavelengths; give them: open_image(path, wavelength=...)")
    nm, factor = envi.wavelengths_nm(values, units, path)
    order = np.argsort(nm, kind="stable")
    if (np.diff(nm[order]) == 0).any():
        same = nm[order][:-1][np.diff(nm[order]) == 0][0]
        raise HsiError(f"{path}: two bands at {same:g} nm; give the wavelengths that tell them apart: wavelength=...")
    bbl = None if header is None else header.numbers("bbl", count)
    good = np.ones(count, np.bool_) if bbl is None else bbl != 0
    return Bands(nm, None if width is None else width * factor, good, order)


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


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan


def _scale(path: str, file: Any, header: envi.Header | None, given: float | None, kind: np.dtype[Any]) -> float:
    """What reflectance 1 is stored as."""
    stated = given
    if stated is None and header is not None:
        stated = header.number("reflectance scale factor")
    if stated is None:
        steps, offsets = set(file.scales), set(file.offsets)
        if len(steps) > 1 or offsets != {0.0}:
            raise HsiError(
                f"{path}: bands have scales of {min(steps):g} to {max(steps):g} and offsets of {min(offsets):g} to "
                f"{max(offsets):g}; expected one scale: apply them and label the array with as_cube"
            )
        (step,) = steps
        stated = None if step == 1.0 else round(1.0 / step, 9)
    if stated is None:
        if kind.kind == "f":
            return 1.0
        warnings.warn(
            f"{path}: does not say what reflectance 1 is stored as; taken for {COUNTS:g}, scale= says otherwise",
            HsiWarning,
            stacklevel=3,
        )
        return COUNTS
    if not (math.isfinite(stated) and stated > 0):
        raise HsiError(f"{path}: reflectance scale factor is {stated:g}; expected a number above 0: give scale=")
    return float(stated)


def _no_data(file: Any, header: envi.Header | None) -> float | None:
    stated = None if header is None else header.number("data ignore value")
    return stated if stated is not None else file.nodata


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


def _blocks(shape: tuple[int, int, int], size: int, block: tuple[int, int]) -> tuple[int, int, int]:
    """Rows and columns of a dask block of whole spectra: whole blocks of the file, about square if they are tiles."""
    rows, cols, bands = shape
    most = max(1, BLOCK_BYTES // (bands * size))
    high, wide = min(block[0], rows), min(block[1], cols)
    side = math.isqrt(most)
    across = cols if wide == cols and most >= cols else min(cols, max(wide, side // wide * wide))
    down = min(rows, max(high, most // across // high * high))
    return max(1, down), across, bands
