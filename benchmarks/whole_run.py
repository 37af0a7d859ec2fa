"""The whole job as a process: `hsichunk run` from its start to maps on the disk, over the floor of the same tiles."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from benchmarks.child import Spent, spend
from benchmarks.floor import Floor, find, inflate
from benchmarks.rows import Row, Seconds, clock, interleaved
from benchmarks.tiles import Setting, named, say, tile
from hsichunk.run.options import Options
from hsichunk.run.record import RunRecord, read_record

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = f"{Options.memory // 10**9}GB"


@dataclass
class Runs:
    """Runs over the same tiles, and the floors measured between them."""

    floor: Seconds = ()
    seconds: Seconds = ()
    spent: list[Spent] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)

    @property
    def peak(self) -> int:
        return max(spent.peak for spent in self.spent)

    @property
    def middle(self) -> int:
        """Number of the run of median length, the upper one of two."""
        return sorted(range(len(self.seconds)), key=lambda i: self.seconds[i])[len(self.seconds) // 2]

    @property
    def record(self) -> RunRecord:
        """run.json of that run."""
        return self.records[self.middle]


def runs(setting: Setting, tiles: Sequence[Path], floors: Sequence[Floor], repeat: int, *, warm: bool) -> Runs:
    """Floor and run in turn."""
    found = Runs()

    def run() -> float:
        spent, record = run_once(setting, tiles)
        found.spent.append(spent)
        found.records.append(record)
        return spent.seconds

    found.floor, found.seconds = interleaved(repeat, clock(lambda: inflate(floors, setting.threads)), run, warm=warm)
    del found.spent[:-repeat], found.records[:-repeat]  # the round that was not counted
    return found


def run_once(setting: Setting, tiles: Sequence[Path]) -> tuple[Spent, RunRecord]:
    """One run into a folder that is taken away again: what it took, and its run.json."""
    out = Path(tempfile.mkdtemp(prefix="run-", dir=setting.data))
    options = {"--out": out / "out", "-k": setting.k, "--memory": setting.memory, "--threads": setting.threads}
    flat = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "hsichunk", "run", *map(str, tiles), *flat]
    try:
        spent = spend(command, {"PYTHONPATH": str(ROOT)})
        record = read_record(out / "out")
    finally:
        shutil.rmtree(out)
    return spent, record


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """One tile, both layouts, in little memory and in what a run may take by default."""
    rows = []
    for layout, memory in product(setting.layouts, dict.fromkeys((setting.memory, DEFAULT))):
        path = tile(setting, layout)
        floor = find(path)
        say(f"run: {layout}, {memory}")
        found = runs(replace(setting, memory=memory), [path], [floor], setting.repeat, warm=setting.warm)
        where = named(layout, setting.sizes.side, setting.sizes.bands)
        rows += [
            Row("run", where, "floor, beside the run", floor.pixels, found.floor, numbers={"chunks": floor.chunks}),
            Row(
                "run",
                where,
                f"hsichunk run --memory {memory} --threads {setting.threads}",
                floor.pixels,
                found.seconds,
                {"floor": found.floor},
                found.peak,
                {**stages(found), **decoded(found.record), "cpu_seconds": found.spent[found.middle].cpu},
                _note(found, floor),
            ),
        ]
    return rows


def stages(found: Runs) -> dict[str, float]:
    """Seconds of each stage of the median run; `rest` is what no stage counts: start-up, imports, exit."""
    seconds = {f"stage_{name}": stage.seconds for name, stage in found.record.stages.items()}
    return {**seconds, "stage_rest": found.seconds[found.middle] - sum(seconds.values())}


def decoded(record: RunRecord) -> dict[str, float]:
    """Stored chunks decoded by the sampling and by the pass, and those that the pass has from the sampling."""
    costs = dict(record.stages.items())
    return {
        "chunks_sample": float(costs["sample"].chunks_decoded),
        "chunks_pass": float(costs["pass"].chunks_decoded),
        "chunks_kept": float(costs["pass"].chunks_kept),
    }


def _note(found: Runs, floor: Floor) -> str:
    spent = " + ".join(f"{name.removeprefix('stage_')} {value:.2g}" for name, value in stages(found).items())
    chunks = decoded(found.record)
    taken = " + ".join(f"{count:.0f} ({name.removeprefix('chunks_')})" for name, count in chunks.items())
    return f"s: {spent}; chunks: {taken} of {floor.chunks}"
