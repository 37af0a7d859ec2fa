"""The commands on the results of a run: `classify`, `plot`, `audit`, `report`, `view` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsichunk import metrics, schema
from hsichunk.cli.app import app
from hsichunk.cli.arguments import Debug, option
from hsichunk.cli.outcome import do
from hsichunk.run.option_kinds import dashed, either

SCORES = (*schema.METRICS, schema.ABUNDANCE)
LARGER_IS_NEARER = dashed([*(metric.name for metric in metrics.METRICS if metric.larger_is_nearer), schema.ABUNDANCE])

Results = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a finished run.", show_default=False)]


@app.command()
def classify(
    results: Results,
    metric: Annotated[
        str, option(metavar="NAME", text=f"Score of the run: {either(dashed(SCORES))} (sid).", choices=SCORES)
    ] = "sid",
    threshold: Annotated[
        list[str] | None,
        option(
            metavar="X[,X...]",
            text=f"Largest distance ({', '.join(LARGER_IS_NEARER)}: smallest value) of a class: one, or one a class.",
        ),
    ] = None,
    endmember: Annotated[
        str | None, option(metavar="NAME[,NAME...]", text="Classes to choose among, as EM1,EM3 (all).")
    ] = None,
    relative: Annotated[
        bool, option("--relative", metavar=None, text="Take thresholds as shares of the range over the image.")
    ] = False,
    output: Annotated[
        Path | None, option("--output", "-o", metavar="FILE", text="GeoTIFF (DIR/METRIC_class_THRESHOLD.tif).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Make a class map from the stored scores with other thresholds or classes, without reading a tile.

    Example: **hsichunk classify results --metric sid --threshold 0.8,0.3,0.03 --endmember EM1,EM3,EM4 --relative**
    """

    def work() -> None:
        from hsichunk.results import reclassify

        chosen = endmember.split(",") if endmember else None
        for line in reclassify.write(results, metric, threshold, chosen, relative, output):
            typer.echo(line)

    do(work, debug)


@app.command()
def plot(
    results: Results,
    output: Annotated[Path | None, option("--output", "-o", metavar="DIR", text="Folder (DIR/figures).")] = None,
    suffix: Annotated[str, option("--format", metavar="NAME", text="Format: png, svg or pdf.")] = "png",
    debug: Debug = False,
) -> None:
    """Draw each figure of a run to a file: endmembers, abundances and class maps, and all in one.

    Example: **hsichunk plot results --format pdf**
    """

    def work() -> None:
        from hsichunk.results import figures

        for path in figures.write(results, output or results / "figures", suffix):
            typer.echo(str(path))

    do(work, debug)


@app.command()
def audit(
    results: Results,
    pixels: Annotated[int, option(metavar="N", text="Pixels to solve again (200).")] = 200,
    seed: Annotated[int, option(metavar="N", text="Seed that chooses the pixels (0).")] = 0,
    tolerance: Annotated[float, option(metavar="X", text="Largest difference that passes (1e-6).")] = 1e-6,
    tiles: Annotated[
        list[str] | None,
        option("--tile", metavar="TILE", text="Where a tile lies now, if it was moved; may be given again."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Solve pixels of a finished run again, with cvxopt and PySpTools, and print the differences.

    SciPy solves nnls; NumPy solves ucls and computes the correlation. The search for endmembers is not checked. Exit
    status 1 where a difference is above the tolerance. Needs the extra `reference`.

    Example: **hsichunk audit results --pixels 1000**
    """

    def work() -> None:
        from hsichunk.results import audit, audit_report

        report = audit.audit(results, tiles, pixels=pixels, seed=seed, tolerance=tolerance)
        typer.echo(audit_report.as_text(report))
        if not report.passed:
            raise typer.Exit(1)

    do(work, debug)


@app.command()
def report(
    results: Results,
    library: Annotated[
        str | None,
        option(metavar="FILE", text="Library of known spectra; the page names the best match of each endmember."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write one self-contained page about a finished run: DIR/report.html.

    Example: **hsichunk report results --library usgs.csv**
    """

    def work() -> None:
        from hsichunk.results.report.writer import write_report

        typer.echo(str(write_report(results, library=library)))

    do(work, debug)


@app.command()
def view(
    results: Results,
    port: Annotated[int, option(metavar="N", text="Port on this machine (any free one).")] = 0,
    debug: Debug = False,
) -> None:
    """Serve a page on this machine to look around in the maps of a run, pixel by pixel. Ctrl-C ends it.

    Example: **hsichunk view results**
    """

    def work() -> None:
        from hsichunk.results.viewer.server import view as look

        look(results, port)

    do(work, debug)


@app.command()
def export(
    results: Results,
    form: Annotated[str, option("--format", metavar="NAME", text="Format: envi.")] = "envi",
    output: Annotated[Path | None, option("--output", "-o", metavar="DIR", text="Folder (DIR/envi).")] = None,
    debug: Debug = False,
) -> None:
    """Export maps and endmembers for ENVI: rasters with headers, classes with names and colours, a spectral library.

    Example: **hsichunk export results --format envi -o for_envi**
    """

    def work() -> None:
        from hsichunk.results import export

        for path in export.export(results, output or results / form, form):
            typer.echo(str(path))

    do(work, debug)
