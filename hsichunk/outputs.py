"""What a run stores: the empty store of a site, strips as whole chunks of it, class maps from its scores, spectra."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import memory, schema
from hsichunk.chunks.windows import Window
from hsichunk.classification.labels import labels, score_attrs
from hsichunk.errors import HsiError
from hsichunk.grid import Grid, mapping_attrs, placed
from hsichunk.job import Job
from hsichunk.mosaic.site import Place
from hsichunk.options import Options
from hsichunk.threads import in_parallel
from hsichunk.unmixing.scoring import Products, Tally
from hsichunk.unmixing.solver import Solver
from hsichunk.version import __version__
from hsichunk.writers import cog, zarr_blocks
from hsichunk.writers.zarr_blocks import EmptyMap, Template

if TYPE_CHECKING:
    import zarr

Note = Callable[[int, Tally], None]
"""Called with the row of the tile up to which everything is on the disk, and what came of the rows since the last."""
Guard = Callable[["zarr.Group", slice, slice], AbstractContextManager[None]]
"""Keeps other writers out of the stored chunks that rows and columns of the site share with them."""

DIGEST = "hsichunk_run"  # attribute of a store: which run it belongs to
SIDE_BY_SIDE = 4_000_000  # pixels of an image up to which two GeoTIFFs are made at a time: GDAL's cache is one
TIFF_SHARE = 2.4  # of a map's bytes on the disk while its GeoTIFF is made: as it is, compressed, overviews


def template(job: Job, solver: Solver) -> Template:
    """The products of a whole site, labelled, without their values; class maps, too, where the pass makes them."""
    site, area = job.site, (job.site.rows, job.site.cols)
    maps: dict[str, EmptyMap] = {}
    for name in solver.products:
        attrs = schema.abundance_attrs(solver.constraint) if name == schema.ABUNDANCE else schema.PRODUCT_ATTRS[name]
        stacked = name in schema.PER_ENDMEMBER
        dims = (schema.ENDMEMBER, schema.Y, schema.X) if stacked else (schema.Y, schema.X)
        maps[name] = EmptyMap(dims, (solver.p, *area) if stacked else area, np.float32, attrs)
    if not job.options.relative:
        for name, threshold in thresholds(job.options).items():
            attrs = score_attrs(name, solver.names, threshold)
            maps[schema.CLASS_OF[name]] = EmptyMap((schema.Y, schema.X), area, np.uint8, attrs)
    coords = {
        schema.ENDMEMBER: ((schema.ENDMEMBER,), np.array(solver.names), {"long_name": "endmember"}),
        schema.Y: ((schema.Y,), site.grid.y(site.rows), schema.Y_ATTRS),
        schema.X: ((schema.X,), site.grid.x(site.cols), schema.X_ATTRS),
        schema.GRID_MAPPING: ((), np.array(0), mapping_attrs(site.grid)),
    }
    attrs = {
        "title": f"hsichunk products, {site.places[0].file.site}",
        "source": f"hsichunk {__version__}",
        "Conventions": "CF-1.11",
        DIGEST: job.ledger.digest,
    }
    return Template(coords, maps, attrs)


def thresholds(options: Options) -> dict[str, float | list[float]]:
    """The thresholds of each score that gets a class map: one number, or one a class."""
    given = {metric: options.threshold(metric) for metric in options.metric}
    return {name: each[0] if len(each) == 1 else list(each) for name, each in given.items()}


def fits(store: Path, whole: Template, chunks: tuple[int, int]) -> bool:
    """Whether a store is the one that `whole` describes, in the layout that strips are written in."""
    import zarr

    try:
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        arrays = {name: group.get(name) for name in whole.maps}
        return group.attrs.get(DIGEST) == whole.attrs[DIGEST] and all(
            isinstance(found, zarr.Array)
            and found.shape == whole.maps[name].shape
            and found.dtype == whole.maps[name].dtype
            and found.chunks[-2:] == chunks
            for name, found in arrays.items()
        )
    except (OSError, ValueError, KeyError, TypeError):  # missing or damaged, which zarr says in many ways
        return False


def class_limits(options: Options) -> dict[str, NDArray[np.float32]]:
    """The largest distance, or smallest similarity, of each class, for the scores whose class maps the pass makes."""
    if options.relative:
        return {}
    return {name: np.full(options.k, each, np.float32) for name, each in thresholds(options).items()}


@contextmanager
def unguarded(*_: Any) -> Iterator[None]:
    """For a single writer."""
    yield


class StripWriter:
    """Collects the strips of one window of a tile until they fill rows of stored chunks, then writes those."""

    def __init__(
        self,
        store: Path,
        limits: dict[str, NDArray[np.float32]],
        place: Place,
        window: Window,
        start: int,
        note: Note,
        guard: Guard = unguarded,
    ) -> None:
        import zarr

        self._group = zarr.open_group(store, mode="r+")
        self._limits, self._guard = limits, guard
        self._place, self._window, self._note = place, window, note
        array: Any = self._group[schema.RMSE]
        self._side = array.chunks[0]
        self._written = start
        self._waiting: list[tuple[Window, Products, Tally]] = []

    def add(self, part: Window, products: Products, tally: Tally) -> None:
        """Takes the next strip, as wide as the window; strips come from top to bottom."""
        self._waiting.append((part, products, tally))
        edge = (self._place.top + part.bottom) // self._side * self._side - self._place.top
        if part.bottom == self._window.bottom:
            edge = part.bottom
        if edge > self._written:
            self._write(edge)

    def _write(self, edge: int) -> None:
        """Writes all rows above `edge`; notes the strips of which every row is stored, so that a run resumes at one."""
        top = self._written
        rows = slice(self._place.top + top, self._place.top + edge)
        cols = slice(self._place.left + self._window.left, self._place.left + self._window.right)
        with self._guard(self._group, rows, cols):
            for name in self._waiting[0][1]:
                pieces = [
                    values[name][..., max(top - part.top, 0) : edge - part.top, :] for part, values, _ in self._waiting
                ]
                block = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-2)
                blocks: dict[str, NDArray[Any]] = {name: block}
                if name in self._limits:
                    blocks[schema.CLASS_OF[name]] = labels(name, block, self._limits[name])
                zarr_blocks.write_block(self._group, blocks, rows, cols, durable=True, whole=False)
        self._written = edge
        stored = Tally()
        bottom = None
        while self._waiting and self._waiting[0][0].bottom <= edge:
            part, _, tally = self._waiting.pop(0)
            stored.add(tally)
            bottom = part.bottom
        if bottom is not None:
            self._note(bottom, stored)


def tidy(store: Path) -> None:
    """Removes zarr's own files of writes that were killed."""
    for path in [*store.rglob("*.partial")]:
        path.unlink()


def add_classes(store: Path, options: Options) -> None:
    """Adds class maps relative to the range of the scores in a store; replaces those of a killed attempt."""
    import dask
    import dask.threaded

    from hsichunk.classification.class_maps import classify
    from hsichunk.classification.rules import score_range
    from hsichunk.writers import zarr_store

    scores = zarr_store.open_store(store)
    with dask.config.set(scheduler=dask.threaded.get, num_workers=options.threads):
        for name, threshold in thresholds(options).items():
            distance = scores[name]
            # the range first, then the labels: both stream, and nothing is held between them
            label = classify(distance, threshold, relative=True, limits=score_range(distance).compute())
            shutil.rmtree(store / str(label.name), ignore_errors=True)
            zarr_store.add(store, label)


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
    memory.thrifty()
    in_parallel(write, names, min(2, job.options.threads) if job.site.rows * job.site.cols <= SIDE_BY_SIDE else 1)
    job.progress("maps", len(names), len(names))


def _tiff(job: Job, name: str) -> Path:
    return job.ledger.out / f"{name}.tif"


def _image(group: zarr.Group, name: str, grid: Grid) -> cog.Image:
    """What the GeoTIFF of a map says of it."""
    array: Any = group[name]
    names: Any = group[schema.ENDMEMBER]
    return cog.Image(
        (*(() if array.ndim == 3 else (1,)), *array.shape),
        array.dtype,
        tuple(map(str, names[:].tolist())) if array.ndim == 3 else (name,),
        schema.CLASS_NO_DATA if array.dtype == np.uint8 else np.nan,
        *placed(grid),
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
