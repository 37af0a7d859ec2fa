"""Write an image as cloud-optimised GeoTIFF from blocks in any order, in bounded memory, whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from hsichunk.atomic_files import staging, sync_one
from hsichunk.classification.palette import class_colors
from hsichunk.memory import GDAL_CACHE
from hsichunk.writers.band_statistics import BandStatistics, ClassCounts
from hsichunk.writers.class_table import class_table

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetWriter

_TILE_BYTES: Final = 16 * 2**20  # of all bands of one tile of the file, which GDAL interleaves by pixel


@dataclass(frozen=True)
class MapImage:
    """What a GeoTIFF says of its pixels (band, row, column), from north to south; not the pixels themselves."""

    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    bands: tuple[str, ...]
    """names of the bands"""
    no_data: float | None
    transform: Affine | None = None
    crs: CRS | None = None
    units: str | None = None
    long_name: str | None = None
    wavelengths: tuple[float, ...] = ()
    """nm, where the bands are those of a spectrum"""
    classes: tuple[str, ...] = ()
    """names of the values 0..k of a class map"""
    flags: bool = False
    """whether values stand for names, so that no mean can be taken of them"""

    @property
    def side(self) -> int:
        """Pixels along the side of the squares that the GeoTIFF is stored in."""
        pixel = self.shape[0] * self.dtype.itemsize
        # 512 takes twice the memory, and is slower on large images
        return 256 if 256 * 256 * pixel <= _TILE_BYTES else 128

    @property
    def tiled_bytes(self) -> int:
        """Bytes of all squares without compression."""
        bands, height, width = self.shape
        return bands * -(-height // self.side) * -(-width // self.side) * self.side**2 * self.dtype.itemsize


def write_image(image: MapImage, fill: Callable[[Blocks], None], path: Path) -> None:
    """Write the pixels that `fill` assigns to the `Blocks` it is given, as cloud-optimised GeoTIFF.

    The file gets its name when it is complete and synced. Raises HsiError where it cannot be written.
    """
    with staging(path) as folder, gdal():
        cog = folder / path.name
        source = cog.with_name(f"{path.name}.source")
        statistics: BandStatistics | ClassCounts | None = None
        if image.classes:
            statistics = ClassCounts()
        elif image.dtype.kind in "iuf":
            statistics = BandStatistics(image.shape[0], image.no_data)
        _write_source(image, fill, source, statistics)
        _copy_to_cog(image, source, cog)
        if isinstance(statistics, ClassCounts):
            _aux(cog).write_text(class_table(image.classes, statistics.counts), encoding="utf-8")
        _publish(cog, path)


@contextmanager
def gdal() -> Iterator[None]:
    """Run GDAL with a small cache; its errors become OSError, as those of writing."""
    import rasterio
    from rasterio._err import CPLE_BaseError

    with rasterio.Env(), _SMALL_CACHE:
        try:
            yield
        except CPLE_BaseError as error:
            raise OSError(errno.EIO, str(error)) from error


class _SmallCache:
    """Keep GDAL's cache, of which a process has one, small as long as any file is being written."""

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
                # expected: some data have no place
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
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
    image: MapImage, fill: Callable[[Blocks], None], source: Path, statistics: BandStatistics | ClassCounts | None
) -> None:
    """Write the blocks, in any order, and their statistics to a tiled GeoTIFF without compression."""
    import rasterio

    bands, height, width = image.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": image.dtype.name}
    profile |= {"nodata": image.no_data, "crs": image.crs, "bigtiff": "IF_SAFER"}
    profile |= {"tiled": True, "blockxsize": image.side, "blockysize": image.side, "interleave": "band"}
    if image.transform is not None:
        profile["transform"] = image.transform
    with rasterio.open(source, "w", **profile) as raster:
        _describe(raster, image)
        fill(Blocks(raster, statistics))
        if isinstance(statistics, BandStatistics):
            for band in range(bands):
                raster.update_tags(band + 1, **statistics.tags(band))
    if source.stat().st_size < image.tiled_bytes:
        # GDAL writes the last blocks when it closes the file, and rasterio does not raise the errors of that.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _describe(raster: DatasetWriter, image: MapImage) -> None:
    """Write names, units and colours, which come before the pixels."""
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
    """An open raster to which blocks are assigned, as dask.array.store does; thread-safe."""

    def __init__(self, raster: DatasetWriter, statistics: BandStatistics | ClassCounts | None) -> None:
        self._raster, self._statistics = raster, statistics
        self._lock = threading.Lock()

    def __setitem__(self, region: tuple[slice, slice, slice], block: NDArray[np.generic]) -> None:
        from rasterio.windows import Window

        bands, rows, cols = region
        indexes = list(range(bands.start + 1, bands.stop + 1))
        with self._lock:
            self._raster.write(block, indexes=indexes, window=Window.from_slices(rows, cols))
        if isinstance(self._statistics, ClassCounts):
            self._statistics.add(bands.start, block.astype(np.uint8, copy=False))
        elif self._statistics is not None:
            self._statistics.add(bands.start, block)


def _copy_to_cog(image: MapImage, source: Path, cog: Path) -> None:
    """Copy the tiled GeoTIFF to a cloud-optimised one: compressed, with overviews."""
    from rasterio.shutil import copy

    resampling = "AVERAGE" if image.dtype.kind == "f" else "MODE" if image.flags else "NEAREST"
    copy(
        source,
        cog,
        driver="COG",
        # Measured on abundances: a predictor takes a third more time and makes files larger; higher levels gain 2 %.
        COMPRESS="DEFLATE",
        LEVEL=1,
        PREDICTOR="NO",
        BLOCKSIZE=image.side,
        OVERVIEW_RESAMPLING=resampling,
        BIGTIFF="IF_SAFER",
        # With more threads, GDAL 3.10 leaves a truncated file, and no error, when the disk is full.
        NUM_THREADS=1,
    )


def _aux(raster: Path) -> Path:
    """Return the path of GDAL's side-car of a raster."""
    return raster.with_name(f"{raster.name}.aux.xml")


def _publish(cog: Path, path: Path) -> None:
    """Move the finished file to its name, after its side-car; remove what GIS left beside an older file."""
    sync_one(cog)
    if _aux(cog).exists():
        sync_one(_aux(cog))
        os.replace(_aux(cog), _aux(path))
    else:
        _aux(path).unlink(missing_ok=True)
    path.with_name(f"{path.name}.ovr").unlink(missing_ok=True)
    os.replace(cog, path)
    sync_one(path.parent)
