"""Windows of HDF5 datasets that are stored in one piece, for the labelled cube: a few pixels need no whole lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import as_slice, take
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError, one_line


@dataclass(frozen=True)
class Windows:
    """The values of a stored array, read by h5py in one go for each selection: the window that holds all of it."""

    stored: HDF5Array

    @property
    def path(self) -> str:
        return self.stored.path

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored.dtype

    def read(self, *selection: NDArray[np.intp], threads: int | None = None) -> NDArray[Any]:
        """The values at the outer product of positions, in native byte order; one read, whatever `threads`.

        Raises HsiError for a file that cannot be read or has changed since it was opened.
        """
        import h5py

        if not all(len(positions) for positions in selection):
            return np.empty(tuple(map(len, selection)), self.stored.native)
        first = [int(positions.min()) for positions in selection]
        window = tuple(slice(at, int(positions.max()) + 1) for at, positions in zip(first, selection, strict=True))
        try:
            with self.stored.opened(), h5py.File(self.path, "r") as file:
                values = file[self.stored.name][window]
        except (OSError, RuntimeError, LookupError, ValueError) as error:
            raise HsiError(f"{self.path}: {self.stored.name} cannot be read ({one_line(error)})") from error
        inside = [as_slice(positions - at) for at, positions in zip(first, selection, strict=True)]
        return np.asarray(take(values, inside), self.stored.native)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self.stored.__dask_tokenize__()


def labelled_values(stored: HDF5Array) -> HDF5Array | Windows:
    """What the labelled cube reads a dataset through: its chunks, or windows of one that has none."""
    return stored if stored.stored_chunks is not None else Windows(stored)
