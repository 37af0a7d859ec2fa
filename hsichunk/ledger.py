"""What an unfinished run has done: kept beside its results, each entry written after the data it speaks of."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hsichunk.errors import HsiError
from hsichunk.staging import sync_one

STATE = ".hsichunk"
RUN_JSON = "run.json"


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


class Ledger:
    """The state of a run in its folder: what was asked for, the endmembers, and the strips that are stored.

    The folder `.hsichunk` holds all of it and the unfinished store; it goes when the run is finished, after run.json is there.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / STATE
        self.store = self.folder / "products.zarr"
        self._entries = self.folder / "ledger.jsonl"

    def begin(self, fingerprint: dict[str, Any], overwrite: bool) -> str:
        """Makes the folder ready: "new", "resumed", or "done" when it already holds what is asked for.

        Raises HsiError where it holds something else, naming what differs.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / ".hsichunk.write-test").write_bytes(b"")
            (self.out / ".hsichunk.write-test").unlink()
        except OSError as error:
            raise HsiError(f"{self.out}: cannot be written ({error.strerror}); choose another --out") from error
        finished = read_json(self.out / RUN_JSON)
        state = read_json(self.folder / "state.json")
        if overwrite:
            self.clear()
        elif finished is not None:
            self._same(finished.get("fingerprint", {}), fingerprint)
            if state is None:
                return "done"
            shutil.rmtree(self.folder)  # a run that ended between its last two steps
            return "done"
        elif state is not None:
            self._same(state, fingerprint)
            return "resumed"
        elif any((self.out / name).exists() for name in PRODUCTS):
            raise HsiError(f"{self.out}: holds results but no run.json; choose another --out or give --overwrite")
        self.folder.mkdir(exist_ok=True)
        return "new"

    def _same(self, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
        differ = [k for k in sorted({*theirs, *ours}) if theirs.get(k) != ours.get(k)]
        if differ:
            what = "; ".join(f"{k} was {_short(theirs.get(k))}, is {_short(ours.get(k))}" for k in differ)
            raise HsiError(f"{self.out}: made with other options ({what}); choose another --out or give --overwrite")

    def start(self, fingerprint: dict[str, Any]) -> None:
        """Says what the folder is for: from here on the run can go on."""
        write_json(self.folder / "state.json", fingerprint)

    def clear(self) -> None:
        """Takes away an earlier run: run.json first, so that nothing that is left looks whole."""
        for name in (RUN_JSON, STATE, *PRODUCTS):
            path = self.out / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()

    def entries(self) -> list[dict[str, Any]]:
        """Everything done so far; a line that a kill cut short does not count."""
        try:
            lines = self._entries.read_bytes().split(b"\n")
        except OSError:
            return []
        out = []
        for line in lines[:-1]:
            try:
                out.append(json.loads(line))
            except ValueError:
                break
        return out

    def add(self, entry: dict[str, Any]) -> None:
        """Notes that data are stored. The caller has synced them."""
        entries = self._entries
        if entries.exists() and not entries.read_bytes().endswith(b"\n"):
            self._mend()
        with open(entries, "ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _mend(self) -> None:
        """Cuts off the half line of a write that was killed."""
        content = self._entries.read_bytes()
        with open(self._entries, "r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)

    def finish(self, run: dict[str, Any]) -> None:
        """Moves the store to its name and says that all is whole."""
        write_json(self.out / RUN_JSON, run)
        shutil.rmtree(self.folder)


PRODUCTS = (
    "products.zarr",
    "abundance.tif",
    "rmse.tif",
    "sam_class.tif",
    "sam_class.tif.aux.xml",
    "sid_class.tif",
    "sid_class.tif.aux.xml",
    "endmembers.csv",
    "report.html",
)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
