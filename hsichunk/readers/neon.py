"""The reader of NEON AOP reflectance files (HDF5). Reads metadata only.

Groups, datasets and attributes are found by name, without regard to case. Every value is checked, and every default
that replaces a missing one is named by a warning. Formats: NEON DP3.30006.001/.002 tiles and DP1.30006.001/.002 flight
lines; the tree is /SITE/Reflectance/{Reflectance_Data, Metadata/{Ancillary_Imagery, Coordinate_System, Logs,
Spectral_Data, ...}}.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator

import h5py
import numpy as np

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.chunks import remote
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError, HsiWarning, one_line
from hsichunk.readers import neon_layers
from hsichunk.readers.hdf5_names import attribute, attributes_of, dataset_in, group_in, number_of, text_of
from hsichunk.readers.model import Bands, Layer, Provenance, ReadOptions, SolarAngles, Source, TileFile
from hsichunk.readers.neon_grid import read_grid
from hsichunk.readers.provenance import NEON_SENSOR

KIND = "NEON AOP reflectance"
NO_OPTIONS = ReadOptions()
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# attributes of Reflectance_Data that the labelled cube does not copy: TileFile has the value of some, others describe
# the layout in the file, and the labelled cube states its own units and description
NOT_COPIED = frozenset(
    {"scale_factor", "data_ignore_value", "dimension_labels", "dimensions", "interleave", "units", "description"}
)
# limits that no NEON file exceeds: a larger number is damaged
MOST_PIXELS, MOST_BANDS, MOST_CHUNKS = 1_000_000, 100_000, 20_000_000
MOST_DECODED = 2 << 30  # bytes of a decoded chunk
FREE_DECODED = 1 << 20  # bytes that a decoded chunk may have, however small the array is
NM = (200.0, 20_000.0)  # range of wavelengths
WIDEST = 1000.0  # nm, full width of a band


def read(path: str | os.PathLike[str], options: ReadOptions = NO_OPTIONS) -> TileFile:
    """Return what the NEON file at `path` says, a path or an address; `options` change nothing.

    Raises HsiError for any other file, and for one that is damaged or contradicts itself; warns (HsiWarning) where one
    of NEON's values replaces what the file leaves out.
    """
    path = os.fsdecode(path)
    source, head, stamp = _open_source(path)
    try:
        file = h5py.File(source, "r")
    except Exception as error:
        if failure := _remote_failure(source):
            raise failure from None
        if not isinstance(error, OSError):
            raise
        raise HsiError(f"{path}: {_why_not_hdf5(head, error)}") from error
    with file:
        try:
            tile_file = _read(path, file)
        except (HsiError, HsiWarning):
            raise
        except Exception as error:  # the exceptions that h5py raises for damaged bytes have no common class
            if failure := _remote_failure(source):
                raise failure from None
            raise HsiError(f"{path}: damaged metadata ({one_line(error)}); download it again") from error
    if tile_file.reflectance.stamp != stamp:
        raise HsiError(f"{path}: changed while it was being opened; open it again")
    return tile_file


def _open_source(path: str) -> tuple[str | remote.RemoteFile, bytes, tuple[int, int]]:
    """Return what h5py opens, the first bytes of the file, and its stamp (ChunkedArray.stamp) before it is read.

    Raises HsiError where nothing can be read at `path`.
    """
    try:
        if remote.is_url(path):
            file = remote.RemoteFile(path)
            return file, file.read(len(HDF5_SIGNATURE)) or b"", file.stamp
        status = os.stat(path)
        with open(path, "rb") as raw:
            return path, raw.read(len(HDF5_SIGNATURE)), (status.st_size, status.st_mtime_ns)
    except IsADirectoryError:
        raise HsiError(f"{path}: is a folder; give the path of a tile or image") from None
    except (OSError, ValueError) as error:
        raise HsiError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or one_line(error)})") from error


def _remote_failure(source: str | remote.RemoteFile) -> HsiError | None:
    """Return the error of reading an address that h5py has replaced by one of its own; None where there was none."""
    return source.failure if isinstance(source, remote.RemoteFile) else None


def _why_not_hdf5(head: bytes, error: OSError) -> str:
    """Return the reason that h5py cannot open a file which begins with `head`."""
    if head == HDF5_SIGNATURE:
        return f"truncated or damaged HDF5 ({one_line(error)}); download it again"
    found = "not an HDF5 file" if head else "the file is empty"
    return f"{found}; NEON reflectance tiles are HDF5 (NEON_..._reflectance.h5)"


def _read(path: str, file: h5py.File) -> TileFile:
    site, group = _site(path, file)
    data = dataset_in(group, "reflectance_data")
    if data is None:
        raise HsiError(f"{path}: {group.name} has no Reflectance_Data, only {_listed(group)}; expected NEON's layout")
    _check_array(path, file, data)
    metadata = group_in(group, "metadata")
    spectral = group_in(metadata, "spectral_data")
    count = data.shape[2]
    scale, scale_from = _scale(path, data)
    no_data, no_data_from = _no_data(path, data)
    windows, windows_from = _windows(path, group, data)
    wavelength = _wavelength(path, dataset_in(spectral, "wavelength"), count)
    fwhm = _fwhm(path, dataset_in(spectral, "fwhm"), count)
    grid, grid_from = read_grid(path, group_in(metadata, "coordinate_system"), data)
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
        sun=tuple(_sun(group_in(metadata, "logs"))),
        attrs=attributes_of(data, NOT_COPIED),
        provenance=Provenance(scale_from, no_data_from, windows_from, Source.FILE, grid_from),
    )


def _check_array(path: str, file: h5py.File, data: h5py.Dataset) -> None:
    """Raise HsiError where Reflectance_Data is no image of counts, or so large that its shape must be damaged."""
    if data.file.filename != file.filename:  # an external link: HDF5Array would read the chunks from the wrong file
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
    chunk_bytes, array_bytes = (math.prod(shape) * data.dtype.itemsize for shape in (chunks, data.shape))
    if chunk_bytes > MOST_DECODED or chunk_bytes > max(4 * array_bytes, FREE_DECODED):
        raise HsiError(
            f"{path}: chunks of shape {chunks} for Reflectance_Data of shape {data.shape}; expected chunks "
            "within it of up to 2 GiB: rewrite the file, or download it again"
        )
    count = math.prod(-(-n // c) for n, c in zip(data.shape, chunks, strict=True))
    if data.chunks and count > MOST_CHUNKS:
        raise HsiError(
            f"{path}: Reflectance_Data of shape {data.shape} is in {count} chunks of shape {chunks}; expected up to "
            f"{MOST_CHUNKS}: rewrite the file with larger ones"
        )


def _site(path: str, file: h5py.File) -> tuple[str, h5py.Group]:
    """Return the name of the site and its Reflectance group: the site is the group at the root that has one.

    Raises HsiError where there is none.
    """
    for name in file:
        group = group_in(file.get(name), "reflectance")
        if group is not None:
            return name, group
    if dataset_in(file, "reflectance") is not None:
        raise HsiError(
            f"{path}: a NEON prototype of 2013 to 2015 (generation G0, Reflectance at the root), which is not read; "
            "NEON has reprocessed these data: download the current product DP3.30006 or DP1.30006"
        )
    inside = "; ".join(f"/{name}: {_listed(file[name])}" for name in file if isinstance(file.get(name), h5py.Group))
    raise HsiError(
        f"{path}: no /SITE/Reflectance group, only {_listed(file)}{inside and f' ({inside})'}; "
        "expected a NEON reflectance file"
    )


def _listed(group: h5py.Group) -> str:
    """Return the names of up to eight members of a group as text."""
    names = sorted(group)
    if not names:
        return "nothing"
    return ", ".join(name[:60] for name in names[:8]) + (", ..." if len(names) > 8 else "")


def _warn(message: str) -> None:
    warnings.warn(message, HsiWarning, stacklevel=2)


def _scale(path: str, data: h5py.Dataset) -> tuple[float, Source]:
    """Return the counts per unit reflectance: Scale_Factor, else NEON's 10000 with a warning.

    Raises HsiError for a scale outside 1 to 1e6.
    """
    value = attribute(data, "scale_factor", "reflectance_scale_factor")
    if value is None:
        _warn(f"{path}: no Scale_Factor; using NEON's {schema.NEON_SCALE:g} counts per unit reflectance")
        return schema.NEON_SCALE, Source.FALLBACK
    scale = number_of(value)
    if not (math.isfinite(scale) and 1 <= scale <= 1e6):
        raise HsiError(f"{path}: Scale_Factor is {scale:g}; expected counts per unit reflectance, as NEON's 10000")
    return scale, Source.FILE


def _no_data(path: str, data: h5py.Dataset) -> tuple[int, Source]:
    """Return the count that stands for no data: Data_Ignore_Value, else NEON's -9999 with a warning.

    Raises HsiError where the type of the counts cannot hold it.
    """
    value = attribute(data, "data_ignore_value")
    if value is None:
        _warn(f"{path}: no Data_Ignore_Value; using NEON's {schema.NEON_NO_DATA}")
        return schema.NEON_NO_DATA, Source.FALLBACK
    ignored, limits = number_of(value), np.iinfo(data.dtype)
    if not ignored.is_integer() or not limits.min <= ignored <= limits.max:
        raise HsiError(
            f"{path}: Data_Ignore_Value is {ignored:g}; expected a whole number of counts that {data.dtype} can hold, "
            "as NEON's -9999"
        )
    return int(ignored), Source.FILE


def _windows(path: str, group: h5py.Group, data: h5py.Dataset) -> tuple[tuple[tuple[float, float], ...], Source]:
    """Return the bad-band windows in nm: the attributes Band_Window_... of the group, else of the dataset.

    NEON's windows, with a warning, where neither has any. Raises HsiError for a window that is not two wavelengths.
    """
    windows: list[tuple[float, float]] = []
    for owner in (group, data):
        for key in sorted(owner.attrs):
            if key.lower().startswith("band_window"):
                ends = np.asarray(owner.attrs[key], np.float64).ravel()
                if ends.size != 2 or not NM[0] <= ends[0] <= ends[1] <= NM[1]:
                    raise HsiError(
                        f"{path}: {key[:60]} is {ends[:4].tolist()}; expected two wavelengths in nm, low and high"
                    )
                windows.append((float(ends[0]), float(ends[1])))
        if windows:
            return tuple(windows), Source.FILE
    listed = ", ".join(f"{low:g}-{high:g}" for low, high in schema.NEON_WINDOWS)
    _warn(f"{path}: no bad-band windows in the file; using NEON's {listed} nm")
    return schema.NEON_WINDOWS, Source.FALLBACK


def _wavelength(path: str, dataset: h5py.Dataset | None, bands: int) -> Floats:
    """Return the centres of the bands in nm, ascending (bands,). Raises HsiError where they are absent or no nm."""
    if dataset is None:
        raise HsiError(
            f"{path}: no Wavelength under Metadata/Spectral_Data; without wavelengths no band can be told from another"
        )
    if dataset.size != bands:
        raise HsiError(f"{path}: {dataset.size} wavelengths for {bands} bands; expected one a band")
    values = np.asarray(dataset[()], np.float64).ravel()
    extent = f"{path}: wavelengths run from {values[0]:g} to {values[-1]:g}"
    if not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        raise HsiError(f"{extent}; expected nm, finite and increasing")
    units = text_of(attribute(dataset, "units"))[:40]
    if units.lower().startswith(("micro", "um", "\N{MICRO SIGN}")) or values[-1] < 50:
        raise HsiError(f"{extent} {units} and are in micrometres; expected nm: multiply Wavelength by 1000 in the file")
    if values[0] < NM[0] or values[-1] > NM[1]:
        raise HsiError(f"{extent}; expected nm, from {NM[0]:g} to {NM[1]:g}")
    return values


def _fwhm(path: str, dataset: h5py.Dataset | None, bands: int) -> Floats | None:
    """Return the full widths of the bands at half maximum in nm (bands,).

    None where the file has none or, as flight lines of 2017, another number of them. Raises HsiError for widths outside
    0 to 1000 nm.
    """
    if dataset is None or dataset.size != bands:
        return None
    values = np.asarray(dataset[()], np.float64).ravel()
    if not ((values >= 0) & (values <= WIDEST)).all():
        raise HsiError(
            f"{path}: FWHM from {values.min():g} to {values.max():g}; expected widths of bands in nm, up to {WIDEST:g}"
        )
    return values


def _layers(path: str, file: h5py.File, metadata: h5py.Group | None, shape: tuple[int, int]) -> Iterator[Layer]:
    """Yield every numeric dataset with one value or a few for each pixel, then the trajectory of a flight line."""
    taken = {schema.REFLECTANCE, schema.Y, schema.X, schema.WAVELENGTH, schema.FWHM, schema.GRID_MAPPING}
    for group in (group_in(metadata, "ancillary_imagery"), metadata):
        if group is None:
            continue
        for key in group:
            dataset = group[key]
            if not isinstance(dataset, h5py.Dataset) or dataset.shape[:2] != shape or len(dataset.shape) > 3:
                continue
            if dataset.dtype.kind not in "iuf":
                continue
            if dataset.file.filename != file.filename:
                _warn(f"{path}: {key[:60]} lies in {dataset.file.filename}; left out")
                continue
            name = neon_layers.name_of(key, taken)
            taken.add(name)
            more = dataset.shape[2:]
            dims = (schema.Y, schema.X, *(("rgb",) if more == (3,) else (f"{name}_layer",) * len(more)))
            stored = attributes_of(dataset, {"dimension_labels"})
            attrs = neon_layers.layer_attributes(name, dataset.shape, dataset.dtype, stored)
            yield Layer(name, dims, HDF5Array(path, dataset), attrs)
    yield from _trajectory(path, file, group_in(metadata, "flight_trajectory", "trajectory"), taken)


def _trajectory(path: str, file: h5py.File, group: h5py.Group | None, taken: set[str]) -> Iterator[Layer]:
    """Yield the numeric datasets of a flight line's trajectory; those of the first one's length share a dimension."""
    if group is None:
        return
    soundings = None
    for key in group:
        dataset = group[key]
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape or dataset.dtype.kind not in "iuf":
            continue
        if dataset.file.filename != file.filename:
            continue
        soundings = soundings or dataset.shape[0]
        name = neon_layers.name_of(key, taken)
        taken.add(name)
        along = "sounding" if dataset.shape[0] == soundings else f"{name}_sounding"
        dims = (along, *(f"{name}_{axis}" for axis in range(1, len(dataset.shape))))
        yield Layer(name, dims, HDF5Array(path, dataset), attributes_of(dataset, {"dimension_labels"}))


def _sun(logs: h5py.Group | None) -> Iterator[SolarAngles]:
    """Yield the solar angles that are logged: once for a flight line, once a flight line for a tile of several."""
    lines = [] if logs is None else [(name, logs[name]) for name in logs]
    for name, group in (("", logs), *lines):
        azimuth, zenith = dataset_in(group, "solar_azimuth_angle"), dataset_in(group, "solar_zenith_angle")
        if azimuth is not None and zenith is not None:
            yield SolarAngles(name, number_of(azimuth[()]), number_of(zenith[()]))
