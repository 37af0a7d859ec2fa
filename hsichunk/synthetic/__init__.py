"""Synthetic NEON tiles of mixed pixels whose truth is known: `hsi.synthetic.write_tile`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hsichunk.synthetic.tile import write_tile as write_tile

__all__ = ["write_tile"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module("hsichunk.synthetic.tile"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
