"""Draw an endless synthetic scene, of which tiles are windows.

Every value depends only on the seed and on its row and column on the global grid. The kernels use integer hashes, sums
and products only, so that the scene is the same on every processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt

    from hsichunk.array_types import Bools, Float32s, Floats, Ints

MAX_COUNT: Final = 14998  # to which NEON clips
SPOT_CELL: Final = 16  # pixels along the side of a square, each of which holds one spot of a pure endmember
GRAIN: Final = 65536  # abundances are multiples of 1/65536: float32 holds them, and their sum, without error
FAINT: Final = 0.01  # abundances below this become 0

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1, _MULTIPLY_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# numba makes float64 of a uint64 and a plain int: every shift and mask must be a uint64, too
_S11, _S16, _S27, _S30, _S31, _S32, _S48 = (np.uint64(s) for s in (11, 16, 27, 30, 31, 32, 48))
_LOW16 = np.uint64(0xFFFF)
_SPOTS, _RELIEF, _LIGHT, _GLINT, _ENDMEMBER = (np.uint64(s) for s in (1, 2, 3, 4, 100))
_UNIT = 1.0 / 9007199254740992.0
# mean and standard deviation of the sum of four uniform 16-bit integers
_LANES_MEAN, _LANES_SD = 131070.0, 37837.22


@njit(nogil=True, cache=True)
def _mix(z: np.uint64) -> np.uint64:
    """Return the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> _S30)) * _MULTIPLY_1
    z = (z ^ (z >> _S27)) * _MULTIPLY_2
    return z ^ (z >> _S31)


@njit(nogil=True, cache=True)
def _hash(seed: np.uint64, row: int, col: int) -> np.uint64:
    """Return 64 random bits of a pixel."""
    return _mix(_mix(seed + np.uint64(row) * _GOLDEN) + np.uint64(col) * _GOLDEN)


@njit(nogil=True, cache=True)
def _uniform(seed: np.uint64, row: int, col: int) -> np.float64:
    """Return a random number of a pixel, 0 to 1."""
    return np.float64(_hash(seed, row, col) >> _S11) * _UNIT


@njit(nogil=True, cache=True)
def _lattice(seed: np.uint64, row: int, col: int, cell: int) -> np.float64:
    """Return a smooth field 0..1 at a pixel: random values on a lattice of `cell` pixels, interpolated smoothly."""
    i, j = row // cell, col // cell
    v, u = (row - i * cell) / cell, (col - j * cell) / cell
    v, u = v * v * (3.0 - 2.0 * v), u * u * (3.0 - 2.0 * u)
    upper = _uniform(seed, i, j) * (1.0 - u) + _uniform(seed, i, j + 1) * u
    lower = _uniform(seed, i + 1, j) * (1.0 - u) + _uniform(seed, i + 1, j + 1) * u
    return upper * (1.0 - v) + lower * v


@njit(nogil=True, cache=True)
def _terrain(seed: np.uint64, row: int, col: int) -> np.float64:
    """Return a smooth field 0..1 at a pixel, with large, middle and small forms."""
    large = 0.55 * _lattice(seed, row, col, 96)
    return large + 0.3 * _lattice(seed + _GOLDEN, row, col, 29) + 0.15 * _lattice(seed - _GOLDEN, row, col, 9)


@njit(nogil=True, cache=True)
def _spot(seed: np.uint64, row: int, col: int, k: int) -> int:
    """Return the index of the endmember whose pure spot covers the pixel, or -1."""
    i, j = row // SPOT_CELL, col // SPOT_CELL
    bits = _hash(seed, i, j)
    free = np.uint64(SPOT_CELL - 6)
    y = row - i * SPOT_CELL - 2 - np.int64(bits % free)
    x = col - j * SPOT_CELL - 2 - np.int64((bits >> _S32) % free)
    if y * y + x * x > 5:
        return -1
    stride = 1
    while stride * stride < k:
        stride += 1
    return (j + stride * i) % k


@njit(nogil=True, cache=True)
def _sharpen(weights: Floats, steps: Ints) -> None:
    """Turn smooth fields `weights` (k,) into abundances, whole `steps` (k,) of 1/GRAIN that sum to GRAIN.

    `weights` are overwritten.
    """
    total = 0.0
    for i in range(weights.size):
        w = weights[i] * weights[i]
        w = w * w
        w = w * w
        weights[i] = w * w
        total += weights[i]
    rest, largest = GRAIN, 0
    for i in range(weights.size):
        share = weights[i] / total
        steps[i] = np.int64(share * GRAIN) if share >= FAINT else 0
        rest -= steps[i]
        if weights[i] > weights[largest]:
            largest = i
    steps[largest] += rest


@njit(nogil=True, cache=True)
def _draw(
    seed: np.uint64,
    row0: int,
    col0: int,
    amplitude: float,
    glint: float,
    abundance: Float32s,
    illumination: Float32s,
    relief: Float32s,
    key: npt.NDArray[np.uint64],
) -> None:
    """Fill the fields of a `Scene` for the window that begins at (row0, col0) of the global grid."""
    k, rows, cols = abundance.shape
    seed = _mix(seed + _GOLDEN)
    weights, steps = np.empty(k), np.empty(k, np.int64)
    for r in range(rows):
        for c in range(cols):
            row, col = row0 + r, col0 + c
            key[r, c] = _hash(seed, row, col)
            for i in range(k):
                weights[i] = _terrain(_mix(seed + _ENDMEMBER + np.uint64(i)), row, col)
            _sharpen(weights, steps)
            pure = _spot(_mix(seed + _SPOTS), row, col, k)
            if pure >= 0:
                steps[:] = 0
                steps[pure] = GRAIN
            for i in range(k):
                abundance[i, r, c] = steps[i] / GRAIN
            relief[r, c] = _terrain(_mix(seed + _RELIEF), row, col)
            light = 1.0 + amplitude * (2.0 * _terrain(_mix(seed + _LIGHT), row, col) - 1.0)
            if _uniform(_mix(seed + _GLINT), row, col) < glint:
                light *= 4.0
            illumination[r, c] = light


@njit(nogil=True, cache=True)
def fill(
    out: npt.NDArray[np.integer],
    r0: int,
    c0: int,
    b0: int,
    abundance: Float32s,
    illumination: Float32s,
    key: npt.NDArray[np.uint64],
    valid: Bools,
    spectra: Floats,
    sd: Floats,
    no_data: int,
) -> None:
    """Write the counts of one stored chunk into `out` (rows, cols, bands), int16 or int32.

    `out` has the full shape of the chunk even where that reaches beyond the tile. It begins at pixel (r0, c0) of the
    tile's fields (those of `Scene`, and `valid` (rows, cols)) and at band b0. `spectra` (bands, k) and `sd` (bands,)
    are in counts.
    """
    k, rows, cols = abundance.shape
    bands = min(out.shape[2], sd.size - b0)
    share = np.empty(k)
    for r in range(min(out.shape[0], rows - r0)):
        for c in range(min(out.shape[1], cols - c0)):
            y, x = r0 + r, c0 + c
            if not valid[y, x]:
                out[r, c, :bands] = no_data
                continue
            light = np.float64(illumination[y, x])
            for i in range(k):
                share[i] = np.float64(abundance[i, y, x])
            for b in range(bands):
                count = 0.0
                for i in range(k):
                    count += share[i] * spectra[b0 + b, i]
                count *= light
                if sd[b0 + b] > 0.0:
                    h = _mix(key[y, x] + np.uint64(b0 + b + 1) * _GOLDEN)
                    lanes = (h & _LOW16) + ((h >> _S16) & _LOW16) + ((h >> _S32) & _LOW16) + (h >> _S48)
                    count += sd[b0 + b] * ((np.float64(lanes) - _LANES_MEAN) / _LANES_SD)
                out[r, c, b] = np.int64(min(max(np.rint(count), 0.0), MAX_COUNT))


class Scene(NamedTuple):
    """The fields of one window of the endless scene, one value a pixel."""

    abundance: Float32s
    """(k, rows, cols), multiples of 1/GRAIN that sum to one exactly."""
    illumination: Float32s
    """(rows, cols), factor on the mixed reflectance."""
    relief: Float32s
    """(rows, cols), smooth 0..1, for ancillary layers."""
    key: npt.NDArray[np.uint64]
    """(rows, cols), random bits that the pixel's noise is made from."""


def draw(
    seed: int, start: tuple[int, int], shape: tuple[int, int], k: int, *, illumination: float, glint: float
) -> Scene:
    """Return the fields of a window of `shape` (rows, cols) that begins at `start` (row, col) of the global grid.

    Every aligned square of SPOT_CELL pixels holds a spot of 21 pixels of one pure endmember; any window of
    SPOT_CELL (ceil(sqrt(k)) + 1) pixels on a side shows all k. `illumination` is the largest departure of the factor
    from 1; in a share `glint` of the pixels it is four times as high.
    """
    scene = Scene(
        np.empty((k, *shape), np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.uint64),
    )
    bits = np.uint64(seed % 2**64)
    _draw(bits, *start, float(illumination), float(glint), scene.abundance, scene.illumination, scene.relief, scene.key)
    return scene


def footprint(shape: tuple[int, int], no_data: str) -> Bools:
    """Return where a tile of `shape` has data: everywhere ("none"), right half ("half"), turned square ("corners")."""
    rows, cols = shape
    valid = np.ones(shape, np.bool_)
    if no_data == "half":
        valid[:, : cols // 2] = False
    elif no_data == "corners":
        v = ((2 * np.arange(rows) + 1) / rows - 1.0)[:, np.newaxis]
        u = (2 * np.arange(cols) + 1) / cols - 1.0
        valid = (np.abs(12 * u + 5 * v) <= 14.5) & (np.abs(12 * v - 5 * u) <= 14.5)
    return valid
