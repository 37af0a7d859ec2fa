"""Write the maps of a run's store as GeoTIFFs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hsichunk import memory, schema
from hsichunk.errors import HsiError
from hsichunk.grid import Grid, transform_and_crs
from hsichunk.run.job import Job
from hsichunk.threads import in_parallel
from hsichunk.writers import cog

if TYPE_CHECKING:
    import zarr
    from zarr.types import ArrayV3

SIDE_BY_SIDE = 4_000_000  # pixels of an image up to which two GeoTIFFs are made at a time: they share GDAL's cache
TIFF_SHARE = 2.4  # bytes on the disk per byte of a map while its GeoTIFF is made: uncompressed, compressed, overviews


def write_maps(store: Path, names: Sequence[str], job: Job) -> None:
    """Write maps of a store as GeoTIFFs.

    Raises HsiError before anything is written where the disk has no room for all: GDAL prints lines of its own when it
    runs out of room.
    """
    import zarr

    group = zarr.open_group(store, mode="r")
    maps = {name: _array(group, name) for name in names}
    endmembers = tuple(map(str, np.asarray(_array(group, schema.ENDMEMBER)[:]).tolist()))
    images = {name: _image(name, array, endmembers, job.site.grid) for name, array in maps.items()}
    need = TIFF_SHARE * sum(image.tiled_bytes for image in images.values())
    free = shutil.disk_usage(job.ledger.out).free
    if free < need:
        raise HsiError(
            f"No space left for {_tiff(job, names[0])} and the other maps: they take about {need / 1e6:.1f} MB and "
            f"{free / 1e6:.1f} MB are free; make room and run the same command again"
        )
    written: list[str] = []

    def write(name: str) -> None:
        job.progress("maps", len(written), len(names))
        cog.write_image(images[name], partial(_copy_blocks, maps[name]), _tiff(job, name))
        written.append(name)

    memory.release()
    memory.map_large_blocks()
    in_parallel(write, names, min(2, job.options.threads) if job.site.rows * job.site.cols <= SIDE_BY_SIDE else 1)
    job.progress("maps", len(names), len(names))


def _tiff(job: Job, name: str) -> Path:
    return job.ledger.out / f"{name}.tif"


def _array(group: zarr.Group, name: str) -> ArrayV3:
    import zarr

    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _image(name: str, array: ArrayV3, endmembers: tuple[str, ...], grid: Grid) -> cog.MapImage:
    """Return what the GeoTIFF of a map says of it: size, bands, no-data, place, units and classes."""
    *layers, height, width = array.shape
    texts = {attribute: str(value) for attribute, value in array.attrs.items()}
    return cog.MapImage(
        (layers[0] if layers else 1, height, width),
        array.dtype,
        endmembers if layers else (name,),
        schema.CLASS_NO_DATA if array.dtype == np.uint8 else np.nan,
        *transform_and_crs(grid),
        texts.get("units"),
        texts["long_name"],
        classes=tuple(texts["flag_meanings"].split()[:-1]) if "flag_meanings" in texts else (),
        flags="flag_meanings" in texts,
    )


def _copy_blocks(array: ArrayV3, blocks: cog.Blocks) -> None:
    """Copy a map to a GeoTIFF, one stored chunk of all its layers after the other."""
    *_, height, width = array.shape
    *_, chunk_rows, chunk_cols = array.chunks
    for top in range(0, height, chunk_rows):
        for left in range(0, width, chunk_cols):
            rows, cols = slice(top, min(top + chunk_rows, height)), slice(left, min(left + chunk_cols, width))
            block = np.asarray(array[..., rows, cols])
            block = block if block.ndim == 3 else block[np.newaxis]
            blocks[slice(0, len(block)), rows, cols] = block
