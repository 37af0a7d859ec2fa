"""Stored values of single pixels by other people's readers: what an audit compares the products with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.errors import HsiError, one_line
from hsichunk.readers.image_chunks import ImageArray
from hsichunk.readers.image_metadata import opened
from hsichunk.readers.model import TileFile


def values_by_others(
    file: TileFile, rows: NDArray[np.int64], cols: NDArray[np.int64], bands: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Stored values (n, L) of pixels and whether they could be read (n,).

    Of images by GDAL, of HDF5 by h5py, each stored chunk that holds some once; of other formats, which nobody else is
    known to read, by their own chunks. Raises HsiError for a file that cannot be read at all.
    """
    if isinstance(file.reflectance, ImageArray):
        return _of_image(file, rows, cols, bands), np.ones(len(rows), np.bool_)
    import h5py

    if not h5py.is_hdf5(file.path):
        bad = np.zeros(len(rows), np.bool_)
        return file.reflectance.gather(bands, rows, cols, 1, bad), ~bad
    out = np.zeros((len(rows), len(bands)), np.int64)
    readable = np.ones(len(rows), np.bool_)
    try:
        with h5py.File(file.path, "r") as handle:
            data = handle[file.reflectance.name]
            high, wide, deep = data.chunks or (1, data.shape[1], data.shape[2])
            columns, inverse = np.unique(np.stack([rows // high, cols // wide]), axis=1, return_inverse=True)
            for column, (i, j) in enumerate(columns.T.tolist()):
                inside = np.flatnonzero(np.ravel(inverse) == column)
                for k in np.unique(bands // deep).tolist():
                    here = np.flatnonzero(bands // deep == k)
                    try:
                        chunk = data[i * high : (i + 1) * high, j * wide : (j + 1) * wide, k * deep : (k + 1) * deep]
                    except OSError:  # it cannot be decoded
                        readable[inside] = False
                        continue
                    picked = chunk[rows[inside] - i * high, cols[inside] - j * wide]
                    out[np.ix_(inside, here)] = picked[:, bands[here] - k * deep]
    except (OSError, KeyError) as error:
        raise HsiError(f"{file.path}: cannot be read ({one_line(error)})") from error
    return out, readable


def _of_image(
    file: TileFile, rows: NDArray[np.int64], cols: NDArray[np.int64], bands: NDArray[np.intp]
) -> NDArray[Any]:
    """Values (n, L) of pixels of an image as GDAL reads them, line by line."""
    from rasterio.windows import Window

    stored = file.reflectance
    assert isinstance(stored, ImageArray)
    out = np.zeros((len(rows), len(bands)), stored.native)
    with opened(stored.path) as image:
        for row in np.unique(rows).tolist():
            here = np.flatnonzero(rows == row)
            line = image.read((stored.order[bands] + 1).tolist(), window=Window(0, row, image.width, 1))
            out[here] = line[:, 0, cols[here]].T
    if stored.dtype.kind == "f":
        out[~np.isfinite(out)] = file.no_data
    return out
