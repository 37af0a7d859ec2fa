"""How many endmembers a cube shows: HFC, noise-whitened HFC and HySime, from streamed moments alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.second_moments import Moments, moments, of_dataset
from hsichunk.errors import HsiError
from hsichunk.schema import COMPONENT, FAR

REGULARISED = 1e-6  # what HySime's authors add to the correlation before they invert it
NOISE_SHARE = 1e-5  # of the mean signal power that they add to the noise


def hfc(cube: xr.DataArray | xr.Dataset, far: float | Sequence[float] = 1e-3, *, pysptools: bool = False) -> xr.Dataset:
    """Virtual dimensionality: how many eigenvalues of the correlation X'X/n exceed those of the covariance.

    `cube` is a cube, which is decoded once, or what `moments(cube)` gave: with its `memory` and `sample`, and once for
    all three methods. `far` is the false-alarm rate of the Neyman-Pearson test, or several. With `pysptools` PySpTools'
    own form: Pearson's correlation in place of X'X/n, the covariance over n - 1, and a variance that depends on the
    units of reflectance; to compare, no more.

    Returns count (far), threshold (far, component), correlation_eigenvalue and covariance_eigenvalue (component), the
    largest first, in squared reflectance; attributes method, pixels, and `source` and `scratch_bytes` of the moments.
    Raises HsiError for rates that are not between 0 and 0.5.
    Sources: Harsanyi, Farrand & Chang 1993; Chang & Du 2004, eq. 8 to 13.
    """
    rates, (found, read) = check_rates(far), _moments(cube)
    if not pysptools:
        return _hfc(found.correlation, found.covariance, found.n, rates, "HFC").assign_attrs(read)
    covariance = found.covariance * (found.n / (found.n - 1))
    deviation = np.sqrt(np.diag(covariance))
    if not (deviation > 0).all():
        raise HsiError(f"band {int(deviation.argmin())} holds one value alone; Pearson's correlation has no such band")
    pearson = covariance / np.outer(deviation, deviation)
    return _hfc(pearson, covariance, found.n, rates, "HFC (PySpTools)", mixed=True).assign_attrs(read)


def nwhfc(
    cube: xr.DataArray | xr.Dataset,
    far: float | Sequence[float] = 1e-3,
    *,
    noise: Literal["regression", "neighbours"] = "regression",
) -> xr.Dataset:
    """Noise-whitened HFC: `hfc` of spectra divided by their noise, so that strong noise is no endmember.

    `noise` "regression": the variance of each band that all others together do not explain (Roger 1996), as published;
    "neighbours": the covariance of differences between neighbouring pixels (`moments(cube, noise=True)`).
    Returns what `hfc` does, eigenvalues in units of the noise. Raises HsiError too where bands depend on each other or
    hold no noise. Source: Chang & Du 2004, section III B.
    """
    if noise not in ("regression", "neighbours"):
        raise HsiError(f'noise is {noise!r}; expected "regression" or "neighbours"')
    rates, (found, read) = check_rates(far), _moments(cube, noise=noise == "neighbours")
    if noise == "regression":
        values, vectors = np.linalg.eigh(found.covariance)
        if values[0] <= values[-1] * 1e-15:
            raise HsiError(
                "some bands are mixtures of others to the last digit (or there are fewer pixels than bands); their "
                'noise cannot be told: drop bands, or use noise="neighbours"'
            )
        variance = 1 / ((vectors / values) * vectors).sum(1)
        whiten = np.diag(1 / np.sqrt(variance))
    else:
        if found.noise is None:
            raise HsiError("the moments hold no noise covariance; make them with moments(cube, noise=True)")
        values, vectors = np.linalg.eigh(found.noise)
        if values[0] <= values[-1] * 1e-15:
            raise HsiError("neighbouring pixels do not differ in some mixture of bands; nothing to whiten with there")
        whiten = vectors / np.sqrt(values)
    correlation, covariance = (whiten.T @ matrix @ whiten for matrix in (found.correlation, found.covariance))
    return _hfc(correlation, covariance, found.n, rates, "NWHFC").assign_attrs(read, noise=noise)


def hysime(cube: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """Hyperspectral signal identification by minimum error: the subspace where signal outweighs noise.

    `cube` is a cube of reflectance, or what `moments(cube)` gave; computes one decode of the cube. Noise is what the
    other bands do not explain of each band, by regression; everything follows from X'X.

    Returns count, signal_power, noise_power and cost (component), the axes that the count is of first, in order of
    cost; axis (component, wavelength). Source: Bioucas-Dias & Nascimento 2008.
    """
    found, read = _moments(cube)
    r, n = found.correlation, found.n
    bands = len(r)
    inverse = np.linalg.pinv(n * r + REGULARISED * np.eye(bands), hermitian=True)
    # row i of the regression: band i from all others
    explain = -inverse / np.diag(inverse)[:, None]
    np.fill_diagonal(explain, 0.0)
    left = np.eye(bands) - explain
    noise = np.diag(np.diag(left @ r @ left.T))
    signal = explain @ r @ explain.T
    noise = noise + np.trace(signal) / bands * NOISE_SHARE * np.eye(bands)
    axes = np.linalg.eigh((signal + signal.T) / 2)[1][:, ::-1]
    power, noise_power = (np.einsum("ij,ik,kj->j", axes, matrix, axes, optimize=True) for matrix in (r, noise))
    cost = 2 * noise_power - power
    order = np.argsort(cost, kind="stable")
    attrs = {"method": "HySime", "pixels": n, **read}
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


def _moments(cube: xr.DataArray | xr.Dataset, *, noise: bool = False) -> tuple[Moments, dict[str, Any]]:
    """Moments in reflectance, and what they were read from."""
    found = cube if isinstance(cube, xr.Dataset) else moments(cube, noise=noise)
    return of_dataset(found), {name: found.attrs[name] for name in ("source", "scratch_bytes") if name in found.attrs}


def check_rates(far: float | Sequence[float]) -> Floats:
    """False-alarm rates (n,). Raises HsiError for what is none."""
    rates = np.atleast_1d(np.asarray(far, np.float64))
    if rates.ndim != 1 or not rates.size or not ((rates > 0) & (rates < 0.5)).all():
        raise HsiError(f"far is {far}; expected false-alarm rates above 0 and below 0.5, as 1e-3")
    return rates


def _hfc(
    correlation: Floats, covariance: Floats, n: int, far: Floats, method: str, *, mixed: bool = False
) -> xr.Dataset:
    """The test of each pair of eigenvalues; `mixed` is PySpTools' variance, r + k + rk in place of r^2 + k^2."""
    r, k = (np.linalg.eigvalsh((m + m.T) / 2)[::-1] for m in (correlation, covariance))
    variance = 2 / n * (r + k + r * k if mixed else r**2 + k**2)
    # eigenvalues that rounding made negative: PySpTools takes the size of the root
    normal = np.array([-NormalDist().inv_cdf(float(rate)) for rate in far])
    threshold = normal[:, None] * np.sqrt(np.abs(variance))
    count = (r - k > threshold).sum(1)
    return xr.Dataset(
        {
            "count": (FAR, count, {"long_name": "number of endmembers"}),
            "threshold": ((FAR, COMPONENT), threshold),
            "correlation_eigenvalue": (COMPONENT, r),
            "covariance_eigenvalue": (COMPONENT, k),
        },
        {FAR: (FAR, far, {"long_name": "false-alarm rate"}), COMPONENT: np.arange(1, len(r) + 1)},
        {"method": method, "pixels": n},
    )
