"""`hsi.open_image`: an image of any sensor as a labelled, lazy dataset, with the user's word on what it leaves out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import xarray as xr
from numpy.typing import NDArray

from hsichunk.readers import formats
from hsichunk.readers.labelled_cube import labelled


def open_image(
    path: str | os.PathLike[str],
    wavelength: Sequence[float] | NDArray[Any] | None = None,
    *,
    units: str | None = None,
    scale: float | None = None,
    no_data: float | None = None,
) -> xr.Dataset:
    """Opens an image of any sensor: ENVI, by its header or its data file, GeoTIFF, what else rasterio reads, EMIT.

    Returns a Dataset as open_tile does: `reflectance(y, x, wavelength)` as stored, lazy (dask, whole spectra), bands in
    the order of their wavelengths; attributes that name scale, no-data and bad bands (the header's `bbl`); `wavelength`
    and, if known, `fwhm` in nm; `y`, `x` pixel centres and `spatial_ref`, or rows and columns counted where the file
    lies nowhere. `clean(image)` makes the cube: no band at the end is dropped beside the bad ones.

    Wavelengths are those given, or of the ENVI header (beside a GeoTIFF, too), or of the tags or descriptions of the
    bands (Band_503, Band_510, ... are nm); in `units`, in those that are named, or in micrometres when all are below
    50. What reflectance 1 is stored as is `scale`, or the header's `reflectance scale factor` or its one `data gain
    values`, or the scale of the bands, or 1 for floats; 10000 for whole numbers, with an HsiWarning. Raises HsiError
    for what is no image, bands without wavelengths, scales that differ and turned grids; and for EMIT, which says them
    itself, where any of them is given.
    """
    return labelled(
        formats.read(
            path,
            floats=True,
            swaths=True,
            image=True,
            wavelength=wavelength,
            units=units,
            scale=scale,
            no_data=no_data,
        )
    )
