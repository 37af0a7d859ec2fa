"""Lay many tiles on one grid and decide which tile each pixel comes from. Reads metadata only."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.counts import Counts
from hsichunk.chunks.remote import is_url, name_of
from hsichunk.chunks.windows import Window, outside
from hsichunk.errors import HsiError, HsiWarning, one_line
from hsichunk.grid import Grid
from hsichunk.mosaic.child_process import Outcome, contained_each
from hsichunk.readers import formats, model
from hsichunk.readers.model import inside
from hsichunk.readers.wavelengths import same_bands
from hsichunk.threads import available, in_parallel

SECONDS = 60.0
"""in which the metadata of one tile are read, or its file is bad"""
CHILDREN = 8
"""processes that read metadata, at most"""


@dataclass(frozen=True)
class PlacedTile:
    """A tile on the common grid."""

    file: model.TileFile
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

    tiles: tuple[PlacedTile, ...]
    grid: Grid
    rows: int
    cols: int
    skipped: tuple[tuple[str, str], ...] = ()
    """path of each tile that is left out, and why"""

    @property
    def wavelength(self) -> NDArray[np.float64]:
        return self.tiles[0].file.wavelength

    @property
    def drop_last(self) -> int:
        """Bands at the end that are noise in any of the files."""
        return max(place.file.drop_last for place in self.tiles)

    @property
    def tile(self) -> tuple[int, int] | None:
        """Rows and columns of all tiles where they lie on a grid of their own size, as NEON's do."""
        rows, cols, _ = self.tiles[0].file.reflectance.shape
        regular = all(
            place.file.reflectance.shape[:2] == (rows, cols) and place.top % rows == place.left % cols == 0
            for place in self.tiles
        )
        return (rows, cols) if regular else None


def open_site(
    paths: Sequence[str | os.PathLike[str]],
    on_error: str = "stop",
    layers: Collection[str] = (),
    bands: str = "same",
    floats: bool = False,
) -> Site:
    """Reads the metadata of all tiles, in processes of their own that HDF5 may crash, and lays the tiles on one grid.

    Where tiles overlap, the first by file name counts, whatever the order of `paths`. Raises HsiError, with both
    values, for tiles of different CRS, pixel size, wavelengths, bad-band windows or scale, and for grids that do not
    align; and for a file that cannot be trusted, the first by name. With `on_error` "skip" or "mask" such a file is
    left out and warned about (HsiWarning); HsiError where none is left. `layers` names the ancillary layers that will
    be read: the places of their chunks are looked up now, too. With `bands` "common" tiles of other wavelengths are
    interpolated to those of the first by name. Images of floats are bad files, too, unless `floats` allows them.
    """
    if not paths:
        raise HsiError("no tile given; expected the path of at least one")
    names = sorted({os.fspath(p) for p in paths}, key=lambda p: (name_of(p), p))
    files, skipped = _read_all(names, on_error, layers, floats)
    first = files[0]
    _check_places(files)
    if bands == "common":
        files = [first, *(_common(first, other) for other in files[1:])]
    for other in files[1:]:
        _check_same(first, other)
    tops = [_steps(first, f, first.grid.top - f.grid.top, first.grid.dy) for f in files]
    lefts = [_steps(first, f, f.grid.left - first.grid.left, first.grid.dx) for f in files]
    top, left = min(tops), min(lefts)
    covered: list[Window] = []
    places = []
    for file, t, lft in zip(files, tops, lefts, strict=True):
        rows, cols, _ = file.reflectance.shape
        own = Window(0, rows, 0, cols).shifted(t - top, lft - left)
        free = outside(own, covered)
        covered.append(own)
        places.append(PlacedTile(file, own.top, own.left, tuple(w.shifted(-own.top, -own.left) for w in free)))
    grid = Grid(
        first.grid.left + left * first.grid.dx,
        first.grid.top - top * first.grid.dy,
        first.grid.dx,
        first.grid.dy,
        first.grid.epsg,
        first.grid.wkt,
    )
    return Site(tuple(places), grid, max(w.bottom for w in covered), max(w.right for w in covered), skipped)


def _read_all(
    names: list[str], on_error: str, layers: Collection[str], floats: bool
) -> tuple[list[model.TileFile], tuple[tuple[str, str], ...]]:
    """The files in the order of `names`; and which are left out, and why."""
    formats.prepare(names)  # so that no child has to
    near = [name for name in names if not is_url(name)]
    far = [name for name in names if is_url(name)]
    found = dict(
        zip(near, contained_each(_read, [(n, layers, floats) for n in near], SECONDS, _children()), strict=True)
    )
    # connections and what is known of them do not survive a fork
    found |= zip(far, in_parallel(lambda n: _tried(n, layers, floats), far, 4 * available()), strict=True)
    files, skipped = [], []
    for name in names:
        outcome = found[name]
        if on_error == "stop" or outcome.error is None:
            files.append(outcome.result())
            continue
        why = str(outcome.error)
        warnings.warn(f"{why if name in why else f'{name}: {why}'}; left out", HsiWarning, stacklevel=3)
        skipped.append((name, why.removeprefix(f"{name}: ")))
    if not files:
        raise HsiError(f"none of the {len(names)} tiles can be used; the first: {found[names[0]].error}")
    return files, tuple(skipped)


def _children() -> int:
    return min(CHILDREN, 2 * available())


def _tried(path: str, layers: Collection[str], floats: bool) -> Outcome[model.TileFile]:
    try:
        return Outcome(_read(path, layers, floats))
    except HsiError as error:
        return Outcome(error=error)


def _read(path: str, layers: Collection[str], floats: bool) -> model.TileFile:
    """The metadata of a tile and the places of its chunks: all that HDF5 is needed for where chunks are read directly.

    What HDF5 has to read chunk by chunk is tried once.
    """
    try:
        file = formats.read(path, floats=floats)
        for stored in (file.reflectance, *(layer.stored for layer in file.layers if layer.name in layers)):
            stored.prepare()
        file.reflectance.check(file.no_data)
    except HsiError:
        raise
    except Exception as error:  # what a damaged byte makes of h5py has no common class
        raise HsiError(f"{path}: damaged metadata ({one_line(error)}); download it again") from error
    return file


def _common(first: model.TileFile, other: model.TileFile) -> model.TileFile:
    """The other tile at the wavelengths of the first."""
    from hsichunk.mosaic.common_bands import on_bands_of

    if "f" in (first.reflectance.dtype.kind, other.reflectance.dtype.kind):
        raise HsiError(f"{first.path}, {other.path}: --bands common interpolates whole counts; expected no floats")
    if same_bands(first.wavelength, other.wavelength):
        return other
    warnings.warn(
        f"{other.path}: its bands are interpolated to those of {first.path}; its chunks are decoded up to twice",
        HsiWarning,
        stacklevel=3,
    )
    return on_bands_of(replace(other, bands=replace(other.bands, windows=first.windows)), first.wavelength, first.fwhm)


def _check_places(files: Sequence[model.TileFile]) -> None:
    """Raises HsiError for several files of which one lies nowhere."""
    nowhere = next((file for file in files if not file.grid.north_up), None)
    if nowhere is not None and len(files) > 1:
        raise HsiError(f"{nowhere.path}: does not say where it lies; expected map info or a transform: run it alone")


def _check_same(a: model.TileFile, b: model.TileFile) -> None:
    for what, one, two in (
        ("CRS", a.grid.epsg or a.grid.wkt, b.grid.epsg or b.grid.wkt),
        ("pixel size", (a.grid.dx, a.grid.dy), (b.grid.dx, b.grid.dy)),
        ("bands", len(a.wavelength), len(b.wavelength)),
        ("bad-band windows", *((a.windows, b.windows) if _bad(a) != _bad(b) else ((), ()))),
        ("scale", a.scale, b.scale),
        ("values", *("floats" if file.reflectance.dtype.kind == "f" else "whole numbers" for file in (a, b))),
    ):
        if one != two:
            raise HsiError(f"{a.path} has {what} {one}, {b.path} {two}; run them separately")
    if not same_bands(a.wavelength, b.wavelength):
        worst = int(np.abs(a.wavelength - b.wavelength).argmax())
        raise HsiError(
            f"band {worst + 1} lies at {a.wavelength[worst]:.4f} nm in {a.path} and at {b.wavelength[worst]:.4f} nm in "
            f"{b.path}; run them separately, or with --bands common"
        )


def _bad(file: model.TileFile) -> list[bool]:
    """Which bands lie in the windows of a file: those of images begin and end at bands."""
    found: list[bool] = inside(file.wavelength, file.windows).tolist()
    return found


def _steps(a: model.TileFile, b: model.TileFile, distance: float, size: float) -> int:
    steps = distance / size
    if abs(steps - round(steps)) > 1e-3:
        raise HsiError(f"{b.path} lies {steps:.3f} pixels from {a.path}; expected whole pixels: run them separately")
    return round(steps)
