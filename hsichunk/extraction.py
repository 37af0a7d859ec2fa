"""Other searches for endmembers over every pixel of a cube: ATGP, PPI, fast iterative PPI, VCA; and bundles.

Each goes through the cube strip by strip (see `hsichunk.strips`) and keeps what it needs of a pixel: a residual, its
place at the end of a skewer, or its scores in a subspace. Pixels with no-data in any band are never candidates, ties go
to the first pixel, and the answer does not depend on chunks, threads or cluster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hsichunk import schema, simplex
from hsichunk.endmembers import nfindr, of_pixels
from hsichunk.errors import HsiError
from hsichunk.second_moments import Moments, Scores, drawn_pixels, scores, stream
from hsichunk.simplex import check_k, first_largest
from hsichunk.strips import Bools, Floats, Spectra

SAMPLE = 20_000  # pixels that ATGP begins with
SKEWERS = 1000
TOGETHER = 500  # skewers laid through a strip at once
MOST_PASSES = 100
DEPENDENT = 1e-7  # share of a spectrum that others must leave unexplained
BUNDLE = "bundle"

Pixels = NDArray[np.intp]


def atgp(cube: xr.DataArray, k: int) -> xr.DataArray:
    """Automatic target generation: the brightest pixel, then again and again the one farthest from the span of those.

    Computes: goes through the cube a few times, not k times. Candidates begin with a sample; each pass looks at every
    pixel for one that would have been taken at some step, and adds it to them, until there is none.

    Returns endmembers as `nfindr` does, in the order found; attribute passes. Raises HsiError where the pixels hold
    fewer than k independent spectra. Source: Ren & Chang 2003.
    """
    with Spectra(cube) as spectra:
        check_k(k, spectra.shape[2])
        pool = drawn_pixels(spectra.cube, SAMPLE, 0)
        values, valid = spectra.take(pool)
        pool, values = pool[valid], values[valid]
        known = True
        passes = 0
        with threadpool_limits(1, user_api="blas"):
            while known and passes < MOST_PASSES:
                # where the sample has too few spectra, the first pass finds others
                found = _atgp(values, k)
                farthest = _farthest(spectra, _orthonormal(values[found]), k)
                passes += 1
                more = np.setdiff1d(farthest, pool)
                known = bool(len(more))
                if known:
                    pool, values = _merged(pool, values, more, spectra.take(more)[0])
        if len(found) < k:
            raise HsiError(f"the cube holds {len(found)} independent spectra; expected at least k = {k}")
        return of_pixels(spectra, pool[found], {"method": "ATGP", "passes": passes, "certified": int(not known)})


def _atgp(values: Floats, k: int) -> Pixels:
    """As many targets of k as there are independent spectra."""
    for count in range(min(k, len(values)), 0, -1):
        try:
            found = simplex.atgp(values, count)
        except HsiError:
            continue
        length = np.abs(np.diag(np.linalg.qr(values[found].T)[1]))
        return np.asarray(found[length > length[0] * DEPENDENT])
    return np.empty(0, np.intp)


def _orthonormal(spectra: Floats) -> Floats:
    """(L, m) axes: of each spectrum what those before it do not span."""
    return np.asarray(np.linalg.qr(spectra.T)[0])


def _farthest(spectra: Spectra, axes: Floats, k: int) -> Pixels:
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
            if length[first] > max(best[step] * (1 + simplex.GAIN), DEPENDENT**2 * square.max()):
                best[step], at[step] = length[first], strip.start + here[first]
    return np.unique(at[at >= 0])


def _merged(pool: Pixels, values: Floats, more: Pixels, others: Floats) -> tuple[Pixels, Floats]:
    both = np.concatenate([pool, more])
    order = np.argsort(both)
    return both[order], np.concatenate([values, others])[order]


def ppi(
    cube: xr.DataArray, k: int, *, skewers: int | Any = SKEWERS, seed: int = 0, pysptools: bool = False
) -> xr.DataArray:
    """Pixel purity index: the k pixels with the most votes, those with most first. See `ppi_votes`.

    Returns endmembers as `nfindr` does, with votes (endmember). Raises HsiError where fewer than k pixels have votes.
    """
    with Spectra(cube) as spectra:
        check_k(k, spectra.shape[2])
        votes, _ = _votes(spectra, skewers, seed, pysptools)
        order = np.argsort(-votes, kind="stable")[:k]
        if len(order) < k or votes[order[-1]] == 0:
            raise HsiError(f"{int((votes > 0).sum())} pixels have votes; expected at least k = {k}: take more skewers")
        em = of_pixels(spectra, order, {"method": "PPI", "seed": seed})
    return em.assign_coords(votes=(schema.ENDMEMBER, votes[order], {"long_name": "pixel purity index"}))


def ppi_votes(
    cube: xr.DataArray, *, skewers: int | Any = SKEWERS, seed: int = 0, pysptools: bool = False
) -> xr.DataArray:
    """Votes of the pixel purity index (y, x) float32, NaN at no-data. Computes: goes through the cube once.

    `skewers` is how many directions are drawn, by `seed`, evenly over all; or the directions (skewers, wavelength). Of
    each one the pixels at both ends have a vote. With `pysptools` its rule: only the end that lies farther from the
    mean has one. Source: Boardman, Kruse & Green 1995.
    """
    with Spectra(cube) as spectra:
        votes, valid = _votes(spectra, skewers, seed, pysptools)
        values = np.where(valid, votes, np.nan).astype(np.float32).reshape(spectra.shape[:2])
        coords = {n: c for n, c in spectra.cube.coords.items() if set(c.dims) <= {schema.Y, schema.X}}
        attrs = {"units": "1", "long_name": "pixel purity index (votes)"}
        return xr.DataArray(values, coords, (schema.Y, schema.X), "ppi_votes", attrs)


def _votes(spectra: Spectra, skewers: int | Any, seed: int, pysptools: bool) -> tuple[NDArray[np.int64], Bools]:
    lines = _skewers(skewers, seed, spectra.shape[2])
    count = len(lines)
    ends = np.full((2, count), -1)
    reach = np.full((2, count), -np.inf)
    total, valid = np.zeros(spectra.shape[2]), np.empty(spectra.pixels, np.bool_)
    with threadpool_limits(1, user_api="blas"):
        for strip in spectra:
            valid[strip.start : strip.start + len(strip.valid)] = strip.valid
            here = np.flatnonzero(strip.valid)
            if not len(here):
                continue
            values = strip.values[here]
            total += values.sum(0)
            for start in range(0, count, TOGETHER):
                part = slice(start, start + TOGETHER)
                along = values @ lines[part].T
                for end, pixel in enumerate((along.argmin(0), along.argmax(0))):
                    far = along[pixel, np.arange(len(pixel))] * (2 * end - 1)
                    farther = far > reach[end, part]
                    ends[end, part][farther] = strip.start + here[pixel[farther]]
                    reach[end, part][farther] = far[farther]
    if not valid.any():
        raise HsiError(f"0 valid pixels of {spectra.pixels}; nothing to vote for")
    if not pysptools:
        return np.bincount(ends.ravel(), minlength=spectra.pixels), valid
    middle = lines @ (total / valid.sum())
    low, high = reach[0] + middle, reach[1] - middle
    farther = np.where((high > low) | ((high == low) & (ends[1] < ends[0])), ends[1], ends[0])
    return np.bincount(farther, minlength=spectra.pixels), valid


def _skewers(skewers: int | Any, seed: int, bands: int) -> Floats:
    if isinstance(skewers, (int, np.integer)):
        if skewers < 1:
            raise HsiError(f"skewers is {skewers}; expected at least one")
        # components of equal normal distribution: no direction is likelier than another
        lines = np.random.default_rng(seed).normal(size=(int(skewers), bands))
    else:
        lines = np.asarray(skewers, np.float64)
    if lines.ndim != 2 or lines.shape[1] != bands or not len(lines) or not np.isfinite(lines).all():
        raise HsiError(f"skewers are {lines.shape}; expected finite numbers (skewers, {bands} bands)")
    return lines


def fippi(cube: xr.DataArray, k: int, *, maxit: int | None = None) -> xr.DataArray:
    """Fast iterative pixel purity index: no random skewers, and it ends by itself.

    In the first k principal components, skewers begin as the k targets of ATGP; the pixels at both ends of each become
    skewers too, until no new ones come (or `maxit` times). Computes: goes through the cube twice.

    Returns endmembers as `nfindr` does, in the order of their pixels: seldom k of them. Source: Chang & Plaza 2006.
    """
    with Spectra(cube) as spectra:
        check_k(k, spectra.shape[2])
        moments = stream(spectra)
        every = scores(spectra, moments.axes(k), moments.mean)
        with threadpool_limits(1, user_api="blas"):
            points = every.values[every.valid]
            where = np.flatnonzero(every.valid)
            lines = simplex.atgp(points, k)
            rounds = 0
            while True:
                along = points @ points[lines].T
                ends = np.union1d(along.argmin(0), along.argmax(0))
                rounds += 1
                if not len(np.setdiff1d(ends, lines)) or rounds == maxit:
                    break
                lines = np.union1d(lines, ends)
        return of_pixels(spectra, where[ends], {"method": "FIPPI", "rounds": rounds})


def vca(cube: xr.DataArray, k: int, *, seed: int = 0, snr: float | None = None) -> xr.DataArray:
    """Vertex component analysis: pixels at the ends of directions orthogonal to the endmembers found before.

    Scores of all pixels are those of the first k axes of the correlation, brought to one plane (above 15 + 10 log10 k
    dB), or of the first k - 1 principal components with a constant (below). `snr` in dB is told from the moments unless
    given. Directions are drawn by `seed`. Computes: goes through the cube twice.

    Returns endmembers as `nfindr` does; attribute snr. Source: Nascimento & Bioucas-Dias 2005.
    """
    with Spectra(cube) as spectra:
        check_k(k, spectra.shape[2])
        moments = stream(spectra)
        ratio = _snr(moments, k) if snr is None else float(snr)
        projective = ratio >= 15 + 10 * np.log10(k)
        if projective:
            every = scores(spectra, moments.axes(k, centred=False), np.zeros(spectra.shape[2]))
        else:
            every = scores(spectra, moments.axes(k - 1), moments.mean)
        with threadpool_limits(1, user_api="blas"):
            pixels = _vertices(_plane(every, projective), k, seed)
        where = np.flatnonzero(every.valid)
        return of_pixels(spectra, where[pixels], {"method": "VCA", "snr": ratio, "seed": seed})


def _snr(moments: Moments, k: int) -> float:
    """Signal-to-noise ratio in dB: power in the first k principal components and the mean over what is left."""
    bands = len(moments.mean)
    whole = float(np.trace(moments.correlation))
    inside = float(np.linalg.eigvalsh(moments.covariance)[::-1][:k].sum() + moments.mean @ moments.mean)
    noise, signal = whole - inside, inside - k / bands * whole
    if noise <= whole * 1e-14:
        return float("inf")
    return float(10 * np.log10(max(signal, whole * 1e-14) / noise))


def _plane(every: Scores, projective: bool) -> Floats:
    """(n, k) of the valid pixels: on the plane where the mean's score is one, or lifted by the longest score."""
    points = np.asarray(every.values[every.valid])
    if not projective:
        longest = float(np.sqrt(np.einsum("ij,ij->i", points, points).max()))
        return np.concatenate([points, np.full((len(points), 1), longest)], axis=1)
    height = points @ points.mean(0)
    # a pixel on the other side of the origin has no place on the plane; dark ones would be thrown far out
    seen = height > height.max() * 1e-9
    plane: Floats = np.zeros_like(points)
    plane[seen] = points[seen] / height[seen, None]
    return plane


def _vertices(points: Floats, k: int, seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    corners = np.zeros((k, k))
    corners[-1, 0] = 1.0
    found = np.empty(k, np.intp)
    for i in range(k):
        direction = rng.normal(size=k)
        direction -= corners @ (np.linalg.pinv(corners) @ direction)
        along = np.abs(points @ (direction / np.linalg.norm(direction)))
        found[i] = first_largest(along)
        corners[:, i] = points[found[i]]
    return found


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


def _matched(angle: Floats) -> Pixels:
    """For each row the column that is its own, the smallest angle first."""
    left = angle.copy()
    out = np.empty(len(angle), np.intp)
    for _ in range(len(angle)):
        row, column = np.unravel_index(int(left.argmin()), left.shape)
        out[row] = column
        left[row, :] = left[:, column] = np.inf
    return out
