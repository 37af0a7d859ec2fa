"""Maps as small images inside the page: colours without axes, PNG with a palette or JPEG."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.classification.palette import class_colors

SHADES = 64  # of a map of numbers: more are not told apart and compress worse
WHITE = (255, 255, 255)
AGREE, DIFFER, ONLY_FIRST, ONLY_SECOND, NEITHER = range(5)
AGREEMENT: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("same class", (225, 225, 225)),
    ("different classes", (213, 94, 0)),
    ("only {0} gives a class", (0, 114, 178)),
    ("only {1} gives a class", (240, 228, 66)),
    ("neither gives a class", (120, 120, 120)),
)


def png(index: NDArray[np.uint8], palette: NDArray[np.uint8], transparent: int | None = None) -> str:
    """An image (h, w) of palette entries (n, 3), as data URI."""
    colors = {i: (*(int(v) for v in rgb), 0 if i == transparent else 255) for i, rgb in enumerate(palette)}
    return _encoded(index[None], "PNG", "image/png", colors, ZLEVEL=6)


def jpeg(image: NDArray[np.uint8]) -> str:
    """An image (h, w, 3), as data URI."""
    return _encoded(np.moveaxis(image, -1, 0), "JPEG", "image/jpeg", None, QUALITY=85)


def svg(text: str) -> str:
    return _uri("image/svg+xml", text.encode())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(bands: NDArray[np.uint8], driver: str, kind: str, colors: Any, **how: Any) -> str:
    import rasterio
    from rasterio.io import MemoryFile

    count, height, width = bands.shape
    profile = {"driver": driver, "count": count, "height": height, "width": width, "dtype": "uint8", **how}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.Env(GDAL_PAM_ENABLED=False), MemoryFile() as memory:
            with memory.open(**profile) as raster:
                raster.write(bands)
                if colors:
                    raster.write_colormap(1, colors)
            return _uri(kind, memory.read())


def shaded(values: NDArray[np.float32], low: float, high: float, cmap: str) -> str:
    """Numbers (h, w) in the shades of a colour map between two limits; NaN is transparent."""
    scaled = (np.where(np.isfinite(values), values, low) - low) / ((high - low) or 1.0)
    index = np.clip(np.rint(scaled * (SHADES - 1)), 0, SHADES - 1).astype(np.uint8)
    index[~np.isfinite(values)] = SHADES
    return png(index, np.concatenate([ramp(cmap), np.array([WHITE], np.uint8)]), SHADES)


def ramp(cmap: str) -> NDArray[np.uint8]:
    """(SHADES, 3) colours of a colour map of matplotlib."""
    import matplotlib

    colors = matplotlib.colormaps[cmap](np.linspace(0, 1, SHADES))
    return np.asarray(np.rint(colors[:, :3] * 255), np.uint8)


def color_bar(cmap: str) -> str:
    return png(np.arange(SHADES, dtype=np.uint8)[None], ramp(cmap))


def classes(label: NDArray[np.uint8], k: int) -> str:
    """A class map in the palette of all class maps; no data is transparent."""
    index = np.where(label == schema.CLASS_NO_DATA, k + 1, label).astype(np.uint8)
    return png(index, np.concatenate([class_colors(k), np.array([WHITE], np.uint8)]), k + 1)


def agreement(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the two class maps say of each pixel: an index into AGREEMENT; len(AGREEMENT) without data."""
    found = np.full(one.shape, DIFFER, np.uint8)
    found[one == two] = AGREE
    found[(one > 0) & (two == 0)] = ONLY_FIRST
    found[(one == 0) & (two > 0)] = ONLY_SECOND
    found[(one == 0) & (two == 0)] = NEITHER
    found[(one == schema.CLASS_NO_DATA) | (two == schema.CLASS_NO_DATA)] = len(AGREEMENT)
    return found


def agreement_map(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> str:
    palette = np.array([*(color for _, color in AGREEMENT), WHITE], np.uint8)
    return png(agreement(one, two), palette, len(AGREEMENT))


def marked(image: NDArray[np.uint8], known: NDArray[np.bool_], masked: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The picture in colours: white without data, and stripes of vermilion over what was masked."""
    out = image.copy()
    out[~known] = 255
    y, x = np.indices(known.shape)
    out[masked & ((x + y) % 8 < 3)] = AGREEMENT[DIFFER][1]
    return out
