"""`run`, `info` and `demo`: what reads tiles from end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hsichunk.cli.app import app
from hsichunk.cli.arguments import (
    ChebyshevThreshold,
    Cluster,
    CommonBands,
    Config,
    Debug,
    DryRun,
    Endmembers,
    Every,
    Exclude,
    K,
    LessonBands,
    Mask,
    Memory,
    Method,
    Metric,
    NccThreshold,
    OnError,
    Out,
    Overwrite,
    PerTile,
    Profile,
    Refine,
    Relative,
    Report,
    Sample,
    SamThreshold,
    ScaThreshold,
    Scheduler,
    Seed,
    Share,
    SidSamThreshold,
    SidThreshold,
    SolverName,
    Threads,
    Workers,
    WriteConfig,
    option,
)
from hsichunk.cli.outcome import do


@app.command()
def run(
    tiles: Annotated[
        list[str] | None, typer.Argument(metavar="TILE", help="NEON reflectance tiles (HDF5), ENVI images, GeoTIFFs.")
    ] = None,
    out: Out = None,
    config: Config = None,
    overwrite: Overwrite = False,
    k: K = None,
    seed: Seed = None,
    sample: Sample = None,
    share: Share = None,
    method: Method = None,
    refine: Refine = False,
    exclude: Exclude = None,
    solver: SolverName = None,
    metric: Metric = None,
    sam_threshold: SamThreshold = None,
    sid_threshold: SidThreshold = None,
    sid_sam_threshold: SidSamThreshold = None,
    ncc_threshold: NccThreshold = None,
    chebyshev_threshold: ChebyshevThreshold = None,
    sca_threshold: ScaThreshold = None,
    relative: Relative = False,
    every: Every = None,
    lesson_bands: LessonBands = False,
    endmembers: Endmembers = None,
    per_tile: PerTile = False,
    mask: Mask = None,
    on_error: OnError = None,
    bands: CommonBands = None,
    memory: Memory = None,
    threads: Threads = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    workers: Workers = None,
    profile: Profile = None,
    dry_run: DryRun = False,
    report: Report = False,
    write_config: WriteConfig = None,
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
    given = {
        "tiles": tiles, "out": out, "k": k, "seed": seed, "sample": sample, "share": share,
        "method": method, "refine": refine or None, "exclude": exclude, "solver": solver, "metric": metric,
        "sam_threshold": sam_threshold, "sid_threshold": sid_threshold,
        "sid_sam_threshold": sid_sam_threshold, "ncc_threshold": ncc_threshold,
        "chebyshev_threshold": chebyshev_threshold, "sca_threshold": sca_threshold, "relative": relative or None,
        "every": every, "lesson_bands": lesson_bands or None,
        "memory": memory, "threads": threads, "overwrite": overwrite or None,
        "endmembers": endmembers, "per_tile": per_tile or None, "mask": mask, "on_error": on_error, "bands": bands,
        "scheduler": scheduler, "cluster": cluster, "workers": workers, "profile": profile,
    }  # fmt: skip
    values = {name: value for name, value in given.items() if value not in (None, [])}
    do(lambda: _run(values, config, dry_run, report, write_config), debug)


def _run(given: dict[str, Any], config: Path | None, dry: bool, page: bool, written: Path | None) -> None:
    from hsichunk.run import options

    values = options.read_config(config, given) if config else given
    asked = options.build({"threads": processors(), **values})
    if written is not None:
        from hsichunk.cli import config_file

        config_file.write(asked, written)
        typer.echo(str(written))
        return
    if dry:
        from hsichunk.cli import dry_run

        typer.echo(dry_run.as_text(dry_run.dry_run(asked)))
        return
    from hsichunk.cli import progress
    from hsichunk.run.runner import run

    with progress.shown() as show:
        report = run(asked, show)
    _summary(asked.out, report)
    if page and subprocess.run([sys.executable, "-m", "hsichunk", "report", asked.out]).returncode:
        raise typer.Exit(1)  # in a process of its own: this one's memory is for the run


def processors() -> int:
    """Threads when none are asked for."""
    from hsichunk.threads import available

    return available()


def _summary(out: str, report: dict[str, Any]) -> None:
    pixels = report["pixels"]
    typer.echo(
        f"{out}: {pixels['valid']} pixels unmixed, {pixels['masked']} without data, {report['bands']['kept']} bands"
    )
    if (excluded := report["stages"].get("endmembers", {}).get("excluded")) is not None:
        typer.echo(f"{excluded} outliers left out of the search for endmembers")
    typer.echo("mean abundance  " + "  ".join(f"{n} {v:.4f}" for n, v in report["mean_abundance"].items()))
    took = f"{report['seconds']:.1f} s, peak memory {report['peak_memory'] / 1e6:.0f} MB"
    typer.echo(f"nothing left to do: finished before, in {took}" if report["finished"] else took)


@app.command()
def info(
    tile: Annotated[
        str,
        typer.Argument(
            metavar="TILE", help="A NEON reflectance tile (HDF5), an ENVI image or a GeoTIFF.", show_default=False
        ),
    ],
    json: Annotated[bool, option("--json", metavar=None, text="For programs.")] = False,
    k: K = None,
    memory: Memory = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """What a tile is, and how a run over it would go.

    Size, bands, windows, CRS, stored chunks, share of no-data, and the plan of a run in the memory given.

    Example: **hsichunk info tile.h5 --memory 512MB**
    """

    def work() -> None:
        from hsichunk.run import options

        given = {"tiles": [tile], "out": "", "k": k, "memory": memory, "threads": threads or processors()}
        asked = options.build({name: value for name, value in given.items() if value is not None})
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
        _summary(str(made.results), made.report)
        for line in made.lines:
            typer.echo(line)

    do(work, debug)
