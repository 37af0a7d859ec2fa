"""Filters along the wavelength of each spectrum: continuum removal and Savitzky-Golay smoothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats, Ints
from hsichunk.cube.blockwise import Kernel, labelled, on_pixels
from hsichunk.cube.checks import check_cube
from hsichunk.errors import HsiError
from hsichunk.kernels.spectral import remove_continuum, weigh_bands

GAP = 1.5  # times the median distance of neighbouring bands; where they lie farther apart, bands are missing


def continuum_removed(spectra: xr.DataArray) -> xr.DataArray:
    """Every spectrum over its continuum, the upper convex hull of reflectance over wavelength: 1 on it, less below.

    spectra: a cube (y, x, wavelength), which gives float32 of the same shape, lazy for a dask cube; or endmembers
    (endmember, wavelength) or one spectrum, which give float64. The result is NaN where any band of a spectrum is NaN.
    Where the continuum is not above 0 there is no quotient, and the result is 1, as in PySpTools.
    The continuum runs straight over bands that were dropped: choose a feature's range with sel(wavelength=slice(...)).
    Raises HsiError for spectra that are not reflectance or have no increasing wavelengths.
    Source: Clark & Roush 1984.
    """
    wavelength = _wavelength(spectra)
    attrs = {"units": "1", "long_name": "continuum-removed reflectance"}
    return _along(spectra, partial(_without_continuum, wavelength=wavelength), attrs)


def savgol(spectra: xr.DataArray, window: int, order: int, deriv: int = 0) -> xr.DataArray:
    """Savitzky-Golay: a polynomial of `order` fitted to `window` neighbouring bands, and its value or derivative.

    spectra and result as for `continuum_removed`. Bands are cut into runs where neighbours are more than 1.5 times the
    median distance apart, and each run is filtered by itself: nothing is smoothed across bands that were dropped.
    Within a run, bands count as evenly spaced, by their mean distance; the first and the last half window take the
    polynomial of the first and last window (`mode="interp"` of scipy.signal.savgol_filter). `deriv` is per nm: 1 gives
    nm^-1. Raises HsiError for an even window, an order that does not fit, and for runs shorter than the window.
    Source: Savitzky & Golay 1964.
    """
    wavelength = _wavelength(spectra)
    if window < 1 or window % 2 == 0 or not 0 <= order < window or deriv < 0:
        raise HsiError(
            f"window={window}, order={order}, deriv={deriv}; expected an odd window, 0 <= order < window, deriv >= 0"
        )
    start, weights = _windows(wavelength, window, order, deriv)
    attrs = dict(schema.PRODUCT_ATTRS[schema.REFLECTANCE])
    if deriv:
        power = "" if deriv == 1 else f"{deriv}"
        attrs = {"units": f"nm-{deriv}", "long_name": f"d{power} reflectance / d wavelength{power}"}
    return _along(spectra, partial(_smoothed, start=start, weights=weights), attrs)


def _wavelength(spectra: xr.DataArray) -> Floats:
    """Return the wavelengths of the spectra, nm (L,). Raises HsiError for what is no reflectance by wavelength."""
    if not isinstance(spectra, xr.DataArray) or schema.WAVELENGTH not in spectra.dims:
        actual = spectra.dims if isinstance(spectra, xr.DataArray) else type(spectra).__name__
        raise HsiError(f"spectra have {actual}; expected a DataArray with wavelength, as a cube or endmembers")
    if schema.WAVELENGTH not in spectra.coords:
        raise HsiError("spectra have no wavelengths; assign them: assign_coords(wavelength=...), in nm")
    if spectra.dtype.kind != "f":
        raise HsiError(f"spectra hold {spectra.dtype} counts; expected reflectance: use clean(tile)")
    nm = spectra[schema.WAVELENGTH].values.astype(np.float64)
    if not (np.diff(nm) > 0).all():
        raise HsiError("the wavelengths do not increase; bring them in order with sortby('wavelength')")
    return nm


def _along(spectra: xr.DataArray, kernel: Kernel, attrs: Mapping[str, str]) -> xr.DataArray:
    """Return what `kernel` makes of every spectrum, of a cube block by block, of other spectra in memory."""
    if {schema.Y, schema.X} <= set(spectra.dims):
        cube = check_cube(spectra)
        filtered = on_pixels(cube, kernel, cube.sizes[schema.WAVELENGTH], last=True)
        coords = {str(n): c for n, c in cube.coords.items() if schema.WAVELENGTH in c.dims}
        return labelled(filtered, cube, (schema.Y, schema.X, schema.WAVELENGTH), schema.REFLECTANCE, attrs, coords)
    ordered = spectra.transpose(..., schema.WAVELENGTH)
    rows = ordered.values.reshape(-1, ordered.shape[-1]).astype(np.float64)
    out, valid = np.full(rows.shape, np.nan), np.isfinite(rows).all(1)
    if valid.any():
        out[valid] = kernel(rows[valid])
    result = ordered.copy(data=out.reshape(ordered.shape))
    result.attrs = dict(attrs)
    return result.transpose(*spectra.dims)


def _without_continuum(x: Floats, wavelength: Floats) -> Floats:
    out = np.empty_like(x)
    remove_continuum(x, wavelength, out)
    return out


def _windows(wavelength: Floats, window: int, order: int, deriv: int) -> tuple[Ints, Floats]:
    """Return, for each band, the first band of its window (L,) and the weights of the window's bands (L, window)."""
    start, weights = np.empty(len(wavelength), np.int64), np.empty((len(wavelength), window))
    distances = np.diff(wavelength)
    typical = np.median(distances) if len(distances) else 1.0
    cuts = np.flatnonzero(distances > GAP * typical) + 1
    half = window // 2
    for run in np.split(np.arange(len(wavelength)), cuts):
        if len(run) < window:
            raise HsiError(
                f"the {len(run)} bands from {wavelength[run[0]]:g} to {wavelength[run[-1]]:g} nm, between missing "
                f"ones, are fewer than the window of {window}; take a smaller window or drop them with clean(drop=...)"
            )
        spacing = (wavelength[run[-1]] - wavelength[run[0]]) / (len(run) - 1) if len(run) > 1 else 1.0
        first = np.clip(np.arange(len(run)) - half, 0, len(run) - window)
        start[run] = run[0] + first
        position = np.arange(len(run)) - first  # of each band in its window
        for each in np.unique(position).tolist():
            weights[run[position == each]] = _weights(window, order, deriv, each, float(spacing))
    return start, weights


def _weights(window: int, order: int, deriv: int, position: int, spacing: float) -> Floats:
    """Return the weights (window,) that give the polynomial's derivative at the band at `position` of the window."""
    if deriv > order:
        return np.zeros(window)
    half = max(window // 2, 1)
    x = (np.arange(window) - window // 2) / half  # -1 to 1: powers stay at most 1, so the fit is well-conditioned
    fit = np.linalg.pinv(np.vander(x, order + 1, increasing=True))
    power = np.arange(order + 1)
    factor = np.ones(order + 1)
    for step in range(deriv):
        factor *= power - step
    derivative = np.where(power >= deriv, factor * x[position] ** np.maximum(power - deriv, 0), 0.0)
    weights: Floats = derivative @ fit / (half * spacing) ** deriv
    return weights


def _smoothed(x: Floats, start: Ints, weights: Floats) -> Floats:
    out = np.empty_like(x)
    weigh_bands(x, start, weights, out)
    return out
