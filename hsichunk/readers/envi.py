"""Read and write ENVI headers, and find the data file of a header and the header of a data file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsichunk.array_types import Floats
from hsichunk.errors import HsiError

DATA_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
"""the data types of ENVI that are numbers: code -> NumPy's kind and bytes"""
IMAGES = (".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".envi", ".bin", ".tif", ".tiff")
"""suffixes of image data files"""
LIBRARIES = (".sli", ".lib", ".slb")
"""suffixes of spectral library data files"""
# "name = value" on one line, where a value in braces may span lines; a line that begins with ";" is a comment
_ENTRY = re.compile(r"^[ \t]*([^={}\n;][^={}\n]*?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Header:
    """The entries of a header, as text by lower-case name. Methods raise HsiError, which names `path`."""

    path: str
    entries: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """Return an entry without braces; None where it is absent or empty."""
        value = self.entries.get(name, "").strip(" {}\n")
        return value or None

    def number(self, name: str) -> float | None:
        """Return an entry as a number; None where it is absent or empty."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return float(value)
        except ValueError:
            raise HsiError(f"{self.path}: '{name}' is {value[:40]!r}; expected a number") from None

    def count(self, name: str, default: int | None = None) -> int:
        """Return an entry as a whole number from 0. An absent one is `default`, or an error without a default."""
        value = self.number(name)
        if value is None and default is not None:
            return default
        if value is None or value != int(value) or value < 0:
            raise HsiError(f"{self.path}: '{name}' is {self.text(name)}; expected a whole number from 0")
        return int(value)

    def texts(self, name: str) -> list[str] | None:
        """Return the items of a list; None where it is absent or empty."""
        value = self.text(name)
        return None if value is None else [" ".join(part.split()) for part in value.split(",")]

    def numbers(self, name: str, expected: int) -> Floats | None:
        """Return a list of numbers, one a band; None where it is absent. Another length than `expected` is an error."""
        items = self.texts(name)
        if items is None:
            return None
        try:
            values = np.array([float(item) for item in items if item])
        except ValueError as error:
            raise HsiError(
                f"{self.path}: '{name}' holds {error.args[0].rpartition(':')[2]}; expected numbers"
            ) from None
        if len(values) != expected:
            raise HsiError(f"{self.path}: '{name}' has {len(values)} values for {expected} bands; mend the header")
        return values


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read the header at `path`. Raises HsiError where there is no ENVI header."""
    try:
        text = Path(path).read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError as error:
        raise HsiError(f"{path}: cannot be read ({error.strerror})") from error
    if text.lstrip("\ufeff \n")[:4] != "ENVI":
        raise HsiError(f"{path}: is no ENVI header; expected a text file that begins with ENVI")
    return Header(os.fspath(path), {" ".join(name.lower().split()): value for name, value in _ENTRY.findall(text)})


def header_of(path: Path) -> Path | None:
    """Return the header beside a data file name.img: name.img.hdr, else name.hdr; None where there is neither."""
    candidates = (path.with_name(path.name + ".hdr"), path.with_suffix(".hdr"))
    return next((header for header in candidates if header.is_file() and header != path), None)


def data_of(header: Path, suffixes: tuple[str, ...]) -> Path:
    """Return the data file beside a header. Raises HsiError where there is none, and where there are several."""
    stem = header.with_suffix("")
    candidates = (stem, *(stem.with_name(stem.name + suffix) for suffix in suffixes))
    present = [path for path in candidates if path.is_file()]
    if len(present) != 1:
        names = ", ".join(path.name for path in present) or f"none of {', '.join(path.name for path in candidates)}"
        raise HsiError(f"{header}: {names} beside it; expected one data file: give its name instead")
    return present[0]


def unit_factor(units: str | None) -> float | None:
    """Return the factor from a unit of length to nm; None for no unit and for an unknown one."""
    name = (units or "").strip().lower().rstrip(".")
    if name in ("nm", "nanometer", "nanometers", "nanometre", "nanometres"):
        return 1.0
    micro = ("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres")
    return 1000.0 if name in micro else None


def wavelengths_nm(values: Floats, units: str | None, where: str) -> tuple[Floats, float]:
    """Return wavelengths (n,) in nm, and the factor from their unit to nm.

    The unit is `units`; where it is None, empty or "Unknown", values are in micrometres if all are below 50, else in
    nm. Raises HsiError, which begins with `where`, for a unit that the values contradict, for an unknown unit, and for
    values that are missing, not finite or not above 0.
    """
    factor = unit_factor(units)
    if not len(values) or not np.isfinite(values).all() or values.min() <= 0:
        raise HsiError(f"{where}: wavelengths are missing, not finite or not above 0; expected one in nm a band")
    looks_micro = values.max() < 50
    if factor is None:
        if units is not None and units.strip().lower() not in ("", "unknown"):
            raise HsiError(f"{where}: wavelengths in {units!r}; expected nm or micrometres")
        factor = 1000.0 if looks_micro else 1.0
    elif looks_micro != (factor == 1000.0):
        named, other = ("micrometres", "nm") if factor == 1000.0 else ("nm", "micrometres")
        raise HsiError(
            f"{where}: wavelengths of {values.min():g} to {values.max():g} are said to be {named} and look like "
            f"{other}; mend the unit"
        )
    return values * factor, factor


def header(entries: Mapping[str, str | int | Sequence[str]]) -> str:
    """Return the text of a header; values that are not text or a number are written as lists in braces."""
    lines = ["ENVI"]
    for name, value in entries.items():
        if not isinstance(value, str | int):
            value = f"{{{', '.join(_plain(item) for item in value)}}}"
        lines.append(f"{name} = {value}")
    return "\n".join(lines) + "\n"


def _plain(item: str) -> str:
    """Return an item of a list without commas and braces, which would end it, and with single spaces."""
    return re.sub(r"[,{}\s]+", " ", item).strip()
