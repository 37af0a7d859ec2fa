"""The texts that users read (README.md and the pages of the documentation), and what stands in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = ROOT / "scripts" / "documentation" / "pages"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in [README, *sorted(PAGES.glob("*.md"))]}
"""name -> Markdown"""

TUTORIALS = ("lesson.md", "site.md", "cluster.md", "array.md", "reader.md", "model.md")
FENCE = re.compile(r'^```(\w*)(?: title="([\w.]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
"""language, name of the file to save it as, text"""


class Step(NamedTuple):
    """A block of code of a tutorial, and what stands under it as its output."""

    language: str
    code: str
    output: str | None = None
    file: str = ""
    """the file that the reader saves it as, in place of running it"""


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [code for name, _, code in FENCE.findall(text) if name == language]


def prose(text: str) -> str:
    """A text without its fenced blocks."""
    return FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """What stands in backquotes in the prose."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def command_lines(text: str) -> list[str]:
    """Commands of hsichunk in the prose: indented lines and spans, each once, without comments."""
    indented = [line.split("#")[0].strip() for line in prose(text).splitlines() if line.startswith("    hsichunk ")]
    return list(dict.fromkeys(indented + [span for span in spans(text) if span.startswith("hsichunk ")]))


def links(path: Path) -> list[Path]:
    """The files that a Markdown file leads to, addresses aside, in full; they need not be there."""
    targets = re.findall(r"\]\((?!\w+:|#)([^)\s#]+)", prose(path.read_text(encoding="utf-8")))
    return list(dict.fromkeys((path.parent / target).resolve() for target in targets))


def steps(text: str) -> list[Step]:
    """The Python and shell blocks of a tutorial in their order, each with the `text` block that follows it."""
    found: list[Step] = []
    for language, file, code in FENCE.findall(text):
        if language in ("python", "sh"):
            found.append(Step(language, code, file=file))
        elif language == "text":
            found[-1] = found[-1]._replace(output=code)
    return found
