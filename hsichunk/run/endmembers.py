"""Find the endmembers of a run: in a file, in a sample over all tiles or of each tile, or in all pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Floats, Positions
from hsichunk.cube.sampling import Sample
from hsichunk.endmembers import nfindr_in_memory
from hsichunk.errors import HsiError
from hsichunk.mosaic.site import Site
from hsichunk.run import site_sample
from hsichunk.run.job import Job
from hsichunk.run.options import NFINDR, Options
from hsichunk.unmixing.solver import Solver, prepare


class Origin(NamedTuple):
    """The name of an endmember, and the pixel that it comes from."""

    name: str
    x: float
    """of the centre of the pixel, in units of the CRS; NaN where the endmember comes from no pixel"""
    y: float


@dataclass(frozen=True)
class StoredEndmembers:
    """A set of endmembers as endmembers.json holds it."""

    reflectance: list[list[float]]
    """(k, L)"""
    origins: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, eq=False)
class EndmemberSet:
    """The endmembers that some or all tiles are unmixed with."""

    spectra: Floats
    """(k, L) reflectance"""
    origins: tuple[Origin, ...]
    """of each endmember"""

    @property
    def names(self) -> list[str]:
        return [origin.name for origin in self.origins]

    @property
    def digest(self) -> str:
        """SHA-256 of names and spectra."""
        return hashlib.sha256(repr(self.names).encode() + self.spectra.tobytes()).hexdigest()

    def stored(self) -> StoredEndmembers:
        """Return the set as endmembers.json holds it."""
        return StoredEndmembers(self.spectra.tolist(), self.origins)

    @classmethod
    def from_stored(cls, stored: StoredEndmembers) -> EndmemberSet:
        """Return the set that endmembers.json holds. Raises ValueError unless each name has a spectrum."""
        spectra = np.array(stored.reflectance, np.float64)
        if spectra.ndim != 2 or len(spectra) != len(stored.origins):
            raise ValueError(f"{spectra.shape} values for {len(stored.origins)} names")
        return cls(spectra, tuple(Origin(*origin) for origin in stored.origins))


def from_file(options: Options, site: Site, bands: Positions) -> EndmemberSet | None:
    """Return the endmembers of the file that the options name, in the kept bands; None where they name no file."""
    if options.endmembers is None:
        return None
    from hsichunk.endmembers.library import endmembers_for

    first = site.tiles[0].file
    fwhm = None if first.fwhm is None else first.fwhm[bands]
    em = endmembers_for(Path(options.endmembers), site.wavelength[bands], fwhm)
    nowhere = np.full(em.sizes[schema.ENDMEMBER], np.nan)
    x, y = (em[name].values if name in em.coords else nowhere for name in ("x", "y"))
    names = [str(name) for name in em[schema.ENDMEMBER].values]
    origins = map(Origin, names, x.astype(float).tolist(), y.astype(float).tolist())
    return EndmemberSet(np.ascontiguousarray(em.transpose(schema.ENDMEMBER, ...).values, np.float64), tuple(origins))


def find(job: Job) -> tuple[EndmemberSet, ...]:
    """Return the endmembers of the search asked for: one set for all tiles, or one set a tile.

    Notes the stages. Raises HsiError where fewer than k pixels hold data.
    """
    find_in = _in_all_pixels if job.options.refine else _in_sample
    if not job.options.per_tile:
        return (find_in(job, None),)
    return tuple(find_in(job, number) for number in range(len(job.site.tiles)))


def _in_all_pixels(job: Job, number: int | None) -> EndmemberSet:
    """Find endmembers among all pixels of the tile with this number, or of all tiles."""
    from hsichunk.run import search_all_pixels

    em = search_all_pixels.find(job, number)
    names = em[schema.ENDMEMBER].values.tolist()
    return EndmemberSet(em.values, tuple(map(Origin, names, em.x.values.tolist(), em.y.values.tolist())))


def _in_sample(job: Job, number: int | None) -> EndmemberSet:
    """Find endmembers in a sample of the tile with this number, or of all tiles."""
    k, share = job.options.k, job.options.share
    with job.stage("sample"):
        sample = site_sample.draw(job, share, number)
        if len(sample.spectra) < k and share < 1:
            sample = site_sample.draw(job, 1.0, number)  # mostly no-data: look everywhere before giving up
    if len(sample.spectra) < k:
        raise HsiError(
            f"{job.site.tiles[number or 0].file.path}: {len(sample.spectra)} of {sample.drawn} pixels drawn hold data"
            f"{' and are not masked' if job.masks else ''}; expected at least k = {k}"
        )
    with job.stage("endmembers"):
        sample, excluded = _without_outliers(sample, job.options)
        picked = _pick(sample, job.options)
    job.note_search(sample_pixels=picked.sample_pixels)
    if job.options.method == NFINDR:
        job.note_search(sweeps=picked.sweeps, swaps=picked.swaps)
    if job.options.exclude is not None:
        job.note_search(excluded=excluded)
    origins = map(Origin, picked.names, picked.x.tolist(), picked.y.tolist())
    return EndmemberSet(picked.spectra, tuple(origins))


def _without_outliers(sample: Sample, options: Options) -> tuple[Sample, int]:
    """Return the sample without outliers, where the options ask for that, and the number of outliers left out."""
    if options.exclude is None:
        return sample, 0
    from hsichunk.endmembers.outliers import without_outliers

    return without_outliers(sample, options.k, options.exclude, options.threads)


def _pick(sample: Sample, options: Options) -> nfindr_in_memory.Picked:
    if options.method == NFINDR:
        return nfindr_in_memory.pick(sample, options.k, options.maxit, options.threads)
    from hsichunk.endmembers import extraction_in_memory

    return extraction_in_memory.pick(sample, options.method, options.k, options.seed, options.maxit, options.threads)


def solvers(job: Job, sets: tuple[EndmemberSet, ...]) -> tuple[Solver, ...]:
    """Return the solver of each set of endmembers. Raises HsiError for endmembers that cannot be unmixed."""
    file, options = job.site.tiles[0].file, job.options
    exact = file.reflectance.dtype.kind != "f"
    scale = file.scale if exact else schema.NEON_SCALE
    return tuple(
        prepare(each.spectra, each.names, options.products, scale, exact=exact, constraint=options.solver)
        for each in sets
    )
