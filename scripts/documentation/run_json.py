"""Describe the format of run.json, from the types and docstrings of its record: a JSON Schema and a page.

`python scripts/documentation/run_json.py`, with the package installed, writes the file of the schema.
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
BESIDE_OPTIONS = ("hsichunk", "inputs", "endmembers", "mask")  # names in a fingerprint that are no options


def docstrings(record: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass, or the explanation of its option, on one line."""
    texts: dict[str, str] = {}
    for base in reversed(record.__mro__[:-1]):
        [body] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for line, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr):
                texts[line.target.id] = " ".join(ast.literal_eval(after.value).split())
    for item in fields(record):
        if (option := item.metadata.get("option")) is not None:
            texts[item.name] = option.explanation.removesuffix(".")
    return texts


def schema() -> dict[str, Any]:
    """Return the JSON Schema of run.json, which allows no unknown names."""
    records: dict[str, Any] = {}
    content = _record(RunRecord, records)
    content["properties"]["schema"] = {"const": SCHEMA, "description": docstrings(RunRecord)["schema"]}
    known = sorted({*BESIDE_OPTIONS, *(name_in_json(item) for item in fields(Options))})
    content["properties"]["fingerprint"] |= {"propertyNames": {"enum": known}}
    return {"$schema": DIALECT, "title": "run.json of hsichunk", **content, "$defs": dict(sorted(records.items()))}


def _record(record: type, records: dict[str, Any]) -> dict[str, Any]:
    told, types = docstrings(record), field_types(record)
    return {
        "description": _doc(record),
        "type": "object",
        "properties": {
            name_in_json(item): {**_kind(types[item.name], records), "description": told.get(item.name, "")}
            for item in fields(record)
        },
        "required": [name_in_json(item) for item in fields(record) if not may_be_absent(item)],
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
    """Return the text of the file of the schema."""
    return json.dumps(schema(), indent=2) + "\n"


def page() -> str:
    """Return the page that explains each field, record by record."""
    content = schema()
    lines = [
        "# run.json",
        "",
        f"{content['description']} A run writes this file last: its presence shows that the results are complete. This "
        f"is version {SCHEMA} of the format, which the field `schema` holds; [run.schema.json](run.schema.json) is its "
        "JSON Schema (draft 2020-12). Any change of a name, a type or a meaning makes another version, and hsichunk "
        "refuses to read a version that it does not know. A field is always present unless it is marked optional.",
    ]
    for name, record in [("", content), *_in_order(content)]:
        lines += ["", f"## {name}", "", record["description"]] if name else []
        lines += ["", "| key | type | meaning |", "|---|---|---|"]
        for key, value in record["properties"].items():
            optional = "" if key in record["required"] else " (optional)"
            text = value["description"].replace("|", "\\|")
            lines.append(f"| `{key}` | {_words(value)}{optional} | {text} |")
    return "\n".join([*lines, ""])


def _in_order(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records in the order in which run.json names them, each followed by the records in it."""
    seen: list[str] = []

    def below(record: dict[str, Any]) -> None:
        for reference in json.dumps(record["properties"]).split('"#/$defs/')[1:]:
            if (name := reference.split('"')[0]) not in seen:
                seen.append(name)
                below(content["$defs"][name])

    below(content)
    yield from ((name, content["$defs"][name]) for name in seen)


def _words(value: dict[str, Any]) -> str:
    """Return the type of a value in words."""
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
