"""The format of run.json from the record's types and docstrings: its JSON Schema, and the page that explains it.

`python scripts/documentation/run_json.py`, with the package installed, writes the schema's file again.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hsichunk.run.json_records import UNCHECKED, field_types, may_be_absent, name_in_json
from hsichunk.run.options import Options
from hsichunk.run.record import SCHEMA, RunRecord

SCHEMA_FILE = Path(__file__).parent / "pages" / "run.schema.json"

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SIMPLE = {int: "integer", float: "number", str: "string", bool: "boolean"}
BESIDE_OPTIONS = ("hsichunk", "inputs", "endmembers", "mask")  # names in a fingerprint that no option need have


def docstrings(record: type) -> dict[str, str]:
    """What stands under each field of a dataclass, or in its option's own words, on one line."""
    found: dict[str, str] = {}
    for base in reversed(record.__mro__[:-1]):
        [body] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for one, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(after, ast.Expr):
                found[one.target.id] = " ".join(ast.literal_eval(after.value).split())
    for one in fields(record):
        if (option := one.metadata.get("option")) is not None:
            found[one.name] = option.explanation.removesuffix(".")
    return found


def schema() -> dict[str, Any]:
    """The JSON Schema of run.json; names that it does not know are errors."""
    records: dict[str, Any] = {}
    whole = _record(RunRecord, records)
    whole["properties"]["schema"] = {"const": SCHEMA, "description": docstrings(RunRecord)["schema"]}
    known = sorted({*BESIDE_OPTIONS, *(name_in_json(one) for one in fields(Options))})
    whole["properties"]["fingerprint"] |= {"propertyNames": {"enum": known}}
    return {"$schema": DIALECT, "title": "run.json of hsichunk", **whole, "$defs": dict(sorted(records.items()))}


def _record(record: type, records: dict[str, Any]) -> dict[str, Any]:
    told, types = docstrings(record), field_types(record)
    return {
        "description": _doc(record),
        "type": "object",
        "properties": {
            name_in_json(one): {**_kind(types[one.name], records), "description": told.get(one.name, "")}
            for one in fields(record)
        },
        "required": [name_in_json(one) for one in fields(record) if not may_be_absent(one)],
        "additionalProperties": False,
    }


def _doc(record: type) -> str:
    return (inspect.getdoc(record) or "").split("\n\n")[0].replace("\n", " ")


def _kind(kind: Any, records: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value of some type; of records a reference to what is put into `records`."""
    if kind is UNCHECKED:
        return {}
    if is_dataclass(kind):
        assert isinstance(kind, type)
        if kind.__name__ not in records:
            records[kind.__name__] = {}
            records[kind.__name__] = _record(kind, records)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _or_null(_kind(next(part for part in parts if part is not NoneType), records))
    if origin is dict:
        return {"type": "object", "additionalProperties": _kind(parts[1], records)}
    if origin in (list, tuple):
        if len(parts) == 1 or parts[1] is Ellipsis:
            return {"type": "array", "items": _kind(parts[0], records)}
        items = [_kind(part, records) for part in parts]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    return {"type": SIMPLE[kind]}


def _or_null(known: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [known, {"type": "null"}]}


def as_text() -> str:
    """The schema as its file holds it."""
    return json.dumps(schema(), indent=2) + "\n"


def page() -> str:
    """The page that explains each field, record by record."""
    whole = schema()
    lines = [
        "# run.json",
        "",
        f"{whole['description']} A run writes it last: where it is, the results are complete. This is version {SCHEMA} "
        "of the format, which `schema` names; [run.schema.json](run.schema.json) is its JSON Schema (draft 2020-12). "
        "Every name, type or meaning that changes makes another version, and hsichunk refuses to read a run.json of "
        "one that it does not know. A field is always there unless it is marked optional.",
    ]
    for name, record in [("", whole), *_in_order(whole)]:
        lines += ["", f"## {name}", "", record["description"]] if name else []
        lines += ["", "| key | type | what it says |", "|---|---|---|"]
        for key, value in record["properties"].items():
            optional = "" if key in record["required"] else " (optional)"
            text = value["description"].replace("|", "\\|")
            lines.append(f"| `{key}` | {_words(value)}{optional} | {text} |")
    return "\n".join([*lines, ""])


def _in_order(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records as the whole names them, those below each at once after it."""
    seen: list[str] = []

    def below(record: dict[str, Any]) -> None:
        for found in json.dumps(record["properties"]).split('"#/$defs/')[1:]:
            if (name := found.split('"')[0]) not in seen:
                seen.append(name)
                below(whole["$defs"][name])

    below(whole)
    yield from ((name, whole["$defs"][name]) for name in seen)


def _words(value: dict[str, Any]) -> str:
    """The type of a value for people."""
    if "const" in value:
        return "integer"
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(_words(each) for each in value["anyOf"])
    if value.get("type") == "array":
        if "prefixItems" in value:
            return " and ".join(_words(each) for each in value["prefixItems"])
        inner = _words(value["items"])
        return f"list of ({inner})" if " " in inner and not inner.startswith("list") else f"list of {inner}"
    if "additionalProperties" in value:
        return f"{_words(value['additionalProperties'])} by name".strip() if value["additionalProperties"] else "object"
    return str(value.get("type", ""))


if __name__ == "__main__":
    SCHEMA_FILE.write_text(as_text(), encoding="utf-8")
