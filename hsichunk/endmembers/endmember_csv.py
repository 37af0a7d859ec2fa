"""`endmembers.csv` of a run: written and read back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hsichunk.atomic_files import replacing
from hsichunk.endmembers.library_csv import read_csv
from hsichunk.errors import HsiError


def write_endmembers(
    path: Path,
    wavelength: NDArray[np.float64],
    spectra: NDArray[np.float64],
    places: Sequence[tuple[str, float, float]],
) -> None:
    """CSV, 17 digits: a row a band, a column an endmember, where they came from in the rows above.

    Raises HsiError where `path` cannot be written.
    """
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["wavelength_nm", *(name for name, *_ in places)])
        lines.writerow(["x", *(repr(x) for _, x, _ in places)])
        lines.writerow(["y", *(repr(y) for _, _, y in places)])
        for nm, values in zip(wavelength.tolist(), spectra.T.tolist(), strict=True):
            lines.writerow([repr(nm), *(f"{v:.17g}" for v in values)])


@dataclass(frozen=True, eq=False)
class Endmembers:
    """endmembers.csv."""

    names: tuple[str, ...]
    x: NDArray[np.float64]
    """easting of the pixel of each; NaN where it is none"""
    y: NDArray[np.float64]
    wavelength: NDArray[np.float64]
    """nm"""
    spectra: NDArray[np.float64]
    """(endmember, wavelength) reflectance"""


def read_endmembers(path: Path) -> Endmembers:
    """Raises HsiError where the file is missing or is not as a run writes it: names, x, y, a row a wavelength."""
    try:
        found = read_csv(path)
    except OSError as error:
        raise HsiError(f"{path}: cannot be read ({error.strerror}); run it again") from error
    except HsiError as error:
        raise HsiError(f"{error}: run it again") from error
    if found.x is None or found.y is None or found.wavelength is None or found.names is None:
        raise HsiError(f"{path}: has no rows x and y below its names; expected what a run writes: run it again")
    values = np.ascontiguousarray(found.values)
    return Endmembers(tuple(found.names), found.x, found.y, found.wavelength, values)
