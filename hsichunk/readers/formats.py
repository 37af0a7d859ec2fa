"""What kind of file a path is, and who reads it."""

from __future__ import annotations

import os
from pathlib import Path

from hsichunk.readers import envi

HDF5_NAMES = (".h5", ".hdf5", ".he5")


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file is for `open_image`, told by its name and by a header beside it; opens nothing."""
    path = Path(path)
    suffix = path.suffix.lower()
    if is_emit(path):
        return True
    if not path.name:
        return False
    if suffix in (".h5", ".hdf5", ".he5", ".nc"):
        return False
    return suffix in (".hdr", ".vrt", *envi.IMAGES) or envi.header_of(path) is not None


def is_emit(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an EMIT reflectance granule, told by its name."""
    name = Path(path).name.upper()
    return name.startswith("EMIT_L2A_RFL") and name.endswith(".NC")
