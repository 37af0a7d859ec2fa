"""N-FINDR over all pixels of a run's tiles (`--refine`), with the result of `nfindr(..., refine=True)` of their mosaic.

The search runs in this process, also where a cluster does the pass. The memory that it needs is computed from metadata,
as the plan of the pass is; spectra and scores get the rest of the memory. The memory decides how often chunks are
decoded and what goes through temporary files, never which endmembers are found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hsichunk.array_types import Bools
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


def find(job: Job, number: int | None = None) -> xr.DataArray:
    """Find endmembers among all pixels, or among those of the tile with this number.

    Returns reflectance (endmember, wavelength), as `nfindr` does. Notes the stages, and the numbers of the search under
    "endmembers". Raises HsiError for fewer than k valid pixels and where they span too few dimensions.
    """
    import dask

    from hsichunk.endmembers.nfindr import of_pixels

    options = job.options
    site = job.site if number is None else alone(job.site.tiles[number])
    need = needs_of(site, job.bands, options)
    total, before = need.decodes * to_decode(site, job.bands)[1], DECODED.now()[1]

    def tell() -> None:
        job.progress("refine", min(DECODED.now()[1] - before, total), total)

    sweeps = 3 * options.k if options.maxit is None else options.maxit
    with ticking(tell), _naming(site, number), dask.config.set(num_workers=options.threads):
        with job.stage("refine"):
            left_out = _left_out(job, site)
        if options.on_error == "mask":
            site = without_bad_chunks(site)
        with SpectraReader(cube_of(site, job.bands), need.spectra, left_out) as spectra:
            with job.stage("refine"):
                refined_simplex = refined(
                    spectra, options.k, sample=options.sample, seed=options.seed, maxit=sweeps, exclude=options.exclude
                )
            with job.stage("endmembers"):
                em = of_pixels(spectra, refined_simplex.pixels, refined_simplex.attrs(options.seed))
    job.progress("refine", total, total)
    job.note_search(**refined_simplex.numbers)
    if options.exclude is not None:
        job.note_search(excluded=refined_simplex.excluded)
    return em


@contextlib.contextmanager
def _naming(site: Site, number: int | None) -> Iterator[None]:
    """Put the path of the tile into errors of the block, where several tiles are searched one by one."""
    path = site.tiles[0].file.path
    try:
        yield
    except HsiError as error:
        if number is None or path in str(error):
            raise
        raise HsiError(f"{path}: {error}") from error


def _left_out(job: Job, site: Site) -> Bools | None:
    """Return which pixels (y, x) the masks leave out; None without masks."""
    if job.masks is None:
        return None
    left_out = np.zeros((site.rows, site.cols), np.bool_)
    for tile in site.tiles:
        for window in tile.owned:
            flags = job.masks.within(tile.file, window, job.options.threads, job.options.on_error == "mask")
            top, left = tile.top + window.top, tile.left + window.left
            left_out[top : top + flags.shape[0], left : left + flags.shape[1]] = flags != 0
    return left_out
