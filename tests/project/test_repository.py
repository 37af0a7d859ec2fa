"""The files that an inheritor looks for: they are there, can be parsed, and name what exists."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from packaging.requirements import Requirement

import hsichunk
from hsichunk.cli import main as cli
from tests.helpers.pages import PAGES, ROOT, links, prose

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MARKDOWN = [*sorted(ROOT.glob("*.md")), *sorted(PAGES.glob("*.md")), ROOT / "tests" / "README.md"]
HOST = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"


def parsed(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


WORKFLOW = parsed(".github/workflows/ci.yml")
JOBS: dict[str, Any] = WORKFLOW["jobs"]


def commands(job: dict[str, Any]) -> Iterator[list[str]]:
    """The words of every line that a job runs; what GitHub fills in is left as it is."""
    for step in job["steps"]:
        for line in re.split(r"\n|; |&& ", step.get("run", "")):
            words = shlex.split(re.sub(r"^(if .*?|then) ", "", line.strip()), comments=True)
            if words and words != ["fi"]:
                yield words


LINES = [(name, words) for name, job in JOBS.items() for words in commands(job)]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_to_files_of_the_project(path: Path) -> None:
    found = links(path)
    assert [target for target in found if not target.is_file() or not target.is_relative_to(ROOT)] == []


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_to_headings(path: Path) -> None:
    """As the repository's web page makes their anchors."""
    for target, place in re.findall(r"\]\((?!\w+:)([^)\s#]*)#([^)\s]+)\)", prose(path.read_text(encoding="utf-8"))):
        text = ((path.parent / target) if target else path).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
        assert place in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def without_code(path: Path) -> str:
    """The text of a Markdown file that is no code."""
    return re.sub(r"`[^`]*`", "", prose(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_are_of_the_kind_that_the_tests_follow(path: Path) -> None:
    """`[text](target)` on one line, without a title: no references, no HTML."""
    text = without_code(path)
    assert text.count("](") == len(re.findall(r"\]\([^)\s]+\)", text))
    assert re.findall(r"\]\[|^\s*\[[^\]]+\]:|<a\b|<img\b|href=", text, re.MULTILINE) == []


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_addresses_on_the_web_are_well_formed(path: Path) -> None:
    text = without_code(path)
    addresses = re.findall(r"\]\((\w+:[^)]*)\)", text) + re.findall(r"(?<!\]\()\bhttps?:[^\s)>]*", text)
    for address in addresses:
        parts = urlsplit(address)
        assert parts.scheme == "https" and HOST.fullmatch(parts.netloc), address
        assert re.fullmatch(r"[\w./?=&%#~+-]*[\w/]", parts.path + parts.query + parts.fragment or "/"), address


def test_some_addresses_and_headings_are_linked() -> None:
    """The tests above would hold of pages without any."""
    texts = "".join(map(without_code, MARKDOWN))
    assert len(re.findall(r"\]\(https:", texts)) >= 2
    assert len(re.findall(r"\]\([^)]*#", texts)) >= 2


def test_every_kind_of_system_and_python_is_tried() -> None:
    systems, pythons = set(), set()
    for job in JOBS.values():
        matrix = job.get("strategy", {}).get("matrix", {})
        systems |= {job["runs-on"], *matrix.get("os", ())}
        pythons |= {*matrix.get("python", ()), *(row["python"] for row in matrix.get("include", ()))}
    assert {"ubuntu-latest", "macos-latest", "windows-latest"} <= systems
    known = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert pythons == {known[0], known[-1]}


def test_actions_are_pinned_by_major_version() -> None:
    used = [step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert len(used) > 5
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", name)] == []


def test_every_job_ends_and_is_needed_by_a_release() -> None:
    assert all(job["timeout-minutes"] > 0 for job in JOBS.values())
    assert set(JOBS["release"]["needs"]) == set(JOBS) - {"release"}
    assert JOBS["release"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert WORKFLOW[True]["push"]["tags"] == ["v*"]  # YAML 1.1 reads the key `on` as true
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_the_workflow_runs_what_exists() -> None:
    """Files of the project are there, those that are run can be; modules and commands exist or were installed."""
    files, modules = set(), set()
    for job, words in LINES:
        installed = {word for name, other in LINES if name == job and "install" in other for word in other}
        for word in words:
            if re.match(r"(scripts|\.ci|tests|benchmarks)/", word):
                files.add(word)
                assert (ROOT / word).is_file(), word
        if "/" in words[0] and (ROOT / words[0]).is_file():
            assert os.access(ROOT / words[0], os.X_OK), words[0]
        if words[:2] == ["python", "-m"]:
            modules.add(words[2])
            assert words[2] in installed or importlib.util.find_spec(words[2]), words[2]
        if "hsichunk" in (words[0].rpartition("/")[2], words[2] if words[:2] == ["python", "-m"] else ""):
            [command] = [word for word in words if word in group()]
            assert {word for word in words if word.startswith("--")} <= group()[command]
    assert {".ci/run", "scripts/docs", "scripts/lowest.py", "scripts/constraints.txt"} <= files
    assert {"pytest", "hsichunk", "build"} <= modules


def group() -> dict[str, set[str]]:
    """The commands of hsichunk and the options of each."""
    found: Any = typer.main.get_command(cli.app)
    return {name: {o for given in command.params for o in given.opts} for name, command in found.commands.items()}


def test_extras_that_are_installed_exist() -> None:
    named = set(re.findall(r"\.\[(\w+)\]", " ".join(word for _, words in LINES for word in words)))
    assert named
    assert named <= set(PROJECT["optional-dependencies"])


def test_the_lowest_versions_are_those_of_the_project() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "lowest.py")]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    pins = {line.name: line.specifier for line in map(Requirement, printed.splitlines())}
    texts = PROJECT["dependencies"] + [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
    asked = [one for one in map(Requirement, texts) if one.name != PROJECT["name"]]
    assert {one.name for one in asked} == set(pins)
    for one in asked:
        [least], [pin] = one.specifier, pins[one.name]
        assert (least.operator, pin.operator, pin.version) == (">=", "==", least.version), one.name


def test_hooks_run_the_tools_of_the_environment() -> None:
    config = parsed(".pre-commit-config.yaml")
    [repository] = config["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    tools = [shlex.split(hook["entry"]) for hook in repository["hooks"]]
    assert [words[:2] for words in tools] == [["ruff", "check"], ["ruff", "format"], ["mypy", "hsichunk"]]
    for tool in {words[0] for words in tools}:
        assert shutil.which(tool, path=str(Path(sys.executable).parent)), tool
    checked = (ROOT / "scripts" / "test").read_text(encoding="utf-8")
    assert all(f"{words[0]} {words[1]}" in checked for words in tools)


def test_the_citation_is_that_of_this_version() -> None:
    citation = parsed("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == PROJECT["name"]
    assert citation["version"] == hsichunk.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == [{"name": "The hsichunk developers"}]
    assert {"message", "abstract", "keywords"} <= set(citation)


@pytest.mark.parametrize("path", sorted(FORMS.glob("*.yml")), ids=lambda path: path.name)
def test_issue_forms_are_whole(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({part["id"] for part in fields}) == len(fields) >= 3
    assert all(part["attributes"]["label"] for part in fields)
    assert any(part.get("validations", {}).get("required") for part in fields)


def test_there_is_a_form_for_bugs_and_one_for_questions() -> None:
    assert {path.stem for path in FORMS.glob("*.yml")} == {"bug", "question"}


def test_the_source_archive_holds_what_its_readme_leads_to() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    included = hatch["build"]["targets"]["sdist"]["include"]
    always = {"/README.md", "/LICENSE", "/pyproject.toml"}
    for target in links(ROOT / "README.md"):
        name = f"/{target.relative_to(ROOT).as_posix()}"
        top = f"/{target.relative_to(ROOT).parts[0]}"
        held = {name, top} & {*included, *always} or (name == top and name.endswith(".md") and "/*.md" in included)
        assert held, name
    assert PROJECT["readme"] == "README.md"
