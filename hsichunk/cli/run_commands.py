"""`run`, `info` and `demo`: what reads tiles from end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsichunk.cli.app import app
from hsichunk.cli.arguments import Config, Debug, DryRun, Report, WriteConfig, option, takes_options
from hsichunk.cli.outcome import do

if TYPE_CHECKING:
    from hsichunk.run.runner import RunResult


@app.command()
@takes_options("run", tiles_required=False)
def run(
    given: dict[str, Any],
    config: Config = None,
    write_config: WriteConfig = None,
    dry_run: DryRun = False,
    report: Report = False,
    debug: Debug = False,
) -> None:
    """Endmembers, abundances, SAM, SID and classes of tiles, into a folder.

    The same command run again after a stop goes on where it was.

    Example: **hsichunk run tile.h5 --out results -k 4 --memory 2GB**

    Example: **hsichunk run a.h5 b.h5 --out site -k 3 --sid-threshold 0.8,0.3,0.03**

    Example: **hsichunk run tile.h5 --out results --method vca --solver nnls --metric sid-sam,ncc**

    It leaves products.zarr, abundance.tif, rmse.tif, sam_class.tif, sid_class.tif (one for each --metric),
    endmembers.csv, item.json (STAC) and run.json; with --report also report.html.
    """
    do(lambda: _run(given, config, dry_run, report, write_config), debug)


def _run(given: dict[str, Any], config: Path | None, dry: bool, page: bool, written: Path | None) -> None:
    from hsichunk.run import config_file
    from hsichunk.run.options import build

    asked = build(config_file.read(config, given) if config else given)
    if written is not None:
        config_file.write(asked, written)
        typer.echo(str(written))
        return
    if dry:
        from hsichunk.cli import dry_run

        typer.echo(dry_run.as_text(dry_run.dry_run(asked)))
        return
    from hsichunk.cli import progress
    from hsichunk.run import interpreter
    from hsichunk.run.runner import run

    with progress.shown() as show, interpreter.dedicated():
        result = run(asked, show)
    _summary(asked.out, result)
    if page and subprocess.run([sys.executable, "-m", "hsichunk", "report", asked.out]).returncode:
        raise typer.Exit(1)  # in a process of its own: this one's memory is for the run


def _summary(out: str, result: RunResult) -> None:
    record = result.record
    pixels, search = record.pixels, record.stages.endmembers
    typer.echo(f"{out}: {pixels.valid} pixels unmixed, {pixels.masked} without data, {record.bands.kept} bands")
    if search and search.excluded is not None:
        typer.echo(f"{search.excluded} outliers left out of the search for endmembers")
    typer.echo("mean abundance  " + "  ".join(f"{n} {v:.4f}" for n, v in record.mean_abundance.items()))
    took = f"{record.seconds:.1f} s, peak memory {record.peak_memory / 1e6:.0f} MB"
    typer.echo(f"nothing left to do: finished before, in {took}" if result.done_before else took)


@app.command()
@takes_options("info")
def info(
    given: dict[str, Any],
    tile: Annotated[
        str,
        typer.Argument(
            metavar="TILE", help="A NEON reflectance tile (HDF5), an ENVI image or a GeoTIFF.", show_default=False
        ),
    ],
    json: Annotated[bool, option("--json", metavar=None, text="For programs.")] = False,
    debug: Debug = False,
) -> None:
    """What a tile is, and how a run over it would go.

    Size, bands, windows, CRS, stored chunks, share of no-data, and the plan of a run in the memory given.

    Example: **hsichunk info tile.h5 --memory 512MB**
    """

    def work() -> None:
        from hsichunk.run.options import build

        asked = build({"tiles": tile, "out": "", **given})
        from hsichunk.cli import info

        said = info.describe(asked)
        typer.echo(info.as_json(said) if json else info.as_text(said))

    do(work, debug)


@app.command()
def demo(
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder for the tile, the results and the pictures.")
    ] = "hsichunk-demo",
    size: Annotated[int, typer.Option(metavar="N", help="Side of the tile in pixels.", min=64, max=1000)] = 300,
    debug: Debug = False,
) -> None:
    """The main job on a NEON-layout tile that it makes itself; needs no download.

    Example: **hsichunk demo --out demo**
    """

    def work() -> None:
        from hsichunk.cli import demo, progress

        with progress.shown() as show:
            made = demo.demo(Path(out), size, show)
        _summary(str(made.results), made.run)
        for line in made.lines:
            typer.echo(line)

    do(work, debug)
