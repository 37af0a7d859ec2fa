"""Compute single pixels of a dask array, block by block."""

from __future__ import annotations

import numpy as np

from hsichunk.array_types import DaskArray, Numbers, Positions


def from_dask(data: DaskArray, rows: Positions, cols: Positions) -> Numbers:
    """Return the spectra (m, L) of pixels (rows[i], cols[i]) of a dask array (y, x, features).

    Each block that holds one is computed once, and only these pixels of it are kept.
    """
    from dask.base import compute
    from dask.delayed import delayed

    edges = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in data.chunks]
    block_row = np.searchsorted(edges[0], rows, side="right") - 1
    block_col = np.searchsorted(edges[1], cols, side="right") - 1
    blocks = data.to_delayed()
    out = np.empty((len(rows), data.shape[2]), data.dtype)
    destinations, parts = [], []
    for i, j in sorted(set(zip(block_row.tolist(), block_col.tolist(), strict=True))):
        here = np.flatnonzero((block_row == i) & (block_col == j))
        for b in range(data.numblocks[2]):
            parts.append(delayed(_take)(blocks[i, j, b], rows[here] - edges[0][i], cols[here] - edges[1][j]))
            destinations.append((here, slice(edges[2][b], edges[2][b + 1])))
    for (here, bands), values in zip(destinations, compute(*parts), strict=True):  # type: ignore[no-untyped-call]
        out[here, bands] = values
    return out


def _take(block: Numbers, rows: Positions, cols: Positions) -> Numbers:
    return block[rows, cols]
