"""ENVI images and GeoTIFFs with what a run needs of a NEON file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hsichunk.errors import HsiError
from hsichunk.grid import Grid
from hsichunk.readers.formats import is_emit
from hsichunk.readers.image_chunks import check_counts, image_array
from hsichunk.readers.image_metadata import read_image
from hsichunk.readers.model import NeonFile

NOWHERE: Final = Grid(-0.5, -0.5, 1.0, -1.0, None, None)
"""rows and columns counted from 0, as open_image has them of an image that lies nowhere"""


def read(path: str | os.PathLike[str], *, floats: bool = False) -> NeonFile:
    """The metadata of the image at `path`, its pixels in chunks.

    Raises HsiError where open_image does, and for floats unless they are allowed.
    """
    if is_emit(path):
        raise HsiError(
            f"{path}: is an EMIT granule, which hsi.open_tile and hsi.unmix read in Python; here expected ENVI, "
            "GeoTIFF or NEON HDF5"
        )
    image = read_image(path)
    stored, edges = image_array(image), image.windows
    if not floats:
        check_counts(path, stored)
    return NeonFile(
        path=os.fspath(path),
        site=Path(path).stem,
        reflectance=stored,
        scale=image.scale,
        no_data=stored.no_data,
        windows=tuple(zip(edges[::2], edges[1::2], strict=True)),
        wavelength=image.wavelength,
        fwhm=image.fwhm,
        grid=image.grid or NOWHERE,
        layers=(),
        sun=(),
        attrs={},
        drop_last=0,
    )
