"""Apply a kernel on the spectra of pixels to a whole cube, block by block.

What a pixel's result is never depends on the chunk that it lies in: kernels add in the order of bands.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, TypeAlias, TypedDict

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from hsichunk import schema
from hsichunk.array_types import Floats, Int16s, LazyOrNumpy, Numbers, is_lazy
from hsichunk.errors import HsiWarning
from hsichunk.memory import SPECTRA_BYTES
from hsichunk.threads import asked_for, in_parallel

Kernel: TypeAlias = Callable[[Floats], Numbers]
"""takes spectra (n, features) and returns values (n, outputs), each row from the same row"""
EndmemberCoord: TypeAlias = tuple[str, list[str], dict[str, str]]
"""dimension, names and attributes, as xarray takes a coordinate"""

SLAB = 512  # pixels worked at once: 362 bands of two float64 operands are 3 MB


class _Axes(TypedDict, total=False):
    """What `map_blocks` is told of dimensions that the kernel drops and adds."""

    drop_axis: list[int]
    new_axis: list[int]


def on_pixels(
    cube: xr.DataArray,
    kernel: Kernel,
    outputs: int,
    *,
    dtype: DTypeLike = np.float32,
    fill: float = np.nan,
    last: bool = False,
    slab: int = SLAB,
    threads: int | None = None,
) -> LazyOrNumpy:
    """Return `kernel` of every pixel's spectrum: an array (outputs, y, x), or (y, x, outputs) if `last`; lazy on dask.

    cube: (y, x, features) in that order. The kernel gets float64 (n, features) of at most `slab` pixels, all of them
    finite, and returns (n, outputs); it must treat each row by itself. Pixels that are not finite in every feature hold
    `fill`. A cube chunked along its features is rechunked to whole spectra, with a warning. Blocks run on the threads
    of `hsichunk.threads`, or on `threads`.
    """
    work = partial(
        _on_block, kernel=kernel, outputs=outputs, dtype=dtype, fill=fill, last=last, slab=slab, threads=threads
    )
    data = whole_spectra(cube)
    if not is_lazy(data):
        return work(np.asarray(data))
    import dask.array as da

    down, across, _ = data.chunks
    along: tuple[int, ...] = (outputs,)
    axes: _Axes = {} if last else {"drop_axis": [2], "new_axis": [0]}
    lazy: LazyOrNumpy = da.map_blocks(  # type: ignore[no-untyped-call]
        work,
        data,
        **axes,
        chunks=(down, across, along) if last else (along, down, across),
        meta=np.empty((0, 0, 0), dtype),
    )
    return lazy


def whole_spectra(cube: xr.DataArray, hint: str = "cube.chunk(wavelength=-1) says that this is meant") -> LazyOrNumpy:
    """Return the data of a cube (y, x, features), NumPy or dask; on dask all features of a pixel are in one block.

    A cube of other blocks is rechunked, with a warning that ends in `hint`.
    """
    data: LazyOrNumpy = cube.data
    if not is_lazy(data) or len(data.chunks[2]) == 1:
        return data
    warnings.warn(
        f"the {cube.dims[2]}s lie in {len(data.chunks[2])} chunks and are rechunked to whole spectra, which holds "
        f"blocks in memory: {hint}",
        HsiWarning,
        stacklevel=4,
    )
    side = max(1, math.isqrt(SPECTRA_BYTES // (data.shape[2] * data.dtype.itemsize)))
    return data.rechunk({0: side, 1: side, 2: -1})


def _on_block(
    block: Numbers,
    *,
    kernel: Kernel,
    outputs: int,
    dtype: DTypeLike,
    fill: float,
    last: bool,
    slab: int,
    threads: int | None,
) -> Numbers:
    """Return what `on_pixels` returns, for one block in memory (rows, columns, features)."""
    height, width, features = block.shape
    out = np.full((height, width, outputs) if last else (outputs, height, width), fill, dtype)

    def work(corner: tuple[slice, slice]) -> None:
        part = block[corner]
        spectra = part.reshape(-1, features).astype(np.float64)
        valid = np.isfinite(spectra).all(1)
        if not valid.any():
            return
        values = np.full((len(spectra), outputs), fill, dtype)
        values[valid] = kernel(spectra[valid])
        image = values.reshape(*part.shape[:2], outputs)
        out[corner if last else (slice(None), *corner)] = image if last else np.moveaxis(image, -1, 0)

    in_parallel(work, _slabs(height, width, slab), asked_for() if threads is None else threads)
    return out


def _slabs(height: int, width: int, slab: int) -> list[tuple[slice, slice]]:
    """Return rows and columns of the parts of at most `slab` pixels that a block is cut into."""
    narrow, low = min(slab, max(width, 1)), max(1, slab // max(width, 1))
    return [(slice(y, y + low), slice(x, x + narrow)) for y in range(0, height, low) for x in range(0, width, narrow)]


def labelled(
    array: LazyOrNumpy,
    cube: xr.DataArray,
    dims: tuple[str, ...],
    name: str,
    attrs: Mapping[str, Any],
    coords: Mapping[str, object] | None = None,
) -> xr.DataArray:
    """Return a DataArray on the pixels of a cube: with its coordinates that lie on y and x, and with `coords`."""
    spatial: dict[Hashable, object] = {
        str(n): c for n, c in cube.coords.items() if set(c.dims) <= {schema.Y, schema.X} and n not in dims
    }
    spatial |= {n: cube[n] for n in (schema.Y, schema.X) if n in cube.coords}
    result = xr.DataArray(array, {**spatial, **(coords or {})}, dims, name, dict(attrs))
    if schema.GRID_MAPPING in spatial:
        result.encoding["grid_mapping"] = schema.GRID_MAPPING
    return result


def endmember_coord(names: tuple[str, ...]) -> dict[str, EndmemberCoord]:
    """Return the coordinate that names endmembers, as the products of `unmix` have it."""
    return {schema.ENDMEMBER: (schema.ENDMEMBER, list(names), {"long_name": "endmember"})}


def counts_first(x: Floats, scale: float, exactly: Callable[[Int16s], Floats], kernel: Kernel) -> Floats:
    """Return values (n, columns) of finite spectra `x` (n, L): by `exactly` where they are counts, else by `kernel`.

    A pixel is of counts where all its values are int16 counts over `scale`. `exactly` takes counts (n, L) of all
    pixels; its results for pixels that are not of counts are replaced by those of `kernel`.
    """
    from hsichunk.kernels import float_sums

    counts, valid, counted = np.empty(x.shape, np.int16), np.ones(len(x), np.bool_), np.ones(len(x), np.bool_)
    others = float_sums.recover_counts(x, scale, counts, valid, counted)
    if others == len(x):
        return np.asarray(kernel(x))
    values = exactly(counts)
    if others:
        values[~counted] = kernel(x[~counted])
    return values
