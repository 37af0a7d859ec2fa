"""What a benchmark says: seconds of a thing, of what it is compared with, and how both become one table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Seconds = tuple[float, ...]
HEADER = ("part", "tile", "what", "pixels", "seconds", "us/pixel", "ratio", "peak MiB", "notes")


@dataclass(frozen=True)
class Row:
    """One thing measured."""

    part: str
    tile: str
    """layout and size of what it worked on"""
    what: str
    pixels: int
    seconds: Seconds
    """one for each repeat"""
    against: Mapping[str, Seconds] = field(default_factory=dict)
    """seconds of other things for as many pixels, each measured beside the repeat of the same number"""
    peak: int | None = None
    """most resident bytes of the process that did it alone"""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """whatever else was counted, by name"""
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def ratios(self) -> dict[str, float]:
        """Median over repeats of the ratio within a repeat: the machine drifts, both sides of a ratio with it."""
        return {
            name: statistics.median(mine / other for mine, other in zip(self.seconds, base, strict=True))
            for name, base in self.against.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "part": self.part,
            "tile": self.tile,
            "what": self.what,
            "pixels": self.pixels,
            "seconds": list(self.seconds),
            "median": self.median,
            "against": {name: list(base) for name, base in self.against.items()},
            "ratios": self.ratios,
            "peak": self.peak,
            "numbers": dict(self.numbers),
            "note": self.note,
        }


def clock(work: Callable[[], Any]) -> Callable[[], float]:
    """`work` as something that gives back the seconds it took."""

    def timed() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return timed


def interleaved(repeat: int, *works: Callable[[], float], warm: bool = True) -> list[Seconds]:
    """Seconds of each work, measured A B A B ...; one round before is not counted (compiled kernels, cached files)."""
    if warm:
        for work in works:
            work()
    rounds = [[work() for work in works] for _ in range(repeat)]
    return [tuple(column) for column in zip(*rounds, strict=True)]


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, its columns aligned so that it reads as plain text too."""
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    said = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + " |" for line in lines]
    said.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(said)


def _cells(row: Row) -> tuple[str, ...]:
    spread = f" ({_number(min(row.seconds))}-{_number(max(row.seconds))})" if len(row.seconds) > 1 else ""
    return (
        row.part,
        row.tile,
        row.what,
        str(row.pixels),
        _number(row.median) + spread,
        _number(row.median / row.pixels * 1e6),
        ", ".join(f"{_number(value)} x {name}" for name, value in row.ratios.items()),
        "" if row.peak is None else f"{row.peak / 2**20:.0f}",
        row.note,
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
