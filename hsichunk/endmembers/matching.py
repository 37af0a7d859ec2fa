"""Identify endmembers: find the spectra of a library nearest to them by spectral angle."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats, Ints
from hsichunk.endmembers.library import numbered
from hsichunk.endmembers.resampling import resample
from hsichunk.errors import HsiError
from hsichunk.readers.wavelengths import same_bands

MATCH, ANGLE, BANDS, RANK = "match", "angle", "bands", "rank"
FEWEST_BANDS = 3  # with fewer an angle between spectra says nothing


def identify(em: xr.DataArray, library: xr.DataArray, k: int = 2) -> xr.Dataset:
    """Find the `k` spectra of a library nearest to each endmember by spectral angle, the best first.

    `em` and `library` are (endmember, wavelength), as nfindr and read_library return them. Where their bands differ,
    the library is resampled to the bands of the endmembers, with their `fwhm` where they have it. Bands that the
    library does not reach, or where a spectrum has no value, are left out of the angle. Angles do not depend on
    brightness.

    Returns a Dataset over (endmember, rank), rank 1 the best: `match` (names in the library), `angle` in radians and
    `bands`, the number of bands compared. Raises HsiError where fewer than three bands are common or a spectrum is
    zero. Source: Kruse et al. 1993.
    """
    em = _checked(em, "endmembers")
    library = _checked(library, "the library")
    count = library.sizes[schema.ENDMEMBER]
    if not isinstance(k, (int, np.integer)) or not 1 <= k <= count:
        raise HsiError(f"k is {k}; expected 1 to {count}, the spectra of the library")
    nm = em[schema.WAVELENGTH].values
    if not same_bands(nm, library[schema.WAVELENGTH].values):
        fwhm = em[schema.FWHM].values if schema.FWHM in em.coords else None
        library = resample(library, nm, fwhm, outside="nan")
    names = library[schema.ENDMEMBER].values
    angle, bands = _angles(em, library)
    order = np.argsort(angle, axis=1, kind="stable")[:, :k]
    dims = (schema.ENDMEMBER, RANK)
    ranked = np.take_along_axis
    attrs = {"units": "rad", "long_name": "spectral angle to the spectrum of the library"}
    return xr.Dataset(
        {
            MATCH: (dims, np.array([str(name) for name in names], dtype=object)[order], {"long_name": "spectrum"}),
            ANGLE: (dims, ranked(angle, order, 1), attrs),
            BANDS: (dims, ranked(bands, order, 1), {"long_name": "bands compared"}),
        },
        {schema.ENDMEMBER: em[schema.ENDMEMBER].values, RANK: np.arange(1, k + 1)},
    )


def renamed(em: xr.DataArray, matches: xr.Dataset) -> xr.DataArray:
    """Return endmembers under the names of their best matches; names that repeat are numbered: Grass, Grass_2.

    `matches` is the result of `identify`. Raises HsiError where it is that of other endmembers.
    """
    em = _checked(em, "endmembers")
    if MATCH not in matches or list(matches[schema.ENDMEMBER].values) != list(em[schema.ENDMEMBER].values):
        raise HsiError("the matches are not of these endmembers; give renamed what identify(em, library) gave")
    best = [str(name) for name in matches[MATCH].sel({RANK: 1}).values]
    result: xr.DataArray = em.assign_coords({schema.ENDMEMBER: numbered(best)})
    return result


def _checked(spectra: xr.DataArray, what: str) -> xr.DataArray:
    """Return spectra as (endmember, wavelength), named. Raises HsiError for anything else."""
    if (
        not isinstance(spectra, xr.DataArray)
        or set(spectra.dims) != {schema.ENDMEMBER, schema.WAVELENGTH}
        or schema.WAVELENGTH not in spectra.coords
    ):
        found = spectra.dims if isinstance(spectra, xr.DataArray) else type(spectra).__name__
        raise HsiError(f"{what} have {found}; expected a DataArray (endmember, wavelength), as read_library gives it")
    if schema.ENDMEMBER not in spectra.coords:
        names = [f"EM{i + 1}" for i in range(spectra.sizes[schema.ENDMEMBER])]
        spectra = spectra.assign_coords({schema.ENDMEMBER: names})
    ordered: xr.DataArray = spectra.transpose(schema.ENDMEMBER, schema.WAVELENGTH)
    return ordered


def _angles(em: xr.DataArray, library: xr.DataArray) -> tuple[Floats, Ints]:
    """Return angles (endmembers, spectra) in radians over the bands that both have, and the numbers of these bands."""
    endmembers, references = em.values.astype(np.float64), library.values.astype(np.float64)
    angle = np.empty((len(endmembers), len(references)))
    bands = np.empty(angle.shape, np.int64)
    for (i, j), _ in np.ndenumerate(angle):
        both = np.isfinite(endmembers[i]) & np.isfinite(references[j])
        bands[i, j] = both.sum()
        name = f"{library[schema.ENDMEMBER].values[j]} and {em[schema.ENDMEMBER].values[i]}"
        if bands[i, j] < FEWEST_BANDS:
            raise HsiError(f"{name} have {bands[i, j]} bands in common; expected at least {FEWEST_BANDS}")
        a, b = endmembers[i][both], references[j][both]
        lengths = np.linalg.norm(a), np.linalg.norm(b)
        if not min(lengths) > 0:
            raise HsiError(f"{name}: one is zero in every common band; it has no angle: leave it out")
        # by the sine of half the angle: the cosine of a small angle rounds to 1
        angle[i, j] = 2 * np.arcsin(min(1.0, float(np.linalg.norm(a / lengths[0] - b / lengths[1])) / 2))
    return angle, bands
