"""The whole job, from tiles to maps, in the memory the user names; safe to kill at any moment and to run again."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import ledger, memory, plan, schema, simplex, site_sample
from hsichunk.column import is_small, load_kernels
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.job import Job, Progress, inputs_of, kept_bands, make_plan, silent
from hsichunk.ledger import Ledger
from hsichunk.options import Options
from hsichunk.site import open_site
from hsichunk.solver import Solver, prepare

_LATE = ("dask.array", "hsichunk.outputs", "zarr", "pyproj", "hsichunk.geotiff", "rioxarray")


@dataclass(frozen=True)
class Found:
    """The endmembers of a run."""

    spectra: NDArray[np.float64]
    """(k, L) reflectance"""
    places: tuple[tuple[str, float, float], ...]
    """name, x and y of each"""


def run(options: Options, progress: Progress = silent) -> dict[str, Any]:
    """Does the job and gives back what run.json says, and under "finished" whether it was there already.

    Killed, it leaves a folder from which the same call goes on; finished, the folder is not touched again. Nothing is
    written before tiles, options and plan are checked and the endmembers found. Raises HsiError where that fails.
    """
    began = time.perf_counter()
    memory.steady()
    site = open_site(options.tiles)
    bands = kept_bands(site, options)
    simplex.check_k(options.k, len(bands))
    book = Ledger(Path(options.out), options.fingerprint(inputs_of(site)))
    state = book.look(options.overwrite)
    if state == "done":
        book.tidy()
        return {**ledger.read_json(book.out / ledger.RUN_JSON), "finished": True}
    job = Job(options, site, bands, make_plan(site, bands, options), book, progress)
    _warn_of_decodes(job)
    with _importing():
        if state == "resumed":
            with book.locked():
                if (kept := _kept(job)) is not None:
                    return _work(job, *kept, began)
            warnings.warn(f"{book.out}: what an earlier run left is damaged; starting anew", HsiWarning, stacklevel=2)
        found = _find_endmembers(job)
        solver = _solver(job, found)
        with book.locked():
            _start(job, found, solver)
            return _work(job, found, solver, began)


def _warn_of_decodes(job: Job) -> None:
    """Says where the promise of one decode is not kept, and why."""
    made = job.plan
    for place in job.site.places:
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


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Imports what writing needs while the first tiles are read: half of the start-up time is not waited for."""

    def work() -> None:
        with contextlib.suppress(Exception):  # said where it is needed
            for name in _LATE:
                importlib.import_module(name)
            load_kernels()

    thread = threading.Thread(target=work, name="hsichunk-imports", daemon=True)
    thread.start()
    try:
        yield
    except Exception:
        thread.join()  # an interpreter that ends in the middle of an import says so at length
        raise


def _find_endmembers(job: Job) -> Found:
    """Endmembers by N-FINDR, from a sample over all tiles."""
    k, maxit = job.options.k, job.options.maxit
    with job.stage("sample"):
        sample = site_sample.draw(job, job.options.share)
        if len(sample.spectra) < k and sample.drawn < job.site.rows * job.site.cols:
            sample = site_sample.draw(job, 1.0)  # mostly no-data: look everywhere before giving up
    if len(sample.spectra) < k:
        raise HsiError(
            f"{job.options.tiles[0]}: {len(sample.spectra)} of {sample.drawn} pixels drawn hold data; "
            f"expected at least k = {k}"
        )
    with job.stage("endmembers"):
        picked = simplex.pick(sample, k, maxit)
    job.stages["endmembers"] |= {name: getattr(picked, name) for name in ("sample_pixels", "sweeps", "swaps")}
    places = zip(picked.names, picked.x.tolist(), picked.y.tolist(), strict=True)
    return Found(picked.spectra, tuple(places))


def _solver(job: Job, found: Found) -> Solver:
    names = [name for name, *_ in found.places]
    return prepare(found.spectra, names, schema.PRODUCTS, job.site.places[0].file.scale, exact=True)


def _start(job: Job, found: Found, solver: Solver) -> None:
    """The folder as a run begins it: endmembers and the empty store, and only then the state that says so."""
    from hsichunk import outputs, zarr_store

    job.ledger.clear()
    content = {"reflectance": found.spectra.tolist(), "places": found.places, "stages": job.stages}
    ledger.write_json(job.ledger.folder / "endmembers.json", content)
    whole = outputs.template(job, solver)
    zarr_store.create(whole, job.ledger.store, plan.zarr_chunk(job.site.rows, job.site.cols, solver.p))
    job.ledger.start()


def _kept(job: Job) -> tuple[Found, Solver] | None:
    """What an earlier attempt began with; None where some of it is missing or belongs to another run."""
    from hsichunk import outputs
    from hsichunk.site_pass import stints

    content = ledger.read_json(job.ledger.folder / "endmembers.json")
    try:
        places = tuple((str(name), float(x), float(y)) for name, x, y in content["places"])
        found = Found(np.array(content["reflectance"], np.float64), places)
        stages = dict(content["stages"])
    except (TypeError, ValueError, KeyError):
        return None
    if found.spectra.shape != (job.options.k, len(job.bands)) or len(places) != job.options.k:
        return None
    solver = _solver(job, found)
    chunks = plan.zarr_chunk(job.site.rows, job.site.cols, solver.p)
    whole = outputs.template(job, solver)
    if job.ledger.store.exists():
        good = outputs.fits(job.ledger.store, whole, chunks)
    else:  # it has got its name already
        good = outputs.fits(job.ledger.out / ledger.STORE, whole, chunks) and not any(s.left for s in stints(job)[0])
    if not good:
        return None
    job.stages |= stages
    job.resumed = True
    return found, solver


def _work(job: Job, found: Found, solver: Solver, began: float) -> dict[str, Any]:
    """From endmembers and a store with some strips, or none, to the finished folder."""
    from hsichunk import outputs
    from hsichunk.site_pass import run_pass
    from hsichunk.summary import summary

    with job.stage("pass"):
        tally = run_pass(job, solver)
    _write_maps(job)
    outputs.write_endmembers(job.ledger.out / "endmembers.csv", job.wavelength, found.spectra, found.places)
    report = summary(job, solver, tally, round(time.perf_counter() - began, 3))
    job.ledger.finish(report)
    return {**report, "finished": False}


def _write_maps(job: Job) -> None:
    """Class maps that need the range of all scores, the store to its name, and a GeoTIFF of each map."""
    from hsichunk import outputs, zarr_store
    from hsichunk.staging import sync, sync_one

    out, store = job.ledger.out, job.ledger.store
    with job.stage("classes"):
        if store.exists():
            outputs.tidy(store)
            if job.options.relative:
                outputs.add_classes(store, job.options)
                sync(store)
            os.replace(store, out / ledger.STORE)
            sync_one(out)
    stored = zarr_store.open_store(out / ledger.STORE, dask=False)
    names = (schema.ABUNDANCE, schema.RMSE, schema.SAM_CLASS, schema.SID_CLASS)
    with job.stage("geotiff"):
        outputs.write_maps({out / f"{name}.tif": stored[name] for name in names}, job)
