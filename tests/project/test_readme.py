"""README.md: a page, with a picture, that leads on to everything else."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import hsichunk as hsi
from tests.helpers.pages import PAGES, README, ROOT, TEXTS, blocks, command_lines, links

TEXT = TEXTS["README.md"]


def test_it_is_a_page() -> None:
    assert len(TEXT.splitlines()) <= 140
    [python] = blocks(TEXT, "python")
    assert len(python.strip().splitlines()) <= 12
    assert [line for line in command_lines(TEXT) if "TILE" in line] == [
        "hsichunk run TILE... --out DIR -k 4 --memory 2GB"
    ]


def test_it_leads_to_every_guide() -> None:
    """The pages that mkdocs makes of docstrings are reached through those that it builds."""
    guides = {path for path in PAGES.glob("*.md") if ":::" not in path.read_text(encoding="utf-8")}
    assert len(guides) > 12
    assert guides - set(links(README)) == set()


def test_the_picture_is_small_and_nearly_square() -> None:
    [picture] = [path for path in links(README) if path.suffix == ".png"]
    head = picture.read_bytes()[:24]
    width, height = struct.unpack(">II", head[16:24])
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size < 200_000
    assert 600 < width < 1300
    assert 0.6 < width / height < 1.6


def test_the_picture_can_be_drawn_again(tmp_path: Path) -> None:
    tile, results = tmp_path / "tile.h5", tmp_path / "results"
    hsi.synthetic.write_tile(tile, shape=(40, 40), seed=0, no_data="none")
    drawn = tmp_path / "picture.png"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = ["-m", "hsichunk", "run", str(tile), "--out", str(results), "-k", "4"]
    draw = [str(ROOT / "scripts" / "documentation" / "picture.py"), str(tile), str(results), str(drawn)]
    for arguments in (run, draw):
        done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert drawn.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("claim", ["on PyPI", "pip install hsichunk", "pip install 'hsichunk"])
def test_no_index_is_promised(claim: str) -> None:
    assert all(claim not in text for text in TEXTS.values())
