"""What an unfinished run has done: kept beside its results, each entry written after the data it speaks of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsichunk import schema
from hsichunk.atomic_files import read_json, sync_one, write_json
from hsichunk.errors import HsiError
from hsichunk.run.folder import EVERY_FILE, LATER, RUN_JSON, STATE, STORE, files
from hsichunk.run.json_records import as_json, from_json
from hsichunk.unmixing.scoring import Tally

if TYPE_CHECKING:
    from hsichunk.run.record import RunRecord


@dataclass(frozen=True)
class Entry:
    """Rows of a window of a tile that are stored, and what came of them."""

    tile: int
    window: int
    bottom: int
    """row of the tile up to which the window is done"""
    tally: Tally


class Ledger:
    """The state of a run in its folder: what was asked for, the endmembers, and the strips that are stored.

    The folder `.hsichunk` holds all of it and the unfinished store; it goes when the run is finished, after run.json is
    there.
    """

    def __init__(self, out: Path, fingerprint: dict[str, Any]) -> None:
        self.out = out
        self.fingerprint = fingerprint
        self.folder = out / STATE
        self.store = self.folder / STORE
        self._entries = self.folder / "ledger.jsonl"

    @property
    def digest(self) -> str:
        """The fingerprint in short: the store carries it, so that no other is taken for it."""
        return hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()

    def look(self, overwrite: bool) -> str:
        """What there is to do: "new", "resumed", or "done" when the folder already holds what is asked for.

        Changes nothing. Raises HsiError where the folder cannot be written, and where it holds something else, naming
        what differs, unless that may be overwritten.
        """
        if self.out.exists() and not self.out.is_dir():
            raise HsiError(f"{self.out}: is a file; choose another --out, a folder")
        state = self._compare(overwrite)
        if state != "done":
            _try_writing(self.out)
        return state

    def _compare(self, overwrite: bool) -> str:
        finished, state = read_json(self.out / RUN_JSON), read_json(self.folder / "state.json")
        found = state
        if finished is not None:
            from hsichunk.run.record import RunRecord, fingerprint_in

            found = fingerprint_in(finished)
        if found is None:
            held = [name for name in (*EVERY_FILE, RUN_JSON) if (self.out / name).exists()]
            if held and not overwrite:
                raise HsiError(
                    f"{self.out}: holds {held[0]} of unknown origin; choose another --out or give --overwrite"
                )
            return "new"
        if found != self.fingerprint:
            if overwrite:
                return "new"
            raise HsiError(
                f"{self.out}: made with other options ({differences(found, self.fingerprint)}); "
                "choose another --out or give --overwrite"
            )
        if finished is None:
            return "resumed"
        wanted = files(self.fingerprint.get("metric", (schema.SAM, schema.SID)))
        missing = [name for name in wanted if not (self.out / name).exists()]
        try:
            RunRecord.from_json(finished, self.out / RUN_JSON)
        except HsiError:
            if not overwrite:
                raise
            return "new"
        if missing and not overwrite:
            raise HsiError(f"{self.out}: finished, but {missing[0]} is gone; give --overwrite to make it again")
        return "new" if missing else "done"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs out of the folder, which is made if missing; a process that is killed frees it."""
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
        """Takes away an earlier run: run.json first, so that nothing that is left looks whole."""
        _remove(self.out / RUN_JSON)
        _remove(self.folder / "state.json")
        for path in (*self.folder.glob("*"), *(self.out / name for name in (*EVERY_FILE, *LATER)), *self._leftovers()):
            if path.name != "lock":
                _remove(path)

    def start(self) -> None:
        """Says what the folder is for, once all that a run begins with is there: from here on it can go on."""
        write_json(self.folder / "state.json", self.fingerprint)

    def finish(self, record: RunRecord) -> None:
        """Says that all is whole, and takes the state away."""
        write_json(self.out / RUN_JSON, record.as_json())
        self.tidy()

    def tidy(self) -> None:
        """Takes away the state, and what killed writers have left beside the results."""
        for path in (*self._leftovers(), self.folder):
            with contextlib.suppress(OSError):
                _remove(path)

    def _leftovers(self) -> list[Path]:
        return [path for name in (*EVERY_FILE, RUN_JSON) for path in self.out.glob(f".{name}.*part")]

    def entries(self) -> list[Entry]:
        """Everything done so far, in order. Lines from a damaged one on are cut off: their strips are done again."""
        try:
            content = self._entries.read_bytes()
        except OSError:
            return []
        out: list[Entry] = []
        good = 0
        while (end := content.find(b"\n", good)) >= 0:
            entry = _parsed(content[good:end])
            if entry is None:
                break
            out.append(entry)
            good = end + 1
        if good < len(content):
            with open(self._entries, "r+b") as file:
                file.truncate(good)
        return out

    def add(self, entry: Entry) -> None:
        """Notes that data are stored. The caller has synced them."""
        line = json.dumps(as_json(entry))
        with open(self._entries, "ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_one(self.folder)


def _parsed(line: bytes) -> Entry | None:
    """An entry from its line; None for a line that a killed write or a damaged disk has left."""
    try:
        return from_json(Entry, json.loads(line))
    except ValueError:  # no JSON, or no entry: a RecordError is one
        return None


def _try_writing(folder: Path) -> None:
    """Raises HsiError where `folder` cannot be made or written to; leaves nothing behind."""
    made: list[Path] = []
    try:
        for path in (*reversed(folder.parents), folder):
            if not path.exists():
                path.mkdir()
                made.append(path)
        probe = folder / ".hsichunk.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise HsiError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def differences(theirs: Any, ours: dict[str, Any]) -> str:
    """What two fingerprints differ in, for people."""
    if not isinstance(theirs, dict):
        return "by a version that said it in another way"
    out = []
    for name in sorted({*theirs, *ours}):
        one, two = theirs.get(name), ours.get(name)
        if one == two:
            continue
        if name == "inputs":
            out.append(_inputs_differ(one, two))
        else:
            out.append(f"{name.replace('_', '-')} was {_short(one)}, is {_short(two)}")
    return "; ".join(out)


def _inputs_differ(theirs: Any, ours: Any) -> str:
    try:
        one, two = ({entry["name"]: entry for entry in entries} for entries in (theirs, ours))
    except (TypeError, KeyError):
        return "the tiles differ"
    if set(one) != set(two):
        return f"tiles were {_short(sorted(one))}, are {_short(sorted(two))}"
    changed = [name for name in one if one[name] != two[name]]
    return f"{changed[0]} has changed" if changed else "the tiles differ"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
