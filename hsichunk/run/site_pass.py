"""The pass over all tiles: what is left to do, done here or on a cluster, and noted in the ledger."""

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
    """What all windows of a job have in common."""
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
    """Every window of every tile, with what the ledger says of it; and what came of the rows that are done."""
    tally, done = Tally(), {}
    for entry in job.ledger.entries():
        done[entry.tile, entry.window] = entry.bottom
        tally.add(entry.tally)
    out = []
    for tile, place in enumerate(job.site.tiles):
        counts = place.counts(job.bands)
        for number, window in enumerate(windows_of(place, counts)):
            out.append(WindowTask(tile, number, place, counts, window, done.get((tile, number), window.top)))
    return out, tally


def run_pass(job: Job, solvers: tuple[Solver, ...]) -> Tally:
    """Does what is left; gives back what all of it came to."""
    todo, tally = window_tasks(job)
    settings, rows = pass_settings(job, solvers), job.plan.pass_rows
    whole = sum(task.to_decode(task.window.top, rows) for task in todo)
    left = sum(task.to_decode(task.start, rows) for task in todo)
    todo = [task for task in todo if task.left]
    if job.cluster is not None:
        _on_cluster(job, settings, todo, tally, whole, whole - left)
    else:
        _here(job, settings, todo, tally, whole, whole - left)
    job.progress("pass", whole, whole)
    return tally


def _here(job: Job, settings: PassSettings, todo: list[WindowTask], tally: Tally, whole: int, done: int) -> None:
    job.kept.close()
    before = DECODED.now()[1] + job.kept.bytes

    def tell() -> None:
        job.progress("pass", min(done + DECODED.now()[1] + job.kept.bytes - before, whole), whole)

    tell()
    with ticking(tell):
        for task in todo:

            def note(bottom: int, share: Tally, task: WindowTask = task) -> None:
                job.ledger.add(Entry(task.tile, task.number, bottom, share))

            tally.add(run_window(settings, task, job.options.threads, note))
    job.kept.close(0)


def _on_cluster(job: Job, settings: PassSettings, todo: list[WindowTask], tally: Tally, whole: int, done: int) -> None:
    from hsichunk.run import cluster

    assert job.cluster is not None
    job.progress("pass", done, whole)
    tasks = [cluster.worker_task(task) for task in todo]
    for number, entries in job.cluster.each(cluster.run_worker_task, settings, tasks):
        task = todo[number]
        for bottom, share in entries:
            job.ledger.add(Entry(task.tile, task.number, bottom, share))
            tally.add(share)
        done += task.to_decode(task.start, settings.pass_rows)
        job.progress("pass", min(done, whole), whole)
