"""Endmembers, abundance maps and class maps from imaging-spectroscopy tiles that do not fit in memory."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module that holds it: imported when first used, so that the command line starts at once. No module bears the
# name of a function: importing it would put the module in the function's place.
_PUBLIC = {
    "open_tile": "backend",
    "as_cube": "cube",
    "clean": "cleaning",
    "nfindr": "endmembers",
    "unmix": "unmixing",
    "fcls": "unmixing",
    "sam": "unmixing",
    "sid": "unmixing",
    "classify": "classification",
    "minmax": "scaling",
    "write_zarr": "zarr_store",
    "write_geotiff": "geotiff",
    "HsiError": "errors",
    "HsiWarning": "errors",
}
_MODULES = ("plot", "synthetic")

__all__ = [*_PUBLIC, *_MODULES]

if TYPE_CHECKING:
    from hsichunk import plot as plot
    from hsichunk import synthetic as synthetic
    from hsichunk.backend import open_tile as open_tile
    from hsichunk.classification import classify as classify
    from hsichunk.cleaning import clean as clean
    from hsichunk.cube import as_cube as as_cube
    from hsichunk.endmembers import nfindr as nfindr
    from hsichunk.errors import HsiError as HsiError
    from hsichunk.errors import HsiWarning as HsiWarning
    from hsichunk.geotiff import write_geotiff as write_geotiff
    from hsichunk.scaling import minmax as minmax
    from hsichunk.unmixing import fcls as fcls
    from hsichunk.unmixing import sam as sam
    from hsichunk.unmixing import sid as sid
    from hsichunk.unmixing import unmix as unmix
    from hsichunk.zarr_store import write_zarr as write_zarr


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"hsichunk.{_PUBLIC[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"hsichunk.{name}")
    else:
        raise AttributeError(f"module 'hsichunk' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
