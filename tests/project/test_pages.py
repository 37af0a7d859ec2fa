"""README.md and the pages: their Python runs, their command lines do what they say, their names exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import typer
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import hsichunk as hsi
from hsichunk.cli import main as cli
from hsichunk.cli.demo import TILE
from hsichunk.run.folder import FILES, RUN_JSON
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.pages import ROOT, TEXTS, TUTORIALS, blocks, command_lines, prose, spans
from tests.helpers.runs import shell
from tests.helpers.tiles import SHAPE, small_tile

GUIDES = [name for name in TEXTS if name not in TUTORIALS]  # test_tutorials.py runs those
BLOCKS = {f"{name}-{i}": block for name in GUIDES for i, block in enumerate(blocks(TEXTS[name], "python"))}
COMMANDS = list(dict.fromkeys(line for text in TEXTS.values() for line in command_lines(text)))
LINES = [line for line in COMMANDS if line == "hsichunk demo" or re.search(r"\bTILE\b|\bDIR\b|tiles/", line)]
NAMED = [line for line in COMMANDS if line not in LINES]  # commands and options that the text speaks of
PROSE = "\n".join(map(prose, TEXTS.values()))
EVERYTHING = "\n".join(TEXTS.values())

# Blocks and commands that a test cannot run are parsed alone.
ELSEWHERE = ("dask_jobqueue", "neonutilities")  # need a Slurm cluster, and NEON's server
PARSED_ONLY = (
    "hsichunk view DIR",  # stays until Ctrl-C; test_viewer.py asks it for pages
    "hsichunk run tiles/*.h5 --out site --scheduler tcp://host:8786 --memory 4GB",  # test_cluster.py starts a cluster
)


def runs_here(block: str) -> bool:
    return not any(module in block for module in ELSEWHERE)


def expressions() -> list[str]:
    """The expressions that use the package in the running text and in the table, each once."""
    found = {}
    for span in (span for text in TEXTS.values() for span in spans(text)):
        if "hsi." in span or "engine=" in span:
            ast.parse(span)
            found[span] = None
    return list(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiles of the pages' names, neighbours on the ground, and a finished run of README's command."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "tiles").mkdir()
    small_tile(folder / TILE)
    for i in range(2):
        small_tile(folder / "tiles" / f"tile_{i}.h5", origin=(368000.0 + SHAPE[1] * i, 4307000.0))
    [first] = [line for line in command_lines(TEXTS["README.md"]) if line in LINES]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status, said = shell(*words(first))
    assert status == 0, said
    return folder


def words(line: str) -> list[str]:
    """A command line as the shell would give it, TILE and DIR filled in; from inside the folder."""
    tiles = ["tiles/tile_0.h5", "tiles/tile_1.h5"]
    out: list[str] = []
    for word in shlex.split(line)[1:]:
        match word:
            case "TILE":
                out.append(TILE)
            case "TILE..." | "tiles/*.h5":
                out += tiles
            case "DIR":
                out.append("results")
            case _:
                out.append(word)
    return out


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(cli.app)
    return dict(group.commands)


def options(command: Any) -> set[str]:
    return {name for given in command.params for name in given.opts}


def test_pages_hold_what_this_file_looks_for() -> None:
    assert len(BLOCKS) == 4
    shown = command_lines(TEXTS["command_line.md"])
    assert {shlex.split(line)[1] for line in shown if line in LINES} == set(commands())
    assert set(PARSED_ONLY) <= set(LINES)
    assert len(LINES) > 12
    assert len(expressions()) > 30
    assert set(SPECIAL) <= set(expressions())


@pytest.mark.parametrize("name", [name for name in BLOCKS if runs_here(BLOCKS[name])])
def test_python_runs_as_written(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / TILE).symlink_to(folder / TILE)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[name], name, "exec"), names)
    plt.close("all")
    if name.startswith("README.md"):
        assert {path.name for path in (tmp_path / "out").iterdir()} >= {"products.zarr", "sid_class.tif"}
        assert set(names["out"].data_vars) == {"abundance", "rmse", "sam", "sid"}
        assert names["label"].attrs["flag_meanings"] == "unclassified EM1 EM3 EM4 no_data"


@pytest.mark.parametrize("text", TEXTS)
def test_python_is_python(text: str) -> None:
    for block in blocks(TEXTS[text], "python"):
        compile(block, text, "exec")


@pytest.mark.parametrize("line", NAMED)
def test_named_commands_and_their_options_exist(line: str) -> None:
    _, name, *rest = line.split()
    if name.startswith("--"):
        name, rest = "run", [name]
    known = {*options(commands()[name]), "--version"}
    assert {word for word in rest if word.startswith("-")} - known == set()


@pytest.mark.parametrize("line", LINES)
def test_command_lines_are_understood(line: str) -> None:
    name, *rest = words(line)
    assert commands()[name].make_context(name, rest).params


@pytest.mark.parametrize("line", [line for line in LINES if line not in PARSED_ONLY])
def test_command_lines_run(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    name, *rest = words(line)
    if name == "demo":
        rest += ["--size", "80"]  # for time; 300 as written
    if "site" in rest:
        rest += ["--overwrite"]  # each is a run of its own
    status, said = shell(name, *rest)
    assert status == 0, said
    assert said.strip()
    left = {
        "endmembers": ["em.csv"],
        "report": ["results/report.html"],
        "demo": ["hsichunk-demo/rgb.png", "hsichunk-demo/results/run.json"],
        "plot": ["results/figures/endmembers.pdf"],
        "export": ["results/envi/sid_class.img", "results/envi/endmembers.sli"],
        "run": ["site/run.json" if "site" in rest else "results/run.json"],
    }
    assert [path for path in left.get(name, ()) if not (folder / path).is_file()] == []


@pytest.mark.parametrize("text", ["README.md", "command_line.md"])
def test_run_leaves_what_is_said(text: str, folder: Path) -> None:
    [said] = re.findall(r"^(?:The run|`run`) leaves in `DIR`:(.*?)\n\n", TEXTS[text], re.MULTILINE | re.DOTALL)
    named = re.findall(r"`([a-z_]+\.[a-z]+)`", said)
    maps = [name for name in FILES if not name.endswith(".aux.xml")]  # class names of the map of that name
    assert sorted(named) == sorted([*maps, RUN_JSON])
    assert [name for name in named if not (folder / "results" / name).exists()] == []


def test_every_option_exists() -> None:
    scripts = set(re.findall(r"^(--[a-z]+)\)", (ROOT / "scripts" / "test").read_text(), re.M))
    assert scripts == {"--all"}
    known = {"--help", "--version", *scripts}.union(*map(options, commands().values()))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PROSE))
    assert len(named) > 15
    assert named - known == set()


def test_every_extra_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"hsichunk\[(\w+)\]", EVERYTHING))
    assert named
    assert named <= set(extras)


def test_every_public_name_exists() -> None:
    names = set(re.findall(r"\bhsi\.(\w+)", EVERYTHING))
    assert len(names) > 40
    assert names - set(hsi.__all__) == set()


PYSPTOOLS = (
    "abundance_maps", "classification", "detection", "distance", "eea", "material_count", "noise", "sigproc", "skl",
    "spectro", "util",
)  # fmt: skip
NO_ROW = {
    "plot1", "cm_dispatch",  # of Output, for PySpTools' own plots
    "dispatch",  # of InputValidation
    "print",  # of the cross-validation, the best parameters
}  # fmt: skip


def names_of_pysptools() -> set[str]:
    """Public classes, functions and methods; of `ml`, which does not import without LightGBM, what it imports."""
    found = set()
    with oracle.names_put_back():
        for module in PYSPTOOLS:
            for name, value in vars(importlib.import_module(f"pysptools.{module}")).items():
                if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
                    continue
                methods = vars(value) if inspect.isclass(value) else ()
                found |= {name, *(m for m in methods if not m.startswith("_") and callable(vars(value)[m]))}
    spec = importlib.util.find_spec("pysptools")
    assert spec and spec.origin
    body = ast.parse((Path(spec.origin).parent / "ml" / "__init__.py").read_text()).body
    return found | {
        alias.name for line in body if isinstance(line, ast.ImportFrom) for alias in line.names if line.level
    }


def test_every_name_of_pysptools_has_a_row() -> None:
    """In the left column, where those who look for it look."""
    pytest.importorskip("pysptools")
    left = " ".join(line.split(" | ")[0] for line in TEXTS["pysptools.md"].splitlines() if line.startswith("| "))
    names = names_of_pysptools()
    assert {"FCLS", "SavitzkyGolay", "get_single_map", "HyperLGBMClassifier", "corr", "Output"} <= names
    assert len(names) > 100
    assert names - set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", left)))) == NO_ROW


@pytest.mark.parametrize("text", expressions())
def test_expressions_run(text: str, folder: Path, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each expression of the text and of the table, on a small cube: what it calls takes what it is given."""
    monkeypatch.chdir(folder)
    names = values | SPECIAL.get(text, lambda _: {})(values)
    body = ast.parse(text).body
    last = body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(body, []), "a page", "exec"), names)
    found = eval(compile(ast.Expression(last.value), "a page", "eval"), names)
    if isinstance(found, (xr.DataArray, xr.Dataset)):
        found = found.compute()
        layers = found.data_vars.values() if isinstance(found, xr.Dataset) else [found]
        assert all(np.size(layer) for layer in layers)
    else:
        assert callable(found) or found.best_params_  # a name alone; or a fitted search


@pytest.fixture(scope="module")
def values(folder: Path) -> dict[str, Any]:
    """What the names of the expressions stand for."""
    tile = hsi.open_tile(folder / TILE)
    cube = hsi.clean(tile, drop_last=0)
    em = hsi.nfindr(cube, 4)
    library = hsi.write_library(em, folder / "library.csv")
    out = hsi.unmix(cube, em).compute()
    _write_site(folder / "site.geojson", tile)
    y = out.abundance.fillna(0).argmax("endmember").where(out.rmse.notnull(), -1)
    return {
        "hsi": hsi, "xr": xr, "tile": tile, "cube": cube, "em": em, "out": out, "y": y,
        "path": folder / TILE, "paths": sorted((folder / "tiles").glob("*.h5")), "library": hsi.read_library(library),
        "array": cube.values, "wavelength": cube.wavelength.values, "SVC": KNeighborsClassifier, "cube_or_em": em,
        "k": 3, "n": 3, "t": 0.3, "thr": 0.5, "w": 5, "o": 2, "deriv": 0, "library_path": library,
        "label": y, "KMeans": KMeans, "StandardScaler": StandardScaler, "GridSearchCV": GridSearchCV,
        "grid": {"n_neighbors": [3, 5]},
    }  # fmt: skip


def _write_site(path: Path, tile: xr.Dataset) -> None:
    """A polygon of the left half of a tile, in its own CRS."""
    left, right, low, high = (float(v) for v in (tile.x[0], tile.x.mean(), tile.y.min(), tile.y.max()))
    ring = [[left, low], [right, low], [right, high], [left, high], [left, low]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32618"}}
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring], "crs": crs}))


def _target(values: dict[str, Any]) -> dict[str, Any]:
    """A spectrum to detect, and the endmembers without it."""
    return {"t": values["em"].isel(endmember=0), "em": values["em"].isel(endmember=slice(1, None))}


SPECIAL: dict[str, Any] = {
    "hsi.matched_filter(cube, t) > thr": _target,
    "hsi.osp(cube, em, t)": _target,
    "hsi.read_library(spectra, wavelength, names)": lambda values: {
        "spectra": values["em"].values.tolist(),
        "names": list("abcd"),
    },
    "hsi.read_library(path)": lambda values: {"path": values["library_path"]},
    "f = hsi.mnf(cube, n); f.transform(cube); f.inverse(scores)": lambda values: {
        "scores": hsi.mnf(values["cube"], 3).transform(values["cube"])
    },
}
