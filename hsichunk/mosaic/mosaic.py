"""Open many tiles as one lazy dataset: `hsi.open_mosaic`."""

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
    """Open many NEON tiles as one Dataset on their common grid; reads their metadata and none of their pixels.

    Returns what `open_tile` returns, without ancillary layers: `reflectance(y, x, wavelength)` in counts as stored,
    with the no-data value where no tile lies; `wavelength`, `fwhm` in nm; `y`, `x` pixel centres in metres;
    `spatial_ref`; and the attributes that all tiles share. Where tiles overlap, the pixels come from the first tile by
    file name, whatever the order of `paths`.

    `chunks`: "tiles" makes dask blocks that lie within one tile each and share no stored chunk; None makes no dask
    array, as in `open_tile`; anything else is passed to `Dataset.chunk`. `unmix` works tile by tile whatever the
    blocks are, and gives the same bits as `hsichunk run` over the same tiles. Raises HsiError for tiles of different
    CRS, pixel size, wavelengths, bad-band windows or scale, and for grids that do not align.
    """
    return as_dataset(open_site([paths] if isinstance(paths, (str, os.PathLike)) else paths), chunks)


def as_dataset(site: Site, chunks: Mapping[str, Any] | str | None) -> xr.Dataset:
    """Return the Dataset of the tiles of a site on their grid, as `open_mosaic` does."""
    counts, first = TiledCounts(site), site.tiles[0].file
    # a single tile without dask blocks is read straight from its file
    alone = chunks is None and first.reflectance.shape == counts.shape and len(site.tiles) == 1
    alone = alone and site.tiles[0].owned == (Window(0, site.rows, 0, site.cols),)
    shared = _shared([tile.file.attrs for tile in site.tiles])
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
    """Return the attribute that says how the tiles are chunked; it names two layouts at most."""
    arrays = [tile.file.reflectance for tile in site.tiles]
    layouts = list(dict.fromkeys(provenance.chunk_words(array.stored_chunks, array.dtype) for array in arrays))
    first = layouts[0]
    words = " and ".join(layouts) if len(layouts) <= 2 else f"{first} and {len(layouts) - 1} other ways"
    return {provenance.CHUNKS: words}


def _shared(attrs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the attributes that have the same value in all tiles; the extent of NEON tiles, for one, differs."""
    first, *others = attrs
    return {
        name: value
        for name, value in first.items()
        if all(name in other and np.array_equal(other[name], value) for other in others)
    }


def _blocks(counts: TiledCounts) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of dask blocks (y, x, band) that lie within tiles.

    A block holds whole spectra where a column of chunks fits into BLOCK_BYTES of float32, else some of its bands.
    """
    rows, cols, bands = counts.shape
    mosaic = Window(0, rows, 0, cols)
    largest = max(math.prod(tile.file.reflectance.chunks[:2]) for tile in counts.tiles)  # pixels of a column of chunks
    depth = bands
    side = max(1, math.isqrt(BLOCK_BYTES // (bands * 4)))
    if largest * bands * 4 > BLOCK_BYTES:
        step = counts.chunks[2]
        depth = min(bands, max(1, BLOCK_BYTES // (largest * 4 * step)) * step)
        side = max(counts.chunks[:2])
    parts = []
    for number, window in counts.windows(mosaic):
        tile = counts.tiles[number]
        down, across = blocks_of(tile.counts(np.arange(bands)), on_tile(tile, window), side)
        parts += [on_grid(tile, Window(t, b, lft, r)) for t, b in pairwise(down) for lft, r in pairwise(across)]
    edges = cut_at(parts, mosaic)
    return (*(tuple(int(n) for n in np.diff(e)) for e in edges), _even(bands, depth))


def _even(size: int, step: int) -> tuple[int, ...]:
    """Return the sizes of blocks of `step` that fill `size`; the last one may be smaller."""
    return tuple(min(step, size - start) for start in range(0, size, step))
