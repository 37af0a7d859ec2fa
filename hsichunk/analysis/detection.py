"""Target detectors: the score of a target's spectrum against the background, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.analysis.weighted_bands import weighted
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import Kernel, endmember_coord, labelled, on_pixels
from hsichunk.cube.checks import check_cube, check_endmembers
from hsichunk.cube.statistics import Statistics, statistics, whitener
from hsichunk.errors import HsiError
from hsichunk.kernels import float_sums

LEAST_REST = 1e-12  # share of a target's squared length that endmembers leave unexplained; below it, it is a mixture


class _Linear(NamedTuple):
    """A detector that is a weighted sum of bands: weights (x - mean)."""

    weights: Floats
    """(k, L), one row a target"""
    mean: Floats
    """(L,)"""


_Detector: TypeAlias = Kernel | _Linear


def matched_filter(
    cube: xr.DataArray, target: xr.DataArray, *, background: Statistics | None = None, ridge: float = 0.0
) -> xr.DataArray:
    """Matched filter: (t - m)'G(x - m) / (t - m)'G(t - m), 0 at the background's mean m and 1 at the target t.

    cube (y, x, wavelength); `target` one spectrum (wavelength) or several (endmember, wavelength), on the same bands.
    G is the inverse of the background's covariance plus `ridge` times its mean variance on the diagonal. `background`
    is what `hsichunk.cube.statistics.statistics` returns, of this or another cube; without it, the statistics of the
    cube are computed now, which reads it once.
    Returns float32 (y, x), or (endmember, y, x) for several targets; NaN where any band of a pixel is NaN; lazy for a
    dask cube. Raises HsiError where the covariance has no inverse and `ridge` is 0.
    Source: Manolakis & Shaw 2002.
    """
    return _detect(cube, target, background, ridge, "matched_filter", "matched filter", _matched_filter)


def ace(
    cube: xr.DataArray, target: xr.DataArray, *, background: Statistics | None = None, ridge: float = 0.0
) -> xr.DataArray:
    """Adaptive coherence estimator: squared cosine of the angle to the target in whitened space, 0 to 1.

    Arguments and result as for `matched_filter`; the opposite of a target scores as the target does.
    Source: Kraut & Scharf 1999.
    """
    prepare = partial(_quotient, offset=0.0)
    return _detect(cube, target, background, ridge, "ace", "adaptive coherence estimator", prepare)


def glrt(
    cube: xr.DataArray, target: xr.DataArray, *, background: Statistics | None = None, ridge: float = 0.0
) -> xr.DataArray:
    """Generalised likelihood ratio: (t'Gx)^2 / (t'Gt (1 + x'Gx)), t and x less the background's mean; 0 to 1.

    Arguments and result as for `matched_filter`. Source: Kelly 1986, in the form of PySpTools' GLRT.
    """
    prepare = partial(_quotient, offset=1.0)
    return _detect(cube, target, background, ridge, "glrt", "generalised likelihood ratio", prepare)


def cem(
    cube: xr.DataArray, target: xr.DataArray, *, background: Statistics | None = None, ridge: float = 0.0
) -> xr.DataArray:
    """Constrained energy minimisation: t'R^-1 x / t'R^-1 t, R the mean of xx' of uncentred spectra; 1 at the target.

    Arguments and result as for `matched_filter`. Source: Du, Ren & Chang 2003.
    """
    return _detect(cube, target, background, ridge, "cem", "constrained energy minimisation", _cem)


def osp(cube: xr.DataArray, endmembers: xr.DataArray, target: xr.DataArray) -> xr.DataArray:
    """Orthogonal subspace projection: t'Px / t'Pt, P projecting out the unwanted `endmembers`.

    cube (y, x, wavelength), endmembers (endmember, wavelength) without the target; target and result as for
    `matched_filter`. Raises HsiError for a target that is a mixture of the endmembers.
    Source: Harsanyi & Chang 1994, Du, Ren & Chang 2003.
    """
    cube = check_cube(cube)
    unwanted, _ = check_endmembers(endmembers, cube)
    spectra, names = _targets(target, cube)
    basis, size, _ = np.linalg.svd(unwanted.T, full_matrices=False)
    basis = basis[:, size > size[0] * np.finfo(np.float64).eps * max(unwanted.shape)]
    rest = spectra - (spectra @ basis) @ basis.T
    square = np.einsum("ij,ij->i", rest, rest)
    mixed = square <= LEAST_REST * np.einsum("ij,ij->i", spectra, spectra)
    if mixed.any():
        name = names[int(mixed.argmax())] if names else "given"
        raise HsiError(f"the target {name} is a mixture of the endmembers; leave it out of them")
    detector = _Linear(rest / square[:, None], np.zeros(rest.shape[1]))
    return _map(cube, detector, names, "osp", "orthogonal subspace projection")


def _detect(
    cube: xr.DataArray,
    target: xr.DataArray,
    background: Statistics | None,
    ridge: float,
    name: str,
    long_name: str,
    prepare: Callable[[Statistics, Floats, float, Floats], _Detector],
) -> xr.DataArray:
    """Return the map of the detector that `prepare` makes of background, targets, ridge and wavelengths."""
    cube = check_cube(cube)
    spectra, names = _targets(target, cube)
    if background is None:
        background = statistics(cube)
    if len(background.mean) != spectra.shape[1]:
        raise HsiError(
            f"the background has {len(background.mean)} bands, the cube {spectra.shape[1]}; bring both to the same"
        )
    return _map(cube, prepare(background, spectra, ridge, cube[schema.WAVELENGTH].values), names, name, long_name)


def _targets(target: xr.DataArray, cube: xr.DataArray) -> tuple[Floats, tuple[str, ...]]:
    """Return the targets (k, L) and their names; no names for a single spectrum (wavelength)."""
    single = isinstance(target, xr.DataArray) and target.dims == (schema.WAVELENGTH,)
    if single:
        target = target.drop_vars(schema.ENDMEMBER, errors="ignore").expand_dims(schema.ENDMEMBER)
    spectra, names = check_endmembers(target, cube)
    if not np.isfinite(spectra).all():
        raise HsiError("the target holds values that are not finite; drop those bands")
    return spectra, () if single else names


def _map(cube: xr.DataArray, detector: _Detector, names: tuple[str, ...], name: str, long_name: str) -> xr.DataArray:
    """Return the labelled map of a detector: (endmember, y, x) where the targets have names, else (y, x)."""
    if isinstance(detector, _Linear):
        scores = weighted(cube, detector.weights, detector.mean)
    else:
        scores = on_pixels(cube, detector, max(1, len(names)))
    attrs = {"units": "1", "long_name": long_name}
    dims = (schema.Y, schema.X)
    if names:
        return labelled(scores, cube, (schema.ENDMEMBER, *dims), name, attrs, endmember_coord(names))
    return labelled(scores[0], cube, dims, name, attrs)


def _matched_filter(background: Statistics, spectra: Floats, ridge: float, wavelength: Floats) -> _Linear:
    root = whitener(background.covariance, ridge, wavelength)
    return _Linear(_filters(root, spectra - background.mean), background.mean)


def _cem(background: Statistics, spectra: Floats, ridge: float, wavelength: Floats) -> _Linear:
    root = whitener(background.correlation, ridge, wavelength)
    return _Linear(_filters(root, spectra), np.zeros_like(background.mean))


def _filters(root: Floats, spectra: Floats) -> Floats:
    """Return G t / t'G t of each target (k, L), G = root' root."""
    white = _check_nonzero(_row_by_row(root, spectra))
    filters: Floats = _row_by_row(root.T, white) / np.einsum("ij,ij->i", white, white)[:, None]
    return filters


def _row_by_row(matrix: Floats, vectors: Floats) -> Floats:
    """Return matrix @ vector of each row of `vectors`.

    Each product is taken by itself: the rounding of a product of matrices depends on the number of rows.
    """
    return np.array([matrix @ vector for vector in vectors])


def _check_nonzero(white: Floats) -> Floats:
    """Return whitened targets (k, L); raise HsiError where one of them is zero."""
    if not white.any(1).all():
        raise HsiError("a target equals the background's mean, from which nothing tells it apart; choose another")
    return white


def _quotient(background: Statistics, spectra: Floats, ridge: float, wavelength: Floats, *, offset: float) -> Kernel:
    root = whitener(background.covariance, ridge, wavelength)
    white = _check_nonzero(_row_by_row(root, spectra - background.mean))
    white /= np.sqrt(np.einsum("ij,ij->i", white, white))[:, None]
    return partial(_squared_cosine, root=root, mean=background.mean, white=white, offset=offset)


def _squared_cosine(x: Floats, root: Floats, mean: Floats, white: Floats, offset: float) -> Floats:
    """Return (w'z)^2 / (offset + z'z) (n, k) of spectra x (n, L), z = root (x - mean), w the rows of `white` (k, L).

    The rows of `white` have length 1. The result is 0 at the mean itself.
    """
    z = np.zeros((len(root), len(x)))
    float_sums.add_products(root, np.ascontiguousarray((x - mean).T), z)
    square, along = np.full(len(x), offset), np.zeros((len(white), len(x)))
    float_sums.add_dots(z, z, square)
    float_sums.add_products(white, z, along)
    return np.minimum(along**2 / np.where(square > 0, square, 1.0), 1.0).T
