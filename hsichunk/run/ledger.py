"""The ledger of an unfinished run: which strips are stored, so that the same command resumes after a stop.

It lies beside the results. An entry is written and synced after the data that it lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hsichunk import schema
from hsichunk.atomic_files import read_json, sync_one, write_json
from hsichunk.errors import HsiError
from hsichunk.run.folder import EVERY_FILE, LATER, RUN_JSON, STATE, STORE, files
from hsichunk.run.json_records import as_json, from_json
from hsichunk.unmixing.scoring import Tally

if TYPE_CHECKING:
    from hsichunk.atomic_files import Json
    from hsichunk.run.record import RunRecord


@dataclass(frozen=True)
class Entry:
    """Rows of a window of a tile that are stored, and their tally."""

    tile: int
    """number of the tile in the site"""
    window: int
    """number of the window in the tile"""
    bottom: int
    """row of the tile up to which the window is stored"""
    tally: Tally
    """counts of the rows since the entry before"""


class Ledger:
    """The state of a run in its folder: what was asked for, the endmembers, and the strips that are stored.

    The folder `.hsichunk` holds this state and the unfinished store; it is removed when the run is finished, after
    run.json is written.
    """

    def __init__(self, out: Path, fingerprint: dict[str, Json]) -> None:
        self.out = out
        self.fingerprint = fingerprint
        self.folder = out / STATE
        self.store = self.folder / STORE
        self._entries = self.folder / "ledger.jsonl"

    @property
    def digest(self) -> str:
        """SHA-256 of the fingerprint; the store carries it, so that no store of another run is taken for this one's."""
        return hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()

    def look(self, overwrite: bool) -> str:
        """Return what there is to do: "new", "resumed", or "done" where the folder already holds the results.

        Changes nothing. Raises HsiError where the folder cannot be written. Without `overwrite`, also where it holds
        the results of other options, which the message names, or files of unknown origin.
        """
        if self.out.exists() and not self.out.is_dir():
            raise HsiError(f"{self.out}: is a file; choose another --out, a folder")
        state = self._compare(overwrite)
        if state != "done":
            _try_writing(self.out)
        return state

    def _compare(self, overwrite: bool) -> str:
        finished, stored = read_json(self.out / RUN_JSON), read_json(self.folder / "state.json")
        if finished is not None:
            from hsichunk.run.record import RunRecord, fingerprint_in

            stored = fingerprint_in(finished)
        if stored is None:
            present = [name for name in (*EVERY_FILE, RUN_JSON) if (self.out / name).exists()]
            if present and not overwrite:
                raise HsiError(
                    f"{self.out}: holds {present[0]} of unknown origin; choose another --out or give --overwrite"
                )
            return "new"
        if stored != self.fingerprint:
            if overwrite:
                return "new"
            raise HsiError(
                f"{self.out}: made with other options ({differences(stored, self.fingerprint)}); "
                "choose another --out or give --overwrite"
            )
        if finished is None:
            return "resumed"
        missing = [name for name in files(self._metrics()) if not (self.out / name).exists()]
        try:
            RunRecord.from_json(finished, self.out / RUN_JSON)
        except HsiError:
            if not overwrite:
                raise
            return "new"
        if missing and not overwrite:
            raise HsiError(f"{self.out}: finished, but {missing[0]} is gone; give --overwrite to make it again")
        return "new" if missing else "done"

    def _metrics(self) -> list[str]:
        """Return the metrics in the fingerprint, or the default where it names none."""
        names = self.fingerprint.get("metric")
        return [str(name) for name in names] if isinstance(names, list) else [schema.SAM, schema.SID]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, made if missing, against other runs. A process that is killed releases the lock."""
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HsiError(
                    f"{self.out}: another run is at work there; wait for it or choose another --out"
                ) from None
            except OSError:
                pass  # a file system without locks
            yield

    def clear(self) -> None:
        """Remove an earlier run: run.json first, so that what remains does not look like a finished run."""
        _remove(self.out / RUN_JSON)
        _remove(self.folder / "state.json")
        for path in (*self.folder.glob("*"), *(self.out / name for name in (*EVERY_FILE, *LATER)), *self._leftovers()):
            if path.name != "lock":
                _remove(path)

    def start(self) -> None:
        """Write the fingerprint, once endmembers and the empty store are written: now the run can be resumed."""
        write_json(self.folder / "state.json", self.fingerprint)

    def finish(self, record: RunRecord) -> None:
        """Write run.json, which says that the results are complete, and remove the state."""
        write_json(self.out / RUN_JSON, record.as_json())
        self.tidy()

    def tidy(self) -> None:
        """Remove the state, and the files that killed writers have left beside the results."""
        for path in (*self._leftovers(), self.folder):
            with contextlib.suppress(OSError):
                _remove(path)

    def _leftovers(self) -> list[Path]:
        return [path for name in (*EVERY_FILE, RUN_JSON) for path in self.out.glob(f".{name}.*part")]

    def entries(self) -> list[Entry]:
        """Return all entries in order.

        A damaged line, and all lines after it, are cut off the file: the run does their strips again.
        """
        try:
            content = self._entries.read_bytes()
        except OSError:
            return []
        entries: list[Entry] = []
        start = 0
        while (end := content.find(b"\n", start)) >= 0:
            entry = _parsed(content[start:end])
            if entry is None:
                break
            entries.append(entry)
            start = end + 1
        if start < len(content):
            with open(self._entries, "r+b") as file:
                file.truncate(start)
        return entries

    def add(self, entry: Entry) -> None:
        """Append an entry and sync it. The caller has synced the data that it lists."""
        line = json.dumps(as_json(entry))
        with open(self._entries, "ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_one(self.folder)


def _parsed(line: bytes) -> Entry | None:
    """Return the entry of a line; None for a line that a killed write or a damaged disk has left."""
    try:
        return from_json(Entry, json.loads(line))
    except ValueError:  # of json, for what is not JSON, or a RecordError
        return None


def _try_writing(folder: Path) -> None:
    """Raise HsiError where `folder` cannot be made or written to; leave nothing behind."""
    created: list[Path] = []
    try:
        for path in (*reversed(folder.parents), folder):
            if not path.exists():
                path.mkdir()
                created.append(path)
        probe = folder / ".hsichunk.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise HsiError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        for path in reversed(created):
            with contextlib.suppress(OSError):
                path.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def differences(stored: Json, asked: dict[str, Json]) -> str:
    """Return in words what differs between the fingerprint in a folder and that of the options."""
    if not isinstance(stored, dict):
        return "by a version that records options in another form"
    parts = []
    for name in sorted({*stored, *asked}):
        before, now = stored.get(name), asked.get(name)
        if before == now:
            continue
        if name == "inputs":
            parts.append(_inputs_differ(before, now))
        else:
            parts.append(f"{name.replace('_', '-')} was {_short(before)}, is {_short(now)}")
    return "; ".join(parts)


def _inputs_differ(stored: Json, asked: Json) -> str:
    before, now = _by_name(stored), _by_name(asked)
    if before is None or now is None:
        return "the tiles differ"
    if set(before) != set(now):
        return f"tiles were {_short(sorted(before))}, are {_short(sorted(now))}"
    changed = [name for name in before if before[name] != now[name]]
    return f"{changed[0]} has changed" if changed else "the tiles differ"


def _by_name(inputs: Json) -> dict[str, Json] | None:
    """Return the inputs of a fingerprint by the name of the tile; None where they have another form."""
    if not isinstance(inputs, list):
        return None
    named: dict[str, Json] = {}
    for entry in inputs:
        if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
            return None
        named[name] = entry
    return named


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
