"""`hsi.open_tile`: open a file of any format as a labelled, lazy dataset."""

from __future__ import annotations

import os

import xarray as xr

from hsichunk.chunks.remote import is_url
from hsichunk.readers import formats
from hsichunk.readers.labelled_cube import labelled


def open_tile(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a tile of any format: NEON AOP, ENVI, GeoTIFF, EMIT; reads no pixels.

    Returns a Dataset: `reflectance(y, x, wavelength)` as stored (int16 counts of NEON), whose attributes name scale,
    no-data and bad-band windows; `wavelength` and `fwhm` in nm; `y`, `x` pixel centres in metres; `spatial_ref`; and
    every ancillary layer of the file as a lazy variable. Raises HsiError, in one line, where no reader can open the
    file; warns (HsiWarning) where a stated default replaces what the file leaves out.
    Source: NEON DP3.30006.001/.002, DP1.30006.001/.002.
    """
    if isinstance(path, (str, os.PathLike)) and not is_url(name := os.fspath(path)):
        path = os.path.abspath(os.path.expanduser(name))  # a lazy dataset may be read from another working folder
    return labelled(formats.read(path, floats=True, swaths=True))
