"""The colours of classes, shared by GeoTIFFs, plots and the report: class i has the same colour everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

from hsichunk.array_types import Bytes, Floats
from hsichunk.errors import HsiError
from hsichunk.schema import MAX_ENDMEMBERS

UNCLASSIFIED_COLOR: Final = (200, 200, 200)

# Okabe and Ito (2008), without black: readers with any common colour blindness can tell them apart
_OKABE_ITO: Final = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def class_colors(k: int) -> Bytes:
    """Return the colours of k classes as (k + 1, 3) uint8 RGB; row 0 is the grey of unclassified pixels.

    Class i has the same colour for every k. The first seven are Okabe and Ito's; each further one is the colour
    farthest from all before it in OKLab (Ottosson 2020). Raises HsiError unless 0 <= k <= 254.
    """
    if not 0 <= k <= MAX_ENDMEMBERS:
        raise HsiError(f"{k} class colours were asked for; a class map holds 0 to {MAX_ENDMEMBERS}: use fewer classes")
    return _all_colors()[: k + 1].copy()


@cache
def _all_colors() -> Bytes:
    """Return the colours (255, 3) uint8 RGB of unclassified pixels and of all classes that a map can hold."""
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(candidates)
    distinct = (lab[:, 0] > 0.35) & (lab[:, 0] < 0.92)  # near-blacks and near-whites look alike in small patches
    candidates, lab = candidates[distinct], lab[distinct]
    colors = [UNCLASSIFIED_COLOR, *_OKABE_ITO]
    # White is the paper of a plot: colours keep their distance from it as from each other.
    used = _oklab(np.array([*colors, (255, 255, 255)], dtype=np.uint8))
    squared_distance = ((lab[:, None] - used) ** 2).sum(axis=-1).min(axis=1)  # of each candidate to the nearest used
    while len(colors) <= MAX_ENDMEMBERS:
        farthest = int(squared_distance.argmax())
        r, g, b = candidates[farthest].tolist()
        colors.append((r, g, b))
        np.minimum(squared_distance, ((lab - lab[farthest]) ** 2).sum(axis=-1), out=squared_distance)
    return np.array(colors, dtype=np.uint8)


def _oklab(rgb: Bytes) -> Floats:
    """Return OKLab (n, 3) of sRGB (n, 3), with the red-green axis halved.

    Readers with the common colour blindness do not see differences along that axis.
    """
    c = rgb / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab = np.cbrt(linear @ to_lms.T) @ to_lab.T
    return np.asarray(lab * [1.0, 0.5, 1.0], dtype=np.float64)


def css(color: Sequence[int] | Bytes) -> str:
    """Return an RGB colour of 0..255 as CSS writes it, "#rrggbb"."""
    return "#" + "".join(f"{int(v):02x}" for v in color)
