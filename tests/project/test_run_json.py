"""The published JSON Schema of run.json: it is the record's, explains every field, and holds of runs of every kind."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest

from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError
from hsichunk.run.ledger import Ledger
from hsichunk.run.record import SCHEMA, RunRecord
from tests.helpers.image_files import write_envi
from tests.helpers.records import example
from tests.helpers.runs import asked, go, run
from tests.helpers.tiles import BANDS, SHAPE, small_tile

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema validates run.json")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "documentation" / "run_json.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_json", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SCRIPT.parent / "pages" / "run.schema.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def validator(published: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator.check_schema(published)
    return jsonschema.Draft202012Validator(published)


def test_the_file_is_made_of_the_record(script: ModuleType) -> None:
    again = f"python {SCRIPT.relative_to(SCRIPT.parents[2])}"
    assert script.SCHEMA_FILE.read_text(encoding="utf-8") == script.as_text(), f"a field was changed: {again}"


def records(published: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "RunRecord", published
    yield from published["$defs"].items()


def test_every_field_is_explained_and_no_other_is_allowed(script: ModuleType, published: dict[str, Any]) -> None:
    page = script.page()
    for name, record in records(published):
        assert record["additionalProperties"] is False and record["description"], name
        for key, value in record["properties"].items():
            assert len(value["description"]) > 3, f"{name}.{key} has no docstring"
            assert f"| `{key}` | " in page and value["description"].replace("|", "\\|") in page, f"{name}.{key}"
    assert published["properties"]["schema"]["const"] == SCHEMA


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each record in the content of a run.json."""
    if isinstance(content, dict):
        yield at
        for name, value in content.items():
            if name not in ("versions", "masks", "mean_abundance", "fingerprint"):  # whose names are data
                yield from places(value, (*at, name))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from places(value, (*at, number))


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a name too many": lambda record: record.update(more=1),
    "a name too few": lambda record: record.pop(next(iter(record))),
    "a value of another kind": lambda record: record.update({[*record][-1]: [[]]}),
}


@pytest.mark.parametrize("how", WRONG)
def test_the_schema_and_the_record_refuse_the_same(how: str, validator: Any) -> None:
    content = example().as_json()
    assert not list(validator.iter_errors(content))
    ways = list(places(content))
    assert len(ways) > 12
    for at in ways:
        if how == "a name too few" and at in (("stages",), ("fcls",)):
            continue  # whose first name may be missing
        wrong = deepcopy(content)
        part: Any = wrong
        for name in at:
            part = part[name]
        WRONG[how](part)
        assert list(validator.iter_errors(wrong)), at
        with pytest.raises(HsiError):
            RunRecord.from_json(wrong)


def damaged(tile: Path) -> Path:
    """The tile with a broken chunk."""
    with h5py.File(tile) as file:
        stored = HDF5Array(tile, file["SERC/Reflectance/Reflectance_Data"])
        offset, size = int(stored.index.offset[2, 1, 1]), int(stored.index.size[2, 1, 1])
    with tile.open("r+b") as raw:
        raw.seek(offset + size // 2)
        raw.write(b"\xff" * (size // 4))
    return tile


def beside(tile: Path) -> list[Path]:
    """The tile and another on its right."""
    return [tile, small_tile(tile.with_name("b.h5"), origin=(368000.0 + SHAPE[1], 4307000.0))]


def truncated(tile: Path) -> Path:
    bad = tile.with_name("0bad.h5")
    bad.write_bytes(tile.read_bytes()[:3000])
    return bad


def floats(tile: Path) -> Path:
    """An ENVI image of reflectance."""
    values = np.random.default_rng(0).uniform(0.05, 0.6, (30, 25, BANDS)).astype(np.float32)
    return write_envi(tile.with_name("scene.img"), values, nm=np.linspace(400.0, 2500.0, BANDS))


def library(tile: Path) -> str:
    go(tile, tile.with_name("first"), k=3)
    return str(tile.with_name("first") / "endmembers.csv")


Case = tuple[Callable[[Path], Any], dict[str, Any], Callable[[dict[str, Any]], Any]]
EVERY = "sam,sid,sid-sam,ncc,chebyshev"
CASES: dict[str, Case] = {
    "plain": (lambda tile: tile, {}, lambda r: r["stages"]["endmembers"]["swaps"] >= 0),
    "mosaic": (beside, {"k": 3}, lambda r: len(r["inputs"]) == 2),
    "per tile": (beside, {"per_tile": True, "share": 1.0}, lambda r: r["options"]["per_tile"]),
    "refine": (lambda tile: tile, {"refine": True}, lambda r: r["stages"]["endmembers"]["certified"] == 1),
    "exclude": (lambda tile: tile, {"exclude": 50.0}, lambda r: r["stages"]["endmembers"]["excluded"] >= 0),
    "masks": (lambda tile: tile, {"mask": ("ndvi=0.2:",)}, lambda r: list(r["masks"]) == ["ndvi=0.2:"]),
    "relative": (lambda tile: tile, {"relative": True, "sam_threshold": (0.3,)}, lambda r: r["options"]["relative"]),
    "floats": (floats, {"every": 2}, lambda r: r["site"]["name"] == "scene"),
    "other solver": (lambda tile: tile, {"solver": "nnls", "metric": EVERY}, lambda r: "nnls" in r),
    "unbounded": (lambda tile: tile, {"solver": "ucls", "method": "vca"}, lambda r: "ucls" in r),
    "as many as there are": (lambda tile: tile, {"method": "fippi"}, lambda r: len(r["mean_abundance"]) >= 2),
    "bad chunk": (damaged, {"on_error": "mask"}, lambda r: r["bad_chunks"] == [[2, 1, 1]]),
    "cluster": (beside, {"cluster": "local", "workers": 1, "threads": 1}, lambda r: r["cluster"]["workers"] == 1),
}


def assert_valid(out: Path, validator: Any) -> dict[str, Any]:
    """The content of run.json, which the schema allows and which is the same after it was read."""
    content: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(content)] == []
    record = RunRecord.from_json(content)
    assert record.as_json() == content
    assert RunRecord.from_json(record.as_json()) == record
    assert list(record.as_json()) == list(content)
    return content


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.filterwarnings("ignore::hsichunk.errors.HsiWarning")
def test_a_run_writes_what_the_schema_says(kind: str, validator: Any, tmp_path: Path) -> None:
    make, options, holds = CASES[kind]
    go(make(small_tile(tmp_path / "a.h5")), tmp_path / "out", **options)
    assert holds(assert_valid(tmp_path / "out", validator))


@pytest.mark.filterwarnings("ignore::hsichunk.errors.HsiWarning")
def test_a_run_with_endmembers_of_a_file_and_a_tile_left_out(validator: Any, tmp_path: Path) -> None:
    tile = small_tile(tmp_path / "a.h5")
    given = library(tile)
    go([truncated(tile), tile], tmp_path / "out", on_error="skip", endmembers=given)
    content = assert_valid(tmp_path / "out", validator)
    assert "endmembers" not in content["stages"] and content["fingerprint"]["endmembers"]
    assert [Path(each["path"]).name for each in content["skipped"]] == ["0bad.h5"]


def test_a_resumed_run(validator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    tile = small_tile(tmp_path / "a.h5")
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", stop)
        with pytest.raises(Stop):
            run(asked(tile, tmp_path / "out"))
    go(tile, tmp_path / "out")
    assert assert_valid(tmp_path / "out", validator)["resumed"]
