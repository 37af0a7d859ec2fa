"""The commands `endmembers` and `count`: find the endmembers of tiles, or their number, without a run."""

from __future__ import annotations

from typing import Annotated

import typer

from hsichunk.cli.app import app
from hsichunk.cli.arguments import Debug, Words, option, takes_options
from hsichunk.cli.outcome import do
from hsichunk.run.option import SEARCH


@app.command()
@takes_options("endmembers")
def endmembers(
    words: Words,
    output: Annotated[
        str,
        option(
            "--output", "-o", metavar="FILE", text="File to write: CSV, NetCDF (.nc) or ENVI library (.sli), by suffix."
        ),
    ],
    library: Annotated[
        str | None,
        option(metavar="FILE", text="Library of known spectra that endmembers are named after.", panel=SEARCH),
    ] = None,
    debug: Debug = False,
) -> None:
    """Find the endmembers of tiles, and write them to a file that `run --endmembers` takes.

    Example: **hsichunk endmembers tile.h5 -k 4 -o em.csv**
    """

    def work() -> None:
        from hsichunk.run.options import build

        options = build({"out": "", **words})
        from hsichunk.cli import progress, search

        with progress.shown() as show:
            for line in search.write(options, output, library, show):
                typer.echo(line)

    do(work, debug)


@app.command()
@takes_options("count")
def count(
    words: Words,
    far: Annotated[
        list[float] | None, option(metavar="X", text="False-alarm rate of HFC, may be given again (1e-3, 1e-4, 1e-5).")
    ] = None,
    figure: Annotated[str | None, option(metavar="FILE", text="Draw the eigenvalues (PNG, SVG, PDF).")] = None,
    sample: Annotated[
        str | None,
        option(metavar="N", text="Read about so many pixels, from everywhere, instead of all.", panel=SEARCH),
    ] = None,
    debug: Debug = False,
) -> None:
    """Count the endmembers of tiles by HFC, noise-whitened HFC and HySime, from one pass over all their pixels.

    Example: **hsichunk count tile.h5 --figure eigenvalues.png**
    """

    def work() -> None:
        from hsichunk.run.options import build

        options = build({"out": "", **words} | ({} if sample is None else {"sample": sample}))
        from hsichunk.cli import search

        pixels = None if sample is None else options.sample
        for line in search.count(options, pixels, far or [1e-3, 1e-4, 1e-5], figure):
            typer.echo(line)

    do(work, debug)
