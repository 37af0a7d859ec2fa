"""Pixels of a cube in the subspace of its first principal components."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hsichunk.array_types import Bools, Floats
from hsichunk.cube.scratch import temporary_file
from hsichunk.cube.second_moments import AXIS_BITS
from hsichunk.cube.spectra_reader import SpectraReader

PICKED = 128  # pixels read at a time of those that lie anywhere in a file: the system reads some pages around each


@dataclass(frozen=True)
class Scores:
    """Every pixel of a cube in a subspace of few dimensions."""

    values: Floats
    """(pixels, d), on disk where there is not memory enough"""
    valid: Bools
    """(pixels,)"""
    mapped: mmap.mmap | None = None
    """the file that they are in"""

    def forget(self, at: slice | None = None) -> None:
        """Lets go of what was read or written of some pixels, or of all: it stays in the file."""
        if self.mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first, last = (0, len(self.valid)) if at is None else (at.start, min(at.stop, len(self.valid)))
        row = self.values.shape[1] * 8
        start = first * row // mmap.PAGESIZE * mmap.PAGESIZE
        self.mapped.madvise(mmap.MADV_DONTNEED, start, last * row - start)

    def at(self, pixels: NDArray[np.intp]) -> Floats:
        """A copy (m, d) of those of some pixels."""
        out = np.empty((len(pixels), self.values.shape[1]))
        step = len(pixels) if self.mapped is None else PICKED
        for start in range(0, len(pixels), max(1, step)):
            out[start : start + step] = self.values[pixels[start : start + step]]
            self.forget()
        return out


def scores(spectra: SpectraReader, axes: Floats, origin: Floats) -> Scores:
    """(x - origin) @ axes of every pixel, axes rounded as `Moments.axes` are; goes through the spectra once.

    Straight from stored counts where there are some: each chunk is decoded once, and no spectrum is put together.
    """
    shape, size = (spectra.pixels, axes.shape[1]), spectra.pixels * axes.shape[1] * 8
    valid = np.empty(spectra.pixels, np.bool_)
    if size > spectra.memory:
        with temporary_file(size) as file:  # the map keeps it
            file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
        every = Scores(np.frombuffer(mapped).reshape(shape), valid, mapped)
    else:
        every = Scores(np.empty(shape), valid)
    held, shift = every.values, origin @ axes
    forget = every.forget if every.mapped else None
    if spectra.project(axes, 2.0**-AXIS_BITS, shift, held, valid, forget):
        return every
    with threadpool_limits(1, user_api="blas"):
        for strip in spectra:
            at = slice(strip.start, strip.start + len(strip.valid))
            held[at] = strip.values @ axes - shift
            valid[at] = strip.valid
            every.forget(at)
    return every
