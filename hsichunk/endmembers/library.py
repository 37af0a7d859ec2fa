"""Read spectral libraries, files or arrays, as endmembers; write endmembers as files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.endmembers.library_spectra import LibrarySpectra
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.readers import envi
from hsichunk.readers.wavelengths import bands_at

MOST = 2.0  # the highest reflectance of a library; larger values are percent or counts
DELETED = -9999.0  # marks a channel without a value; USGS writes -1.23e34


def read_library(
    source: str | os.PathLike[str] | xr.DataArray | ArrayLike,
    wavelength: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    *,
    units: str | None = None,
    scale: float | None = None,
) -> xr.DataArray:
    """Read the spectra of a file or an array as endmembers.

    Returns reflectance (endmember, wavelength) float64, wavelength in nm.

    Files are read by suffix: `.csv`, `.txt`, `.tsv` (endmembers.csv of a run; a column of wavelengths and a column for
    each spectrum; a row of wavelengths and a row for each spectrum), `.nc`, ENVI `.sli`, `.lib` or `.hdr`, `.npy`,
    `.mat` (needs SciPy). Arrays are (spectra, bands). `wavelength` and `names` replace those of the source, or stand in
    where it has none.

    `units` of wavelength are "nm" or "um"; without them those that the file names, else micrometres where all are below
    50. Values are divided by `scale`; without it by the factor of the file. Where the file names none, or 1, values up
    to 2 are reflectance, up to 200 percent and up to 32767 counts of 10000, the last two with an HsiWarning. Bands are
    sorted by wavelength; deleted channels (-9999, below -1e30) become NaN; names that repeat are numbered, with an
    HsiWarning. Raises HsiError for a source that cannot be read so.
    """
    if isinstance(source, (str, os.PathLike)):
        from hsichunk.endmembers.library_files import read_file

        spectra = read_file(Path(source))
    else:
        spectra = _of_array(source)
    if wavelength is not None:
        spectra.wavelength, spectra.units, spectra.fwhm = np.asarray(wavelength, np.float64).ravel(), units, None
    if names is not None:
        spectra.names = list(names)
    return _labelled(spectra, units or spectra.units, scale)


def endmembers_for(
    source: str | os.PathLike[str] | xr.DataArray,
    wavelength: ArrayLike,
    fwhm: ArrayLike | None = None,
) -> xr.DataArray:
    """Return the endmembers of a library on the bands of a sensor: (endmember, wavelength) float64, finite.

    `wavelength` (L,) in nm becomes that of the result. Where the library has all of the bands (within 0.001 nm), their
    values are taken as they are; else all bands are resampled with `fwhm` (nm) of the sensor, see `resample`. Raises
    HsiError where the library does not reach a band or has no value there.
    """
    from hsichunk.endmembers.resampling import resample

    em = read_library(source)
    nm = np.asarray(wavelength, np.float64)
    own = em[schema.WAVELENGTH].values
    if (bands := bands_at(nm, own)) is not None:
        em = em.isel({schema.WAVELENGTH: bands}).drop_vars(schema.FWHM, errors="ignore")
        em = em.assign_coords({schema.WAVELENGTH: (schema.WAVELENGTH, nm, schema.WAVELENGTH_ATTRS)})
    else:
        em = resample(em, nm, fwhm)
    bad = ~np.isfinite(em.values)
    if bad.any():
        name, band = (int(v[0]) for v in np.nonzero(bad))
        where = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "the library"
        raise HsiError(
            f"{where}: {em.endmember.values[name]} has no value at {nm[band]:g} nm; drop that spectrum or those bands"
        )
    return em


def write_library(em: xr.DataArray, path: str | os.PathLike[str]) -> Path:
    """Write endmembers to a file by its suffix: `.csv` (as endmembers.csv of a run), `.nc` (NetCDF-4) or `.sli` (ENVI).

    Numbers are written in full: `read_library` returns the same bits. ENVI files have no x and y, and their names have
    no commas or braces, which become blanks. An existing file is replaced. Returns the path. Raises HsiError for
    another suffix, for what is no DataArray (endmember, wavelength), and where the file cannot be written.
    """
    from hsichunk.endmembers import library_files

    path = Path(path)
    writer = library_files.WRITERS.get(path.suffix.lower())
    if writer is None:
        raise HsiError(f"{path}: suffix {path.suffix or '(none)'}; expected {', '.join(library_files.WRITERS)}")
    if not isinstance(em, xr.DataArray) or set(em.dims) != {schema.ENDMEMBER, schema.WAVELENGTH}:
        found = em.dims if isinstance(em, xr.DataArray) else type(em).__name__
        raise HsiError(f"endmembers have {found}; expected a DataArray (endmember, wavelength), as nfindr gives it")
    em = em.transpose(schema.ENDMEMBER, schema.WAVELENGTH).astype(np.float64)
    if schema.ENDMEMBER not in em.coords:
        em = em.assign_coords({schema.ENDMEMBER: [f"EM{i + 1}" for i in range(len(em))]})
    writer(em, path)
    return path


def _of_array(source: xr.DataArray | ArrayLike) -> LibrarySpectra:
    """Return the spectra of a DataArray (endmember, wavelength), or of an array (spectra, bands)."""
    name = "the array"
    if isinstance(source, xr.DataArray):
        if set(source.dims) != {schema.ENDMEMBER, schema.WAVELENGTH} or schema.WAVELENGTH not in source.coords:
            raise HsiError(f"library has dimensions {source.dims}; expected (endmember, wavelength) with wavelengths")
        em = source.transpose(schema.ENDMEMBER, schema.WAVELENGTH)
        fwhm, x, y = (em[c].values if c in em.coords else None for c in (schema.FWHM, schema.X, schema.Y))
        names = [str(n) for n in em[schema.ENDMEMBER].values] if schema.ENDMEMBER in em.coords else None
        scale = 1.0 if em.attrs.get("units") == "1" else None
        nm, units = em[schema.WAVELENGTH].values, em[schema.WAVELENGTH].attrs.get("units")
        return LibrarySpectra(name, em.values.astype(np.float64), nm, names, units, fwhm, scale, x, y)
    try:
        values = np.atleast_2d(np.array(source, np.float64))
    except (TypeError, ValueError):
        raise HsiError(f"library is {type(source).__name__}; expected a file or numbers (spectra, bands)") from None
    return LibrarySpectra(name, values)


def _labelled(spectra: LibrarySpectra, units: str | None, scale: float | None) -> xr.DataArray:
    """Return the spectra of a library as endmembers: decide units, scale, order and names, and label them."""
    source, values = spectra.source, np.array(spectra.values, np.float64)
    if spectra.wavelength is None:
        raise HsiError(f"{source}: names no wavelengths; give them: read_library(..., wavelength=...)")
    nm, factor = envi.wavelengths_nm(np.asarray(spectra.wavelength, np.float64), units, source)
    if values.ndim == 2 and values.shape[1] != len(nm) == values.shape[0]:
        values = values.T
    if values.ndim != 2 or not values.size or values.shape[1] != len(nm):
        raise HsiError(f"{source}: values of shape {values.shape} for {len(nm)} wavelengths; expected (spectra, bands)")
    order = np.argsort(nm, kind="stable")
    nm, values = nm[order], values[:, order]
    if (np.diff(nm) == 0).any():
        raise HsiError(f"{source}: two bands at {nm[:-1][np.diff(nm) == 0][0]:g} nm; keep one of them")
    values[(values == DELETED) | (values < -1e30)] = np.nan
    values /= _scale(values, spectra.scale, scale, source)
    coords: dict[str, Any] = {
        schema.ENDMEMBER: _names(spectra.names, len(values), source),
        schema.WAVELENGTH: (schema.WAVELENGTH, nm, schema.WAVELENGTH_ATTRS),
    }
    if spectra.fwhm is not None:
        coords[schema.FWHM] = (schema.WAVELENGTH, np.asarray(spectra.fwhm)[order] * factor, schema.FWHM_ATTRS)
    for name, position, attrs in ((schema.X, spectra.x, schema.X_ATTRS), (schema.Y, spectra.y, schema.Y_ATTRS)):
        if position is not None and np.isfinite(position).any():
            coords[name] = (schema.ENDMEMBER, np.asarray(position, np.float64), attrs)
    dims = (schema.ENDMEMBER, schema.WAVELENGTH)
    return xr.DataArray(values, coords, dims, schema.REFLECTANCE, schema.PRODUCT_ATTRS[schema.REFLECTANCE])


def _names(names: Sequence[str] | None, count: int, source: str) -> list[str]:
    """Return the names of `count` spectra, each once; EM1, EM2, ... where the source has none."""
    if names is None:
        return [f"EM{i + 1}" for i in range(count)]
    cleaned = [" ".join(str(name).split()) or f"EM{i + 1}" for i, name in enumerate(names)]
    if len(cleaned) != count:
        raise HsiError(f"{source}: {len(cleaned)} names for {count} spectra; expected one each")
    if len(set(cleaned)) < count:
        again = next(name for i, name in enumerate(cleaned) if name in cleaned[:i])
        warnings.warn(f"{source}: the name {again} repeats; repeated names are numbered", HsiWarning, stacklevel=4)
    return numbered(cleaned)


def numbered(names: Sequence[str]) -> list[str]:
    """Return names of which none repeats: the second Grass becomes Grass_2."""
    out: list[str] = []
    for name in names:
        unique, number = name, 2
        while unique in out:
            unique, number = f"{name}_{number}", number + 1
        out.append(unique)
    return out


def _scale(values: Floats, of_file: float | None, asked: float | None, source: str) -> float:
    """Return the divisor that makes values reflectance, as `read_library` documents it."""
    scale = of_file if asked is None else float(asked)
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise HsiError(f"{source}: scale is {scale:g}; expected what reflectance 1 is stored as, as 100 or 10000")
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if not np.isfinite(values).any():
        raise HsiError(f"{source}: holds no finite value; expected reflectance")
    if scale is None:
        for most, guess, name in ((MOST, 1.0, ""), (200.0, 100.0, "percent"), (32767.0, 10000.0, "counts of 10000")):
            if largest <= most:
                if name:
                    warnings.warn(
                        f"{source}: values reach {largest:g} and are taken for {name}; scale= says otherwise",
                        HsiWarning,
                        stacklevel=4,
                    )
                return guess
    if scale is None or (asked is None and largest / scale > 32.767):
        raise HsiError(f"{source}: values reach {largest:g}; expected reflectance, percent or counts: give scale=")
    return scale
