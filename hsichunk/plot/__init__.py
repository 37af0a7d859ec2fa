"""Pictures of tiles, cubes, endmembers, products and class maps.

Every function takes a labelled object and leaves it as it was. One panel: `ax=None`, an Axes comes back; several
panels: `fig=None`, a Figure comes back. Without `ax` or `fig` the figure is pyplot's, so that notebooks display it;
nothing here calls `show`. Maps are computed when called, from every n-th pixel of large data: `pixels` at most.

Maps keep their shape; in a figure of several axes, `layout="compressed"` packs them best.
"""

from __future__ import annotations

from hsichunk.plot.abundance import abundance_histograms, abundances
from hsichunk.plot.classmap import classes
from hsichunk.plot.maps import band, map, rgb
from hsichunk.plot.spectra import endmembers, histogram

__all__ = ["abundance_histograms", "abundances", "band", "classes", "endmembers", "histogram", "map", "rgb"]
