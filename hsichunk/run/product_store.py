"""The Zarr store of a run: its empty template, whether a store fits it, class maps added from stored scores."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.classification.labels import score_attrs
from hsichunk.grid import mapping_attrs
from hsichunk.run.job import Job
from hsichunk.run.options import Options
from hsichunk.unmixing.solver import Solver
from hsichunk.version import __version__
from hsichunk.writers.zarr_blocks import EmptyMap, Template

DIGEST = "hsichunk_run"  # attribute of a store: which run it belongs to


def template(job: Job, solver: Solver) -> Template:
    """The products of a whole site, labelled, without their values; class maps, too, where the pass makes them."""
    site, area = job.site, (job.site.rows, job.site.cols)
    maps: dict[str, EmptyMap] = {}
    for name in solver.products:
        attrs = schema.abundance_attrs(solver.constraint) if name == schema.ABUNDANCE else schema.PRODUCT_ATTRS[name]
        stacked = name in schema.PER_ENDMEMBER
        dims = (schema.ENDMEMBER, schema.Y, schema.X) if stacked else (schema.Y, schema.X)
        maps[name] = EmptyMap(dims, (solver.k, *area) if stacked else area, np.float32, attrs)
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
        "title": f"hsichunk products, {site.tiles[0].file.site}",
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
