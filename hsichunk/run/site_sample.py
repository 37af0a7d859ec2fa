"""The sample over all tiles: drawn on their common grid, read tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.windows import Window
from hsichunk.cube import sampling
from hsichunk.mosaic.site import PlacedTile
from hsichunk.run.job import Job


def draw(job: Job, share: float, tile: int | None = None) -> sampling.Sample:
    """Valid pixels of a `share` of the grid's cells, the same whatever tiles they lie in; decodes what holds them.

    With the number of a tile only its own pixels, on the cells under it.
    """
    site, options = job.site, job.options
    tiles = site.tiles if tile is None else site.tiles[tile : tile + 1]
    y, x = site.grid.y(site.rows), site.grid.x(site.cols)
    area = Window(0, site.rows, 0, site.cols) if tile is None else _extent(site.tiles[tile])
    down, across = sampling.places(y, descending=site.grid.north_up), sampling.places(x, descending=False)
    ours = down[area.top : area.bottom], across[area.left : area.right]
    rows, cols = sampling.choose(*ours, options.sample, share, options.seed)
    rows, cols = rows + area.top, cols + area.left
    kinds = [place.file.reflectance.native for place in site.tiles]
    values = np.zeros((len(rows), len(job.bands)), np.result_type(*kinds))
    valid = np.zeros(len(rows), np.bool_)
    draws: list[tuple[PlacedTile, NDArray[np.intp]]] = []
    for place in tiles:
        inside = np.concatenate([np.empty(0, np.intp), *(_inside(rows, cols, place, window) for window in place.owned)])
        if job.masks is not None and len(inside):
            at = rows[inside] - place.top, cols[inside] - place.left
            flags = job.masks.at(place.file, *at, options.threads, options.on_error == "mask")
            inside = inside[flags == 0]
        if len(inside):
            draws.append((place, inside))
    for done, (number, found) in enumerate(_read(job, draws, rows, cols)):
        job.progress("sample", done, len(draws))
        values[draws[number][1]], valid[draws[number][1]] = found
    job.progress("sample", len(draws), len(draws))
    return sampling.Sample(values[valid], site.tiles[0].file.scale, y[rows[valid]], x[cols[valid]], len(rows))


def _read(
    job: Job, draws: list[tuple[PlacedTile, NDArray[np.intp]]], rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> Iterator[tuple[int, tuple[NDArray[Any], NDArray[np.bool_]]]]:
    """Counts of the pixels drawn from each tile and whether they hold data, with the number of the draw."""
    corrupt = job.options.on_error == "mask"
    if job.cluster is not None:
        from hsichunk.run import cluster

        tasks = [
            cluster.Draw(
                place.file.path,
                place.file.reflectance.stamp,
                rows[inside] - place.top,
                cols[inside] - place.left,
                cluster.wavelength_of(place.file),
            )
            for place, inside in draws
        ]
        yield from job.cluster.each(cluster.read_draw, (job.bands, corrupt), tasks)
        return
    for number, (place, inside) in enumerate(draws):
        at = rows[inside] - place.top, cols[inside] - place.left
        yield number, place.counts(job.bands).pixels(*at, job.options.threads, corrupt)


def _extent(place: PlacedTile) -> Window:
    """A tile on the common grid."""
    rows, cols, _ = place.file.reflectance.shape
    return Window(place.top, place.top + rows, place.left, place.left + cols)


def _inside(rows: NDArray[np.intp], cols: NDArray[np.intp], place: PlacedTile, window: Window) -> NDArray[np.intp]:
    """Which pixels (rows[i], cols[i]) of the common grid lie in a window of a tile."""
    top, left = place.top, place.left
    return np.flatnonzero(
        (rows >= top + window.top)
        & (rows < top + window.bottom)
        & (cols >= left + window.left)
        & (cols < left + window.right)
    )
