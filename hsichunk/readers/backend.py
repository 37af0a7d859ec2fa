"""The xarray backend `engine="neon"`, which opens NEON tiles as `hsichunk.open_tile` does."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from hsichunk.chunks.remote import name_of
from hsichunk.readers import formats
from hsichunk.readers.labelled_cube import labelled


class NeonBackendEntrypoint(BackendEntrypoint):
    """`xr.open_dataset(path, engine="neon")`: NEON AOP reflectance HDF5, the same as `hsichunk.open_tile`."""

    description = "NEON AOP reflectance tiles and flight lines (HDF5)"
    open_dataset_parameters = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        """Open a file without dask, which `open_dataset` applies itself. Raises HsiError for anything but a path."""
        dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        return labelled(formats.read(filename_or_obj), in_dask=False).drop_vars(dropped, errors="ignore")

    def guess_can_open(self, filename_or_obj: object) -> bool:
        """Return whether the name is that of a NEON reflectance file; opens nothing."""
        if not isinstance(filename_or_obj, (str, os.PathLike)):
            return False
        name = name_of(os.fspath(filename_or_obj)).lower()
        return name.startswith("neon_") and "reflectance" in name and name.endswith(".h5")
