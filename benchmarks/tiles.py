"""What the benchmarks work on: synthetic tiles in both stored layouts, written once and used again."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema

LAYOUTS: Final = {"spatial": "DP3.001", "band": "DP3.002"}  # as NEON stored its mosaics until 2021 and since 2022
EAST, NORTH = 368000.0, 4307000.0


@dataclass(frozen=True)
class Sizes:
    """How much each part works on."""

    side: int
    """rows and columns of a tile"""
    bands: int
    window: int
    """rows and columns of a user's dask blocks"""
    windows: int
    """of them worked where each decodes the whole tile"""
    crop: int
    """rows and columns for PySpTools"""
    growth_side: int
    """rows and columns of the tiles of a growing run"""
    growth: tuple[int, ...]
    """tiles in one run"""
    mixtures: int
    """pixels for the FCLS kernels"""


FULL = Sizes(
    side=1000, bands=426, window=250, windows=2, crop=100, growth_side=400, growth=(1, 4, 16), mixtures=300_000
)
SMALL = Sizes(side=96, bands=64, window=48, windows=2, crop=10, growth_side=48, growth=(1, 2), mixtures=2000)


@dataclass(frozen=True)
class Setting:
    """One call of the benchmarks."""

    data: Path
    """folder of the tiles, and of what runs write for a while"""
    sizes: Sizes
    threads: int
    repeat: int
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    warm: bool = True
    """whether whole runs are made once more than counted, before the others"""
    memory: str = "512MB"
    k: int = 4

    @property
    def few(self) -> int:
        """Repeats of what takes minutes."""
        return min(self.repeat, 3)


def tile(setting: Setting, layout: str) -> Path:
    """The tile of a layout, written where it is missing."""
    return _written(setting, layout, setting.sizes.side, 0, 1)


def neighbours(setting: Setting, layout: str, count: int) -> list[Path]:
    """Smaller tiles side by side, of which the first `count` make up a block of one scene."""
    across = math.isqrt(max(setting.sizes.growth) - 1) + 1
    return [_written(setting, layout, setting.sizes.growth_side, number, across) for number in range(count)]


def _written(setting: Setting, layout: str, side: int, number: int, across: int) -> Path:
    from hsichunk.synthetic.tile import write_tile

    place = f"_{number // across}_{number % across}" if across > 1 else ""
    path = setting.data / f"{layout}_{side}x{side}x{setting.sizes.bands}{place}.h5"
    if not path.exists():
        say(f"writing {path}")
        write_tile(
            path,
            shape=(side, side),
            bands=setting.sizes.bands,
            product=LAYOUTS[layout],
            origin=(EAST + number % across * side, NORTH - number // across * side),
            threads=setting.threads,
        )
    return path


def named(layout: str, side: int, bands: int, count: int = 1) -> str:
    """Layout and size in words."""
    return f"{layout}, {f'{count} of ' if count > 1 else ''}{side} x {side} x {bands}"


def kept_bands(wavelength: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which bands the job keeps, by NEON's own rule: outside the water windows, without the last ten."""
    kept = np.ones(len(wavelength), np.bool_)
    for low, high in schema.NEON_WINDOWS:
        kept &= (wavelength < low) | (wavelength > high)
    kept[-schema.NEON_DROP_LAST :] = False
    return kept


def say(message: str) -> None:
    """Progress, beside the table."""
    print(f"benchmarks: {message}", file=sys.stderr, flush=True)
