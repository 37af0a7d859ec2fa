"""Principal components, minimum noise fraction and whitening: fitted by streaming, applied by blocks, and undone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.analysis.weighted_bands import weighted
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import labelled, on_pixels
from hsichunk.cube.checks import check_cube
from hsichunk.cube.statistics import SINGULAR, Statistics, statistics
from hsichunk.errors import HsiError
from hsichunk.kernels import float_sums
from hsichunk.readers.wavelengths import same_bands
from hsichunk.schema import COMPONENT


@dataclass(frozen=True, eq=False)
class Transform:
    """A linear change of the axes of spectra: scores = components (x - mean), x = basis' scores + mean."""

    components: xr.DataArray
    """(component, wavelength) float64: what a spectrum less the mean is multiplied with"""
    mean: xr.DataArray
    """(wavelength) float64, reflectance"""
    eigenvalues: xr.DataArray
    """(component) float64: variance of each score, but for whitening (there of each principal axis); falling"""
    basis: xr.DataArray
    """(component, wavelength) float64: the spectrum that a score of one stands for"""
    name: str
    """of the scores: "pca", "mnf" or "whitened" """

    def transform(self, cube: xr.DataArray) -> xr.DataArray:
        """Scores of a cube on the same bands: float32 (component, y, x), NaN at no-data, lazy for a dask cube."""
        cube = check_cube(cube)
        _check_bands(cube, self.components)
        coords = {COMPONENT: self.components[COMPONENT]}
        attrs = {"units": "1", "long_name": f"{self.components.attrs['long_name']} scores"}
        found = weighted(cube, self.components.values, self.mean.values)
        return labelled(found, cube, (COMPONENT, schema.Y, schema.X), self.name, attrs, coords)

    def inverse(self, scores: xr.DataArray) -> xr.DataArray:
        """Reflectance (y, x, wavelength) float32 that scores (component, y, x) stand for.

        Of all components it is what was transformed; of fewer, that without the rest, which of an MNF is denoising.
        Components are chosen with `scores.sel(component=...)`.
        """
        if not isinstance(scores, xr.DataArray) or set(scores.dims) != {COMPONENT, schema.Y, schema.X}:
            found = scores.dims if isinstance(scores, xr.DataArray) else type(scores).__name__
            raise HsiError(f"the scores have {found}; expected a DataArray (component, y, x), as transform gives it")
        known = self.basis.get_index(COMPONENT)
        chosen = known.get_indexer(scores.get_index(COMPONENT))
        if (chosen < 0).any():
            stray = scores.get_index(COMPONENT)[int(chosen.argmin())]
            raise HsiError(f"the scores hold component {stray}, of {len(known)} that were fitted")
        scores = scores.transpose(schema.Y, schema.X, COMPONENT)
        if scores.chunks is not None:
            scores = scores.chunk({COMPONENT: -1})
        matrix = np.ascontiguousarray(self.basis.values[chosen].T)
        work = partial(_rotate, matrix=matrix, after=self.mean.values)
        rotated = on_pixels(scores, work, len(matrix), last=True)
        coords = {schema.WAVELENGTH: self.mean[schema.WAVELENGTH]}
        attrs = schema.PRODUCT_ATTRS[schema.REFLECTANCE]
        return labelled(rotated, scores, (schema.Y, schema.X, schema.WAVELENGTH), schema.REFLECTANCE, attrs, coords)


def pca(cube: xr.DataArray, n: int | None = None) -> Transform:
    """The first `n` principal components (all without `n`), by falling variance. Computes: reads the cube once.

    cube (y, x, wavelength); pixels with no-data in any band are left out. Components are orthonormal; of each the
    loading largest in size is positive. Nothing is scaled. Raises HsiError for n beyond the bands.
    """
    cube = check_cube(cube)
    n = _check_n(n, cube)
    found = statistics(cube)
    values, vectors = _eigen(found.covariance)
    rows = _signed(vectors[:, :n].T)
    return _labelled("pca", "principal component", cube, found, rows, rows, values[:n])


def mnf(cube: xr.DataArray, n: int | None = None, *, noise_covariance: Floats | None = None) -> Transform:
    """The first `n` minimum noise fraction components (all without `n`), by falling signal-to-noise.

    cube (y, x, wavelength); pixels with no-data in any band are left out. The noise covariance (L, L) is that of
    `hsichunk.analysis.transforms.noise(cube)` unless given. Scores have noise of variance 1 that is not correlated, and
    variances (`eigenvalues`) of signal over noise + 1. Computes: reads the cube twice. Raises HsiError where the
    noise covariance has no inverse, as where bands hold no noise.
    Sources: Green et al. 1988; Lee, Woodyatt & Berman 1990 (noise-adjusted principal components).
    """
    cube = check_cube(cube)
    n = _check_n(n, cube)
    found = statistics(cube)
    covariance = noise(cube).covariance if noise_covariance is None else np.asarray(noise_covariance, np.float64)
    if covariance.shape != found.covariance.shape:
        raise HsiError(f"the noise covariance has shape {covariance.shape}; expected {found.covariance.shape}")
    root, inverse = _roots(covariance, cube, "noise covariance")
    adjusted = inverse @ found.covariance @ inverse
    values, vectors = _eigen((adjusted + adjusted.T) / 2)
    rows = vectors[:, :n].T @ inverse
    sign = _signs(rows)
    basis = vectors[:, :n].T @ root
    return _labelled("mnf", "minimum noise fraction", cube, found, rows * sign, basis * sign, values[:n])


def whiten(cube: xr.DataArray) -> Transform:
    """The symmetric whitening: scores, one a band, of covariance I, nearest to the centred spectra in shape.

    cube (y, x, wavelength); pixels with no-data in any band are left out. Computes: reads the cube once. `eigenvalues`
    are the variances along principal axes. Raises HsiError where the covariance has no inverse. Source: Krizhevsky
    2009, appendix A (ZCA), which PySpTools means to follow.
    """
    cube = check_cube(cube)
    found = statistics(cube)
    root, inverse = _roots(found.covariance, cube, "covariance")
    values, _ = _eigen(found.covariance)
    return _labelled("whitened", "whitened", cube, found, inverse, root, values)


def noise(cube: xr.DataArray) -> Statistics:
    """Mean and covariance of the noise, from half the differences of diagonal neighbours. Computes: reads it once.

    What changes slowly over the image falls out; edges in the scene count as noise. Both pixels need data in every
    band. The same bits on any chunks. Source: the shift difference of Green et al. 1988.
    """
    cube = check_cube(cube)
    if min(cube.sizes[schema.Y], cube.sizes[schema.X]) < 2:
        raise HsiError(f"the cube has {dict(cube.sizes)}; expected at least two rows and two columns, for differences")
    values = cube.variable.astype(np.float64)
    data = values.data[:-1, :-1] - values.data[1:, 1:]
    if hasattr(data, "dask"):  # the shifted chunks leave slivers
        data = data.rechunk((_shorter(cube.data.chunks[0]), _shorter(cube.data.chunks[1]), cube.data.chunks[2]))
    dims = (schema.Y, schema.X, schema.WAVELENGTH)
    found = statistics(xr.DataArray(data, {schema.WAVELENGTH: cube[schema.WAVELENGTH]}, dims))
    return Statistics(found.pixels, found.mean, found.covariance / 2)


def _shorter(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The chunk sizes of one element less."""
    return (*sizes[:-1], sizes[-1] - 1) if sizes[-1] > 1 else sizes[:-1]


def _check_n(n: int | None, cube: xr.DataArray) -> int:
    bands = cube.sizes[schema.WAVELENGTH]
    if n is not None and not 1 <= n <= bands:
        raise HsiError(f"{n} components of {bands} bands; expected 1 to {bands}")
    return bands if n is None else n


def _eigen(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, falling and none below 0, and eigenvectors (L, L) in columns."""
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def _roots(matrix: Floats, cube: xr.DataArray, what: str) -> tuple[Floats, Floats]:
    """The symmetric square root of a covariance, and its inverse."""
    values, vectors = np.linalg.eigh(matrix)
    if not values[0] > SINGULAR * values[-1]:
        raise HsiError(
            f"the {what} of {len(values)} bands has no inverse (too few pixels, or bands that follow from others or "
            "never change); drop bands, as with clean(every=2), or give more pixels"
        )
    root = np.sqrt(values)
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def _signs(rows: Floats) -> Floats:
    """Per row, in a column: the sign of what is largest in size."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    return np.where(largest < 0, -1.0, 1.0)


def _signed(rows: Floats) -> Floats:
    return rows * _signs(rows)


def _labelled(
    name: str, long_name: str, cube: xr.DataArray, found: Statistics, rows: Floats, basis: Floats, values: Floats
) -> Transform:
    bands = {schema.WAVELENGTH: cube[schema.WAVELENGTH]}
    number = {COMPONENT: (COMPONENT, np.arange(1, len(rows) + 1), {"long_name": "component"})}
    dims = (COMPONENT, schema.WAVELENGTH)
    attrs = {"long_name": long_name}
    return Transform(
        components=xr.DataArray(np.ascontiguousarray(rows), {**number, **bands}, dims, "components", attrs),
        mean=xr.DataArray(found.mean, bands, (schema.WAVELENGTH,), "mean", schema.PRODUCT_ATTRS[schema.REFLECTANCE]),
        eigenvalues=xr.DataArray(values, number, (COMPONENT,), "eigenvalues", {"long_name": "eigenvalue"}),
        basis=xr.DataArray(np.ascontiguousarray(basis), {**number, **bands}, dims, "basis", attrs),
        name=name,
    )


def _check_bands(cube: xr.DataArray, fitted: xr.DataArray) -> None:
    ours, theirs = cube[schema.WAVELENGTH].values, fitted[schema.WAVELENGTH].values
    if not same_bands(ours, theirs):
        raise HsiError(
            f"the cube has {len(ours)} bands ({ours[0]:g} to {ours[-1]:g} nm), the transform {len(theirs)} "
            f"({theirs[0]:g} to {theirs[-1]:g} nm); bring both to the same bands"
        )


def _rotate(x: Floats, matrix: Floats, after: Floats) -> Floats:
    """matrix (m, L) times scores (n, L), plus `after`: (n, m)."""
    out = np.zeros((len(matrix), len(x)))
    out += after[:, None]
    float_sums.add_products(matrix, np.ascontiguousarray(x.T), out)
    return out.T
