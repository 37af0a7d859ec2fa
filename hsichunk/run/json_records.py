"""Frozen dataclasses written as JSON and read back, each value checked against the type of its field.

A field is a number, text, truth value, record, tuple, list or mapping of these, or Any. Every field must be there and
no other name may be, but for fields with the metadata ABSENT, which are left out where they are None. A trailing
underscore, of a name that is a keyword of Python, is not part of the name in JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")
ABSENT: Final = {"absent": True}
"""metadata of a field whose default is None: it is left out of JSON, and may be missing there, where it is None"""
WORDS: Final = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "names with values"}


class RecordError(ValueError):
    """A value that does not fit its field; the message names both."""


def may_be_absent(one: Field[Any]) -> bool:
    """Whether the field has the metadata ABSENT."""
    return "absent" in one.metadata


def name_in_json(one: Field[Any]) -> str:
    """The field's name in JSON."""
    return one.name.removesuffix("_")


@cache
def kinds(record: type) -> dict[str, Any]:
    """The type of each field of a record where it is in JSON."""
    types = get_type_hints(record)
    return {one.name: _there(types[one.name]) if may_be_absent(one) else types[one.name] for one in fields(record)}


def _there(kind: Any) -> Any:
    """X of X | None."""
    [other] = (part for part in get_args(kind) if part is not NoneType)
    return other


def as_json(value: Any) -> Any:
    """A record as mappings, lists, numbers, text and None."""
    if is_dataclass(value):
        return {name: as_json(part) for name, part in _written(value)}
    if isinstance(value, dict):
        return {name: as_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    return value


def _written(record: Any) -> Iterator[tuple[str, Any]]:
    for one in fields(record):
        value = getattr(record, one.name)
        if value is not None or not may_be_absent(one):
            yield name_in_json(one), value


def from_json(record: type[Record], content: Any, where: str = "") -> Record:
    """The record that `as_json` has given as `content`. Raises RecordError, which names the value after `where`."""
    return cast(Record, _record(record, content, where))


def _record(record: Any, content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise _unfit(content, where, WORDS[dict])
    before = f"{where}." if where else ""
    known = {name_in_json(one): one for one in fields(record)}
    if unknown := [name for name in content if name not in known]:
        raise RecordError(f"{before}{unknown[0]} is unknown; expected {', '.join(known)}")
    values = {}
    for name, one in known.items():
        if name in content:
            values[one.name] = _read(kinds(record)[one.name], content[name], f"{before}{name}")
        elif not may_be_absent(one):
            raise RecordError(f"{before}{name} is missing")
    return record(**values)


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as a field of type `kind` holds it."""
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _record(kind, value, where)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _read(_there(kind), value, where)
    if origin in (list, tuple):
        return origin(_items(parts, value, where))
    if origin is dict:
        if not isinstance(value, dict):
            raise _unfit(value, where, WORDS[dict])
        return {name: _read(parts[1], part, f"{where}.{name}") for name, part in value.items()}
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise _unfit(value, where, WORDS[kind])


def _items(kinds_of_items: tuple[Any, ...], value: Any, where: str) -> Iterator[Any]:
    if not isinstance(value, (list, tuple)):
        raise _unfit(value, where, "a list")
    if len(kinds_of_items) == 1 or kinds_of_items[1] is Ellipsis:
        kinds_of_items = kinds_of_items[:1] * len(value)
    if len(value) != len(kinds_of_items):
        raise _unfit(value, where, f"{len(kinds_of_items)} values")
    for number, (kind, item) in enumerate(zip(kinds_of_items, value, strict=True)):
        yield _read(kind, item, f"{where}[{number}]")


def _unfit(value: Any, where: str, expected: str) -> RecordError:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return RecordError(f"{where or 'the whole'} is {shown}; expected {expected}")
