"""Read tables of spectra in text files: a column for each spectrum, a row for each, or endmembers.csv of a run."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from hsichunk.array_types import Floats
from hsichunk.endmembers.library_spectra import LibrarySpectra
from hsichunk.errors import HsiError

WAVE = re.compile(r"wave|lambda|^wl|^(nm|um|\u00b5m|\u03bcm)$", re.IGNORECASE)
WIDTH = re.compile(r"fwhm|bandwidth", re.IGNORECASE)
COUNTER = re.compile(r"^(band|index|channel|number|no\.?|#)?$", re.IGNORECASE)
UNIT = re.compile(r"(?:^|[^a-z])(nm|nanomet\w*|um|\u00b5m|\u03bcm|micron\w*|micromet\w*)(?:$|[^a-z])", re.IGNORECASE)


def read_csv(path: Path) -> LibrarySpectra:
    """Read the spectra of a file of comma-, semicolon-, tab- or space-separated values, unchanged.

    Raises HsiError for a file that is no table of spectra, OSError for one that cannot be read.
    """
    rows = _rows(path)
    head, body = rows[0], rows[1:]
    if len(body) > 2 and [row[0].lower() for row in body[:2]] == ["x", "y"]:  # endmembers.csv of a run
        table = _table(path, [r[1:] for r in body])
        wave = np.array(_column(path, body[2:], 0))
        return LibrarySpectra(str(path), table[2:].T, wave, head[1:], "nm", scale=1.0, x=table[0], y=table[1])
    if all(_is_number(cell) for cell in head):
        table = _table(path, rows)
        if _monotone(table[:, 0]):
            return LibrarySpectra(str(path), table[:, 1:].T, table[:, 0])
        return LibrarySpectra(str(path), table[1:], table[0])
    if not body:
        raise HsiError(f"{path}: one row; expected wavelengths and spectra, in columns or in rows")
    return _by_rows(path, head, body) if _in_rows(head, body) else _by_columns(path, head, body)


def _rows(path: Path) -> list[list[str]]:
    """Return the cells of the lines that are neither blank nor comments, all rows equally long."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # as some spreadsheets write
    if "\0" in text:
        raise HsiError(f"{path}: is no text; expected comma-separated values")
    lines = [line for line in text.splitlines() if line.strip(" \t,;") and not line.lstrip().startswith("#")]
    if not lines:
        raise HsiError(f"{path}: is empty; expected wavelengths and spectra")
    delimiter = max(",;\t", key=lines[0].count)
    cells = csv.reader(lines, delimiter=delimiter) if delimiter in lines[0] else (line.split() for line in lines)
    rows = [[cell.strip() for cell in row] for row in cells]
    width = max(len(rows[0]), 1)
    while width > 1 and all(not cell for row in rows for cell in row[width - 1 :]):  # empty columns at the end
        width -= 1
    for number, row in enumerate(rows, start=1):
        if len(row) < width or any(row[width:]):
            raise HsiError(f"{path}: row {number} has {len(row)} cells, the first {width}; expected equal rows")
    return [row[:width] for row in rows]


def _in_rows(head: list[str], body: list[list[str]]) -> bool:
    """Return whether the header holds the wavelengths and each row is a spectrum."""
    numbers = [float(cell) for cell in head if _is_number(cell)]
    if len(numbers) < 2:
        return False
    if not all(_is_number(row[0]) for row in body):
        return True
    # Rows and columns are both numbered: the name of the first column decides, else whether the header looks like nm
    # or micrometres.
    return not WAVE.search(head[0]) and (min(numbers) >= 200 or 0.2 <= min(numbers) <= max(numbers) <= 20)


def _by_rows(path: Path, head: list[str], body: list[list[str]]) -> LibrarySpectra:
    """Return the spectra of a table with wavelengths in its header and a spectrum in each row."""
    bands = [i for i, cell in enumerate(head) if _is_number(cell)]
    labels = [i for i in range(len(head)) if i not in bands]
    name_columns = [i for i in labels if re.search(r"name|spectr|class|id$", head[i], re.IGNORECASE)]
    names = [row[(name_columns or labels)[0]] for row in body] if labels else None
    wave = np.array([float(head[i]) for i in bands])
    return LibrarySpectra(str(path), _table(path, [[row[i] for i in bands] for row in body]), wave, names)


def _by_columns(path: Path, head: list[str], body: list[list[str]]) -> LibrarySpectra:
    """Return the spectra of a table with a column of wavelengths and a spectrum in each other column."""
    wave = next((i for i, cell in enumerate(head) if WAVE.search(cell)), 0)
    width = next((i for i, cell in enumerate(head) if WIDTH.search(cell)), None)
    spectra = [i for i, cell in enumerate(head) if i not in (wave, width) and not (i < wave and COUNTER.match(cell))]
    if not spectra:
        raise HsiError(f"{path}: wavelengths and no spectra; expected a column a spectrum")
    unit = UNIT.search(head[wave].replace("_", " "))
    values = _table(path, [[row[i] for i in spectra] for row in body]).T
    fwhm = None if width is None else np.array(_column(path, body, width))
    wavelength, names = np.array(_column(path, body, wave)), [head[i] for i in spectra]
    return LibrarySpectra(str(path), values, wavelength, names, unit[1] if unit else None, fwhm)


def _column(path: Path, body: list[list[str]], column: int) -> list[float]:
    """Return the numbers of a column."""
    return [float(v) for v in _table(path, [[row[column]] for row in body])[:, 0]]


def _table(path: Path, rows: list[list[str]]) -> Floats:
    """Return the numbers (rows, columns) of cells, NaN for missing ones. Raises HsiError for other words."""
    out = np.empty((len(rows), len(rows[0])))
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            try:
                out[number, column] = float(cell) if cell.lower() not in ("", "na", "n/a", "null") else np.nan
            except ValueError:
                raise HsiError(f"{path}: {cell[:40]!r} among the values; expected numbers") from None
    return out


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _monotone(values: Floats) -> bool:
    """Return whether values are positive and only grow, or only fall, as wavelengths do."""
    steps = np.diff(values)
    return bool(len(values) > 1 and values.min() > 0 and ((steps > 0).all() or (steps < 0).all()))
