"""Runs in the process of the test, and what they leave in their folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hsichunk.run import options
from hsichunk.run.folder import FILES, RUN_JSON
from hsichunk.run.record import RunRecord
from hsichunk.run.runner import run
from hsichunk.run.stac import ITEM_JSON

BITS = 12  # rows of a stored chunk of results, once shrunk


def shrink(put: Callable[[Any, str, Any], Any], layout: str) -> None:
    """Makes a small tile come in many strips, which fill stored chunks unevenly, by `put` (owner, name, value)."""
    from hsichunk.chunks import columns
    from hsichunk.run import plan

    put(plan, "zarr_chunk", lambda rows, cols, p, tile=None: (min(rows, BITS), min(cols, 1000)))
    put(plan, "STRIP_ROWS", 10)
    if layout == "band":
        for module in (columns, plan):
            put(module, "SMALL_COLUMN", 0)


def asked(tiles: Path | list[Path], out: Path, **changed: Any) -> options.Options:
    paths = [str(tile) for tile in tiles] if isinstance(tiles, list) else [str(tiles)]
    return options.build({"tiles": paths, "out": str(out), "threads": 2, **changed})


def go(tiles: Path | list[Path], out: Path, **changed: Any) -> dict[str, Any]:
    """Runs, and gives back run.json, and under "finished" whether it was there before."""
    result = run(asked(tiles, out, **changed))
    content = json.loads((out / RUN_JSON).read_text())
    assert RunRecord.from_json(content) == result.record
    return {**content, "finished": result.done_before}


def shell(*words: Any) -> tuple[int, str]:
    """The exit code of a command of hsichunk and what it says, in this process."""
    from typer.testing import CliRunner

    from hsichunk.cli import main as cli

    said = CliRunner().invoke(cli.app, [str(word) for word in words])
    return said.exit_code, said.output


def products(out: Path) -> xr.Dataset:
    """The store of a run, in memory."""
    return xr.open_zarr(out / "products.zarr", decode_coords="all").load()


def checksums(out: Path) -> dict[str, str]:
    """Of every file that a finished run has left but run.json and item.json, which tell the time."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in (RUN_JSON, ITEM_JSON)
    }


def assert_finished(out: Path) -> None:
    """Nothing but results lies in the folder."""
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, RUN_JSON])
    assert not list(out.rglob("*.part")) + list(out.rglob("*.partial"))


def assert_same(one: xr.Dataset, two: xr.Dataset, names: Iterator[str] | list[str] | None = None) -> None:
    """Equal bits, NaN and all."""
    for name in names or sorted({*map(str, one.data_vars), *map(str, two.data_vars)}):
        a, b = one[name].values, two[name].values
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8), err_msg=name)


def endmembers(out: Path) -> xr.DataArray:
    """endmembers.csv as endmembers."""
    names = (out / "endmembers.csv").read_text().splitlines()[0].split(",")[1:]
    table = np.genfromtxt(out / "endmembers.csv", delimiter=",", skip_header=3)
    return xr.DataArray(table[:, 1:].T, {"endmember": names, "wavelength": table[:, 0]}, ("endmember", "wavelength"))
