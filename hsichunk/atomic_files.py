"""Nothing half-written ever carries its final name: write a hidden part beside the target, sync, rename.

`replacing` is for one file, `replacing_hdf5` for one that h5py writes, `staging` for a folder or for files that are
published together.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hsichunk.errors import HsiError, one_line

if TYPE_CHECKING:
    import h5py

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""plain values, as a JSON file holds them: what `read_json` gives and `write_json` takes"""


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


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give the path of a hidden file beside `target` that takes its name, synced, once the body has written it.

    Where the body fails, `target` is as it was and the hidden file is gone; a process killed inside leaves only that
    file, named `.<target>.<random>.part`. A link stays one: what it leads to is replaced. Pipes, devices and
    /dev/stdout cannot be replaced and are written to. Raises HsiError for every OSError, of the body too, naming
    `target`.
    """
    real = Path(os.path.realpath(target))
    part = real.with_name(f".{real.name}.{os.urandom(4).hex()}.part")
    try:
        if _is_stream(target):
            yield target
            return
        try:
            yield part
            sync_one(part)
            os.replace(part, real)
            sync_one(real.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise HsiError(
            f"cannot write {target}: {_reason(error)}; choose a folder with room that you may write to"
        ) from error


def _is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a device or a descriptor of this process."""
    other = path.exists() and not path.is_file() and not path.is_dir()
    return other or path.is_relative_to("/dev") or path.is_relative_to("/proc")


@contextmanager
def replacing_hdf5(target: Path, **options: Any) -> Iterator[h5py.File]:
    """Give an HDF5 file, open to write, that takes the name of `target` as `replacing` has it.

    `options` are those of h5py.File. Raises HsiError as `replacing`, also for what HDF5 says when it flushes.
    """
    import h5py

    with replacing(target) as part:
        try:
            with h5py.File(part, "w", **options) as file:
                try:
                    yield file
                    file.flush()
                except BaseException:
                    os.truncate(part, 0)  # HDF5 writes once more on closing, and crashes where the disk is still full
                    raise
        except RuntimeError as error:
            if "error message = '" not in str(error):
                raise
            raise OSError(str(error)) from error


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
    """What the system said, which HDF5 wraps in lines of its own and rasterio has in the cause."""
    if error.errno:
        return os.strerror(error.errno)
    said = error.__cause__ or error
    wrapped = re.search(r"error message = '([^']*)'", str(said))
    return wrapped[1] if wrapped else one_line(said)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all. Raises HsiError where `path` cannot be written."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
