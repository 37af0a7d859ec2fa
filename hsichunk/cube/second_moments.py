"""Compute mean, covariance and noise covariance of the spectra of a cube in one pass over it.

Counts are added up as whole numbers: after a whole number is subtracted, products of counts are below 2**32 and their
sums over a strip below 2**53, and strips are added in 64-bit integers. So moments of counts are exact, and the same for
any chunking, number of threads or processor; those of other floats are added strip by strip, always the same strips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from hsichunk import schema
from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.cube.cube_sample import places_of
from hsichunk.cube.sampling import choose
from hsichunk.cube.spectra_reader import SpectraReader, Strip
from hsichunk.errors import HsiError

OTHER = "wavelength_2"  # second dimension of the matrices
AXIS_BITS = 32  # axes are multiples of 2**-32: sums of counts (2**15) over 512 bands of unit axes are below 2**53 units


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
    """(L, L) noise covariance: half the second moment of differences between neighbours"""
    pairs: int = 0
    """of neighbours, both of them valid"""

    @property
    def correlation(self) -> Floats:
        """X'X / n (L, L)."""
        return self.covariance + np.outer(self.mean, self.mean)

    def axes(self, count: int, *, centred: bool = True) -> Floats:
        """Return the first principal components (L, count), of the covariance or else of the correlation.

        They are rounded to 2**-32, so that scores of counts are exact; signs are fixed: the largest element is
        positive. Raises HsiError if the spectra span fewer dimensions.
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
    """Return mean and covariance of the spectra of a cube, float64 in reflectance. Computes: decodes the cube once.

    cube (y, x, wavelength); pixels with no-data in any band are left out; the covariance is over n. With `noise` also
    the noise covariance: half the mean product of differences between pixels and their right and lower neighbours
    (Green et al. 1988). With a `sample` the moments are those of about so many pixels in place of all: drawn by `seed`
    as `nfindr` draws them, and read straight from the chunks that hold them.

    Spatial chunks are decoded row by row. Where one row of chunks is more than half of `memory` bytes (chunks of whole
    bands), each chunk is decoded once into a temporary file of the size of the kept bands, and read back from there;
    the attribute `scratch_bytes` says how large it was.

    Returns mean (wavelength), covariance and, if asked for, noise_covariance (wavelength, wavelength_2); attributes
    pixels, pairs, source. Raises HsiError for fewer than two valid pixels, and for `noise` of a sample.
    """
    with SpectraReader(cube, memory) as spectra:
        if sample is None:
            result, source = stream(spectra, noise=noise), "every pixel"
        elif noise:
            raise HsiError("noise=True needs neighbours, which a sample has not; leave out sample=")
        else:
            result, source = of_sample(spectra, sample, seed), "a sample"
        return _labelled(result, spectra, source)


def _labelled(result: Moments, spectra: SpectraReader, source: str) -> xr.Dataset:
    """Return moments in reflectance, with the wavelengths of the cube."""
    unit, square = result.scale, result.scale**2
    both = (schema.WAVELENGTH, OTHER)
    variables = {
        "mean": (schema.WAVELENGTH, result.mean / unit, {"units": "1", "long_name": "mean reflectance"}),
        "covariance": (both, result.covariance / square, {"units": "1", "long_name": "covariance of reflectance"}),
    }
    if result.noise is not None:
        noise_attrs = {"units": "1", "long_name": "noise covariance of reflectance, from neighbouring pixels"}
        variables["noise_covariance"] = (both, result.noise / square, noise_attrs)
    wavelength = spectra.cube[schema.WAVELENGTH]
    attrs = {
        "pixels": result.n,
        "pairs": result.pairs,
        "source": source,
        "scratch_bytes": spectra.scratch_bytes,
    }
    coords = {schema.WAVELENGTH: wavelength.variable, OTHER: (OTHER, wavelength.values, wavelength.attrs)}
    return xr.Dataset(variables, coords, attrs)


def of_dataset(dataset: xr.Dataset) -> Moments:
    """Return the moments in a Dataset that `moments` returned. Raises HsiError for another Dataset."""
    if not {"mean", "covariance"} <= set(dataset.variables) or "pixels" not in dataset.attrs:
        raise HsiError(f"the Dataset holds {sorted(map(str, dataset.variables))}; expected what moments(cube) gives")
    noise = dataset["noise_covariance"].values if "noise_covariance" in dataset else None
    attrs = dataset.attrs
    return Moments(attrs["pixels"], dataset["mean"].values, dataset["covariance"].values, 1.0, noise, attrs["pairs"])


def of_sample(spectra: SpectraReader, size: int, seed: int) -> Moments:
    """Return moments of about `size` pixels, spread over the whole cube."""
    total = _Total(spectra.shape[2])
    with threadpool_limits(1, user_api="blas"):
        for values, valid, integral in spectra.drawn(drawn_pixels(spectra.cube, size, seed)):
            total.add(values[valid], integral)
    return total.moments(spectra.scale)


def drawn_pixels(cube: xr.DataArray, size: int, seed: int) -> Positions:
    """Return the numbers of about `size` pixels, drawn as `nfindr` draws its sample, ascending."""
    rows, cols = choose(*places_of(cube), size, 1.0, seed)
    return np.sort(rows * cube.sizes[schema.X] + cols)


def stream(spectra: SpectraReader, *, noise: bool = False, leave_out: Bools | None = None) -> Moments:
    """Return moments of all valid pixels except those in `leave_out` (pixels,); goes through the spectra once.

    Raises HsiError for fewer than two valid pixels, and where `noise` finds no two valid neighbours.
    """
    total, differences = _Total(spectra.shape[2]), _Total(spectra.shape[2], centre=np.zeros(spectra.shape[2]))
    above: _Row | None = None
    # one thread: BLAS on several would add in another order and so round another way where values are no counts
    with threadpool_limits(1, user_api="blas"):
        for strip in spectra:
            valid = strip.valid
            if leave_out is not None:
                valid = valid & ~leave_out[strip.start : strip.start + len(valid)]
            total.add(strip.values[valid], strip.integral)
            if noise:
                above = _add_pairs(differences, strip, valid, spectra.shape[1], above)
    result = total.moments(spectra.scale)
    if not noise:
        return result
    if not differences.n:
        raise HsiError("no two neighbouring pixels hold data; the noise cannot be told from their differences")
    return replace(result, noise=differences.second_moment() / 2, pairs=differences.n)


class _Row(NamedTuple):
    """The last row of a strip, which lies above the first of the next."""

    values: Floats
    """(1, columns, L)"""
    valid: Bools
    """(1, columns)"""
    integral: bool
    """whether all values are whole counts"""


def _add_pairs(differences: _Total, strip: Strip, valid: Bools, width: int, above: _Row | None) -> _Row:
    """Add the differences between the pixels of a strip and their right and lower neighbours.

    `above` is the row above the strip. Returns the row above the next strip.
    """
    values, valid = strip.values.reshape(-1, width, strip.values.shape[1]), valid.reshape(-1, width)
    pairs = [
        (values[:, 1:], values[:, :-1], valid[:, 1:] & valid[:, :-1], strip.integral),
        (values[1:], values[:-1], valid[1:] & valid[:-1], strip.integral),
    ]
    if above is not None:
        pairs.append((values[:1], above.values, valid[:1] & above.valid, strip.integral and above.integral))
    for pixels, neighbours, both, integral in pairs:
        differences.add(pixels[both] - neighbours[both], integral)
    return _Row(values[-1:], valid[-1:], strip.integral)


class _Total:
    """Sums of spectra and of their products, less a centre: the first pixels' mean, rounded for whole numbers.

    Whole numbers are summed in integers, others in floats.
    """

    def __init__(self, bands: int, centre: Floats | None = None) -> None:
        self.n = 0
        """spectra added"""
        self.centre = centre
        self._integers = np.zeros(bands, np.int64), np.zeros((bands, bands), np.int64)
        self._floats = np.zeros(bands), np.zeros((bands, bands))

    def add(self, values: Floats, integral: bool) -> None:
        """Add spectra (n, L); `integral` says that all values are whole numbers."""
        if not len(values):
            return
        if self.centre is None:
            mean = values.sum(0) / len(values)
            self.centre = np.rint(mean) if integral else mean
        # less a centre that is no whole number, even the counts of a later strip are fractions
        integral = integral and bool((self.centre == np.rint(self.centre)).all())
        centred = values - self.centre
        self.n += len(values)
        sums, products = centred.sum(0), centred.T @ centred
        if integral:
            self._integers[0][:] += sums.astype(np.int64)
            self._integers[1][:] += products.astype(np.int64)
        else:
            self._floats[0][:] += sums
            self._floats[1][:] += products

    def second_moment(self) -> Floats:
        """Return the mean product (L, L) of spectra less the centre."""
        return (self._integers[1] + self._floats[1]) / self.n

    def moments(self, scale: float) -> Moments:
        """Return mean and covariance. Raises HsiError for fewer than two spectra."""
        if self.n < 2 or self.centre is None:
            raise HsiError(f"{self.n} valid pixels; expected at least two")
        offset = (self._integers[0] + self._floats[0]) / self.n  # of the mean from the centre
        return Moments(self.n, self.centre + offset, self.second_moment() - np.outer(offset, offset), scale)
