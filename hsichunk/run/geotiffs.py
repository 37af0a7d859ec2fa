"""The GeoTIFFs of a run, from its store."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hsichunk import memory, schema
from hsichunk.errors import HsiError
from hsichunk.grid import Grid, transform_and_crs
from hsichunk.run.job import Job
from hsichunk.threads import in_parallel
from hsichunk.writers import cog

if TYPE_CHECKING:
    import zarr

SIDE_BY_SIDE = 4_000_000  # pixels of an image up to which two GeoTIFFs are made at a time: GDAL's cache is one
TIFF_SHARE = 2.4  # of a map's bytes on the disk while its GeoTIFF is made: as it is, compressed, overviews


def write_maps(store: Path, names: Sequence[str], job: Job) -> None:
    """Maps of a store as GeoTIFFs, where the disk has room for all: GDAL prints its own lines when it runs out."""
    import zarr

    group = zarr.open_group(store, mode="r")
    images = {name: _image(group, name, job.site.grid) for name in names}
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
        cog.write_image(images[name], partial(_store_blocks, group[name]), _tiff(job, name))
        written.append(name)

    memory.release()
    memory.map_large_blocks()
    in_parallel(write, names, min(2, job.options.threads) if job.site.rows * job.site.cols <= SIDE_BY_SIDE else 1)
    job.progress("maps", len(names), len(names))


def _tiff(job: Job, name: str) -> Path:
    return job.ledger.out / f"{name}.tif"


def _image(group: zarr.Group, name: str, grid: Grid) -> cog.MapImage:
    """What the GeoTIFF of a map says of it."""
    array: Any = group[name]
    names: Any = group[schema.ENDMEMBER]
    return cog.MapImage(
        (*(() if array.ndim == 3 else (1,)), *array.shape),
        array.dtype,
        tuple(map(str, names[:].tolist())) if array.ndim == 3 else (name,),
        schema.CLASS_NO_DATA if array.dtype == np.uint8 else np.nan,
        *transform_and_crs(grid),
        array.attrs.get("units"),
        array.attrs["long_name"],
        classes=tuple(array.attrs["flag_meanings"].split()[:-1]) if "flag_meanings" in array.attrs else (),
        flags="flag_meanings" in array.attrs,
    )


def _store_blocks(array: Any, blocks: cog.Blocks) -> None:
    """Assigns a map to a GeoTIFF, one stored chunk of all its layers after the other."""
    *_, height, width = array.shape
    *_, high, wide = array.chunks
    for top in range(0, height, high):
        for left in range(0, width, wide):
            rows, cols = slice(top, min(top + high, height)), slice(left, min(left + wide, width))
            block = array[..., rows, cols]
            block = block if block.ndim == 3 else block[np.newaxis]
            blocks[slice(0, len(block)), rows, cols] = block
