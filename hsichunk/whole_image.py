"""N-FINDR over all pixels of a run's tiles, `--refine`: as `nfindr(..., refine=True)` of their mosaic finds them.

In this process, on a cluster too. What it holds is told from metadata, as the plan of the pass is, and what is left of
the memory goes to spectra and scores; it decides on how often chunks are decoded and what goes through temporary files,
never on what is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.array import DECODED
from hsichunk.cube.spectra_reader import STRIP_PIXELS, Spectra
from hsichunk.endmembers.nfindr_all_pixels import DIRECTIONS, MOST_SEARCHED, SMALL_BLOCK, Refined, refined
from hsichunk.endmembers.outliers import HELD
from hsichunk.errors import HsiError
from hsichunk.job import Job, to_decode
from hsichunk.mosaic.bad_chunks import without_bad_chunks
from hsichunk.mosaic.mosaic import as_dataset
from hsichunk.mosaic.site import Place, Site
from hsichunk.options import Options
from hsichunk.plan import MB, SEARCHING, XARRAY
from hsichunk.progress import ticking

if TYPE_CHECKING:
    import xarray as xr

PROGRAM = SEARCHING + XARRAY
LEAST = 8 * MB  # of spectra, held at a time
STRIP = 28  # bytes a value of a strip: as stored, as float64 in three copies


@dataclass(frozen=True)
class Needs:
    """What the search holds, in bytes."""

    spectra: int
    """for spectra that are read, and for scores"""
    peak: int
    """projected peak resident memory of the whole process"""
    decodes: int
    """times each chunk is decoded at most"""


def needs(site: Site, bands: NDArray[np.intp], options: Options) -> Needs:
    """What the search over all pixels will hold. Raises HsiError, with its numbers, when its memory cannot hold it.

    Of tiles that are searched one by one, the largest of each.
    """
    parts = [_needs(part, bands, options) for part in _parts(site, options)]
    return Needs(min(n.spectra for n in parts), max(n.peak for n in parts), max(n.decodes for n in parts))


def _needs(site: Site, bands: NDArray[np.intp], options: Options) -> Needs:
    k, count = options.k, len(bands)
    pixels, masked = site.rows * site.cols, len(options.mask) > 0
    owned = sum(window.shape[0] * window.shape[1] for place in site.places for window in place.owned)
    guarded = options.exclude is not None
    flags = pixels * (1 + masked + guarded)
    reading, least = to_read(site, count, options.threads)
    scores, whole = 8 * pixels * (k - 1), pixels * count * itemsize(site)
    # as points, with a 1 before them, and as a start of the search; the number of each, and what is found along an axis
    searched = min(owned, max(options.sample, MOST_SEARCHED // k))
    search = 8 * searched * (3 * k + 3)
    if owned * k > MOST_SEARCHED:
        search = max(search, 16 * options.threads * SMALL_BLOCK * (DIRECTIONS + k))
    if guarded:
        search = max(search, HELD * owned)
    held = PROGRAM + flags
    peak = held + max(reading + 2 * least, search + 3 * least // 2)
    if peak > options.memory:
        raise HsiError(
            f"--memory {options.memory / MB:.0f}MB cannot hold a search of all {pixels} pixels, {-(-peak // MB)} MB "
            f"({PROGRAM / MB:.0f} the program, {flags / MB:.0f} which pixels hold data, {reading / MB:.0f} and "
            f"{2 * least / MB:.0f} to read them or {search / MB:.0f} and {3 * least / 2 / MB:.0f} to search them); "
            f"give at least --memory {-(-peak // MB)}MB, or a smaller k, or leave out --refine"
        )
    left = options.memory - held

    def kept(spectra: int) -> int:
        """What is in memory while pixels are searched: the scores, and the whole image, where there is room."""
        return (scores if scores <= spectra else 0) + (whole if 2 * whole <= spectra else 0)

    spectra = (left - reading) // 2
    if kept(spectra) + search > left:
        spectra = min(spectra, 2 * (left - search) // 3)
    peak = held + max(reading + 2 * min(spectra, max(whole, scores)), search + kept(spectra))
    with Spectra(cube_of(site, bands), spectra) as read:
        # what is decoded twice, for moments and scores, is decoded for both once more without the outliers
        return Needs(spectra, peak, 2 * read.decodes if guarded and read.decodes > 1 else read.decodes)


def to_read(site: Site, bands: int, threads: int) -> tuple[int, int]:
    """Bytes that going through all spectra holds beside those that are kept, and the fewest that must be kept."""
    stored, item = [place.file.reflectance for place in site.places], itemsize(site)
    strip = max(STRIP_PIXELS, site.cols) * bands * (STRIP + item)
    reading = strip + threads * 3 * max(array.chunk_bytes for array in stored) + 64 * bands * bands
    # a group of chunks on its way to the temporary file is a quarter of it, or one row of chunks
    return reading, max(LEAST, *(4 * a.chunks[0] * a.shape[1] * a.chunks[2] * item for a in stored))


def itemsize(site: Site) -> int:
    """Bytes of a stored value, the most of any tile."""
    return max(place.file.reflectance.dtype.itemsize for place in site.places)


def find(job: Job, tile: int | None = None) -> xr.DataArray:
    """Endmembers of all pixels, or of those of one tile: reflectance (endmember, wavelength), as `nfindr` gives them.

    Notes the stage, and under "endmembers" what the search came to. Raises HsiError for fewer than k valid pixels and
    where they span too few dimensions.
    """
    import dask

    from hsichunk.endmembers.nfindr import of_pixels

    options = job.options
    site = job.site if tile is None else _alone(job.site.places[tile])
    need = _needs(site, job.bands, options)
    whole, before = need.decodes * to_decode(site, job.bands)[1], DECODED.now()[1]

    def tell() -> None:
        job.progress("refine", min(DECODED.now()[1] - before, whole), whole)

    sweeps = 3 * options.k if options.maxit is None else options.maxit
    with ticking(tell), _naming(site, tile), dask.config.set(num_workers=options.threads):
        with job.stage("refine"):
            left_out = _left_out(job, site)
        if options.on_error == "mask":
            site = without_bad_chunks(site)
        with Spectra(cube_of(site, job.bands), need.spectra, left_out) as spectra:
            with job.stage("refine"):
                found = refined(
                    spectra, options.k, sample=options.sample, seed=options.seed, maxit=sweeps, exclude=options.exclude
                )
            with job.stage("endmembers"):
                em = of_pixels(spectra, found.pixels, found.attrs(options.seed))
    job.progress("refine", whole, whole)
    _note(job.stages["endmembers"], found, guarded=options.exclude is not None)
    return em


@contextlib.contextmanager
def _naming(site: Site, tile: int | None) -> Iterator[None]:
    """Errors about the one tile of some that is searched alone name it."""
    path = site.places[0].file.path
    try:
        yield
    except HsiError as error:
        if tile is None or path in str(error):
            raise
        raise HsiError(f"{path}: {error}") from error


def _note(stage: dict[str, float], found: Refined, *, guarded: bool) -> None:
    """What the search came to: of tiles searched one by one the sum, and certified where all are."""
    for name, value in {**found.numbers, **({"excluded": found.excluded} if guarded else {})}.items():
        both = min(stage.get(name, 1), value) if name in ("certified", "converged") else stage.get(name, 0) + value
        stage[name] = both


def cube_of(site: Site, bands: NDArray[np.intp]) -> xr.DataArray:
    """The cube of tiles on their grid, lazy: of one whole tile that of the tile alone."""
    from hsichunk.cube.cleaning import clean

    tile = as_dataset(site, None).isel({schema.WAVELENGTH: bands})
    if not site.grid.north_up:  # rows are counted: they grow downwards
        tile = tile.assign_coords({schema.Y: (schema.Y, tile[schema.Y].values)})
    return clean(tile, windows=(), drop_last=0)


def _parts(site: Site, options: Options) -> list[Site]:
    return [_alone(place) for place in site.places] if options.per_tile else [site]


def _alone(place: Place) -> Site:
    """A tile as a site of its own, less the pixels that are another's."""
    rows, cols, _ = place.file.reflectance.shape
    return Site((replace(place, top=0, left=0),), place.file.grid, rows, cols)


def _left_out(job: Job, site: Site) -> NDArray[np.bool_] | None:
    """Which pixels (y, x) the masks leave out."""
    if job.masks is None:
        return None
    out = np.zeros((site.rows, site.cols), np.bool_)
    for place in site.places:
        for window in place.owned:
            flags = job.masks.within(place.file, window, job.options.threads, job.options.on_error == "mask")
            top, left = place.top + window.top, place.left + window.left
            out[top : top + flags.shape[0], left : left + flags.shape[1]] = flags != 0
    return out
