"""Read windows of HDF5 datasets that are stored in one piece, so that a few pixels of a cube cost no whole lines."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Positions
from hsichunk.chunks.array import as_slice, take
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError, one_line


@dataclass(frozen=True)
class Windows:
    """The values of an unchunked dataset, read by h5py: one read a selection, of the smallest window that holds it."""

    stored: HDF5Array

    @property
    def path(self) -> str:
        return self.stored.path

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self.stored.dtype

    def read(self, *selection: Positions, threads: int | None = None) -> NDArray[np.generic]:
        """Read the values at the outer product of positions, in native byte order; `threads` changes nothing.

        Raises HsiError for a file that cannot be read or has changed since it was opened.
        """
        import h5py

        if not all(len(positions) for positions in selection):
            return np.empty(tuple(map(len, selection)), self.stored.native)
        starts = [int(positions.min()) for positions in selection]
        window = tuple(
            slice(start, int(positions.max()) + 1) for start, positions in zip(starts, selection, strict=True)
        )
        try:
            with self.stored.opened(), h5py.File(self.path, "r") as file:
                values = file[self.stored.name][window]
        except (OSError, RuntimeError, LookupError, ValueError) as error:
            raise HsiError(f"{self.path}: {self.stored.name} cannot be read ({one_line(error)})") from error
        within = [as_slice(positions - start) for start, positions in zip(starts, selection, strict=True)]
        return np.asarray(take(values, within), self.stored.native)

    def __dask_tokenize__(self) -> tuple[Hashable, ...]:
        return self.stored.__dask_tokenize__()


def labelled_values(stored: HDF5Array) -> HDF5Array | Windows:
    """Return what the labelled cube reads a dataset through: its chunks, or windows of one that is not chunked."""
    return stored if stored.stored_chunks is not None else Windows(stored)
