"""Pages made of something else: README.md, the command's help, the table of options, names, the record of a run."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import run_json
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = Path(__file__).resolve().parent / "pages"
README = ROOT / "README.md"
GOES_ON = {"results": "the same", "inputs": "the same content", "work": "any"}  # options of a run that was stopped
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")  # where a link or picture leads, but for addresses
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)  # blocks of code, where brackets are no links

sys.path.insert(0, str(ROOT))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, the files of the project that pages link to, and the colours of code."""
    made = {
        "index.md": README.read_text(encoding="utf-8"),
        "commands.md": commands(),
        "options.md": options(),
        "names.md": names(),
        "run_json.md": run_json.page(),
        "style.css": style(),
    }
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    for path in linked([README, *sorted(PAGES.glob("*.md"))]):
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Links as the site has them: pages beside one another, everything else where it lies in the project."""
    folder = PAGES if (PAGES / page.file.src_uri).is_file() else ROOT

    def lead(match: re.Match[str]) -> str:
        path = (folder / match[1]).resolve()
        if path == README:
            return "index.md"
        for home in (PAGES, ROOT):
            if path.is_relative_to(home):
                return path.relative_to(home).as_posix()
        return match[1]

    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(lead, part) for part in parts[::2]]
    return "".join(parts)


def linked(pages: list[Path]) -> Iterator[Path]:
    """Files outside of pages/ that pages link to, and those that these link to, each once."""
    known = {README}
    while pages:
        page = pages.pop(0)
        prose = FENCED.sub("", page.read_text(encoding="utf-8"))
        for target in LINK.findall(prose):
            path = (page.parent / target).resolve()
            if path in known or not path.is_file() or path.is_relative_to(PAGES) or not path.is_relative_to(ROOT):
                continue
            known.add(path)
            yield path
            if path.suffix == ".md":
                pages.append(path)


def commands() -> str:
    """The help of the command line and of each of its commands, with their options."""
    import typer
    from typer.cli import get_docs_for_click

    from hsichunk.cli import main as cli

    group: Any = typer.main.get_command(cli.app)
    for command in group.commands.values():
        command.short_help = command.help.split("\n\n")[0]  # the whole sentence in the list of commands
    return get_docs_for_click(obj=group, ctx=typer.Context(group), name="hsichunk", title="Every command")


def options() -> str:
    """Every option of a run in a table a group: how it is asked for, what holds otherwise, which commands take it."""
    from hsichunk.run.options import TABLE

    lines = [
        "# Options of a run\n",
        "A YAML file for `run --config` takes each of them by its name, with - or _; "
        "`run --write-config` writes such a file, and `run.json` names them the same. What is given on the command "
        "line wins. To go on where it was stopped, a run needs the same as before of what changes results.\n",
    ]
    for group in dict.fromkeys(row.group for row in TABLE.values()):
        lines += [
            f"## {'Tiles and results' if group == 'Options' else group}\n",
            "| name | command line | default | to go on | commands | what it is |",
            "|---|---|---|---|---|---|",
        ]
        for name, row in TABLE.items():
            if row.group == group:
                asked = row.flag if row.shown in (None, row.flag) else f"{row.flag} {row.shown}"
                cells = (f"`{name}`", f"`{asked}`", row.default_shown, GOES_ON[row.changes], ", ".join(row.commands))
                lines.append(f"| {' | '.join(cells)} | {row.explanation} |")
        lines.append("")
    return "\n".join(lines)


def names() -> str:
    """Every public name in a table, with the first sentence of its docstring and a link to the rest."""
    import hsichunk

    rows = []
    for name in sorted(hsichunk.__all__, key=str.lower):
        first = (inspect.getdoc(getattr(hsichunk, name)) or "").split("\n\n")[0].replace("\n", " ")
        rows.append(f"| [`{name}`][hsichunk.{name}] | {first.replace('|', chr(92) + '|')} |")
    table = "\n".join(["| name | what it is |", "|---|---|", *rows])
    return f"# All names\n\nEvery name of `import hsichunk as hsi`.\n\n{table}\n"


def style() -> str:
    """Colours of code, one frame around it, and lines of the width that it was written for."""
    from pygments.formatters import HtmlFormatter

    own = [
        ".wy-nav-content { max-width: 1100px }",
        ".rst-content .highlight pre code { border: 0; padding: 0; background: none }",
        ".rst-content .highlight pre { padding: 12px; white-space: pre-wrap }",
        ".highlight .filename { display: block; font-weight: bold }",  # the name to save a block as
        ".doc-contents { padding-left: 1.5em }",
        ".wy-table-responsive table td { white-space: normal }",  # sentences in tables wrap
    ]
    return "\n".join([str(HtmlFormatter(style="friendly").get_style_defs(".highlight")), *own, ""])
