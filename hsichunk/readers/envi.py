"""ENVI headers: read, and what spectral libraries and images take from them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hsichunk.errors import HsiError

DATA_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
IMAGES = (".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".envi", ".bin", ".tif", ".tiff")
LIBRARIES = (".sli", ".lib", ".slb")
_ENTRY = re.compile(r"^[ \t]*([^={}\n;][^={}\n]*?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Header:
    """The entries of a header, by lower-case name; `path` says whose they are in errors."""

    path: str
    entries: Mapping[str, str]

    def text(self, name: str) -> str | None:
        value = self.entries.get(name, "").strip(" {}\n")
        return value or None

    def number(self, name: str) -> float | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return float(value)
        except ValueError:
            raise HsiError(f"{self.path}: '{name}' is {value[:40]!r}; expected a number") from None

    def count(self, name: str, default: int | None = None) -> int:
        value = self.number(name)
        if value is None and default is not None:
            return default
        if value is None or value != int(value) or value < 0:
            raise HsiError(f"{self.path}: '{name}' is {self.text(name)}; expected a whole number from 0")
        return int(value)

    def texts(self, name: str) -> list[str] | None:
        value = self.text(name)
        return None if value is None else [" ".join(part.split()) for part in value.split(",")]

    def numbers(self, name: str, expected: int) -> NDArray[np.float64] | None:
        """A list of numbers, one a band; None where the header has none. Raises HsiError for another count of them."""
        parts = self.texts(name)
        if parts is None:
            return None
        try:
            values = np.array([float(part) for part in parts if part])
        except ValueError as error:
            raise HsiError(
                f"{self.path}: '{name}' holds {error.args[0].rpartition(':')[2]}; expected numbers"
            ) from None
        if len(values) != expected:
            raise HsiError(f"{self.path}: '{name}' has {len(values)} values for {expected} bands; mend the header")
        return values


def read_header(path: str | os.PathLike[str]) -> Header:
    """Raises HsiError where there is no ENVI header."""
    try:
        words = Path(path).read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError as error:
        raise HsiError(f"{path}: cannot be read ({error.strerror})") from error
    if words.lstrip("\ufeff \n")[:4] != "ENVI":
        raise HsiError(f"{path}: is no ENVI header; expected a text file that begins with ENVI")
    return Header(os.fspath(path), {" ".join(k.lower().split()): v for k, v in _ENTRY.findall(words)})


def header_of(path: Path) -> Path | None:
    """The header beside a data file: name.hdr or name.img.hdr; None where there is none."""
    tried = (path.with_name(path.name + ".hdr"), path.with_suffix(".hdr"))
    return next((one for one in tried if one.is_file() and one != path), None)


def data_of(header: Path, suffixes: tuple[str, ...]) -> Path:
    """The data file beside a header. Raises HsiError where there is none, and where several could be meant."""
    stem = header.with_suffix("")
    tried = (stem, *(stem.with_name(stem.name + suffix) for suffix in suffixes))
    found = [one for one in tried if one.is_file()]
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or f"none of {', '.join(one.name for one in tried)}"
        raise HsiError(f"{header}: {names} beside it; expected one data file: give its name instead")
    return found[0]


def unit_factor(units: str | None) -> float | None:
    """What brings a unit of length to nm; None for a unit that is not named or not known."""
    name = (units or "").strip().lower().rstrip(".")
    if name in ("nm", "nanometer", "nanometers", "nanometre", "nanometres"):
        return 1.0
    micro = ("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres")
    return 1000.0 if name in micro else None


def wavelengths_nm(values: NDArray[np.float64], units: str | None, where: str) -> tuple[NDArray[np.float64], float]:
    """Wavelengths in nm and the factor that made them so.

    The unit is the one that is named; a file that names none, or "Unknown", has micrometres when all values are below
    50. Raises HsiError for a unit that the values belie, and for values that are no wavelengths.
    """
    factor = unit_factor(units)
    if not len(values) or not np.isfinite(values).all() or values.min() <= 0:
        raise HsiError(f"{where}: wavelengths are missing, not finite or not above 0; expected one in nm a band")
    micro = values.max() < 50
    if factor is None:
        if units is not None and units.strip().lower() not in ("", "unknown"):
            raise HsiError(f"{where}: wavelengths in {units!r}; expected nm or micrometres")
        factor = 1000.0 if micro else 1.0
    elif micro != (factor == 1000.0):
        named, other = ("micrometres", "nm") if factor == 1000.0 else ("nm", "micrometres")
        raise HsiError(
            f"{where}: wavelengths of {values.min():g} to {values.max():g} are said to be {named} and look like "
            f"{other}; mend the unit"
        )
    return values * factor, factor


def header(entries: Mapping[str, str | int | Sequence[str]]) -> str:
    """The text of a header: lists in braces, without what would end one of their items."""
    lines = ["ENVI"]
    for name, value in entries.items():
        if not isinstance(value, str | int):
            value = f"{{{', '.join(_plain(item) for item in value)}}}"
        lines.append(f"{name} = {value}")
    return "\n".join(lines) + "\n"


def _plain(item: str) -> str:
    return re.sub(r"[,{}\s]+", " ", item).strip()
