"""Read the reflectance of single pixels for an audit from the tiles, by h5py and GDAL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bools, Floats, Ints
from hsichunk.errors import HsiError
from hsichunk.readers.model import TileFile
from hsichunk.readers.wavelengths import bands_at
from hsichunk.results.independent_values import read_values
from hsichunk.run.record import RunRecord


def files_of(tiles: Sequence[str | os.PathLike[str]], record: RunRecord) -> list[TileFile]:
    """Return the metadata of the tiles in the order in which they count.

    Raises HsiError for tiles that are missing or not those of the run.
    """
    from hsichunk.readers import formats

    sizes = {tile.name: tile.size for tile in record.inputs}
    files = []
    for path in sorted({os.fspath(tile) for tile in tiles}, key=lambda p: (os.path.basename(p), p)):
        name = os.path.basename(path)
        if name not in sizes:  # the run left it out
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


def endmembers_of(endmembers: xr.DataArray, file: TileFile, names: Sequence[str]) -> Floats:
    """Return the spectra (k, L) by which the pixels of a tile were unmixed; with --per-tile, those of the tile.

    Raises HsiError where endmembers.csv does not hold them.
    """
    known = [str(name) for name in endmembers[schema.ENDMEMBER].values]
    if not set(names) <= set(known):
        names = [" ".join(f"{Path(file.path).stem} {name}".split()) for name in names]
    if not set(names) <= set(known):
        raise HsiError(f"endmembers.csv has no {names[0]}, as the products have; run again with --overwrite")
    return endmembers.values[[known.index(name) for name in names]]


def spectra_of(files: list[TileFile], endmembers: xr.DataArray, sample: xr.Dataset) -> tuple[Floats, Ints, Bools]:
    """Return the reflectance (n, L) of pixels, the index of the file of each (n,), and whether it holds data (n,).

    The index is -1 where no file covers the pixel. Raises HsiError for a tile whose bands were interpolated.
    """
    x, y = sample[schema.X].values, sample[schema.Y].values
    nm = endmembers[schema.WAVELENGTH].values
    spectra = np.full((len(x), len(nm)), np.nan)
    file_number = np.full(len(x), -1)
    valid = np.zeros(len(x), np.bool_)
    for number, file in enumerate(files):
        rows = np.floor((file.grid.top - y) / file.grid.dy).astype(np.int64)
        cols = np.floor((x - file.grid.left) / file.grid.dx).astype(np.int64)
        height, width, _ = file.reflectance.shape
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        own = np.flatnonzero((file_number < 0) & inside)
        if not len(own):
            continue
        if (bands := bands_at(nm, file.wavelength)) is None:
            raise HsiError(
                f"{file.path}: its bands are not those of endmembers.csv, they were interpolated (--bands common); "
                "an audit needs tiles of one set of bands"
            )
        counts, readable = read_values(file, rows[own], cols[own], bands)
        file_number[own] = number
        valid[own] = readable & ~(counts == file.no_data).any(1)
        spectra[own] = counts / file.scale
    return spectra, file_number, valid
