"""Search every pixel of a cube for endmembers by ATGP, PPI, fast iterative PPI and VCA; and find bundles of them.

Each search goes through the cube strip by strip (see `hsichunk.cube.spectra_reader`) and keeps little of a pixel: a
residual, whether it is at the end of a skewer, or its scores in a subspace. Pixels with no-data in any band are never
candidates, ties go to the first pixel, and the result does not depend on chunks, threads or cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict, Unpack

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from hsichunk import schema
from hsichunk.array_types import Bools, Floats, Ints, Positions
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
from hsichunk.endmembers.nfindr_all_pixels import all_scores
from hsichunk.endmembers.nfindr_in_memory import check_k, first_largest
from hsichunk.endmembers.outliers import check_exclude, outlying
from hsichunk.errors import HsiError

SAMPLE = 20_000  # pixels that are the first candidates of ATGP
MOST_PASSES = 100
BUNDLE = "bundle"


@contextmanager
def _opened(cube: xr.DataArray, k: int, exclude: float | None) -> Iterator[tuple[SpectraReader, dict[str, float]]]:
    """Open the spectra of a cube, outliers as no-data; yield them and the attributes about outliers."""
    check_exclude(exclude)
    with SpectraReader(cube) as spectra:
        check_k(k, spectra.shape[2])
        if exclude is None:
            yield spectra, {}
            return
        image = all_scores(spectra, k - 1)
        outliers = outlying(image.values, image.valid, exclude, image.forget)
        del image
        spectra.leave_out(outliers)
        yield spectra, {"exclude": exclude, "excluded": int(outliers.sum())}


def atgp(cube: xr.DataArray, k: int, *, exclude: float | None = None) -> xr.DataArray:
    """Find k endmembers by automatic target generation (ATGP).

    The first is the brightest pixel, each other one the pixel farthest from the span of those before it.

    Computes: goes through the cube a few times, not k times. The first candidates are a sample. Each pass looks at
    every pixel for one that would have been taken at some step and adds it to the candidates, until there is none.

    `exclude` is the outlier guard of `nfindr`, here as in the other searches; it takes two more passes, in k - 1
    components. Returns endmembers as `nfindr` does, in the order found; attribute passes. Raises HsiError where the
    pixels hold fewer than k independent spectra. Source: Ren & Chang 2003.
    """
    with _opened(cube, k, exclude) as (spectra, guard):
        pool = drawn_pixels(spectra.cube, SAMPLE, 0)
        values, valid = spectra.take(pool)
        pool, values = pool[valid], values[valid]
        certified = False
        passes = 0
        with threadpool_limits(1, user_api="blas"):
            while not certified and passes < MOST_PASSES:
                # where the sample has too few independent spectra, the first pass finds others
                chosen = targets(values, k)
                farthest = _farthest(spectra, _orthonormal(values[chosen]), k)
                passes += 1
                more = np.setdiff1d(farthest, pool)
                certified = not len(more)
                if not certified:
                    pool, values = _merged(pool, values, more, spectra.take(more)[0])
        if len(chosen) < k:
            raise HsiError(f"the cube holds {len(chosen)} independent spectra; expected at least k = {k}")
        attrs: dict[str, str | float] = {"method": "ATGP", "passes": passes, "certified": int(certified), **guard}
        return of_pixels(spectra, pool[chosen], attrs)


def _orthonormal(spectra: Floats) -> Floats:
    """Return (L, m) orthonormal axes of spectra (m, L), each of the part that the spectra before it do not span."""
    return np.asarray(np.linalg.qr(spectra.T)[0])


def _farthest(spectra: SpectraReader, axes: Floats, k: int) -> Positions:
    """Return the pixels farthest from the span of the first 0, 1, ... of the axes, up to k - 1 of them."""
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
            # the same tolerance as within a strip: values that differ by rounding tie, and the first pixel wins
            if length[first] > max(best[step] * (1 + nfindr_in_memory.GAIN), DEPENDENT**2 * square.max()):
                best[step], at[step] = length[first], strip.start + here[first]
    return np.unique(at[at >= 0])


def _merged(pool: Positions, values: Floats, more: Positions, others: Floats) -> tuple[Positions, Floats]:
    """Return the candidates with more pixels, and their spectra, in the order of the pixels."""
    both = np.concatenate([pool, more])
    order = np.argsort(both)
    return both[order], np.concatenate([values, others])[order]


def ppi(
    cube: xr.DataArray,
    k: int,
    *,
    skewers: int | ArrayLike = SKEWERS,
    seed: int = 0,
    pysptools: bool = False,
    exclude: float | None = None,
) -> xr.DataArray:
    """Find k endmembers by the pixel purity index: the pixels with the most votes, the most first.

    `skewers`, `seed` and `pysptools` are those of `ppi_votes`, `exclude` is the outlier guard of `nfindr`.

    Returns endmembers as `nfindr` does, with votes (endmember). Raises HsiError where fewer than k pixels have votes.
    """
    with _opened(cube, k, exclude) as (spectra, guard):
        votes, _ = _votes(spectra, skewers, seed, pysptools)
        order = most_votes(votes, k)
        em = of_pixels(spectra, order, {"method": "PPI", "seed": seed, **guard})
    return em.assign_coords(votes=(schema.ENDMEMBER, votes[order], {"long_name": "pixel purity index"}))


def ppi_votes(
    cube: xr.DataArray, *, skewers: int | ArrayLike = SKEWERS, seed: int = 0, pysptools: bool = False
) -> xr.DataArray:
    """Return the votes of the pixel purity index (y, x) float32, NaN at no-data. Computes: goes through the cube once.

    `skewers` is the number of directions, which are drawn by `seed` evenly over all; or it is the directions
    themselves (skewers, wavelength). The pixels at both ends of a direction get a vote each. With `pysptools`, as
    there, only the end that lies farther from the mean gets one. Raises HsiError for a cube without valid pixels.
    Source: Boardman, Kruse & Green 1995.
    """
    with SpectraReader(cube) as spectra:
        votes, valid = _votes(spectra, skewers, seed, pysptools)
        values = np.where(valid, votes, np.nan).astype(np.float32).reshape(spectra.shape[:2])
        coords = {n: c for n, c in spectra.cube.coords.items() if set(c.dims) <= {schema.Y, schema.X}}
        attrs = {"units": "1", "long_name": "pixel purity index (votes)"}
        return xr.DataArray(values, coords, (schema.Y, schema.X), "ppi_votes", attrs)


def _votes(spectra: SpectraReader, skewers: int | ArrayLike, seed: int, pysptools: bool) -> tuple[Ints, Bools]:
    """Return the votes (pixels,) of a cube, and which of its pixels are valid."""
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
    """Find endmembers by the fast iterative pixel purity index, which draws nothing at random and ends by itself.

    The search takes place in the first k principal components. The first skewers are the k targets of ATGP; the pixels
    at both ends of each skewer become skewers, too, until there are no new ones (or `maxit` times). `exclude` is the
    outlier guard of `nfindr`. Computes: goes through the cube twice.

    Returns endmembers as `nfindr` does, in the order of their pixels; their number is seldom k. Source: Chang & Plaza
    2006.
    """
    with _opened(cube, k, exclude) as (spectra, guard):
        moments = stream(spectra)
        image = scores(spectra, moments.axes(k), moments.mean)
        with threadpool_limits(1, user_api="blas"):
            points = image.values[image.valid]
            numbers = np.flatnonzero(image.valid)
            ends, rounds = ends_of_ends(points, k, maxit)
        return of_pixels(spectra, numbers[ends], {"method": "FIPPI", "rounds": rounds, **guard})


def vca(
    cube: xr.DataArray, k: int, *, seed: int = 0, snr: float | None = None, exclude: float | None = None
) -> xr.DataArray:
    """Find k endmembers by vertex component analysis (VCA).

    Each is the pixel at the end of a direction orthogonal to the endmembers found before.

    From a signal-to-noise ratio of 15 + 10 log10 k dB on, pixels have scores in the first k axes of the correlation,
    projected on one plane; below, in the first k - 1 principal components, with a constant. `snr` in dB is estimated
    from the moments unless given. Directions are drawn by `seed`. `exclude` is the outlier guard of `nfindr`. Computes:
    goes through the cube twice.

    Returns endmembers as `nfindr` does; attribute snr. Source: Nascimento & Bioucas-Dias 2005.
    """
    with _opened(cube, k, exclude) as (spectra, guard):
        moments = stream(spectra)
        ratio = signal_to_noise(moments, k) if snr is None else float(snr)
        projective = is_projective(ratio, k)
        if projective:
            image = scores(spectra, moments.axes(k, centred=False), np.zeros(spectra.shape[2]))
        else:
            image = scores(spectra, moments.axes(k - 1), moments.mean)
        with threadpool_limits(1, user_api="blas"):
            pixels = vertices(on_plane(np.asarray(image.values[image.valid]), projective), k, seed)
        numbers = np.flatnonzero(image.valid)
        return of_pixels(spectra, numbers[pixels], {"method": "VCA", "snr": ratio, "seed": seed, **guard})


class NfindrOptions(TypedDict, total=False):
    """The options of `nfindr` that `bundles` passes on."""

    share: float
    maxit: int | None
    refine: bool
    exclude: float | None


def bundles(
    cube: xr.DataArray,
    k: int,
    *,
    repeats: int = 10,
    seed: int = 0,
    sample: int = 2000,
    **options: Unpack[NfindrOptions],
) -> xr.DataArray:
    """Find several spectra an endmember: `nfindr` of `repeats` samples of about `sample` pixels, seeds from `seed` on.

    The endmembers of each sample are matched to those of the first by spectral angle, the closest pair first. `options`
    go to `nfindr`; `share` is 1 unless given. Returns reflectance (bundle, endmember, wavelength) float64, with x, y
    (bundle, endmember) and angle (bundle, endmember), in radians from the endmembers of the first bundle. Raises
    HsiError for less than one repeat, and as `nfindr` does. Source: Somers et al. 2012.
    """
    if repeats < 1:
        raise HsiError(f"repeats is {repeats}; expected at least one")
    options.setdefault("share", 1.0)
    first, *others = (nfindr(cube, k, sample=sample, seed=seed + i, **options) for i in range(repeats))
    sets, angles = [first], [np.zeros(k)]
    for other in others:
        angle = _angles(first.values, other.values)
        order = _matched(angle)
        sorted_set = other.isel({schema.ENDMEMBER: order})
        sets.append(sorted_set.assign_coords({schema.ENDMEMBER: first[schema.ENDMEMBER].values}))
        angles.append(angle[np.arange(k), order])
    out = xr.concat(sets, BUNDLE, coords=["x", "y"], compat="equals", join="exact", combine_attrs="drop_conflicts")
    return out.assign_coords(
        {
            BUNDLE: np.arange(1, repeats + 1),
            "angle": ((BUNDLE, schema.ENDMEMBER), np.array(angles), {"units": "rad", "long_name": "spectral angle"}),
        }
    )


def _angles(first: Floats, other: Floats) -> Floats:
    """Return the spectral angles (k, k) between two sets of endmembers (k, L), in radians."""
    lengths = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(other, axis=1)
    return np.asarray(np.arccos(np.clip(first @ other.T / lengths, -1, 1)))


def _matched(angle: Floats) -> Positions:
    """Return the column that is matched to each row of angles (k, k), the smallest angle first."""
    unmatched = angle.copy()
    out = np.empty(len(angle), np.intp)
    for _ in range(len(angle)):
        row, column = np.unravel_index(int(unmatched.argmin()), unmatched.shape)
        out[row] = column
        unmatched[row, :] = unmatched[:, column] = np.inf
    return out
