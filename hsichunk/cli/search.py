"""Find endmembers, or count them, without a run: for `hsichunk endmembers` and `hsichunk count`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    """Find endmembers over all tiles, write them to a file by its suffix, and yield lines that say what was found.

    With a library each endmember is named after its best match; the lines give the angles of the best match and of the
    second one. Raises HsiError where a run would, and for a suffix of no known format.
    """
    import xarray as xr

    from hsichunk.endmembers.library_files import WRITERS

    if Path(path).suffix.lower() not in WRITERS:
        raise HsiError(f"{path}: suffix {Path(path).suffix or '(none)'}; expected {', '.join(WRITERS)}")
    memory.use_one_heap()
    site, bands, options, _ = prepared(options)
    job = Job(options, site, bands, make_plan(site, bands, options), Ledger(Path(), {}), progress)
    job.masks = masks_of(options, site)
    [endmember_set] = endmembers.find(job)
    names, x, y = zip(*endmember_set.origins, strict=True)
    coords = {
        schema.ENDMEMBER: list(names),
        schema.WAVELENGTH: (schema.WAVELENGTH, job.wavelength, schema.WAVELENGTH_ATTRS),
        "x": (schema.ENDMEMBER, np.array(x), schema.X_ATTRS),
        "y": (schema.ENDMEMBER, np.array(y), schema.Y_ATTRS),
    }
    dims = (schema.ENDMEMBER, schema.WAVELENGTH)
    attrs = schema.PRODUCT_ATTRS[schema.REFLECTANCE]
    em = xr.DataArray(endmember_set.spectra, coords, dims, schema.REFLECTANCE, attrs)
    search = job.stages.endmembers
    if options.refine and search:
        yield f"largest simplex of all pixels, {search.refine_swaps} swaps after the sample's"
    if options.exclude is not None and search:
        yield f"{search.excluded} outliers left out"
    yield from _named(em, library, path)


def _named(em: xr.DataArray, library: str | None, path: str) -> Iterator[str]:
    """Name endmembers after their matches in a library, if there is one, write them, and yield a line for each."""
    from hsichunk.endmembers.library import read_library, write_library
    from hsichunk.endmembers.matching import ANGLE, MATCH, identify, renamed

    origins = zip(em[schema.ENDMEMBER].values.tolist(), em.x.values.tolist(), em.y.values.tolist(), strict=True)
    lines = [f"{name}  at x {x:.1f}, y {y:.1f}" for name, x, y in origins]
    if library is not None:
        known = read_library(library)
        matches = identify(em, known, k=min(2, known.sizes[schema.ENDMEMBER]))
        em = renamed(em, matches)
        best, angles = matches[MATCH].values.tolist(), matches[ANGLE].values.tolist()
        for i, new_name in enumerate(em[schema.ENDMEMBER].values.tolist()):
            named = zip([new_name, *best[i][1:]], angles[i], strict=True)
            lines[i] += "  " + ", then ".join(f"{name} ({angle:.3f} rad)" for name, angle in named)
    yield from lines
    yield str(write_library(em, path))


def count(options: Options, sample: int | None, far: Sequence[float], figure: str | None) -> Iterator[str]:
    """Count endmembers by each method, and yield lines with the counts and with what was read.

    Takes all pixels, or about `sample` of them; each chunk is decoded once. `far` are false-alarm rates of HFC. Draws
    the eigenvalues to the file `figure`. Raises HsiError where a run would, and where the memory cannot hold what is
    read.
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
    yield _what_was_read(second_moments, sample)
    if figure is not None:
        from matplotlib.figure import Figure

        drawing = Figure(figsize=(12, 4), layout="constrained")
        for ax, result in zip(drawing.subplots(1, len(results)), results.values(), strict=True):
            eigenvalues.plot_counts(result, ax=ax)
        drawing.savefig(figure, dpi=120)
        yield figure


def _moments(options: Options, sample: int | None) -> xr.Dataset:
    """Return the moments of the tiles on their grid. Raises HsiError where the memory cannot hold what is read."""
    import dask

    from hsichunk.cube.second_moments import moments
    from hsichunk.run import search_memory

    memory.use_one_heap()
    site = open_site(options.tiles, options.on_error, (), options.bands, floats=True)
    bands = kept_bands(site, options)
    reading, least = search_memory.to_read(site, len(bands), options.threads)
    if sample is not None:
        # the sample as stored, twice: that of one tile and that of all tiles
        reading, least = reading + 2 * sample * len(bands) * search_memory.itemsize(site), 0
    available = options.memory - search_memory.PROGRAM - reading
    if available < 2 * least:
        need = -(-(options.memory - available + 2 * least) // MB)
        pixels = f"a sample of {sample} pixels" if sample is not None else "a pass over all pixels"
        remedy = "a smaller --sample" if sample is not None else "--sample N for some of the pixels"
        raise HsiError(
            f"--memory {options.memory / MB:.0f}MB cannot hold {pixels}, {need} MB ({search_memory.PROGRAM / MB:.0f} "
            f"of them for the program); give at least --memory {need}MB, or {remedy}"
        )
    with dask.config.set(num_workers=options.threads):
        return moments(search_memory.cube_of(site, bands), sample=sample, seed=options.seed, memory=available // 2)


def _what_was_read(second_moments: xr.Dataset, sample: int | None) -> str:
    pixels, size = second_moments.attrs["pixels"], second_moments.attrs["scratch_bytes"]
    if sample is not None:
        return f"read    a sample of {pixels} pixels with data"
    source = f"through a scratch file of {size / MB:.1f} MB" if size else "straight from the stored chunks"
    return f"read    all {pixels} pixels with data, {source}"
