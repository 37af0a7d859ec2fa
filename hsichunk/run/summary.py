"""run.json: what was done, with what, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hsichunk import memory, schema
from hsichunk.unmixing.scoring import ABUNDANCE_UNIT, Tally
from hsichunk.version import __version__

if TYPE_CHECKING:
    from hsichunk.run.job import Job

PACKAGES = ("numpy", "numba", "h5py", "deflate", "xarray", "dask", "zarr", "rioxarray", "rasterio")


def summary(job: Job, names: Sequence[str], tally: Tally, seconds: float) -> dict[str, Any]:
    """Plain values, ready for JSON. Of a resumed run seconds, stages and memory are those of the last attempt."""
    grid = job.site.grid
    unit = max(tally.valid, 1) * ABUNDANCE_UNIT
    return {
        "hsichunk": __version__,
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}},
        "options": {**job.options.as_dict(), "k": job.ledger.fingerprint["k"]},  # as asked for
        "fingerprint": job.ledger.fingerprint,
        "inputs": job.ledger.fingerprint["inputs"],
        "site": {
            "name": job.site.places[0].file.site,
            "crs": f"EPSG:{grid.epsg}" if grid.epsg else grid.wkt,
            "shape": [job.site.rows, job.site.cols],
        },
        "bands": {"kept": len(job.bands), "of": len(job.site.wavelength)},
        "plan": job.plan.as_dict(),
        "resumed": job.resumed,
        "cluster": {"workers": job.cluster.workers, "threads": job.cluster.threads} if job.cluster else None,
        "stages": job.stages,
        "seconds": seconds,
        "peak_memory": memory.peak(),
        "pixels": {"valid": tally.valid, "masked": tally.masked, "solved": tally.solved},
        "masks": _masks(job, tally),
        "bad_chunks": tally.bad,
        "skipped": [{"path": path, "reason": reason} for path, reason in job.site.skipped],
        "pass": {"chunks": tally.chunks, "bytes": tally.bytes},
        job.options.solver: _solved(job, tally),
        "mean_abundance": dict(zip(names, (a / unit for a in tally.abundance), strict=True)),
    }


def _solved(job: Job, tally: Tally) -> dict[str, Any]:
    """How the solver went, under its own name."""
    counts = {"pivots": tally.pivots, "most_pivots": tally.most_pivots, "fallbacks": tally.fallbacks}
    return {**(counts if job.options.solver == schema.FCLS else {}), "worst_kkt": tally.worst_kkt}


def _masks(job: Job, tally: Tally) -> dict[str, float]:
    """The share of the image that each mask leaves out; a pixel may fall under several."""
    names = job.masks.names if job.masks else ()
    pixels = max(tally.valid + tally.masked, 1)
    counts = [*tally.flagged, *[0] * len(names)]
    return {name: count / pixels for name, count in zip(names, counts, strict=False)}
