"""Small ENVI images and GeoTIFFs for tests, of any counts in any layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EMIT = "emit20250324t221005_jpl_unmix_ex"
"""the data file of the shared EMIT scene; its header beside it"""
CRS, LEFT, TOP = "EPSG:32618", 368000.0, 4307000.0
AXES = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}
CODES = {"u1": 1, "i2": 2, "i4": 3, "f4": 4, "f8": 5, "u2": 12, "u4": 13, "i8": 14}


def write_envi(
    path: Path,
    values: Any,
    interleave: str = "bsq",
    lines: str = "",
    *,
    nm: Any,
    fwhm: float | None = None,
    order: int = 0,
    offset: int = 0,
) -> Path:
    """Values (y, x, band) at wavelengths `nm`, of which there may be more; `lines` end the header."""
    stored = values.transpose(AXES[interleave]).astype(values.dtype.newbyteorder(">" if order else "<"))
    path.write_bytes(bytes(offset) + stored.tobytes())
    rows, cols, bands = values.shape
    widths = "" if fwhm is None else f"fwhm = {{{', '.join([repr(fwhm)] * bands)}}}\n"
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {cols}\nlines = {rows}\nbands = {bands}\nheader offset = {offset}\n"
        f"data type = {CODES[values.dtype.str[1:]]}\ninterleave = {interleave}\nbyte order = {order}\n"
        f"wavelength units = Nanometers\nwavelength = {{{', '.join(map(repr, nm[:bands].tolist()))}}}\n"
        f"{widths}{lines}"
    )
    return path


def write_tiff(path: Path, values: Any, then: Callable[[Any], None] | None = None, **profile: Any) -> Path:
    """Values (y, x, band) in pixels of 1 m; `then` changes the file, `profile` how it is stored."""
    rasterio = pytest.importorskip("rasterio")
    rows, cols, bands = values.shape
    given = {"driver": "GTiff", "height": rows, "width": cols, "count": bands, "dtype": values.dtype, "nodata": -9999}
    given |= {"crs": CRS, "transform": rasterio.Affine(1.0, 0.0, LEFT, 0.0, -1.0, TOP)}
    with rasterio.open(path, "w", **(given | profile)) as file:
        file.write(np.moveaxis(values, -1, 0))
        if then is not None:
            then(file)
    return path


def tag(file: Any, nm: Any) -> None:
    """Wavelengths and widths as tags of an open GeoTIFF's bands."""
    for band, value in enumerate(nm, start=1):
        file.update_tags(band, wavelength=repr(float(value)), wavelength_units="Nanometers", fwhm="5.5")
