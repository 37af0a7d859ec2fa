"""The kinds of values that options take: how each is read, from a command line or a file, and how it is written."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from hsichunk import schema
from hsichunk.errors import OptionError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Kind:
    """A kind of value."""

    read: Callable[[str, Any], Any]
    """makes the value of the option of that name, from words or plain values; raises OptionError"""
    typed: Any
    """what the command line hands to `read`: bool, str or list[str]"""
    metavar: str | None
    """what stands for the value in the help"""
    write: Callable[[Any], str] = str
    """the value as a word of the command line, which `read` takes"""
    repeated: bool = False
    """a word a value, each after the name of the option"""


def wrong(name: str, value: Any, expected: str) -> OptionError:
    """One line: the option, its value and what is expected."""
    shown = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return OptionError(f"{name.replace('_', '-')} is {shown!r}; expected {expected}")


def either(names: Iterable[str], word: str = "or") -> str:
    """Names in a sentence: a, b or c."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def dashed(names: Iterable[str]) -> list[str]:
    """Names as the command line writes them."""
    return [name.replace("_", "-") for name in names]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return int(value)
    raise wrong(name, value, "a whole number")


def _number(name: str, value: Any, expected: str = "a number") -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)
    raise wrong(name, value, expected)


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, value, "true or false")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise wrong(name, value, "a path")
    return os.fspath(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    return tuple(_text(name, item) for item in _items(value))


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(name, value, "a name")
    return value.strip().lower().replace("-", "_")


def _metrics(name: str, value: Any) -> tuple[str, ...]:
    """Each once, in the order in which they are stored."""
    words = [_word(name, part) for part in _parts(value)]
    order = [*schema.METRICS, *words]
    return tuple(sorted(set(words), key=order.index))


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Numbers as one, a list, or text with commas."""
    out: list[float] = []
    for item in _items(value):
        try:
            out += [_number(name, part) for part in _parts(item)]
        except OptionError:
            raise wrong(name, item, "numbers, as 0.1 or 0.8,0.3,0.03") from None
    return tuple(out)


def _ranges(name: str, value: Any) -> tuple[tuple[float, float], ...]:
    """Pairs of numbers, or text."""
    expected = "ranges in nm, as 400:1300,1500:1700 or [[400, 1300], [1500, 1700]]"
    out = []
    for part in _parts(value):
        ends = part.split(":") if isinstance(part, str) else part
        if not isinstance(ends, (list, tuple)) or len(ends) != 2:
            raise wrong(name, part, expected)
        out.append((_number(name, ends[0], expected), _number(name, ends[1], expected)))
    return tuple(out)


def _size(name: str, value: Any) -> int:
    """Bytes of 2GB, 512 MB, 1.5GiB or a whole number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", str(value).strip().lower())
    if isinstance(value, bool) or not found or found[2] not in _UNITS:
        raise wrong(name, value, "bytes, as 2GB or 512MB")
    return int(float(found[1]) * _UNITS[found[2]])


def _size_text(size: int) -> str:
    unit = next(unit for unit in ("t", "g", "m", "k", "") if size % _UNITS[unit] == 0)
    return f"{size // _UNITS[unit]}{unit.upper()}B"


def _items(value: Any) -> list[Any]:
    """What may be one value or a list, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _parts(value: Any) -> list[Any]:
    """The same; text is cut at its commas."""
    return [part for item in _items(value) for part in (item.split(",") if isinstance(item, str) else [item])]


def _with_commas(values: Iterable[Any]) -> str:
    return ",".join(map(str, values))


def _ranges_text(ranges: Iterable[tuple[float, float]]) -> str:
    return ",".join(f"{low}:{high}" for low, high in ranges)


WHOLE: Final = Kind(_whole, str, "N")
NUMBER: Final = Kind(_number, str, "X")
SWITCH: Final = Kind(_switch, bool, None)
SIZE: Final = Kind(_size, str, "SIZE", _size_text)
TEXT: Final = Kind(_text, str, "FILE")
TEXTS: Final = Kind(_texts, list[str], "FILE", repeated=True)
NAME: Final = Kind(_word, str, "NAME")
SCORES: Final = Kind(_metrics, list[str], "NAMES", _with_commas)
NUMBERS: Final = Kind(numbers, list[str], "X[,X...]", _with_commas)
RANGES: Final = Kind(_ranges, list[str], "RANGES", _ranges_text)
