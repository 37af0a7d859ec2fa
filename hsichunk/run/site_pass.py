"""The pass over all tiles: what is left to do, done here or on a cluster, and noted in the ledger."""

from __future__ import annotations

from hsichunk.chunks.array import DECODED
from hsichunk.run.job import Job
from hsichunk.run.ledger import Entry
from hsichunk.run.product_store import class_limits
from hsichunk.run.progress import ticking
from hsichunk.run.window_task import Stint, Work, windows, work_off
from hsichunk.unmixing.scoring import Tally
from hsichunk.unmixing.solver import Solver


def work_of(job: Job, solvers: tuple[Solver, ...]) -> Work:
    """What all stints of a job have in common."""
    plan = job.plan
    return Work(
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


def stints(job: Job) -> tuple[list[Stint], Tally]:
    """Every window of every tile, with what the ledger says of it; and what came of the rows that are done."""
    tally, done = Tally(), {}
    for entry in job.ledger.entries():
        done[entry.tile, entry.window] = entry.bottom
        tally.add(entry.tally)
    out = []
    for tile, place in enumerate(job.site.places):
        counts = place.counts(job.bands)
        for number, window in enumerate(windows(place, counts)):
            out.append(Stint(tile, number, place, counts, window, done.get((tile, number), window.top)))
    return out, tally


def run_pass(job: Job, solvers: tuple[Solver, ...]) -> Tally:
    """Does what is left; gives back what all of it came to."""
    todo, tally = stints(job)
    work, rows = work_of(job, solvers), job.plan.pass_rows
    whole = sum(stint.to_decode(stint.window.top, rows) for stint in todo)
    left = sum(stint.to_decode(stint.start, rows) for stint in todo)
    todo = [stint for stint in todo if stint.left]
    if job.cluster is not None:
        _on_cluster(job, work, todo, tally, whole, whole - left)
    else:
        _here(job, work, todo, tally, whole, whole - left)
    job.progress("pass", whole, whole)
    return tally


def _here(job: Job, work: Work, todo: list[Stint], tally: Tally, whole: int, done: int) -> None:
    job.kept.close()
    before = DECODED.now()[1] + job.kept.bytes

    def tell() -> None:
        job.progress("pass", min(done + DECODED.now()[1] + job.kept.bytes - before, whole), whole)

    tell()
    with ticking(tell):
        for stint in todo:

            def note(bottom: int, share: Tally, stint: Stint = stint) -> None:
                job.ledger.add(Entry(stint.tile, stint.number, bottom, share))

            tally.add(work_off(work, stint, job.options.threads, note))
    job.kept.close(0)


def _on_cluster(job: Job, work: Work, todo: list[Stint], tally: Tally, whole: int, done: int) -> None:
    from hsichunk.run import cluster

    assert job.cluster is not None
    job.progress("pass", done, whole)
    errands = [cluster.errand(stint) for stint in todo]
    for number, entries in job.cluster.each(cluster.work_errand, work, errands):
        stint = todo[number]
        for bottom, share in entries:
            job.ledger.add(Entry(stint.tile, stint.number, bottom, share))
            tally.add(share)
        done += stint.to_decode(stint.start, work.pass_rows)
        job.progress("pass", min(done, whole), whole)
