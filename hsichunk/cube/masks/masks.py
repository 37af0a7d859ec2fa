"""Evaluate the masks that `--mask` takes, as flags of the pixels that the pass and the sample leave out.

weather             more than half of the sky in clouds (red); weather=yellow: 10 to 50 % as well
shadow              cast shadow; shadow=0, shadow=1: the value that means it, where the tile does not tell
water               by the file's own classes; water=ndwi: (green - NIR) / (green + NIR) above 0
ndvi=LOW:HIGH       NDVI outside the range, either end may be missing
brightness=LOW:HIGH mean reflectance of six bands outside the range
FILE                a raster on the grid of the tiles, where neither zero nor no-data; or polygons, inside
outside=FILE        polygons, outside
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bools, Positions
from hsichunk.chunks.windows import Window
from hsichunk.cube.masks.layers import Brightness, Ndvi, Shadow, WaterIndex, WaterLayer, Weather
from hsichunk.cube.masks.polygons import Polygons, is_polygons
from hsichunk.cube.masks.rasters import RasterMask
from hsichunk.errors import CorruptChunk, HsiError, OptionError

if TYPE_CHECKING:
    from hsichunk.readers.model import TileFile

Flags: TypeAlias = NDArray[np.uint32]
"""one bit a mask, set where it leaves the pixel out; 0 for the pixels to keep"""

MOST = 32  # masks, since flags have so many bits
TOGETHER = 1 << 20  # pixels that are evaluated at once for single ones among them
EXPECTED = (
    "weather, weather=yellow, shadow, shadow=VALUE, water, water=ndwi, ndvi=LOW:HIGH, brightness=LOW:HIGH, a raster or "
    "polygon file, or outside=FILE of polygons"
)
BESIDE = (".shx", ".prj")  # files that belong to a shapefile and change its meaning


class Mask(Protocol):
    """One reason to leave pixels out."""

    def check(self, file: TileFile) -> None:
        """Raise HsiError where the tile lacks what the mask needs."""

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        """Return which pixels at the outer product of rows and columns are left out."""


@dataclass(frozen=True)
class Masks:
    """Reasons to leave pixels out, one bit of the flags each, the first one the lowest bit."""

    names: tuple[str, ...]
    """as the user gave them"""
    masks: tuple[Mask, ...]

    def within(self, file: TileFile, window: Window, threads: int, corrupt: bool = False) -> Flags:
        """Return flags (rows, cols) of a window of the file.

        Where a chunk that a mask needs cannot be decoded, this raises CorruptChunk; with `corrupt` the mask leaves the
        chunk's pixels out instead.
        """
        rows, cols = np.arange(window.top, window.bottom), np.arange(window.left, window.right)
        return self.outer(file, rows, cols, threads, corrupt)

    def at(self, file: TileFile, rows: Positions, cols: Positions, threads: int, corrupt: bool = False) -> Flags:
        """Return flags (m,) of single pixels, in any order; those that share a stored chunk are evaluated together."""
        rows, cols = np.asarray(rows, np.intp), np.asarray(cols, np.intp)
        out = np.zeros(len(rows), np.uint32)
        for pixels in _by_column(file, rows, cols):
            down, row = np.unique(rows[pixels], return_inverse=True)
            across, col = np.unique(cols[pixels], return_inverse=True)
            out[pixels] = self.outer(file, down, across, threads, corrupt)[row, col]
        return out

    def outer(self, file: TileFile, rows: Positions, cols: Positions, threads: int, corrupt: bool = False) -> Flags:
        """Return flags (rows, cols) of the outer product of rows and columns, in any order."""
        out = np.zeros((len(rows), len(cols)), np.uint32)
        for bit, mask in enumerate(self.masks):
            try:
                flags = mask.left_out(file, rows, cols, threads)
            except CorruptChunk:
                if not corrupt:
                    raise
                flags = _around_corrupt(mask, file, rows, cols, threads)
            out |= flags.astype(np.uint32) << np.uint32(bit)
        return out

    def check(self, file: TileFile) -> None:
        """Raise HsiError where the tile lacks what a mask needs, or a user's file does not fit the tile."""
        for mask in self.masks:
            mask.check(file)

    def fingerprint(self) -> list[list[str | int]]:
        """Return what the flags depend on besides the tiles: each mask as given, with size and SHA-256 of its files."""
        return [
            [name, *_contents(mask.path if isinstance(mask, (Polygons, RasterMask)) else None)]
            for name, mask in zip(self.names, self.masks, strict=True)
        ]


def _by_column(file: TileFile, rows: Positions, cols: Positions) -> list[Positions]:
    """Group single pixels by column of stored chunks, or by strip of a large one; returns their indices."""
    high, wide, _ = file.reflectance.chunks
    high = min(high, max(1, TOGETHER // wide))
    column = rows // high * (1 + cols.max(initial=0) // wide) + cols // wide
    order = np.argsort(column, kind="stable")
    return [part for part in np.split(order, np.flatnonzero(np.diff(column[order])) + 1) if len(part)]


def _around_corrupt(mask: Mask, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
    """Evaluate a mask where chunks can be decoded; pixels of other chunks are left out."""
    high, wide, _ = file.reflectance.chunks
    flags = np.ones((len(rows), len(cols)), np.bool_)
    for i, j in itertools.product(np.unique(rows // high), np.unique(cols // wide)):
        y, x = np.flatnonzero(rows // high == i), np.flatnonzero(cols // wide == j)
        with contextlib.suppress(CorruptChunk):
            flags[np.ix_(y, x)] = mask.left_out(file, rows[y], cols[x], threads)
    return flags


def _contents(path: str | None) -> list[str | int]:
    """Return size and SHA-256 of a mask's file, and of those that belong to it; nothing for a mask without a file."""
    if path is None:
        return []
    stem, kind = os.path.splitext(path)
    beside = [stem + end for end in BESIDE if os.path.exists(stem + end)] if kind.lower() == ".shp" else []
    contents: list[str | int] = []
    for name in (path, *beside):
        try:
            with open(name, "rb") as file:
                contents += [os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()]
        except OSError as error:
            raise HsiError(f"{name}: cannot be read ({error.strerror})") from error
    return contents


def parse(texts: Sequence[str]) -> Masks:
    """Parse masks as `--mask` takes them; opens no file. Raises OptionError for anything else, and for more than 32."""
    if len(texts) > MOST:
        raise OptionError(f"mask is given {len(texts)} times; expected at most {MOST}")
    return Masks(tuple(texts), tuple(_parse(text) for text in texts))


def _parse(text: str) -> Mask:
    known: dict[str, Mask] = {
        "weather": Weather(yellow=False),
        "weather=red": Weather(yellow=False),
        "weather=yellow": Weather(yellow=True),
        "shadow": Shadow(None),
        "water": WaterLayer(),
        "water=ndwi": WaterIndex(),
    }
    name, equals, value = text.partition("=")
    if text in known:
        return known[text]
    if equals and name == "shadow":
        return Shadow(_number(text, value, "shadow=0 or shadow=1, the value that means shadow"))
    if equals and name in ("ndvi", "brightness"):
        low, high = _range(text, value, f"the range to keep, as {name}=0.2:0.8, {name}=0.2: or {name}=:0.8")
        return Ndvi(low, high) if name == "ndvi" else Brightness(low, high)
    if equals and name == "outside":
        if not is_polygons(value) or not os.path.isfile(value):
            why = "a file that exists" if is_polygons(value) else "a polygon file, as outside=site.geojson"
            raise OptionError(f"mask is {text!r}; expected {why}")
        return Polygons(value, outside=True)
    if is_polygons(text) and os.path.isfile(text):
        return Polygons(text, outside=False)
    if os.path.isfile(text):
        return RasterMask(text)
    raise OptionError(f"mask is {text!r}, which is no file either; expected {EXPECTED}")


def _number(text: str, value: str, expected: str) -> float:
    """Return the number that `value` of the mask `text` is. Raises OptionError, naming what is expected."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise OptionError(f"mask is {text!r}; expected {expected}")
    return number


def _range(text: str, value: str, expected: str) -> tuple[float, float]:
    """Return the range LOW:HIGH that `value` of the mask `text` is. Raises OptionError, naming what is expected."""
    low, colon, high = (part.strip() for part in value.partition(":"))
    ends = (
        _number(text, low, expected) if low else -math.inf,
        _number(text, high, expected) if high else math.inf,
    )
    if not colon or not (low or high) or ends[0] > ends[1]:
        raise OptionError(f"mask is {text!r}; expected {expected}")
    return ends
