"""The layout of products in Zarr v3: the shape of stored chunks, their compression, their fill values."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from hsichunk.schema import CLASS_NO_DATA, X, Y

if TYPE_CHECKING:
    from zarr.codecs import BloscCodec

CHUNK_BYTES: Final = 16 << 20  # layers that do not fit go to the next chunk, so that one of many maps is read alone


def chunk_shape(dims: Sequence[str], shape: Sequence[int], itemsize: int, grid: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of a stored chunk: of a map, `grid` pixels along y and x; any other array is one chunk."""
    if not {Y, X} <= set(dims):
        return tuple(shape)  # spectra and the like
    layers = max(1, CHUNK_BYTES // (grid[Y] * grid[X] * itemsize))
    return tuple(grid[dim] if dim in grid else min(size, layers) for dim, size in zip(dims, shape, strict=True))


def compressor() -> BloscCodec:
    """Return the codec that compresses all maps."""
    from zarr.codecs import BloscCodec

    # Measured on 4 x 1000 x 1000 abundances: as fast as none at 0.6 of the size. Blosc is in the core of Zarr v3.
    return BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")


def fill_value(dtype: np.dtype[np.generic]) -> float:
    """Return what a chunk without a file holds: no data, where the type has a value for it, else 0."""
    return np.nan if dtype.kind == "f" else CLASS_NO_DATA if dtype == np.uint8 else 0


def float_attribute(value: float) -> str:
    """Return a number as xarray writes the attribute _FillValue: in base64, because JSON has no NaN."""
    return base64.standard_b64encode(struct.pack("<d", value)).decode()
