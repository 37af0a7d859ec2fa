"""The reader of ENVI images, GeoTIFFs and all other images that GDAL reads."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Positions
from hsichunk.readers.image_chunks import image_array
from hsichunk.readers.image_metadata import opened, read_image
from hsichunk.readers.model import AsStored, Bands, ReadOptions, TileFile, bad_windows

BLOCK_BYTES = 32 << 20  # of stored values in one dask block


def read(path: str, options: ReadOptions) -> TileFile:
    """Return what the image at `path` says; reads no pixels. Raises HsiError as `open_image` does."""
    image = read_image(path, options)
    bands, order = image.bands, image.bands.order
    wavelength = bands.wavelength[order]
    stored = image_array(image)
    no_data = image.no_data
    if no_data is not None and no_data.is_integer():
        no_data = int(no_data)
    height, width = image.block
    return TileFile(
        path=path,
        kind="reflectance",
        site=Path(path).stem,
        title=f"reflectance, {Path(path).name}",
        sensor=image.header.text("sensor type") if image.header else None,
        reflectance=stored,
        bands=Bands(
            wavelength,
            None if bands.fwhm is None else bands.fwhm[order],
            bad_windows(wavelength, bands.good[order]),
        ),
        scale=image.scale,
        no_data=stored.no_data,
        place=image.grid,
        provenance=image.provenance,
        as_stored=AsStored(
            Pixels(os.path.abspath(image.path), image.shape, image.dtype, order, image.stamp),
            _blocks(image.shape, image.dtype.itemsize, image.block),
            no_data,
            chunks=f"{height} x {width}, {image.interleave} interleaved, {image.dtype.name}",
        ),
    )


@dataclass(frozen=True)
class Pixels:
    """The values (y, x, band) of an image as they are stored, bands by wavelength, for the labelled cube.

    ImageArray, which the pass reads, differs: it has the no-data value for NaN, and int16 for bytes. This class reads
    the window of a selection rather than chunks, because a block of dask needs no whole chunks.
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    order: Positions
    """positions of the bands in the file, by ascending wavelength"""
    stamp: tuple[int, int]
    """size and time of the last change, so that dask's name of the array changes with its content"""

    def read(self, *selection: Positions, threads: int | None = None) -> NDArray[np.generic]:
        """Read the values at the outer product of positions; `threads` changes nothing."""
        from rasterio.windows import Window

        rows, cols, bands = selection
        if not (len(rows) and len(cols) and len(bands)):
            return np.empty((len(rows), len(cols), len(bands)), self.dtype)
        top, left = int(rows.min()), int(cols.min())
        window = Window(left, top, int(cols.max()) - left + 1, int(rows.max()) - top + 1)
        with opened(self.path) as file:
            stored = file.read((self.order[bands] + 1).tolist(), window=window)
        values: NDArray[np.generic] = np.moveaxis(stored, 0, -1)[rows - top][:, cols - left]
        return values

    def __dask_tokenize__(self) -> tuple[Hashable, ...]:
        return (self.path, self.shape, str(self.dtype), self.order.tobytes(), self.stamp)


def _blocks(shape: tuple[int, int, int], itemsize: int, block: tuple[int, int]) -> tuple[int, int, int]:
    """Return the shape of a dask block: whole spectra of whole blocks of the file, up to BLOCK_BYTES.

    It is about square where blocks of the file are tiles, and of whole lines where those are and a line fits.
    """
    rows, cols, bands = shape
    most = max(1, BLOCK_BYTES // (bands * itemsize))
    height, width = min(block[0], rows), min(block[1], cols)
    side = math.isqrt(most)
    across = cols if width == cols and most >= cols else min(cols, max(width, side // width * width))
    down = min(rows, max(height, most // across // height * height))
    return max(1, down), across, bands
