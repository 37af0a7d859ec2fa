"""Mean, covariance and noise covariance of the spectra of a cube, from one pass over it.

Counts are added up as whole numbers: products of counts less a whole number are below 2**32, their sums over a strip
below 2**53, and strips are added in 64-bit integers. So moments of counts are exact, the same for any chunking, number
of threads or processor; those of other floats are added strip by strip, always the same strips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hsichunk import schema
from hsichunk.array_types import Bools, Floats
from hsichunk.cube.sampling import choose, places
from hsichunk.cube.spectra_reader import SpectraReader, Strip
from hsichunk.errors import HsiError

_Row = tuple[Floats, Bools, bool]  # values, which are valid, whether they are whole counts

OTHER = "wavelength_2"  # second dimension of the matrices
AXIS_BITS = 32  # axes are rounded to 2**-32: sums of counts (2**15) over 512 bands of unit axes stay below 2**53 of it


@dataclass(frozen=True)
class Moments:
    """Moments of spectra in counts, or in reflectance where there are no counts."""

    n: int
    """valid pixels"""
    mean: Floats
    """(L,)"""
    covariance: Floats
    """(L, L), over n"""
    scale: float
    """counts per unit reflectance; 1 for reflectance"""
    noise: Floats | None = None
    """(L, L) half the second moment of differences between neighbours"""
    pairs: int = 0
    """neighbours both valid"""

    @property
    def correlation(self) -> Floats:
        """(L, L) X'X / n"""
        return self.covariance + np.outer(self.mean, self.mean)

    def axes(self, count: int, *, centred: bool = True) -> Floats:
        """(L, count) first principal components, of the covariance or of the correlation. HsiError if there are fewer.

        Rounded to 2**-32, so that scores of counts are exact; signs are fixed: the largest element is positive.
        """
        matrix = self.covariance if centred else self.correlation
        with threadpool_limits(1, user_api="blas"):
            values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        rank = int((values > values[-1] * 1e-12).sum()) if values[-1] > 0 else 0
        if rank < count:
            raise HsiError(f"the spectra span {rank} dimensions; expected at least {count}")
        axes = vectors[:, ::-1][:, :count]
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(count)])
        rounded: Floats = np.rint(np.ldexp(axes, AXIS_BITS)) * 2.0**-AXIS_BITS
        return rounded


def moments(
    cube: xr.DataArray, *, noise: bool = False, sample: int | None = None, seed: int = 0, memory: int | None = None
) -> xr.Dataset:
    """Mean and covariance of the spectra of a cube, float64 in reflectance. Computes: one decode of the cube.

    cube (y, x, wavelength); pixels with no-data in any band are left out; the covariance is over n. With `noise` also
    the noise covariance: half the mean product of differences between pixels and their right and lower neighbours
    (Green et al. 1988). With a `sample` the moments of about so many pixels, drawn by `seed` as by `nfindr`, in place
    of all, straight from the chunks that hold them.

    Spatial chunks are decoded row by row. Where one row of chunks is more than half of `memory` bytes (chunks of whole
    bands), each chunk is decoded once into a temporary file of the size of the kept bands, and read back from there;
    the attribute `scratch_bytes` says how large it was.

    Returns mean (wavelength), covariance and, if asked for, noise_covariance (wavelength, wavelength_2); attributes
    pixels, pairs, source. Raises HsiError for less than two valid pixels.
    """
    with SpectraReader(cube, memory) as spectra:
        if sample is None:
            found, source = stream(spectra, noise=noise), "every pixel"
        elif noise:
            raise HsiError("noise=True needs neighbours, which a sample has not; leave out sample=")
        else:
            found, source = of_sample(spectra, sample, seed), "a sample"
        return _labelled(found, spectra, source)


def _labelled(found: Moments, spectra: SpectraReader, source: str) -> xr.Dataset:
    unit, square = found.scale, found.scale**2
    both = (schema.WAVELENGTH, OTHER)
    variables = {
        "mean": (schema.WAVELENGTH, found.mean / unit, {"units": "1", "long_name": "mean reflectance"}),
        "covariance": (both, found.covariance / square, {"units": "1", "long_name": "covariance of reflectance"}),
    }
    if found.noise is not None:
        named = {"units": "1", "long_name": "noise covariance of reflectance, from neighbouring pixels"}
        variables["noise_covariance"] = (both, found.noise / square, named)
    wavelength = spectra.cube[schema.WAVELENGTH]
    attrs = {
        "pixels": found.n,
        "pairs": found.pairs,
        "source": source,
        "scratch_bytes": spectra.scratch_bytes,
    }
    coords = {schema.WAVELENGTH: wavelength.variable, OTHER: (OTHER, wavelength.values, wavelength.attrs)}
    return xr.Dataset(variables, coords, attrs)


def of_dataset(found: xr.Dataset) -> Moments:
    """What `moments` gave, as the functions that work with it take it."""
    if not {"mean", "covariance"} <= set(found.variables) or "pixels" not in found.attrs:
        raise HsiError(f"the Dataset holds {sorted(map(str, found.variables))}; expected what moments(cube) gives")
    noise = found["noise_covariance"].values if "noise_covariance" in found else None
    attrs = found.attrs
    return Moments(attrs["pixels"], found["mean"].values, found["covariance"].values, 1.0, noise, attrs["pairs"])


def of_sample(spectra: SpectraReader, size: int, seed: int) -> Moments:
    """Moments of about `size` pixels, spread over the whole cube."""
    total = _Total(spectra.shape[2])
    with threadpool_limits(1, user_api="blas"):
        for values, valid, whole in spectra.drawn(drawn_pixels(spectra.cube, size, seed)):
            total.add(values[valid], whole)
    return total.moments(spectra.scale)


def drawn_pixels(cube: xr.DataArray, size: int, seed: int) -> NDArray[np.intp]:
    """Numbers of about `size` pixels, by the rule of `nfindr`'s sample, ascending."""
    northing = cube[schema.Y].attrs.get("standard_name") == schema.Y_ATTRS["standard_name"]
    down = places(cube[schema.Y].values, descending=northing)
    across = places(cube[schema.X].values, descending=False)
    rows, cols = choose(down, across, size, 1.0, seed)
    return np.sort(rows * cube.sizes[schema.X] + cols)


def stream(spectra: SpectraReader, *, noise: bool = False, leave_out: Bools | None = None) -> Moments:
    """Moments of all valid pixels but those of `leave_out` (pixels,); goes through the spectra once."""
    total, apart = _Total(spectra.shape[2]), _Total(spectra.shape[2], centre=np.zeros(spectra.shape[2]))
    last: _Row | None = None
    # one thread: what BLAS adds up in another order would be another rounding where values are no counts
    with threadpool_limits(1, user_api="blas"):
        for strip in spectra:
            valid = strip.valid
            if leave_out is not None:
                valid = valid & ~leave_out[strip.start : strip.start + len(valid)]
            total.add(strip.values[valid], strip.whole)
            if noise:
                last = _add_pairs(apart, strip, valid, spectra.shape[1], last)
    found = total.moments(spectra.scale)
    if not noise:
        return found
    if not apart.n:
        raise HsiError("no two neighbouring pixels hold data; the noise cannot be told from their differences")
    return Moments(found.n, found.mean, found.covariance, found.scale, apart.second_moment() / 2, apart.n)


def _add_pairs(apart: _Total, strip: Strip, valid: Bools, width: int, last: _Row | None) -> _Row:
    """Adds differences to right and lower neighbours; `last` and what is returned are the row above the next strip."""
    values, valid = strip.values.reshape(-1, width, strip.values.shape[1]), valid.reshape(-1, width)
    pairs = [
        (values[:, 1:], values[:, :-1], valid[:, 1:] & valid[:, :-1], strip.whole),
        (values[1:], values[:-1], valid[1:] & valid[:-1], strip.whole),
    ]
    if last is not None:
        pairs.append((values[:1], last[0], valid[:1] & last[1], strip.whole and last[2]))
    for one, other, both, whole in pairs:
        apart.add(one[both] - other[both], whole)
    return values[-1:], valid[-1:], strip.whole


class _Total:
    """Sums and sums of products, about the first pixels' mean: of whole numbers in integers, of others in floats."""

    def __init__(self, bands: int, centre: Floats | None = None) -> None:
        self.n = 0
        self.centre = centre
        self._whole = np.zeros(bands, np.int64), np.zeros((bands, bands), np.int64)
        self._rest = np.zeros(bands), np.zeros((bands, bands))

    def add(self, values: Floats, whole: bool) -> None:
        if not len(values):
            return
        if self.centre is None:
            mean = values.sum(0) / len(values)
            self.centre = np.rint(mean) if whole else mean
            # a centre that is no whole number would make the next strip's counts fractions
        whole = whole and bool((self.centre == np.rint(self.centre)).all())
        apart = values - self.centre
        self.n += len(values)
        products = apart.T @ apart
        if whole:
            self._whole[0][:] += apart.sum(0).astype(np.int64)
            self._whole[1][:] += products.astype(np.int64)
        else:
            self._rest[0][:] += apart.sum(0)
            self._rest[1][:] += products

    def second_moment(self) -> Floats:
        """(L, L) about the centre."""
        return (self._whole[1] + self._rest[1]) / self.n

    def moments(self, scale: float) -> Moments:
        if self.n < 2 or self.centre is None:
            raise HsiError(f"{self.n} valid pixels; expected at least two")
        rest = (self._whole[0] + self._rest[0]) / self.n
        return Moments(self.n, self.centre + rest, self.second_moment() - np.outer(rest, rest), scale)
