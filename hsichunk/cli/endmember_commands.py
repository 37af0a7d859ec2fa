"""`endmembers` and `count`: what a scene is made of, and of how many."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hsichunk.cli.app import app
from hsichunk.cli.arguments import Debug, option, takes_options
from hsichunk.cli.outcome import do
from hsichunk.run.option import SEARCH


@app.command()
@takes_options("endmembers")
def endmembers(
    given: dict[str, Any],
    output: Annotated[
        str, option("--output", "-o", metavar="FILE", text="CSV, NetCDF (.nc) or ENVI library (.sli), by suffix.")
    ],
    library: Annotated[
        str | None, option(metavar="FILE", text="Library of known spectra: names the best match of each.", panel=SEARCH)
    ] = None,
    debug: Debug = False,
) -> None:
    """Endmembers of tiles, and nothing else, into a file that `run --endmembers` takes.

    Example: **hsichunk endmembers tile.h5 -k 4 -o em.csv**
    """

    def work() -> None:
        from hsichunk.run.options import build

        asked = build({"out": "", **given})
        from hsichunk.cli import progress, search

        with progress.shown() as show:
            for line in search.write(asked, output, library, show):
                typer.echo(line)

    do(work, debug)


@app.command()
@takes_options("count")
def count(
    given: dict[str, Any],
    far: Annotated[
        list[float] | None, option(metavar="X", text="False-alarm rates of HFC, may be given again (1e-3, 1e-4, 1e-5).")
    ] = None,
    figure: Annotated[str | None, option(metavar="FILE", text="Draw the eigenvalues (PNG, SVG, PDF).")] = None,
    sample: Annotated[
        str | None,
        option(metavar="N", text="Read about so many pixels, from everywhere, in place of all.", panel=SEARCH),
    ] = None,
    debug: Debug = False,
) -> None:
    """How many endmembers tiles hold: HFC, noise-whitened HFC and HySime, from one pass over all their pixels.

    Example: **hsichunk count tile.h5 --figure eigenvalues.png**
    """

    def work() -> None:
        from hsichunk.run.options import build

        asked = build({"out": "", **given} | ({} if sample is None else {"sample": sample}))
        from hsichunk.cli import search

        for line in search.count(asked, None if sample is None else asked.sample, far or [1e-3, 1e-4, 1e-5], figure):
            typer.echo(line)

    do(work, debug)
