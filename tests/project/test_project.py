"""The project's own files: what they must not name, what they pin, and what an import may pull in."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dask.array
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# Written so that the patterns do not match their own text.
MACHINE = re.compile(r"(?<![\w.}])/(?:root|home|Users|tmp|opt|work)/\w")
REGISTRY = re.compile(
    r"pypi[.]org|python[h]osted|(?:index|find|trusted)[-_](?:url|links|host)|[/]simple/", re.IGNORECASE
)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements() -> list[Requirement]:
    """Everything the package and its extras ask for, without the extras that name one another."""
    table = project()["project"]
    texts = table["dependencies"] + [text for extra in table["optional-dependencies"].values() for text in extra]
    return [r for r in map(Requirement, texts) if r.name != table["name"]]


def pins(python: str) -> list[Requirement]:
    """The lines of constraints.txt that hold for one version of Python."""
    lines = [Requirement(line) for line in CONSTRAINTS.read_text().splitlines()]
    return [r for r in lines if r.marker is None or r.marker.evaluate({"python_version": python})]


def project_files() -> list[Path]:
    """Tracked files and those that `git add` would take."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if not (ROOT / ".git").exists() or listing.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / os.fsdecode(name) for name in listing.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def python(code: str) -> str:
    """Standard output of the code, run from the project's root in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("pattern", [MACHINE, REGISTRY], ids=["machine path", "registry host"])
def test_no_file_names_a_machine_or_a_registry(pattern: re.Pattern[str]) -> None:
    found = []
    for path in project_files():
        lines = path.read_bytes().decode(errors="replace").splitlines()
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    assert found == []


def test_constraints_hold_versions_alone() -> None:
    line = re.compile(r'[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version (<|>=) "3\.1[0-9]")?')
    lines = CONSTRAINTS.read_text().splitlines()
    assert [text for text in lines if not line.fullmatch(text)] == []
    names = [text.partition("==")[0] for text in lines]
    assert names == sorted(names)


@pytest.mark.parametrize("version", PYTHONS)
def test_constraints_pin_every_dependency_once(version: str) -> None:
    pinned = {r.name: str(r.specifier).removeprefix("==") for r in pins(version)}
    assert len(pinned) == len(pins(version))
    unmet = [r for r in requirements() if not r.specifier.contains(pinned.get(canonicalize_name(r.name), "0"))]
    assert unmet == []


def test_dependencies_have_lower_bounds_alone() -> None:
    table = project()
    operators = {str(r): [s.operator for s in r.specifier] for r in requirements()}
    assert {text: found for text, found in operators.items() if found != [">="]} == {}
    assert table["project"]["requires-python"] == ">=3.11"


def test_entry_points_lead_somewhere() -> None:
    table = project()["project"]
    targets = [*table["scripts"].values(), *table["entry-points"]["xarray.backends"].values()]
    for target in targets:
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), target


def test_the_package_says_it_is_typed() -> None:
    assert (ROOT / "hsichunk" / "py.typed").is_file()


def test_import_hsichunk_is_light() -> None:
    loaded = python("import sys, hsichunk; print(hsichunk.__file__, *sys.modules)").split()
    assert Path(loaded[0]) == ROOT / "hsichunk" / "__init__.py"
    heavy = {"dask", "distributed", "h5py", "matplotlib", "numba", "rasterio", "rioxarray", "xarray", "zarr"}
    assert heavy.intersection(loaded[1:]) == set()


def test_kernels_know_arrays_alone() -> None:
    code = """
import importlib, pkgutil, sys
import hsichunk.kernels as kernels
names = [module.name for module in pkgutil.walk_packages(kernels.__path__, "hsichunk.kernels.")]
for name in names:
    importlib.import_module(name)
print(len(names), *sys.modules)
"""
    count, *loaded = python(code).split()
    assert int(count) > 0
    outside = {"dask", "distributed", "deflate", "h5py", "rasterio", "rioxarray", "xarray", "zarr"}
    assert outside.intersection(loaded) == set()


@pytest.mark.parametrize("name", ["scripts/demo", "scripts/test", ".ci/run"])
def test_scripts_can_be_run(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


@pytest.mark.parametrize("name", ["demo", "test"])
def test_scripts_refuse_an_unfit_python_in_one_line(name: str, tmp_path: Path) -> None:
    old = tmp_path / "old python"
    old.write_text("#!/bin/sh\nexit 3\n")  # what the scripts' probe answers in an older Python
    old.chmod(0o755)
    for interpreter, reason in [(old, "older than Python 3.11"), (tmp_path / "none", "does not run as Python")]:
        environment = os.environ | {"PYTHON": str(interpreter)}
        done = subprocess.run([ROOT / "scripts" / name], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith(f"scripts/{name}: ")
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1


def test_no_compute_notices_a_computation(no_compute: Any) -> None:
    array = dask.array.ones(4)
    with no_compute():
        lazy = array.sum()
        with pytest.raises(AssertionError, match="must stay lazy"):
            lazy.compute()
    assert lazy.compute() == 4
