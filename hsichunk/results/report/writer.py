"""Write one self-contained page about a finished run: `write_report`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hsichunk.atomic_files import replacing
from hsichunk.endmembers.library import read_library
from hsichunk.results.finished_run import open_results
from hsichunk.results.report.page import render

REPORT = "report.html"


def write_report(
    out: str | os.PathLike[str],
    tiles: Sequence[str | os.PathLike[str]] | None = None,
    library: str | os.PathLike[str] | None = None,
) -> Path:
    """Write `report.html` into the folder of a finished run and return its path.

    The page needs no other file and no network. The stored products are read block by block, twice. Three bands of the
    tiles, every n-th pixel, are read for the picture in colours. `tiles` says where the tiles lie now, if not where
    run.json has them; the report says which were not found and goes on without them. `library`, a file of known
    spectra, gives each endmember its best match, by `hsi.identify`. Raises HsiError for a folder without a finished run
    and where the page cannot be written.
    """
    results = open_results(out)
    known = None if library is None else read_library(library)
    page = render(results, None if tiles is None else [os.fspath(tile) for tile in tiles], known)
    path = results.out / REPORT
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path
