"""Read everything that the viewer shows of one pixel: its spectrum, mixture, abundances and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsichunk import schema
from hsichunk.array_types import Floats, Positions
from hsichunk.errors import HsiError
from hsichunk.readers.wavelengths import bands_at
from hsichunk.results.finished_run import FinishedRun
from hsichunk.results.quicklook import MapTile


@dataclass(frozen=True, eq=False)
class Pixel:
    """The spectrum, the abundances and the scores of one pixel."""

    row: int
    col: int
    wavelength: Floats
    """nm"""
    spectrum: Floats | None
    """reflectance as in the tile; None where no tile can be read"""
    mixture: Floats
    """reflectance of the mixture of endmembers by the stored abundances; NaN without data"""
    abundance: Floats
    """(k,)"""
    distances: dict[str, Floats]
    """scores (k,) of each metric"""
    rmse: float
    why: str
    """why there is no spectrum"""

    @property
    def residual(self) -> Floats | None:
        """The spectrum less the mixture; None without a spectrum."""
        return None if self.spectrum is None else self.spectrum - self.mixture


def read_pixel(results: FinishedRun, tiles: Sequence[MapTile], row: int, col: int) -> Pixel:
    """Return a pixel of the maps, with its spectrum from the first of the tiles that holds it."""
    products = results.products.isel({schema.Y: row, schema.X: col})
    abundance = products[schema.ABUNDANCE].values.astype(np.float64)
    wavelength = results.endmembers.wavelength
    tile = next((tile for tile in tiles if all(map(len, tile.inside(*_as_arrays(row, col))))), None)
    spectrum, why = None, "none of the tiles that can be read holds this pixel"
    if tile is not None:
        try:
            spectrum, why = _spectrum(tile, row, col, wavelength), ""
        except HsiError as error:
            why = str(error)
    return Pixel(
        row=row,
        col=col,
        wavelength=wavelength,
        spectrum=spectrum,
        mixture=abundance @ _endmembers_of(results, tile),
        abundance=abundance,
        distances={metric: products[metric].values.astype(np.float64) for metric in results.metrics},
        rmse=float(products[schema.RMSE]),
        why=why,
    )


def _endmembers_of(results: FinishedRun, tile: MapTile | None) -> Floats:
    """Return the spectra (k, L) by which the pixels of a tile were unmixed; with --per-tile, those of the tile.

    They are NaN where it is not known which they are.
    """
    em, k = results.endmembers, len(results.names)
    if len(em.names) == k:
        return em.spectra
    stem = Path(tile.file.path).stem if tile else None
    own = [i for i, name in enumerate(em.names) if name.rsplit(" ", 1)[0] == stem]
    return em.spectra[own] if len(own) == k else np.full((k, len(em.wavelength)), np.nan)


def _as_arrays(row: int, col: int) -> tuple[Positions, Positions]:
    return np.array([row], np.intp), np.array([col], np.intp)


def _spectrum(tile: MapTile, row: int, col: int, wavelength: Floats) -> Floats:
    """Return the reflectance of a pixel in the kept bands, interpolated where the tile has others; NaN without data.

    Raises HsiError where the pixel cannot be read.
    """
    file = tile.file
    rows, cols = _as_arrays(row - tile.top, col - tile.left)
    stored = file.reflectance.read(rows, cols, np.arange(len(file.wavelength)))[0, 0]
    values = np.where(stored == file.no_data, np.nan, stored / file.scale)
    if (bands := bands_at(wavelength, file.wavelength)) is not None:
        return np.asarray(values[bands], np.float64)
    return np.interp(wavelength, file.wavelength, values)
