"""Write frozen dataclasses as JSON and read them back, each value checked against the type of its field.

A field holds a number, text, a truth value, a record, or a tuple, list or mapping of these. Values of the type `Json`
are not checked. Every field must be there and no other name may be, but for fields with the metadata ABSENT, which are
left out where they are None. A trailing underscore, of a name that is a keyword of Python, is not part of the name in
JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from functools import cache
from types import GenericAlias, NoneType, UnionType
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from hsichunk.atomic_files import Json

Record = TypeVar("Record", bound="DataclassInstance")
FieldType: TypeAlias = type | GenericAlias | UnionType
Value: TypeAlias = "bool | int | float | str | DataclassInstance | Sequence[Value] | Mapping[str, Value] | None"
"""what a field may hold"""
UNCHECKED: Final = object
"""stands for `Json` in the types of fields"""
ABSENT: Final = {"absent": True}
"""metadata of a field whose default is None: it is left out of JSON, and may be missing there, where it is None"""
EXPECTED: Final[dict[FieldType, str]] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "names with values",
}


class RecordError(ValueError):
    """A value that does not fit its field; the message names both."""


def may_be_absent(field: Field[Value]) -> bool:
    """Return whether the field has the metadata ABSENT."""
    return "absent" in field.metadata


def name_in_json(field: Field[Value]) -> str:
    """Return the field's name in JSON."""
    return field.name.removesuffix("_")


@cache
def field_types(record: type[DataclassInstance]) -> dict[str, FieldType]:
    """Return the type of each field of a record; of a field that may be absent, the type of a value that is there."""
    types = get_type_hints(record, localns={"Json": UNCHECKED})
    return {
        field.name: _not_none(types[field.name]) if may_be_absent(field) else types[field.name]
        for field in fields(record)
    }


def _not_none(optional: FieldType) -> FieldType:
    """Return X of X | None."""
    parts: tuple[FieldType, ...] = get_args(optional)
    [other] = (part for part in parts if part is not NoneType)
    return other


def as_json(record: DataclassInstance) -> dict[str, Json]:
    """Return a record as mappings, lists, numbers, text and None."""
    content = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if value is not None or not may_be_absent(field):
            content[name_in_json(field)] = _plain(value)
    return content


def _plain(value: Value) -> Json:
    """Return what a field holds as JSON has it."""
    if isinstance(value, (str, float, int, NoneType)):  # bool is an int
        return value
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return as_json(value)


def from_json(record: type[Record], content: Json, where: str = "") -> Record:
    """Return the record that `as_json` gives as `content`. Raises RecordError, which names the value after `where`."""
    if not isinstance(content, dict):
        raise _unfit(content, where, EXPECTED[dict])
    prefix = f"{where}." if where else ""
    known = {name_in_json(field): field for field in fields(record)}
    if unknown := [name for name in content if name not in known]:
        raise RecordError(f"{prefix}{unknown[0]} is unknown; expected {', '.join(known)}")
    values = {}
    for name, field in known.items():
        if name in content:
            values[field.name] = _read(field_types(record)[field.name], content[name], f"{prefix}{name}")
        elif not may_be_absent(field):
            raise RecordError(f"{prefix}{name} is missing")
    make: Callable[..., Record] = record
    return make(**values)


def _read(expected: FieldType, value: Json, where: str) -> Value:
    """Return `value` as a field of the type `expected` holds it."""
    if expected is UNCHECKED:
        return value
    if isinstance(expected, type) and is_dataclass(expected):
        return from_json(expected, value, where)
    origin, parts = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        return None if value is None else _read(_not_none(expected), value, where)
    if origin is list:
        return list(_items(expected, value, where))
    if origin is tuple:
        return tuple(_items(expected, value, where))
    if origin is dict:
        if not isinstance(value, dict):
            raise _unfit(value, where, EXPECTED[dict])
        return {name: _read(parts[1], item, f"{where}.{name}") for name, item in value.items()}
    if type(value) is expected:
        return value
    if expected is float and type(value) is int:
        return float(value)
    raise _unfit(value, where, EXPECTED[expected])


def _items(expected: FieldType, value: Json, where: str) -> Iterator[Value]:
    """Read the items of a list; `expected` is list[X], tuple[X, ...] or tuple[X, Y, Z]."""
    if not isinstance(value, (list, tuple)):
        raise _unfit(value, where, "a list")
    parts = get_args(expected)
    types = parts[:1] * len(value) if len(parts) == 1 or parts[1] is Ellipsis else parts
    if len(value) != len(types):
        raise _unfit(value, where, f"{len(types)} values")
    for number, (item_type, item) in enumerate(zip(types, value, strict=True)):
        yield _read(item_type, item, f"{where}[{number}]")


def _unfit(value: Json, where: str, expected: str) -> RecordError:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return RecordError(f"{where or 'the whole'} is {shown}; expected {expected}")
