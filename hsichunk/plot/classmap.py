"""Figures of class maps, with the name, share and colour of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats, Ints
from hsichunk.classification.palette import class_colors
from hsichunk.errors import HsiError
from hsichunk.plot.panel import LABELS, axes_or_new, draw, map_size
from hsichunk.plot.raster import PIXELS, read
from hsichunk.plot.source import check_layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEGEND_ROWS = 18
LEGEND_ENTRIES = 54


def classes(class_map: xr.DataArray, *, ax: Axes | None = None, pixels: int = PIXELS) -> Axes:
    """Draw a class map (y, x) in the palette of all class maps, with a legend. Return the Axes.

    Unclassified pixels are grey, no data is transparent. The legend gives the share of each class among the pixels with
    data; a long legend lists only the classes with the greatest shares. Every n-th pixel is read, `pixels` at most; a
    tilde marks the shares of such a part. Raises HsiError unless the map holds integers that `flag_values` and
    `flag_meanings` name.
    """
    class_map = check_layer(class_map, "a class map", schema.Y, schema.X)
    names = _names(class_map)
    raster = read(class_map, pixels)
    unknown = set(np.unique(raster.values).tolist()) - set(names) - {schema.CLASS_NO_DATA}
    if unknown:
        raise HsiError(f"class {min(unknown)} is in the map but not in flag_values {sorted(names)}; name it there")
    labels = raster.values.astype(np.uint8)
    colors = np.zeros((256, 4), dtype=np.uint8)  # no data stays transparent
    palette = class_colors(max(names))
    colors[: len(palette), :3] = palette
    colors[: len(palette), 3] = 255

    width, height = map_size(raster, 4.0)
    columns = -(-min(len(names), LEGEND_ENTRIES) // LEGEND_ROWS)
    ax = axes_or_new(ax, (width + LABELS[0] + 2.2 * columns, max(height, 4.0) + LABELS[1]))
    draw(raster.with_values(colors[labels]), ax, interpolation="nearest")  # numbers between two classes mean nothing
    ax.set_title(str(class_map.name or ""))
    _legend(ax, names, np.bincount(labels.ravel(), minlength=256), colors / 255, "~" if raster.step > 1 else "")
    return ax


def _names(class_map: xr.DataArray) -> dict[int, str]:
    """Return the name of each class and of unclassified, by value. Raises HsiError for flags that do not fit."""
    attrs = class_map.attrs
    if class_map.dtype.kind not in "iu" or not {"flag_values", "flag_meanings"} <= set(attrs):
        raise HsiError(
            f"found {class_map.dtype} with attributes {sorted(map(str, attrs))}; expected a class map, integers with "
            "flag_values and flag_meanings, as hsi.classify gives"
        )
    values = [int(v) for v in np.atleast_1d(attrs["flag_values"])]
    meanings = str(attrs["flag_meanings"]).split()
    if len(values) != len(meanings):
        raise HsiError(f"{len(values)} flag_values but {len(meanings)} flag_meanings; expected one name for each value")
    if not all(0 <= v <= schema.CLASS_NO_DATA for v in values):
        raise HsiError(f"flag_values run from {min(values)} to {max(values)}; expected 0 to {schema.CLASS_NO_DATA}")
    named = {v: m for v, m in zip(values, meanings, strict=True) if v != schema.CLASS_NO_DATA}
    return {schema.UNCLASSIFIED: "unclassified", **named}


def _legend(ax: Axes, names: dict[int, str], counts: Ints, colors: Floats, tilde: str) -> None:
    """Draw the legend; counts (256,) and RGBA colours 0..1 (256, 4) are by value, `tilde` stands before each share."""
    from matplotlib.patches import Patch

    valid = max(1, int(counts[: schema.CLASS_NO_DATA].sum()))
    listed = sorted(names, key=lambda value: -counts[value])[:LEGEND_ENTRIES]
    # unclassified comes after all classes
    listed.sort(key=lambda value: (value == schema.UNCLASSIFIED, value))
    handles = [
        Patch(facecolor=tuple(colors[value]), label=f"{names[value]}  {tilde}{counts[value] / valid:.1%}")
        for value in listed
    ]
    if left_out := len(names) - len(listed):
        handles.append(Patch(alpha=0, label=f"and {left_out} smaller"))
    if counts[schema.CLASS_NO_DATA]:
        handles.append(Patch(facecolor="none", edgecolor="grey", label="no data"))
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0,
        ncols=-(-len(handles) // LEGEND_ROWS),
        title="share of pixels with data",
    )
