"""Reflectance of single pixels for an audit, read from the tiles with h5py and GDAL alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.errors import HsiError
from hsichunk.readers.model import TileFile
from hsichunk.readers.wavelengths import bands_at
from hsichunk.results.independent_values import values_by_others
from hsichunk.run.record import RunRecord


def files_of(tiles: Sequence[str | os.PathLike[str]], record: RunRecord) -> list[TileFile]:
    """The metadata of the tiles in the order in which they count. Raises HsiError for tiles that are not the run's."""
    from hsichunk.readers import formats

    sizes = {tile.name: tile.size for tile in record.inputs}
    files = []
    for path in sorted({os.fspath(tile) for tile in tiles}, key=lambda p: (os.path.basename(p), p)):
        name = os.path.basename(path)
        if name not in sizes:  # one that the run has left out
            continue
        if not os.path.exists(path):
            raise HsiError(f"{path}: is not there any more; say where the tiles of the run are now")
        file = formats.read(path, floats=True)
        if file.reflectance.stamp[0] != sizes.pop(name):
            raise HsiError(f"{path}: is not the tile that the run read (another size); expected the same file")
        files.append(file)
    if sizes:
        raise HsiError(f"the run read {', '.join(sorted(sizes))}, which is not among the tiles given; give all of them")
    return files


def endmembers_of(em: xr.DataArray, file: TileFile, names: Sequence[str]) -> Floats:
    """The spectra (p, L) that pixels of a file were unmixed with: with --per-tile, those under the tile's name."""
    have = [str(name) for name in em[schema.ENDMEMBER].values]
    if not set(names) <= set(have):
        names = [" ".join(f"{Path(file.path).stem} {name}".split()) for name in names]
    if not set(names) <= set(have):
        raise HsiError(f"endmembers.csv has no {names[0]}, as the products have; run again with --overwrite")
    return em.values[[have.index(name) for name in names]]


def spectra_of(
    files: list[TileFile], em: xr.DataArray, sample: xr.Dataset
) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Reflectance (n, L) of the pixels, the file of each (-1: none covers it) and whether it holds data."""
    x, y = sample[schema.X].values, sample[schema.Y].values
    nm = em[schema.WAVELENGTH].values
    spectra = np.full((len(x), len(nm)), np.nan)
    who = np.full(len(x), -1)
    valid = np.zeros(len(x), np.bool_)
    for number, file in enumerate(files):
        rows = np.floor((file.grid.top - y) / file.grid.dy).astype(np.int64)
        cols = np.floor((x - file.grid.left) / file.grid.dx).astype(np.int64)
        high, wide, _ = file.reflectance.shape
        own = np.flatnonzero((who < 0) & (rows >= 0) & (rows < high) & (cols >= 0) & (cols < wide))
        if not len(own):
            continue
        if (bands := bands_at(nm, file.wavelength)) is None:
            raise HsiError(
                f"{file.path}: its bands are not those of endmembers.csv, they were interpolated (--bands common); "
                "an audit needs tiles of one set of bands"
            )
        counts, readable = values_by_others(file, rows[own], cols[own], bands)
        who[own] = number
        valid[own] = readable & ~(counts == file.no_data).any(1)
        spectra[own] = counts / file.scale
    return spectra, who, valid
