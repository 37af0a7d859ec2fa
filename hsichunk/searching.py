"""`hsichunk endmembers` and `hsichunk count`: the search alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hsichunk import found, memory, schema
from hsichunk.errors import HsiError
from hsichunk.job import Job, Progress, make_plan
from hsichunk.ledger import Ledger
from hsichunk.options import Options
from hsichunk.run import masks_of, prepared

if TYPE_CHECKING:
    import xarray as xr


def write(options: Options, path: str, library: str | None, progress: Progress) -> Iterator[str]:
    """Finds endmembers over all tiles, writes them to a file by its suffix, and says what it found, line by line.

    With a library each is named by its best match. Raises HsiError where a run would.
    """
    import xarray as xr

    from hsichunk.library_files import WRITERS

    if Path(path).suffix.lower() not in WRITERS:
        raise HsiError(f"{path}: suffix {Path(path).suffix or '(none)'}; expected {', '.join(WRITERS)}")
    memory.steady()
    site, bands, options, _ = prepared(options)
    job = Job(options, site, bands, make_plan(site, bands, options), Ledger(Path(), {}), progress)
    job.masks = masks_of(options, site)
    [one] = found.find(job)
    names, x, y = zip(*one.places, strict=True)
    coords = {
        schema.ENDMEMBER: list(names),
        schema.WAVELENGTH: (schema.WAVELENGTH, job.wavelength, schema.WAVELENGTH_ATTRS),
        "x": (schema.ENDMEMBER, np.array(x), schema.X_ATTRS),
        "y": (schema.ENDMEMBER, np.array(y), schema.Y_ATTRS),
    }
    dims = (schema.ENDMEMBER, schema.WAVELENGTH)
    em = xr.DataArray(one.spectra, coords, dims, schema.REFLECTANCE, schema.PRODUCT_ATTRS[schema.REFLECTANCE])
    if options.refine:
        yield f"largest simplex of all pixels, {job.stages['endmembers']['refine_swaps']} swaps after the sample's"
    yield from _named(em, library, path)


def _named(em: xr.DataArray, library: str | None, path: str) -> Iterator[str]:
    """Writes endmembers, named by a library if there is one, and says what they are."""
    from hsichunk.library import read_library, write_library
    from hsichunk.matching import identify, renamed

    places = zip(em[schema.ENDMEMBER].values.tolist(), em.x.values.tolist(), em.y.values.tolist(), strict=True)
    said = [f"{n}  at x {a:.1f}, y {b:.1f}" for n, a, b in places]
    if library is not None:
        matches = identify(em, read_library(library))
        em = renamed(em, matches)
        said = [f"{line}  {new}" for line, new in zip(said, em[schema.ENDMEMBER].values.tolist(), strict=True)]
    yield from said
    yield str(write_library(em, path))


def count(tile: str, far: Sequence[float], figure: str | None) -> Iterator[str]:
    """How many endmembers each method sees in a tile, line by line; eigenvalues are drawn to the file `figure`."""
    from hsichunk import counting
    from hsichunk.backend import open_tile
    from hsichunk.cleaning import clean

    cube = clean(open_tile(tile))
    results = {
        "HFC": counting.hfc(cube, list(far)),
        "NWHFC": counting.nwhfc(cube, list(far)),
        "HySime": counting.hysime(cube),
    }
    for name, result in results.items():
        numbers = np.atleast_1d(result["count"].values).tolist()
        rates = [f" (false alarms {rate:g})" for rate in far] if len(numbers) == len(far) else [""]
        for number, rate in zip(numbers, rates, strict=True):
            yield f"{name:<7} {number}{rate}"
    if figure is not None:
        from matplotlib.figure import Figure

        drawn = Figure(figsize=(12, 4), layout="constrained")
        for ax, result in zip(drawn.subplots(1, len(results)), results.values(), strict=True):
            counting.plot_counts(result, ax=ax)
        drawn.savefig(figure, dpi=120)
        yield figure
