"""Files of spectra: CSV, NetCDF, ENVI, NumPy and MATLAB, read as they are and written whole."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.atomic_files import replacing, replacing_hdf5
from hsichunk.errors import HsiError
from hsichunk.readers import envi

WAVE = re.compile(r"wave|lambda|^wl|^(nm|um|\u00b5m|\u03bcm)$", re.IGNORECASE)
WIDTH = re.compile(r"fwhm|bandwidth", re.IGNORECASE)
COUNTER = re.compile(r"^(band|index|channel|number|no\.?|#)?$", re.IGNORECASE)
UNIT = re.compile(r"(?:^|[^a-z])(nm|nanomet\w*|um|\u00b5m|\u03bcm|micron\w*|micromet\w*)(?:$|[^a-z])", re.IGNORECASE)
REFLECTANCE_UNITS = "reflectance"  # 'data units' of an ENVI library that we have written


def read_file(path: Path) -> Spectra:
    """The spectra of a file, by its suffix. Raises HsiError for one that is not known or cannot be read."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise HsiError(f"{path}: suffix {path.suffix or '(none)'}; expected {', '.join(READERS)}")
    if not path.is_file():
        raise HsiError(f"{path}: no such file; expected a spectral library")
    try:
        return reader(path)
    except OSError as error:
        raise HsiError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read_csv(path: Path) -> Spectra:
    rows = _rows(path)
    head, body = rows[0], rows[1:]
    if len(body) > 2 and [row[0].lower() for row in body[:2]] == ["x", "y"]:  # endmembers.csv of a run
        table = _table(path, [r[1:] for r in body])
        wave = np.array(_column(path, body[2:], 0))
        return Spectra(str(path), table[2:].T, wave, head[1:], "nm", scale=1.0, x=table[0], y=table[1])
    if all(_is_number(cell) for cell in head):
        table = _table(path, rows)
        if _monotone(table[:, 0]):
            return Spectra(str(path), table[:, 1:].T, table[:, 0])
        return Spectra(str(path), table[1:], table[0])
    if not body:
        raise HsiError(f"{path}: one row; expected wavelengths and spectra, in columns or in rows")
    return _by_rows(path, head, body) if _in_rows(head, body) else _by_columns(path, head, body)


def _rows(path: Path) -> list[list[str]]:
    """Cells of the lines that are neither blank nor comments, all rows equally long."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # a spreadsheet's
    if "\0" in text:
        raise HsiError(f"{path}: is no text; expected comma-separated values")
    lines = [line for line in text.splitlines() if line.strip(" \t,;") and not line.lstrip().startswith("#")]
    if not lines:
        raise HsiError(f"{path}: is empty; expected wavelengths and spectra")
    marks = max(",;\t", key=lines[0].count)
    cut = csv.reader(lines, delimiter=marks) if marks in lines[0] else (line.split() for line in lines)
    rows = [[cell.strip() for cell in row] for row in cut]
    wide = max(len(rows[0]), 1)
    while wide > 1 and all(not cell for row in rows for cell in row[wide - 1 :]):
        wide -= 1
    for number, row in enumerate(rows, start=1):
        if len(row) < wide or any(row[wide:]):
            raise HsiError(f"{path}: row {number} has {len(row)} cells, the first {wide}; expected equal rows")
    return [row[:wide] for row in rows]


def _in_rows(head: list[str], body: list[list[str]]) -> bool:
    """Whether the header holds the wavelengths and each row is a spectrum."""
    numbers = [float(cell) for cell in head if _is_number(cell)]
    if len(numbers) < 2:
        return False
    if not all(_is_number(row[0]) for row in body):
        return True
    # both would do: numbered spectra. The name of the first column decides, else what looks like wavelengths
    return not WAVE.search(head[0]) and (min(numbers) >= 200 or 0.2 <= min(numbers) <= max(numbers) <= 20)


def _by_rows(path: Path, head: list[str], body: list[list[str]]) -> Spectra:
    bands = [i for i, cell in enumerate(head) if _is_number(cell)]
    labels = [i for i in range(len(head)) if i not in bands]
    named = [i for i in labels if re.search(r"name|spectr|class|id$", head[i], re.IGNORECASE)]
    names = [row[(named or labels)[0]] for row in body] if labels else None
    wave = np.array([float(head[i]) for i in bands])
    return Spectra(str(path), _table(path, [[row[i] for i in bands] for row in body]), wave, names)


def _by_columns(path: Path, head: list[str], body: list[list[str]]) -> Spectra:
    wave = next((i for i, cell in enumerate(head) if WAVE.search(cell)), 0)
    width = next((i for i, cell in enumerate(head) if WIDTH.search(cell)), None)
    spectra = [i for i, cell in enumerate(head) if i not in (wave, width) and not (i < wave and COUNTER.match(cell))]
    if not spectra:
        raise HsiError(f"{path}: wavelengths and no spectra; expected a column a spectrum")
    unit = UNIT.search(head[wave].replace("_", " "))
    values = _table(path, [[row[i] for i in spectra] for row in body]).T
    fwhm = None if width is None else np.array(_column(path, body, width))
    where, names = np.array(_column(path, body, wave)), [head[i] for i in spectra]
    return Spectra(str(path), values, where, names, unit[1] if unit else None, fwhm)


def _column(path: Path, body: list[list[str]], column: int) -> list[float]:
    return [float(v) for v in _table(path, [[row[column]] for row in body])[:, 0]]


def _table(path: Path, rows: list[list[str]]) -> Floats:
    out = np.empty((len(rows), len(rows[0])))
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            try:
                out[number, column] = float(cell) if cell.lower() not in ("", "na", "n/a", "null") else np.nan
            except ValueError:
                raise HsiError(f"{path}: {cell[:40]!r} among the values; expected numbers") from None
    return out


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _monotone(values: NDArray[np.float64]) -> bool:
    steps = np.diff(values)
    return bool(len(values) > 1 and values.min() > 0 and ((steps > 0).all() or (steps < 0).all()))


def _read_envi(path: Path) -> Spectra:
    if path.suffix.lower() == ".hdr":
        header, data = envi.read_header(path), envi.data_of(path, envi.LIBRARIES)
    else:
        beside = envi.header_of(path)
        if beside is None:
            raise HsiError(f"{path}: no header beside it; expected {path.stem}.hdr")
        header, data = envi.read_header(beside), path
    bands, lines = header.count("samples"), header.count("lines")
    code = header.count("data type")
    if code not in envi.DATA_TYPES or header.count("bands", 1) != 1:
        raise HsiError(f"{header.path}: data type {code}, {header.text('bands')} bands; expected a spectral library")
    kind = np.dtype(envi.DATA_TYPES[code]).newbyteorder(">" if header.count("byte order", 0) else "<")
    offset = header.count("header offset", 0)
    if data.stat().st_size < offset + bands * lines * kind.itemsize:
        raise HsiError(f"{data}: {data.stat().st_size} bytes for {lines} spectra of {bands} bands; the file is cut off")
    values = np.fromfile(data, kind, bands * lines, offset=offset).reshape(lines, bands)
    factor = header.number("reflectance scale factor")
    scale = factor if factor is not None and factor != 1 else None  # 1 is what ENVI writes when it does not know
    if header.text("data units") == REFLECTANCE_UNITS:
        scale = 1.0
    names = header.texts("spectra names")
    if names is not None and len(names) != lines:  # names with commas in them cannot be told apart
        names = None
    return Spectra(
        str(path),
        values.astype(np.float64),
        header.numbers("wavelength", bands),
        names,
        header.text("wavelength units"),
        header.numbers("fwhm", bands),
        scale,
    )


def _read_netcdf(path: Path) -> Spectra:
    """NetCDF-4, as `write_library` and xarray write it: reflectance, wavelength and, if there, endmember."""
    import h5py

    if not h5py.is_hdf5(path):
        raise HsiError(f"{path}: is no NetCDF-4 file; expected reflectance (endmember, wavelength)")
    with h5py.File(path) as file:
        tables = [n for n, v in file.items() if isinstance(v, h5py.Dataset) and v.ndim == 2 and v.dtype.kind in "iuf"]
        name = schema.REFLECTANCE if schema.REFLECTANCE in tables else tables[0] if len(tables) == 1 else None
        if name is None or schema.WAVELENGTH not in file:
            raise HsiError(f"{path}: holds {', '.join(file) or 'nothing'}; expected reflectance and wavelength")
        wave, units = file[schema.WAVELENGTH], _words(file[schema.WAVELENGTH].attrs.get("units"))
        said: dict[str, Any] = {n: file[n][...] for n in (schema.FWHM, schema.X, schema.Y) if n in file}
        if schema.ENDMEMBER in file and file[schema.ENDMEMBER].dtype.kind in "OS":
            said["names"] = list(file[schema.ENDMEMBER].asstr()[...])
        scale = 1.0 if _words(file[name].attrs.get("units")) == "1" else None
        return Spectra(str(path), file[name][...].astype(np.float64), wave[...], units=units, scale=scale, **said)


def _words(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _read_npy(path: Path) -> Spectra:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise HsiError(f"{path}: is no NumPy array; expected numbers (spectra, bands)") from error
    if values.ndim not in (1, 2) or values.dtype.kind not in "iuf":
        raise HsiError(f"{path}: {values.dtype} {values.shape}; expected numbers (spectra, bands)")
    return Spectra(str(path), np.atleast_2d(values).astype(np.float64))


def _read_mat(path: Path) -> Spectra:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise HsiError(f"{path}: .mat files need SciPy; install it: pip install scipy") from None
    try:
        content = loadmat(path)
    except (ValueError, NotImplementedError, TypeError) as error:
        raise HsiError(f"{path}: cannot be read ({' '.join(str(error).split())[:80]})") from error
    numbers = {n: v for n, v in content.items() if isinstance(v, np.ndarray) and v.ndim == 2 and v.dtype.kind in "iuf"}
    tables = {n: v for n, v in numbers.items() if min(v.shape) > 1}
    wave = next((v.ravel() for n, v in numbers.items() if WAVE.search(n) and min(v.shape) == 1), None)
    if len(tables) != 1:
        raise HsiError(f"{path}: holds {', '.join(tables) or 'no table'}; expected one of spectra: read it and pass it")
    return Spectra(str(path), next(iter(tables.values())).astype(np.float64), wave)


def _write_csv(em: xr.DataArray, path: Path) -> None:
    from hsichunk.endmembers.endmember_csv import write_endmembers

    places = [
        (str(name), *(float(em[c].values[i]) if c in em.coords else float("nan") for c in (schema.X, schema.Y)))
        for i, name in enumerate(em[schema.ENDMEMBER].values)
    ]
    write_endmembers(path, em[schema.WAVELENGTH].values.astype(np.float64), em.values, places)  # type: ignore[arg-type]


def _write_netcdf(em: xr.DataArray, path: Path) -> None:
    """NetCDF-4 by its rules for HDF5: dimensions are scales, attached to what they label."""
    from h5py import string_dtype

    with replacing_hdf5(path, track_order=True) as file:
        for name in (schema.ENDMEMBER, schema.WAVELENGTH):
            text = name == schema.ENDMEMBER
            values = [str(v) for v in em[name].values] if text else em[name].values.astype(np.float64)
            kind = string_dtype() if text else np.float64
            file.create_dataset(name, data=values, dtype=kind, track_order=True).make_scale(name)
        _attach(file, schema.REFLECTANCE, em.values, (schema.ENDMEMBER, schema.WAVELENGTH))
        others = [n for n in (schema.FWHM, schema.X, schema.Y) if n in em.coords]
        for name in others:
            dim = schema.WAVELENGTH if name == schema.FWHM else schema.ENDMEMBER
            _attach(file, name, em[name].values.astype(np.float64), (dim,))
        known = {schema.WAVELENGTH: schema.WAVELENGTH_ATTRS, schema.FWHM: schema.FWHM_ATTRS}
        known |= {schema.X: schema.X_ATTRS, schema.Y: schema.Y_ATTRS}
        for name in (schema.WAVELENGTH, *others):
            file[name].attrs.update({k: v for k, v in known[name].items() if k != "axis"})
        file[schema.REFLECTANCE].attrs.update(schema.PRODUCT_ATTRS[schema.REFLECTANCE])
        if others:
            file[schema.REFLECTANCE].attrs["coordinates"] = " ".join(others)
        file.attrs["Conventions"] = "CF-1.11"


def _attach(file: Any, name: str, values: NDArray[Any], dims: tuple[str, ...]) -> None:
    data = file.create_dataset(name, data=values, track_order=True)
    for axis, dim in enumerate(dims):
        data.dims[axis].attach_scale(file[dim])


def _write_envi(em: xr.DataArray, path: Path) -> None:
    spectra, bands = em.shape
    names = [re.sub(r"[,{}\s]+", " ", str(name)).strip() for name in em[schema.ENDMEMBER].values]
    lines = [
        "ENVI", f"samples = {bands}", f"lines = {spectra}", "bands = 1", "header offset = 0",
        "file type = ENVI Spectral Library", "data type = 5", "interleave = bsq", "byte order = 0",
        "wavelength units = Nanometers", "reflectance scale factor = 1.0", f"data units = {REFLECTANCE_UNITS}",
        f"spectra names = {{{', '.join(names)}}}", f"wavelength = {{{_listed(em[schema.WAVELENGTH].values)}}}",
    ]  # fmt: skip
    if schema.FWHM in em.coords:
        lines.append(f"fwhm = {{{_listed(em[schema.FWHM].values)}}}")
    with replacing(path.with_suffix(".hdr")) as header, replacing(path) as values:
        header.write_text("\n".join(lines) + "\n", encoding="utf-8")
        values.write_bytes(em.values.astype("<f8").tobytes())


def _listed(values: NDArray[Any]) -> str:
    return ", ".join(repr(float(v)) for v in values)


READERS: dict[str, Callable[[Path], Spectra]] = {
    ".csv": _read_csv,
    ".txt": _read_csv,
    ".tsv": _read_csv,
    ".nc": _read_netcdf,
    **dict.fromkeys((*envi.LIBRARIES, ".hdr"), _read_envi),
    ".npy": _read_npy,
    ".mat": _read_mat,
}
WRITERS: dict[str, Callable[[xr.DataArray, Path], None]] = {
    ".csv": _write_csv,
    ".nc": _write_netcdf,
    ".sli": _write_envi,
}


@dataclass
class Spectra:
    """What a file of spectra says, as it says it."""

    where: str
    values: Floats
    """(k, L)"""
    wavelength: Floats | None = None
    names: Sequence[str] | None = None
    units: str | None = None
    """of the wavelengths"""
    fwhm: Floats | None = None
    """in the unit of the wavelengths"""
    scale: float | None = None
    """values of reflectance 1; None where the file does not say"""
    x: Floats | None = None
    y: Floats | None = None
