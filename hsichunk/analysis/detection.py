"""Target detection: how much of a target's spectrum stands out of the background, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.analysis.weighted_bands import weighted
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import endmember_coord, labelled, on_pixels
from hsichunk.cube.checks import check_cube, check_endmembers
from hsichunk.cube.statistics import Statistics, statistics, whitener
from hsichunk.errors import HsiError
from hsichunk.kernels import float_sums

LEAST_REST = 1e-12  # share of a target's squared length outside the background's plane, below which there is none


def matched_filter(
    cube: xr.DataArray, target: xr.DataArray, *, background: Statistics | None = None, ridge: float = 0.0
) -> xr.DataArray:
    """Matched filter: (t - m)'G(x - m) / (t - m)'G(t - m), 0 at the background's mean m and 1 at the target t.

    cube (y, x, wavelength); `target` one spectrum (wavelength) or several (endmember, wavelength), on the same bands.
    G is the inverse of the background's covariance plus `ridge` times its mean variance on the diagonal. `background`
    is what `hsichunk.cube.statistics.statistics` gave, of another cube perhaps; without it the cube's own is computed
    now, which reads it once.
    Returns float32 (y, x), or (endmember, y, x) for several targets; NaN where any band of a pixel is; lazy for a dask
    cube. Raises HsiError where the covariance has no inverse and `ridge` is 0.
    Source: Manolakis & Shaw 2002.
    """
    return _detect(cube, target, background, ridge, "matched_filter", "matched filter", _matched_filter)


def ace(
    cube: xr.DataArray, target: xr.DataArray, *, background: Statistics | None = None, ridge: float = 0.0
) -> xr.DataArray:
    """Adaptive coherence estimator: squared cosine of the angle to the target in whitened space, 0 to 1.

    Arguments and result as `matched_filter`; a target's opposite scores as the target does.
    Source: Kraut & Scharf 1999.
    """
    return _detect(cube, target, background, ridge, "ace", "adaptive coherence estimator", partial(_quotient, one=0.0))


def glrt(
    cube: xr.DataArray, target: xr.DataArray, *, background: Statistics | None = None, ridge: float = 0.0
) -> xr.DataArray:
    """Generalised likelihood ratio: (t'Gx)^2 / (t'Gt (1 + x'Gx)), t and x less the background's mean; 0 to 1.

    Arguments and result as `matched_filter`. Source: Kelly 1986, in the form of PySpTools' GLRT.
    """
    return _detect(cube, target, background, ridge, "glrt", "generalised likelihood ratio", partial(_quotient, one=1.0))


def cem(
    cube: xr.DataArray, target: xr.DataArray, *, background: Statistics | None = None, ridge: float = 0.0
) -> xr.DataArray:
    """Constrained energy minimisation: t'R^-1 x / t'R^-1 t, R the mean of xx' with the mean left in; 1 at the target.

    Arguments and result as `matched_filter`. Source: Du, Ren & Chang 2003.
    """
    return _detect(cube, target, background, ridge, "cem", "constrained energy minimisation", _cem)


def osp(cube: xr.DataArray, endmembers: xr.DataArray, target: xr.DataArray) -> xr.DataArray:
    """Orthogonal subspace projection: t'Px / t'Pt, P taking away what the unwanted `endmembers` explain.

    cube (y, x, wavelength), endmembers (endmember, wavelength) without the target; target and result as
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
    work = rest / square[:, None], np.zeros(rest.shape[1])
    return _map(cube, work, names, "osp", "orthogonal subspace projection")


def _detect(
    cube: xr.DataArray,
    target: xr.DataArray,
    background: Statistics | None,
    ridge: float,
    name: str,
    long_name: str,
    prepare: Callable[[Statistics, Floats, float, Floats], Any],
) -> xr.DataArray:
    cube = check_cube(cube)
    spectra, names = _targets(target, cube)
    found = statistics(cube) if background is None else background
    if len(found.mean) != spectra.shape[1]:
        raise HsiError(
            f"the background has {len(found.mean)} bands, the cube {spectra.shape[1]}; bring both to the same"
        )
    return _map(cube, prepare(found, spectra, ridge, cube[schema.WAVELENGTH].values), names, name, long_name)


def _targets(target: xr.DataArray, cube: xr.DataArray) -> tuple[Floats, tuple[str, ...]]:
    """Targets (k, L), and their names where there may be several."""
    single = isinstance(target, xr.DataArray) and target.dims == (schema.WAVELENGTH,)
    if single:
        target = target.drop_vars(schema.ENDMEMBER, errors="ignore").expand_dims(schema.ENDMEMBER)
    spectra, names = check_endmembers(target, cube)
    if not np.isfinite(spectra).all():
        raise HsiError("the target holds values that are not finite; drop those bands")
    return spectra, () if single else names


def _map(cube: xr.DataArray, work: Any, names: tuple[str, ...], name: str, long_name: str) -> xr.DataArray:
    """`work` is a kernel of spectra, or the weights (k, L) and the mean (L,) of a linear one."""
    found = weighted(cube, *work) if isinstance(work, tuple) else on_pixels(cube, work, max(1, len(names)))
    attrs = {"units": "1", "long_name": long_name}
    dims = (schema.Y, schema.X)
    if names:
        return labelled(found, cube, (schema.ENDMEMBER, *dims), name, attrs, endmember_coord(names))
    return labelled(found[0], cube, dims, name, attrs)


def _matched_filter(found: Statistics, spectra: Floats, ridge: float, bands: Floats) -> Any:
    root = whitener(found.covariance, ridge, bands)
    return _filters(root, spectra - found.mean), found.mean


def _cem(found: Statistics, spectra: Floats, ridge: float, bands: Floats) -> Any:
    root = whitener(found.correlation, ridge, bands)
    return _filters(root, spectra), np.zeros_like(found.mean)


def _filters(root: Floats, spectra: Floats) -> Floats:
    """G t / t'G t of each target (k, L), G = root' root."""
    white = _nonzero(_each(root, spectra))
    filters: Floats = _each(root.T, white) / np.einsum("ij,ij->i", white, white)[:, None]
    return filters


def _each(matrix: Floats, vectors: Floats) -> Floats:
    """matrix @ vector, one vector a row, by itself: a product of matrices rounds a row as the others come with it."""
    return np.array([matrix @ vector for vector in vectors])


def _nonzero(white: Floats) -> Floats:
    if not white.any(1).all():
        raise HsiError("a target equals the background's mean, from which nothing tells it apart; choose another")
    return white


def _quotient(found: Statistics, spectra: Floats, ridge: float, bands: Floats, *, one: float) -> Any:
    root = whitener(found.covariance, ridge, bands)
    white = _nonzero(_each(root, spectra - found.mean))
    white /= np.sqrt(np.einsum("ij,ij->i", white, white))[:, None]
    return partial(_squared_cosine, root=root, mean=found.mean, white=white, one=one)


def _squared_cosine(x: Floats, root: Floats, mean: Floats, white: Floats, one: float) -> Floats:
    """Spectra (n, L) to (w'z)^2 / (one + z'z) (n, k), z = root (x - mean), w of length 1; 0 at the mean itself."""
    z = np.zeros((len(root), len(x)))
    float_sums.add_products(root, np.ascontiguousarray((x - mean).T), z)
    square, along = np.full(len(x), one), np.zeros((len(white), len(x)))
    float_sums.add_dots(z, z, square)
    float_sums.add_products(white, z, along)
    return np.minimum(along**2 / np.where(square > 0, square, 1.0), 1.0).T
