"""Describe in attributes where data come from, in words short enough for the first screen of a repr.

Each attribute states what was true when the file was opened or the cube was cleaned. It stays true whatever is
selected, computed or reprojected later, so that it may be kept through all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from hsichunk.array_types import Floats, Positions
from hsichunk.grid import Grid

SENSOR: Final = "sensor"
SITE: Final = "site"
CRS: Final = "source_crs"
GRID: Final = "source_grid"
BANDS: Final = "source_bands"
CHUNKS: Final = "stored_chunks"
CLEANED: Final = "cleaned"

NEON_SENSOR: Final = "NEON AOP imaging spectrometer"

CARRIED: Final = (SENSOR, SITE, CRS, GRID, CHUNKS, CLEANED)
"""attributes that a cube takes over from its tile, in this order"""
MADE: Final = (SENSOR, SITE, CRS, GRID, CLEANED)
"""attributes that products take over: those that are the same for any stored layout"""
PLACE: Final = (SENSOR, SITE, CRS)
"""attributes that hold for single pixels of a cube too"""

_CODE = re.compile(
    r'(?:ID|AUTHORITY)\["EPSG",\s*"?(\d+)"?\]\s*\]\s*$'
)  # the last code in a WKT is that of the whole CRS


def crs_words(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Return the attribute of the CRS that `spatial_ref` names, as "EPSG:32618, WGS 84 / UTM zone 18N".

    `mapping` are the attributes of `spatial_ref`; the result is empty where they name no CRS.
    """
    wkt = str(mapping.get("crs_wkt") or mapping.get("spatial_ref") or "")
    name = mapping.get("projected_crs_name") or mapping.get("geographic_crs_name")
    if name is None:
        name = wkt.split('"')[1] if wkt.count('"') > 1 else None
    code = _CODE.search(wkt)
    words = ", ".join([*([f"EPSG:{code[1]}"] if code else []), *([str(name)] if name else [])])
    return {CRS: words} if words else {}


def carried(attrs: Mapping[str, Any], names: Sequence[str] = CARRIED) -> dict[str, Any]:
    """Return those of the attributes that stay true of what is made of the data."""
    return {name: attrs[name] for name in names if name in attrs}


def grid_words(rows: int, cols: int, grid: Grid, tiles: int = 1) -> str:
    """Return rows and columns, pixel size and upper left corner in metres as text, and the number of several tiles."""
    dx, dy = grid.dx, grid.dy
    size = f"{dx:g}" if dx == dy else f"{dx:g} x {dy:g}"
    count = f", {tiles} tiles" if tiles > 1 else ""
    return f"{rows} x {cols} of {size} m{count}, upper left {grid.left:.10g} {grid.top:.10g}"


def band_words(wavelength: Floats, windows: Sequence[tuple[float, float]]) -> str:
    """Return the number of bands, their range and the bad-band windows of the file in nm, as text."""
    bad = f"; bad: {_ranges(windows)} nm" if windows else ""
    return f"{len(wavelength)}, {wavelength[0]:.0f} to {wavelength[-1]:.0f} nm{bad}"


def chunk_words(chunks: Sequence[int] | None, dtype: np.dtype[np.generic]) -> str:
    """Return the shape (y, x, band) and type of stored chunks as text; `chunks` is None for data in one piece."""
    return f"{' x '.join(map(str, chunks)) if chunks else 'none, in one piece'}, {dtype.name}"


def cleaned_words(
    wavelength: Floats,
    bands: Positions,
    bad: Sequence[tuple[float, float]],
    drop_last: int,
    keep: Sequence[tuple[float, float]] | None,
    every: int,
    lesson_bands: bool,
) -> str:
    """Return as text how many bands a cleaning kept, of how many, and which it left out.

    `wavelength` (nm) are all bands of the tile, `bands` the positions of those of the cube; the others are options of
    `clean`: bad-band windows, noisy bands at the end, ranges to keep, one band in `every`, and the lesson's rule.
    """
    nm = wavelength
    touched = [(low, high) for low, high in bad if ((nm >= low) & (nm <= high)).any()]
    without = [f"{_ranges(touched)} nm"] if touched else []
    if lesson_bands and touched:
        without.append("one below each")
    if drop_last:
        without.append(f"last {min(drop_last, len(nm))}")
    words = f"{len(bands)} of {len(nm)} bands"
    if keep is not None:
        words += f", {_ranges(keep)} nm"
    if every > 1:
        words += f", one in {every}"
    return words + (f", without {', '.join(without)}" if without else "")


def _ranges(ranges: Sequence[tuple[float, float]]) -> str:
    """Return ranges (low, high) as text."""
    return ", ".join(f"{low:g}-{high:g}" for low, high in ranges)
