"""The package says what its functions take and give: how often it cannot is counted, and only falls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MOST_ANY = 50
"""uses of `Any` in the package; lower it with every change that lowers the count"""
MOST_OBJECT = 25
"""annotations `object`, each of a value that is asked for its type"""
MOST_CASTS = 0
SLACK = 10


def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "hsichunk").rglob("*.py"))]


def annotations(tree: ast.Module) -> list[ast.expr]:
    """Every annotation of arguments, results, fields and variables."""
    arguments = [node.annotation for node in ast.walk(tree) if isinstance(node, ast.arg)]
    results = [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    fields = [node.annotation for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    return [node for node in (*arguments, *results, *fields) if node is not None]


def names(tree: ast.AST, name: str) -> int:
    return sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


def ratchet(count: int, most: int, what: str) -> None:
    assert count <= most, f"{count} {what}; expected at most {most}: say the type"
    assert count > most - SLACK, f"{count} {what}: lower the limit of {most} in this file, so that it stays"


def test_any_only_falls() -> None:
    ratchet(sum(names(tree, "Any") for tree in trees()), MOST_ANY, "uses of Any")


def test_object_stands_in_for_no_type() -> None:
    ratchet(
        sum(names(annotation, "object") for tree in trees() for annotation in annotations(tree)),
        MOST_OBJECT,
        "annotations object",
    )


def test_casts_only_fall() -> None:
    ratchet(sum(names(tree, "cast") for tree in trees()), MOST_CASTS, "casts")


def test_any_has_no_other_name() -> None:
    """Neither `from typing import Any as Whatever` nor `Whatever = Any`."""
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert not [alias for alias in node.names if alias.name == "Any" and alias.asname]
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Name):
                assert node.value.id != "Any"


@pytest.mark.parametrize("source, count", [("def f(a: Any, b: list[Any]) -> int: ...", 2), ("x: Any = 1", 1)])
def test_what_is_counted(source: str, count: int) -> None:
    tree = ast.parse(source)
    assert sum(names(annotation, "Any") for annotation in annotations(tree)) == count == names(tree, "Any")
