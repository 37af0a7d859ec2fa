"""Synthetic NEON tiles of mixed pixels, whose truth is known: `hsi.synthetic.write_tile`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

    from hsichunk.synthetic.tile import write_tile as write_tile

__all__ = ["write_tile"]


def __getattr__(name: str) -> Callable[..., xr.Dataset]:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function: Callable[..., xr.Dataset] = getattr(importlib.import_module("hsichunk.synthetic.tile"), name)
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
