"""Do a whole run, from tiles to maps, in the memory that the user names.

A run may be killed at any moment; the same call then resumes it.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hsichunk import atomic_files, memory, schema
from hsichunk.array_types import Floats
from hsichunk.chunks.columns import is_small
from hsichunk.chunks.remote import name_of
from hsichunk.errors import HsiWarning
from hsichunk.mosaic.site import Site
from hsichunk.run import endmembers, folder, plan
from hsichunk.run.endmembers import EndmemberSet, Origin, StoredEndmembers
from hsichunk.run.job import Job, Progress, silent
from hsichunk.run.json_records import as_json, from_json
from hsichunk.run.ledger import Ledger
from hsichunk.run.make_plan import make_plan
from hsichunk.run.notes import InputFile, Stages
from hsichunk.run.open_inputs import connected, masks_of, prepared
from hsichunk.run.options import Options
from hsichunk.run.warm_up import importing
from hsichunk.unmixing.solver import Solver

if TYPE_CHECKING:
    from hsichunk.run.record import RunRecord


@dataclass(frozen=True)
class RunResult:
    """The record of a run, and whether this call did it."""

    record: RunRecord
    """the content of run.json"""
    done_before: bool
    """whether the folder held the results already"""


@dataclass(frozen=True)
class Beginning:
    """The content of endmembers.json: what a run begins with, kept until the run is finished."""

    sets: tuple[StoredEndmembers, ...]
    """one set of endmembers for all tiles, or one a tile"""
    stages: Stages
    """what it took to find them"""


class PassInputs(NamedTuple):
    """What the pass unmixes with: sets of endmembers and their solvers, one for all tiles or one a tile."""

    sets: tuple[EndmemberSet, ...]
    solvers: tuple[Solver, ...]


def run(options: Options, progress: Progress = silent) -> RunResult:
    """Do the run that the options ask for, and return its record.

    A run that is killed leaves a folder from which the same call resumes; a finished folder is not touched again.
    Nothing is written before tiles, options and plan are checked and the endmembers are found. Raises HsiError where
    one of these fails.
    """
    began = time.perf_counter()
    memory.use_one_heap()
    site, bands, options, file_endmembers = prepared(options)
    masks = masks_of(options, site)
    inputs = inputs_of(site)
    fingerprint = options.fingerprint([as_json(each) for each in inputs])
    fingerprint["endmembers"] = file_endmembers.digest if file_endmembers else None
    fingerprint["mask"] = masks.fingerprint() if masks else []
    ledger = Ledger(Path(options.out), fingerprint)
    state = ledger.look(options.overwrite)
    if state == "done":
        from hsichunk.run.record import read_record

        ledger.tidy()
        return RunResult(read_record(ledger.out), done_before=True)
    with connected(options) as cluster:
        run_plan = make_plan(site, bands, options, cluster.threads if cluster else options.threads)
        job = Job(options, site, bands, run_plan, ledger, progress, inputs, masks=masks, cluster=cluster)
        job.keep_chunks()
        _warn_of_decodes(job)
        with importing() as imported:
            if state == "resumed":
                with ledger.locked():
                    imported()
                    if (pass_inputs := _resumed(job)) is not None:
                        return _finish(job, pass_inputs, began)
                warnings.warn(
                    f"{ledger.out}: what an earlier run left is damaged; starting anew", HsiWarning, stacklevel=2
                )
            sets = (file_endmembers,) if file_endmembers else endmembers.find(job)
            _plan_for_found(job, sets)
            pass_inputs = PassInputs(sets, endmembers.solvers(job, sets))
            imported()
            with ledger.locked():
                _start(job, pass_inputs)
                return _finish(job, pass_inputs, began)


def _warn_of_decodes(job: Job) -> None:
    """Warn where chunks are decoded more than once, and say why."""
    for tile in job.site.tiles:
        if len(tile.owned) > 1 and not is_small(tile.counts(job.bands)):
            warnings.warn(
                f"{tile.file.path}: tiles before it by name cover parts of it; its chunks are decoded up to "
                f"{len(tile.owned)} times",
                HsiWarning,
                stacklevel=3,
            )
    if job.plan.decodes > 1:
        warnings.warn(
            f"{job.plan.budget / plan.MB:.0f} MB hold the sums of {job.plan.pass_rows} rows at a time: stored chunks "
            f"are decoded up to {job.plan.decodes} times; --memory {-(-job.plan.once // plan.MB)}MB decodes them once",
            HsiWarning,
            stacklevel=3,
        )


def _plan_for_found(job: Job, sets: tuple[EndmemberSet, ...]) -> None:
    """Set options and plan to the number of endmembers found, which FIPPI does not take from the options."""
    if (k := len(sets[0].origins)) != job.options.k:
        job.options = job.options.with_k(k)
        job.plan = make_plan(job.site, job.bands, job.options, job.plan.threads)
        job.kept.close(job.plan.kept)


def _start(job: Job, pass_inputs: PassInputs) -> None:
    """Write what a run begins with: endmembers, the empty store, and last the state, which says that both are there."""
    from hsichunk.run import product_store
    from hsichunk.writers import zarr_blocks

    job.ledger.clear()
    beginning = Beginning(tuple(each.stored() for each in pass_inputs.sets), job.stages)
    atomic_files.write_json(job.ledger.folder / "endmembers.json", as_json(beginning))
    template = product_store.template(job, pass_inputs.solvers[0])
    zarr_blocks.create(template, job.ledger.store, job.zarr_chunk)
    job.ledger.start()


def _resumed(job: Job) -> PassInputs | None:
    """Return the endmembers that an earlier attempt began with, and set the job's stages to those of that attempt.

    None where endmembers or store are missing, damaged, or those of another run.
    """
    content = atomic_files.read_json(job.ledger.folder / "endmembers.json")
    try:
        beginning = from_json(Beginning, content)
        sets = tuple(EndmemberSet.from_stored(stored) for stored in beginning.sets)
    except ValueError:  # of NumPy, or a RecordError
        return None
    if len(sets) != (len(job.site.tiles) if job.options.per_tile else 1):
        return None
    if any(each.spectra.shape[1] != len(job.bands) or not each.origins for each in sets):
        return None
    if job.options.method == "fippi":
        _plan_for_found(job, sets)
    if any(len(each.origins) != job.options.k for each in sets):
        return None
    solvers = endmembers.solvers(job, sets)
    if not _store_fits(job, solvers[0]):
        return None
    job.stages = beginning.stages
    job.resumed = True
    return PassInputs(sets, solvers)


def _store_fits(job: Job, solver: Solver) -> bool:
    """Return whether the store of an earlier attempt is that of this job; one with its final name must be complete."""
    from hsichunk.run import product_store
    from hsichunk.run.site_pass import window_tasks

    template = product_store.template(job, solver)
    if job.ledger.store.exists():
        return product_store.fits(job.ledger.store, template, job.zarr_chunk)
    renamed = job.ledger.out / folder.STORE
    return product_store.fits(renamed, template, job.zarr_chunk) and not any(
        task.unfinished for task in window_tasks(job)[0]
    )


def _finish(job: Job, pass_inputs: PassInputs, began: float) -> RunResult:
    """Do the pass, write maps, endmembers.csv, item.json and run.json; the store may hold strips already."""
    from hsichunk.endmembers import endmember_csv
    from hsichunk.run import stac
    from hsichunk.run.make_record import summary
    from hsichunk.run.site_pass import run_pass

    with job.stage("pass"):
        tally = run_pass(job, pass_inputs.solvers)
    _write_maps(job)
    endmember_csv.write_endmembers(job.ledger.out / "endmembers.csv", job.wavelength, *_columns(job, pass_inputs.sets))
    record = summary(job, pass_inputs.solvers[0].names, tally, round(time.perf_counter() - began, 3))
    stac.write_item(job.ledger.out, record, job.site)
    job.ledger.finish(record)
    return RunResult(record, done_before=False)


def _columns(job: Job, sets: tuple[EndmemberSet, ...]) -> tuple[Floats, list[Origin]]:
    """Return the spectra and origins of all sets; endmembers of a tile are named after its file, too."""
    if not job.options.per_tile:
        return sets[0].spectra, [*sets[0].origins]
    stems = [Path(tile.file.path).stem for tile in job.site.tiles]
    origins = [
        Origin(f"{stem} {name}", x, y) for stem, each in zip(stems, sets, strict=True) for name, x, y in each.origins
    ]
    return np.concatenate([each.spectra for each in sets]), origins


def _write_maps(job: Job) -> None:
    """Add class maps of relative thresholds, give the store its final name, and write a GeoTIFF of each map."""
    from hsichunk.atomic_files import sync, sync_one
    from hsichunk.run import geotiffs, product_store

    out, store = job.ledger.out, job.ledger.store
    with job.stage("classes"):
        if store.exists():
            product_store.tidy(store)
            if job.options.relative:
                product_store.add_classes(store, job.options)
                sync(store)
            os.replace(store, out / folder.STORE)
            sync_one(out)
    names = (schema.ABUNDANCE, schema.RMSE, *(schema.CLASS_OF[metric] for metric in job.options.metric))
    with job.stage("geotiff"):
        geotiffs.write_maps(out / folder.STORE, names, job)


def inputs_of(site: Site) -> tuple[InputFile, ...]:
    """Return name, size and checksum of the metadata of each tile.

    Stored values are not read: the positions of the chunks in the file stand for them in the checksum.
    """
    inputs = []
    for tile in site.tiles:
        file, stored = tile.file, tile.file.reflectance
        layout = (stored.shape, stored.chunks, str(stored.dtype))
        metadata = repr((file.site, *layout, file.scale, file.no_data, file.windows))
        metadata += repr(asdict(file.grid)) + file.wavelength.tobytes().hex()
        digest = hashlib.sha256(metadata.encode())
        digest.update(stored.identity())
        inputs.append(InputFile(name=name_of(file.path), size=stored.stamp[0], metadata=digest.hexdigest()))
    return tuple(inputs)
