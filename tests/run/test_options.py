"""The table of options: what it says is what commands, files, the fingerprint and the docs do, name by name."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

import hsichunk as hsi
from hsichunk import metrics, schema
from hsichunk.cli import main as cli
from hsichunk.errors import OptionError
from hsichunk.run import config_file, option_kinds
from hsichunk.run.option import ALL
from hsichunk.run.option_kinds import dashed
from hsichunk.run.options import TABLE, Options, build

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Options(("a.h5",), "out", threads=1)
OWN = {
    "config",
    "write_config",
    "dry_run",
    "report",
    "debug",
    "help",
    "output",
    "library",
    "far",
    "figure",
    "tile",
    "json",
}
BY_KIND: dict[option_kinds.Kind, Any] = {
    option_kinds.SWITCH: True,
    option_kinds.SIZE: 1_500_000_000,
    option_kinds.TEXT: "elsewhere",
    option_kinds.TEXTS: ("b, with a comma.h5", "c.h5"),
    option_kinds.RANGES: ((400.0, 1300.5), (1500.0, 1700.0)),
    option_kinds.NUMBERS: (0.25, 0.5, 0.75, 1e-05),
    option_kinds.NUMBER: 0.375,
    option_kinds.WHOLE: 7,
    option_kinds.SCORES: tuple(schema.METRICS[::-2][::-1]),
}


def other(name: str) -> Any:
    """A value that is not the default."""
    row = TABLE[name]
    if row.kind is option_kinds.NAME:
        return next(choice for choice in row.choices if choice != row.default)
    assert BY_KIND[row.kind] != row.value()
    return BY_KIND[row.kind]


def command(name: str) -> Any:
    group: Any = typer.main.get_command(cli.app)
    return group.commands[name]


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Options:
    """What `hsichunk run` understands."""
    from typer.testing import CliRunner

    asked: list[Options] = []
    monkeypatch.setattr("hsichunk.run.runner.run", lambda options, _: asked.append(options) or sys.exit(7))
    said = CliRunner().invoke(cli.app, ["run", *words])
    assert said.exit_code == 7, said.output
    return asked[0]


def test_the_table_is_the_keywords() -> None:
    assert [each.name for each in fields(Options)] == list(TABLE)
    types = get_type_hints(Options)
    for name, row in TABLE.items():
        assert row.name == name
        assert (type(None) in getattr(types[name], "__args__", ())) == (row.default is None), name
        if row.default is not MISSING and name != "threads":
            assert getattr(PLAIN, name) == row.value(), name


@pytest.mark.parametrize("name", ALL)
def test_commands_take_what_the_table_says(name: str) -> None:
    params = {param.name: param for param in command(name).params}
    rows = {row.name for row in TABLE.values() if name in row.commands}
    assert rows
    assert set(params) - rows <= OWN | ({"sample"} if name == "count" else set())
    for each in rows:
        param, row = params[each], TABLE[each]
        assert param.help == row.help
        assert row.positional or param.opts == [row.flag]


@pytest.mark.parametrize("name", TABLE)
def test_help_tells_default_and_choices(name: str) -> None:
    row = TABLE[name]
    assert re.fullmatch(r"[A-Z].*[^.]\.", row.help)
    for choice in option_kinds.dashed(row.choices):
        assert re.search(rf"\b{choice}\b", row.help) or choice == row.metavar
    if isinstance(row.default, str):
        assert re.search(rf"\b{row.default}\b[^.;:]*\(the default\)", row.help)
    elif row.default_shown not in ("", "none", "off"):
        assert row.help.endswith(f"({row.default_shown}).")


@pytest.mark.parametrize("name", TABLE)
def test_command_line_and_file_give_each_option(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(PLAIN, **{name: other(name)})
    if name != "overwrite":
        assert parsed(asked.words(), monkeypatch) == asked
        config_file.write(asked, tmp_path / "run.yml")
        assert build(config_file.read(tmp_path / "run.yml", {})) == asked
    else:
        assert asked.words() == PLAIN.words()
    assert build(asked.as_dict()) == asked
    assert parsed([*PLAIN.words(), *TABLE[name].words(other(name))], monkeypatch) == (
        replace(asked, tiles=PLAIN.tiles + asked.tiles) if name == "tiles" else asked
    )


def test_a_written_file_explains_every_option(tmp_path: Path) -> None:
    config_file.write(PLAIN, tmp_path / "run.yml")
    entries = (tmp_path / "run.yml").read_text().split("\n\n")[1:]
    told = [row for row in TABLE.values() if not row.asked_each_time]
    assert len(entries) == len(told) == len(TABLE) - 1
    for row, entry in zip(told, entries, strict=True):
        *lines, value = entry.strip().splitlines()
        assert " ".join(line.removeprefix("# ") for line in lines) == row.help
        assert value.startswith(f"{row.name.replace('_', '-')}: ")


@pytest.mark.parametrize("name", TABLE)
def test_the_fingerprint_holds_what_changes_results(name: str) -> None:
    changed = replace(PLAIN, **{name: other(name)})
    assert (changed.fingerprint([]) != PLAIN.fingerprint([])) == (TABLE[name].changes == "results")
    assert PLAIN.fingerprint([]) == replace(PLAIN).fingerprint([])
    assert set(PLAIN.fingerprint([])) == {
        "hsichunk", "inputs", *(row.name for row in TABLE.values() if row.changes == "results")
    }  # fmt: skip


def test_how_the_work_is_done_is_no_result() -> None:
    how = {row.name for row in TABLE.values() if row.changes != "results"}
    assert how == {
        "tiles", "endmembers", "out", "overwrite", "memory", "threads", "scheduler", "cluster", "workers", "profile"
    }  # fmt: skip


@pytest.mark.parametrize("name", [row.name for row in TABLE.values() if row.choices])
def test_values_outside_a_closed_set_are_told_what_is_in_it(name: str) -> None:
    with pytest.raises(OptionError) as error:
        build({"tiles": "a.h5", "out": "o", name: "nonsense"})
    assert str(error.value).startswith(f"{name.replace('_', '-')} is 'nonsense'; expected ")
    assert [choice for choice in dashed(TABLE[name].choices) if choice not in str(error.value)] == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("keep", "400", "400:1300"),
        ("keep", "400:1300:2", "400:1300"),
        ("drop", "a:b", "400:1300"),
        ("drop", [[400, "x"]], "400:1300"),
        ("drop", [[400]], "400:1300"),
        ("keep", "1300:400", "(low, high) in nm"),
        ("keep", "400:inf", "(low, high) in nm"),
        ("drop", "nan:nan", "(low, high) in nm"),
        ("drop_last", -1, "no or some bands"),
        ("maxit", 0, "at least one sweep"),
    ],
)
def test_bad_values_are_one_line(name: str, value: Any, expected: str) -> None:
    with pytest.raises(OptionError) as error:
        build({"tiles": "a.h5", "out": "o", name: value})
    assert str(error.value).startswith(f"{name.replace('_', '-')} is ")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown option nearer, sead \(did you mean seed\?\); known are bands, "):
        build({"nearer": 1, "sead": 2})
    with pytest.raises(OptionError, match=r"unknown option treshold_sid \(did you mean sid_threshold\?\); known are"):
        build({"treshold_sid": 2})


def test_a_shell_completes_closed_sets() -> None:
    def completed(*words: str) -> list[str]:
        *before, last = words
        [param] = [each for each in command("run").params if before[-1] in each.opts]
        context = typer.Context(command("run"))
        return [item.value for item in param.shell_complete(context, last)]

    assert completed("--method", "") == list(schema.METHODS)
    assert completed("--metric", "sam,s") == ["sam,sam", "sam,sid", "sam,sid-sam", "sam,sca"]
    assert completed("--on-error", "s") == ["stop", "skip"]


@pytest.mark.parametrize(
    ("function", "others"),
    [
        (hsi.clean, {"tile", "windows"}),
        (hsi.nfindr, {"cube"}),
        (hsi.atgp, {"cube"}),
        (hsi.fippi, {"cube"}),
        (hsi.vca, {"cube", "snr"}),
        (hsi.moments, {"cube", "noise"}),
        (hsi.fit_sample, {"cube", "model", "y"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_python_says_the_same_words(function: Any, others: set[str]) -> None:
    """Keywords are names of options, and defaults are theirs, but where everything is read unless told otherwise."""
    parameters = inspect.signature(function).parameters
    assert set(parameters) - others <= set(TABLE)
    for name in set(parameters) - others - {"k"}:
        given = parameters[name].default
        assert given == TABLE[name].value() or (given is None and function is hsi.moments), name


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.replace("│", " ").split())


SHOW = """
sys.path.insert(0, "scripts/documentation")
import hooks
from pathlib import Path
from hsichunk.cli.main import app
from hsichunk.run import config_file
from hsichunk.run.options import build
asked = build({"tiles": "a", "out": "b"})
print(hooks.options(), sorted(asked.fingerprint([])))
config_file.write(asked, Path("/dev/stdout"))
app(["run", "--help"])
"""


def test_a_new_metric_gets_its_threshold() -> None:
    text = said(
        "import sys\nfrom hsichunk import metrics\n"
        "metrics.METRICS += (metrics.METRICS[0]._replace(name='far_off', threshold=7.5, limit='Largest miles'),)\n"
        f"metrics.BY_NAME['far_off'] = metrics.METRICS[-1]\n{SHOW}"
    )
    assert "'far_off_threshold'" in text
    assert "# Largest miles: one, or one a class (7.5). far-off-threshold: [7.5]" in text
    assert "| `far_off_threshold` | `--far-off-threshold X[,X...]` | 7.5 | the same |" in text
    assert "--far-off-threshold X[,X...] Largest miles: one, or one a class (7.5)." in text
    assert f", {metrics.METRICS[-2].name}, {metrics.METRICS[-1].name} and far-off (sam,sid)" in text


def test_a_new_option_is_one_row() -> None:
    """The table of the source with a row more: the command line, the file, the fingerprint and the docs have it."""
    row = '    fewest: int = option(3, WHOLE, "Fewest pixels of a class.", CLASSES, rule=(lambda n: n > 0, "some"))\n'
    text = said(
        "import importlib.util, sys\n"
        "spec = importlib.util.find_spec('hsichunk.run.options')\n"
        "source = open(spec.origin).read()\n"
        "assert source.count('    # fmt: on\\n') == 1\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules[spec.name] = module\n"
        f"exec(source.replace('    # fmt: on\\n', {row!r}), vars(module))\n{SHOW}"
    )
    assert "'fewest'" in text
    assert "# Fewest pixels of a class (3). fewest: 3" in text
    assert "| `fewest` | `--fewest N` | 3 | the same | run | Fewest pixels of a class. |" in text
    assert "--fewest N Fewest pixels of a class (3)." in text
