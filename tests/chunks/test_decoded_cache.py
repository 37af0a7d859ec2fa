"""Chunks that the pass takes over from the sample: never more than there is room for, each given up once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hsichunk.chunks.decoded_cache import KeptChunks
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.run import make_plan, plan
from hsichunk.run.open_inputs import prepared
from hsichunk.run.plan import MB, Layout, make
from tests.helpers.runs import asked, assert_same, endmembers, go, products
from tests.helpers.tiles import LAYOUTS, small_tile

CHUNK = np.zeros(1000, np.int16)


def test_no_more_than_there_is_room_for() -> None:
    kept = KeptChunks(2 * CHUNK.nbytes + 1)
    for number in range(4):
        kept.offer((number,), CHUNK)
        kept.offer((number,), CHUNK)  # it is there already, and counts once
    assert [kept.look((number,)) is not None for number in range(4)] == [True, True, False, False]
    assert (kept.chunks, kept.bytes) == (2, 2 * CHUNK.nbytes)
    assert kept.take((0,)) is CHUNK
    assert kept.take((0,)) is None
    kept.offer((2,), CHUNK)
    assert kept.look((2,)) is None  # the room of what is taken belongs to what takes it
    kept.close(CHUNK.nbytes)
    assert kept.look((1,)) is CHUNK
    kept.close(0)
    assert kept.look((1,)) is None


@pytest.mark.parametrize("chunks", [(32, 63, 27), (1000, 1000, 1)])
@pytest.mark.parametrize("budget", range(550, 2500, 50))
def test_the_plan_keeps_what_its_budget_leaves(chunks: tuple[int, int, int], budget: int) -> None:
    layout = Layout(1000, 1000, chunks, 14 if chunks[2] > 1 else 362, 362)
    given: dict[str, Any] = {"k": 4, "threads": 2, "sample": 20_000}
    without = make(budget * MB, [layout], **given)
    made = make(budget * MB, [layout], **given, sampled=700 * MB)
    assert made.kept <= 700 * MB
    assert max(without.peak, made.peak) <= budget * MB
    assert max(made.sample, made.passing) + made.kept <= budget * MB
    assert (made.decodes, made.together, made.strip_rows) == (without.decodes, without.together, without.strip_rows)
    assert budget < 2000 or made.kept == 700 * MB
    more = make(budget * MB, [layout], **given, libraries=60 * MB)
    assert (more.program, more.maps) == (without.program + 60 * MB, without.maps + 60 * MB)


@pytest.mark.parametrize(
    "changed",
    [{"endmembers": "em.csv"}, {"refine": True}, {"scheduler": "tcp://x:1"}, {"cluster": "local"}],
    ids=["endmembers", "refine", "scheduler", "cluster"],
)
def test_nothing_is_kept_where_it_is_of_no_use(tmp_path: Path, changed: dict[str, Any]) -> None:
    tile = small_tile(tmp_path / "tile.h5")
    site, bands, options, _ = prepared(asked(tile, tmp_path / "out"))
    assert make_plan.make_plan(site, bands, options).kept > 0
    assert make_plan.make_plan(site, bands, replace(options, **changed)).kept == 0


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    seen: list[tuple[str, tuple[int, ...]]] = []
    decode = HDF5Array.decode

    def watch(self: HDF5Array, handle: Any, place: tuple[int, ...]) -> Any:
        if len(place) == 3:
            seen.append((Path(self.path).name, place))
        return decode(self, handle, place)

    monkeypatch.setattr(HDF5Array, "decode", watch)
    return seen


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "changed",
    [{}, {"per_tile": True}, {"method": "fippi"}, {"mask": ("ndvi=0.2:",)}, {"relative": True}],
    ids=["plain", "per tile", "fippi", "spectral mask", "relative"],
)
def test_the_same_bits_whatever_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, changed: dict[str, Any]
) -> None:
    tiles = [
        small_tile(tmp_path / f"{n}.h5", chunks=LAYOUTS[layout], origin=(368000.0 + 70 * n, 4307000.0)) for n in (0, 1)
    ]
    monkeypatch.setattr(plan, "KEPT", 0)
    plain = go(tiles, tmp_path / "plain", share=1.0, **changed)
    monkeypatch.setattr(plan, "KEPT", 0.9)
    seen = counted(monkeypatch)
    report = go(tiles, tmp_path / "kept", share=1.0, **changed)
    assert_same(products(tmp_path / "plain"), products(tmp_path / "kept"))
    assert endmembers(tmp_path / "plain").equals(endmembers(tmp_path / "kept"))
    first = [place for name, place in seen if name == "0.h5"]
    assert len(first) == len(set(first))  # once in all, whoever asks; only of the first tile, so memory does not grow
    assert report["stages"]["pass"]["chunks_kept"] >= len(first)
    assert plain["stages"]["pass"]["chunks_decoded"] > report["stages"]["pass"]["chunks_decoded"] > 0
    assert plain["pass"] == report["pass"]


def test_more_endmembers_than_planned_take_the_room_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tile = small_tile(tmp_path / "tile.h5")
    close: Callable[..., None] = KeptChunks.close
    closed: list[int | None] = []
    monkeypatch.setattr(KeptChunks, "close", lambda self, most=None: (closed.append(most), close(self, most))[1])
    report = go(tile, tmp_path / "out", method="fippi", k=2)
    assert len(report["mean_abundance"]) != 2
    assert closed == [report["plan"]["kept"], None, 0]
