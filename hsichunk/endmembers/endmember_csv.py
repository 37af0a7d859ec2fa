"""Write and read `endmembers.csv` of a run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from hsichunk.array_types import Floats
from hsichunk.atomic_files import replacing
from hsichunk.endmembers.library_csv import read_csv
from hsichunk.errors import HsiError

Origin: TypeAlias = tuple[str, float, float]
"""name of an endmember, and the x and y of its source pixel; NaN where it has none"""


def write_endmembers(path: Path, wavelength: Floats, spectra: Floats, origins: Sequence[Origin]) -> None:
    """Write endmembers as CSV with 17 digits.

    `wavelength` (L,) is in nm, `spectra` (k, L) in reflectance. The file has a column for each endmember: its name, x
    and y in the first three rows, then a row for each band. Raises HsiError where `path` cannot be written.
    """
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["wavelength_nm", *(name for name, *_ in origins)])
        lines.writerow(["x", *(repr(x) for _, x, _ in origins)])
        lines.writerow(["y", *(repr(y) for _, _, y in origins)])
        for nm, values in zip(wavelength.tolist(), spectra.T.tolist(), strict=True):
            lines.writerow([repr(nm), *(f"{v:.17g}" for v in values)])


@dataclass(frozen=True, eq=False)
class Endmembers:
    """The content of endmembers.csv."""

    names: tuple[str, ...]
    x: Floats
    """(k,) easting of the source pixel of each endmember; NaN where it has none"""
    y: Floats
    """(k,) northing of the source pixel of each endmember; NaN where it has none"""
    wavelength: Floats
    """(L,) nm"""
    spectra: Floats
    """(k, L) reflectance"""


def read_endmembers(path: Path) -> Endmembers:
    """Read the endmembers of a run. Raises HsiError where the file is missing or is not as a run writes it."""
    try:
        table = read_csv(path)
    except OSError as error:
        raise HsiError(f"{path}: cannot be read ({error.strerror}); run it again") from error
    except HsiError as error:
        raise HsiError(f"{error}: run it again") from error
    if table.x is None or table.y is None or table.wavelength is None or table.names is None:
        raise HsiError(f"{path}: has no rows x and y below its names; expected what a run writes: run it again")
    values = np.ascontiguousarray(table.values)
    return Endmembers(tuple(table.names), table.x, table.y, table.wavelength, values)
