"""Compute the scores of the pixels of a cube: their coordinates in the subspace of its first principal components."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.cube.scratch import temporary_file
from hsichunk.cube.second_moments import AXIS_BITS
from hsichunk.cube.spectra_reader import SpectraReader

PICKED = 128  # pixels read at a time from anywhere in a file: the system reads some pages around each


@dataclass(frozen=True)
class Scores:
    """Every pixel of a cube in a subspace of few dimensions."""

    values: Floats
    """(pixels, d), in a file where memory does not hold them"""
    valid: Bools
    """(pixels,)"""
    mapped: mmap.mmap | None = None
    """the file that holds `values`; None where they are in memory"""

    def forget(self, at: slice | None = None) -> None:
        """Free the memory of the values of some pixels, or of all, where these lie in a file; they stay there."""
        if self.mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first, last = (0, len(self.valid)) if at is None else (at.start, min(at.stop, len(self.valid)))
        row = self.values.shape[1] * 8
        start = first * row // mmap.PAGESIZE * mmap.PAGESIZE
        self.mapped.madvise(mmap.MADV_DONTNEED, start, last * row - start)

    def at(self, pixels: Positions) -> Floats:
        """Return a copy (m, d) of the scores of some pixels."""
        out = np.empty((len(pixels), self.values.shape[1]))
        step = len(pixels) if self.mapped is None else PICKED
        for start in range(0, len(pixels), max(1, step)):
            out[start : start + step] = self.values[pixels[start : start + step]]
            self.forget()
        return out


def scores(spectra: SpectraReader, axes: Floats, origin: Floats) -> Scores:
    """Return (x - origin) @ axes of every pixel; goes through the spectra once.

    `axes` (L, d) are rounded as those of `Moments.axes`. Stored counts are projected chunk by chunk where memory allows
    it: each chunk is decoded once, and no spectrum is put together.
    """
    shape, size = (spectra.pixels, axes.shape[1]), spectra.pixels * axes.shape[1] * 8
    valid = np.empty(spectra.pixels, np.bool_)
    if size > spectra.memory:
        with temporary_file(size) as file:  # the map keeps the file when this closes it
            file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
        result = Scores(np.frombuffer(mapped).reshape(shape), valid, mapped)
    else:
        result = Scores(np.empty(shape), valid)
    values, shift = result.values, origin @ axes
    forget = result.forget if result.mapped else None
    if spectra.project(axes, 2.0**-AXIS_BITS, shift, values, valid, forget):
        return result
    with threadpool_limits(1, user_api="blas"):
        for strip in spectra:
            at = slice(strip.start, strip.start + len(strip.valid))
            values[at] = strip.values @ axes - shift
            valid[at] = strip.valid
            result.forget(at)
    return result
