"""A sample of pixels that depends on the seed and on their place on the ground alone.

Pixels are drawn from whole cells of 64 x 64 pixels of the global grid, so that where chunks are spatial only the chunks
under the chosen cells are decoded. The same pixels come out for any chunking, number of threads or cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.errors import HsiError

CELL = 64
FEWEST_CELLS = 16


@dataclass(frozen=True)
class Sample:
    """Valid pixels, sorted by their place on the grid: from north to south, then from west to east."""

    spectra: NDArray[Any]
    """(m, L): counts, or reflectance"""
    scale: float
    """counts per unit reflectance; 1 for reflectance"""
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    drawn: int
    """pixels drawn, valid or not"""


def places(coordinate: NDArray[Any], *, descending: bool) -> NDArray[np.int64]:
    """Whole-number place of each pixel on the grid that goes through all tiles of the same pixel size.

    `descending`: places grow the other way than the coordinate, as rows do while northings fall.
    """
    values = np.asarray(coordinate, np.float64)
    # 7 digits: what rounding leaves of the pixel size in coordinates of millions of metres must not move a place
    size = float(f"{abs(values[-1] - values[0]) / (len(values) - 1):.7g}") if len(values) > 1 else 1.0
    place = np.floor(values / (size or 1.0) + 1e-6).astype(np.int64)
    return -place if descending else place


def choose(
    down: NDArray[np.int64], across: NDArray[np.int64], size: int | None, share: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column numbers of the drawn pixels, at places `down` x `across` of the grid, in their order."""
    if (size is not None and size < 1) or not 0 < share <= 1:
        raise HsiError(f"sample={size}, share={share:g}: expected at least one pixel and a share above 0, at most 1")
    if size is None or len(down) * len(across) <= size:
        r, c = np.indices((len(down), len(across)))
        return _sorted(down, across, r.ravel(), c.ravel())
    cell_down, cell_across = np.unique(down // CELL), np.unique(across // CELL)
    cells = _hash(seed, 1, cell_down[:, None], cell_across[None, :])
    of_row, of_col = np.searchsorted(cell_down, down // CELL), np.searchsorted(cell_across, across // CELL)
    area = np.bincount(of_row)[:, None] * np.bincount(of_col)
    order = np.argsort(cells, axis=None, kind="stable")
    held = np.cumsum(area.ravel()[order])  # pixels in the first cells of that order
    fewest = max(FEWEST_CELLS, int(np.ceil(cells.size * share)), int(np.searchsorted(held, size)) + 1)
    chosen = order[:fewest]
    fraction = min(1.0, size / held[len(chosen) - 1])
    rows, cols = [], []
    for i, j in zip(*np.unravel_index(chosen, cells.shape), strict=True):
        r, c = np.flatnonzero(of_row == i), np.flatnonzero(of_col == j)
        inside = _hash(seed, 2, down[r][:, None], across[c][None, :]) < np.uint64(fraction * (2**64 - 2**11))
        i, j = np.nonzero(inside)
        rows.append(r[i])
        cols.append(c[j])
    return _sorted(down, across, np.concatenate(rows), np.concatenate(cols))


def _sorted(
    down: NDArray[np.int64], across: NDArray[np.int64], rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    order = np.lexsort((across[cols], down[rows]))
    return rows[order], cols[order]


def _hash(seed: int, stream: int, down: NDArray[np.int64], across: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 well-mixed bits for each place (splitmix64, Steele et al. 2014)."""
    state = np.uint64((int(seed) * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
    out = np.broadcast_to(state, np.broadcast_shapes(down.shape, across.shape)).copy()
    for part in (down, across):
        out = _mix(out ^ part.astype(np.uint64))
    return out


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
