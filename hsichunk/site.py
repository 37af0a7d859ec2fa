"""Many tiles, one grid: which pixels of which tile make up the image. Metadata only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hsichunk import neon
from hsichunk.counts import Counts, Window
from hsichunk.errors import HsiError
from hsichunk.threads import available, in_parallel


@dataclass(frozen=True)
class Place:
    """A tile on the common grid."""

    file: neon.NeonFile
    top: int
    """row of the common grid at which the tile begins"""
    left: int
    owned: tuple[Window, ...]
    """windows of the tile, in its own rows and columns, that no tile earlier by name covers"""

    def counts(self, bands: NDArray[np.intp]) -> Counts:
        return Counts(self.file.reflectance, bands, self.file.scale, self.file.no_data)


@dataclass(frozen=True)
class Site:
    """Tiles sorted by file name on their common grid of `rows` x `cols` pixels."""

    places: tuple[Place, ...]
    grid: neon.Grid
    rows: int
    cols: int

    @property
    def wavelength(self) -> NDArray[np.float64]:
        return self.places[0].file.wavelength


def open_site(paths: Sequence[str | os.PathLike[str]]) -> Site:
    """Reads the metadata of all tiles and lays them on one grid.

    Where tiles overlap, the first by file name counts, whatever the order of `paths`. Raises HsiError, with both
    values, for tiles of different CRS, pixel size, wavelengths, bad-band windows or scale, and for grids that do not
    align.
    """
    if not paths:
        raise HsiError("no tile given; expected the path of at least one")
    names = sorted({os.fspath(p) for p in paths}, key=lambda p: (os.path.basename(p), p))
    files = in_parallel(neon.read, names, 4 * available())
    first = files[0]
    for other in files[1:]:
        _check_same(first, other)
    tops = [_steps(first, f, first.grid.top - f.grid.top, first.grid.dy) for f in files]
    lefts = [_steps(first, f, f.grid.left - first.grid.left, first.grid.dx) for f in files]
    top, left = min(tops), min(lefts)
    covered: list[Window] = []
    places = []
    for file, t, lft in zip(files, tops, lefts, strict=True):
        rows, cols, _ = file.reflectance.shape
        own = Window(t - top, t - top + rows, lft - left, lft - left + cols)
        free = _outside(own, covered)
        covered.append(own)
        local = tuple(Window(w.top - own.top, w.bottom - own.top, w.left - own.left, w.right - own.left) for w in free)
        places.append(Place(file, own.top, own.left, local))
    grid = neon.Grid(
        first.grid.left + left * first.grid.dx,
        first.grid.top - top * first.grid.dy,
        first.grid.dx,
        first.grid.dy,
        first.grid.epsg,
        first.grid.wkt,
    )
    return Site(tuple(places), grid, max(w.bottom for w in covered), max(w.right for w in covered))


def _check_same(a: neon.NeonFile, b: neon.NeonFile) -> None:
    for what, one, two in (
        ("CRS", a.grid.epsg or a.grid.wkt, b.grid.epsg or b.grid.wkt),
        ("pixel size", (a.grid.dx, a.grid.dy), (b.grid.dx, b.grid.dy)),
        ("bands", len(a.wavelength), len(b.wavelength)),
        ("bad-band windows", a.windows, b.windows),
        ("scale", a.scale, b.scale),
    ):
        if one != two:
            raise HsiError(f"{a.path} has {what} {one}, {b.path} {two}; run them separately")
    apart = np.abs(a.wavelength - b.wavelength)
    if (worst := int(apart.argmax()), apart[worst] > 1e-3)[1]:
        raise HsiError(
            f"band {worst + 1} lies at {a.wavelength[worst]:.4f} nm in {a.path} and at {b.wavelength[worst]:.4f} nm in "
            f"{b.path}; run them separately"
        )


def _steps(a: neon.NeonFile, b: neon.NeonFile, distance: float, size: float) -> int:
    steps = distance / size
    if abs(steps - round(steps)) > 1e-3:
        raise HsiError(f"{b.path} lies {steps:.3f} pixels from {a.path}; expected whole pixels: run them separately")
    return round(steps)


def _outside(window: Window, covered: Sequence[Window]) -> list[Window]:
    """What is left of a window after others are taken out, as rectangles."""
    left = [window]
    for hole in covered:
        left = [part for piece in left for part in _minus(piece, hole)]
    return left


def _minus(a: Window, b: Window) -> list[Window]:
    top, bottom = max(a.top, b.top), min(a.bottom, b.bottom)
    lft, right = max(a.left, b.left), min(a.right, b.right)
    if top >= bottom or lft >= right:
        return [a]
    parts = [
        Window(a.top, top, a.left, a.right),
        Window(top, bottom, a.left, lft),
        Window(top, bottom, right, a.right),
        Window(bottom, a.bottom, a.left, a.right),
    ]
    return [p for p in parts if p.top < p.bottom and p.left < p.right]
