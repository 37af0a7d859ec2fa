"""The endmembers of a run: from a file, from a sample over all tiles, or of each tile from its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.cube.sampling import Sample
from hsichunk.endmembers import nfindr_in_memory
from hsichunk.errors import HsiError
from hsichunk.mosaic.site import Site
from hsichunk.run import site_sample
from hsichunk.run.job import Job
from hsichunk.run.options import Options
from hsichunk.unmixing.solver import Solver, prepare


@dataclass(frozen=True, eq=False)
class EndmemberSet:
    """Endmembers."""

    spectra: NDArray[np.float64]
    """(k, L) reflectance"""
    origins: tuple[tuple[str, float, float], ...]
    """name, x and y of each; NaN where it is no pixel"""

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.origins]

    @property
    def digest(self) -> str:
        """What tells these endmembers from others."""
        return hashlib.sha256(repr(self.names).encode() + self.spectra.tobytes()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return {"reflectance": self.spectra.tolist(), "origins": self.origins}

    @classmethod
    def of_json(cls, content: Any) -> EndmemberSet:
        """Raises TypeError, ValueError or KeyError for what `as_json` has not given."""
        origins = tuple((str(name), float(x), float(y)) for name, x, y in content["origins"])
        spectra = np.array(content["reflectance"], np.float64)
        if spectra.ndim != 2 or len(spectra) != len(origins):
            raise ValueError("spectra and names")
        return cls(spectra, origins)


def given(options: Options, site: Site, bands: NDArray[np.intp]) -> EndmemberSet | None:
    """The endmembers of the file that the options name, in the kept bands; None where they name none."""
    if options.endmembers is None:
        return None
    from hsichunk.endmembers.library import endmembers_for

    first = site.tiles[0].file
    fwhm = None if first.fwhm is None else first.fwhm[bands]
    em = endmembers_for(Path(options.endmembers), site.wavelength[bands], fwhm)
    nowhere = np.full(em.sizes[schema.ENDMEMBER], np.nan)
    x, y = (em[name].values if name in em.coords else nowhere for name in ("x", "y"))
    names = [str(name) for name in em[schema.ENDMEMBER].values]
    origins = tuple(zip(names, x.astype(float).tolist(), y.astype(float).tolist(), strict=True))
    return EndmemberSet(np.ascontiguousarray(em.transpose(schema.ENDMEMBER, ...).values, np.float64), origins)


def find(job: Job) -> tuple[EndmemberSet, ...]:
    """Endmembers by the method asked for: one set from a sample over all tiles, or one a tile; or from all pixels."""
    by = _from_all if job.options.refine else _from_sample
    if not job.options.per_tile:
        return (by(job, None),)
    return tuple(by(job, tile) for tile in range(len(job.site.tiles)))


def _from_all(job: Job, tile: int | None) -> EndmemberSet:
    from hsichunk.run import search_all_pixels

    em = search_all_pixels.find(job, tile)
    names = em[schema.ENDMEMBER].values.tolist()
    return EndmemberSet(em.values, tuple(zip(names, em.x.values.tolist(), em.y.values.tolist(), strict=True)))


def _from_sample(job: Job, tile: int | None) -> EndmemberSet:
    k, share = job.options.k, job.options.share
    with job.stage("sample"):
        sample = site_sample.draw(job, share, tile)
        if len(sample.spectra) < k and share < 1:
            sample = site_sample.draw(job, 1.0, tile)  # mostly no-data: look everywhere before giving up
    if len(sample.spectra) < k:
        raise HsiError(
            f"{job.site.tiles[tile or 0].file.path}: {len(sample.spectra)} of {sample.drawn} pixels drawn hold data"
            f"{' and are not masked' if job.masks else ''}; expected at least k = {k}"
        )
    with job.stage("endmembers"):
        sample, excluded = _without_outliers(sample, job.options)
        picked = _pick(sample, job.options)
    swapped = ("sweeps", "swaps") if job.options.method == schema.METHODS[0] else ()
    job.note_search(**{name: getattr(picked, name) for name in ("sample_pixels", *swapped)})
    if job.options.exclude is not None:
        job.note_search(excluded=excluded)
    origins = zip(picked.names, picked.x.tolist(), picked.y.tolist(), strict=True)
    return EndmemberSet(picked.spectra, tuple(origins))


def _without_outliers(sample: Sample, options: Options) -> tuple[Sample, int]:
    if options.exclude is None:
        return sample, 0
    from hsichunk.endmembers.outliers import without_outliers

    return without_outliers(sample, options.k, options.exclude, options.threads)


def _pick(sample: Sample, options: Options) -> nfindr_in_memory.Picked:
    if options.method == schema.METHODS[0]:
        return nfindr_in_memory.pick(sample, options.k, options.maxit, options.threads)
    from hsichunk.endmembers import extraction_in_memory

    return extraction_in_memory.pick(sample, options.method, options.k, options.seed, options.maxit, options.threads)


def solvers(job: Job, found: tuple[EndmemberSet, ...]) -> tuple[Solver, ...]:
    """What solves for each set. Raises HsiError for endmembers that cannot be unmixed."""
    file, options = job.site.tiles[0].file, job.options
    exact = file.reflectance.dtype.kind != "f"
    scale = file.scale if exact else schema.NEON_SCALE
    return tuple(
        prepare(each.spectra, each.names, options.products, scale, exact=exact, constraint=options.solver)
        for each in found
    )
