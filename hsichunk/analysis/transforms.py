"""Linear transforms of spectra: principal components, minimum noise fraction, whitening, and their inverses.

A fit streams over the cube; transforms and inverses are applied block by block.
"""

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
    """(component, wavelength) float64: a spectrum less the mean is multiplied by it"""
    mean: xr.DataArray
    """(wavelength) float64, reflectance"""
    eigenvalues: xr.DataArray
    """(component) float64, falling: the variance of each score, or, for whitening, of each principal axis"""
    basis: xr.DataArray
    """(component, wavelength) float64: the spectrum that a score of one stands for"""
    name: str
    """name of the scores: "pca", "mnf" or "whitened" """

    def transform(self, cube: xr.DataArray) -> xr.DataArray:
        """Return the scores of a cube on the same bands: float32 (component, y, x), NaN at no-data, lazy on dask.

        Raises HsiError for a cube on other bands.
        """
        cube = check_cube(cube)
        _check_bands(cube, self.components)
        coords = {COMPONENT: self.components[COMPONENT]}
        attrs = {"units": "1", "long_name": f"{self.components.attrs['long_name']} scores"}
        scores = weighted(cube, self.components.values, self.mean.values)
        return labelled(scores, cube, (COMPONENT, schema.Y, schema.X), self.name, attrs, coords)

    def inverse(self, scores: xr.DataArray) -> xr.DataArray:
        """Return the reflectance (y, x, wavelength) float32 of scores (component, y, x).

        The scores of all components give back the cube that was transformed. Those of fewer, chosen with
        `scores.sel(component=...)`, give it without the other components: with an MNF, that is denoising. Raises
        HsiError for what are no scores, and for components that were not fitted.
        """
        if not isinstance(scores, xr.DataArray) or set(scores.dims) != {COMPONENT, schema.Y, schema.X}:
            actual = scores.dims if isinstance(scores, xr.DataArray) else type(scores).__name__
            raise HsiError(f"the scores have {actual}; expected a DataArray (component, y, x), as transform gives it")
        known = self.basis.get_index(COMPONENT)
        chosen = known.get_indexer(scores.get_index(COMPONENT))
        if (chosen < 0).any():
            unknown = scores.get_index(COMPONENT)[int(chosen.argmin())]
            raise HsiError(f"the scores hold component {unknown}, of {len(known)} that were fitted")
        scores = scores.transpose(schema.Y, schema.X, COMPONENT)
        if scores.chunks is not None:
            scores = scores.chunk({COMPONENT: -1})
        matrix = np.ascontiguousarray(self.basis.values[chosen].T)
        kernel = partial(_from_scores, matrix=matrix, mean=self.mean.values)
        reflectance = on_pixels(scores, kernel, len(matrix), last=True)
        coords = {schema.WAVELENGTH: self.mean[schema.WAVELENGTH]}
        attrs = schema.PRODUCT_ATTRS[schema.REFLECTANCE]
        dims = (schema.Y, schema.X, schema.WAVELENGTH)
        return labelled(reflectance, scores, dims, schema.REFLECTANCE, attrs, coords)


def pca(cube: xr.DataArray, n: int | None = None) -> Transform:
    """The first `n` principal components (all without `n`), by falling variance. Computes: reads the cube once.

    cube (y, x, wavelength); pixels with no-data in any band are left out. Components are orthonormal; the loading of
    each that is largest in size is positive. Bands are not scaled. Raises HsiError for n beyond the bands.
    """
    cube = check_cube(cube)
    n = _check_n(n, cube)
    moments = statistics(cube)
    values, vectors = _eigen(moments.covariance)
    axes = vectors[:, :n].T
    components = axes * _signs(axes)
    return _transform("pca", "principal component", cube, moments, components, components, values[:n])


def mnf(cube: xr.DataArray, n: int | None = None, *, noise_covariance: Floats | None = None) -> Transform:
    """The first `n` minimum noise fraction components (all without `n`), by falling signal-to-noise.

    cube (y, x, wavelength); pixels with no-data in any band are left out. The noise covariance (L, L) is that of
    `hsichunk.analysis.transforms.noise(cube)` unless given. The noise of the scores has variance 1 and is not
    correlated; their variances (`eigenvalues`) are signal over noise + 1. Computes: reads the cube twice, or once with
    `noise_covariance`. Raises HsiError where the noise covariance has no inverse, as where bands hold no noise.
    Sources: Green et al. 1988; Lee, Woodyatt & Berman 1990 (noise-adjusted principal components).
    """
    cube = check_cube(cube)
    n = _check_n(n, cube)
    moments = statistics(cube)
    covariance = noise(cube).covariance if noise_covariance is None else np.asarray(noise_covariance, np.float64)
    if covariance.shape != moments.covariance.shape:
        raise HsiError(f"the noise covariance has shape {covariance.shape}; expected {moments.covariance.shape}")
    root, inverse = _roots(covariance, "noise covariance")
    adjusted = inverse @ moments.covariance @ inverse
    values, vectors = _eigen((adjusted + adjusted.T) / 2)
    components = vectors[:, :n].T @ inverse
    sign = _signs(components)
    basis = vectors[:, :n].T @ root
    return _transform("mnf", "minimum noise fraction", cube, moments, components * sign, basis * sign, values[:n])


def whiten(cube: xr.DataArray) -> Transform:
    """The symmetric whitening: scores, one a band, of covariance I, nearest to the centred spectra in shape.

    cube (y, x, wavelength); pixels with no-data in any band are left out. Computes: reads the cube once. `eigenvalues`
    are the variances along principal axes. Raises HsiError where the covariance has no inverse. Source: Krizhevsky
    2009, appendix A (ZCA), which PySpTools means to follow.
    """
    cube = check_cube(cube)
    moments = statistics(cube)
    root, inverse = _roots(moments.covariance, "covariance")
    values, _ = _eigen(moments.covariance)
    return _transform("whitened", "whitened", cube, moments, inverse, root, values)


def noise(cube: xr.DataArray) -> Statistics:
    """Mean and covariance of the noise, from half the differences of diagonal neighbours. Computes: reads it once.

    What changes slowly over the image cancels; edges in the scene count as noise. Both pixels of a difference need data
    in every band. Any chunks give the same bits. Raises HsiError for fewer than two rows or columns. Source: the shift
    difference of Green et al. 1988.
    """
    cube = check_cube(cube)
    if min(cube.sizes[schema.Y], cube.sizes[schema.X]) < 2:
        raise HsiError(f"the cube has {dict(cube.sizes)}; expected at least two rows and two columns, for differences")
    values = cube.variable.astype(np.float64)
    data = values.data[:-1, :-1] - values.data[1:, 1:]
    if hasattr(data, "dask"):  # chunks shifted by one pixel leave slivers, which this joins again
        data = data.rechunk((_shorter(cube.data.chunks[0]), _shorter(cube.data.chunks[1]), cube.data.chunks[2]))
    dims = (schema.Y, schema.X, schema.WAVELENGTH)
    moments = statistics(xr.DataArray(data, {schema.WAVELENGTH: cube[schema.WAVELENGTH]}, dims))
    return Statistics(moments.pixels, moments.mean, moments.covariance / 2)


def _shorter(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the chunk sizes of a dimension that is one element shorter."""
    return (*sizes[:-1], sizes[-1] - 1) if sizes[-1] > 1 else sizes[:-1]


def _check_n(n: int | None, cube: xr.DataArray) -> int:
    """Return the number of components, all bands for None. Raises HsiError for a number beyond the bands."""
    bands = cube.sizes[schema.WAVELENGTH]
    if n is not None and not 1 <= n <= bands:
        raise HsiError(f"{n} components of {bands} bands; expected 1 to {bands}")
    return bands if n is None else n


def _eigen(matrix: Floats) -> tuple[Floats, Floats]:
    """Return the eigenvalues (L,), falling and none below 0, and the eigenvectors (L, L) in columns."""
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def _roots(matrix: Floats, name: str) -> tuple[Floats, Floats]:
    """Return the symmetric square root of a covariance (L, L), and its inverse.

    Raises HsiError, which calls the matrix by its `name`, where there is no inverse in float64.
    """
    values, vectors = np.linalg.eigh(matrix)
    if not values[0] > SINGULAR * values[-1]:
        raise HsiError(
            f"the {name} of {len(values)} bands has no inverse (too few pixels, or bands that follow from others or "
            "never change); drop bands, as with clean(every=2), or give more pixels"
        )
    root = np.sqrt(values)
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def _signs(rows: Floats) -> Floats:
    """Return the sign (rows, 1) of the element of each row that is largest in size."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    return np.where(largest < 0, -1.0, 1.0)


def _transform(
    name: str,
    long_name: str,
    cube: xr.DataArray,
    moments: Statistics,
    components: Floats,
    basis: Floats,
    values: Floats,
) -> Transform:
    """Return a Transform of plain arrays: components and basis (component, L), values (component,)."""
    bands = {schema.WAVELENGTH: cube[schema.WAVELENGTH]}
    number = {COMPONENT: (COMPONENT, np.arange(1, len(components) + 1), {"long_name": "component"})}
    dims = (COMPONENT, schema.WAVELENGTH)
    attrs = {"long_name": long_name}
    return Transform(
        components=xr.DataArray(np.ascontiguousarray(components), {**number, **bands}, dims, "components", attrs),
        mean=xr.DataArray(moments.mean, bands, (schema.WAVELENGTH,), "mean", schema.PRODUCT_ATTRS[schema.REFLECTANCE]),
        eigenvalues=xr.DataArray(values, number, (COMPONENT,), "eigenvalues", {"long_name": "eigenvalue"}),
        basis=xr.DataArray(np.ascontiguousarray(basis), {**number, **bands}, dims, "basis", attrs),
        name=name,
    )


def _check_bands(cube: xr.DataArray, components: xr.DataArray) -> None:
    """Raise HsiError where the bands of the cube are not those of the components."""
    cube_nm, fitted_nm = cube[schema.WAVELENGTH].values, components[schema.WAVELENGTH].values
    if not same_bands(cube_nm, fitted_nm):
        raise HsiError(
            f"the cube has {len(cube_nm)} bands ({cube_nm[0]:g} to {cube_nm[-1]:g} nm), the transform {len(fitted_nm)} "
            f"({fitted_nm[0]:g} to {fitted_nm[-1]:g} nm); bring both to the same bands"
        )


def _from_scores(scores: Floats, matrix: Floats, mean: Floats) -> Floats:
    """Return the spectra (n, L) of scores (n, m): matrix (L, m) times each, plus the mean (L,)."""
    spectra = np.zeros((len(matrix), len(scores)))
    spectra += mean[:, None]
    float_sums.add_products(matrix, np.ascontiguousarray(scores.T), spectra)
    return spectra.T
