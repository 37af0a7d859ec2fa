"""A sample of pixels that depends on the seed and on their place on the ground alone.

Pixels are drawn from whole cells of 64 x 64 pixels of the global grid, so that where chunks are spatial only the chunks
under the chosen cells are decoded. The same pixels come out for any chunking, number of threads or cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.cleaning import source_of
from hsichunk.counts import Counts
from hsichunk.errors import HsiError
from hsichunk.kernels import sums
from hsichunk.threads import asked_for, in_parallel

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


def draw(cube: xr.DataArray, size: int | None, share: float, seed: int) -> Sample:
    """About `size` pixels of a cube (None: all), from a `share` of its cells; those with no-data are left out."""
    y, x = cube[schema.Y], cube[schema.X]
    # plain arrays have row numbers, which grow downwards
    northing = y.attrs.get("standard_name") == schema.Y_ATTRS["standard_name"]
    down, across = places(y.values, descending=northing), places(x.values, descending=False)
    rows, cols = choose(down, across, size, share, seed)
    spectra, scale, valid = _spectra(cube, rows, cols)
    return Sample(
        spectra[valid],
        scale,
        y.values[rows[valid]].astype(np.float64),
        x.values[cols[valid]].astype(np.float64),
        len(rows),
    )


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


def _spectra(
    cube: xr.DataArray, rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> tuple[NDArray[Any], float, NDArray[np.bool_]]:
    """Spectra of some pixels (m, L), counts per unit of them, and which hold data in every band."""
    source = source_of(cube)
    if source is not None:
        counts, y, x = source
        values = gather(counts, y[rows], x[cols], asked_for())
        return values, counts.scale, ~(values == counts.no_data).any(1)
    data = cube.transpose(schema.Y, schema.X, schema.WAVELENGTH).data
    values = _from_dask(data, rows, cols) if hasattr(data, "dask") else np.asarray(data)[rows, cols]
    valid = np.isfinite(values).all(1)
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    if scale is not None:
        counts_of, counted = np.empty(values.shape, np.int16), np.ones(len(values), np.bool_)
        sums.recover(sums.as_floats(values), float(scale), counts_of, valid.copy(), counted)
        if counted[valid].all():
            return counts_of, float(scale), valid
    return values, 1.0, valid


def _from_dask(data: Any, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    """Chosen pixels of a dask array, block by block: each block is computed once and only its pixels are kept."""
    from dask.base import compute
    from dask.delayed import delayed

    edges = [np.concatenate([[0], np.cumsum(c)]) for c in data.chunks]
    block_row = np.searchsorted(edges[0], rows, side="right") - 1
    block_col = np.searchsorted(edges[1], cols, side="right") - 1
    blocks = data.to_delayed()
    out = np.empty((len(rows), data.shape[2]), data.dtype)
    to, picked = [], []
    for i, j in sorted(set(zip(block_row.tolist(), block_col.tolist(), strict=True))):
        here = np.flatnonzero((block_row == i) & (block_col == j))
        for b in range(data.numblocks[2]):
            picked.append(delayed(_take)(blocks[i, j, b], rows[here] - edges[0][i], cols[here] - edges[1][j]))
            to.append((here, slice(edges[2][b], edges[2][b + 1])))
    for (here, bands), values in zip(to, compute(*picked), strict=True):  # type: ignore[no-untyped-call]
        out[here, bands] = values
    return out


def _take(block: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    return block[rows, cols]


def gather(counts: Counts, rows: NDArray[np.intp], cols: NDArray[np.intp], threads: int) -> NDArray[Any]:
    """Stored counts of pixels (rows[i], cols[i]) in the kept bands (m, L); decodes each chunk that holds one once."""
    stored = counts.stored
    cy, cx, depth = stored.chunks
    out = np.empty((len(rows), len(counts.bands)), stored.dtype.newbyteorder("="))
    column = rows // cy * stored.grid[1] + cols // cx
    order = np.argsort(column, kind="stable")
    starts = np.flatnonzero(np.diff(column[order], prepend=-1))
    lots = np.split(order, starts[1:])
    number = counts.bands // depth
    chunks = [(int(n), np.flatnonzero(number == n)) for n in np.unique(number)]
    # a column of many chunks is one job while there are plenty of columns, else each chunk is a job of its own
    jobs = [(lot, chunks) for lot in lots] if len(lots) >= 8 * threads else [(lot, [c]) for lot in lots for c in chunks]

    def read(job: tuple[NDArray[np.intp], list[tuple[int, NDArray[np.intp]]]]) -> None:
        lot, wanted = job
        place = (int(rows[lot[0]] // cy), int(cols[lot[0]] // cx))
        with stored.opened() as handle:
            for n, at in wanted:
                chunk = stored.chunk(handle, (*place, n))
                pixels = chunk[rows[lot] - place[0] * cy, cols[lot] - place[1] * cx]
                out[np.ix_(lot, at)] = pixels[:, counts.bands[at] - n * depth]

    if len(rows):
        in_parallel(read, jobs, threads)
    return out
