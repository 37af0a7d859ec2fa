"""Describe the Zarr store of a run, check a store that is there, and add class maps of relative thresholds to it."""

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

DIGEST = "hsichunk_run"  # attribute of a store: the digest of the run that it belongs to


def template(job: Job, solver: Solver) -> Template:
    """Return coordinates, attributes and empty maps of a run's store.

    Maps are the products of the solver and, with absolute thresholds, their class maps, which the pass makes. Relative
    thresholds need the range of all scores: `add_classes` makes those maps after the pass.
    """
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
    """Return the thresholds of each score that gets a class map: one number, or one a class."""
    values = {metric: options.threshold(metric) for metric in options.metric}
    return {metric: each[0] if len(each) == 1 else list(each) for metric, each in values.items()}


def fits(store: Path, template: Template, chunks: tuple[int, int]) -> bool:
    """Return whether a store is the one that `template` describes, in stored chunks of `chunks` (rows, columns)."""
    import zarr

    try:
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        arrays = {name: group.get(name) for name in template.maps}
        return group.attrs.get(DIGEST) == template.attrs[DIGEST] and all(
            isinstance(array, zarr.Array)
            and array.shape == template.maps[name].shape
            and array.dtype == template.maps[name].dtype
            and array.chunks[-2:] == chunks
            for name, array in arrays.items()
        )
    except (OSError, ValueError, KeyError, TypeError):  # what zarr raises for a missing or damaged store
        return False


def class_limits(options: Options) -> dict[str, NDArray[np.float32]]:
    """Return the threshold of each class (k,), by metric, for the class maps that the pass makes.

    It is the largest distance, or the smallest similarity, of a pixel of the class.
    """
    if options.relative:
        return {}
    return {name: np.full(options.k, each, np.float32) for name, each in thresholds(options).items()}


def tidy(store: Path) -> None:
    """Remove the files that zarr leaves of a write that was killed."""
    for path in [*store.rglob("*.partial")]:
        path.unlink()


def add_classes(store: Path, options: Options) -> None:
    """Add class maps of thresholds relative to the range of the stored scores; replace those of a killed attempt."""
    import dask
    import dask.threaded

    from hsichunk.classification.class_maps import classify
    from hsichunk.classification.rules import score_range
    from hsichunk.writers import zarr_store

    scores = zarr_store.open_store(store)
    with dask.config.set(scheduler=dask.threaded.get, num_workers=options.threads):
        for name, threshold in thresholds(options).items():
            distance = scores[name]
            # the range is computed before the labels: each of the two streams, and nothing is held between them
            label = classify(distance, threshold, relative=True, limits=score_range(distance).compute())
            shutil.rmtree(store / str(label.name), ignore_errors=True)
            zarr_store.add(store, label)
