"""Estimate the number of endmembers of a cube by HFC, noise-whitened HFC and HySime, from its moments alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.second_moments import Moments, moments, of_dataset
from hsichunk.errors import HsiError
from hsichunk.schema import COMPONENT, FAR

REGULARISED = 1e-6  # the authors of HySime add this to the diagonal of X'X before they invert it
NOISE_SHARE = 1e-5  # they add this share of the mean signal power to the noise


def hfc(cube: xr.DataArray | xr.Dataset, far: float | Sequence[float] = 1e-3, *, pysptools: bool = False) -> xr.Dataset:
    """Estimate the virtual dimensionality by HFC: how many eigenvalues of X'X/n exceed those of the covariance.

    `cube` is a cube, which is decoded once, or the result of `moments(cube)`, which takes `memory` and `sample` and
    serves all three methods. `far` is the false-alarm rate of the Neyman-Pearson test, or several rates. With
    `pysptools` the method is that of PySpTools, for comparison only: Pearson's correlation in place of X'X/n, the
    covariance over n - 1, and a variance that depends on the units of reflectance.

    Returns count (far), threshold (far, component), correlation_eigenvalue and covariance_eigenvalue (component), the
    largest first, in squared reflectance; attributes method, pixels, and `source` and `scratch_bytes` of the moments.
    Raises HsiError for rates that are not between 0 and 0.5.
    Sources: Harsanyi, Farrand & Chang 1993; Chang & Du 2004, eq. 8 to 13.
    """
    rates, (spectral, source) = check_rates(far), _moments(cube)
    n = spectral.n
    if not pysptools:
        return _hfc(spectral.correlation, spectral.covariance, n, rates, "HFC").assign_attrs(source)
    covariance = spectral.covariance * (n / (n - 1))
    deviation = np.sqrt(np.diag(covariance))
    if not (deviation > 0).all():
        raise HsiError(f"band {int(deviation.argmin())} holds one value alone; Pearson's correlation has no such band")
    pearson = covariance / np.outer(deviation, deviation)
    return _hfc(pearson, covariance, n, rates, "HFC (PySpTools)", mixed=True).assign_attrs(source)


def nwhfc(
    cube: xr.DataArray | xr.Dataset,
    far: float | Sequence[float] = 1e-3,
    *,
    noise: Literal["regression", "neighbours"] = "regression",
) -> xr.Dataset:
    """Estimate the virtual dimensionality by noise-whitened HFC, in which strong noise does not count as an endmember.

    It is `hfc` of spectra divided by their noise. `noise` "regression" is the variance of each band that all other
    bands together do not explain (Roger 1996), as published; "neighbours" is the covariance of differences between
    neighbouring pixels (`moments(cube, noise=True)`). Returns what `hfc` does, eigenvalues in units of the noise.
    Raises HsiError as `hfc` does, and where bands depend on each other or hold no noise. Source: Chang & Du 2004,
    section III B.
    """
    if noise not in ("regression", "neighbours"):
        raise HsiError(f'noise is {noise!r}; expected "regression" or "neighbours"')
    rates, (spectral, source) = check_rates(far), _moments(cube, noise=noise == "neighbours")
    if noise == "regression":
        values, vectors = np.linalg.eigh(spectral.covariance)
        if values[0] <= values[-1] * 1e-15:
            raise HsiError(
                "some bands are mixtures of others to the last digit (or there are fewer pixels than bands); their "
                'noise cannot be told: drop bands, or use noise="neighbours"'
            )
        variance = 1 / ((vectors / values) * vectors).sum(1)
        whiten = np.diag(1 / np.sqrt(variance))
    else:
        if spectral.noise is None:
            raise HsiError("the moments hold no noise covariance; make them with moments(cube, noise=True)")
        values, vectors = np.linalg.eigh(spectral.noise)
        if values[0] <= values[-1] * 1e-15:
            raise HsiError("neighbouring pixels do not differ in some mixture of bands; nothing to whiten with there")
        whiten = vectors / np.sqrt(values)
    correlation, covariance = (whiten.T @ matrix @ whiten for matrix in (spectral.correlation, spectral.covariance))
    return _hfc(correlation, covariance, spectral.n, rates, "NWHFC").assign_attrs(source, noise=noise)


def hysime(cube: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """Estimate the signal subspace by minimum error (HySime): the axes on which signal outweighs noise.

    `cube` is a cube of reflectance, which is decoded once, or the result of `moments(cube)`. The noise of a band is the
    part that a regression on all other bands does not explain; everything follows from X'X.

    Returns count; signal_power, noise_power and cost (component) in order of cost, so that the counted axes come first;
    and axis (component, wavelength). Source: Bioucas-Dias & Nascimento 2008.
    """
    spectral, source = _moments(cube)
    r, n = spectral.correlation, spectral.n
    bands = len(r)
    inverse = np.linalg.pinv(n * r + REGULARISED * np.eye(bands), hermitian=True)
    # row i predicts band i from all others
    regression = -inverse / np.diag(inverse)[:, None]
    np.fill_diagonal(regression, 0.0)
    residual = np.eye(bands) - regression
    noise = np.diag(np.diag(residual @ r @ residual.T))
    signal = regression @ r @ regression.T
    noise = noise + np.trace(signal) / bands * NOISE_SHARE * np.eye(bands)
    axes = np.linalg.eigh((signal + signal.T) / 2)[1][:, ::-1]
    power, noise_power = (np.einsum("ij,ik,kj->j", axes, matrix, axes, optimize=True) for matrix in (r, noise))
    cost = 2 * noise_power - power
    order = np.argsort(cost, kind="stable")
    attrs = {"method": "HySime", "pixels": n, **source}
    return xr.Dataset(
        {
            "count": ((), int((cost < 0).sum()), {"long_name": "number of endmembers"}),
            "signal_power": (COMPONENT, power[order]),
            "noise_power": (COMPONENT, noise_power[order]),
            "cost": (COMPONENT, cost[order]),
            "axis": ((COMPONENT, schema.WAVELENGTH), axes.T[order]),
        },
        {COMPONENT: np.arange(1, bands + 1), schema.WAVELENGTH: cube[schema.WAVELENGTH].variable},
        attrs,
    )


def _moments(cube: xr.DataArray | xr.Dataset, *, noise: bool = False) -> tuple[Moments, dict[str, str | int]]:
    """Return the moments of a cube in reflectance, and the attributes about the pixels that they were computed from."""
    dataset = cube if isinstance(cube, xr.Dataset) else moments(cube, noise=noise)
    attrs = dataset.attrs
    return of_dataset(dataset), {name: attrs[name] for name in ("source", "scratch_bytes") if name in attrs}


def check_rates(far: float | Sequence[float]) -> Floats:
    """Return false-alarm rates (n,) as an array. Raises HsiError for rates that are not above 0 and below 0.5."""
    rates = np.atleast_1d(np.asarray(far, np.float64))
    if rates.ndim != 1 or not rates.size or not ((rates > 0) & (rates < 0.5)).all():
        raise HsiError(f"far is {far}; expected false-alarm rates above 0 and below 0.5, as 1e-3")
    return rates


def _hfc(
    correlation: Floats, covariance: Floats, n: int, far: Floats, method: str, *, mixed: bool = False
) -> xr.Dataset:
    """Test each pair of eigenvalues: r of the correlation against c of the covariance.

    With `mixed` the variance is that of PySpTools, r + c + rc in place of r^2 + c^2.
    """
    r, c = (np.linalg.eigvalsh((m + m.T) / 2)[::-1] for m in (correlation, covariance))
    variance = 2 / n * (r + c + r * c if mixed else r**2 + c**2)
    # rounding may make eigenvalues negative; PySpTools takes the absolute value of the root
    normal = np.array([-NormalDist().inv_cdf(float(rate)) for rate in far])
    threshold = normal[:, None] * np.sqrt(np.abs(variance))
    count = (r - c > threshold).sum(1)
    return xr.Dataset(
        {
            "count": (FAR, count, {"long_name": "number of endmembers"}),
            "threshold": ((FAR, COMPONENT), threshold),
            "correlation_eigenvalue": (COMPONENT, r),
            "covariance_eigenvalue": (COMPONENT, c),
        },
        {FAR: (FAR, far, {"long_name": "false-alarm rate"}), COMPONENT: np.arange(1, len(r) + 1)},
        {"method": method, "pixels": n},
    )
