"""`endmembers` and `count`: what a scene is made of, and of how many."""

from __future__ import annotations

from typing import Annotated

import typer

from hsichunk.cli.app import app
from hsichunk.cli.arguments import (
    SEARCH,
    Debug,
    Every,
    Exclude,
    K,
    LessonBands,
    Mask,
    Memory,
    Method,
    OnError,
    Refine,
    Sample,
    Seed,
    Share,
    Threads,
    option,
)
from hsichunk.cli.outcome import do
from hsichunk.cli.running import processors


@app.command()
def endmembers(
    tiles: Annotated[
        list[str],
        typer.Argument(metavar="TILE", help="NEON reflectance tiles, ENVI images, GeoTIFFs.", show_default=False),
    ],
    output: Annotated[
        str, option("--output", "-o", metavar="FILE", text="CSV, NetCDF (.nc) or ENVI library (.sli), by suffix.")
    ],
    k: K = None,
    library: Annotated[
        str | None, option(metavar="FILE", text="Library of known spectra: names the best match of each.", panel=SEARCH)
    ] = None,
    seed: Seed = None,
    sample: Sample = None,
    share: Share = None,
    method: Method = None,
    refine: Refine = False,
    exclude: Exclude = None,
    every: Every = None,
    lesson_bands: LessonBands = False,
    mask: Mask = None,
    on_error: OnError = None,
    memory: Memory = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Endmembers of tiles, and nothing else, into a file that `run --endmembers` takes.

    Example: **hsichunk endmembers tile.h5 -k 4 -o em.csv**
    """
    given = {
        "tiles": tiles, "out": "", "k": k, "seed": seed, "sample": sample, "share": share, "method": method,
        "refine": refine or None, "exclude": exclude, "every": every, "lesson_bands": lesson_bands or None,
        "mask": mask, "on_error": on_error, "memory": memory, "threads": threads or processors(),
    }  # fmt: skip

    def work() -> None:
        from hsichunk.run import options

        asked = options.build({name: value for name, value in given.items() if value not in (None, [])})
        from hsichunk.cli import progress, search

        with progress.shown() as show:
            for line in search.write(asked, output, library, show):
                typer.echo(line)

    do(work, debug)


@app.command()
def count(
    tiles: Annotated[
        list[str],
        typer.Argument(metavar="TILE", help="NEON reflectance tiles, ENVI images, GeoTIFFs.", show_default=False),
    ],
    far: Annotated[
        list[float] | None, option(metavar="X", text="False-alarm rates of HFC, may be given again (1e-3, 1e-4, 1e-5).")
    ] = None,
    figure: Annotated[str | None, option(metavar="FILE", text="Draw the eigenvalues (PNG, SVG, PDF).")] = None,
    sample: Annotated[
        int | None, option(metavar="N", text="Read about so many pixels, from everywhere, in place of all.")
    ] = None,
    seed: Annotated[int | None, option(metavar="N", text="Seed of that sample (0).")] = None,
    memory: Memory = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """How many endmembers tiles hold: HFC, noise-whitened HFC and HySime, from one pass over all their pixels.

    Example: **hsichunk count tile.h5 --figure eigenvalues.png**
    """

    given = {
        "tiles": tiles, "out": "", "sample": sample, "seed": seed, "memory": memory, "threads": threads or processors(),
    }  # fmt: skip

    def work() -> None:
        from hsichunk.run import options

        asked = options.build({name: value for name, value in given.items() if value is not None})
        from hsichunk.cli import search

        for line in search.count(asked, sample, far or [1e-3, 1e-4, 1e-5], figure):
            typer.echo(line)

    do(work, debug)
