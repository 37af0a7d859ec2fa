"""A format of the tests' own: what a reader of another storage is to the package, in one module.

An .npz holds `counts` (y, x, band), `wavelength`, `fwhm`, `scale`, `no_data`, `windows` (n, 2) and, of those that lie
somewhere, `corner` (left, top) with pixels of 1 m in UTM zone 18N.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.chunks.array import DECODED, ChunkedArray
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.errors import HsiError
from hsichunk.grid import Grid
from hsichunk.readers.formats import Format
from hsichunk.readers.model import Bands, Provenance, ReadOptions, Source, TileFile

SIDE = 5
NUMPY = Format("NumPy", lambda path: path.endswith(".npz"), "tests.helpers.numpy_tiles:read", "arrays of NumPy (.npz)")


class NumpyArray(ChunkedArray):
    """Counts of an .npz in chunks of whole spectra."""

    def __init__(self, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(
            path=path,
            name="counts",
            shape=shape,
            dtype=dtype,
            chunks=(SIDE, SIDE, shape[2]),
            stamp=_stamp(path),
            fill=np.zeros((), dtype),
        )

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        if _stamp(self.path) != self.stamp:
            raise HsiError(f"{self.path}: changed since it was opened; open it again")
        with np.load(self.path) as file:
            yield file[self.name]

    def decode(self, handle: Any, coords: ChunkCoords) -> NDArray[Any]:
        DECODED.add(1, self.chunk_bytes)
        whole = np.zeros(self.chunks, self.native)
        part = handle[coords[0] * SIDE : (coords[0] + 1) * SIDE, coords[1] * SIDE : (coords[1] + 1) * SIDE]
        whole[: part.shape[0], : part.shape[1]] = part
        return whole


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def write(path: Path, counts: NDArray[Any], wavelength: Any, **said: Any) -> Path:
    """A file of counts; `said` are the other arrays."""
    np.savez(path, counts=counts, wavelength=wavelength, **said)
    return path


def read(path: str, options: ReadOptions) -> TileFile:
    """The reader that is registered."""
    try:
        with np.load(path) as file:
            counts = file["counts"]
            said = {name: file[name] for name in file.files if name != "counts"}
    except (OSError, ValueError, KeyError) as error:
        raise HsiError(f"{path}: is no .npz of counts; expected one that numpy.savez wrote") from error
    left, top = said.get("corner", (None, None))
    stated = "scale" in said
    return TileFile(
        path=path,
        kind="NumPy counts",
        site=Path(path).stem,
        title=f"NumPy counts, {Path(path).stem}",
        reflectance=NumpyArray(os.path.abspath(path), counts.shape, counts.dtype),
        bands=Bands(
            said["wavelength"].astype(np.float64),
            said.get("fwhm"),
            tuple((float(low), float(high)) for low, high in said.get("windows", ())),
            schema.NEON_DROP_LAST,
        ),
        scale=float(said.get("scale", schema.NEON_SCALE)),
        no_data=int(said.get("no_data", schema.NEON_NO_DATA)),
        place=None if left is None else Grid(float(left), float(top), 1.0, 1.0, 32618, None),
        provenance=Provenance(
            scale=Source.FILE if stated else Source.FALLBACK,
            grid=Source.ABSENT if left is None else Source.FILE,
        ),
    )
