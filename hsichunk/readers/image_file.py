"""The reader of ENVI images, GeoTIFFs and what else GDAL reads."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.readers.image_chunks import image_array
from hsichunk.readers.image_metadata import opened, read_image
from hsichunk.readers.model import AsStored, Bands, ReadOptions, TileFile, bad_windows

BLOCK_BYTES = 32 << 20  # of stored values in one dask block


def read(path: str, options: ReadOptions) -> TileFile:
    """What the image at `path` says. Raises HsiError as `open_image` does."""
    image = read_image(path, options)
    bands, order = image.bands, image.bands.order
    wavelength = bands.wavelength[order]
    stored = image_array(image)
    no_data = image.no_data
    if no_data is not None and no_data.is_integer():
        no_data = int(no_data)
    high, wide = image.block
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
            chunks=f"{high} x {wide}, {image.interleave} interleaved, {image.dtype.name}",
        ),
    )


@dataclass(frozen=True)
class Pixels:
    """The values (y, x, band) of a file that rasterio opens, as the file has them; bands by wavelength.

    The chunks of an image show the pass NaN as no-data and bytes as int16; the labelled cube shows what is stored.
    Windows are read as they are asked for, since a block of dask needs no whole chunks.
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    order: NDArray[np.intp]
    stamp: tuple[int, int]
    """size and time of the last change: another content is another array"""

    def read(self, *selection: NDArray[np.intp], threads: int | None = None) -> NDArray[Any]:
        """The values at the outer product of positions; one read, whatever `threads`."""
        from rasterio.windows import Window

        rows, cols, bands = selection
        if not (len(rows) and len(cols) and len(bands)):
            return np.empty((len(rows), len(cols), len(bands)), self.dtype)
        top, left = int(rows.min()), int(cols.min())
        window = Window(left, top, int(cols.max()) - left + 1, int(rows.max()) - top + 1)
        with opened(self.path) as file:
            stored = file.read((self.order[bands] + 1).tolist(), window=window)
        values: NDArray[Any] = np.moveaxis(stored, 0, -1)[rows - top][:, cols - left]
        return values

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.path, self.shape, str(self.dtype), self.order.tobytes(), self.stamp)


def _blocks(shape: tuple[int, int, int], size: int, block: tuple[int, int]) -> tuple[int, int, int]:
    """Rows and columns of a dask block of whole spectra: whole blocks of the file, about square if they are tiles."""
    rows, cols, bands = shape
    most = max(1, BLOCK_BYTES // (bands * size))
    high, wide = min(block[0], rows), min(block[1], cols)
    side = math.isqrt(most)
    across = cols if wide == cols and most >= cols else min(cols, max(wide, side // wide * wide))
    down = min(rows, max(high, most // across // high * high))
    return max(1, down), across, bands
