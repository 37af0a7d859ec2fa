"""Endmembers of a cube: a sample of its pixels, and the search in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.cleaning import source_of
from hsichunk.errors import HsiError
from hsichunk.kernels import sums
from hsichunk.sampling import Sample, choose, gather, places
from hsichunk.simplex import check_k, pick
from hsichunk.threads import asked_for

SAMPLE = 20_000
SHARE = 0.125


def nfindr(
    cube: xr.DataArray,
    k: int,
    *,
    sample: int | None = SAMPLE,
    share: float = SHARE,
    seed: int = 0,
    maxit: int | None = None,
) -> xr.DataArray:
    """Finds `k` endmembers among the pixels of a cube. Computes: reads the sample, not the cube.

    About `sample` pixels (None: every one) are drawn by `seed` and place on the ground from a `share` of the 64 x 64
    pixel cells of the grid; of a tile with spatial chunks only the chunks under those cells are decoded (`share=1`
    spreads the sample over all). Pixels with no-data are never candidates. From each of a few fixed starts at most
    `maxit` sweeps (default 3 k) swap pixels until none raises the volume; the largest simplex counts.

    Returns reflectance (endmember, wavelength) float64 with `endmember` "EM1"... and `x`, `y` of each source pixel;
    attributes say what the search came to. The same for any chunking, threads or cluster. Raises HsiError for k < 2,
    more endmembers than bands or valid pixels, or data of fewer dimensions.
    Sources: Winter 1999 (N-FINDR), Ren & Chang 2003 (ATGP start).
    """
    if not isinstance(cube, xr.DataArray) or set(cube.dims) != {schema.Y, schema.X, schema.WAVELENGTH}:
        found = cube.dims if isinstance(cube, xr.DataArray) else type(cube).__name__
        raise HsiError(f"the cube has {found}; expected a DataArray (y, x, wavelength), as clean or as_cube give it")
    if cube.dtype.kind != "f":
        raise HsiError(
            f"the cube holds {cube.dtype} counts; expected reflectance: use clean(tile) or as_cube(..., scale=)"
        )
    if maxit is not None and maxit < 1:
        raise HsiError(f"maxit is {maxit}; expected at least one sweep")
    cube = cube.transpose(schema.Y, schema.X, schema.WAVELENGTH)
    check_k(k, cube.sizes[schema.WAVELENGTH])
    drawn = draw(cube, sample, share, seed)
    if len(drawn.spectra) < k and drawn.drawn < cube.sizes[schema.Y] * cube.sizes[schema.X]:
        drawn = draw(cube, sample, 1.0, seed)  # a tile that is mostly no-data: look everywhere before giving up
    picked = pick(drawn, k, maxit)
    found_at = {
        schema.ENDMEMBER: picked.names,
        "x": (schema.ENDMEMBER, picked.x, schema.X_ATTRS),
        "y": (schema.ENDMEMBER, picked.y, schema.Y_ATTRS),
    }
    attrs: dict[str, Any] = {
        **schema.PRODUCT_ATTRS[schema.REFLECTANCE],
        "method": "N-FINDR",
        "sample_pixels": picked.sample_pixels,
        "sweeps": picked.sweeps,
        "swaps": picked.swaps,
        "converged": int(picked.converged),
        "seed": seed,
    }
    em = xr.DataArray(picked.spectra, found_at, (schema.ENDMEMBER, schema.WAVELENGTH), schema.REFLECTANCE, attrs)
    coords = {schema.WAVELENGTH: cube[schema.WAVELENGTH]}
    if schema.FWHM in cube.coords:
        coords[schema.FWHM] = cube[schema.FWHM]
    return em.assign_coords(coords)


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
