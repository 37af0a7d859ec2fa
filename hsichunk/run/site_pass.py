"""Run the pass over all tiles: find what is left to do, do it here or on a cluster, and note it in the ledger."""

from __future__ import annotations

from hsichunk.chunks.array import DECODED
from hsichunk.run.job import Job
from hsichunk.run.ledger import Entry
from hsichunk.run.product_store import class_limits
from hsichunk.run.progress import ticking
from hsichunk.run.window_task import PassSettings, WindowTask, run_window, windows_of
from hsichunk.unmixing.scoring import Tally
from hsichunk.unmixing.solver import Solver


def pass_settings(job: Job, solvers: tuple[Solver, ...]) -> PassSettings:
    """Return what all windows of a job have in common."""
    plan = job.plan
    return PassSettings(
        store=job.ledger.store.absolute(),
        bands=job.bands,
        solvers=solvers,
        limits=class_limits(job.options),
        masks=job.masks,
        corrupt=job.options.on_error == "mask",
        pass_rows=plan.pass_rows,
        strip_rows=plan.strip_rows,
        together=plan.together,
    )


def window_tasks(job: Job) -> tuple[list[WindowTask], Tally]:
    """Return every window of every tile, each with the row it is stored up to, and the tally of the stored rows."""
    tally, stored = Tally(), {}
    for entry in job.ledger.entries():
        stored[entry.tile, entry.window] = entry.bottom
        tally.add(entry.tally)
    tasks = []
    for tile_number, tile in enumerate(job.site.tiles):
        counts = tile.counts(job.bands)
        for number, window in enumerate(windows_of(tile, counts)):
            start = stored.get((tile_number, number), window.top)
            tasks.append(WindowTask(tile_number, number, tile, counts, window, start))
    return tasks, tally


def run_pass(job: Job, solvers: tuple[Solver, ...]) -> Tally:
    """Process all windows that are not stored, and return the tally of the whole site."""
    tasks, tally = window_tasks(job)
    settings, rows = pass_settings(job, solvers), job.plan.pass_rows
    total = sum(task.to_decode(task.window.top, rows) for task in tasks)
    remaining = sum(task.to_decode(task.start, rows) for task in tasks)
    tasks = [task for task in tasks if task.unfinished]
    if job.cluster is not None:
        _on_cluster(job, settings, tasks, tally, total, total - remaining)
    else:
        _here(job, settings, tasks, tally, total, total - remaining)
    job.progress("pass", total, total)
    return tally


def _here(job: Job, settings: PassSettings, tasks: list[WindowTask], tally: Tally, total: int, done: int) -> None:
    """Process windows in this process and add to `tally`; an earlier attempt has decoded `done` of `total` bytes."""
    job.kept.close()
    before = DECODED.now()[1] + job.kept.bytes

    def tell() -> None:
        job.progress("pass", min(done + DECODED.now()[1] + job.kept.bytes - before, total), total)

    tell()
    with ticking(tell):
        for task in tasks:

            def note(bottom: int, rows_tally: Tally, task: WindowTask = task) -> None:
                job.ledger.add(Entry(task.tile_number, task.number, bottom, rows_tally))

            tally.add(run_window(settings, task, job.options.threads, note))
    job.kept.close(0)


def _on_cluster(job: Job, settings: PassSettings, tasks: list[WindowTask], tally: Tally, total: int, done: int) -> None:
    """Process windows on the job's cluster and add to `tally`, as `_here` does."""
    from hsichunk.run import cluster

    assert job.cluster is not None
    job.progress("pass", done, total)
    worker_tasks = [cluster.worker_task(task) for task in tasks]
    for number, entries in job.cluster.each(cluster.run_worker_task, settings, worker_tasks):
        task = tasks[number]
        for bottom, rows_tally in entries:
            job.ledger.add(Entry(task.tile_number, task.number, bottom, rows_tally))
            tally.add(rows_tally)
        done += task.to_decode(task.start, settings.pass_rows)
        job.progress("pass", min(done, total), total)
