"""Pictures of tiles, cubes, endmembers, products and class maps.

Every function takes a labelled object and does not change it. A function that draws one panel takes `ax` and returns
the Axes; one that draws several takes `fig` and returns the Figure. Without `ax` or `fig` the figure is pyplot's, so
that notebooks display it; no function calls `show`. A call computes its map at once, of large data from every n-th
pixel: `pixels` at most.

Maps keep their shape; in a figure of several axes, `layout="compressed"` packs them best.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hsichunk.plot.abundance import abundance_histograms as abundance_histograms
    from hsichunk.plot.abundance import abundances as abundances
    from hsichunk.plot.classmap import classes as classes
    from hsichunk.plot.maps import band as band
    from hsichunk.plot.maps import map as map
    from hsichunk.plot.maps import rgb as rgb
    from hsichunk.plot.spectra import endmembers as endmembers
    from hsichunk.plot.spectra import histogram as histogram

_PUBLIC = {
    "abundance_histograms": "abundance",
    "abundances": "abundance",
    "band": "maps",
    "classes": "classmap",
    "endmembers": "spectra",
    "histogram": "spectra",
    "map": "maps",
    "rgb": "maps",
}
"""the module of each name, imported when the name is first used"""

__all__ = ["abundance_histograms", "abundances", "band", "classes", "endmembers", "histogram", "map", "rgb"]


def __getattr__(name: str) -> Callable[..., Axes | Figure]:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function: Callable[..., Axes | Figure] = getattr(importlib.import_module(f"hsichunk.plot.{_PUBLIC[name]}"), name)
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
