"""Many tiles as one lazy dataset: `hsi.open_mosaic`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from hsichunk import schema
from hsichunk.chunks.windows import Window
from hsichunk.memory import BLOCK_BYTES
from hsichunk.mosaic.site import Site, open_site
from hsichunk.mosaic.tiled_counts import TiledCounts, blocks_of, cut_at, on_grid, on_tile
from hsichunk.readers import provenance
from hsichunk.readers.labelled_cube import cube_coords, described, reflectance_attrs, with_grid
from hsichunk.readers.lazy_arrays import LazyArray


def open_mosaic(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    chunks: Mapping[str, Any] | str | None = "tiles",
) -> xr.Dataset:
    """Opens many NEON tiles as one Dataset on their common grid; reads their metadata, none of their pixels.

    Returns what `open_tile` does, its ancillary layers aside: `reflectance(y, x, wavelength)` in counts as stored, the
    no-data value where no tile lies; `wavelength`, `fwhm` in nm; `y`, `x` pixel centres in metres; `spatial_ref`;
    attributes that all tiles share. Where tiles overlap the first by file name counts, whatever the order of `paths`.
    `chunks`: "tiles" for dask blocks that keep within tiles and share no stored chunk; None for none, as open_tile;
    else what `Dataset.chunk` takes. `unmix` works tile by tile whatever they are, and gives the same bits as
    `hsichunk run` over the same tiles. Raises HsiError for tiles of different CRS, pixel size, wavelengths, bad-band
    windows or scale, and for grids that do not align.
    """
    return as_dataset(open_site([paths] if isinstance(paths, (str, os.PathLike)) else paths), chunks)


def as_dataset(site: Site, chunks: Mapping[str, Any] | str | None) -> xr.Dataset:
    """The Dataset of tiles on their grid, as `open_mosaic` gives it."""
    counts, first = TiledCounts(site), site.tiles[0].file
    # one tile is read as it is stored where nothing asks for blocks of many
    alone = chunks is None and first.reflectance.shape == counts.shape and len(site.tiles) == 1
    alone = alone and site.tiles[0].owned == (Window(0, site.rows, 0, site.cols),)
    shared = _shared([place.file.attrs for place in site.tiles])
    attrs = reflectance_attrs(first, counts.no_data, shared)
    dims = (schema.Y, schema.X, schema.WAVELENGTH)
    encoding = {"preferred_chunks": dict(zip(dims, counts.chunks, strict=True))}
    stored = first.reflectance if alone else counts
    variable = xr.Variable(dims, indexing.LazilyIndexedArray(LazyArray(stored)), attrs, encoding)
    if chunks == "tiles":
        variable = variable.chunk(dict(zip(dims, _blocks(counts), strict=True)))
    elif chunks is not None:
        variable = variable.chunk(chunks)
    coords = cube_coords(first, site.grid, site.rows, site.cols)
    mosaic = with_grid(xr.Dataset({schema.REFLECTANCE: variable}, coords), site.grid)
    return described(mosaic, first, site.grid, _chunk_words(site), len(site.tiles))


def _chunk_words(site: Site) -> dict[str, str]:
    """How the tiles are stored, where there are no more than two ways."""
    tiles = [place.file.reflectance for place in site.tiles]
    ways = list(dict.fromkeys(provenance.chunk_words(tile.stored_chunks, tile.dtype) for tile in tiles))
    return {provenance.CHUNKS: " and ".join(ways) if len(ways) <= 2 else f"{ways[0]} and {len(ways) - 1} other ways"}


def _shared(attrs: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes that all tiles have, of the same value; NEON's extent is each tile's own."""
    first, *others = attrs
    return {
        name: value
        for name, value in first.items()
        if all(name in other and np.array_equal(other[name], value) for other in others)
    }


def _blocks(counts: TiledCounts) -> tuple[tuple[int, ...], ...]:
    """Sizes of dask blocks that keep within tiles: whole spectra where that is cheap, else some bands of a column."""
    rows, cols, bands = counts.shape
    everything = Window(0, rows, 0, cols)
    columns = [math.prod(place.file.reflectance.chunks[:2]) for place in counts.tiles]
    depth = bands
    side = max(1, math.isqrt(BLOCK_BYTES // (bands * 4)))
    if max(columns) * bands * 4 > BLOCK_BYTES:
        least = counts.chunks[2]
        depth = min(bands, max(1, BLOCK_BYTES // (max(columns) * 4 * least)) * least)
        side = max(counts.chunks[:2])
    parts = []
    for number, window in counts.windows(everything):
        place = counts.tiles[number]
        down, across = blocks_of(place.counts(np.arange(bands)), on_tile(place, window), side)
        parts += [on_grid(place, Window(t, b, lft, r)) for t, b in pairwise(down) for lft, r in pairwise(across)]
    edges = cut_at(parts, everything)
    return (*(tuple(int(n) for n in np.diff(e)) for e in edges), _even(bands, depth))


def _even(size: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, size - start) for start in range(0, size, step))
