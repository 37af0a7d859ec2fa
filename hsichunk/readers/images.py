"""Images of other sensors, ENVI and GeoTIFF, as the labelled, lazy datasets that tiles are."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.memory import BLOCK_BYTES
from hsichunk.readers import provenance
from hsichunk.readers.emit import open_emit
from hsichunk.readers.image_metadata import Image, opened, read_image
from hsichunk.readers.labels import with_grid


@dataclass(frozen=True)
class Pixels:
    """Stored values (y, x, band) of a file that rasterio opens; read where they are asked for."""

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    order: NDArray[np.intp]
    stamp: tuple[int, int]
    """size and time of the last change: another content is another array"""

    ndim = 3

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[Any]:
        from rasterio.windows import Window

        rows, cols, bands = (np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True))
        if not (len(rows) and len(cols) and len(bands)):
            values = np.empty((len(rows), len(cols), len(bands)), self.dtype)
        else:
            top, left = int(rows.min()), int(cols.min())
            window = Window(left, top, int(cols.max()) - left + 1, int(rows.max()) - top + 1)
            with opened(self.path) as file:
                stored = file.read((self.order[bands] + 1).tolist(), window=window)
            values = np.moveaxis(stored, 0, -1)[rows - top][:, cols - left]
        return values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.path, self.shape, str(self.dtype), self.order.tobytes(), self.stamp)


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
    for what is no image, bands without wavelengths, scales that differ and turned grids.
    """
    if Path(path).suffix.lower() == ".nc" and Path(path).is_file():
        granule = open_emit(path)
        granule[schema.REFLECTANCE].attrs[schema.DROP_LAST] = 0
        return granule
    image = read_image(path, wavelength, units=units, scale=scale, no_data=no_data)
    attrs = {"long_name": "reflectance as stored", "units": "counts", schema.DROP_LAST: 0, schema.SCALE: image.scale}
    if image.no_data is not None:
        attrs[schema.NO_DATA] = int(image.no_data) if image.no_data.is_integer() else image.no_data
    attrs[schema.WINDOWS] = image.windows
    return _dataset(image, attrs, Path(path).name)


def _dataset(image: Image, attrs: dict[str, Any], name: str) -> xr.Dataset:
    import dask.array as da

    pixels = Pixels(os.path.abspath(image.path), image.shape, image.dtype, image.bands.order, image.stamp)
    blocks = _blocks(image.shape, image.dtype.itemsize, image.block)
    rows, cols, _ = image.shape
    grid = image.grid
    values = da.from_array(pixels, chunks=blocks, asarray=False, lock=False, meta=np.empty((0, 0, 0), pixels.dtype))  # type: ignore[no-untyped-call]
    coords: dict[str, Any] = {
        schema.Y: (schema.Y, np.arange(rows) if grid is None else grid.y(rows), {} if grid is None else schema.Y_ATTRS),
        schema.X: (schema.X, np.arange(cols) if grid is None else grid.x(cols), {} if grid is None else schema.X_ATTRS),
        schema.WAVELENGTH: (schema.WAVELENGTH, image.wavelength, schema.WAVELENGTH_ATTRS),
    }
    if image.fwhm is not None:
        coords[schema.FWHM] = (schema.WAVELENGTH, image.fwhm, schema.FWHM_ATTRS)
    dims = (schema.Y, schema.X, schema.WAVELENGTH)
    dataset = xr.Dataset({schema.REFLECTANCE: (dims, values, attrs)}, coords, {"title": f"reflectance, {name}"})
    dataset[schema.REFLECTANCE].encoding["source"] = pixels.path
    dataset = dataset if grid is None else with_grid(dataset, grid)
    return dataset.assign_attrs(_said(image, dataset))


def _said(image: Image, dataset: xr.Dataset) -> dict[str, str]:
    """What the image is, in words."""
    rows, cols, _ = image.shape
    sensor = image.header.text("sensor type") if image.header else None
    crs = dataset.coords[schema.GRID_MAPPING].attrs if schema.GRID_MAPPING in dataset.coords else {}
    edges, (high, wide) = image.windows, image.block
    return {
        **({provenance.SENSOR: sensor} if sensor else {}),
        **provenance.crs_words(crs),
        provenance.GRID: f"{rows} x {cols}" if image.grid is None else provenance.grid_words(rows, cols, image.grid),
        provenance.BANDS: provenance.band_words(image.wavelength, list(zip(edges[::2], edges[1::2], strict=True))),
        provenance.CHUNKS: f"{high} x {wide}, {image.interleave} interleaved, {image.dtype.name}",
    }


def _blocks(shape: tuple[int, int, int], size: int, block: tuple[int, int]) -> tuple[int, int, int]:
    """Rows and columns of a dask block of whole spectra: whole blocks of the file, about square if they are tiles."""
    rows, cols, bands = shape
    most = max(1, BLOCK_BYTES // (bands * size))
    high, wide = min(block[0], rows), min(block[1], cols)
    side = math.isqrt(most)
    across = cols if wide == cols and most >= cols else min(cols, max(wide, side // wide * wide))
    down = min(rows, max(high, most // across // high * high))
    return max(1, down), across, bands
