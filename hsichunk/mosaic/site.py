"""Lay tiles on one grid and decide which tile each pixel comes from; reads metadata only."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hsichunk.array_types import Floats, Positions
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
"""time to read the metadata of one tile; a file that takes longer is bad"""
CHILDREN = 8
"""the most processes that read metadata at a time"""


@dataclass(frozen=True)
class PlacedTile:
    """A tile on the common grid."""

    file: model.TileFile
    top: int
    """row of the common grid at which the tile begins"""
    left: int
    """column of the common grid at which the tile begins"""
    owned: tuple[Window, ...]
    """windows of the tile, in its own rows and columns, that no tile earlier by name covers"""

    def counts(self, bands: Positions) -> Counts:
        """Return the counts of the tile in the kept bands (L,)."""
        return Counts(self.file.reflectance, bands, self.file.scale, self.file.no_data)


@dataclass(frozen=True)
class Site:
    """Tiles, sorted by file name, on their common grid of `rows` x `cols` pixels."""

    tiles: tuple[PlacedTile, ...]
    grid: Grid
    rows: int
    cols: int
    skipped: tuple[tuple[str, str], ...] = ()
    """path of each tile that is left out, and the reason"""

    @property
    def wavelength(self) -> Floats:
        """Band centres (L,) in nm, which all tiles share."""
        return self.tiles[0].file.wavelength

    @property
    def drop_last(self) -> int:
        """Number of bands at the end that are noise in any of the files."""
        return max(tile.file.drop_last for tile in self.tiles)

    @property
    def tile(self) -> tuple[int, int] | None:
        """Rows and columns of every tile where all have one size and lie at multiples of it, as NEON's do."""
        rows, cols, _ = self.tiles[0].file.reflectance.shape
        regular = all(
            tile.file.reflectance.shape[:2] == (rows, cols) and tile.top % rows == tile.left % cols == 0
            for tile in self.tiles
        )
        return (rows, cols) if regular else None


def open_site(
    paths: Sequence[str | os.PathLike[str]],
    on_error: str = "stop",
    layers: Collection[str] = (),
    bands: str = "same",
    floats: bool = False,
) -> Site:
    """Read the metadata of all tiles, in child processes that HDF5 may crash, and lay the tiles on one grid.

    Where tiles overlap, pixels come from the first tile by file name, whatever the order of `paths`. `layers` names the
    ancillary layers that will be read: the addresses of their chunks are looked up now, too. With `bands` "common",
    tiles of other wavelengths are interpolated to those of the first tile by name. A damaged file is bad, and so is an
    image of floats unless `floats` allows it. With `on_error` "stop" the first bad file by name raises HsiError; with
    "skip" or "mask" bad files are left out with an HsiWarning, and HsiError is raised where no file remains.

    Raises HsiError, with both values, for tiles of different CRS, pixel size, wavelengths, bad-band windows or scale,
    and for grids that do not align.
    """
    if not paths:
        raise HsiError("no tile given; expected the path of at least one")
    names = sorted({os.fspath(p) for p in paths}, key=lambda p: (name_of(p), p))
    files, skipped = _read_all(names, on_error, layers, floats)
    first = files[0]
    _check_georeferenced(files)
    if bands == "common":
        files = [first, *(_on_bands_of_first(first, other) for other in files[1:])]
    for other in files[1:]:
        _check_same(first, other)
    tops = [_whole_pixels(first, f, first.grid.top - f.grid.top, first.grid.dy) for f in files]
    lefts = [_whole_pixels(first, f, f.grid.left - first.grid.left, first.grid.dx) for f in files]
    top, left = min(tops), min(lefts)
    covered: list[Window] = []
    tiles = []
    for file, t, lft in zip(files, tops, lefts, strict=True):
        rows, cols, _ = file.reflectance.shape
        area = Window(0, rows, 0, cols).shifted(t - top, lft - left)
        free = outside(area, covered)
        covered.append(area)
        tiles.append(PlacedTile(file, area.top, area.left, tuple(w.shifted(-area.top, -area.left) for w in free)))
    grid = Grid(
        first.grid.left + left * first.grid.dx,
        first.grid.top - top * first.grid.dy,
        first.grid.dx,
        first.grid.dy,
        first.grid.epsg,
        first.grid.wkt,
    )
    return Site(tuple(tiles), grid, max(w.bottom for w in covered), max(w.right for w in covered), skipped)


def _read_all(
    names: list[str], on_error: str, layers: Collection[str], floats: bool
) -> tuple[list[model.TileFile], tuple[tuple[str, str], ...]]:
    """Return the files in the order of `names`, and the path of each that is left out with the reason."""
    formats.prepare(names)  # once here, so that no child has to
    local = [name for name in names if not is_url(name)]
    remote = [name for name in names if is_url(name)]
    outcomes = dict(
        zip(local, contained_each(_read, [(n, layers, floats) for n in local], SECONDS, _children()), strict=True)
    )
    # threads read remote files: open connections, and what is cached of them, do not survive a fork
    outcomes |= zip(remote, in_parallel(lambda n: _try_read(n, layers, floats), remote, 4 * available()), strict=True)
    files, skipped = [], []
    for name in names:
        outcome = outcomes[name]
        if on_error == "stop" or outcome.error is None:
            files.append(outcome.result())
            continue
        reason = str(outcome.error)
        warnings.warn(f"{reason if name in reason else f'{name}: {reason}'}; left out", HsiWarning, stacklevel=3)
        skipped.append((name, reason.removeprefix(f"{name}: ")))
    if not files:
        raise HsiError(f"none of the {len(names)} tiles can be used; the first: {outcomes[names[0]].error}")
    return files, tuple(skipped)


def _children() -> int:
    return min(CHILDREN, 2 * available())


def _try_read(path: str, layers: Collection[str], floats: bool) -> Outcome[model.TileFile]:
    """Read a file in this process; an HsiError becomes the outcome."""
    try:
        return Outcome(_read(path, layers, floats))
    except HsiError as error:
        return Outcome(error=error)


def _read(path: str, layers: Collection[str], floats: bool) -> model.TileFile:
    """Read the metadata of a tile and the addresses of its chunks; chunks that are read directly need no more of HDF5.

    Where HDF5 has to read every chunk, it reads one now, as a trial.
    """
    try:
        file = formats.read(path, floats=floats)
        for stored in (file.reflectance, *(layer.stored for layer in file.layers if layer.name in layers)):
            stored.prepare()
        file.reflectance.check(file.no_data)
    except HsiError:
        raise
    except Exception as error:  # the errors of h5py on damaged bytes have no common class
        raise HsiError(f"{path}: damaged metadata ({one_line(error)}); download it again") from error
    return file


def _on_bands_of_first(first: model.TileFile, other: model.TileFile) -> model.TileFile:
    """Return the other tile at the wavelengths of the first; it is as it was where these are the same."""
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


def _check_georeferenced(files: Sequence[model.TileFile]) -> None:
    """Raise HsiError for several files of which one does not say where it lies."""
    unplaced = next((file for file in files if not file.grid.north_up), None)
    if unplaced is not None and len(files) > 1:
        raise HsiError(f"{unplaced.path}: does not say where it lies; expected map info or a transform: run it alone")


def _check_same(a: model.TileFile, b: model.TileFile) -> None:
    """Raise HsiError, with both values, for two files that cannot be tiles of one site."""
    for what, in_a, in_b in (
        ("CRS", a.grid.epsg or a.grid.wkt, b.grid.epsg or b.grid.wkt),
        ("pixel size", (a.grid.dx, a.grid.dy), (b.grid.dx, b.grid.dy)),
        ("bands", len(a.wavelength), len(b.wavelength)),
        ("bad-band windows", *((a.windows, b.windows) if _bad(a) != _bad(b) else ((), ()))),
        ("scale", a.scale, b.scale),
        ("values", *("floats" if file.reflectance.dtype.kind == "f" else "whole numbers" for file in (a, b))),
    ):
        if in_a != in_b:
            raise HsiError(f"{a.path} has {what} {in_a}, {b.path} {in_b}; run them separately")
    if not same_bands(a.wavelength, b.wavelength):
        worst = int(np.abs(a.wavelength - b.wavelength).argmax())
        raise HsiError(
            f"band {worst + 1} lies at {a.wavelength[worst]:.4f} nm in {a.path} and at {b.wavelength[worst]:.4f} nm in "
            f"{b.path}; run them separately, or with --bands common"
        )


def _bad(file: model.TileFile) -> list[bool]:
    """Return which bands lie in the bad-band windows of a file.

    Files are compared by these bands, not by the limits of the windows: those of images begin and end at bands.
    """
    bad: list[bool] = inside(file.wavelength, file.windows).tolist()
    return bad


def _whole_pixels(a: model.TileFile, b: model.TileFile, distance: float, size: float) -> int:
    """Return a distance between two grids in pixels of `size`. Raises HsiError where it is no whole number of them."""
    steps = distance / size
    if abs(steps - round(steps)) > 1e-3:
        raise HsiError(f"{b.path} lies {steps:.3f} pixels from {a.path}; expected whole pixels: run them separately")
    return round(steps)
