"""Write maps and cubes as ENVI files: raw values (BSQ) with a header beside them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.atomic_files import staging, sync_one
from hsichunk.classification.palette import class_colors
from hsichunk.errors import HsiError
from hsichunk.readers import envi
from hsichunk.writers.cog import gdal
from hsichunk.writers.georeference import north_up
from hsichunk.writers.geotiff import bands_first, store_blocks
from hsichunk.writers.geotiff_labels import band_names, class_names, no_data

_CODES: Final = {kind: code for code, kind in envi.DATA_TYPES.items()}

Entries = dict[str, str | int | Sequence[str]]


def write_envi(data: xr.DataArray, path: str | Path) -> Path:
    """Write a map (y, x), one band per endmember, or a cube as an ENVI file with its header beside it. Return its path.

    Bands follow each other (BSQ), little-endian. Lazy data are computed once, with a few blocks in memory at a time.
    Cubes have their wavelengths; class maps are an ENVI Classification with names and colours; no data are as in
    GeoTIFFs. Older files are replaced when both are complete. Raises HsiError for dimensions and types that ENVI does
    not have, uneven coordinates, and a place that cannot be written. Source: ENVI's header file format.
    """
    path = Path(path)
    if path.suffix.lower() == ".hdr" or path.is_dir():
        raise HsiError(f"{path} names no data file; give one, such as {path.with_suffix('.img')}")
    with staging(path) as part:
        return publish([write_pair(data, part / path.name)], path.parent)[0]


def write_pair(data: xr.DataArray, path: Path) -> Path:
    """Write the raw file at `path` and its header, neither synced nor moved. Return `path`; errors as `write_envi`."""
    stored = data.encoding.get("preferred_chunks", {})
    data = bands_first(data, "an ENVI file")
    code = _CODES.get(data.dtype.str[1:])
    if code is None:
        raise HsiError(f"an ENVI file holds no {data.dtype}; convert with .astype('float32')")
    data, place = _georeference(data, path.with_name("place"))
    bands, rows, cols = data.shape
    entries: Entries = {
        "description": f"{{{_description(data)}}}",
        "samples": cols,
        "lines": rows,
        "bands": bands,
        "header offset": 0,
        "file type": "ENVI Standard",
        "data type": code,
        "interleave": "bsq",
        "byte order": 0,
        **place,
        "band names": band_names(data),
        **_labels(data),
    }
    with open(path, "wb") as file:
        store_blocks(data, stored, _Bands(file, data))
    path.with_suffix(".hdr").write_text(envi.header(entries), encoding="utf-8")
    return path


def _georeference(data: xr.DataArray, scratch: Path) -> tuple[xr.DataArray, dict[str, str]]:
    """Return data from north to south, and the entries of ENVI's header that say where they lie.

    GDAL writes these entries, into the header of a file of one pixel at `scratch`, which is removed.
    """
    import rasterio

    data, transform, crs = north_up(data)
    if transform is None:
        return data, {}
    profile = {"driver": "ENVI", "count": 1, "height": 1, "width": 1, "dtype": "uint8"}
    with gdal():
        rasterio.open(scratch, "w", **profile, crs=crs, transform=transform).close()
    entries = envi.read_header(scratch.with_suffix(".hdr")).entries
    for path in scratch.parent.glob(f"{scratch.name}*"):
        path.unlink()
    return data, {name: entries[name] for name in ("map info", "coordinate system string") if name in entries}


def _description(data: xr.DataArray) -> str:
    """Return the long name and the unit of the data, without the braces that end a value in a header."""
    long_name, units = data.attrs.get("long_name"), data.attrs.get("units")
    name = long_name if isinstance(long_name, str) else str(data.name or "map")
    text = f"{name} [{units}]" if isinstance(units, str) and units != "1" else name
    return " ".join(text.translate({ord("{"): " ", ord("}"): " "}).split())


def _labels(data: xr.DataArray) -> Entries:
    """Return the entries of no data, of a cube's wavelengths, and of a class map's names and colours."""
    entries: Entries = {}
    missing = no_data(data)
    if missing is not None:
        entries["data ignore value"] = "NaN" if np.isnan(missing) else f"{missing:.17g}"
    if data.dims[0] == schema.WAVELENGTH and schema.WAVELENGTH in data.coords:
        entries["wavelength units"] = "Nanometers"
        for name in (schema.WAVELENGTH, schema.FWHM):
            if name in data.coords:
                entries[name] = [repr(value) for value in data[name].values.astype(float).tolist()]
    if names := class_names(data):
        colors = class_colors(len(names) - 1).ravel().tolist()
        entries |= {"file type": "ENVI Classification", "classes": len(names)}
        entries |= {"class lookup": [str(value) for value in colors], "class names": names}
    return entries


class _Bands:
    """An open raw file (BSQ) to which blocks are assigned, as dask.array.store does; thread-safe."""

    def __init__(self, file: IO[bytes], data: xr.DataArray) -> None:
        self._file, self._shape = file, data.shape
        self._dtype = data.dtype.newbyteorder("<")
        self._lock = threading.Lock()

    def __setitem__(self, region: tuple[slice, slice, slice], block: NDArray[np.generic]) -> None:
        bands, rows, cols = region
        _, height, width = self._shape
        full_rows = block.shape[2] == width
        for band, layer in zip(range(bands.start, bands.stop), block, strict=True):
            values = np.ascontiguousarray(layer, self._dtype)
            parts = [values] if full_rows else [*values]  # rows of the full width lie together in the file
            for row, part in zip(range(rows.start, rows.stop), parts, strict=False):
                with self._lock:
                    self._file.seek(((band * height + row) * width + cols.start) * self._dtype.itemsize)
                    self._file.write(part.data)


def publish(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Sync finished pairs, given by their raw files, and move them to a folder. Return the raw files there.

    A header is never beside data that are not its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        sync_one(path)
        sync_one(path.with_suffix(".hdr"))
    for path in paths:
        header = folder / path.with_suffix(".hdr").name
        header.unlink(missing_ok=True)
        (folder / f"{path.name}.aux.xml").unlink(missing_ok=True)  # what a GIS wrote of older data
        os.replace(path, folder / path.name)
        os.replace(path.with_suffix(".hdr"), header)
    sync_one(folder)
    return [folder / path.name for path in paths]
