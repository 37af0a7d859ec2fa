"""N-FINDR over all pixels of a run's tiles, `--refine`: as `nfindr(..., refine=True)` of their mosaic finds them.

In this process, on a cluster too. What it holds is told from metadata, as the plan of the pass is, and what is left of
the memory goes to spectra and scores; it decides on how often chunks are decoded and what goes through temporary files,
never on what is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import DECODED
from hsichunk.cube.spectra_reader import SpectraReader
from hsichunk.endmembers.nfindr_all_pixels import refined
from hsichunk.errors import HsiError
from hsichunk.mosaic.bad_chunks import without_bad_chunks
from hsichunk.mosaic.site import Site
from hsichunk.run.job import Job
from hsichunk.run.make_plan import to_decode
from hsichunk.run.progress import ticking
from hsichunk.run.search_memory import alone, cube_of, needs_of

if TYPE_CHECKING:
    import xarray as xr


def find(job: Job, tile: int | None = None) -> xr.DataArray:
    """Endmembers of all pixels, or of those of one tile: reflectance (endmember, wavelength), as `nfindr` gives them.

    Notes the stage, and under "endmembers" what the search came to. Raises HsiError for fewer than k valid pixels and
    where they span too few dimensions.
    """
    import dask

    from hsichunk.endmembers.nfindr import of_pixels

    options = job.options
    site = job.site if tile is None else alone(job.site.tiles[tile])
    need = needs_of(site, job.bands, options)
    whole, before = need.decodes * to_decode(site, job.bands)[1], DECODED.now()[1]

    def tell() -> None:
        job.progress("refine", min(DECODED.now()[1] - before, whole), whole)

    sweeps = 3 * options.k if options.maxit is None else options.maxit
    with ticking(tell), _naming(site, tile), dask.config.set(num_workers=options.threads):
        with job.stage("refine"):
            left_out = _left_out(job, site)
        if options.on_error == "mask":
            site = without_bad_chunks(site)
        with SpectraReader(cube_of(site, job.bands), need.spectra, left_out) as spectra:
            with job.stage("refine"):
                found = refined(
                    spectra, options.k, sample=options.sample, seed=options.seed, maxit=sweeps, exclude=options.exclude
                )
            with job.stage("endmembers"):
                em = of_pixels(spectra, found.pixels, found.attrs(options.seed))
    job.progress("refine", whole, whole)
    job.note_search(**found.numbers)
    if options.exclude is not None:
        job.note_search(excluded=found.excluded)
    return em


@contextlib.contextmanager
def _naming(site: Site, tile: int | None) -> Iterator[None]:
    """Errors about the one tile of some that is searched alone name it."""
    path = site.tiles[0].file.path
    try:
        yield
    except HsiError as error:
        if tile is None or path in str(error):
            raise
        raise HsiError(f"{path}: {error}") from error


def _left_out(job: Job, site: Site) -> NDArray[np.bool_] | None:
    """Which pixels (y, x) the masks leave out."""
    if job.masks is None:
        return None
    out = np.zeros((site.rows, site.cols), np.bool_)
    for place in site.tiles:
        for window in place.owned:
            flags = job.masks.within(place.file, window, job.options.threads, job.options.on_error == "mask")
            top, left = place.top + window.top, place.left + window.left
            out[top : top + flags.shape[0], left : left + flags.shape[1]] = flags != 0
    return out
