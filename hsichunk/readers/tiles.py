"""`hsi.open_tile`: any file as a labelled, lazy dataset."""

from __future__ import annotations

import os

import xarray as xr

from hsichunk.chunks.remote import is_url
from hsichunk.readers import formats
from hsichunk.readers.labels import labelled


def open_tile(path: str | os.PathLike[str]) -> xr.Dataset:
    """Opens a NEON reflectance tile or flight line, or an image (ENVI, GeoTIFF: `open_image`); reads no pixels.

    Returns a Dataset: `reflectance(y, x, wavelength)` in counts as stored (int16), its attributes naming scale, no-data
    and bad-band windows; `wavelength` and `fwhm` in nm; `y`, `x` pixel centres in metres; `spatial_ref`; and every
    ancillary layer of the file as a lazy variable. Raises HsiError where the file is no NEON reflectance file of
    generation .001 or .002; warns (HsiWarning) where a NEON default stands in for what the file leaves out.
    Source: NEON DP3.30006.001/.002, DP1.30006.001/.002.
    """
    if isinstance(path, (str, os.PathLike)) and not is_url(name := os.fspath(path)):
        path = os.path.abspath(os.path.expanduser(name))  # a lazy dataset is read from wherever the process is then
    return labelled(formats.read(path, floats=True, swaths=True))
