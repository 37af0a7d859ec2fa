"""Files of spectra: CSV, NetCDF, ENVI, NumPy and MATLAB, read as they are and written whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.atomic_files import replacing, replacing_hdf5
from hsichunk.endmembers.library_csv import WAVE, read_csv
from hsichunk.endmembers.library_spectra import LibrarySpectra
from hsichunk.errors import HsiError, one_line
from hsichunk.readers import envi

REFLECTANCE_UNITS = "reflectance"  # 'data units' of an ENVI library that we have written


def read_file(path: Path) -> LibrarySpectra:
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


def _read_envi(path: Path) -> LibrarySpectra:
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
        return LibrarySpectra(
            str(path), file[name][...].astype(np.float64), wave[...], units=units, scale=scale, **said
        )


def _words(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _read_npy(path: Path) -> LibrarySpectra:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise HsiError(f"{path}: is no NumPy array; expected numbers (spectra, bands)") from error
    if values.ndim not in (1, 2) or values.dtype.kind not in "iuf":
        raise HsiError(f"{path}: {values.dtype} {values.shape}; expected numbers (spectra, bands)")
    return LibrarySpectra(str(path), np.atleast_2d(values).astype(np.float64))


def _read_mat(path: Path) -> LibrarySpectra:
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
