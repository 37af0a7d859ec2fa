"""The pages that scripts/docs builds: complete, nothing mangled, nothing from elsewhere, nothing of this machine."""

from __future__ import annotations

import html
import inspect
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer
import xarray as xr

import hsichunk as hsi
from hsichunk.cli import main as cli
from hsichunk.run.folder import FILES, RUN_JSON
from hsichunk.run.options import TABLE
from tests.helpers.pages import ROOT, TEXTS, prose
from tests.helpers.runs import go
from tests.helpers.tiles import small_tile

SOURCE = ROOT / "scripts" / "documentation"
PAGES = sorted((SOURCE / "pages").glob("*.md"))
MODULES = {"plot": hsi.plot.__all__, "synthetic": ["write_tile"]}
WRAPPED = re.compile(r"\s+")

# mkdocs as its command starts it, but for any use of the network, which ends it.
OFFLINE = """
import runpy, sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise SystemExit(f"the network was asked for: {event} {args}")
sys.addaudithook(refuse)
sys.argv[0] = "mkdocs"
runpy.run_module("mkdocs", run_name="__main__")
"""


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    given = ["build", "--strict", "--config-file", str(config), "--site-dir", str(site)]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OFFLINE, *given], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages."""
    for module in ("mkdocs", "mkdocstrings", "mkdocstrings_handlers.python"):
        pytest.importorskip(
            module, reason="mkdocs and mkdocstrings[python] build the pages; pip install hsichunk[docs]"
        )
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(SOURCE / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Page(HTMLParser):
    """Text of what has an id, up to the next one; addresses; what a browser loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text: dict[str, str] = {"": ""}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self._at = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag.startswith("h") and "doc-heading" in given.get("class", ""):
            self._at = given["id"]
            self.text[self._at] = ""
        address = given.get("href", given.get("src"))
        if address is not None:
            (self.links if tag == "a" else self.loaded).append(address)

    def handle_data(self, data: str) -> None:
        self.text[self._at] += data


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {path.name: Page(path) for path in sorted(site.glob("*.html"))}


def shown(pages: dict[str, Page], name: str) -> str:
    """What the pages say of hsichunk.<name>, blanks made one."""
    [text] = [page.text[f"hsichunk.{name}"] for page in pages.values() if f"hsichunk.{name}" in page.text]
    return WRAPPED.sub(" ", text)


def said(value: Any) -> str:
    """A docstring as a reader of its page should see it."""
    return WRAPPED.sub(" ", (value.__doc__ or "").replace("`", "")).strip()


def documented() -> list[str]:
    """All that is asked for in the pages, in their order."""
    return [name for page in PAGES for name in re.findall(r"^::: hsichunk\.(\S+)$", page.read_text(), re.MULTILINE)]


def test_every_public_name_has_its_place_once() -> None:
    names = [name for name in documented() if "." not in name]
    assert sorted(names) == sorted(hsi.__all__)


def functions() -> list[str]:
    own = [name for name in hsi.__all__ if name not in MODULES]
    return own + [f"{module}.{name}" for module, names in MODULES.items() for name in names]


def found(name: str) -> Any:
    value: Any = hsi
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", functions())
def test_pages_show_signature_and_docstring_unmangled(name: str, pages: dict[str, Page]) -> None:
    text, value = shown(pages, name), found(name)
    assert len(said(value)) > 30
    assert said(value) in text
    if inspect.isroutine(value):
        signature = text.split(said(value))[0]
        parameters = inspect.signature(value).parameters.values()
        assert [each.name for each in parameters if not re.search(rf"\b{each.name}\b", signature)] == []
        assert "->" in signature
        for each in parameters:
            if isinstance(each.default, (int, float)) and not isinstance(each.default, bool):
                assert re.search(rf"\b{each.name}: [^=]+ = {each.default!r}\b", signature), each.name


@pytest.mark.parametrize("module", MODULES)
def test_modules_show_what_they_are_for(module: str, pages: dict[str, Page]) -> None:
    assert len(said(found(module))) > 30
    assert said(found(module)) in shown(pages, module)


def test_all_names_are_listed_with_a_link(site: Path) -> None:
    rows = (site / "names.html").read_text(encoding="utf-8").split("<tbody>")[1].split("</tbody>")[0]
    assert sorted(re.findall(r'href="\w+\.html#hsichunk\.(\w+)"', rows)) == sorted(hsi.__all__)


def test_every_command_and_option_is_shown(site: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", (site / "commands.html").read_text(encoding="utf-8")))
    group: Any = typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        [part] = re.findall(rf"^hsichunk {name}¶$(.*?)(?=^hsichunk \w+¶$|\Z)", text, re.MULTILINE | re.DOTALL)
        sentence = WRAPPED.sub(" ", command.help.split("\n\n")[0]).replace("`", "")
        assert sentence in WRAPPED.sub(" ", part)
        assert f"hsichunk {name} [" in part  # how it is called
        assert "Example: hsichunk " in part
        options = [each for param in command.params if not param.hidden for each in param.opts if each[0] == "-"]
        assert [each for each in options if each not in part] == []


def test_every_option_of_the_table_has_a_row(site: Path) -> None:
    text = html.unescape(re.sub(r"</?code>", "", (site / "options.html").read_text(encoding="utf-8")))
    rows = [
        re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    ]
    told = {cells[0]: cells[1:] for cells in rows if cells}
    assert list(told) == list(TABLE)
    for name, (asked, default, goes_on, commands, explanation) in told.items():
        row = TABLE[name]
        assert asked.split()[0] == row.flag
        assert default == row.default_shown
        assert (goes_on == "the same") == (row.changes == "results")
        assert commands.split(", ") == list(row.commands)
        assert explanation == row.explanation


def test_results_are_described(site: Path, tmp_path: Path) -> None:
    """Files, variables and keys of a small run are those of the page, with their types and units."""
    page = (SOURCE / "pages" / "formats.md").read_text(encoding="utf-8")
    tables = {
        title: body for title, body in re.findall(r"^##? (\S[^\n]*)$(.*?)(?=^##? |\Z)", page, re.MULTILINE | re.DOTALL)
    }
    small_tile(tmp_path / "tile.h5")
    go(tmp_path / "tile.h5", tmp_path / "out", k=3)
    left = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert left == {*FILES, RUN_JSON}
    assert [name for name in left if f"`{name}`" not in tables["Results of a run"]] == []
    assert (
        'The page "run.json"' in tables["run.json"]
    )  # the page that tests/project/test_run_json.py holds to the format
    with xr.open_zarr(tmp_path / "out" / "products.zarr") as stored:
        for name, variable in stored.data_vars.items():
            [row] = [row for row in tables["products.zarr"].splitlines() if re.match(rf"\|[^|]*`{name}`", row)]
            assert f"| {', '.join(variable.dims)} | {variable.dtype} |" in row
            unit = variable.attrs.get("units", "0 unclassified")
            assert name == "rmse" or f"| {unit}" in row
    lines = (tmp_path / "out" / "endmembers.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[:3]] == ["wavelength_nm", "x", "y"]
    assert "`wavelength_nm,EM1,EM2,...`" in page


@pytest.mark.parametrize("name", ["README.md", *(name for name in TEXTS if name != "README.md")])
def test_every_text_is_a_page(name: str, pages: dict[str, Page]) -> None:
    page = pages["index.html" if name == "README.md" else name.replace(".md", ".html")]
    text = "".join(page.text.values())
    headings = re.findall(r"^#+ (.+)$", prose(TEXTS[name]), re.MULTILINE)
    assert headings
    assert [heading for heading in headings if heading.replace("`", "") not in text] == []


def test_every_page_has_its_place_in_the_list(site: Path) -> None:
    """Strict builds warn of pages that are not in nav; here, that nav leads to them from the first page."""
    links = Page(site / "index.html").links
    assert {path.name for path in site.glob("*.html")} - {"404.html", "search.html"} <= {*links, "index.html"}


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    loaded = [address for page in pages.values() for address in page.loaded]
    assert any(address.endswith("style.css") for address in loaded)
    assert [address for address in loaded if urlsplit(address).scheme or address.startswith("//")] == []
    for sheet in site.rglob("*.css"):
        assert re.findall(r"url\(['\"]?(?:https?:)?//|@import", sheet.read_text(encoding="utf-8")) == []


def test_links_lead_to_what_is_there(site: Path, pages: dict[str, Page]) -> None:
    """Other hosts are those that the texts name; the rest are files of the site, and places in them."""
    named = set(re.findall(r"https?://[\w.-]+", "".join(TEXTS.values())))
    for name, page in pages.items():
        for link in page.links:
            place = urlsplit(link)
            if place.scheme:
                assert f"{place.scheme}://{place.netloc}" in named, (name, link)
            elif name != "404.html":  # which is for servers: its links begin at their root
                target = site / unquote(place.path) if place.path else site / name
                assert target.is_file(), (name, link)
                if place.fragment and target.suffix == ".html":
                    assert f'id="{place.fragment}"' in target.read_text(encoding="utf-8"), (name, link)


def test_no_host_beside_those_of_the_texts(site: Path) -> None:
    named = set(re.findall(r"https?://([\w.-]+)", "".join(TEXTS.values())))
    vocabulary = 'itemtype="http://schema.org/Article"'  # says what a page is; nobody goes there
    for path in site.glob("*.html"):
        hosts = re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8").replace(vocabulary, ""))
        assert set(hosts) <= named, path.name


def test_nothing_of_this_machine(site: Path) -> None:
    told = [str(ROOT), str(Path.home()), str(site.parent), sys.prefix]
    for path in site.rglob("*"):
        if path.suffix in (".html", ".xml", ".css", ".js"):
            text = path.read_text(encoding="utf-8")
            assert [place for place in told if len(place) > 1 and f"{place}/" in text] == [], path.name


def test_strict_builds_fail_for_what_is_missing(site: Path, tmp_path: Path) -> None:
    """What makes the build above worth something: a name that is not there ends it."""
    copy = tmp_path / "documentation"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    config = copy / "mkdocs.yml"
    text = config.read_text(encoding="utf-8").replace("paths: [../..]", f"paths: ['{ROOT}']")
    config.write_text(text.replace("hooks: [hooks.py]\n", ""), encoding="utf-8")
    for page in (copy / "pages").iterdir():
        page.unlink()
    (copy / "pages" / "index.md").write_text("# Index\n\n::: hsichunk.no_such_name\n", encoding="utf-8")
    config.write_text(re.sub(r"^nav:\n(?:  .*\n)+", "", config.read_text(encoding="utf-8"), flags=re.MULTILINE))
    done = build(config, tmp_path / "site")
    assert done.returncode != 0
    assert "no_such_name" in done.stderr + done.stdout
