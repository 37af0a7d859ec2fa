"""A kernel on the spectra of pixels, applied to a whole cube; and the mean and covariance of a cube, streamed.

What a pixel comes to never depends on the chunk it lies in: kernels add in the order of bands, and the statistics are
sums of integers, which are the same in any order.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.threads import asked_for, in_parallel
from hsichunk.unmixing import _check_cube, _check_endmembers

Floats: TypeAlias = NDArray[np.float64]
Kernel: TypeAlias = Callable[[Floats], NDArray[Any]]

SLAB = 512  # pixels worked at once: 362 bands of two float64 operands are 3 MB
GEMM_SLAB = 4096  # pixels of one matrix product of the statistics
BLOCK_BYTES = 64 << 20  # of whole spectra in a block that had to be rechunked
LIMB = 18  # bits of half a number; products of halves stay below 2**34: a slab of them adds exactly in float64
SINGULAR = 1e-13  # smallest over largest eigenvalue of the band correlations from which no inverse is taken
COMPONENT = "component"

check_cube, check_endmembers = _check_cube, _check_endmembers


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


def whole_spectra(cube: xr.DataArray) -> Any:
    """The data of a cube (y, x, features), NumPy or dask; on dask the features are in one chunk a block."""
    data = cube.data
    if not hasattr(data, "dask") or len(data.chunks[2]) == 1:
        return data
    warnings.warn(
        f"the {cube.dims[2]}s lie in {len(data.chunks[2])} chunks and are rechunked to whole spectra, which holds "
        "blocks in memory: cube.chunk(wavelength=-1) says that this is meant",
        HsiWarning,
        stacklevel=4,
    )
    side = max(1, math.isqrt(BLOCK_BYTES // (data.shape[2] * data.dtype.itemsize)))
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


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of the pixels of a cube that hold data in every band."""

    pixels: int
    mean: Floats
    """(L,)"""
    covariance: Floats
    """(L, L), over pixels - 1"""

    @property
    def correlation(self) -> Floats:
        """(L, L) mean of x x', the mean not taken away (R of Chang)."""
        return self.covariance * ((self.pixels - 1) / self.pixels) + np.outer(self.mean, self.mean)


def statistics(cube: xr.DataArray) -> Statistics:
    """Mean and covariance, float64, of a cube (y, x, wavelength). Computes: reads the cube twice, block by block.

    The first pass finds each band's range, the second adds up values in whole 2**-35ths of it: integers, whose sums
    are the same in any order, so every chunk grid gives the same bits. What that rounds away is far below
    float32's own rounding. Pixels with no-data in any band are left out. Raises HsiError for fewer than two pixels.
    """
    cube = check_cube(cube)
    data = whole_spectra(cube)
    pixels, low, high = _reduce(data, _range, _join_ranges, ())
    if pixels < 2:
        raise HsiError(f"{pixels} pixels hold data in every band; expected at least two for a covariance")
    middle, half = (low + high) / 2, (high - low) / 2
    unit = np.where(half > 0, np.ldexp(1.0, np.frexp(half)[1] - (2 * LIMB - 2)), 1.0)
    total, products = _reduce(data, _moments, _add_moments, (middle, unit))
    return _finished(pixels, total, products, middle, unit)


def _finished(
    pixels: int, total: NDArray[np.int64], products: NDArray[np.int64], middle: Floats, unit: Floats
) -> Statistics:
    bands = len(total)
    # Python's integers: n times a sum of squares is beyond 64 bits
    whole = products.astype(object)
    cross = whole[:bands, bands:]
    square = (whole[:bands, :bands] << 2 * LIMB) + ((cross + cross.T) << LIMB) + whole[bands:, bands:]
    sums = total.astype(object)
    scatter = (square * pixels - np.outer(sums, sums)) / (pixels * (pixels - 1))
    mean = middle + (sums / pixels).astype(np.float64) * unit
    return Statistics(pixels, mean, scatter.astype(np.float64) * np.outer(unit, unit))


def _range(block: NDArray[Any]) -> tuple[int, Floats, Floats]:
    """Valid pixels, and the least and the most of each band among them."""
    count, low, high = 0, np.full(block.shape[2], np.inf), np.full(block.shape[2], -np.inf)
    for spectra in _valid_spectra(block):
        count += len(spectra)
        low, high = np.minimum(low, spectra.min(0)), np.maximum(high, spectra.max(0))
    return count, low, high


def _join_ranges(parts: list[tuple[int, Floats, Floats]]) -> tuple[int, Floats, Floats]:
    counts, lows, highs = zip(*parts, strict=True)
    return sum(counts), np.min(lows, axis=0), np.max(highs, axis=0)


def _moments(block: NDArray[Any], middle: Floats, unit: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sums (L,) and products (2L, 2L) of the high and low halves of every value, in units of its band."""
    bands = block.shape[2]
    total, products = np.zeros(bands, np.int64), np.zeros((2 * bands, 2 * bands), np.int64)
    for spectra in _valid_spectra(block):
        steps = np.rint((spectra - middle) / unit)
        halves = np.empty((len(steps), 2 * bands))
        halves[:, :bands] = np.rint(steps / 2**LIMB)
        halves[:, bands:] = steps - halves[:, :bands] * 2**LIMB
        total += steps.sum(0).astype(np.int64)
        products += (halves.T @ halves).astype(np.int64)
    return total, products


def _add_moments(parts: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    totals, products = zip(*parts, strict=True)
    return sum(totals), sum(products)


def _valid_spectra(block: NDArray[Any]) -> Any:
    """The finite spectra of a block, float64 (n, L), a slab at a time."""
    for corner in _corners(block.shape[0], block.shape[1], GEMM_SLAB):
        spectra = block[corner].reshape(-1, block.shape[2]).astype(np.float64)
        spectra = spectra[np.isfinite(spectra).all(1)]
        if len(spectra):
            yield spectra


def _reduce(data: Any, of_block: Any, join: Any, args: tuple[Any, ...]) -> Any:
    """`of_block` of every block, joined eight at a time."""
    if not hasattr(data, "dask"):
        return of_block(np.asarray(data), *args)
    from dask.delayed import delayed

    parts = [delayed(of_block)(block, *args) for block in data.to_delayed().ravel()]
    while len(parts) > 1:
        parts = [delayed(join)(parts[i : i + 8]) for i in range(0, len(parts), 8)]
    return parts[0].compute()


def whitener(matrix: Floats, ridge: float, bands: Floats) -> Floats:
    """W (L, L) with W'W the inverse of a covariance + ridge * (mean variance) * I.

    Raises HsiError, naming what to do, where that matrix has no inverse in float64.
    """
    if not ridge >= 0:
        raise HsiError(f"ridge is {ridge}; expected 0 or a small share of the mean variance, as 1e-6")
    matrix = matrix + ridge * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
    scale = np.sqrt(np.diag(matrix))
    if not (scale > 0).all():
        flat = bands[int((scale > 0).argmin())]
        raise HsiError(f"band {flat:g} nm is the same in every pixel; drop it, or give ridge=1e-6")
    scaled = matrix / np.outer(scale, scale)
    values = np.linalg.eigvalsh(scaled)
    if values[0] <= SINGULAR * values[-1]:
        raise HsiError(
            f"the covariance of {len(matrix)} bands has no inverse (too few pixels, or bands that follow from others); "
            "give ridge=1e-6, fewer bands or more pixels"
        )
    lower = np.linalg.inv(np.linalg.cholesky(scaled))
    return np.ascontiguousarray(np.tril(lower) / scale)
