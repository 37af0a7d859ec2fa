"""Read stored values of single pixels by independent readers, for an audit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bools, Ints, Positions
from hsichunk.errors import HsiError, one_line
from hsichunk.readers.image_chunks import EnviArray, RasterArray
from hsichunk.readers.image_metadata import opened
from hsichunk.readers.model import TileFile


def read_values(file: TileFile, rows: Ints, cols: Ints, bands: Positions) -> tuple[NDArray[np.number], Bools]:
    """Return the stored values (n, L) of pixels and whether they could be read (n,).

    GDAL reads images; h5py reads HDF5, each stored chunk with pixels once. Other formats have no independent reader
    that is known here, so they are read by their own chunks. Raises HsiError for a file that cannot be read at all.
    """
    if isinstance(file.reflectance, (EnviArray, RasterArray)):
        return _read_image(file, file.reflectance, rows, cols, bands), np.ones(len(rows), np.bool_)
    import h5py

    if not h5py.is_hdf5(file.path):
        bad = np.zeros(len(rows), np.bool_)
        return file.reflectance.gather(bands, rows, cols, 1, bad), ~bad
    out = np.zeros((len(rows), len(bands)), np.int64)
    readable = np.ones(len(rows), np.bool_)
    try:
        with h5py.File(file.path, "r") as handle:
            data = handle[file.reflectance.name]
            height, width, depth = data.chunks or (1, data.shape[1], data.shape[2])
            columns, inverse = np.unique(np.stack([rows // height, cols // width]), axis=1, return_inverse=True)
            for column, (i, j) in enumerate(columns.T.tolist()):
                inside = np.flatnonzero(np.ravel(inverse) == column)
                top, left = i * height, j * width
                for first in (np.unique(bands // depth) * depth).tolist():
                    here = np.flatnonzero(bands // depth == first // depth)
                    try:
                        chunk = data[top : top + height, left : left + width, first : first + depth]
                    except OSError:  # the chunk cannot be decoded
                        readable[inside] = False
                        continue
                    pixels = chunk[rows[inside] - top, cols[inside] - left]
                    out[np.ix_(inside, here)] = pixels[:, bands[here] - first]
    except (OSError, KeyError) as error:
        raise HsiError(f"{file.path}: cannot be read ({one_line(error)})") from error
    return out, readable


def _read_image(
    file: TileFile, stored: EnviArray | RasterArray, rows: Ints, cols: Ints, bands: Positions
) -> NDArray[np.number]:
    """Return the values (n, L) of pixels of an image as GDAL reads them, line by line."""
    from rasterio.windows import Window

    out = np.zeros((len(rows), len(bands)), stored.native)
    with opened(stored.path) as image:
        for row in np.unique(rows).tolist():
            here = np.flatnonzero(rows == row)
            line = image.read((stored.order[bands] + 1).tolist(), window=Window(0, row, image.width, 1))
            out[here] = line[:, 0, cols[here]].T
    if stored.dtype.kind == "f":
        out[~np.isfinite(out)] = file.no_data
    return out
