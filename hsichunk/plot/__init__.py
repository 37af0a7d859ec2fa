"""Pictures of tiles, cubes, endmembers, products and class maps.

Every function takes a labelled object and leaves it as it was. One panel: `ax=None`, an Axes comes back; several
panels: `fig=None`, a Figure comes back. Without `ax` or `fig` the figure is pyplot's, so that notebooks display it;
nothing here calls `show`. Maps are computed when called, from every n-th pixel of large data: `pixels` at most.

Maps keep their shape; in a figure of several axes, `layout="compressed"` packs them best.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
"""name -> module that holds it, imported when first used"""

__all__ = ["abundance_histograms", "abundances", "band", "classes", "endmembers", "histogram", "map", "rgb"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"hsichunk.plot.{_PUBLIC[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
