"""Show the value of a default in signatures where the source names a constant."""

from __future__ import annotations

import importlib
import re
from typing import Any

import griffe

CONSTANT = re.compile(r"(\w+\.)*[A-Z][A-Z_]+")


class Defaults(griffe.Extension):
    """Replaces constants by their values."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Replace the constants among the defaults of a function; griffe calls it for every function of the package."""
        for parameter in func.parameters:
            if CONSTANT.fullmatch(str(parameter.default)):
                value: Any = importlib.import_module(func.module.path)
                for name in str(parameter.default).split("."):
                    value = getattr(value, name)
                parameter.default = repr(value)
