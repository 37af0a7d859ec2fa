"""Generate pages for mkdocs: README.md, the help of the command line, options, public names, the format of run.json."""

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
TO_CONTINUE = {"results": "the same", "inputs": "the same content", "work": "any"}  # what a stopped run may be given
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")  # the target of a link or picture that is no web address
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)  # code, in which brackets are no links

sys.path.insert(0, str(ROOT))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, the files of the project that pages link to, and the style sheet."""
    generated = {
        "index.md": README.read_text(encoding="utf-8"),
        "commands.md": commands(),
        "options.md": options(),
        "names.md": names(),
        "run_json.md": run_json.page(),
        "style.css": style(),
    }
    for uri, content in generated.items():
        files.append(File.generated(config, uri, content=content))
    for path in linked([README, *sorted(PAGES.glob("*.md"))]):
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Return the page with links of the site: to pages in one folder, to other files by their path in the project."""
    folder = PAGES if (PAGES / page.file.src_uri).is_file() else ROOT

    def site_link(match: re.Match[str]) -> str:
        path = (folder / match[1]).resolve()
        if path == README:
            return "index.md"
        for home in (PAGES, ROOT):
            if path.is_relative_to(home):
                return path.relative_to(home).as_posix()
        return match[1]

    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(site_link, part) for part in parts[::2]]
    return "".join(parts)


def linked(pages: list[Path]) -> Iterator[Path]:
    """Yield, once each, the files outside of pages/ that pages link to, and the files that these link to."""
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
    """Return the help of the command line and of each of its commands, with their options."""
    import typer
    from typer.cli import get_docs_for_click

    from hsichunk.cli import main as cli

    group: Any = typer.main.get_command(cli.app)
    for command in group.commands.values():
        command.short_help = command.help.split("\n\n")[0]  # the list of commands shows the complete sentence
    return get_docs_for_click(obj=group, ctx=typer.Context(group), name="hsichunk", title="Every command")


def options() -> str:
    """Return one table per group of options: option on the command line, default, commands that take it."""
    from hsichunk.run.options import TABLE

    lines = [
        "# Options of a run\n",
        "A YAML file for `run --config` sets options by these names, with - or _; `run --write-config` writes such a "
        "file, and `run.json` uses the same names. Options on the command line override those of the file. The column "
        "*to continue* says which value an option must have to continue a run that was stopped.\n",
    ]
    for group in dict.fromkeys(row.group for row in TABLE.values()):
        lines += [
            f"## {'Tiles and results' if group == 'Options' else group}\n",
            "| name | command line | default | to continue | commands | what it is |",
            "|---|---|---|---|---|---|",
        ]
        for name, row in TABLE.items():
            if row.group == group:
                flag = row.flag if row.shown in (None, row.flag) else f"{row.flag} {row.shown}"
                cells = (f"`{name}`", f"`{flag}`", row.default_shown, TO_CONTINUE[row.changes], ", ".join(row.commands))
                lines.append(f"| {' | '.join(cells)} | {row.explanation} |")
        lines.append("")
    return "\n".join(lines)


def names() -> str:
    """Return a table of all public names, with the first sentence of the docstring and a link to the rest."""
    import hsichunk

    rows = []
    for name in sorted(hsichunk.__all__, key=str.lower):
        first = (inspect.getdoc(getattr(hsichunk, name)) or "").split("\n\n")[0].replace("\n", " ")
        rows.append(f"| [`{name}`][hsichunk.{name}] | {first.replace('|', chr(92) + '|')} |")
    table = "\n".join(["| name | what it is |", "|---|---|", *rows])
    return f"# All names\n\nAll public names of `import hsichunk as hsi`.\n\n{table}\n"


def style() -> str:
    """Return the style sheet: colours and frames of code, and the width of the text."""
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
