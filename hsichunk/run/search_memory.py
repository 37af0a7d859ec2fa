"""Compute the memory that a search over all pixels needs, from metadata alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hsichunk import schema
from hsichunk.array_types import Positions
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
LEAST = 8 * MB  # fewest bytes of spectra that are held at a time
STRIP = 28  # bytes a value of a strip: as stored, as float64 in three copies


@dataclass(frozen=True)
class Needs:
    """The memory of a search over all pixels, in bytes, and how often it decodes chunks."""

    spectra: int
    """memory for spectra that are read, and for scores"""
    peak: int
    """projected peak resident memory of the whole process"""
    decodes: int
    """times each chunk is decoded, at most"""


def needs(site: Site, bands: Positions, options: Options) -> Needs:
    """Return what the search over all pixels needs; of tiles that are searched one by one, the most that any needs.

    The memory for spectra is the least of all tiles. Raises HsiError, with its numbers, where the memory is too small.
    """
    parts = [needs_of(part, bands, options) for part in _parts(site, options)]
    return Needs(min(n.spectra for n in parts), max(n.peak for n in parts), max(n.decodes for n in parts))


def needs_of(site: Site, bands: Positions, options: Options) -> Needs:
    """Return what the search over all pixels of one site needs. Raises HsiError, with its numbers, as `needs` does."""
    k, count = options.k, len(bands)
    pixels, masked = site.rows * site.cols, len(options.mask) > 0
    owned = sum(window.shape[0] * window.shape[1] for tile in site.tiles for window in tile.owned)
    guarded = options.exclude is not None
    flags = pixels * (1 + masked + guarded)
    reading, least = to_read(site, count, options.threads)
    scores, image = 8 * pixels * (k - 1), pixels * count * itemsize(site)
    # of each pixel: its scores as a point, with a 1 before them, and as a start of the search; its number, and its
    # value along an axis
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
            f"({PROGRAM / MB:.0f} for the program, {flags / MB:.0f} for flags of the pixels, {reading / MB:.0f} and "
            f"{2 * least / MB:.0f} to read spectra or {search / MB:.0f} and {3 * least / 2 / MB:.0f} to search them); "
            f"give at least --memory {-(-peak // MB)}MB, or a smaller k, or leave out --refine"
        )
    available = options.memory - held

    def in_memory(spectra: int) -> int:
        """Return what is in memory while pixels are searched: the scores, and the whole image, where there is room."""
        return (scores if scores <= spectra else 0) + (image if 2 * image <= spectra else 0)

    spectra = (available - reading) // 2
    if in_memory(spectra) + search > available:
        spectra = min(spectra, 2 * (available - search) // 3)
    peak = held + max(reading + 2 * min(spectra, max(image, scores)), search + in_memory(spectra))
    with SpectraReader(cube_of(site, bands), spectra) as reader:
        # chunks that are decoded twice, for moments and for scores, are decoded for both again without the outliers
        return Needs(spectra, peak, 2 * reader.decodes if guarded and reader.decodes > 1 else reader.decodes)


def to_read(site: Site, bands: int, threads: int) -> tuple[int, int]:
    """Return the bytes that reading all spectra takes, and the fewest bytes of spectra that must be held besides."""
    stored, item = [tile.file.reflectance for tile in site.tiles], itemsize(site)
    strip = max(STRIP_PIXELS, site.cols) * bands * (STRIP + item)
    reading = strip + threads * 3 * max(array.chunk_bytes for array in stored) + 64 * bands * bands
    # a group of chunks on its way to the temporary file is a quarter of it, or one row of chunks
    return reading, max(LEAST, *(4 * a.chunks[0] * a.shape[1] * a.chunks[2] * item for a in stored))


def itemsize(site: Site) -> int:
    """Return the bytes of a stored value, the most of any tile."""
    return max(tile.file.reflectance.dtype.itemsize for tile in site.tiles)


def cube_of(site: Site, bands: Positions) -> xr.DataArray:
    """Return the lazy cube of a site in the kept bands; of one whole tile, the cube of that tile."""
    from hsichunk.cube.cleaning import clean

    dataset = as_dataset(site, None).isel({schema.WAVELENGTH: bands})
    if not site.grid.north_up:  # y counts rows, which grow downwards: the attributes of a northing go
        dataset = dataset.assign_coords({schema.Y: (schema.Y, dataset[schema.Y].values)})
    return clean(dataset, windows=(), drop_last=0)


def _parts(site: Site, options: Options) -> list[Site]:
    """Return the sites that are searched one by one."""
    return [alone(tile) for tile in site.tiles] if options.per_tile else [site]


def alone(tile: PlacedTile) -> Site:
    """Return a tile as a site of its own, without the pixels that belong to another tile."""
    rows, cols, _ = tile.file.reflectance.shape
    return Site((replace(tile, top=0, left=0),), tile.file.grid, rows, cols)
