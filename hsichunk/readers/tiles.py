"""`hsi.open_tile`: any file as a labelled, lazy dataset."""

from __future__ import annotations

import os

import xarray as xr

from hsichunk.readers.backend import NeonBackendEntrypoint


def open_tile(path: str | os.PathLike[str]) -> xr.Dataset:
    """Opens a NEON reflectance tile or flight line, or an image (ENVI, GeoTIFF: `open_image`); reads no pixels.

    Returns a Dataset: `reflectance(y, x, wavelength)` in counts as stored (int16), its attributes naming scale, no-data
    and bad-band windows; `wavelength` and `fwhm` in nm; `y`, `x` pixel centres in metres; `spatial_ref`; and every
    ancillary layer of the file as a lazy variable. Raises HsiError where the file is no NEON reflectance file of
    generation .001 or .002; warns (HsiWarning) where a NEON default stands in for what the file leaves out.
    Source: NEON DP3.30006.001/.002, DP1.30006.001/.002.
    """
    if isinstance(path, (str, os.PathLike)):
        from hsichunk.readers.formats import is_image
        from hsichunk.readers.images import open_image

        if is_image(path):
            return open_image(path)
    return xr.open_dataset(path, engine=NeonBackendEntrypoint, cache=False)  # a cache would come to hold the whole cube
