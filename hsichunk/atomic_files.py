"""Nothing half-written ever carries its final name: write in a hidden folder beside the target, sync, rename."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hsichunk.errors import HsiError


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Give an empty hidden folder beside target (parents are created), removed at the end with all that is left in it.

    A process killed inside leaves only this folder, named `.<target>.<random>.part`. Raises HsiError when the folder
    cannot be made, and for every OSError of the body, naming target.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    except OSError as error:
        raise HsiError(
            f"cannot write {target}: {_reason(error)} at {error.filename or target.parent}; choose another folder"
        ) from error
    try:
        yield folder
    except OSError as error:
        raise HsiError(
            f"writing {target} failed ({_reason(error)}) and nothing was changed there; see that the disk has room"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Force a file, or a folder with everything below it, onto the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            sync_one(os.path.join(folder, name))
        sync_one(folder)
    if path.is_file():
        sync_one(path)


def sync_one(path: str | Path) -> None:
    """Force one file, or the names in one folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return " ".join((error.strerror or str(error.__cause__ or error)).split())  # rasterio says it in the cause


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all, and on the disk before it is named."""
    part = path.with_name(f".{path.name}.part")
    with open(part, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_one(path.parent)


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
