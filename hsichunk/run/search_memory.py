"""What a search of all pixels needs of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.cube.spectra_reader import STRIP_PIXELS, SpectraReader
from hsichunk.endmembers.nfindr_all_pixels import DIRECTIONS, MOST_SEARCHED, SMALL_BLOCK
from hsichunk.endmembers.outliers import HELD
from hsichunk.errors import HsiError
from hsichunk.mosaic.mosaic import as_dataset
from hsichunk.mosaic.site import PlacedTile, Site
from hsichunk.run.options import Options
from hsichunk.run.plan import MB, SEARCHING, XARRAY

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
    parts = [needs_of(part, bands, options) for part in _parts(site, options)]
    return Needs(min(n.spectra for n in parts), max(n.peak for n in parts), max(n.decodes for n in parts))


def needs_of(site: Site, bands: NDArray[np.intp], options: Options) -> Needs:
    k, count = options.k, len(bands)
    pixels, masked = site.rows * site.cols, len(options.mask) > 0
    owned = sum(window.shape[0] * window.shape[1] for place in site.tiles for window in place.owned)
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
    with SpectraReader(cube_of(site, bands), spectra) as read:
        # what is decoded twice, for moments and scores, is decoded for both once more without the outliers
        return Needs(spectra, peak, 2 * read.decodes if guarded and read.decodes > 1 else read.decodes)


def to_read(site: Site, bands: int, threads: int) -> tuple[int, int]:
    """Bytes that going through all spectra holds beside those that are kept, and the fewest that must be kept."""
    stored, item = [place.file.reflectance for place in site.tiles], itemsize(site)
    strip = max(STRIP_PIXELS, site.cols) * bands * (STRIP + item)
    reading = strip + threads * 3 * max(array.chunk_bytes for array in stored) + 64 * bands * bands
    # a group of chunks on its way to the temporary file is a quarter of it, or one row of chunks
    return reading, max(LEAST, *(4 * a.chunks[0] * a.shape[1] * a.chunks[2] * item for a in stored))


def itemsize(site: Site) -> int:
    """Bytes of a stored value, the most of any tile."""
    return max(place.file.reflectance.dtype.itemsize for place in site.tiles)


def cube_of(site: Site, bands: NDArray[np.intp]) -> xr.DataArray:
    """The cube of tiles on their grid, lazy: of one whole tile that of the tile alone."""
    from hsichunk.cube.cleaning import clean

    tile = as_dataset(site, None).isel({schema.WAVELENGTH: bands})
    if not site.grid.north_up:  # rows are counted: they grow downwards
        tile = tile.assign_coords({schema.Y: (schema.Y, tile[schema.Y].values)})
    return clean(tile, windows=(), drop_last=0)


def _parts(site: Site, options: Options) -> list[Site]:
    return [alone(place) for place in site.tiles] if options.per_tile else [site]


def alone(place: PlacedTile) -> Site:
    """A tile as a site of its own, less the pixels that are another's."""
    rows, cols, _ = place.file.reflectance.shape
    return Site((replace(place, top=0, left=0),), place.file.grid, rows, cols)
