"""Export maps and endmembers of a finished run for other programs: `hsichunk export`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hsichunk.atomic_files import staging
from hsichunk.endmembers.library import read_library, write_library
from hsichunk.errors import HsiError
from hsichunk.run.folder import STORE
from hsichunk.run.record import read_record
from hsichunk.writers import zarr_store
from hsichunk.writers.envi import publish, write_pair
from hsichunk.writers.zarr_encoding import is_map

FORMATS: Final = ("envi",)


def export(results: Path, folder: Path, form: str = "envi") -> list[Path]:
    """Write the maps of a finished run as ENVI files, and its endmembers as a spectral library. Return their paths.

    Files of the same names in `folder` are replaced once all are complete. Raises HsiError for another format, a
    folder without results, and a place that cannot be written.
    """
    if form not in FORMATS:
        raise HsiError(f"format is {form!r}; expected {', '.join(FORMATS)}")
    read_record(results)  # raises where there is no run.json, which a run writes last
    if folder.exists() and not folder.is_dir():
        raise HsiError(f"{folder} is no folder; give the name of one")
    products = zarr_store.open_store(results / STORE, dask=False)
    with staging(folder) as part:
        for name, data in products.data_vars.items():
            if is_map(data):
                write_pair(data, part / f"{name}.img")
        write_library(read_library(results / "endmembers.csv"), part / "endmembers.sli")
        return publish([path for path in sorted(part.iterdir()) if path.suffix != ".hdr"], folder)
