"""Make the record of a finished run from its job and the tally of its pass."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from hsichunk import memory, schema
from hsichunk.run.record import (
    BandCount,
    Certificate,
    ClusterSize,
    DecodedChunks,
    MapExtent,
    PixelCounts,
    RunRecord,
    SkippedTile,
)
from hsichunk.unmixing.scoring import ABUNDANCE_UNIT, Tally
from hsichunk.version import __version__

if TYPE_CHECKING:
    from hsichunk.run.job import Job

PACKAGES = ("numpy", "numba", "h5py", "deflate", "xarray", "dask", "zarr", "rioxarray", "rasterio")


def summary(job: Job, names: Sequence[str], tally: Tally, seconds: float) -> RunRecord:
    """Return the record of a job. Of a resumed run seconds, stages and memory are those of the last attempt."""
    grid, cluster = job.site.grid, job.cluster
    unit = max(tally.valid, 1) * ABUNDANCE_UNIT
    asked_k = job.ledger.fingerprint["k"]
    assert isinstance(asked_k, int)
    return RunRecord(
        hsichunk=__version__,
        versions={"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}},
        options=replace(job.options, k=asked_k),  # the job's k is what the search found
        fingerprint=job.ledger.fingerprint,
        inputs=job.inputs,
        site=MapExtent(
            name=job.site.tiles[0].file.site,
            crs=f"EPSG:{grid.epsg}" if grid.epsg else grid.wkt,
            shape=(job.site.rows, job.site.cols),
        ),
        bands=BandCount(kept=len(job.bands), of=len(job.site.wavelength)),
        plan=job.plan,
        resumed=job.resumed,
        cluster=ClusterSize(workers=cluster.workers, threads=cluster.threads) if cluster else None,
        stages=job.stages,
        seconds=seconds,
        peak_memory=memory.peak(),
        pixels=PixelCounts(valid=tally.valid, masked=tally.masked, solved=tally.solved),
        masks=_masks(job, tally),
        bad_chunks=tuple(tuple(coords) for coords in tally.bad),
        skipped=tuple(SkippedTile(path=path, reason=reason) for path, reason in job.site.skipped),
        pass_=DecodedChunks(chunks=tally.chunks, bytes=tally.bytes),
        fcls=_certificate(schema.FCLS, job, tally),
        nnls=_certificate(schema.NNLS, job, tally),
        ucls=_certificate(schema.UCLS, job, tally),
        mean_abundance=dict(zip(names, (a / unit for a in tally.abundance), strict=True)),
    )


def _certificate(solver: str, job: Job, tally: Tally) -> Certificate | None:
    """Return the certificate of a solver; None where the job used another one."""
    if solver != job.options.solver:
        return None
    if solver != schema.FCLS:
        return Certificate(worst_kkt=tally.worst_kkt)
    return Certificate(
        pivots=tally.pivots, most_pivots=tally.most_pivots, fallbacks=tally.fallbacks, worst_kkt=tally.worst_kkt
    )


def _masks(job: Job, tally: Tally) -> dict[str, float]:
    """Return the share of the pixels that lie under each mask; a pixel may lie under several."""
    names = job.masks.names if job.masks else ()
    pixels = max(tally.valid + tally.masked, 1)
    counts = [*tally.flagged, *[0] * len(names)]
    return {name: count / pixels for name, count in zip(names, counts, strict=False)}
