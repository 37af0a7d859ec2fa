"""A kernel on the spectra of pixels, applied to a whole cube; and what detectors and transforms need of its mean.

What a pixel comes to never depends on the chunk it lies in: kernels add in the order of bands.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.errors import HsiWarning
from hsichunk.memory import SPECTRA_BYTES
from hsichunk.threads import asked_for, in_parallel

Kernel: TypeAlias = Callable[[Floats], NDArray[Any]]

SLAB = 512  # pixels worked at once: 362 bands of two float64 operands are 3 MB


def on_pixels(
    cube: xr.DataArray,
    kernel: Kernel,
    outputs: int,
    *,
    dtype: Any = np.float32,
    fill: float = np.nan,
    last: bool = False,
    slab: int = SLAB,
    threads: int | None = None,
) -> Any:
    """`kernel` of every pixel's spectrum: an array (outputs, y, x), or (y, x, outputs) where `last`; lazy on dask.

    cube: (y, x, features) in that order. The kernel gets float64 (n, features) of at most `slab` pixels, all of them
    finite, and gives (n, outputs); it is to treat each row by itself. Pixels that are not finite in every feature hold
    `fill`. A cube chunked along its features is rechunked to whole spectra, with a warning. Blocks run on the threads
    of `hsichunk.threads`, or on `threads`.
    """
    work = partial(
        _on_block, kernel=kernel, outputs=outputs, dtype=dtype, fill=fill, last=last, slab=slab, threads=threads
    )
    data = whole_spectra(cube)
    if not hasattr(data, "dask"):
        return work(np.asarray(data))
    import dask.array as da

    down, across, _ = data.chunks
    own: tuple[int, ...] = (outputs,)
    axes: dict[str, Any] = {} if last else {"drop_axis": [2], "new_axis": [0]}
    return da.map_blocks(  # type: ignore[no-untyped-call]
        work,
        data,
        **axes,
        chunks=(down, across, own) if last else (own, down, across),
        meta=np.empty((0, 0, 0), dtype),
    )


def whole_spectra(cube: xr.DataArray, hint: str = "cube.chunk(wavelength=-1) says that this is meant") -> Any:
    """The data of a cube (y, x, features), NumPy or dask; on dask the features are in one chunk a block.

    Warns, with a hint, of a cube that has to be rechunked for it.
    """
    data = cube.data
    if not hasattr(data, "dask") or len(data.chunks[2]) == 1:
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
    block: NDArray[Any],
    *,
    kernel: Kernel,
    outputs: int,
    dtype: Any,
    fill: float,
    last: bool,
    slab: int,
    threads: int | None,
) -> NDArray[Any]:
    height, width, features = block.shape
    out = np.full((height, width, outputs) if last else (outputs, height, width), fill, dtype)

    def work(corner: tuple[slice, slice]) -> None:
        part = block[corner]
        spectra = part.reshape(-1, features).astype(np.float64)
        valid = np.isfinite(spectra).all(1)
        if not valid.any():
            return
        found = np.full((len(spectra), outputs), fill, dtype)
        found[valid] = kernel(spectra[valid])
        shaped = found.reshape(*part.shape[:2], outputs)
        out[corner if last else (slice(None), *corner)] = shaped if last else np.moveaxis(shaped, -1, 0)

    in_parallel(work, _corners(height, width, slab), asked_for() if threads is None else threads)
    return out


def _corners(height: int, width: int, slab: int) -> list[tuple[slice, slice]]:
    narrow, low = min(slab, max(width, 1)), max(1, slab // max(width, 1))
    return [(slice(y, y + low), slice(x, x + narrow)) for y in range(0, height, low) for x in range(0, width, narrow)]


def labelled(
    array: Any,
    cube: xr.DataArray,
    dims: tuple[str, ...],
    name: str,
    attrs: Mapping[str, Any],
    coords: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """A DataArray on the pixels of a cube: with its coordinates that lie on y and x, and those given."""
    spatial = {str(n): c for n, c in cube.coords.items() if set(c.dims) <= {schema.Y, schema.X} and n not in dims}
    spatial |= {n: cube[n] for n in (schema.Y, schema.X) if n in cube.coords}
    found = xr.DataArray(array, {**spatial, **(coords or {})}, dims, name, dict(attrs))
    if schema.GRID_MAPPING in spatial:
        found.encoding["grid_mapping"] = schema.GRID_MAPPING
    return found


def endmember_coord(names: tuple[str, ...]) -> dict[str, Any]:
    """The coordinate that names endmembers, as the products of `unmix` have it."""
    return {schema.ENDMEMBER: (schema.ENDMEMBER, list(names), {"long_name": "endmember"})}


def counts_first(x: Floats, scale: float, exactly: Callable[[NDArray[np.int16]], Floats], kernel: Kernel) -> Floats:
    """Spectra (n, L), finite, to (n, columns): pixels that are counts over `scale` by `exactly`, others by `kernel`.

    `exactly` takes counts (n, L) of all pixels; what it makes of those that are none is not used.
    """
    from hsichunk.kernels import float_sums

    rows, valid, counted = np.empty(x.shape, np.int16), np.ones(len(x), np.bool_), np.ones(len(x), np.bool_)
    others = float_sums.recover_counts(x, scale, rows, valid, counted)
    if others == len(x):
        return np.asarray(kernel(x))
    found = exactly(rows)
    if others:
        found[~counted] = kernel(x[~counted])
    return found
