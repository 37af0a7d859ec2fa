"""`export`: the results of a run in another program's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsichunk.cli.app import app
from hsichunk.cli.arguments import Debug, option
from hsichunk.cli.outcome import do
from hsichunk.cli.results import Results


@app.command()
def export(
    results: Results,
    form: Annotated[str, option("--format", metavar="NAME", text="envi.")] = "envi",
    output: Annotated[Path | None, option("--output", "-o", metavar="DIR", text="Folder (DIR/envi).")] = None,
    debug: Debug = False,
) -> None:
    """Maps and endmembers for ENVI: rasters with headers, classes with names and colours, a spectral library.

    Example: **hsichunk export results --format envi -o for_envi**
    """

    def work() -> None:
        from hsichunk.results import export

        for path in export.export(results, output or results / form, form):
            typer.echo(str(path))

    do(work, debug)
