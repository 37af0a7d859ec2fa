"""Masks from what a tile itself holds: its ancillary layers, and a few of its bands.

Every mask says which of the pixels at the outer product of rows and columns are left out, and reads only these pixels:
the answer does not depend on the window.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Bools, Ints, Numbers, Positions
from hsichunk.errors import CorruptChunk, HsiError, HsiWarning
from hsichunk.readers import neon_layers

if TYPE_CHECKING:
    from hsichunk.readers.model import Layer, TileFile


GREEN, RED, NIR = 560.0, 665.0, 865.0  # nm
BRIGHTNESS = (490.0, GREEN, RED, NIR, 1610.0, 2200.0)  # nm
FARTHEST = 25.0  # nm from a wanted wavelength to the band that is used for it
YELLOW_CLASS, RED_CLASS = 2, 3  # of the weather quality in products of version .002
WATER: Final = {
    "haze_cloud_water": [code for code, name in enumerate(neon_layers.HAZE.split()) if "water" in name],
    "dark_dense_vegetation": [1],
}
NOTHING = (241, -9999)  # what stands for no data in layers of classes, whether or not their attributes say so
CERTAIN = 0.01  # share of pixels up to which the rarer value is the shadow, however bright
DARKER = 0.9  # the median of the shadow is at most this share of the median of the others
STRIP_PIXELS = 1 << 20  # read at a time
LARGEST_COUNT = 1 << 15  # counts that are told apart: larger ones are taken for the last of them


def layer(file: TileFile, name: str, mask: str, instead: str = "leave the mask out") -> Layer:
    """Return the ancillary layer `name`, of one value or three colours a pixel, which mask `mask` needs.

    Raises HsiError, which advises the user to do `instead`, where the file has none.
    """
    size = file.reflectance.shape[:2]
    for candidate in file.layers:
        if candidate.name == name and candidate.stored.shape in (size, (*size, 3)):
            return candidate
    names = ", ".join(sorted(other.name for other in file.layers if other.stored.shape[:2] == size)) or "none"
    raise HsiError(f"{file.path}: no layer {name}, which mask {mask} needs (layers: {names}); {instead}")


@dataclass(frozen=True)
class Weather:
    """Pixels measured under a cloudy sky: more than half covered (red), or also 10 to 50 % (yellow)."""

    yellow: bool
    """whether yellow pixels are left out too"""

    def check(self, file: TileFile) -> None:
        layer(file, "weather_quality", "weather")

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        stored = layer(file, "weather_quality", "weather").stored
        if len(stored.shape) == 2:
            classes = [RED_CLASS, YELLOW_CLASS] if self.yellow else [RED_CLASS]
            return np.isin(stored.read(rows, cols, threads=threads), classes)
        red, green, blue = np.moveaxis(stored.read(rows, cols, np.arange(3), threads=threads) > 127, -1, 0)
        flags: Bools = red & ~blue if self.yellow else red & ~green & ~blue
        return flags


@dataclass(frozen=True)
class WaterLayer:
    """Water, also under cloud or haze, by the file's haze, cloud and water map or its vegetation classification."""

    def check(self, file: TileFile) -> None:
        self._layer(file)

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        water = self._layer(file)
        return np.isin(water.stored.read(rows, cols, threads=threads), WATER[water.name])

    def _layer(self, file: TileFile) -> Layer:
        """Return the first layer of `WATER` that holds one value a pixel."""
        classified = [each for name in WATER for each in file.layers if each.name == name]
        flat = [each for each in classified if len(each.stored.shape) == 2]
        return flat[0] if flat else layer(file, "haze_cloud_water", "water", "give water=ndwi, or leave the mask out")


class Polarity(NamedTuple):
    """Which value of a cast shadow layer means shadow."""

    shadow: float | None
    """the value; None where the layer shows no shadow"""
    values: list[float]
    """all values of the layer; empty where its description told the meaning, so that none were looked up"""


@dataclass(frozen=True)
class Shadow:
    """Cast shadow: the pixels that hold `value`; with None the tile decides which of its two values means shadow.

    The polarity differs between releases. The layer's description decides where it names one. Else the shadow is the
    value that fewer pixels have, provided that they are darker near 865 nm as well (their median at most 0.9 of that
    of the others), or at most 1 % of the pixels. A layer of one value shows no shadow: no tile lies wholly in it.
    """

    value: float | None

    def check(self, file: TileFile) -> None:
        if len(shape := layer(file, "cast_shadow", "shadow").stored.shape) != 2:
            raise HsiError(f"{file.path}: cast_shadow has shape {shape}; expected one value a pixel")
        if self.value is None and len(values := self._polarity(file, 1).values) == 1:
            warnings.warn(
                f"{file.path}: cast shadow is {values[0]:g} in every pixel, taken for no shadow; give "
                f"shadow={values[0]:g} to leave them out",
                HsiWarning,
                stacklevel=2,
            )

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        values = layer(file, "cast_shadow", "shadow").stored.read(rows, cols, threads=threads)
        shadow = self._polarity(file, threads).shadow if self.value is None else self.value
        flags: Bools = np.zeros(values.shape, np.bool_) if shadow is None else values == shadow
        return flags

    def _polarity(self, file: TileFile, threads: int) -> Polarity:
        """Return what the layer's values mean; the file is looked at once."""
        cast_shadow = layer(file, "cast_shadow", "shadow")
        key = (cast_shadow.stored.path, cast_shadow.stored.stamp)
        if key not in _POLARITY_OF:  # two threads may both decide; the answer is the same
            value = described(cast_shadow.attrs)
            _POLARITY_OF[key] = Polarity(value, []) if value is not None else decide(file, cast_shadow, threads)
        return _POLARITY_OF[key]


_POLARITY_OF: dict[tuple[str, tuple[int, int]], Polarity] = {}  # by path and stamp of the layer
_DESCRIPTIONS = (
    r"\b(\d+)\s*(?:=|:|-|is|means)\s*(?:in\s+)?(?:cast[\s_]+)?shadow",
    r"(?<!no )(?<!not )(?<!non-)(?<!no cast )\bshadow(?:ed)?\s*=\s*(\d+)",
)


def described(attrs: Mapping[str, object]) -> float | None:
    """Return the value that means shadow by the layer's own words, as "0 = no shadow, 1 = shadow"; None without any."""
    texts = [str(value).lower() for value in attrs.values() if isinstance(value, (str, bytes))]
    values = {int(number) for text in texts for pattern in _DESCRIPTIONS for number in re.findall(pattern, text)}
    return float(values.pop()) if len(values) == 1 else None


def decide(file: TileFile, cast_shadow: Layer, threads: int) -> Polarity:
    """Return which of two values means shadow, by how many pixels have it and how dark they are: see `Shadow`.

    Raises HsiError where these do not tell, and for a layer of more values.
    """
    (band,) = bands_near(file, (NIR,), "shadow")
    tones = _tones(file, cast_shadow, int(band), threads)
    values = sorted(tones)
    if len(values) < 2:
        return Polarity(None, values)
    how = "give shadow=VALUE to name the value that means shadow"
    if len(values) > 2:
        listed = ", ".join(f"{value:g}" for value in values[:6])
        raise HsiError(f"{file.path}: cast shadow holds {listed}{', ...' if len(values) > 6 else ''}; {how}")
    rare, common = sorted(values, key=lambda value: int(tones[value].sum()))
    share = tones[rare].sum() / (tones[rare].sum() + tones[common].sum())
    dark, light = _median(tones[rare]), _median(tones[common])
    if share <= CERTAIN or (share < 0.5 and dark <= DARKER * light):
        return Polarity(rare, values)
    raise HsiError(
        f"{file.path}: cannot tell which value of cast_shadow means shadow: {100 * share:.0f} % are {rare:g} with a "
        f"median reflectance of {dark / file.scale:.3f} near {NIR:g} nm, the others {common:g} with "
        f"{light / file.scale:.3f}; give shadow={values[0]:g} or shadow={values[1]:g}, the value that means shadow"
    )


def _tones(file: TileFile, cast_shadow: Layer, band: int, threads: int) -> dict[float, Ints]:
    """Return, for each value of a layer, how many pixels with data have each count in a band (LARGEST_COUNT,)."""
    high, wide = file.reflectance.shape[:2]
    deep = file.reflectance.chunks[0]
    step = max(1, STRIP_PIXELS // wide // deep) * deep if deep * wide <= STRIP_PIXELS else max(1, STRIP_PIXELS // wide)
    of_attrs = np.ravel(cast_shadow.attrs.get(schema.NO_DATA, ()))
    nothing = [*NOTHING, *(of_attrs if of_attrs.dtype.kind in "iuf" else ())]
    tones: dict[float, Ints] = {}
    parts = [(np.arange(top, min(top + step, high)), np.arange(wide)) for top in range(0, high, step)]
    while parts:
        rows, cols = parts.pop()
        try:
            counts = file.reflectance.read(rows, cols, np.array([band]), threads=threads)[..., 0]
        except CorruptChunk:  # the pass reports it; the chunks around it suffice here
            smaller = by_chunk(file, rows, cols)
            parts += smaller if len(smaller) > 1 else []
            continue
        values = cast_shadow.stored.read(rows, cols, threads=threads)
        known = (counts != file.no_data) & ~np.isin(values, nothing) & (values == values)
        for value in np.unique(values[known])[:16]:
            with_value = counts[known & (values == value)].clip(0, LARGEST_COUNT - 1)
            tones[float(value)] = tones.get(float(value), 0) + np.bincount(with_value, minlength=LARGEST_COUNT)
    return tones


def by_chunk(file: TileFile, rows: Positions, cols: Positions) -> list[tuple[Positions, Positions]]:
    """Cut the outer product of rows and columns into parts that each lie in one column of stored chunks."""
    high, wide, _ = file.reflectance.chunks
    down = [rows[rows // high == i] for i in np.unique(rows // high)]
    across = [cols[cols // wide == j] for j in np.unique(cols // wide)]
    return [(y, x) for y in down for x in across]


def _median(tones: Ints) -> int:
    """Return the median count of pixels, of which `tones` says how many have each count."""
    return int(np.searchsorted(tones.cumsum(), tones.sum() / 2))


def bands_near(file: TileFile, wanted: tuple[float, ...], mask: str) -> Positions:
    """Return the band of the file nearest to each wanted wavelength (nm).

    Raises HsiError, naming `mask`, where that is more than 25 nm away.
    """
    bands: Positions = np.abs(file.wavelength - np.array(wanted)[:, np.newaxis]).argmin(axis=1)
    for nm, nearest in zip(wanted, file.wavelength[bands], strict=True):
        if abs(nm - nearest) > FARTHEST:
            raise HsiError(
                f"{file.path}: mask {mask} needs a band near {nm:g} nm, the nearest lies at {nearest:g} nm; "
                "leave the mask out"
            )
    return bands


@dataclass(frozen=True)
class WaterIndex:
    """NDWI (green - near infrared) / (green + near infrared) above 0, bands near 560 and 865 nm. McFeeters 1996."""

    def check(self, file: TileFile) -> None:
        bands_near(file, (GREEN, NIR), "water=ndwi")

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        bands = bands_near(file, (GREEN, NIR), "water=ndwi")
        counts, valid = _counts(file, rows, cols, bands, threads)
        total = counts[..., 0].astype(np.int64) + counts[..., 1]
        flags: Bools = valid & (total > 0) & (counts[..., 0] > counts[..., 1])
        return flags


@dataclass(frozen=True)
class Ndvi:
    """NDVI (near infrared - red) / (near infrared + red) outside low..high or undefined; bands near 665 and 865 nm."""

    low: float
    high: float

    def check(self, file: TileFile) -> None:
        bands_near(file, (RED, NIR), "ndvi")

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        counts, valid = _counts(file, rows, cols, bands_near(file, (RED, NIR), "ndvi"), threads)
        red, nir = counts[..., 0].astype(np.float64), counts[..., 1].astype(np.float64)
        total = nir + red
        index = np.divide(nir - red, total, out=np.full(total.shape, np.nan), where=total > 0)
        flags: Bools = valid & ~((self.low <= index) & (index <= self.high))
        return flags


@dataclass(frozen=True)
class Brightness:
    """Mean reflectance outside low..high, of the bands near 490, 560, 665, 865, 1610 and 2200 nm."""

    low: float
    high: float

    def check(self, file: TileFile) -> None:
        bands_near(file, BRIGHTNESS, "brightness")

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        counts, valid = _counts(file, rows, cols, bands_near(file, BRIGHTNESS, "brightness"), threads)
        mean = counts.sum(axis=-1, dtype=np.int64) / (len(BRIGHTNESS) * file.scale)
        flags: Bools = valid & ~((self.low <= mean) & (mean <= self.high))
        return flags


def _counts(file: TileFile, rows: Positions, cols: Positions, bands: Positions, threads: int) -> tuple[Numbers, Bools]:
    """Return counts (rows, cols, bands), and which pixels (rows, cols) hold data in all of these bands."""
    counts = file.reflectance.read(rows, cols, bands, threads=threads)
    return counts, (counts != file.no_data).all(axis=-1)
