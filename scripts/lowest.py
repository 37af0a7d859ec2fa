"""Prints the lowest versions that pyproject.toml allows, as constraints for pip."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
BOUND = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)")


def lowest(project: dict[str, Any]) -> Iterator[str]:
    """A line `name==version` for everything that the package and its extras ask for."""
    extras = project["optional-dependencies"].values()
    for requirement in dict.fromkeys([*project["dependencies"], *(name for extra in extras for name in extra)]):
        if found := BOUND.fullmatch(requirement):  # else the project's own extras
            yield f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print("\n".join(lowest(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"])))
