"""Cubes of tiles for tests, endmembers for them, and what can be said of both by plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hsichunk.cube.cleaning import clean, source_of
from hsichunk.readers.tiles import open_tile


def cube_of(tile: Path) -> xr.DataArray:
    """Return the lazy, cleaned cube (y, x, wavelength) of a tile.

    In memory it is `cube_of(tile).compute()`, in dask's own chunks that with `.chunk(...)`. A cube of values that no
    file holds is `hsi.as_cube(values, wavelength)`.
    """
    return clean(open_tile(tile))


def endmembers_of(spectra: Any, wavelength: Any) -> xr.DataArray:
    """Return spectra (k, L) in reflectance as labelled endmembers EM1, EM2, ..."""
    names = [f"EM{i + 1}" for i in range(len(spectra))]
    coords = {"endmember": names, "wavelength": np.asarray(wavelength, float)}
    return xr.DataArray(np.asarray(spectra, float), coords, ("endmember", "wavelength"), "reflectance")


def numbers_of(cube: xr.DataArray, em: xr.DataArray) -> list[int]:
    """Return the numbers, row by row, of the pixels that endmembers were taken from."""
    rows = [int(np.flatnonzero(cube.y.values == y)[0]) for y in em.y.values]
    cols = [int(np.flatnonzero(cube.x.values == x)[0]) for x in em.x.values]
    return [row * cube.sizes["x"] + col for row, col in zip(rows, cols, strict=True)]


def chunks_under(cube: xr.DataArray, rows: slice, cols: slice) -> int:
    """Return how many stored chunks hold a kept band and a pixel of the window."""
    source = source_of(cube)
    assert source is not None
    cy, cx, depth = source[0].stored.chunks
    down = (rows.stop - 1) // cy - rows.start // cy + 1
    across = (cols.stop - 1) // cx - cols.start // cx + 1
    return down * across * len(np.unique(source[0].bands // depth))
