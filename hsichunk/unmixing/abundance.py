"""Compute abundances under weaker constraints than FCLS, and the standard deviation of abundances."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from hsichunk import schema
from hsichunk.array_types import Bools, Floats
from hsichunk.cube.blockwise import endmember_coord, labelled, on_pixels
from hsichunk.errors import HsiError
from hsichunk.unmixing.solver import check_unmixable
from hsichunk.unmixing.unmixing import SolverName, unmix

ABUNDANCE_STD = "abundance_std"


def ucls(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.Dataset:
    """Unmix by unconstrained least squares: abundances of any sign and sum that minimise ||E'a - x||.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance. Returns a Dataset of float32:
    abundance (endmember, y, x) and rmse (y, x), in reflectance; NaN where any band of a pixel is. Lazy for a dask cube.
    Same as `unmix` with this solver and no metric, so stored counts take the one pass of a run. Raises HsiError for
    wavelengths that differ and for endmembers that are mixtures of each other.
    """
    return unmix(cube, endmembers, solver="ucls", metric=())


def nnls(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.Dataset:
    """Unmix by nonnegative least squares: abundances of at least 0, of any sum, that minimise ||E'a - x||.

    Arguments, result and errors are those of `ucls`. PySpTools' NNLS minimises ||EE'a - Ex|| instead and differs by up
    to 0.1.
    Source: Lawson & Hanson 1974 (active sets), on normal equations as Bro & de Jong 1997.
    """
    return unmix(cube, endmembers, solver="nnls", metric=())


def abundance_std(
    endmembers: xr.DataArray,
    noise: xr.DataArray | ArrayLike,
    abundance: xr.DataArray | None = None,
    *,
    method: SolverName = "fcls",
) -> xr.DataArray:
    """Return the standard deviation of abundances, propagated from the noise of the spectra.

    endmembers: (endmember, wavelength). `noise` is the noise variance of each band (L,), or its covariance (L, L), in
    reflectance squared; or it is the `rmse` (y, x) of the abundances, from which white noise of each pixel is
    estimated: variance = rmse^2 L / (L - f), with f the degrees of freedom of its abundances.
    abundance: (endmember, y, x) that `method` gave ("fcls", "nnls" or "ucls"). Without it every endmember counts as
    part of the mixture, and the result has one number per endmember.

    The propagation is first order and keeps the constraints that are active at the pixel: endmembers at 0 have standard
    deviation 0. Returns float32 (endmember, y, x), or float64 (endmember) without abundances; lazy where the abundances
    are; NaN at no-data. Raises HsiError for arguments of other dimensions or shapes, for noise that is not finite or
    negative, and for endmembers that are mixtures of each other.
    Source: sqrt(diag(P C P')), P the least-squares operator on the support (Kay 1993, ch. 4 and 6).
    """
    if method not in ("fcls", "nnls", "ucls"):
        raise HsiError(f'method is {method!r}; expected "fcls", "nnls" or "ucls"')
    dims = {schema.ENDMEMBER, schema.WAVELENGTH}
    if not isinstance(endmembers, xr.DataArray) or set(endmembers.dims) != dims:
        found = endmembers.dims if isinstance(endmembers, xr.DataArray) else type(endmembers).__name__
        raise HsiError(f"endmembers have {found}; expected a DataArray (endmember, wavelength), as nfindr gives it")
    ordered = endmembers.transpose(schema.ENDMEMBER, schema.WAVELENGTH)
    spectra = ordered.values.astype(np.float64)
    names = tuple(str(n) for n in ordered.get_index(schema.ENDMEMBER))
    check_unmixable(spectra, names, sum_to_one=method == "fcls")
    rmse = noise if isinstance(noise, xr.DataArray) and set(noise.dims) == {schema.Y, schema.X} else None
    covariance = _covariance(noise, spectra.shape[1]) if rmse is None else None
    attrs = {"units": "1", "long_name": f"standard deviation of the abundance ({method})"}
    if abundance is None:
        if covariance is None:
            raise HsiError("noise is a map of rmse but there are no abundances; give abundance=, of the same pixels")
        values = _of_support(np.ones(len(names), np.bool_), spectra, covariance, method)[0]
        return xr.DataArray(values, endmember_coord(names), (schema.ENDMEMBER,), ABUNDANCE_STD, attrs)
    if set(abundance.dims) != {schema.ENDMEMBER, schema.Y, schema.X} or abundance.sizes[schema.ENDMEMBER] != len(names):
        raise HsiError(
            f"abundances have {dict(abundance.sizes)}; expected (endmember, y, x) of {len(names)} endmembers"
        )
    by_pixel = abundance.transpose(schema.Y, schema.X, schema.ENDMEMBER)
    if by_pixel.chunks is not None:
        by_pixel = by_pixel.chunk({schema.ENDMEMBER: -1})
    kernel = partial(_deviations, spectra=spectra, covariance=covariance, method=method)
    if rmse is not None:
        by_pixel = _with_rmse(by_pixel, rmse)
    std = on_pixels(by_pixel, kernel, len(names), threads=1)
    return labelled(
        std, abundance, (schema.ENDMEMBER, schema.Y, schema.X), ABUNDANCE_STD, attrs, endmember_coord(names)
    )


def _with_rmse(by_pixel: xr.DataArray, rmse: xr.DataArray) -> xr.DataArray:
    """Return abundances (y, x, k) with the rmse (y, x) after the last: (y, x, k + 1)."""
    last = rmse.transpose(schema.Y, schema.X).expand_dims({schema.ENDMEMBER: [ABUNDANCE_STD]}, axis=-1)
    both = xr.concat(
        [by_pixel.drop_attrs(), last.drop_attrs()],
        schema.ENDMEMBER,
        join="exact",
        coords="minimal",
        compat="override",
    ).transpose(schema.Y, schema.X, schema.ENDMEMBER)
    return both.chunk({schema.ENDMEMBER: -1}) if both.chunks is not None else both


def _covariance(noise: ArrayLike, bands: int) -> Floats:
    """Return the covariance (L, L) of variances (L,) or of a covariance. Raises HsiError for anything else."""
    values = np.asarray(noise, np.float64)
    if values.shape not in ((bands,), (bands, bands)) or not np.isfinite(values).all():
        raise HsiError(
            f"noise has shape {values.shape}; expected finite variances ({bands},), their covariance "
            f"({bands}, {bands}), or the rmse (y, x) of the abundances"
        )
    if values.ndim == 1:
        values = np.diag(values)
    if (np.diag(values) < 0).any():
        raise HsiError("noise holds negative variances; expected squares of standard deviations")
    return values


def _deviations(rows: Floats, spectra: Floats, covariance: Floats | None, method: SolverName) -> Floats:
    """Return the standard deviations (n, k) of abundances (n, k); without a covariance rmse is their last column."""
    k, bands = spectra.shape
    inside = np.ones((len(rows), k), np.bool_) if method == "ucls" else rows[:, :k] > 0
    supports, which = np.unique(inside, axis=0, return_inverse=True)
    by_support = [_of_support(support, spectra, covariance, method) for support in supports]
    std = np.array([values for values, _ in by_support])[which.reshape(-1)]
    if covariance is None:
        free = np.array([count for _, count in by_support])[which.reshape(-1)]
        std *= (rows[:, k] * np.sqrt(bands / np.maximum(bands - free, 1)))[:, None]
    return std


def _of_support(support: Bools, spectra: Floats, covariance: Floats | None, method: SolverName) -> tuple[Floats, int]:
    """Return the standard deviations (k,) of abundances on a support (k,), and their degrees of freedom.

    Without a covariance they are those of white noise of standard deviation 1.
    """
    std = np.zeros(len(support))
    inside = spectra[support]
    if method == "fcls":  # the last abundance is one less the sum of the others
        first = np.linalg.pinv((inside[:-1] - inside[-1:]).T) if len(inside) > 1 else np.zeros((0, spectra.shape[1]))
        operator = np.vstack([first, -first.sum(0, keepdims=True)]) if len(inside) else first
    else:
        operator = np.linalg.pinv(inside.T)
    through = operator if covariance is None else operator @ covariance
    std[support] = np.sqrt(np.maximum(np.einsum("ij,ij->i", through, operator), 0.0))
    return std, max(len(inside) - (method == "fcls"), 0)
