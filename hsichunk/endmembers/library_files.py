"""Read files of spectra (CSV, NetCDF, ENVI, NumPy, MATLAB) unchanged; write CSV, NetCDF and ENVI with all digits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.atomic_files import replacing, replacing_hdf5
from hsichunk.endmembers.library_csv import WAVE, read_csv
from hsichunk.endmembers.library_spectra import LibrarySpectra
from hsichunk.errors import HsiError, one_line
from hsichunk.readers import envi

if TYPE_CHECKING:
    import h5py

REFLECTANCE_UNITS = "reflectance"  # 'data units' of the ENVI libraries that this module writes


def read_file(path: Path) -> LibrarySpectra:
    """Read the spectra of a file by its suffix. Raises HsiError for an unknown one, and where it cannot be read."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise HsiError(f"{path}: suffix {path.suffix or '(none)'}; expected {', '.join(READERS)}")
    if not path.is_file():
        raise HsiError(f"{path}: no such file; expected a spectral library")
    try:
        return reader(path)
    except OSError as error:
        raise HsiError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read_envi(path: Path) -> LibrarySpectra:
    """Read an ENVI spectral library, by the path of its values or of its header."""
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
    dtype = np.dtype(envi.DATA_TYPES[code]).newbyteorder(">" if header.count("byte order", 0) else "<")
    offset = header.count("header offset", 0)
    if data.stat().st_size < offset + bands * lines * dtype.itemsize:
        raise HsiError(f"{data}: {data.stat().st_size} bytes for {lines} spectra of {bands} bands; the file is cut off")
    values = np.fromfile(data, dtype, bands * lines, offset=offset).reshape(lines, bands)
    factor = header.number("reflectance scale factor")
    scale = factor if factor is not None and factor != 1 else None  # ENVI writes 1 when it does not know
    if header.text("data units") == REFLECTANCE_UNITS:
        scale = 1.0
    names = header.texts("spectra names")
    if names is not None and len(names) != lines:  # some names hold commas, so the list cannot be split
        names = None
    return LibrarySpectra(
        str(path),
        values.astype(np.float64),
        header.numbers("wavelength", bands),
        names,
        header.text("wavelength units"),
        header.numbers("fwhm", bands),
        scale,
    )


def _read_netcdf(path: Path) -> LibrarySpectra:
    """Read NetCDF-4 as `write_library` and xarray write it: reflectance, wavelength and, if there, endmember."""
    import h5py

    if not h5py.is_hdf5(path):
        raise HsiError(f"{path}: is no NetCDF-4 file; expected reflectance (endmember, wavelength)")
    with h5py.File(path) as file:
        tables = [n for n, v in file.items() if isinstance(v, h5py.Dataset) and v.ndim == 2 and v.dtype.kind in "iuf"]
        name = schema.REFLECTANCE if schema.REFLECTANCE in tables else tables[0] if len(tables) == 1 else None
        if name is None or schema.WAVELENGTH not in file:
            raise HsiError(f"{path}: holds {', '.join(file) or 'nothing'}; expected reflectance and wavelength")
        values, wavelength = file[name][...].astype(np.float64), file[schema.WAVELENGTH][...]
        fwhm, x, y = (file[n][...] if n in file else None for n in (schema.FWHM, schema.X, schema.Y))
        named = schema.ENDMEMBER in file and file[schema.ENDMEMBER].dtype.kind in "OS"
        names = list(file[schema.ENDMEMBER].asstr()[...]) if named else None
        units = _text(file[schema.WAVELENGTH].attrs.get("units"))
        scale = 1.0 if _text(file[name].attrs.get("units")) == "1" else None
        return LibrarySpectra(str(path), values, wavelength, names, units, fwhm, scale, x, y)


def _text(value: str | bytes | None) -> str | None:
    """Return the text of an attribute of an HDF5 file, if there is one."""
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _read_npy(path: Path) -> LibrarySpectra:
    """Read an array (spectra, bands) of numbers, or one spectrum (bands,)."""
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise HsiError(f"{path}: is no NumPy array; expected numbers (spectra, bands)") from error
    if values.ndim not in (1, 2) or values.dtype.kind not in "iuf":
        raise HsiError(f"{path}: {values.dtype} {values.shape}; expected numbers (spectra, bands)")
    return LibrarySpectra(str(path), np.atleast_2d(values).astype(np.float64))


def _read_mat(path: Path) -> LibrarySpectra:
    """Read a MATLAB file with one table of spectra and, if there, a vector of wavelengths."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise HsiError(f"{path}: .mat files need SciPy; install it: pip install scipy") from None
    try:
        content = loadmat(path)
    except (ValueError, NotImplementedError, TypeError) as error:
        raise HsiError(f"{path}: cannot be read ({one_line(error)})") from error
    numbers = {n: v for n, v in content.items() if isinstance(v, np.ndarray) and v.ndim == 2 and v.dtype.kind in "iuf"}
    tables = {n: v for n, v in numbers.items() if min(v.shape) > 1}
    wave = next((v.ravel() for n, v in numbers.items() if WAVE.search(n) and min(v.shape) == 1), None)
    if len(tables) != 1:
        raise HsiError(f"{path}: holds {', '.join(tables) or 'no table'}; expected one of spectra: read it and pass it")
    return LibrarySpectra(str(path), next(iter(tables.values())).astype(np.float64), wave)


def _write_csv(em: xr.DataArray, path: Path) -> None:
    """Write endmembers as endmembers.csv of a run."""
    from hsichunk.endmembers.endmember_csv import write_endmembers

    names = [str(name) for name in em[schema.ENDMEMBER].values]
    x, y = (
        [float(v) for v in em[name].values] if name in em.coords else [float("nan")] * len(names)
        for name in (schema.X, schema.Y)
    )
    origins = list(zip(names, x, y, strict=True))
    write_endmembers(path, em[schema.WAVELENGTH].values.astype(np.float64), em.values, origins)


def _write_netcdf(em: xr.DataArray, path: Path) -> None:
    """Write NetCDF-4 by its rules for HDF5: dimensions are scales, attached to the datasets that they label."""
    from h5py import string_dtype

    with replacing_hdf5(path, track_order=True) as file:
        for name in (schema.ENDMEMBER, schema.WAVELENGTH):
            is_text = name == schema.ENDMEMBER
            values = [str(v) for v in em[name].values] if is_text else em[name].values.astype(np.float64)
            dtype = string_dtype() if is_text else np.float64
            file.create_dataset(name, data=values, dtype=dtype, track_order=True).make_scale(name)
        _attach(file, schema.REFLECTANCE, em.values, (schema.ENDMEMBER, schema.WAVELENGTH))
        others = [n for n in (schema.FWHM, schema.X, schema.Y) if n in em.coords]
        for name in others:
            dim = schema.WAVELENGTH if name == schema.FWHM else schema.ENDMEMBER
            _attach(file, name, em[name].values.astype(np.float64), (dim,))
        attrs_of = {schema.WAVELENGTH: schema.WAVELENGTH_ATTRS, schema.FWHM: schema.FWHM_ATTRS}
        attrs_of |= {schema.X: schema.X_ATTRS, schema.Y: schema.Y_ATTRS}
        for name in (schema.WAVELENGTH, *others):
            file[name].attrs.update({key: value for key, value in attrs_of[name].items() if key != "axis"})
        file[schema.REFLECTANCE].attrs.update(schema.PRODUCT_ATTRS[schema.REFLECTANCE])
        if others:
            file[schema.REFLECTANCE].attrs["coordinates"] = " ".join(others)
        file.attrs["Conventions"] = "CF-1.11"


def _attach(file: h5py.File, name: str, values: Floats, dims: tuple[str, ...]) -> None:
    """Write a dataset and attach the scales of its dimensions."""
    data = file.create_dataset(name, data=values, track_order=True)
    for axis, dim in enumerate(dims):
        data.dims[axis].attach_scale(file[dim])


def _write_envi(em: xr.DataArray, path: Path) -> None:
    """Write an ENVI spectral library: its values to `path`, its header beside them."""
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


def _listed(values: NDArray[np.generic]) -> str:
    """Return numbers with all their digits, separated by commas."""
    return ", ".join(repr(float(v)) for v in values)


READERS: dict[str, Callable[[Path], LibrarySpectra]] = {
    ".csv": read_csv,
    ".txt": read_csv,
    ".tsv": read_csv,
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
