"""`hsi.open_image`: open an image of any sensor as a labelled, lazy dataset; callers may state what it leaves out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk.readers import formats
from hsichunk.readers.labelled_cube import labelled


def open_image(
    path: str | os.PathLike[str],
    wavelength: Sequence[float] | NDArray[np.generic] | None = None,
    *,
    units: str | None = None,
    scale: float | None = None,
    no_data: float | None = None,
) -> xr.Dataset:
    """Open an image of any sensor: ENVI (by header or data file), GeoTIFF, any other that rasterio reads, EMIT.

    Returns a Dataset as open_tile does: `reflectance(y, x, wavelength)` as stored, lazy (dask, whole spectra), bands in
    the order of their wavelengths; attributes that name scale, no-data and bad bands (the header's `bbl`); `wavelength`
    and, if known, `fwhm` in nm; `y`, `x` pixel centres and `spatial_ref`, or row and column numbers for an image
    without georeferencing. `clean(image)` makes the cube: it drops the bad bands, and none at the end beside them.

    Wavelengths are `wavelength` (n,), or those of the ENVI header (beside a GeoTIFF, too), or of the tags or
    descriptions of the bands (Band_503, Band_510, ... are nm). Their unit is `units`, or the one that the file names,
    or micrometres where all are below 50. The scale, counts per unit reflectance, is `scale`, or the header's
    `reflectance scale factor` or its one `data gain values`, or the scale of the bands, or 1 for floats; 10000 for
    whole numbers, with an HsiWarning. `no_data` is the stored value that means no data. Raises HsiError for a file that
    is no image, bands without wavelengths, scales that differ and turned grids; and for EMIT, which states these
    values itself, where any of them is given.
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
