"""The work of `hsichunk endmembers` and `hsichunk count`: endmembers or their number, without a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hsichunk import memory, schema
from hsichunk.errors import HsiError
from hsichunk.mosaic.site import open_site
from hsichunk.run import endmembers
from hsichunk.run.job import Job, Progress
from hsichunk.run.ledger import Ledger
from hsichunk.run.make_plan import kept_bands, make_plan
from hsichunk.run.open_inputs import masks_of, prepared
from hsichunk.run.options import Options
from hsichunk.run.plan import MB

if TYPE_CHECKING:
    import xarray as xr

FIGURES = (".png", ".svg", ".pdf")


def write(options: Options, path: str, library: str | None, progress: Progress) -> Iterator[str]:
    """Finds endmembers over all tiles, writes them to a file by its suffix, and says what it found, line by line.

    With a library each is named by its best match, which is told with its angle and the runner-up's. Raises
    HsiError where a run would.
    """
    import xarray as xr

    from hsichunk.endmembers.library_files import WRITERS

    if Path(path).suffix.lower() not in WRITERS:
        raise HsiError(f"{path}: suffix {Path(path).suffix or '(none)'}; expected {', '.join(WRITERS)}")
    memory.use_one_heap()
    site, bands, options, _ = prepared(options)
    job = Job(options, site, bands, make_plan(site, bands, options), Ledger(Path(), {}), progress)
    job.masks = masks_of(options, site)
    [one] = endmembers.find(job)
    names, x, y = zip(*one.origins, strict=True)
    coords = {
        schema.ENDMEMBER: list(names),
        schema.WAVELENGTH: (schema.WAVELENGTH, job.wavelength, schema.WAVELENGTH_ATTRS),
        "x": (schema.ENDMEMBER, np.array(x), schema.X_ATTRS),
        "y": (schema.ENDMEMBER, np.array(y), schema.Y_ATTRS),
    }
    dims = (schema.ENDMEMBER, schema.WAVELENGTH)
    em = xr.DataArray(one.spectra, coords, dims, schema.REFLECTANCE, schema.PRODUCT_ATTRS[schema.REFLECTANCE])
    search = job.stages.endmembers
    if options.refine and search:
        yield f"largest simplex of all pixels, {search.refine_swaps} swaps after the sample's"
    if options.exclude is not None and search:
        yield f"{search.excluded} outliers left out"
    yield from _named(em, library, path)


def _named(em: xr.DataArray, library: str | None, path: str) -> Iterator[str]:
    """Writes endmembers, named by a library if there is one, and says what they are."""
    from hsichunk.endmembers.library import read_library, write_library
    from hsichunk.endmembers.matching import ANGLE, MATCH, identify, renamed

    places = zip(em[schema.ENDMEMBER].values.tolist(), em.x.values.tolist(), em.y.values.tolist(), strict=True)
    said = [f"{n}  at x {a:.1f}, y {b:.1f}" for n, a, b in places]
    if library is not None:
        known = read_library(library)
        matches = identify(em, known, k=min(2, known.sizes[schema.ENDMEMBER]))
        em = renamed(em, matches)
        best, angles = matches[MATCH].values.tolist(), matches[ANGLE].values.tolist()
        for i, new in enumerate(em[schema.ENDMEMBER].values.tolist()):
            others = zip([new, *best[i][1:]], angles[i], strict=True)
            said[i] += "  " + ", then ".join(f"{name} ({angle:.3f} rad)" for name, angle in others)
    yield from said
    yield str(write_library(em, path))


def count(options: Options, sample: int | None, far: Sequence[float], figure: str | None) -> Iterator[str]:
    """How many endmembers each method sees in tiles, line by line, and what was read; each chunk is decoded once.

    Of all pixels, or of about `sample` of them; eigenvalues are drawn to the file `figure`. Raises HsiError where a
    run would, and where the memory cannot hold what is read.
    """
    from hsichunk.endmembers import counting
    from hsichunk.plot import eigenvalues

    counting.check_rates(far)
    if figure is not None and Path(figure).suffix.lower() not in FIGURES:
        raise HsiError(f"{figure}: suffix {Path(figure).suffix or '(none)'}; expected {', '.join(FIGURES)}")
    second_moments = _moments(options, sample)
    results = {
        "HFC": counting.hfc(second_moments, list(far)),
        "NWHFC": counting.nwhfc(second_moments, list(far)),
        "HySime": counting.hysime(second_moments),
    }
    for name, result in results.items():
        numbers = np.atleast_1d(result["count"].values).tolist()
        rates = [f" (false alarms {rate:g})" for rate in far] if len(numbers) == len(far) else [""]
        for number, rate in zip(numbers, rates, strict=True):
            yield f"{name:<7} {number}{rate}"
    yield _what_was_read(second_moments.attrs, sample)
    if figure is not None:
        from matplotlib.figure import Figure

        drawn = Figure(figsize=(12, 4), layout="constrained")
        for ax, result in zip(drawn.subplots(1, len(results)), results.values(), strict=True):
            eigenvalues.plot_counts(result, ax=ax)
        drawn.savefig(figure, dpi=120)
        yield figure


def _moments(options: Options, sample: int | None) -> xr.Dataset:
    """The moments of the tiles on their grid, within the memory."""
    import dask

    from hsichunk.cube.second_moments import moments
    from hsichunk.run import search_memory

    memory.use_one_heap()
    site = open_site(options.tiles, options.on_error, (), options.bands, floats=True)
    bands = kept_bands(site, options)
    reading, least = search_memory.to_read(site, len(bands), options.threads)
    if sample is not None:
        # as stored, of a tile and of all
        reading, least = reading + 2 * sample * len(bands) * search_memory.itemsize(site), 0
    left = options.memory - search_memory.PROGRAM - reading
    if left < 2 * least:
        need = -(-(options.memory - left + 2 * least) // MB)
        what = f"a sample of {sample} pixels" if sample is not None else "what goes through all pixels"
        less = "a smaller --sample" if sample is not None else "--sample N for some of the pixels"
        raise HsiError(
            f"--memory {options.memory / MB:.0f}MB cannot hold {what}, {need} MB ({search_memory.PROGRAM / MB:.0f} of "
            f"them the program); give at least --memory {need}MB, or {less}"
        )
    with dask.config.set(num_workers=options.threads):
        return moments(search_memory.cube_of(site, bands), sample=sample, seed=options.seed, memory=left // 2)


def _what_was_read(attrs: Mapping[Any, Any], sample: int | None) -> str:
    pixels, size = attrs["pixels"], attrs["scratch_bytes"]
    if sample is not None:
        return f"read    a sample of {pixels} pixels with data"
    how = f"through a scratch file of {size / MB:.1f} MB" if size else "straight from the stored chunks"
    return f"read    all {pixels} pixels with data, {how}"
