"""Keep spectra in a temporary file where memory does not hold them."""

from __future__ import annotations

import shutil
import tempfile
from typing import IO

import numpy as np

from hsichunk.array_types import Number, Numbers
from hsichunk.errors import HsiError


class Scratch:
    """Spectra (rows, columns, L) in a temporary file, written part by part and read row by row."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Number]) -> None:
        self.shape, self.dtype = shape, dtype
        self.bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.parts: list[tuple[slice, slice, int]] = []
        """columns, bands and offset in the file of each part that has been written"""
        self.file = temporary_file(self.bytes)

    def put(self, cols: slice, bands: slice, values: Numbers) -> None:
        """Append the values (rows, columns, bands) of some columns and bands, all rows."""
        self.parts.append((cols, bands, self.file.seek(0, 2)))
        self.file.write(np.ascontiguousarray(values).data)

    def read(self, first: int, last: int) -> Numbers:
        """Return whole spectra (rows, columns, L) of the rows from `first` to `last` (excluded)."""
        out = np.empty((last - first, *self.shape[1:]), self.dtype)
        for cols, bands, offset in self.parts:
            part = np.empty((last - first, cols.stop - cols.start, bands.stop - bands.start), self.dtype)
            self.file.seek(offset + first * part[0].nbytes)
            self.file.readinto(part.data)  # type: ignore[attr-defined]
            out[:, cols, bands] = part
        return out


def temporary_file(size: int) -> IO[bytes]:
    """Open a file that is deleted when it is closed. Raises HsiError where the disk has no room for `size` bytes."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < size:
        raise HsiError(
            f"{folder} has {free >> 20} MB free; a scratch file of {size >> 20} MB is needed for what does not fit in "
            "memory: point TMPDIR to a larger disk, or raise memory="
        )
    return tempfile.TemporaryFile(dir=folder)
