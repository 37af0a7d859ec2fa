"""The sample over all tiles: drawn on their common grid, read tile by tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hsichunk import sampling
from hsichunk.counts import Window
from hsichunk.job import Job
from hsichunk.site import Place


def draw(job: Job, share: float) -> sampling.Sample:
    """Valid pixels of a `share` of the grid's cells, the same whatever tiles they lie in; decodes what holds them."""
    site, options = job.site, job.options
    y, x = site.grid.y(site.rows), site.grid.x(site.cols)
    down, across = sampling.places(y, descending=True), sampling.places(x, descending=False)
    rows, cols = sampling.choose(down, across, options.sample, share, options.seed)
    kinds = [place.file.reflectance.native for place in site.places]
    values = np.zeros((len(rows), len(job.bands)), np.result_type(*kinds))
    valid = np.zeros(len(rows), np.bool_)
    for number, place in enumerate(site.places):
        job.progress("sample", number, len(site.places))
        counts = place.counts(job.bands)
        for window in place.owned:
            inside = _inside(rows, cols, place, window)
            read = sampling.gather(counts, rows[inside] - place.top, cols[inside] - place.left, options.threads)
            valid[inside] = ~(read == counts.no_data).any(1)
            values[inside] = read
    job.progress("sample", len(site.places), len(site.places))
    return sampling.Sample(values[valid], site.places[0].file.scale, y[rows[valid]], x[cols[valid]], len(rows))


def _inside(rows: NDArray[np.intp], cols: NDArray[np.intp], place: Place, window: Window) -> NDArray[np.intp]:
    """Which pixels (rows[i], cols[i]) of the common grid lie in a window of a tile."""
    top, left = place.top, place.left
    return np.flatnonzero(
        (rows >= top + window.top)
        & (rows < top + window.bottom)
        & (cols >= left + window.left)
        & (cols < left + window.right)
    )
