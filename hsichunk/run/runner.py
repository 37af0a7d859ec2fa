"""The whole job, from tiles to maps, in the memory the user names; safe to kill at any moment and to run again."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import atomic_files, memory, schema
from hsichunk.chunks.columns import is_small
from hsichunk.chunks.remote import name_of
from hsichunk.errors import HsiWarning
from hsichunk.mosaic.site import Site
from hsichunk.run import endmembers, folder, plan
from hsichunk.run.endmembers import EndmemberSet
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
    """What a run gives back."""

    record: RunRecord
    """what run.json says"""
    done_before: bool
    """whether the folder held it already"""


@dataclass(frozen=True)
class Beginning:
    """endmembers.json: what a run begins with, kept until it is finished."""

    sets: tuple[Any, ...]
    """the endmembers, as `EndmemberSet.as_json` gives them: one set, or one a tile"""
    stages: Stages
    """what it took to find them"""


def run(options: Options, progress: Progress = silent) -> RunResult:
    """Does the job and gives back its record, and whether it was done already.

    Killed, it leaves a folder from which the same call goes on; finished, the folder is not touched again. Nothing is
    written before tiles, options and plan are checked and the endmembers found. Raises HsiError where that fails.
    """
    began = time.perf_counter()
    memory.use_one_heap()
    site, bands, options, ours = prepared(options)
    masks = masks_of(options, site)
    inputs = inputs_of(site)
    fingerprint = options.fingerprint(as_json(inputs))
    fingerprint["endmembers"] = ours.digest if ours else None
    fingerprint["mask"] = masks.fingerprint() if masks else []
    book = Ledger(Path(options.out), fingerprint)
    state = book.look(options.overwrite)
    if state == "done":
        from hsichunk.run.record import read_record

        book.tidy()
        return RunResult(read_record(book.out), done_before=True)
    with connected(options) as cluster:
        made = make_plan(site, bands, options, cluster.threads if cluster else options.threads)
        job = Job(options, site, bands, made, book, progress, inputs, masks=masks, cluster=cluster)
        job.keep_chunks()
        _warn_of_decodes(job)
        with importing() as imported:
            if state == "resumed":
                with book.locked():
                    imported()
                    if (kept := _kept(job)) is not None:
                        return _work(job, *kept, began)
                warnings.warn(
                    f"{book.out}: what an earlier run left is damaged; starting anew", HsiWarning, stacklevel=2
                )
            sets = (ours,) if ours else endmembers.find(job)
            _as_many(job, sets)
            solvers = endmembers.solvers(job, sets)
            imported()
            with book.locked():
                _start(job, sets, solvers)
                return _work(job, sets, solvers, began)


def _warn_of_decodes(job: Job) -> None:
    """Says where the promise of one decode is not kept, and why."""
    made = job.plan
    for place in job.site.tiles:
        if len(place.owned) > 1 and not is_small(place.counts(job.bands)):
            warnings.warn(
                f"{place.file.path}: tiles before it by name cover parts of it; its chunks are decoded up to "
                f"{len(place.owned)} times",
                HsiWarning,
                stacklevel=3,
            )
    if made.decodes > 1:
        warnings.warn(
            f"{made.budget / plan.MB:.0f} MB hold the sums of {made.pass_rows} rows at a time: stored chunks are "
            f"decoded up to {made.decodes} times; --memory {-(-made.once // plan.MB)}MB decodes them once",
            HsiWarning,
            stacklevel=3,
        )


def _as_many(job: Job, sets: tuple[EndmemberSet, ...]) -> None:
    """Options and plan for as many endmembers as a search has found that does not find k of them."""
    if (k := len(sets[0].origins)) != job.options.k:
        job.options = job.options.with_k(k)
        job.plan = make_plan(job.site, job.bands, job.options, job.plan.threads)
        job.kept.close(job.plan.kept)


def _start(job: Job, sets: tuple[EndmemberSet, ...], solvers: tuple[Solver, ...]) -> None:
    """The folder as a run begins it: endmembers and the empty store, and only then the state that says so."""
    from hsichunk.run import product_store
    from hsichunk.writers import zarr_blocks

    job.ledger.clear()
    begun = Beginning(tuple(each.as_json() for each in sets), job.stages)
    atomic_files.write_json(job.ledger.folder / "endmembers.json", as_json(begun))
    whole = product_store.template(job, solvers[0])
    zarr_blocks.create(whole, job.ledger.store, job.zarr_chunk)
    job.ledger.start()


def _kept(job: Job) -> tuple[tuple[EndmemberSet, ...], tuple[Solver, ...]] | None:
    """What an earlier attempt began with; None where some of it is missing or belongs to another run."""
    from hsichunk.run import product_store
    from hsichunk.run.site_pass import window_tasks

    content = atomic_files.read_json(job.ledger.folder / "endmembers.json")
    try:
        begun = from_json(Beginning, content)
        sets = tuple(EndmemberSet.of_json(each) for each in begun.sets)
    except (TypeError, ValueError, KeyError):
        return None
    if len(sets) != (len(job.site.tiles) if job.options.per_tile else 1):
        return None
    if any(each.spectra.shape[1] != len(job.bands) or not each.origins for each in sets):
        return None
    if job.options.method == "fippi":
        _as_many(job, sets)
    if any(len(each.origins) != job.options.k for each in sets):
        return None
    solvers = endmembers.solvers(job, sets)
    chunks = job.zarr_chunk
    whole = product_store.template(job, solvers[0])
    if job.ledger.store.exists():
        good = product_store.fits(job.ledger.store, whole, chunks)
    else:  # it has got its name already
        good = product_store.fits(job.ledger.out / folder.STORE, whole, chunks) and not any(
            s.left for s in window_tasks(job)[0]
        )
    if not good:
        return None
    job.stages = begun.stages
    job.resumed = True
    return sets, solvers


def _work(job: Job, sets: tuple[EndmemberSet, ...], solvers: tuple[Solver, ...], began: float) -> RunResult:
    """From endmembers and a store with some strips, or none, to the finished folder."""
    from hsichunk.endmembers import endmember_csv
    from hsichunk.run import stac
    from hsichunk.run.make_record import summary
    from hsichunk.run.site_pass import run_pass

    with job.stage("pass"):
        tally = run_pass(job, solvers)
    _write_maps(job)
    endmember_csv.write_endmembers(job.ledger.out / "endmembers.csv", job.wavelength, *_columns(job, sets))
    record = summary(job, solvers[0].names, tally, round(time.perf_counter() - began, 3))
    stac.write_item(job.ledger.out, record, job.site)
    job.ledger.finish(record)
    return RunResult(record, done_before=False)


def _columns(job: Job, sets: tuple[EndmemberSet, ...]) -> tuple[NDArray[np.float64], list[tuple[str, float, float]]]:
    """All spectra, those of each tile under its name."""
    if not job.options.per_tile:
        return sets[0].spectra, [*sets[0].origins]
    stems = [Path(place.file.path).stem for place in job.site.tiles]
    origins = [(f"{stem} {name}", x, y) for stem, one in zip(stems, sets, strict=True) for name, x, y in one.origins]
    return np.concatenate([one.spectra for one in sets]), origins


def _write_maps(job: Job) -> None:
    """Class maps that need the range of all scores, the store to its name, and a GeoTIFF of each map."""
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
    """Name, size and checksum of the metadata of each tile; the places of its chunks stand for what they hold."""
    out = []
    for place in site.tiles:
        file, stored = place.file, place.file.reflectance
        said = repr((file.site, stored.shape, stored.chunks, str(stored.dtype), file.scale, file.no_data, file.windows))
        said += repr(asdict(file.grid)) + file.wavelength.tobytes().hex()
        digest = hashlib.sha256(said.encode())
        digest.update(stored.identity())
        out.append(InputFile(name=name_of(file.path), size=stored.stamp[0], metadata=digest.hexdigest()))
    return tuple(out)
