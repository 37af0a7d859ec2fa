"""Encode maps as small images inside the page, without axes: PNG with a palette, or JPEG."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Bools, Bytes, Float32s
from hsichunk.classification.palette import class_colors

SHADES = 64  # of a map of numbers; more cannot be told apart and compress worse
WHITE = (255, 255, 255)
AGREE, DIFFER, ONLY_FIRST, ONLY_SECOND, NEITHER = range(5)  # how two class maps compare in a pixel
AGREEMENT: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("same class", (225, 225, 225)),
    ("different classes", (213, 94, 0)),
    ("only {0} gives a class", (0, 114, 178)),
    ("only {1} gives a class", (240, 228, 66)),
    ("neither gives a class", (120, 120, 120)),
)


def png(index: Bytes, palette: Bytes, transparent: int | None = None) -> str:
    """Return an image (h, w) of entries of a palette (n, 3), as data URI."""
    colors = {i: (r, g, b, 0 if i == transparent else 255) for i, (r, g, b) in enumerate(palette.tolist())}
    return _encode(index[None], "PNG", "image/png", colors, ZLEVEL=6)


def jpeg(image: Bytes) -> str:
    """Return an image (h, w, 3) as data URI."""
    return _encode(np.moveaxis(image, -1, 0), "JPEG", "image/jpeg", None, QUALITY=85)


def svg(text: str) -> str:
    """Return an SVG as data URI."""
    return _uri("image/svg+xml", text.encode())


def _uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _encode(
    bands: Bytes,
    driver: str,
    media_type: str,
    colors: Mapping[int, tuple[int, int, int, int]] | None,
    **options: int,
) -> str:
    """Return an image (band, h, w) as data URI, written by a driver of GDAL with its `options`."""
    import rasterio
    from rasterio.io import MemoryFile

    count, height, width = bands.shape
    profile = {"driver": driver, "count": count, "height": height, "width": width, "dtype": "uint8", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.Env(GDAL_PAM_ENABLED=False), MemoryFile() as memory:
            with memory.open(**profile) as raster:
                raster.write(bands)
                if colors:
                    raster.write_colormap(1, colors)
            return _uri(media_type, memory.read())


def shade(values: Float32s, low: float, high: float, cmap: str) -> str:
    """Return numbers (h, w) in the shades of a colour map between two limits, as data URI; NaN is transparent."""
    scaled = (np.where(np.isfinite(values), values, low) - low) / ((high - low) or 1.0)
    index = np.clip(np.rint(scaled * (SHADES - 1)), 0, SHADES - 1).astype(np.uint8)
    index[~np.isfinite(values)] = SHADES
    return png(index, np.concatenate([ramp(cmap), np.array([WHITE], np.uint8)]), SHADES)


def ramp(cmap: str) -> Bytes:
    """Return the colours (SHADES, 3) of a colour map of matplotlib."""
    import matplotlib

    colors = matplotlib.colormaps[cmap](np.linspace(0, 1, SHADES))
    return np.asarray(np.rint(colors[:, :3] * 255), np.uint8)


def color_bar(cmap: str) -> str:
    """Return a bar of the shades of a colour map, as data URI."""
    return png(np.arange(SHADES, dtype=np.uint8)[None], ramp(cmap))


def classes(label: Bytes, k: int) -> str:
    """Return a class map (h, w) in the palette of all class maps, as data URI; no data is transparent."""
    index = np.where(label == schema.CLASS_NO_DATA, k + 1, label).astype(np.uint8)
    return png(index, np.concatenate([class_colors(k), np.array([WHITE], np.uint8)]), k + 1)


def agreement(first: Bytes, second: Bytes) -> Bytes:
    """Return how two class maps compare in each pixel: an index into AGREEMENT, len(AGREEMENT) without data."""
    result = np.full(first.shape, DIFFER, np.uint8)
    result[first == second] = AGREE
    result[(first > 0) & (second == 0)] = ONLY_FIRST
    result[(first == 0) & (second > 0)] = ONLY_SECOND
    result[(first == 0) & (second == 0)] = NEITHER
    result[(first == schema.CLASS_NO_DATA) | (second == schema.CLASS_NO_DATA)] = len(AGREEMENT)
    return result


def agreement_map(first: Bytes, second: Bytes) -> str:
    """Return the map of how two class maps compare, as data URI; no data is transparent."""
    palette = np.array([*(color for _, color in AGREEMENT), WHITE], np.uint8)
    return png(agreement(first, second), palette, len(AGREEMENT))


def mark_masked(image: Bytes, known: Bools, masked: Bools) -> Bytes:
    """Return the picture in colours (h, w, 3), white without data, with stripes of vermilion over masked pixels."""
    out = image.copy()
    out[~known] = 255
    y, x = np.indices(known.shape)
    out[masked & ((x + y) % 8 < 3)] = AGREEMENT[DIFFER][1]
    return out
