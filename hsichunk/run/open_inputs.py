"""Open what a run needs before it works: tiles on their grid, masks, kept bands, endmembers of a file, a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hsichunk.array_types import Positions
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


class Inputs(NamedTuple):
    """What a run works on."""

    site: Site
    bands: Positions
    """of the kept bands"""
    options: Options
    """with the number of endmembers of the file, where a file gives them"""
    endmembers: EndmemberSet | None
    """those of the file that the options name"""


def prepared(options: Options) -> Inputs:
    """Open the tiles on their grid, choose the bands, and read the endmembers of a file.

    Raises HsiError for tiles, bands or endmembers that do not fit together, and for more endmembers than bands.
    """
    site = open_site(options.tiles, options.on_error, MASK_LAYERS if options.mask else (), options.bands, floats=True)
    bands = kept_bands(site, options)
    file_endmembers = endmembers.from_file(options, site, bands)
    if file_endmembers:
        options = options.with_k(len(file_endmembers.origins))
    else:
        nfindr_in_memory.check_k(options.k, len(bands))
    return Inputs(site, bands, options, file_endmembers)


def masks_of(options: Options, site: Site) -> Masks | None:
    """Return the masks that the options ask for, None for none. Raises HsiError for a mask that does not fit a tile."""
    if not options.mask:
        return None
    from hsichunk.cube.masks import masks

    parsed = masks.parse(options.mask)
    for tile in site.tiles:
        parsed.check(tile.file)
    return parsed


@contextlib.contextmanager
def connected(options: Options) -> Iterator[Cluster | None]:
    """Connect to the cluster that the options ask for; give None where this process does the pass.

    Raises HsiError for --profile without a cluster, and where the cluster cannot be used.
    """
    if options.scheduler is None and options.cluster is None:
        if options.profile:
            raise HsiError("--profile reports on a cluster; expected --scheduler or --cluster beside it")
        yield None
        return
    from hsichunk.run import cluster

    with cluster.connected(options) as connection:
        yield connection
