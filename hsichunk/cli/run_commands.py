"""The commands `run`, `info` and `demo`: the whole job, what a tile is, and the job on a tile of known truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsichunk.cli.app import app
from hsichunk.cli.arguments import Config, Debug, DryRun, Report, Words, WriteConfig, option, takes_options
from hsichunk.cli.outcome import do

if TYPE_CHECKING:
    from hsichunk.run.runner import RunResult


@app.command()
@takes_options("run", tiles_required=False)
def run(
    words: Words,
    config: Config = None,
    write_config: WriteConfig = None,
    dry_run: DryRun = False,
    report: Report = False,
    debug: Debug = False,
) -> None:
    """Compute endmembers, abundances, scores and class maps of tiles, and write them to a folder.

    The same command run again after a stop goes on where it was.

    Example: **hsichunk run tile.h5 --out results -k 4 --memory 2GB**

    Example: **hsichunk run a.h5 b.h5 --out site -k 3 --sid-threshold 0.8,0.3,0.03**

    Example: **hsichunk run tile.h5 --out results --method vca --solver nnls --metric sid-sam,ncc**

    It writes products.zarr, abundance.tif, rmse.tif, sam_class.tif, sid_class.tif (one for each --metric),
    endmembers.csv, item.json (STAC) and run.json; with --report also report.html.
    """
    do(lambda: _run(words, config, dry_run, report, write_config), debug)


def _run(words: Words, config: Path | None, dry: bool, report: bool, write_config: Path | None) -> None:
    from hsichunk.run import config_file
    from hsichunk.run.options import build

    options = build(config_file.read(config, words) if config else words)
    if write_config is not None:
        config_file.write(options, write_config)
        typer.echo(str(write_config))
        return
    if dry:
        from hsichunk.cli import dry_run

        typer.echo(dry_run.as_text(dry_run.dry_run(options)))
        return
    from hsichunk.cli import progress
    from hsichunk.run import interpreter
    from hsichunk.run.runner import run

    with progress.shown() as show, interpreter.dedicated():
        result = run(options, show)
    _summary(options.out, result)
    # in a process of its own: the memory of this one is planned for the run
    if report and subprocess.run([sys.executable, "-m", "hsichunk", "report", options.out]).returncode:
        raise typer.Exit(1)


def _summary(out: str, result: RunResult) -> None:
    """Print what a run found and what it took."""
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
    words: Words,
    tile: Annotated[
        str,
        typer.Argument(metavar="TILE", help="NEON reflectance tile (HDF5), ENVI image or GeoTIFF.", show_default=False),
    ],
    json: Annotated[bool, option("--json", metavar=None, text="Print JSON, for programs.")] = False,
    debug: Debug = False,
) -> None:
    """Describe a tile, and how a run over it would go.

    Prints size, bands, bad-band windows, CRS, stored chunks, share of no-data, and the plan in the memory given.

    Example: **hsichunk info tile.h5 --memory 512MB**
    """

    def work() -> None:
        from hsichunk.run.options import build

        options = build({"tiles": tile, "out": "", **words})
        from hsichunk.cli import info

        tile_info = info.describe(options)
        typer.echo(info.as_json(tile_info) if json else info.as_text(tile_info))

    do(work, debug)


@app.command()
def demo(
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder for the tile, the results and the pictures.")
    ] = "hsichunk-demo",
    size: Annotated[int, typer.Option(metavar="N", help="Side of the tile in pixels.", min=64, max=1000)] = 300,
    debug: Debug = False,
) -> None:
    """Make a tile in NEON's layout, run the whole job on it and draw the results; needs no download.

    Example: **hsichunk demo --out demo**
    """

    def work() -> None:
        from hsichunk.cli import demo, progress

        with progress.shown() as show:
            result = demo.demo(Path(out), size, show)
        _summary(str(result.results), result.run)
        for line in result.lines:
            typer.echo(line)

    do(work, debug)
