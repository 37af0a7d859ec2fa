"""The folders of the package: who may import whom, no circle, nothing private, nothing too large."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# the way of the data: a folder imports the root's own modules and what stands to the left of it
WAY = ["kernels", "chunks", "readers", "mosaic", "cube", "endmembers", "unmixing", "analysis", "run", "results", "cli"]
STRANGERS = {frozenset({"endmembers", "unmixing"})}
# folders beside the way, for what stands to the right of analysis: what each of them imports beside the root
SHELVES = {
    "classification": {""},
    "writers": {"", "classification", "readers.envi"},
    "plot": {"", "classification"},
    "synthetic": {""},
}
FACES = {"hsichunk", "hsichunk.__main__"}  # what users import and start: made of everything
MOST_LINES, LARGE = 350, {"hsichunk.kernels.fcls"}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in sorted((ROOT / "hsichunk").rglob("*.py"))}


def imports(module: str) -> Iterator[tuple[str, str]]:
    """(module, name) of every import of the package, wherever in the module it stands; name is "" for a module."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "hsichunk")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names if node.module and node.module.split(".")[0] == "hsichunk" else ():
                whole = f"{node.module}.{alias.name}"
                yield (whole, "") if whole in MODULES else (str(node.module), alias.name)


IMPORTS = {module: sorted(set(imports(module))) for module in MODULES}


def folder_of(module: str) -> str:
    """The first folder of a module; "" for the root's own."""
    parts = [*module.split("."), ""]
    return parts[1] if len(parts) > 3 or MODULES[module].name == "__init__.py" else ""


def allowed(folder: str) -> set[str]:
    if folder in SHELVES:
        return SHELVES[folder]
    if folder == "":
        return set()
    left = WAY[: WAY.index(folder)]
    beside = SHELVES if "analysis" in left else ()
    return {"", *(other for other in left if frozenset({folder, other}) not in STRANGERS), *beside}


@pytest.mark.parametrize("module", sorted(set(MODULES) - FACES))
def test_a_module_imports_to_the_left_alone(module: str) -> None:
    here = folder_of(module)
    for other, _ in IMPORTS[module]:
        there = folder_of(other)
        fine = there in (here, *allowed(here)) or other.removeprefix("hsichunk.") in allowed(here)
        assert fine, f"{module} imports {other}; {here or 'the root'} may import {sorted(allowed(here))}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_nothing_private_of_another(module: str) -> None:
    private = [f"{other} {name}" for other, name in IMPORTS[module] if name.startswith("_") and name != "__version__"]
    assert not private
    source = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    modules = {other.rpartition(".")[2] for other, name in IMPORTS[module] if not name}
    for node in ast.walk(source):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert not node.attr.startswith("_"), f"{module}:{node.lineno}: {node.value.id}.{node.attr}"


def test_nobody_inside_imports_the_face() -> None:
    assert not [module for module in MODULES for other, _ in IMPORTS[module] if other == "hsichunk"]


def test_there_is_no_circle() -> None:
    graph = {module: {other for other, _ in found} for module, found in IMPORTS.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)  # raises CycleError, which names it


@pytest.mark.parametrize("module", [m for m in sorted(MODULES) if folder_of(m) == "kernels"])
def test_kernels_know_neither_labels_nor_tasks_nor_files(module: str) -> None:
    source = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(source) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(source) if isinstance(n, ast.ImportFrom) and n.module}
    assert {name.split(".")[0] for name in names}.isdisjoint({"xarray", "dask", "h5py", "zarr", "rasterio", "os"})


def test_the_folders_are_few_and_the_modules_small() -> None:
    folders = [path for path in (ROOT / "hsichunk").rglob("*") if (path / "__init__.py").exists()]
    assert len(folders) <= 18
    assert len(list((ROOT / "hsichunk").glob("*.py"))) <= 11
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES and name not in LARGE}


@pytest.mark.parametrize("folder", [path.parent for path in (ROOT / "hsichunk").rglob("__init__.py")][1:])
def test_packages_do_nothing_when_imported(folder: Path) -> None:
    """Importing a module imports the packages above it: a run must load neither xarray nor dask by that."""
    body = ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body
    if folder.name in ("plot", "synthetic"):  # public: their names are looked up when they are first used
        found = [node.module for node in body if isinstance(node, ast.ImportFrom) and node.module]
        assert not [name for name in found if name.startswith("hsichunk")]
    else:
        assert not body[1:]


def test_tests_lie_in_the_folders_of_what_they_test() -> None:
    ours = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    theirs = {path.parent.relative_to(ROOT / "hsichunk") for path in (ROOT / "hsichunk").rglob("__init__.py")}
    assert ours - {Path("project"), Path("helpers")} <= theirs
    assert {folder for folder in theirs if folder != Path(".")} <= ours


def test_the_test_of_a_module_is_found_by_its_path() -> None:
    """As tests/FOLDER/test_MODULE.py, or in the table of tests/README.md, of which no row is stale."""
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    rows = {
        row[1]: re.findall(r"\]\((\S+)\)", row[2]) for row in re.finditer(r"^\| `(\S+)\.py` \| (.+) \|$", text, re.M)
    }
    modules = {
        name.removeprefix("hsichunk.").replace(".", "/") for name, path in MODULES.items() if path.stem != "__init__"
    }
    own = {name for name in modules if (ROOT / "tests" / Path(name).parent / f"test_{Path(name).name}.py").exists()}
    assert sorted(modules - own - set(rows)) == []
    assert sorted(set(rows) - (modules - own)) == []
    assert not [test for tests in rows.values() for test in tests if not (ROOT / "tests" / test).exists()]
