"""All benchmarks in one table: `python -m benchmarks [--only floor,pass] [--small]`.

Both stored layouts of a synthetic tile of full size. Ratios are medians of ratios within a repeat: what they compare
was measured in turn, on the same files, which lie in the system's file cache.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.rows import Row, table
from benchmarks.tiles import FULL, LAYOUTS, SMALL, Setting, say
from hsichunk import memory

PARTS: Final = {
    "floor": "floor",
    "pass": "one_pass",
    "run": "whole_run",
    "certificate": "certificate",
    "user": "user",
    "pysptools": "lesson",
    "fcls": "kernels",
    "growth": "growth",
    "dlr": "dlr",
    "nnls": "nnls",
}
"""name of a part: the module whose `measure` does it"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is asked for and prints it."""
    args = _parser().parse_args(arguments)
    parts = [name for name in args.only.split(",") if name]
    if unknown := [name for name in parts if name not in PARTS]:
        print(f"benchmarks: no part {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    args.data.mkdir(parents=True, exist_ok=True)
    layouts = tuple(args.layouts.split(","))
    repeat = args.repeat or (1 if args.small else 5)
    setting = Setting(args.data, SMALL if args.small else FULL, args.threads, repeat, layouts, warm=not args.small)
    memory.use_one_heap()  # as a run does: for the floor, too
    found = machine.describe()
    print(machine.as_text(found))
    print(f"{args.threads} threads, medians of {repeat} (fewest to most), files in {args.data}\n", flush=True)
    rows: list[Row] = []
    for part in parts:
        say(part)
        rows += importlib.import_module(f"benchmarks.{PARTS[part]}").measure(setting, rows)
    found["load_after"] = machine.load()
    print(table(rows))
    print(f"\nload after: {', '.join(map(str, found['load_after']))}")
    if args.json:
        said = {"machine": found, "threads": args.threads, "repeat": repeat, "rows": [row.as_dict() for row in rows]}
        args.json.write_text(json.dumps(said, indent=1), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between (default: all)")
    parser.add_argument("--layouts", default=",".join(LAYOUTS), help="stored layouts (default: both)")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(tempfile.gettempdir()) / "hsichunk-benchmarks",
        help="folder of the tiles; those that are there are used again (default: %(default)s)",
    )
    parser.add_argument("--small", action="store_true", help="tiny tiles, once: does it work")
    parser.add_argument("--repeat", type=int, help="repeats of each measurement (default: 5, small: 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
