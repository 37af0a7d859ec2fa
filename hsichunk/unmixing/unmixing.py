"""Unmix and score labelled cubes, lazily: the pass of `hsichunk.unmixing.stored_pass` behind xarray.

For a cube that is a plain window of stored counts one task a block goes straight from stored bytes to products. Any
other cube, NumPy or dask, is worked on block by block with whole spectra; where its values are still counts over a
scale the products have the same bits, else they are float64 results within 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Floats, is_lazy
from hsichunk.cube.blockwise import whole_spectra
from hsichunk.cube.checks import check_cube, check_endmembers
from hsichunk.errors import HsiError
from hsichunk.readers import provenance
from hsichunk.threads import asked_for
from hsichunk.unmixing import counts_or_floats
from hsichunk.unmixing.dask_graph import from_blocks, from_chunks, rectangle
from hsichunk.unmixing.product_rows import ProductArray, ProductArrays
from hsichunk.unmixing.solver import MOST_BANDS, ORDER, Solvers, check_unmixable, fits, prepare

SolverName: TypeAlias = Literal["fcls", "nnls", "ucls"]
GUARD = 2.2204460492503131e-16  # what PySpTools adds to the shares of a spectrum


def unmix(
    cube: xr.DataArray,
    endmembers: xr.DataArray,
    *,
    solver: SolverName | None = "fcls",
    metric: str | Iterable[str] = (schema.SAM, schema.SID),
    scaling: Literal["minmax"] | None = None,
    certificate: bool = False,
) -> xr.Dataset:
    """Unmix and score every pixel of a cube in one pass: each stored chunk is decoded once for all products.

    `cube` (y, x, wavelength) reflectance, `endmembers` (endmember, wavelength) on the same wavelengths. The keywords
    are those of the command line.

    `solver` sets the constraint on the abundances, which come with their rmse (in reflectance): "fcls" (at least 0,
    summing to one), "nnls" (at least 0), "ucls" (no constraint), or None for no abundances. `metric` names the scores,
    one name or several, () for none: any of `hsichunk.metrics.METRICS`, which has the unit of each, among them

        "sam"        spectral angle, rad
        "sid"        spectral information divergence, nats; reflectance below 1e-4 is read as 1e-4
        "sid_sam"    SID times the tangent of the angle, nats; infinite from a right angle on
        "ncc"        Pearson's correlation over bands, -1 to 1; 0 where a spectrum is the same in every band
        "chebyshev"  largest difference in any band, in reflectance
        "sca"        spectral correlation angle, arccos((r + 1) / 2), rad

    "-" in a name is read as "_". `certificate` adds "kkt", the relative violation of the optimality conditions by the
    abundances.

    `scaling="minmax"` first scales cube and endmembers to 0..1, each by its own range, as PySpTools' class maps do.
    That takes one more pass over the cube, and SID then adds PySpTools' 2.2e-16 to the shares in place of the floor;
    for a cube from `clean`, the chunks under the darkest pixels are decoded once more for it.

    Returns a Dataset of float32: abundance and scores (endmember, y, x), rmse, kkt (y, x); a pixel with no-data in any
    band is NaN in all of them. The result is lazy for a dask cube and computed for a NumPy one. Raises HsiError for
    unknown names, for wavelengths that differ and, where there are abundances, for endmembers that are equal or
    mixtures of each other.
    Sources: Heinz & Chang 2001 (FCLS), Lawson & Hanson 1974 (NNLS), Kruse et al. 1993 (SAM), Chang 2000 (SID), Du et
    al. 2004 (SID-SAM).
    """
    wanted = (*_abundances(solver, certificate), *_metrics(metric))
    if not wanted:
        raise HsiError("solver is None and metric is empty, which leaves nothing to compute; give one of them")
    return solve(cube, endmembers, wanted, solver or schema.FCLS, scaling)


def solve(
    cube: xr.DataArray,
    endmembers: xr.DataArray,
    wanted: tuple[str, ...],
    constraint: str = schema.FCLS,
    scaling: str | None = None,
) -> xr.Dataset:
    """Return products of a cube as `unmix` does, but by their names, which may include "ncc_distance".

    They come in the order of `solver.ORDER`. A plain selection of stored counts takes one pass from stored chunks to
    products. Any other cube is worked on with whole spectra, by kernels for floats where a product has its own.
    """
    cube = check_cube(cube)
    if scaling is not None:
        from hsichunk.cube.scaling import minmax

        if scaling != "minmax":
            raise HsiError(f'scaling is {scaling!r}; expected "minmax" or None')
        endmembers = minmax(endmembers)
    spectra, names = check_endmembers(endmembers, cube)
    if constraint != schema.FCLS:
        check_unmixable(spectra, names, sum_to_one=False)
    wanted = tuple(name for name in ORDER if name in wanted)
    if scaling is None:
        arrays = _arrays(cube, spectra, names, wanted, constraint, 0.0)
    else:
        arrays = _scaled_arrays(cube, spectra, names, wanted, constraint)
    return label(arrays, cube, names, constraint)


def _scaled_arrays(
    cube: xr.DataArray, spectra: Floats, names: tuple[str, ...], wanted: tuple[str, ...], constraint: str
) -> ProductArrays:
    """Return the products of a cube that is still to be scaled, for endmembers (k, L) that are scaled already."""
    from hsichunk.cube.scaling import minmax
    from hsichunk.unmixing.scaled_counts import Scaled

    source = rectangle(cube)
    if source is None or source[0].stored.dtype.kind not in "iu" or len(source[0].bands) > MOST_BANDS:
        return _arrays(minmax(cube), spectra, names, wanted, constraint, GUARD)
    solver = prepare(spectra, names, wanted, schema.NEON_SCALE, exact=False, guard=GUARD, constraint=constraint)
    return from_chunks(*source, Scaled(spectra, solver))


def _arrays(
    cube: xr.DataArray,
    spectra: Floats,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    constraint: str,
    guard: float,
) -> ProductArrays:
    """Return the products of a cube as it is; `guard` is that of `solver.prepare`."""
    source = rectangle(cube)
    are_counts = source is not None and np.can_cast(source[0].stored.dtype, np.int16) and fits(spectra, source[0].scale)
    groups = [] if are_counts else counts_or_floats.with_own_kernel(wanted, constraint)
    in_pass = tuple(name for name in wanted if not any(name in group for group in groups))
    arrays: dict[str, ProductArray] = {}
    if in_pass and source is not None:
        solver = prepare(spectra, names, in_pass, source[0].scale, exact=True, constraint=constraint)
        arrays.update(from_chunks(*source, solver))
    elif in_pass:
        arrays.update(_from_values(cube, _solvers(cube, spectra, names, in_pass, guard)))
    for group in groups:
        arrays.update(counts_or_floats.products(cube, spectra, names, group, constraint))
    return {name: arrays[name] for name in wanted}


def _abundances(solver: str | None, certificate: bool) -> tuple[str, ...]:
    """Return the names of the products that a solver computes. Raises HsiError for an unknown solver."""
    if solver is None:
        if certificate:
            raise HsiError("certificate is of abundances, and solver is None; give a solver, or certificate=False")
        return ()
    if not isinstance(solver, str) or solver not in schema.CONSTRAINTS:
        raise HsiError(f"solver is {solver!r}; expected {', '.join(schema.CONSTRAINTS)} or None")
    return (schema.ABUNDANCE, schema.RMSE, *([schema.KKT] if certificate else []))


def _metrics(metric: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of metrics, "-" read as "_". Raises HsiError for unknown ones."""
    asked = [metric] if isinstance(metric, str) or not isinstance(metric, Iterable) else list(metric)
    names = [name.strip().lower().replace("-", "_") if isinstance(name, str) else name for name in asked]
    unknown = [word for word, name in zip(asked, names, strict=True) if name not in schema.METRICS]
    if unknown:
        raise HsiError(f"metric is {unknown[0]!r}; expected some of {', '.join(schema.METRICS)}, or () for none")
    return tuple(names)


def fcls(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.Dataset:
    """Return abundance (endmember, y, x) and rmse (y, x), float32, by fully constrained least squares.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance. Same as `unmix(..., metric=())`.
    """
    return unmix(cube, endmembers, metric=())


def sam(cube: xr.DataArray, endmembers: xr.DataArray, *, scaling: Literal["minmax"] | None = None) -> xr.DataArray:
    """Return the spectral angle to each endmember (endmember, y, x), float32 radians.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance. Same as `unmix` with this metric alone.
    """
    return unmix(cube, endmembers, solver=None, metric=schema.SAM, scaling=scaling)[schema.SAM]


def sid(cube: xr.DataArray, endmembers: xr.DataArray, *, scaling: Literal["minmax"] | None = None) -> xr.DataArray:
    """Return the spectral information divergence from each endmember (endmember, y, x), float32 nats.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance. Same as `unmix` with this metric alone.
    """
    return unmix(cube, endmembers, solver=None, metric=schema.SID, scaling=scaling)[schema.SID]


def _solvers(
    cube: xr.DataArray, spectra: Floats, names: tuple[str, ...], wanted: tuple[str, ...], guard: float
) -> Solvers:
    """Return the solvers of a cube in memory; none for counts where the cube names no scale or has too many bands."""
    scale = cube.attrs.get(schema.COUNTS_PER_UNIT)
    floats = prepare(spectra, names, wanted, float(scale or schema.NEON_SCALE), exact=False, guard=guard)
    if scale is None or floats.bands > MOST_BANDS:
        return Solvers(None, floats)
    return Solvers(prepare(spectra, names, wanted, float(scale), exact=True), floats)


def _from_values(cube: xr.DataArray, solvers: Solvers) -> ProductArrays:
    """Return the products of a cube that is no plain selection of stored counts; lazy on dask."""
    from hsichunk.unmixing.values_pass import solve_spectra

    data = whole_spectra(cube, "unmix a plain selection of what clean() gives to avoid that")
    if is_lazy(data):
        return from_blocks(data, solvers)
    return solve_spectra(np.asarray(data), solvers, asked_for())


def label(arrays: ProductArrays, cube: xr.DataArray, names: tuple[str, ...], constraint: str) -> xr.Dataset:
    """Return products as a Dataset with the coordinates of the pixels of a cube and the names of the endmembers."""
    spatial = {
        name: coord
        for name, coord in cube.coords.items()
        if set(coord.dims) <= {schema.Y, schema.X} and name != schema.ENDMEMBER
    }
    variables = {}
    for name, array in arrays.items():
        dims = (schema.ENDMEMBER, schema.Y, schema.X) if name in schema.PER_ENDMEMBER else (schema.Y, schema.X)
        attrs = schema.abundance_attrs(constraint) if name == schema.ABUNDANCE else schema.PRODUCT_ATTRS[name]
        variables[name] = xr.Variable(dims, array, attrs)
        if schema.GRID_MAPPING in spatial:
            variables[name].encoding["grid_mapping"] = schema.GRID_MAPPING
    coords = {schema.ENDMEMBER: (schema.ENDMEMBER, list(names), {"long_name": "endmember"})}
    return xr.Dataset(variables, {**spatial, **coords}, provenance.carried(cube.attrs, provenance.MADE))
