"""A sample of pixels that depends on the seed and on their place on the ground alone.

Pixels are drawn from whole cells of 64 x 64 pixels of the global grid, so that where chunks are spatial only the chunks under
the chosen cells are decoded. The same pixels come out for any chunking, window of the work, number of threads or cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.cleaning import source_of
from hsichunk.column import Counts
from hsichunk.errors import HsiError
from hsichunk.threads import asked_for, in_parallel

CELL = 64
FEWEST_CELLS = 16


@dataclass(frozen=True)
class Sample:
    """Valid pixels, sorted by their place on the grid: from north to south, then from west to east."""

    spectra: NDArray[Any]
    """(m, L): counts, when `scale` is not 1, or reflectance"""
    scale: float
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    drawn: int
    """pixels drawn, valid or not"""


def draw(cube: xr.DataArray, size: int | None, share: float, seed: int) -> Sample:
    """About `size` pixels of a cube (None: all), from a `share` of its cells; those with no-data are left out."""
    down, across = places(cube[schema.Y].values, descending=True), places(cube[schema.X].values, descending=False)
    rows, cols = choose(down, across, size, share, seed)
    order = np.lexsort((across[cols], down[rows]))
    rows, cols = rows[order], cols[order]
    spectra, scale, valid = _spectra(cube, rows, cols)
    return Sample(
        spectra[valid],
        scale,
        cube[schema.Y].values[rows[valid]].astype(np.float64),
        cube[schema.X].values[cols[valid]].astype(np.float64),
        len(rows),
    )


def places(coordinate: NDArray[Any], *, descending: bool) -> NDArray[np.int64]:
    """Whole-number place of each pixel on the grid that goes through all tiles of the same pixel size."""
    values = np.asarray(coordinate, np.float64)
    if len(values) < 2:
        return np.floor(values).astype(np.int64) * (-1 if descending else 1)
    size = abs(float(values[-1] - values[0])) / (len(values) - 1)
    place = np.floor(values / size + 1e-6).astype(np.int64)
    return -place if values[0] > values[-1] else place


def choose(
    down: NDArray[np.int64], across: NDArray[np.int64], size: int | None, share: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column numbers of the drawn pixels, for pixels at places `down` x `across` of the grid."""
    if size is not None and size < 1 or not 0 < share <= 1:
        raise HsiError(f"sample={size}, share={share:g}: expected at least one pixel and a share above 0, at most 1")
    if size is None or len(down) * len(across) <= size:
        r, c = np.indices((len(down), len(across)))
        return r.ravel(), c.ravel()
    cell_down, cell_across = np.unique(down // CELL), np.unique(across // CELL)
    cells = _hash(seed, 1, cell_down[:, None], cell_across[None, :])
    wanted = min(cells.size, max(FEWEST_CELLS, int(np.ceil(cells.size * share))))
    limit = np.partition(cells.ravel(), wanted - 1)[wanted - 1]
    rows, cols = [], []
    of_row, of_col = np.searchsorted(cell_down, down // CELL), np.searchsorted(cell_across, across // CELL)
    chosen = [
        (np.flatnonzero(of_row == i), np.flatnonzero(of_col == j)) for i, j in zip(*np.nonzero(cells <= limit), strict=True)
    ]
    fraction = min(1.0, size / sum(len(r) * len(c) for r, c in chosen))
    for r, c in chosen:
        inside = _hash(seed, 2, down[r][:, None], across[c][None, :]) < np.uint64(fraction * (2**64 - 2**11))
        i, j = np.nonzero(inside)
        rows.append(r[i])
        cols.append(c[j])
    return np.concatenate(rows), np.concatenate(cols)


def _hash(seed: int, stream: int, down: NDArray[np.int64], across: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 well-mixed bits for each place (splitmix64, Steele et al. 2014)."""
    state = np.uint64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
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
    scale = float(cube.attrs.get("counts_per_unit") or 1.0)
    whole = np.rint(values.astype(np.float64) * scale)
    if scale != 1 and (np.abs(whole[valid]) < 2**15).all() and ((whole / scale).astype(values.dtype) == values)[valid].all():
        return np.where(valid[:, None], whole, 0).astype(np.int16), scale, valid
    return values.astype(np.float64), 1.0, valid


def _from_dask(data: Any, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    """Chosen pixels of a dask array, block by block: each block is computed once and only its pixels are kept."""
    import dask

    row_edges, col_edges = (np.concatenate([[0], np.cumsum(c)]) for c in data.chunks[:2])
    block_row = np.searchsorted(row_edges, rows, side="right") - 1
    block_col = np.searchsorted(col_edges, cols, side="right") - 1
    out = np.empty((len(rows), data.shape[2]), data.dtype)
    band_edges = np.concatenate([[0], np.cumsum(data.chunks[2])])
    places, picked = [], []
    for i, j in sorted(set(zip(block_row.tolist(), block_col.tolist(), strict=True))):
        here = np.flatnonzero((block_row == i) & (block_col == j))
        for b in range(data.numblocks[2]):
            block = data.blocks[i, j, b].to_delayed().ravel()[0]
            picked.append(dask.delayed(_take)(block, rows[here] - row_edges[i], cols[here] - col_edges[j]))
            places.append((here, slice(band_edges[b], band_edges[b + 1])))
    for (here, bands), values in zip(places, dask.compute(*picked), strict=True):
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
