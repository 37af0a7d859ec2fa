"""Open what a run needs before it works: tiles on their grid, masks, kept bands, endmembers of a file, a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hsichunk.endmembers import nfindr_in_memory
from hsichunk.errors import HsiError
from hsichunk.mosaic.site import Site, open_site
from hsichunk.run import endmembers
from hsichunk.run.endmembers import EndmemberSet
from hsichunk.run.make_plan import kept_bands
from hsichunk.run.options import Options

if TYPE_CHECKING:
    from hsichunk.cube.masks.masks import Masks
    from hsichunk.run.cluster import Cluster

MASK_LAYERS = ("weather_quality", "cast_shadow", "haze_cloud_water", "dark_dense_vegetation")


def prepared(options: Options) -> tuple[Site, NDArray[np.intp], Options, EndmemberSet | None]:
    """The tiles on their grid, the kept bands, the options with the number of endmembers, and those of a file."""
    site = open_site(options.tiles, options.on_error, MASK_LAYERS if options.mask else (), options.bands, floats=True)
    bands = kept_bands(site, options)
    ours = endmembers.given(options, site, bands)
    if ours:
        options = options.with_k(len(ours.origins))
    else:
        nfindr_in_memory.check_k(options.k, len(bands))
    return site, bands, options, ours


def masks_of(options: Options, site: Site) -> Masks | None:
    """The masks that the options ask for, fit for every tile."""
    if not options.mask:
        return None
    from hsichunk.cube.masks import masks

    parsed = masks.parse(options.mask)
    for place in site.tiles:
        parsed.check(place.file)
    return parsed


@contextlib.contextmanager
def connected(options: Options) -> Iterator[Cluster | None]:
    """The cluster that the options ask for; None for this process alone."""
    if options.scheduler is None and options.cluster is None:
        if options.profile:
            raise HsiError("--profile reports on a cluster; expected --scheduler or --cluster beside it")
        yield None
        return
    from hsichunk.run import cluster

    with cluster.connected(options) as client:
        yield client
