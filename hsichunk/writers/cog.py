"""An image as cloud-optimised GeoTIFF from blocks in any order, in bounded memory, whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hsichunk.atomic_files import staging, sync_one
from hsichunk.classification.palette import class_colors
from hsichunk.memory import GDAL_CACHE
from hsichunk.writers.band_statistics import BandStatistics, ClassCounts
from hsichunk.writers.class_table import class_table

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetWriter

_TILE_BYTES: Final = 16 * 2**20  # of all bands of one tile, which GDAL interleaves by pixel


@dataclass(frozen=True)
class MapImage:
    """What a GeoTIFF says of its pixels (band, row, column), from north to south; they themselves come in blocks."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    bands: tuple[str, ...]
    """their names"""
    no_data: float | None
    transform: Affine | None = None
    crs: CRS | None = None
    units: str | None = None
    long_name: str | None = None
    wavelengths: tuple[float, ...] = ()
    """nm, of bands that are those of a spectrum"""
    classes: tuple[str, ...] = ()
    """names of the values 0..k of a class map"""
    flags: bool = False
    """whether values are names, of which no mean can be taken"""

    @property
    def side(self) -> int:
        """Pixels along the side of the squares that the GeoTIFF is stored in."""
        pixel = self.shape[0] * self.dtype.itemsize
        return 256 if 256 * 256 * pixel <= _TILE_BYTES else 128  # 512: twice the memory, and slower on large images

    @property
    def tiled_bytes(self) -> int:
        """Bytes of all squares without compression."""
        bands, height, width = self.shape
        return bands * -(-height // self.side) * -(-width // self.side) * self.side**2 * self.dtype.itemsize


def write_image(image: MapImage, fill: Callable[[Blocks], None], path: Path) -> None:
    """Write the pixels that `fill` assigns to blocks; the file gets its name when it is complete and synced.

    Raises HsiError where it cannot be written.
    """
    with staging(path) as folder, gdal():
        cog = folder / path.name
        source = cog.with_name(f"{path.name}.source")
        seen: BandStatistics | ClassCounts | None = None
        if image.classes:
            seen = ClassCounts()
        elif image.dtype.kind in "iuf":
            seen = BandStatistics(image.shape[0], image.no_data)
        _write_source(image, fill, source, seen)
        _copy_to_cog(image, source, cog)
        if isinstance(seen, ClassCounts):
            _aux(cog).write_text(class_table(image.classes, seen.counts), encoding="utf-8")
        _publish(cog, path)


@contextmanager
def gdal() -> Iterator[None]:
    """GDAL with a small cache, whose errors are those of writing."""
    import rasterio
    from rasterio._err import CPLE_BaseError

    with rasterio.Env(), _SMALL_CACHE:
        try:
            yield
        except CPLE_BaseError as error:
            raise OSError(errno.EIO, str(error)) from error


class _SmallCache:
    """GDAL's cache is one for the process: small from the first file that is being written to the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        import rasterio
        from rasterio.env import get_gdal_config, set_gdal_config

        with self._lock:
            if not self._users:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # as asked for
                self._undo.callback(set_gdal_config, "GDAL_CACHEMAX", get_gdal_config("GDAL_CACHEMAX"))
                set_gdal_config("GDAL_CACHEMAX", GDAL_CACHE)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._undo.close()


_SMALL_CACHE: Final = _SmallCache()


def _write_source(
    image: MapImage, fill: Callable[[Blocks], None], source: Path, seen: BandStatistics | ClassCounts | None
) -> None:
    """Write the blocks to a tiled GeoTIFF without compression, in any order, and their statistics."""
    import rasterio

    bands, height, width = image.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": image.dtype.name}
    profile |= {"nodata": image.no_data, "crs": image.crs, "bigtiff": "IF_SAFER"}
    profile |= {"tiled": True, "blockxsize": image.side, "blockysize": image.side, "interleave": "band"}
    if image.transform is not None:
        profile["transform"] = image.transform
    with rasterio.open(source, "w", **profile) as raster:
        _describe(raster, image)
        fill(Blocks(raster, seen))
        if isinstance(seen, BandStatistics):
            for band in range(bands):
                raster.update_tags(band + 1, **seen.tags(band))
    if source.stat().st_size < image.tiled_bytes:
        # GDAL writes the last blocks on closing, where rasterio does not hear of errors
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _describe(raster: DatasetWriter, image: MapImage) -> None:
    """Names, units and colours, before the pixels."""
    raster.descriptions = image.bands
    if image.units is not None:
        raster.units = (image.units,) * raster.count
    if image.long_name is not None:
        raster.update_tags(long_name=image.long_name)
    for band, nanometres in enumerate(image.wavelengths, 1):
        raster.update_tags(band, wavelength=nanometres, wavelength_units="nm")
        raster.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=nanometres / 1000)
    if image.classes:
        colors = class_colors(len(image.classes) - 1).tolist()
        raster.write_colormap(1, {value: (*color, 255) for value, color in enumerate(colors)})


class Blocks:
    """An open raster as a thing to assign blocks to, which is what dask stores into: many threads at a time."""

    def __init__(self, raster: DatasetWriter, seen: BandStatistics | ClassCounts | None) -> None:
        self._raster, self._seen = raster, seen
        self._lock = threading.Lock()

    def __setitem__(self, region: tuple[slice, slice, slice], block: npt.NDArray[Any]) -> None:
        from rasterio.windows import Window

        bands, rows, cols = region
        indexes = list(range(bands.start + 1, bands.stop + 1))
        with self._lock:
            self._raster.write(block, indexes=indexes, window=Window.from_slices(rows, cols))
        if self._seen is not None:
            self._seen.add(bands.start, block)


def _copy_to_cog(image: MapImage, source: Path, cog: Path) -> None:
    from rasterio.shutil import copy

    resampling = "AVERAGE" if image.dtype.kind == "f" else "MODE" if image.flags else "NEAREST"
    copy(
        source,
        cog,
        driver="COG",
        # measured on abundances: a predictor costs a third more time and makes them larger, higher levels gain 2 %
        COMPRESS="DEFLATE",
        LEVEL=1,
        PREDICTOR="NO",
        BLOCKSIZE=image.side,
        OVERVIEW_RESAMPLING=resampling,
        BIGTIFF="IF_SAFER",
        # with more threads GDAL 3.10 leaves a truncated file, and no error, when the disk is full
        NUM_THREADS=1,
    )


def _aux(raster: Path) -> Path:
    return raster.with_name(f"{raster.name}.aux.xml")


def _publish(cog: Path, path: Path) -> None:
    """Move the finished file to its name, its names before it; what GIS left beside an older file goes."""
    sync_one(cog)
    if _aux(cog).exists():
        sync_one(_aux(cog))
        os.replace(_aux(cog), _aux(path))
    else:
        _aux(path).unlink(missing_ok=True)
    path.with_name(f"{path.name}.ovr").unlink(missing_ok=True)
    os.replace(cog, path)
    sync_one(path.parent)
