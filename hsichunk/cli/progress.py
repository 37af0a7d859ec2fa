"""Show the progress of a command on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hsichunk import memory

NAMES = {
    "tile": "writing the tile",
    "sample": "reading the sample",
    "refine": "reading all pixels",
    "pass": "unmixing",
    "maps": "writing maps",
}


@contextmanager
def shown() -> Iterator[Callable[[str, int, int], None]]:
    """Give a callback (stage, done, total) that draws one bar a stage; it does nothing where there is no terminal."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}% {task.fields[rate]:>9} {task.fields[held]:>8}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        tasks: dict[str, TaskID] = {}
        began: dict[str, tuple[float, int]] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(NAMES.get(stage, stage), total=total, completed=done, rate="", held="")
                began[stage] = time.perf_counter(), done
            since, first = began[stage]
            rate = ""
            if stage == "pass" and done > first:
                rate = f"{(done - first) / (time.perf_counter() - since) / 1e6:,.0f} MB/s"
            size = memory.resident()
            held = "" if size is None else f"{size / 1e6:,.0f} MB"
            bars.update(tasks[stage], completed=done, total=total, rate=rate, held=held)

        yield show
