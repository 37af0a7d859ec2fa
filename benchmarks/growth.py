"""Runs of more and more tiles: seconds a tile over the floor of the same tiles, and memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.floor import find
from benchmarks.rows import Row
from benchmarks.tiles import Setting, named, neighbours, say
from benchmarks.whole_run import decoded, runs, stages


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """One run each of a few tiles and of many, side by side on one grid."""
    rows = []
    for layout in setting.layouts:
        first: Row | None = None
        for count in setting.sizes.growth:
            tiles = neighbours(setting, layout, count)
            floors = [find(path) for path in tiles]
            pixels = sum(floor.pixels for floor in floors)
            say(f"growth: {layout}, {count} tiles")
            found = runs(setting, tiles, floors, setting.few, warm=setting.warm and first is None)
            where = named(layout, setting.sizes.growth_side, setting.sizes.bands, count)
            numbers = {"tiles": float(count), **stages(found), **decoded(found.record)}
            row = Row(
                "growth", where, "hsichunk run", pixels, found.seconds, {"floor": found.floor}, found.peak, numbers
            )
            first = first or row
            rows.append(_compared(row, first, count))
    return rows


def _compared(row: Row, first: Row, count: int) -> Row:
    """The row with what it says beside the run of one tile."""
    assert row.peak is not None and first.peak is not None
    numbers = dict(row.numbers) | {"seconds_a_tile": row.median / count, "peak_over_first": row.peak / first.peak}
    note = f"{row.median / count:.2f} s a tile"
    if row is not first:
        further = count - first.numbers["tiles"]
        numbers["seconds_a_further_tile"] = (row.median - first.median) / further
        note += f", {numbers['seconds_a_further_tile']:.2f} s a further one; peak {numbers['peak_over_first']:.2f} x"
    return replace(row, numbers=numbers, note=note)
