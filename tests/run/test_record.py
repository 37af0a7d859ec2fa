"""run.json as a record: what is written comes back, what is damaged or of another format is told in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hsichunk.errors import HsiError
from hsichunk.run import json_records
from hsichunk.run.json_records import ABSENT, RecordError
from hsichunk.run.notes import SearchStage, Stage, Stages
from hsichunk.run.record import SCHEMA, Certificate, RunRecord, read_record
from tests.helpers.records import example

PACKAGE = Path(__file__).resolve().parents[2] / "hsichunk"


def through_json(record: RunRecord) -> Any:
    return json.loads(json.dumps(record.as_json()))


def test_what_is_written_comes_back() -> None:
    record = example()
    assert RunRecord.from_json(through_json(record)) == record
    assert RunRecord.from_json(record.as_json()).as_json() == record.as_json() == through_json(record)


def test_names_in_json_are_those_of_the_format() -> None:
    content = example().as_json()
    assert list(content)[:2] == ["schema", "hsichunk"] and content["schema"] == SCHEMA
    assert content["pass"] == {"chunks": 12, "bytes": 12_000}
    assert list(content["stages"]) == ["sample", "endmembers", "pass", "classes", "geotiff"]
    assert content["cluster"] is None and "nnls" not in content
    assert content["options"]["maxit"] is None
    assert "certified" not in content["stages"]["endmembers"]


DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a name short": (lambda c: c.pop("pixels"), "pixels is missing"),
    "a name short below": (lambda c: c["pixels"].pop("valid"), "pixels.valid is missing"),
    "an unknown name": (lambda c: c.update(more=1), "more is unknown"),
    "an unknown name below": (lambda c: c["stages"]["pass"].update(more=1), "stages.pass.more is unknown"),
    "an unknown stage": (lambda c: c["stages"].update(more={}), "stages.more is unknown"),
    "text for a number": (lambda c: c.update(seconds="4"), "seconds is '4'; expected a number"),
    "a fraction of a pixel": (lambda c: c["pixels"].update(valid=1.5), "pixels.valid is 1.5; expected a whole number"),
    "true for a number": (lambda c: c["bands"].update(kept=True), "bands.kept is True; expected a whole number"),
    "null for a record": (lambda c: c.update(site=None), "site is None; expected names with values"),
    "one side alone": (lambda c: c["site"].update(shape=[90]), r"site.shape is \[90\]; expected 2 values"),
    "a number for a list": (lambda c: c.update(inputs=3), "inputs is 3; expected a list"),
    "an input of nothing": (lambda c: c["inputs"].append({}), r"inputs\[1\].name is missing"),
    "no certificate": (lambda c: c.pop("fcls"), "fcls is missing"),
    "an option that cannot be": (lambda c: c["options"].update(method="guess"), "method is 'guess'; expected nfindr"),
    "an unknown option": (lambda c: c["options"].update(more=1), "options.more is unknown"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_named_in_one_line(how: str) -> None:
    content = through_json(example())
    change, said = DAMAGE[how]
    change(content)
    with pytest.raises(HsiError, match=f"^out/run.json: is damaged, {said}.*; run again with --overwrite$") as refused:
        RunRecord.from_json(content, Path("out/run.json"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [None, 3, [], {}, {"name": "npm"}, {"hsichunk": 3}])
def test_what_is_no_record_is_told(content: Any) -> None:
    with pytest.raises(HsiError, match=r"^run\.json: is no record of a run; expected .*finished `hsichunk run`"):
        RunRecord.from_json(content)


@pytest.mark.parametrize(("version", "told"), [(None, 0), (SCHEMA + 1, SCHEMA + 1), (str(SCHEMA), SCHEMA)])
def test_another_format_is_refused_with_its_maker(version: Any, told: int) -> None:
    content = {**through_json(example()), "schema": version, "pixels": "in another way"}
    with pytest.raises(HsiError, match=rf"hsichunk 0\.0 wrote it in format {told}, hsichunk .* reads format {SCHEMA}"):
        RunRecord.from_json(content)


def test_reading_a_folder(tmp_path: Path) -> None:
    with pytest.raises(HsiError, match=r"holds no run\.json; expected the folder of a finished"):
        read_record(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(example().as_json()))
    assert read_record(tmp_path) == example()
    path.write_text(path.read_text()[:-30])
    with pytest.raises(HsiError, match=rf"^{re.escape(str(path))}: is no record of a run"):
        read_record(tmp_path)


def test_stages_add_up() -> None:
    cost = Stage(seconds=0.1, chunks_decoded=2, bytes_decoded=30, chunks_kept=1, bytes_fetched=5)
    stages = Stages().plus("pass", cost).plus("pass", replace(cost, seconds=0.2))
    assert list(stages.items()) == [
        ("pass", Stage(seconds=0.3, chunks_decoded=4, bytes_decoded=60, chunks_kept=2, bytes_fetched=10))
    ]
    stages = stages.plus("endmembers", cost).with_search(swaps=2, certified=1, converged=1)
    stages = stages.plus("endmembers", cost).with_search(swaps=3, certified=0, converged=1)
    assert stages.endmembers == replace(
        SearchStage(swaps=5, certified=0, converged=1), seconds=0.2, chunks_decoded=4, bytes_decoded=60,
        chunks_kept=2, bytes_fetched=10,
    )  # fmt: skip
    assert [name for name, _ in stages.items()] == ["endmembers", "pass"]  # in the order of the job


def test_the_certificate_is_the_solvers() -> None:
    record = example()
    assert record.certificate == record.fcls
    nnls = Certificate(worst_kkt=0.0)
    other = replace(record, options=replace(record.options, solver="nnls"), fcls=None, nnls=nnls)
    assert other.certificate == nnls and RunRecord.from_json(through_json(other)) == other


@dataclass(frozen=True)
class Part:
    size: float


@dataclass(frozen=True)
class Whole:
    parts: list[Part]
    pairs: tuple[tuple[int, str], ...]
    counts: dict[str, list[int]]
    class_: str | None
    extra: Part | None = field(default=None, metadata=ABSENT)


def test_records_of_any_kind() -> None:
    whole = Whole([Part(0.5)], ((1, "a"), (2, "b")), {"x": [1, 2]}, None)
    content = {"parts": [{"size": 0.5}], "pairs": [[1, "a"], [2, "b"]], "counts": {"x": [1, 2]}, "class": None}
    assert json_records.as_json(whole) == content
    assert json_records.from_json(Whole, content) == whole
    found = json_records.from_json(Whole, {**content, "extra": {"size": 3}})
    assert found.extra == Part(3.0) and type(found.extra.size) is float
    for wrong, said in (
        ({"pairs": [[1, 2]]}, r"pairs\[0\]\[1\] is 2; expected text"),
        ({"counts": {"x": [None]}}, r"counts\.x\[0\] is None; expected a whole number"),
        ({"parts": {}}, "parts is {}; expected a list"),
        ({"class": "x" * 60}, None),
        ({"counts": "x" * 60}, r"counts is 'x{36}\.\.\.; expected names with values"),
        ({"class_": "x"}, "class_ is unknown; expected parts, pairs, counts, class, extra"),
    ):
        if said is None:
            json_records.from_json(Whole, {**content, **wrong})
            continue
        with pytest.raises(RecordError, match=said):
            json_records.from_json(Whole, {**content, **wrong})


OWN_DICTIONARIES = {"run/record.py"}  # makes the record of the dictionary
ACCESS = re.compile(r"""(?:(?<!attrs)(?<=[\w\])])\[|\.(?:get|pop)\()["'](\w+)["'](?=[\],)])""")


def test_nobody_reads_the_record_as_a_dictionary() -> None:
    names = set(example().as_json()) | {"nnls", "ucls"}
    assert ACCESS.findall("""report["pixels"]["valid"]; run.get('bands', {})""") == ["pixels", "valid", "bands"]
    found = []
    for folder in ("run", "results", "cli"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            where = path.relative_to(PACKAGE).as_posix()
            if where not in OWN_DICTIONARIES:
                found += [f"{where}: {name}" for name in ACCESS.findall(path.read_text()) if name in names]
    assert not found
