"""Other searches for endmembers over every pixel of a cube: ATGP, PPI, fast iterative PPI, VCA; and bundles.

Each goes through the cube strip by strip (see `hsichunk.cube.spectra_reader`) and keeps what it needs of a pixel: a
residual, its place at the end of a skewer, or its scores in a subspace. Pixels with no-data in any band are never
candidates, ties go to the first pixel, and the answer does not depend on chunks, threads or cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hsichunk import schema
from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.cube.second_moments import drawn_pixels, stream
from hsichunk.cube.spectra_reader import SpectraReader
from hsichunk.cube.subspace import scores
from hsichunk.endmembers import nfindr_in_memory
from hsichunk.endmembers.extraction_in_memory import (
    DEPENDENT,
    SKEWERS,
    Ends,
    ends_of_ends,
    is_projective,
    most_votes,
    on_plane,
    signal_to_noise,
    skewers_of,
    targets,
    vertices,
)
from hsichunk.endmembers.nfindr import nfindr, of_pixels
from hsichunk.endmembers.nfindr_all_pixels import whole_image
from hsichunk.endmembers.nfindr_in_memory import check_k, first_largest
from hsichunk.endmembers.outliers import check_exclude, outlying
from hsichunk.errors import HsiError

SAMPLE = 20_000  # pixels that ATGP begins with
MOST_PASSES = 100
BUNDLE = "bundle"


@contextmanager
def _opened(cube: xr.DataArray, k: int, exclude: float | None) -> Iterator[tuple[SpectraReader, dict[str, Any]]]:
    """The spectra of a cube, outliers as without data, and the attributes that say so."""
    check_exclude(exclude)
    with SpectraReader(cube) as spectra:
        check_k(k, spectra.shape[2])
        if exclude is None:
            yield spectra, {}
            return
        every = whole_image(spectra, k - 1)
        left_out = outlying(every.values, every.valid, exclude, every.forget)
        del every
        spectra.leave_out(left_out)
        yield spectra, {"exclude": exclude, "excluded": int(left_out.sum())}


def atgp(cube: xr.DataArray, k: int, *, exclude: float | None = None) -> xr.DataArray:
    """Automatic target generation: the brightest pixel, then again and again the one farthest from the span of those.

    Computes: goes through the cube a few times, not k times. Candidates begin with a sample; each pass looks at every
    pixel for one that would have been taken at some step, and adds it to them, until there is none.

    `exclude` is the outlier guard of `nfindr`, here as in the other searches: two passes more, in k - 1 components.
    Returns endmembers as `nfindr` does, in the order found; attribute passes. Raises HsiError where the pixels hold
    fewer than k independent spectra. Source: Ren & Chang 2003.
    """
    with _opened(cube, k, exclude) as (spectra, guard):
        pool = drawn_pixels(spectra.cube, SAMPLE, 0)
        values, valid = spectra.take(pool)
        pool, values = pool[valid], values[valid]
        known = True
        passes = 0
        with threadpool_limits(1, user_api="blas"):
            while known and passes < MOST_PASSES:
                # where the sample has too few spectra, the first pass finds others
                found = targets(values, k)
                farthest = _farthest(spectra, _orthonormal(values[found]), k)
                passes += 1
                more = np.setdiff1d(farthest, pool)
                known = bool(len(more))
                if known:
                    pool, values = _merged(pool, values, more, spectra.take(more)[0])
        if len(found) < k:
            raise HsiError(f"the cube holds {len(found)} independent spectra; expected at least k = {k}")
        attrs = {"method": "ATGP", "passes": passes, "certified": int(not known), **guard}
        return of_pixels(spectra, pool[found], attrs)


def _orthonormal(spectra: Floats) -> Floats:
    """(L, m) axes: of each spectrum what those before it do not span."""
    return np.asarray(np.linalg.qr(spectra.T)[0])


def _farthest(spectra: SpectraReader, axes: Floats, k: int) -> Positions:
    """The pixel farthest from the span of the first 0, 1, ... of the axes, up to k - 1 of them."""
    steps = min(k, axes.shape[1] + 1)
    best, at = np.full(steps, -1.0), np.full(steps, -1)
    for strip in spectra:
        here = np.flatnonzero(strip.valid)
        if not len(here):
            continue
        values = strip.values[here]
        square = np.einsum("ij,ij->i", values, values)
        along = values @ axes
        for step in range(steps):
            length = square - np.einsum("ij,ij->i", along[:, :step], along[:, :step])
            first = first_largest(length)
            # the same tolerance as within a strip: what rounding tells apart is a tie, and the first pixel's
            if length[first] > max(best[step] * (1 + nfindr_in_memory.GAIN), DEPENDENT**2 * square.max()):
                best[step], at[step] = length[first], strip.start + here[first]
    return np.unique(at[at >= 0])


def _merged(pool: Positions, values: Floats, more: Positions, others: Floats) -> tuple[Positions, Floats]:
    both = np.concatenate([pool, more])
    order = np.argsort(both)
    return both[order], np.concatenate([values, others])[order]


def ppi(
    cube: xr.DataArray,
    k: int,
    *,
    skewers: int | Any = SKEWERS,
    seed: int = 0,
    pysptools: bool = False,
    exclude: float | None = None,
) -> xr.DataArray:
    """Pixel purity index: the k pixels with the most votes, those with most first. See `ppi_votes`.

    `exclude` is the outlier guard of `nfindr`.

    Returns endmembers as `nfindr` does, with votes (endmember). Raises HsiError where fewer than k pixels have votes.
    """
    with _opened(cube, k, exclude) as (spectra, guard):
        votes, _ = _votes(spectra, skewers, seed, pysptools)
        order = most_votes(votes, k)
        em = of_pixels(spectra, order, {"method": "PPI", "seed": seed, **guard})
    return em.assign_coords(votes=(schema.ENDMEMBER, votes[order], {"long_name": "pixel purity index"}))


def ppi_votes(
    cube: xr.DataArray, *, skewers: int | Any = SKEWERS, seed: int = 0, pysptools: bool = False
) -> xr.DataArray:
    """Votes of the pixel purity index (y, x) float32, NaN at no-data. Computes: goes through the cube once.

    `skewers` is how many directions are drawn, by `seed`, evenly over all; or the directions (skewers, wavelength). Of
    each one the pixels at both ends have a vote. With `pysptools` its rule: only the end that lies farther from the
    mean has one. Source: Boardman, Kruse & Green 1995.
    """
    with SpectraReader(cube) as spectra:
        votes, valid = _votes(spectra, skewers, seed, pysptools)
        values = np.where(valid, votes, np.nan).astype(np.float32).reshape(spectra.shape[:2])
        coords = {n: c for n, c in spectra.cube.coords.items() if set(c.dims) <= {schema.Y, schema.X}}
        attrs = {"units": "1", "long_name": "pixel purity index (votes)"}
        return xr.DataArray(values, coords, (schema.Y, schema.X), "ppi_votes", attrs)


def _votes(spectra: SpectraReader, skewers: int | Any, seed: int, pysptools: bool) -> tuple[NDArray[np.int64], Bools]:
    ends = Ends(skewers_of(skewers, seed, spectra.shape[2]))
    total, valid = np.zeros(spectra.shape[2]), np.empty(spectra.pixels, np.bool_)
    with threadpool_limits(1, user_api="blas"):
        for strip in spectra:
            valid[strip.start : strip.start + len(strip.valid)] = strip.valid
            here = np.flatnonzero(strip.valid)
            if not len(here):
                continue
            values = strip.values[here]
            total += values.sum(0)
            ends.add(values, strip.start + here)
    if not valid.any():
        raise HsiError(f"0 valid pixels of {spectra.pixels}; nothing to vote for")
    if not pysptools:
        return np.bincount(ends.at.ravel(), minlength=spectra.pixels), valid
    middle = ends.lines @ (total / valid.sum())
    low, high = ends.reach[0] + middle, ends.reach[1] - middle
    farther = np.where((high > low) | ((high == low) & (ends.at[1] < ends.at[0])), ends.at[1], ends.at[0])
    return np.bincount(farther, minlength=spectra.pixels), valid


def fippi(cube: xr.DataArray, k: int, *, maxit: int | None = None, exclude: float | None = None) -> xr.DataArray:
    """Fast iterative pixel purity index: no random skewers, and it ends by itself.

    In the first k principal components, skewers begin as the k targets of ATGP; the pixels at both ends of each become
    skewers too, until no new ones come (or `maxit` times). `exclude` is the outlier guard of `nfindr`. Computes: goes
    through the cube twice.

    Returns endmembers as `nfindr` does, in the order of their pixels: seldom k of them. Source: Chang & Plaza 2006.
    """
    with _opened(cube, k, exclude) as (spectra, guard):
        moments = stream(spectra)
        every = scores(spectra, moments.axes(k), moments.mean)
        with threadpool_limits(1, user_api="blas"):
            points = every.values[every.valid]
            where = np.flatnonzero(every.valid)
            ends, rounds = ends_of_ends(points, k, maxit)
        return of_pixels(spectra, where[ends], {"method": "FIPPI", "rounds": rounds, **guard})


def vca(
    cube: xr.DataArray, k: int, *, seed: int = 0, snr: float | None = None, exclude: float | None = None
) -> xr.DataArray:
    """Vertex component analysis: pixels at the ends of directions orthogonal to the endmembers found before.

    Scores of all pixels are those of the first k axes of the correlation, brought to one plane (above 15 + 10 log10 k
    dB), or of the first k - 1 principal components with a constant (below). `snr` in dB is told from the moments unless
    given. Directions are drawn by `seed`. `exclude` is the outlier guard of `nfindr`. Computes: goes through the cube
    twice.

    Returns endmembers as `nfindr` does; attribute snr. Source: Nascimento & Bioucas-Dias 2005.
    """
    with _opened(cube, k, exclude) as (spectra, guard):
        moments = stream(spectra)
        ratio = signal_to_noise(moments, k) if snr is None else float(snr)
        projective = is_projective(ratio, k)
        if projective:
            every = scores(spectra, moments.axes(k, centred=False), np.zeros(spectra.shape[2]))
        else:
            every = scores(spectra, moments.axes(k - 1), moments.mean)
        with threadpool_limits(1, user_api="blas"):
            pixels = vertices(on_plane(np.asarray(every.values[every.valid]), projective), k, seed)
        where = np.flatnonzero(every.valid)
        return of_pixels(spectra, where[pixels], {"method": "VCA", "snr": ratio, "seed": seed, **guard})


def bundles(
    cube: xr.DataArray, k: int, *, repeats: int = 10, seed: int = 0, sample: int = 2000, **options: Any
) -> xr.DataArray:
    """Several spectra an endmember: `nfindr` of `repeats` samples of about `sample` pixels, seeds from `seed` on.

    The endmembers of each are matched to those of the first by spectral angle, the closest pair first. `options` go to
    `nfindr`. Returns reflectance (bundle, endmember, wavelength) float64, with x, y (bundle, endmember) and
    angle (bundle, endmember), radians from the first bundle's. Source: Somers et al. 2012.
    """
    if repeats < 1:
        raise HsiError(f"repeats is {repeats}; expected at least one")
    options = {"share": 1.0} | options
    first, *others = (nfindr(cube, k, sample=sample, seed=seed + i, **options) for i in range(repeats))
    kept, angles = [first], [np.zeros(k)]
    for other in others:
        angle = _angles(first.values, other.values)
        order = _matched(angle)
        again = other.isel({schema.ENDMEMBER: order}).assign_coords({schema.ENDMEMBER: first[schema.ENDMEMBER].values})
        kept.append(again)
        angles.append(angle[np.arange(k), order])
    out = xr.concat(kept, BUNDLE, coords=["x", "y"], compat="equals", join="exact", combine_attrs="drop_conflicts")
    return out.assign_coords(
        {
            BUNDLE: np.arange(1, repeats + 1),
            "angle": ((BUNDLE, schema.ENDMEMBER), np.array(angles), {"units": "rad", "long_name": "spectral angle"}),
        }
    )


def _angles(ours: Floats, theirs: Floats) -> Floats:
    lengths = np.linalg.norm(ours, axis=1)[:, None] * np.linalg.norm(theirs, axis=1)
    return np.asarray(np.arccos(np.clip(ours @ theirs.T / lengths, -1, 1)))


def _matched(angle: Floats) -> Positions:
    """For each row the column that is its own, the smallest angle first."""
    left = angle.copy()
    out = np.empty(len(angle), np.intp)
    for _ in range(len(angle)):
        row, column = np.unravel_index(int(left.argmin()), left.shape)
        out[row] = column
        left[row, :] = left[:, column] = np.inf
    return out
