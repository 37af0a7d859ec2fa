"""Draw a sample of pixels that depends only on the seed and on their place on the ground.

Pixels are drawn from whole cells of 64 x 64 pixels of the global grid, so that where chunks are spatial only the chunks
under the chosen cells are decoded. The same pixels are drawn for any chunking, number of threads or cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Floats, Ints, Numbers, Positions
from hsichunk.errors import HsiError

CELL = 64  # pixels: side of a cell
FEWEST_CELLS = 16  # from which a sample is drawn, where there are so many


@dataclass(frozen=True)
class Sample:
    """Valid pixels, sorted by their place on the grid: from north to south, then from west to east."""

    spectra: Numbers
    """(m, L): counts, or reflectance"""
    scale: float
    """counts per unit reflectance; 1 for reflectance"""
    y: Floats
    """(m,) coordinates of the pixels' centres"""
    x: Floats
    """(m,) coordinates of the pixels' centres"""
    drawn: int
    """pixels drawn, valid or not"""


def places(coordinate: NDArray[np.number], *, descending: bool) -> Ints:
    """Return the whole-number place of each pixel on the grid that goes through all tiles of the same pixel size.

    `descending`: places grow the other way than the coordinate, as rows do while northings fall.
    """
    values = np.asarray(coordinate, np.float64)
    # 7 digits: what rounding does to the pixel size in coordinates of millions of metres must not move a place
    size = float(f"{abs(values[-1] - values[0]) / (len(values) - 1):.7g}") if len(values) > 1 else 1.0
    place = np.floor(values / (size or 1.0) + 1e-6).astype(np.int64)
    return -place if descending else place


def choose(down: Ints, across: Ints, size: int | None, share: float, seed: int) -> tuple[Positions, Positions]:
    """Return row and column numbers of about `size` pixels (None: all), in the order of their places on the grid.

    `down` and `across` are the places of the rows and of the columns. At least a `share` of the cells that these touch
    is drawn from. Raises HsiError for a size below 1 and a share outside 0 to 1.
    """
    if (size is not None and size < 1) or not 0 < share <= 1:
        raise HsiError(f"sample={size}, share={share:g}: expected at least one pixel and a share above 0, at most 1")
    if size is None or len(down) * len(across) <= size:
        r, c = np.indices((len(down), len(across)))
        return _sorted(down, across, r.ravel(), c.ravel())
    cell_down, cell_across = np.unique(down // CELL), np.unique(across // CELL)
    hashes = _hash(seed, 1, cell_down[:, None], cell_across[None, :])
    cell_of_row, cell_of_col = np.searchsorted(cell_down, down // CELL), np.searchsorted(cell_across, across // CELL)
    area = np.bincount(cell_of_row)[:, None] * np.bincount(cell_of_col)
    order = np.argsort(hashes, axis=None, kind="stable")
    pixels_in_first = np.cumsum(area.ravel()[order])
    fewest = max(FEWEST_CELLS, int(np.ceil(hashes.size * share)), int(np.searchsorted(pixels_in_first, size)) + 1)
    chosen = order[:fewest]
    fraction = min(1.0, size / pixels_in_first[len(chosen) - 1])
    rows, cols = [], []
    for i, j in zip(*np.unravel_index(chosen, hashes.shape), strict=True):
        r, c = np.flatnonzero(cell_of_row == i), np.flatnonzero(cell_of_col == j)
        drawn = _hash(seed, 2, down[r][:, None], across[c][None, :]) < np.uint64(fraction * (2**64 - 2**11))
        drawn_r, drawn_c = np.nonzero(drawn)
        rows.append(r[drawn_r])
        cols.append(c[drawn_c])
    return _sorted(down, across, np.concatenate(rows), np.concatenate(cols))


def _sorted(down: Ints, across: Ints, rows: Positions, cols: Positions) -> tuple[Positions, Positions]:
    order = np.lexsort((across[cols], down[rows]))
    return rows[order], cols[order]


def _hash(seed: int, stream: int, down: Ints, across: Ints) -> NDArray[np.uint64]:
    """Return 64 well-mixed bits for each place (splitmix64, Steele et al. 2014)."""
    state = np.uint64((int(seed) * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
    bits = np.broadcast_to(state, np.broadcast_shapes(down.shape, across.shape)).copy()
    for part in (down, across):
        bits = _mix(bits ^ part.astype(np.uint64))
    return bits


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
