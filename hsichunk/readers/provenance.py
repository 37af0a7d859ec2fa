"""Where data come from, in words: attributes that the first screen of a repr shows.

Each says what was so when the file was opened, or the cube cleaned; so it stays true whatever is selected, computed or
reprojected later, and may be kept through all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
"""what is handed on to what is made of a tile, in this order"""
MADE: Final = (SENSOR, SITE, CRS, GRID, CLEANED)
"""the part of it that is handed on to products: the same from any stored layout"""
PLACE: Final = (SENSOR, SITE, CRS)
"""the part of it that holds for pixels taken out of it"""

_CODE = re.compile(r'(?:ID|AUTHORITY)\["EPSG",\s*"?(\d+)"?\]\s*\]\s*$')  # the last of a WKT is that of the whole


def crs_words(said: Mapping[str, Any]) -> dict[str, str]:
    """The CRS that the attributes of `spatial_ref` name, as "EPSG:32618, WGS 84 / UTM zone 18N"; nothing if none."""
    wkt = str(said.get("crs_wkt") or said.get("spatial_ref") or "")
    name = said.get("projected_crs_name") or said.get("geographic_crs_name")
    if name is None:
        name = wkt.split('"')[1] if wkt.count('"') > 1 else None
    code = _CODE.search(wkt)
    words = ", ".join([*([f"EPSG:{code[1]}"] if code else []), *([str(name)] if name else [])])
    return {CRS: words} if words else {}


def carried(attrs: Mapping[str, Any], names: Sequence[str] = CARRIED) -> dict[str, Any]:
    """Those of the attributes that are also true of what is made of the data."""
    return {name: attrs[name] for name in names if name in attrs}


def grid_words(rows: int, cols: int, grid: Grid, tiles: int = 1) -> str:
    """Rows and columns, pixel size and upper left corner in metres."""
    dx, dy = grid.dx, grid.dy
    side = f"{dx:g}" if dx == dy else f"{dx:g} x {dy:g}"
    many = f", {tiles} tiles" if tiles > 1 else ""
    return f"{rows} x {cols} of {side} m{many}, upper left {grid.left:.10g} {grid.top:.10g}"


def band_words(wavelength: NDArray[np.float64], windows: Sequence[tuple[float, float]]) -> str:
    """How many bands from where to where, and the bad ones that the file names."""
    bad = f"; bad: {_ranges(windows)} nm" if windows else ""
    return f"{len(wavelength)}, {wavelength[0]:.0f} to {wavelength[-1]:.0f} nm{bad}"


def chunk_words(chunks: Sequence[int] | None, dtype: Any) -> str:
    """The stored chunks (y, x, band), or None where an array is stored in one piece."""
    return f"{' x '.join(map(str, chunks)) if chunks else 'none, in one piece'}, {np.dtype(dtype).name}"


def cleaned_words(
    wavelength: NDArray[np.float64],
    kept: NDArray[np.intp],
    bad: Sequence[tuple[float, float]],
    drop_last: int,
    keep: Sequence[tuple[float, float]] | None,
    every: int,
    lesson_bands: bool,
) -> str:
    """How many bands of how many a cleaning kept, and which it left out."""
    nm = wavelength
    touched = [(low, high) for low, high in bad if ((nm >= low) & (nm <= high)).any()]
    without = [f"{_ranges(touched)} nm"] if touched else []
    if lesson_bands and touched:
        without.append("one below each")
    if drop_last:
        without.append(f"last {min(drop_last, len(nm))}")
    said = f"{len(kept)} of {len(nm)} bands"
    if keep is not None:
        said += f", {_ranges(keep)} nm"
    if every > 1:
        said += f", one in {every}"
    return said + (f", without {', '.join(without)}" if without else "")


def _ranges(ranges: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{low:g}-{high:g}" for low, high in ranges)
