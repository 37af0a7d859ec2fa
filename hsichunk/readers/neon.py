"""Read the metadata of a NEON AOP reflectance file: found by name, checked, nothing assumed in silence.

Reads metadata only. Formats: NEON DP3.30006.001/.002 tiles and DP1.30006.001/.002 flight lines (HDF5); the tree is
/SITE/Reflectance/{Reflectance_Data, Metadata/{Ancillary_Imagery, Coordinate_System, Logs, Spectral_Data, ...}}.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks import remote
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError, HsiWarning, one_line
from hsichunk.readers import neon_layers
from hsichunk.readers.hdf5_names import attribute, attributes, child, number, words
from hsichunk.readers.model import Bands, Layer, Provenance, ReadOptions, Source, TileFile
from hsichunk.readers.neon_grid import read_grid
from hsichunk.readers.provenance import NEON_SENSOR

KIND = "NEON AOP reflectance"
ANY = ReadOptions()
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# of Reflectance_Data: read elsewhere, about the array's layout and therefore known, or said anew
NOT_COPIED = frozenset(
    {"scale_factor", "data_ignore_value", "dimension_labels", "dimensions", "interleave", "units", "description"}
)
# what no NEON file exceeds: beyond it a number is damaged
MOST_PIXELS, MOST_BANDS, MOST_CHUNKS = 1_000_000, 100_000, 20_000_000
MOST_DECODED = 2 << 30  # bytes of a decoded chunk
FREE_DECODED = 1 << 20  # bytes up to which a chunk may be larger than the array
NM = (200.0, 20_000.0)  # wavelengths
WIDEST = 1000.0  # nm, of a band


def read(path: str | os.PathLike[str], options: ReadOptions = ANY) -> TileFile:
    """What the NEON file at `path` says; no option changes it.

    Raises HsiError where it is none, or none that can be trusted; warns (HsiWarning) where one of NEON's values stands
    in for what the file leaves out.
    """
    import h5py

    path = os.fsdecode(path)
    source: Any = path
    try:
        if remote.is_url(path):
            source = remote.RemoteFile(path)
            head, before = source.read(len(HDF5_SIGNATURE)), source.stamp
        else:
            status = os.stat(path)
            before = status.st_size, status.st_mtime_ns
            with open(path, "rb") as raw:
                head = raw.read(len(HDF5_SIGNATURE))
    except IsADirectoryError:
        raise HsiError(f"{path}: is a folder; give the path of a tile or image") from None
    except (OSError, ValueError) as error:
        raise HsiError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or one_line(error)})") from error
    try:
        file = h5py.File(source, "r")
    except Exception as error:
        if failure := getattr(source, "failure", None):  # h5py makes another error of it
            raise failure from None
        if not isinstance(error, OSError):
            raise
        raise HsiError(f"{path}: {_why_not_hdf5(head, error)}") from error
    with file:
        try:
            found = _read(path, file)
        except (HsiError, HsiWarning):
            raise
        except Exception as error:  # what a damaged byte makes of h5py has no common class
            if failure := getattr(source, "failure", None):
                raise failure from None
            raise HsiError(f"{path}: damaged metadata ({one_line(error)}); download it again") from error
    if found.reflectance.stamp != before:
        raise HsiError(f"{path}: changed while it was being opened; open it again")
    return found


def _why_not_hdf5(head: bytes, error: OSError) -> str:
    if head == HDF5_SIGNATURE:
        return f"truncated or damaged HDF5 ({one_line(error)}); download it again"
    found = "not an HDF5 file" if head else "the file is empty"
    return f"{found}; NEON reflectance tiles are HDF5 (NEON_..._reflectance.h5)"


def _read(path: str, file: Any) -> TileFile:
    site, group = _site(path, file)
    data = child(group, "reflectance_data")
    if not hasattr(data, "shape"):
        raise HsiError(f"{path}: {group.name} has no Reflectance_Data, only {_listed(group)}; expected NEON's layout")
    _check_array(path, file, data)
    metadata = child(group, "metadata")
    spectral = child(metadata, "spectral_data")
    count = data.shape[2]
    scale, scale_from = _scale(path, data)
    no_data, no_data_from = _no_data(path, data)
    windows, windows_from = _windows(path, group, data)
    wavelength = _wavelength(path, child(spectral, "wavelength"), count)
    fwhm = _fwhm(path, child(spectral, "fwhm"), count)
    grid, grid_from = read_grid(path, child(metadata, "coordinate_system"), data)
    return TileFile(
        path=path,
        kind=KIND,
        site=site,
        names_site=True,
        title=f"{KIND}, {site}",
        sensor=NEON_SENSOR,
        reflectance=HDF5Array(path, data),
        bands=Bands(wavelength, fwhm, windows, schema.NEON_DROP_LAST),
        scale=scale,
        no_data=no_data,
        place=grid,
        layers=tuple(_layers(path, file, metadata, data.shape[:2])),
        sun=tuple(_sun(child(metadata, "logs"))),
        attrs=attributes(data, NOT_COPIED),
        provenance=Provenance(scale_from, no_data_from, windows_from, Source.FILE, grid_from),
    )


def _check_array(path: str, file: Any, data: Any) -> None:
    """Raises HsiError where Reflectance_Data cannot be an image, or takes more than a damaged number may ask for."""
    if data.file.filename != file.filename:  # a link: chunks would be looked for in the wrong file
        raise HsiError(f"{path}: Reflectance_Data lies in {data.file.filename}; give that file")
    if len(data.shape) != 3 or data.dtype.kind not in "iu" or data.dtype.itemsize > 4:
        raise HsiError(
            f"{path}: Reflectance_Data is {str(data.dtype)[:60]} of shape {data.shape}; "
            "expected int16 (line, sample, band)"
        )
    if 0 in data.shape:
        raise HsiError(f"{path}: Reflectance_Data is empty (shape {data.shape})")
    if max(data.shape[:2]) > MOST_PIXELS or data.shape[2] > MOST_BANDS:
        raise HsiError(
            f"{path}: Reflectance_Data has shape {data.shape}; expected up to {MOST_PIXELS} lines and samples and "
            f"{MOST_BANDS} bands: download it again"
        )
    chunks = data.chunks or (1, 1, data.shape[2])
    decoded, whole = (math.prod(shape) * data.dtype.itemsize for shape in (chunks, data.shape))
    if decoded > MOST_DECODED or decoded > max(4 * whole, FREE_DECODED):
        raise HsiError(
            f"{path}: chunks of shape {chunks} for Reflectance_Data of shape {data.shape}; expected chunks "
            "within it of up to 2 GiB: rewrite the file, or download it again"
        )
    number = math.prod(-(-n // c) for n, c in zip(data.shape, chunks, strict=True))
    if data.chunks and number > MOST_CHUNKS:
        raise HsiError(
            f"{path}: Reflectance_Data of shape {data.shape} is in {number} chunks of shape {chunks}; expected up to "
            f"{MOST_CHUNKS}: rewrite the file with larger ones"
        )


def _site(path: str, file: Any) -> tuple[str, Any]:
    """The site's group is the one that holds a Reflectance group; its name is whatever it is."""
    for name in file:
        group = child(file.get(name), "reflectance")
        if hasattr(group, "keys"):
            return name, group
    if hasattr(child(file, "reflectance"), "shape"):
        raise HsiError(
            f"{path}: a NEON prototype of 2013 to 2015 (generation G0, Reflectance at the root), which is not read; "
            "NEON has reprocessed these data: download the current product DP3.30006 or DP1.30006"
        )
    inside = "; ".join(f"/{name}: {_listed(file[name])}" for name in file if hasattr(file.get(name), "keys"))
    raise HsiError(
        f"{path}: no /SITE/Reflectance group, only {_listed(file)}{inside and f' ({inside})'}; "
        "expected a NEON reflectance file"
    )


def _listed(group: Any) -> str:
    names = sorted(group)
    return ", ".join(name[:60] for name in names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"


def _warn(message: str) -> None:
    warnings.warn(message, HsiWarning, stacklevel=2)


def _scale(path: str, data: Any) -> tuple[float, Source]:
    value = attribute(data, "scale_factor", "reflectance_scale_factor")
    if value is None:
        _warn(f"{path}: no Scale_Factor; using NEON's {schema.NEON_SCALE:g} counts per unit reflectance")
        return schema.NEON_SCALE, Source.FALLBACK
    scale = number(value)
    if not (math.isfinite(scale) and 1 <= scale <= 1e6):
        raise HsiError(f"{path}: Scale_Factor is {scale:g}; expected counts per unit reflectance, as NEON's 10000")
    return scale, Source.FILE


def _no_data(path: str, data: Any) -> tuple[int, Source]:
    value = attribute(data, "data_ignore_value")
    if value is None:
        _warn(f"{path}: no Data_Ignore_Value; using NEON's {schema.NEON_NO_DATA}")
        return schema.NEON_NO_DATA, Source.FALLBACK
    ignored, kind = number(value), np.iinfo(data.dtype)
    if not ignored.is_integer() or not kind.min <= ignored <= kind.max:
        raise HsiError(
            f"{path}: Data_Ignore_Value is {ignored:g}; expected a whole number of counts that {data.dtype} can hold, "
            "as NEON's -9999"
        )
    return int(ignored), Source.FILE


def _windows(path: str, group: Any, data: Any) -> tuple[tuple[tuple[float, float], ...], Source]:
    found: list[tuple[float, float]] = []
    for owner in (group, data):
        for key in sorted(owner.attrs):
            if key.lower().startswith("band_window"):
                ends = np.asarray(owner.attrs[key], np.float64).ravel()
                if ends.size != 2 or not NM[0] <= ends[0] <= ends[1] <= NM[1]:
                    said = ends[:4].tolist()
                    raise HsiError(f"{path}: {key[:60]} is {said}; expected two wavelengths in nm, low and high")
                found.append((float(ends[0]), float(ends[1])))
        if found:
            return tuple(found), Source.FILE
    listed = ", ".join(f"{low:g}-{high:g}" for low, high in schema.NEON_WINDOWS)
    _warn(f"{path}: no bad-band windows in the file; using NEON's {listed} nm")
    return schema.NEON_WINDOWS, Source.FALLBACK


def _wavelength(path: str, dataset: Any, bands: int) -> NDArray[np.float64]:
    if not hasattr(dataset, "shape"):
        raise HsiError(
            f"{path}: no Wavelength under Metadata/Spectral_Data; without wavelengths no band can be told from another"
        )
    if dataset.size != bands:
        raise HsiError(f"{path}: {dataset.size} wavelengths for {bands} bands; expected one a band")
    values = np.asarray(dataset[()], np.float64).ravel()
    run = f"{path}: wavelengths run from {values[0]:g} to {values[-1]:g}"
    if not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        raise HsiError(f"{run}; expected nm, finite and increasing")
    units = words(attribute(dataset, "units"))[:40]
    if units.lower().startswith(("micro", "um", "\N{MICRO SIGN}")) or values[-1] < 50:
        raise HsiError(f"{run} {units} and are in micrometres; expected nm: multiply Wavelength by 1000 in the file")
    if values[0] < NM[0] or values[-1] > NM[1]:
        raise HsiError(f"{run}; expected nm, from {NM[0]:g} to {NM[1]:g}")
    return values


def _fwhm(path: str, dataset: Any, bands: int) -> NDArray[np.float64] | None:
    """Widths of the bands; None where the file has none or, as flight lines of 2017, of another length."""
    if not hasattr(dataset, "shape") or dataset.size != bands:
        return None
    values = np.asarray(dataset[()], np.float64).ravel()
    if not ((values >= 0) & (values <= WIDEST)).all():
        raise HsiError(
            f"{path}: FWHM from {values.min():g} to {values.max():g}; expected widths of bands in nm, up to {WIDEST:g}"
        )
    return values


def _layers(path: str, file: Any, metadata: Any, pixels: tuple[int, int]) -> Iterator[Layer]:
    """Every dataset with one value or a few for each pixel, then the trajectory of a flight line."""
    taken = {schema.REFLECTANCE, schema.Y, schema.X, schema.WAVELENGTH, schema.FWHM, schema.GRID_MAPPING}
    for holder in (child(metadata, "ancillary_imagery"), metadata):
        for key in holder if hasattr(holder, "keys") else ():
            dataset = holder[key]
            shape = getattr(dataset, "shape", ())
            if shape[:2] != pixels or len(shape) > 3 or dataset.dtype.kind not in "iuf":
                continue
            if dataset.file.filename != file.filename:
                _warn(f"{path}: {key[:60]} lies in {dataset.file.filename}; left out")
                continue
            name = neon_layers.name_of(key, taken)
            taken.add(name)
            dims = (schema.Y, schema.X, *(("rgb",) if shape[2:] == (3,) else (f"{name}_layer",) * len(shape[2:])))
            attrs = neon_layers.attributes(name, shape, dataset.dtype, attributes(dataset, {"dimension_labels"}))
            yield Layer(name, dims, HDF5Array(path, dataset), attrs)
    yield from _trajectory(path, file, child(metadata, "flight_trajectory", "trajectory"), taken)


def _trajectory(path: str, file: Any, group: Any, taken: set[str]) -> Iterator[Layer]:
    soundings = None
    for key in group if hasattr(group, "keys") else ():
        dataset = group[key]
        shape = getattr(dataset, "shape", ())
        if shape and dataset.dtype.kind in "iuf" and dataset.file.filename == file.filename:
            soundings = soundings or shape[0]
            name = neon_layers.name_of(key, taken)
            taken.add(name)
            along = "sounding" if shape[0] == soundings else f"{name}_sounding"
            dims = (along, *(f"{name}_{i}" for i in range(1, len(shape))))
            yield Layer(name, dims, HDF5Array(path, dataset), attributes(dataset, {"dimension_labels"}))


def _sun(logs: Any) -> Iterator[tuple[str, float, float]]:
    """Solar angles, logged once for a flight line and once a line for a tile that several lines make up."""
    lines = [(key, logs[key]) for key in logs] if hasattr(logs, "keys") else []
    for name, group in (("", logs), *lines):
        azimuth, zenith = child(group, "solar_azimuth_angle"), child(group, "solar_zenith_angle")
        if hasattr(azimuth, "shape") and hasattr(zenith, "shape"):
            yield name, number(azimuth[()]), number(zenith[()])
