"""Resample the spectra of a library to the bands of a sensor."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.errors import HsiError
from hsichunk.readers.wavelengths import SAME

SIGMAS_PER_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
REACH = 5.0  # standard deviations at which the response of a band is cut off
NARROW = 0.01  # standard deviations: a response cut off closer to its centre is treated as a point
POINT = 1e-3  # nm: a response cut off closer to its centre is treated as a point


def resample(
    em: xr.DataArray,
    wavelength: ArrayLike,
    fwhm: ArrayLike | None = None,
    *,
    outside: Literal["error", "nan"] = "error",
) -> xr.DataArray:
    """Return endmembers (endmember, wavelength) on other bands, float64; `wavelength` (L,) in nm, increasing.

    With `fwhm` of the sensor (nm, one for all or one for each band) a band is the mean of the spectrum under a Gaussian
    of that full width at half maximum. The integral of the spectrum, linear between the samples of the library, is
    computed in closed form, so neither coarse nor uneven sampling biases it. Near an end of the library the response is
    cut off evenly on both sides. Without `fwhm` the spectrum is interpolated linearly, which is the limit of narrow
    bands. The library is assumed to be measured with far narrower bands than those of the sensor. A band that needs a
    NaN is NaN. Nothing is extrapolated: a band beyond the library raises an HsiError that names the ranges or, with
    outside="nan", is NaN.
    """
    em = em.transpose(schema.ENDMEMBER, schema.WAVELENGTH)
    samples = em[schema.WAVELENGTH].values.astype(np.float64)
    nm = _increasing(wavelength)
    widths = np.zeros(len(nm)) if fwhm is None else np.asarray(fwhm, np.float64)
    if widths.shape not in ((), nm.shape) or not (np.isfinite(widths) & (widths >= 0)).all():
        raise HsiError(f"fwhm has {widths.size} values for {len(nm)} bands; expected widths in nm, one or one a band")
    widths = np.broadcast_to(widths, nm.shape)
    beyond = (nm < samples[0] - SAME) | (nm > samples[-1] + SAME)
    if beyond.any() and outside != "nan":
        raise HsiError(
            f"the library covers {samples[0]:g} to {samples[-1]:g} nm, {int(beyond.sum())} of {len(nm)} bands lie "
            f"beyond ({nm[beyond][0]:g} to {nm[beyond][-1]:g} nm); drop those bands or take a library that covers them"
        )
    weights = response(samples, nm, widths)
    values = em.values.astype(np.float64)
    missing = np.isnan(values)
    out = np.where(missing, 0.0, values) @ weights.T
    out[(missing.astype(np.float64) @ (weights != 0).T.astype(np.float64)) > 0] = np.nan
    out[:, beyond] = np.nan
    of_endmembers = {str(name): c for name, c in em.coords.items() if schema.WAVELENGTH not in c.dims}
    coords: dict[str, Any] = {**of_endmembers, schema.WAVELENGTH: (schema.WAVELENGTH, nm, schema.WAVELENGTH_ATTRS)}
    if fwhm is not None:
        coords[schema.FWHM] = (schema.WAVELENGTH, widths.copy(), schema.FWHM_ATTRS)
    return xr.DataArray(out, coords, em.dims, em.name, em.attrs)


def response(samples: Floats, wavelength: Floats, fwhm: Floats) -> Floats:
    """Return the weights (bands, samples) of the samples of a library in each band; each row sums to one."""
    out = np.zeros((len(wavelength), len(samples)))
    for row, centre, width in zip(out, wavelength.tolist(), fwhm.tolist(), strict=True):
        centre = min(max(centre, float(samples[0])), float(samples[-1]))
        sigma = width / SIGMAS_PER_FWHM
        reach = min(REACH * sigma, centre - float(samples[0]), float(samples[-1]) - centre)
        if reach <= max(NARROW * sigma, POINT):
            _interpolate(row, samples, centre)
        else:
            _integrate(row, samples, centre, sigma, reach)
    return out


def _interpolate(row: Floats, samples: Floats, centre: float) -> None:
    """Fill a row (samples,) of weights by linear interpolation at a wavelength."""
    right = int(np.searchsorted(samples, centre))
    if samples[right] == centre:
        row[right] = 1.0
        return
    share = (centre - samples[right - 1]) / (samples[right] - samples[right - 1])
    row[right - 1], row[right] = 1.0 - share, share


def _integrate(row: Floats, samples: Floats, centre: float, sigma: float, reach: float) -> None:
    """Fill a row (samples,) of weights: the integrals of a Gaussian, cut off at `reach`, with hat functions.

    Sample i has the hat that is 1 at its wavelength and falls linearly to 0 at its neighbours.
    """
    first = max(int(np.searchsorted(samples, centre - reach, side="right")) - 1, 0)
    last = min(int(np.searchsorted(samples, centre + reach)), len(samples) - 1)
    nodes = samples[first : last + 1]
    edge = np.clip(nodes, centre - reach, centre + reach) - centre
    area = np.array([0.5 * math.erf(v / (sigma * math.sqrt(2.0))) for v in edge])
    height = np.exp(-0.5 * (edge / sigma) ** 2) / (sigma * math.sqrt(2.0 * math.pi))
    under = np.diff(area)
    moment = -(sigma**2) * np.diff(height)  # of (wavelength - centre)
    upper = (moment - (nodes[:-1] - centre) * under) / np.diff(nodes)
    row[first + 1 : last + 1] += upper
    row[first:last] += under - upper
    row /= row.sum()


def _increasing(wavelength: ArrayLike) -> Floats:
    """Return wavelengths (L,) as an array. Raises HsiError unless they are finite and increasing."""
    nm = np.asarray(wavelength, np.float64)
    if nm.ndim != 1 or not nm.size or not np.isfinite(nm).all() or (np.diff(nm) <= 0).any():
        raise HsiError(f"{nm.size} wavelengths to resample to; expected nm, finite and increasing")
    return nm
