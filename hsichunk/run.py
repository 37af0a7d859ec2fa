"""The whole job, from tiles to maps, in the memory the user names; safe to kill at any moment and to run again."""

from __future__ import annotations

import csv
import hashlib
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hsichunk
from hsichunk import endmembers, ledger, memory, plan, sampling, schema
from hsichunk.cleaning import select_bands
from hsichunk.column import Counts, Products, Tally, Window, stream_window
from hsichunk.errors import HsiError
from hsichunk.ledger import Ledger
from hsichunk.options import Options
from hsichunk.site import Place, Site, open_site
from hsichunk.solver import Solver, prepare
from hsichunk.stored import DECODED

Progress = Callable[[str, int, int], None]
"""Called with the stage, the rows done and the rows in all."""

_LATE = ("xarray", "dask.array", "zarr", "pyproj", "rioxarray", "hsichunk.zarr_store", "hsichunk.geotiff")


def silent(stage: str, done: int, total: int) -> None:
    """No progress."""


@dataclass
class Job:
    """A run under way."""

    options: Options
    site: Site
    bands: NDArray[np.intp]
    plan: plan.Plan
    ledger: Ledger
    progress: Progress
    stages: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def wavelength(self) -> NDArray[np.float64]:
        return self.site.wavelength[self.bands]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Notes the seconds, chunks and bytes of a stage."""
        began, (chunks, size) = time.perf_counter(), DECODED.now()
        yield
        memory.release()
        after = DECODED.now()
        self.stages[name] = {
            "seconds": round(time.perf_counter() - began, 3),
            "chunks_decoded": after[0] - chunks,
            "bytes_decoded": after[1] - size,
        }


def kept_bands(site: Site, options: Options) -> NDArray[np.intp]:
    """Positions of the bands that the options keep."""
    windows = list(site.places[0].file.windows)
    keep = None if options.keep is None else list(options.keep)
    return select_bands(
        site.wavelength, [*windows, *options.drop], options.drop_last, keep, options.every, options.lesson_bands
    )


def layouts(site: Site, bands: NDArray[np.intp]) -> list[plan.Layout]:
    """The different layouts of a site's tiles, as the plan takes them."""
    found = set()
    for place in site.places:
        stored = place.file.reflectance
        rows, cols, _ = stored.shape
        cy, cx, depth = stored.chunks
        found.add(
            plan.Layout(rows, cols, (cy, cx, depth), len(np.unique(bands // depth)), len(bands), stored.dtype.itemsize)
        )
    return sorted(found, key=lambda layout: (layout.chunks, layout.rows, layout.cols))


def make_plan(site: Site, bands: NDArray[np.intp], options: Options) -> plan.Plan:
    """The plan of a run. Raises HsiError when its memory cannot hold one."""
    sample = min(options.sample, site.rows * site.cols)
    return plan.make(options.memory, layouts(site, bands), options.k, options.threads, sample=sample)


def inputs_of(site: Site) -> list[dict[str, Any]]:
    """Name, size and checksum of the metadata of each tile."""
    out = []
    for place in site.places:
        file = place.file
        said = repr((file.site, file.reflectance.shape, file.reflectance.chunks, file.scale, file.no_data, file.windows))
        said += repr(asdict(file.grid)) + file.wavelength.tobytes().hex() + str(file.reflectance.stamp)
        out.append(
            {
                "name": os.path.basename(file.path),
                "size": file.reflectance.stamp[0],
                "metadata": hashlib.sha256(said.encode()).hexdigest(),
            }
        )
    return out


def run(options: Options, progress: Progress = silent) -> dict[str, Any]:
    """Does the job and gives back what run.json says. Raises HsiError where it cannot be done.

    Killed, it leaves a folder from which the same call goes on; finished, the folder is not touched again.
    """
    began = time.perf_counter()
    _import_early()
    site = open_site(options.tiles)
    bands = kept_bands(site, options)
    endmembers.check_k(options.k, len(bands))
    job = Job(options, site, bands, make_plan(site, bands, options), Ledger(Path(options.out)), progress)
    fingerprint = options.fingerprint(inputs_of(site))
    state = job.ledger.begin(fingerprint, options.overwrite)
    if state == "done":
        done: dict[str, Any] = ledger.read_json(job.ledger.out / ledger.RUN_JSON)
        return {**done, "resumed": "nothing was left to do"}
    spectra, places = _endmembers(job)
    if state == "new":
        job.ledger.start(fingerprint)
    solver = prepare(spectra, [name for name, *_ in places], schema.PRODUCTS, site.places[0].file.scale, exact=True)
    _create_store(job, solver)
    with job.stage("pass"):
        tally = _pass(job, solver)
    _write_maps(job)
    _write_endmembers(job.ledger.out / "endmembers.csv", job.wavelength, spectra, places)
    report = _report(job, solver, tally, fingerprint, time.perf_counter() - began)
    job.ledger.finish(report)
    return report


def _import_early() -> None:
    """Imports what writing needs while the first tiles are read: half of the start-up time is not waited for."""

    def work() -> None:
        for name in _LATE:
            importlib.import_module(name)

    threading.Thread(target=work, name="hsichunk-imports", daemon=True).start()


def _endmembers(job: Job) -> tuple[NDArray[np.float64], list[tuple[str, float, float]]]:
    """Spectra (k, L) in reflectance with name, x and y of each; found once, then kept with the state of the run."""
    kept = job.ledger.folder / "endmembers.json"
    stored = ledger.read_json(kept)
    if stored is not None:
        return np.array(stored["reflectance"]), [tuple(place) for place in stored["places"]]  # type: ignore[misc]
    with job.stage("sample"):
        sample = _sample(job, job.options.share)
        if len(sample.spectra) < job.options.k and sample.drawn < job.site.rows * job.site.cols:
            sample = _sample(job, 1.0)
    with job.stage("endmembers"):
        em = endmembers.from_sample(sample, job.options.k, job.options.maxit or 3 * job.options.k)
    job.stages["endmembers"] |= {name: em.attrs[name] for name in ("sample_pixels", "sweeps", "swaps")}
    places = list(zip(em.endmember.values.tolist(), em.x.values.tolist(), em.y.values.tolist(), strict=True))
    ledger.write_json(kept, {"reflectance": em.values.tolist(), "places": places})
    return em.values, places


def _sample(job: Job, share: float) -> sampling.Sample:
    """The sample over all tiles: drawn on the common grid, read tile by tile."""
    site, options = job.site, job.options
    y, x = site.grid.y(site.rows), site.grid.x(site.cols)
    down, across = sampling.places(y, descending=True), sampling.places(x, descending=False)
    rows, cols = sampling.choose(down, across, options.sample, share, options.seed)
    order = np.lexsort((across[cols], down[rows]))
    rows, cols = rows[order], cols[order]
    scale = site.places[0].file.scale
    values = np.zeros((len(rows), len(job.bands)), np.int16)
    valid = np.zeros(len(rows), np.bool_)
    for number, place in enumerate(site.places):
        job.progress("sample", number, len(site.places))
        for window in place.owned:
            inside = _inside(rows, cols, place, window)
            counts = place.counts(job.bands)
            read = sampling.gather(counts, rows[inside] - place.top, cols[inside] - place.left, options.threads)
            held = ~(read == counts.no_data).any(1)
            valid[inside] = held
            values[inside] = np.where(held[:, None], read, 0)
    job.progress("sample", len(site.places), len(site.places))
    return sampling.Sample(values[valid], scale, y[rows[valid]], x[cols[valid]], len(rows))


def _inside(rows: NDArray[np.intp], cols: NDArray[np.intp], place: Place, window: Window) -> NDArray[np.intp]:
    top, left = place.top, place.left
    return np.flatnonzero(
        (rows >= top + window.top)
        & (rows < top + window.bottom)
        & (cols >= left + window.left)
        & (cols < left + window.right)
    )


def _create_store(job: Job, solver: Solver) -> None:
    """The empty store of the whole site, unless an earlier attempt has begun one."""
    from hsichunk import zarr_store
    from hsichunk.outputs import template

    if job.ledger.store.exists():
        return
    whole = template(job.site, solver)
    chunks = plan.zarr_chunk(job.site.rows, job.site.cols, solver.p)
    zarr_store.create(whole, job.ledger.store, chunks)


def _pass(job: Job, solver: Solver) -> Tally:
    """Every tile through `stream_window`, its strips stored as whole chunks, each noted once it is on the disk."""
    from hsichunk.outputs import StripWriter

    total, done = Tally(), {}
    for entry in job.ledger.entries():
        done[entry["tile"], entry["window"]] = entry["bottom"]
        total.add(Tally(**entry["tally"]))
    rows = sum(w.bottom - w.top for place in job.site.places for w in place.owned)
    worked = 0
    for number, place in enumerate(job.site.places):
        counts = place.counts(job.bands)
        for at, window in enumerate(place.owned):
            writer = StripWriter(job.ledger.store, place, window, job.plan.strip_rows)

            def note(bottom: int, tally: Tally, number: int = number, at: int = at) -> None:
                job.ledger.add({"tile": number, "window": at, "bottom": bottom, "tally": asdict(tally)})

            for part, products, tally in _strips(job, counts, solver, window, done.get((number, at), window.top)):
                writer.add(part, products, tally, note)
                total.add(tally)
                job.progress("pass", worked + part.bottom - window.top, rows)
            writer.flush(note)
            worked += window.bottom - window.top
    job.progress("pass", rows, rows)
    return total


def _strips(
    job: Job, counts: Counts, solver: Solver, window: Window, start: int
) -> Iterator[tuple[Window, Products, Tally]]:
    """What is left of a window, in as many passes over its chunks as the plan says."""
    from hsichunk.column import is_small

    step = window.bottom - window.top if is_small(counts) else job.plan.pass_rows
    for top in range(start, window.bottom, max(1, step)):
        part = Window(top, min(top + step, window.bottom), window.left, window.right)
        yield from stream_window(counts, solver, part, job.options.threads, job.plan.strip_rows)


def _write_maps(job: Job) -> None:
    """Class maps from the stored scores, the store to its name, and a GeoTIFF of each map."""
    import dask

    from hsichunk import outputs, zarr_store
    from hsichunk.geotiff import write_geotiff

    out, options = job.ledger.out, job.options
    with dask.config.set(scheduler="threads", num_workers=options.threads):
        with job.stage("classes"):
            if job.ledger.store.exists():
                outputs.add_classes(job.ledger.store, options)
                os.replace(job.ledger.store, out / "products.zarr")
        stored = zarr_store.open_store(out / "products.zarr")
        names = (schema.ABUNDANCE, schema.RMSE, schema.SAM_CLASS, schema.SID_CLASS)
        with job.stage("geotiff"):
            for number, name in enumerate(names):
                job.progress("maps", number, len(names))
                write_geotiff(stored[name], out / f"{name}.tif")
            job.progress("maps", len(names), len(names))


def _write_endmembers(
    path: Path, wavelength: NDArray[np.float64], spectra: NDArray[np.float64], places: list[tuple[str, float, float]]
) -> None:
    """CSV, 17 digits: a row a band, a column an endmember, where they came from in the rows above."""
    part = path.with_name(f".{path.name}.part")
    with open(part, "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["wavelength_nm", *(name for name, *_ in places)])
        lines.writerow(["x", *(repr(x) for _, x, _ in places)])
        lines.writerow(["y", *(repr(y) for _, _, y in places)])
        for nm, values in zip(wavelength.tolist(), spectra.T.tolist(), strict=True):
            lines.writerow([repr(nm), *(f"{v:.17g}" for v in values)])
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _report(job: Job, solver: Solver, tally: Tally, fingerprint: dict[str, Any], seconds: float) -> dict[str, Any]:
    """run.json: what was done, with what, and what came of it."""
    packages = ("numpy", "numba", "h5py", "isal", "xarray", "dask", "zarr", "rioxarray", "rasterio")
    from importlib.metadata import version

    unit = max(tally.valid, 1) * 2.0**30
    return {
        "hsichunk": hsichunk.__version__,
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in packages}},
        "options": job.options.as_dict(),
        "fingerprint": fingerprint,
        "inputs": inputs_of(job.site),
        "site": {"name": job.site.places[0].file.site, "epsg": job.site.grid.epsg, "shape": [job.site.rows, job.site.cols]},
        "bands": {"kept": len(job.bands), "of": len(job.site.wavelength)},
        "plan": job.plan.as_dict(),
        "stages": job.stages,
        "seconds": round(seconds, 3),
        "peak_memory": memory.peak(),
        "pixels": {"valid": tally.valid, "masked": tally.masked, "solved": tally.solved},
        "pass": {"chunks_decoded": tally.chunks, "bytes_decoded": tally.bytes},
        "fcls": {
            "pivots": tally.pivots,
            "most_pivots": tally.most_pivots,
            "fallbacks": tally.fallbacks,
            "worst_kkt": tally.worst_kkt,
        },
        "mean_abundance": dict(zip(solver.names, (a / unit for a in tally.abundance), strict=True)),
    }


