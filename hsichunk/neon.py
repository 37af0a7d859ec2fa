"""What a NEON AOP reflectance file says of itself: found by name, checked, and nothing assumed in silence.

Reads metadata only. Formats: NEON DP3.30006.001/.002 tiles and DP1.30006.001/.002 flight lines (HDF5); the tree is
/SITE/Reflectance/{Reflectance_Data, Metadata/{Ancillary_Imagery, Coordinate_System, Logs, Spectral_Data, ...}}.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import layers, schema
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.stored import StoredArray


@dataclass(frozen=True)
class Grid:
    """Where the pixels lie: a north-up grid in projected metres."""

    left: float
    """easting of the left edge of the leftmost pixel"""
    top: float
    """northing of the upper edge of the topmost pixel"""
    dx: float
    dy: float
    epsg: int | None
    wkt: str | None
    """the CRS in the file's own words, used where it names no EPSG code"""

    def x(self, count: int) -> NDArray[np.float64]:
        """Eastings of pixel centres."""
        return np.asarray(self.left + (np.arange(count) + 0.5) * self.dx)

    def y(self, count: int) -> NDArray[np.float64]:
        """Northings of pixel centres, from north to south."""
        return np.asarray(self.top - (np.arange(count) + 0.5) * self.dy)


@dataclass(frozen=True)
class Layer:
    """One ancillary variable."""

    name: str
    dims: tuple[str, ...]
    stored: StoredArray
    attrs: dict[str, Any]


@dataclass(frozen=True)
class NeonFile:
    """A NEON reflectance file, its pixels still on disk."""

    path: str
    site: str
    reflectance: StoredArray
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


def read(path: str | os.PathLike[str]) -> NeonFile:
    """The metadata of the NEON file at `path`. Raises HsiError where it is none, or none that can be trusted."""
    import h5py

    path = os.fspath(path)
    if not os.path.exists(path):
        raise HsiError(f"{path}: no such file")
    if os.path.isdir(path):
        raise HsiError(f"{path}: is a folder; give the path of an HDF5 tile")
    if not os.access(path, os.R_OK):
        raise HsiError(f"{path}: cannot be read (permission denied)")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise HsiError(f"{path}: {_why_not_hdf5(path, error)}") from error
    with file:
        try:
            return _read(path, file)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
            raise HsiError(f"{path}: damaged metadata ({' '.join(str(error).split())}); download it again") from error


def _why_not_hdf5(path: str, error: OSError) -> str:
    with open(path, "rb") as raw:
        head = raw.read(8)
    if head == b"\x89HDF\r\n\x1a\n":
        return f"truncated or damaged HDF5 ({' '.join(str(error).split())}); download it again"
    return "not an HDF5 file; NEON reflectance tiles are HDF5 (NEON_..._reflectance.h5)"


def _read(path: str, file: Any) -> NeonFile:
    site, group = _site(path, file)
    data = _child(group, "reflectance_data")
    if data is None:
        raise HsiError(f"{path}: /{site}/Reflectance holds no Reflectance_Data but {sorted(group)}")
    if len(data.shape) != 3 or data.dtype.kind not in "iu" or data.dtype.itemsize > 4:
        raise HsiError(
            f"{path}: Reflectance_Data is {data.dtype} of shape {data.shape}; expected int16 (line, sample, band)"
        )
    rows, cols, bands = data.shape
    if 0 in data.shape:
        raise HsiError(f"{path}: Reflectance_Data is empty (shape {data.shape})")
    metadata = _child(group, "metadata")
    spectral = _child(metadata, "spectral_data")
    wavelength = _wavelength(path, _child(spectral, "wavelength"), bands)
    return NeonFile(
        path=path,
        site=site,
        reflectance=StoredArray(path, data),
        scale=_scale(path, data),
        no_data=_no_data(path, data),
        windows=_windows(path, group, data),
        wavelength=wavelength,
        fwhm=_fwhm(_child(spectral, "fwhm"), bands),
        grid=_grid(path, _child(metadata, "coordinate_system"), data, rows, cols),
        layers=tuple(_layers(path, group, metadata, rows, cols)),
        sun=tuple(_sun(_child(metadata, "logs"))),
        attrs=_attributes(data, skip={"scale_factor", "data_ignore_value", "dimension_labels", "dimensions", "interleave"}),
    )


def _site(path: str, file: Any) -> tuple[str, Any]:
    """The site's group is the one that holds a Reflectance group; its name is whatever it is."""
    for name in file:
        item = file.get(name)
        if hasattr(item, "keys"):
            group = _child(item, "reflectance")
            if group is not None and hasattr(group, "keys"):
                return name, group
    if hasattr(_child(file, "reflectance"), "shape"):
        raise HsiError(
            f"{path}: a NEON prototype of 2013 to 2015 (generation G0, Reflectance at the root), which is not read; "
            "NEON has reprocessed these data: download the current product DP3.30006 or DP1.30006"
        )
    raise HsiError(f"{path}: no SITE/Reflectance group, only {sorted(file)}; expected a NEON reflectance file")


def _child(group: Any, name: str) -> Any:
    """A member by its name without regard to case or to spaces against underscores; None when absent."""
    if group is None or not hasattr(group, "keys"):
        return None
    wanted = name.lower().replace(" ", "_")
    for key in group:
        if key.lower().replace(" ", "_") == wanted:
            return group[key]
    return None


def _attribute(owner: Any, *names: str) -> Any:
    """An attribute by any of its names without case, or None."""
    wanted = {n.lower() for n in names}
    for key in owner.attrs:
        if key.lower() in wanted:
            return owner.attrs[key]
    return None


def _number(value: Any) -> float:
    """A scalar, whether stored as one, as an array of one or as text."""
    first = np.asarray(value).ravel()[0]
    return float(first.decode() if isinstance(first, bytes) else first)


def _text(node: Any) -> str | None:
    if node is None:
        return None
    first = np.asarray(node[()]).ravel()[0]
    return (first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)).strip()


def _attributes(owner: Any, skip: set[str]) -> dict[str, Any]:
    """A dataset's own attributes as plain values."""
    out: dict[str, Any] = {}
    for key, value in owner.attrs.items():
        if key.lower() in skip:
            continue
        array = np.asarray(value)
        if array.dtype.kind in "SO":
            out[key] = b"".join(array.ravel()).decode("utf-8", "replace") if array.dtype.kind == "S" else _first_text(array)
        elif array.dtype.kind in "iufU":
            out[key] = array.ravel()[0].item() if array.size == 1 else array
    return out


def _first_text(array: NDArray[Any]) -> str:
    first = array.ravel()[0]
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)


def _warn(message: str) -> None:
    warnings.warn(message, HsiWarning, stacklevel=2)


def _scale(path: str, data: Any) -> float:
    value = _attribute(data, "scale_factor", "reflectance_scale_factor")
    if value is None:
        _warn(f"{path}: no Scale_Factor; using NEON's {schema.NEON_SCALE:g} counts per unit reflectance")
        return schema.NEON_SCALE
    scale = _number(value)
    if not (math.isfinite(scale) and 1 <= scale <= 1e6):
        raise HsiError(f"{path}: Scale_Factor is {scale:g}; expected counts per unit reflectance, as NEON's 10000")
    return scale


def _no_data(path: str, data: Any) -> int:
    value = _attribute(data, "data_ignore_value")
    if value is None:
        _warn(f"{path}: no Data_Ignore_Value; using NEON's {schema.NEON_NO_DATA}")
        return schema.NEON_NO_DATA
    number = _number(value)
    if not number.is_integer() or abs(number) > 2**31:
        raise HsiError(f"{path}: Data_Ignore_Value is {number:g}; expected a whole number of counts, as NEON's -9999")
    return int(number)


def _windows(path: str, group: Any, data: Any) -> tuple[tuple[float, float], ...]:
    found: list[tuple[float, float]] = []
    for owner in (group, data):
        for key in sorted(owner.attrs):
            if key.lower().startswith("band_window"):
                pair = np.asarray(owner.attrs[key], float).ravel()
                if pair.size != 2 or not np.isfinite(pair).all() or pair[0] > pair[1]:
                    raise HsiError(f"{path}: {key} is {pair.tolist()}; expected two wavelengths in nm, low and high")
                found.append((float(pair[0]), float(pair[1])))
        if found:
            return tuple(found)
    listed = ", ".join(f"{low:g}-{high:g}" for low, high in schema.NEON_WINDOWS)
    _warn(f"{path}: no bad-band windows in the file; using NEON's {listed} nm")
    return schema.NEON_WINDOWS


def _wavelength(path: str, dataset: Any, bands: int) -> NDArray[np.float64]:
    if dataset is None:
        raise HsiError(f"{path}: no Wavelength under Metadata/Spectral_Data; a cube without wavelengths cannot be cleaned")
    values = np.asarray(dataset[()], np.float64).ravel()
    if values.size != bands:
        raise HsiError(f"{path}: {values.size} wavelengths for {bands} bands; expected one a band")
    if str(_attribute(dataset, "units")).lower().startswith(("micro", "um", "b'micro")) or 0 < values.max() < 50:
        _warn(f"{path}: wavelengths are in micrometres; read as nm")
        values = values * 1000
    if not np.isfinite(values).all() or values.min() < 100 or values.max() > 30000 or (np.diff(values) <= 0).any():
        raise HsiError(
            f"{path}: wavelengths run from {values[0]:g} to {values[-1]:g}; expected nm, finite and increasing"
        )
    return values


def _fwhm(dataset: Any, bands: int) -> NDArray[np.float64] | None:
    """Widths of the bands; None where the file has none or, as flight lines of 2017, of another length."""
    if dataset is None or dataset.size != bands:
        return None
    return np.asarray(dataset[()], np.float64).ravel()


def _grid(path: str, system: Any, data: Any, rows: int, cols: int) -> Grid:
    text = _text(_child(system, "map_info"))
    if text is not None:
        left, top, dx, dy, zone = _map_info(path, text)
    else:
        left, top, dx, dy = _extent(path, data, rows, cols)
        zone = None
    if not (all(map(math.isfinite, (left, top))) and 0 < dx < 1e4 and 0 < dy < 1e4 and max(abs(left), abs(top)) < 1e8):
        raise HsiError(f"{path}: origin ({left:g}, {top:g}) and pixel size ({dx:g}, {dy:g}) are no grid in metres")
    code = _text(_child(system, "epsg_code"))
    wkt = _text(_child(system, "coordinate_system_string"))
    if code is not None and code.isdigit():
        return Grid(left, top, dx, dy, int(code), None)
    if wkt:
        return Grid(left, top, dx, dy, None, wkt)
    if zone is not None:
        _warn(f"{path}: no EPSG code; taken from Map_Info: EPSG {zone}")
        return Grid(left, top, dx, dy, zone, None)
    _warn(f"{path}: no coordinate reference system in the file; results will carry none")
    return Grid(left, top, dx, dy, None, None)


def _map_info(path: str, text: str) -> tuple[float, float, float, float, int | None]:
    """ENVI's map info: projection, reference pixel (1-based, its upper left corner), its place, pixel size, zone."""
    fields = [field.strip() for field in text.strip("{}").split(",")]
    try:
        column, row, east, north, dx, dy = (float(field) for field in fields[1:7])
    except ValueError:
        raise HsiError(f"{path}: Map_Info is {text[:80]!r}; expected ENVI's UTM, 1, 1, easting, northing, dx, dy, ...") from None
    for field in fields:
        if field.lower().startswith("rotation") and float(field.split("=")[1]) != 0:
            raise HsiError(f"{path}: the grid is rotated ({field}); only north-up grids are read")
    zone = None
    if fields[0].upper() == "UTM" and len(fields) > 8 and fields[7].isdigit() and 1 <= int(fields[7]) <= 60:
        zone = (32600 if fields[8].lower().startswith("n") else 32700) + int(fields[7])
    return east - (column - 1) * dx, north + (row - 1) * dy, dx, dy, zone


def _extent(path: str, data: Any, rows: int, cols: int) -> tuple[float, float, float, float]:
    value = _attribute(data, "spatial_extent_meters", "spatial_extent")
    if value is None or np.asarray(value).size != 4:
        raise HsiError(f"{path}: neither Map_Info nor Spatial_Extent_meters; the place of the pixels is unknown")
    xmin, xmax, ymin, ymax = np.asarray(value, float).ravel()
    _warn(f"{path}: no Map_Info; grid taken from Spatial_Extent_meters")
    return float(xmin), float(ymax), float(xmax - xmin) / cols, float(ymax - ymin) / rows


def _layers(path: str, group: Any, metadata: Any, rows: int, cols: int) -> Iterator[Layer]:
    for holder in (_child(metadata, "ancillary_imagery"), metadata):
        for key in holder or ():
            dataset = holder[key]
            shape = getattr(dataset, "shape", ())
            if shape[:2] != (rows, cols) or dataset.dtype.kind not in "iuf":
                continue
            name = layers.NAMES.get(key.lower(), key.lower())
            dims = (schema.Y, schema.X) if len(shape) == 2 else (schema.Y, schema.X, "rgb")
            attrs = layers.attributes(name, shape, _attributes(dataset, skip={"dimension_labels", "scale_factor"}))
            yield Layer(name, dims, StoredArray(path, dataset), attrs)
    yield from _trajectory(path, _child(metadata, "flight_trajectory") or _child(metadata, "trajectory"))


def _trajectory(path: str, group: Any) -> Iterator[Layer]:
    for key in group or ():
        dataset = group[key]
        if getattr(dataset, "dtype", np.dtype(object)).kind in "iuf":
            dims = ("sounding", *(f"{key.lower()}_{i}" for i in range(1, len(dataset.shape))))
            yield Layer(key.lower(), dims, StoredArray(path, dataset), {})


def _sun(logs: Any) -> Iterator[tuple[str, float, float]]:
    """Solar angles, logged once for a flight line and once a line for a tile that several lines make up."""
    for name, group in (("", logs), *((key, logs[key]) for key in logs or ())):
        azimuth, zenith = _child(group, "solar_azimuth_angle"), _child(group, "solar_zenith_angle")
        if azimuth is not None and zenith is not None:
            yield name, _number(azimuth[()]), _number(zenith[()])
