"""The kinds of values that options take: how each is read, from a command line or a file, and how it is written."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

from hsichunk import schema
from hsichunk.errors import OptionError

T = TypeVar("T")
RawValue: TypeAlias = "bool | int | float | str | os.PathLike[str] | Sequence[RawValue] | Mapping[str, RawValue] | None"
"""what may stand for an option: words of the command line, plain values of a file, or keywords of Python"""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of value; T is the type of the value."""

    read: Callable[[str, RawValue], T]
    """makes the value of the option of that name; raises OptionError"""
    typed: type[bool] | type[str] | type[list[str]]
    """what the command line hands to `read`"""
    metavar: str | None
    """what stands for the value in the help"""
    write: Callable[[T], str] = str
    """the value as one word of the command line, which `read` takes"""
    parts: Callable[[T], Sequence[str]] | None = None
    """the words of a value that is written as several, each after the name of the option"""


def wrong(name: str, value: RawValue, expected: str) -> OptionError:
    """Return the error of a value that an option cannot have: its name, the value and what is expected, on one line."""
    shown = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return OptionError(f"{name.replace('_', '-')} is {shown!r}; expected {expected}")


def either(names: Iterable[str], word: str = "or") -> str:
    """Return names as in a sentence: a, b or c."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def dashed(names: Iterable[str]) -> list[str]:
    """Return names as the command line writes them."""
    return [name.replace("_", "-") for name in names]


def _whole(name: str, value: RawValue) -> int:
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return int(value)
    raise wrong(name, value, "a whole number")


def _number(name: str, value: RawValue, expected: str = "a number") -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)
    raise wrong(name, value, expected)


def _switch(name: str, value: RawValue) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, value, "true or false")
    return value


def _text(name: str, value: RawValue) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise wrong(name, value, "a path")
    return os.fspath(value)


def _texts(name: str, value: RawValue) -> tuple[str, ...]:
    return tuple(_text(name, item) for item in _items(value))


def _word(name: str, value: RawValue) -> str:
    if not isinstance(value, str):
        raise wrong(name, value, "a name")
    return value.strip().lower().replace("-", "_")


def _metrics(name: str, value: RawValue) -> tuple[str, ...]:
    """Return each metric once, in the order in which scores are stored."""
    words = [_word(name, part) for part in _comma_parts(value)]
    order = [*schema.METRICS, *words]
    return tuple(sorted(set(words), key=order.index))


def numbers(name: str, value: RawValue) -> tuple[float, ...]:
    """Return the numbers in one number, in a list, or in text with commas. Raises OptionError for anything else."""
    values: list[float] = []
    for item in _items(value):
        try:
            values += [_number(name, part) for part in _comma_parts(item)]
        except OptionError:
            raise wrong(name, item, "numbers, as 0.1 or 0.8,0.3,0.03") from None
    return tuple(values)


def _ranges(name: str, value: RawValue) -> tuple[tuple[float, float], ...]:
    """Return pairs of numbers from lists of two, or from text as 400:1300,1500:1700."""
    expected = "ranges in nm, as 400:1300,1500:1700 or [[400, 1300], [1500, 1700]]"
    ranges = []
    for part in _comma_parts(value):
        ends = part.split(":") if isinstance(part, str) else part
        if not isinstance(ends, (list, tuple)) or len(ends) != 2:
            raise wrong(name, part, expected)
        ranges.append((_number(name, ends[0], expected), _number(name, ends[1], expected)))
    return tuple(ranges)


def _size(name: str, value: RawValue) -> int:
    """Return the bytes of 2GB, 512 MB, 1.5GiB or a whole number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", str(value).strip().lower())
    if isinstance(value, bool) or not match or match[2] not in _UNITS:
        raise wrong(name, value, "bytes, as 2GB or 512MB")
    return int(float(match[1]) * _UNITS[match[2]])


def _size_text(size: int) -> str:
    unit = next(unit for unit in ("t", "g", "m", "k", "") if size % _UNITS[unit] == 0)
    return f"{size // _UNITS[unit]}{unit.upper()}B"


def _items(value: RawValue) -> Sequence[RawValue]:
    """Return the items of a list, or what is no list as its only item."""
    return value if isinstance(value, (list, tuple)) else [value]


def _comma_parts(value: RawValue) -> Iterator[RawValue]:
    """Yield the items of a list, or what is no list; text is split at its commas."""
    for item in _items(value):
        yield from item.split(",") if isinstance(item, str) else [item]


def _with_commas(values: Iterable[str | float]) -> str:
    return ",".join(map(str, values))


def _ranges_text(ranges: Iterable[tuple[float, float]]) -> str:
    return ",".join(f"{low}:{high}" for low, high in ranges)


WHOLE: Final = Kind(_whole, str, "N")
NUMBER: Final = Kind(_number, str, "X")
SWITCH: Final = Kind(_switch, bool, None)
SIZE: Final = Kind(_size, str, "SIZE", _size_text)
TEXT: Final = Kind(_text, str, "FILE")
TEXTS: Final = Kind(_texts, list[str], "FILE", parts=list)
NAME: Final = Kind(_word, str, "NAME")
SCORES: Final = Kind(_metrics, list[str], "NAMES", _with_commas)
NUMBERS: Final = Kind(numbers, list[str], "X[,X...]", _with_commas)
RANGES: Final = Kind(_ranges, list[str], "RANGES", _ranges_text)
