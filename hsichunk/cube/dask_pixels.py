"""Single pixels of a dask array, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def from_dask(data: Any, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
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
