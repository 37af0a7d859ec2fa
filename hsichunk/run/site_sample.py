"""Read the sample of a run: pixels drawn on the common grid of all tiles, read tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bools, Positions
from hsichunk.chunks.windows import Window
from hsichunk.cube import sampling
from hsichunk.mosaic.site import PlacedTile
from hsichunk.run.job import Job


@dataclass(frozen=True)
class TileDraw:
    """The pixels of a sample that are read from one tile."""

    tile: PlacedTile
    drawn: Positions
    """of these pixels among all drawn pixels"""
    rows: Positions
    """of the tile"""
    cols: Positions


def draw(job: Job, share: float, number: int | None = None) -> sampling.Sample:
    """Return the valid pixels of a sample drawn from a `share` of the grid's cells, whatever tiles they lie in.

    Decodes only the chunks that hold drawn pixels. With the `number` of a tile the sample is drawn from the cells under
    this tile, and holds only the pixels that this tile owns.
    """
    site, options = job.site, job.options
    tiles = site.tiles if number is None else site.tiles[number : number + 1]
    y, x = site.grid.y(site.rows), site.grid.x(site.cols)
    area = Window(0, site.rows, 0, site.cols) if number is None else _extent(site.tiles[number])
    down, across = sampling.places(y, descending=site.grid.north_up), sampling.places(x, descending=False)
    down, across = down[area.top : area.bottom], across[area.left : area.right]
    rows, cols = sampling.choose(down, across, options.sample, share, options.seed)
    rows, cols = rows + area.top, cols + area.left
    values = np.zeros(
        (len(rows), len(job.bands)), np.result_type(*(tile.file.reflectance.native for tile in site.tiles))
    )
    valid = np.zeros(len(rows), np.bool_)
    draws = [tile_draw for tile in tiles if len((tile_draw := _of_tile(job, tile, rows, cols)).drawn)]
    for done, (tile_draw, spectra, holds_data) in enumerate(_read(job, draws)):
        job.progress("sample", done, len(draws))
        values[tile_draw.drawn], valid[tile_draw.drawn] = spectra, holds_data
    job.progress("sample", len(draws), len(draws))
    return sampling.Sample(values[valid], site.tiles[0].file.scale, y[rows[valid]], x[cols[valid]], len(rows))


def _of_tile(job: Job, tile: PlacedTile, rows: Positions, cols: Positions) -> TileDraw:
    """Return which drawn pixels, at (rows[i], cols[i]) of the common grid, the tile owns and no mask leaves out."""
    inside = [_inside(rows, cols, tile, window) for window in tile.owned]
    drawn = np.concatenate([np.empty(0, np.intp), *inside])
    tile_rows, tile_cols = rows[drawn] - tile.top, cols[drawn] - tile.left
    if job.masks is not None and len(drawn):
        corrupt = job.options.on_error == "mask"
        unmasked = job.masks.at(tile.file, tile_rows, tile_cols, job.options.threads, corrupt) == 0
        drawn, tile_rows, tile_cols = drawn[unmasked], tile_rows[unmasked], tile_cols[unmasked]
    return TileDraw(tile, drawn, tile_rows, tile_cols)


def _read(job: Job, draws: list[TileDraw]) -> Iterator[tuple[TileDraw, NDArray[np.generic], Bools]]:
    """Yield the stored values (m, L) of the pixels of each draw, and whether they hold data (m,)."""
    corrupt = job.options.on_error == "mask"
    if job.cluster is None:
        for each in draws:
            counts = each.tile.counts(job.bands)
            yield each, *counts.pixels(each.rows, each.cols, job.options.threads, corrupt)
        return
    from hsichunk.run import cluster

    tasks = [
        cluster.Draw(
            each.tile.file.path,
            each.tile.file.reflectance.stamp,
            each.rows,
            each.cols,
            cluster.wavelength_of(each.tile.file),
        )
        for each in draws
    ]
    for number, (spectra, holds_data) in job.cluster.each(cluster.read_draw, (job.bands, corrupt), tasks):
        yield draws[number], spectra, holds_data


def _extent(tile: PlacedTile) -> Window:
    """Return the rows and columns of the common grid that a tile covers."""
    rows, cols, _ = tile.file.reflectance.shape
    return Window(tile.top, tile.top + rows, tile.left, tile.left + cols)


def _inside(rows: Positions, cols: Positions, tile: PlacedTile, window: Window) -> Positions:
    """Return which pixels (rows[i], cols[i]) of the common grid lie in a window of a tile."""
    top, left = tile.top, tile.left
    return np.flatnonzero(
        (rows >= top + window.top)
        & (rows < top + window.bottom)
        & (cols >= left + window.left)
        & (cols < left + window.right)
    )
