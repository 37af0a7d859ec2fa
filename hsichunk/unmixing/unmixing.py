"""Unmixing and scoring, labelled and lazy: the pass of `hsichunk.unmixing.stored_pass` behind xarray.

A cube that is a plain window of stored counts goes the direct way: one task a block, from stored bytes to products. Any
other cube, NumPy or dask, is worked block by block on whole spectra; where its values still are counts over a scale it
gives the same bits, else float64 results within 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.cube.blockwise import whole_spectra
from hsichunk.cube.checks import check_cube, check_endmembers
from hsichunk.errors import HsiError
from hsichunk.readers import provenance
from hsichunk.threads import asked_for
from hsichunk.unmixing.dask_graph import from_blocks, from_chunks, rectangle
from hsichunk.unmixing.solver import LARGEST_COUNT, MOST_BANDS, Solver, prepare

GUARD = 2.2204460492503131e-16  # what PySpTools adds to the shares of a spectrum


def unmix(
    cube: xr.DataArray,
    endmembers: xr.DataArray,
    products: Iterable[str] = schema.PRODUCTS,
    *,
    scaling: Literal["minmax"] | None = None,
) -> xr.Dataset:
    """Unmixes and scores every pixel of a cube in one pass: each stored chunk is decoded once for all products.

    `cube` (y, x, wavelength) reflectance, `endmembers` (endmember, wavelength) on the same wavelengths. `products` are
    some of "abundance" (fully constrained least squares: at least 0, summing to one), "rmse" (of the abundances, in
    reflectance), "sam" (spectral angle, rad), "sid" (spectral information divergence, nats; reflectance below 1e-4 is
    read as 1e-4) and "kkt" (violation of the optimality conditions by the abundances, relative).

    `scaling="minmax"` first scales cube and endmembers to 0..1, each by its own range, as PySpTools' class maps do: one
    more pass over the cube, and SID then adds PySpTools' 2.2e-16 to the shares in place of the floor (of what `clean`
    gave, the chunks under the darkest pixels are decoded once more for it).

    Returns a Dataset of float32: abundance, sam, sid (endmember, y, x), rmse, kkt (y, x); a pixel with no-data in any
    band is NaN in all of them. Lazy for a dask cube, computed for a NumPy one. Raises HsiError for wavelengths that
    differ and for endmembers that are equal or mixtures of each other.
    Sources: Heinz & Chang 2001 (FCLS), Kruse et al. 1993 (SAM), Chang 2000 (SID).
    """
    cube = check_cube(cube)
    wanted = _check_products(products)
    if scaling is not None:
        return _unmix_scaled(cube, endmembers, wanted, scaling)
    return in_one_pass(cube, endmembers, wanted)


def in_one_pass(
    cube: xr.DataArray, endmembers: xr.DataArray, wanted: tuple[str, ...], constraint: str = schema.FCLS
) -> xr.Dataset:
    """What `unmix` gives, of any products and constraint that the pass makes: Chebyshev's distance, too.

    Of floats FCLS alone: `hsichunk.unmixing.counts_or_floats` is for the others.
    """
    spectra, names = check_endmembers(endmembers, cube)
    source = rectangle(cube)
    if source is not None:
        arrays = from_chunks(
            *source, prepare(spectra, names, wanted, source[0].scale, exact=True, constraint=constraint)
        )
    else:
        arrays = _from_values(cube, _solvers(cube, spectra, names, wanted, 0.0))
    return label(arrays, cube, names)


def takes(cube: xr.DataArray, spectra: NDArray[np.float64]) -> bool:
    """Whether the pass gives sums of a cube right from its stored chunks, whatever counts these hold."""
    source = rectangle(cube)
    return source is not None and np.can_cast(source[0].stored.dtype, np.int16) and fits(spectra, source[0].scale)


def fits(spectra: NDArray[np.float64], scale: float) -> bool:
    """Whether endmembers (p, L) have exact sums with counts of `scale` a unit."""
    return spectra.shape[1] <= MOST_BANDS and bool((np.abs(spectra) * scale <= LARGEST_COUNT).all())


def fcls(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.Dataset:
    """Fully constrained least squares: `unmix` asked for abundance (endmember, y, x) and rmse (y, x), float32."""
    return unmix(cube, endmembers, (schema.ABUNDANCE, schema.RMSE))


def sam(cube: xr.DataArray, endmembers: xr.DataArray, *, scaling: Literal["minmax"] | None = None) -> xr.DataArray:
    """Spectral angle to each endmember (endmember, y, x) in radians: `unmix` asked for it alone."""
    return unmix(cube, endmembers, (schema.SAM,), scaling=scaling)[schema.SAM]


def sid(cube: xr.DataArray, endmembers: xr.DataArray, *, scaling: Literal["minmax"] | None = None) -> xr.DataArray:
    """Spectral information divergence from each endmember (endmember, y, x) in nats: `unmix` asked for it alone."""
    return unmix(cube, endmembers, (schema.SID,), scaling=scaling)[schema.SID]


def _unmix_scaled(cube: xr.DataArray, endmembers: xr.DataArray, wanted: tuple[str, ...], scaling: str) -> xr.Dataset:
    from hsichunk.cube.scaling import minmax
    from hsichunk.unmixing.scaled_counts import Scaled

    if scaling != "minmax":
        raise HsiError(f'scaling is {scaling!r}; expected "minmax" or None')
    spectra, names = check_endmembers(minmax(endmembers), cube)
    source = rectangle(cube)
    if source is None or source[0].stored.dtype.kind not in "iu" or len(source[0].bands) > MOST_BANDS:
        scaled = minmax(cube)
        return label(_from_values(scaled, _solvers(scaled, spectra, names, wanted, GUARD)), cube, names)
    loose = prepare(spectra, names, wanted, schema.NEON_SCALE, exact=False, guard=GUARD)
    return label(from_chunks(*source, Scaled(spectra, loose)), cube, names)


def _check_products(products: Iterable[str]) -> tuple[str, ...]:
    wanted = (products,) if isinstance(products, str) else tuple(products)
    unknown = set(wanted) - set(schema.ALL_PRODUCTS)
    if unknown or not wanted:
        raise HsiError(
            f"products {', '.join(map(str, wanted)) or '(none)'}; expected some of {', '.join(schema.ALL_PRODUCTS)}"
        )
    return wanted


def _solvers(
    cube: xr.DataArray, spectra: NDArray[np.float64], names: tuple[str, ...], wanted: tuple[str, ...], guard: float
) -> tuple[Solver | None, Solver]:
    """The solver for values that are counts over a scale, where the cube says so, and the one for any floats."""
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    loose = prepare(spectra, names, wanted, float(scale or schema.NEON_SCALE), exact=False, guard=guard)
    if scale is None or loose.bands > MOST_BANDS:
        return None, loose
    return prepare(spectra, names, wanted, float(scale), exact=True), loose


def _from_values(cube: xr.DataArray, solvers: tuple[Solver | None, Solver]) -> dict[str, Any]:
    from hsichunk.unmixing.values_pass import solve_spectra

    data = whole_spectra(cube, "unmix a plain selection of what clean() gives to avoid that")
    if hasattr(data, "dask"):
        return from_blocks(data, solvers)
    return dict(solve_spectra(np.asarray(data), solvers, asked_for()))


def label(arrays: dict[str, Any], cube: xr.DataArray, names: tuple[str, ...]) -> xr.Dataset:
    spatial = {
        name: coord
        for name, coord in cube.coords.items()
        if set(coord.dims) <= {schema.Y, schema.X} and name != schema.ENDMEMBER
    }
    variables = {}
    for name, array in arrays.items():
        dims = (schema.ENDMEMBER, schema.Y, schema.X) if name in schema.PER_ENDMEMBER else (schema.Y, schema.X)
        variables[name] = xr.Variable(dims, array, schema.PRODUCT_ATTRS[name])
        if schema.GRID_MAPPING in spatial:
            variables[name].encoding["grid_mapping"] = schema.GRID_MAPPING
    coords = {schema.ENDMEMBER: (schema.ENDMEMBER, list(names), {"long_name": "endmember"})}
    return xr.Dataset(variables, {**spatial, **coords}, provenance.carried(cube.attrs, provenance.MADE))
