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
from hsichunk.unmixing import counts_or_floats
from hsichunk.unmixing.dask_graph import from_blocks, from_chunks, rectangle
from hsichunk.unmixing.solver import MOST_BANDS, ORDER, Solver, check_unmixable, fits, prepare

SolverName = Literal["fcls", "nnls", "ucls"]
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
    """Unmixes and scores every pixel of a cube in one pass: each stored chunk is decoded once for all products.

    `cube` (y, x, wavelength) reflectance, `endmembers` (endmember, wavelength) on the same wavelengths. The keywords
    are those of the command line.

    `solver` binds the abundances, which come with their rmse (in reflectance): "fcls" (at least 0, summing to one),
    "nnls" (at least 0), "ucls" (nothing), or None for no abundances. `metric` names the scores, one name or several,
    () for none: any of `hsichunk.metrics.METRICS`, which has the unit of each, among them

        "sam"        spectral angle, rad
        "sid"        spectral information divergence, nats; reflectance below 1e-4 is read as 1e-4
        "sid_sam"    SID times the tangent of the angle, nats; infinite from a right angle on
        "ncc"        Pearson's correlation over bands, -1 to 1; 0 where a spectrum is the same in every band
        "chebyshev"  largest difference in any band, in reflectance
        "sca"        spectral correlation angle, arccos((r + 1) / 2), rad

    "-" in a name is read as "_". `certificate` adds "kkt": by how much the abundances violate the conditions of an
    optimum, relative.

    `scaling="minmax"` first scales cube and endmembers to 0..1, each by its own range, as PySpTools' class maps do: one
    more pass over the cube, and SID then adds PySpTools' 2.2e-16 to the shares in place of the floor (of what `clean`
    gave, the chunks under the darkest pixels are decoded once more for it).

    Returns a Dataset of float32: abundance and scores (endmember, y, x), rmse, kkt (y, x); a pixel with no-data in any
    band is NaN in all of them. Lazy for a dask cube, computed for a NumPy one. Raises HsiError for unknown names, for
    wavelengths that differ and, where there are abundances, for endmembers that are equal or mixtures of each other.
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
    """What `unmix` gives, by the names of the products: with "ncc_distance", too. In the order of `solver.ORDER`.

    A plain selection of stored counts goes from stored chunks to products in one pass. Any other cube is worked on
    whole spectra, those products by kernels of their own that have one for floats.
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
    cube: xr.DataArray, spectra: NDArray[np.float64], names: tuple[str, ...], wanted: tuple[str, ...], constraint: str
) -> dict[str, Any]:
    """Products of a cube that is still to be scaled, by endmembers that are."""
    from hsichunk.cube.scaling import minmax
    from hsichunk.unmixing.scaled_counts import Scaled

    source = rectangle(cube)
    if source is None or source[0].stored.dtype.kind not in "iu" or len(source[0].bands) > MOST_BANDS:
        return _arrays(minmax(cube), spectra, names, wanted, constraint, GUARD)
    loose = prepare(spectra, names, wanted, schema.NEON_SCALE, exact=False, guard=GUARD, constraint=constraint)
    return from_chunks(*source, Scaled(spectra, loose))


def _arrays(
    cube: xr.DataArray,
    spectra: NDArray[np.float64],
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    constraint: str,
    guard: float,
) -> dict[str, Any]:
    """Products of a cube as it is; `guard` as in `solver.prepare`."""
    source = rectangle(cube)
    taken = source is not None and np.can_cast(source[0].stored.dtype, np.int16) and fits(spectra, source[0].scale)
    apart = [] if taken else counts_or_floats.with_own_kernel(wanted, constraint)
    together = tuple(name for name in wanted if not any(name in group for group in apart))
    arrays: dict[str, Any] = {}
    if together and source is not None:
        solver = prepare(spectra, names, together, source[0].scale, exact=True, constraint=constraint)
        arrays = from_chunks(*source, solver)
    elif together:
        arrays = _from_values(cube, _solvers(cube, spectra, names, together, guard))
    for group in apart:
        arrays |= counts_or_floats.products(cube, spectra, names, group, constraint)
    return {name: arrays[name] for name in wanted}


def _abundances(solver: Any, certificate: bool) -> tuple[str, ...]:
    """The products of the abundances that are asked for."""
    if solver is None:
        if certificate:
            raise HsiError("certificate is of abundances, and solver is None; give a solver, or certificate=False")
        return ()
    if not isinstance(solver, str) or solver not in schema.CONSTRAINTS:
        raise HsiError(f"solver is {solver!r}; expected {', '.join(schema.CONSTRAINTS)} or None")
    return (schema.ABUNDANCE, schema.RMSE, *([schema.KKT] if certificate else []))


def _metrics(metric: Any) -> tuple[str, ...]:
    """Names of metrics as given, "-" read as "_"."""
    given = [metric] if isinstance(metric, str) or not isinstance(metric, Iterable) else list(metric)
    named = [name.strip().lower().replace("-", "_") if isinstance(name, str) else name for name in given]
    unknown = [one for one, name in zip(given, named, strict=True) if name not in schema.METRICS]
    if unknown:
        raise HsiError(f"metric is {unknown[0]!r}; expected some of {', '.join(schema.METRICS)}, or () for none")
    return tuple(named)


def fcls(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.Dataset:
    """Fully constrained least squares: `unmix` asked for abundance (endmember, y, x) and rmse (y, x), float32."""
    return unmix(cube, endmembers, metric=())


def sam(cube: xr.DataArray, endmembers: xr.DataArray, *, scaling: Literal["minmax"] | None = None) -> xr.DataArray:
    """Spectral angle to each endmember (endmember, y, x) in radians: `unmix` asked for it alone."""
    return unmix(cube, endmembers, solver=None, metric=schema.SAM, scaling=scaling)[schema.SAM]


def sid(cube: xr.DataArray, endmembers: xr.DataArray, *, scaling: Literal["minmax"] | None = None) -> xr.DataArray:
    """Spectral information divergence from each endmember (endmember, y, x) in nats: `unmix` asked for it alone."""
    return unmix(cube, endmembers, solver=None, metric=schema.SID, scaling=scaling)[schema.SID]


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


def label(arrays: dict[str, Any], cube: xr.DataArray, names: tuple[str, ...], constraint: str) -> xr.Dataset:
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
