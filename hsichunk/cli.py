"""The command line. Imports only what --help needs; each command imports the rest when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Endmembers, abundance maps and class maps from imaging-spectroscopy tiles that do not fit in memory.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Memory = Annotated[str | None, typer.Option(help="Most memory the whole process may hold, as 2GB or 512MB.", show_default="2GB")]
Threads = Annotated[int | None, typer.Option(help="Threads to use.", show_default="all processors")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
K = Annotated[int | None, typer.Option("-k", help="Endmembers to find.", show_default="4")]


def _version(asked: bool) -> None:
    if asked:
        from hsichunk import __version__

        typer.echo(f"hsichunk {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command()
def run(
    tiles: Annotated[list[str], typer.Argument(help="NEON reflectance tiles (HDF5).", show_default=False)],
    out: Annotated[str, typer.Option(help="Folder for the results; made if missing.", show_default=False)],
    k: K = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sample of pixels.", show_default="0")] = None,
    sample: Annotated[int | None, typer.Option(help="Pixels drawn for N-FINDR.", show_default="20000")] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of the grid's 64 x 64 cells they come from; 1 for all.", show_default="0.125")
    ] = None,
    sam_threshold: Annotated[
        list[float] | None, typer.Option(help="Largest spectral angle (rad) of a class; once, or once a class.", show_default="0.1")
    ] = None,
    sid_threshold: Annotated[
        list[float] | None, typer.Option(help="Largest divergence (nats) of a class; once, or once a class.", show_default="0.05")
    ] = None,
    relative: Annotated[
        bool | None, typer.Option("--relative", help="Thresholds are shares of the range over the image (PySpTools' rule).")
    ] = None,
    every: Annotated[int | None, typer.Option(help="Keep every n-th band.", show_default="1")] = None,
    lesson_bands: Annotated[
        bool | None, typer.Option("--lesson-bands", help="The 360 bands of NEON's lesson instead of all good ones.")
    ] = None,
    memory: Memory = None,
    threads: Threads = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of options; those given here win.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results made with other options.")] = False,
    debug: Debug = False,
) -> None:
    """Endmembers, abundances, SAM and SID of tiles, written to a folder. Run again after a stop, it goes on.

    Example: **hsichunk run NEON_D02_SERC_DP3_368000_4306000_reflectance.h5 --out serc -k 4 --memory 2GB**
    """
    given = {
        "tiles": tiles, "out": out, "k": k, "seed": seed, "sample": sample, "share": share, "sam_threshold": sam_threshold,
        "sid_threshold": sid_threshold, "relative": relative, "every": every, "lesson_bands": lesson_bands, "memory": memory,
        "threads": threads, "overwrite": overwrite or None,
    }  # fmt: skip
    _do(lambda: _run({name: value for name, value in given.items() if value not in (None, [])}, config), debug)


def _run(given: dict[str, Any], config: Path | None) -> None:
    _one_blas_thread()
    from hsichunk import options, progress
    from hsichunk.run import run
    from hsichunk.threads import available

    values = options.read_config(config, given) if config else given
    asked = options.build({"threads": available(), **values})
    with progress.shown() as show:
        report = run(asked, show)
    _summary(asked.out, report)


def _one_blas_thread() -> None:
    """Our matrix products are slab-sized and run on our own threads: BLAS pools would only take memory."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _summary(out: str, report: dict[str, Any]) -> None:
    pixels = report["pixels"]
    typer.echo(f"{out}: {pixels['valid']} pixels unmixed, {pixels['masked']} without data, {report['bands']['kept']} bands")
    typer.echo("mean abundance  " + "  ".join(f"{n} {v:.4f}" for n, v in report["mean_abundance"].items()))
    took = f"{report['seconds']:.1f} s, peak memory {report['peak_memory'] / 1e6:.0f} MB"
    typer.echo(report.get("resumed", took))


@app.command()
def info(
    tile: Annotated[str, typer.Argument(help="A NEON reflectance tile (HDF5).", show_default=False)],
    k: K = None,
    memory: Memory = None,
    threads: Threads = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    debug: Debug = False,
) -> None:
    """What a tile is, and how a run over it would go: size, bands, CRS, stored chunks, no-data share, the plan.

    Example: **hsichunk info NEON_D02_SERC_DP3_368000_4306000_reflectance.h5 --memory 512MB**
    """

    def work() -> None:
        from hsichunk import describe, options
        from hsichunk.threads import available

        given = {"tiles": [tile], "out": "", "k": k, "memory": memory, "threads": threads or available()}
        asked = options.build({name: value for name, value in given.items() if value is not None})
        said = describe.describe(asked)
        typer.echo(describe.as_json(said) if json else describe.as_text(said))

    _do(work, debug)


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Folder for the tile, the results and the pictures.")] = "hsichunk-demo",
    size: Annotated[int, typer.Option(help="Side of the tile in pixels.", min=64, max=1000)] = 300,
    debug: Debug = False,
) -> None:
    """The main job on a NEON-layout tile that it makes itself; needs no download.

    Example: **hsichunk demo --out demo**
    """

    def work() -> None:
        _one_blas_thread()
        from hsichunk import demonstration, progress

        with progress.shown() as show:
            made = demonstration.demo(Path(out), size, show)
        _summary(str(made.results), made.report)
        for line in made.lines:
            typer.echo(line)

    _do(work, debug)


def _do(work: Any, debug: bool) -> None:
    """Runs a command: errors become one line and exit status 1, warnings one line each."""
    import warnings

    from hsichunk.errors import HsiError, HsiWarning

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, HsiWarning):
            typer.echo(f"hsichunk: note: {message}", err=True)

    warnings.showwarning = show
    warnings.simplefilter("once", HsiWarning)
    try:
        work()
    except HsiError as error:
        _end(str(error), 1, debug)
    except KeyboardInterrupt:
        _end("stopped; the same command goes on where it was", 130, debug)
    except MemoryError:
        _end("out of memory; give a smaller --memory", 1, debug)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}", 1, debug)


def _end(message: str, status: int, debug: bool) -> None:
    if debug:
        raise  # noqa: PLE0704 - called from except blocks only
    typer.echo(f"hsichunk: {' '.join(message.split())}", err=True)
    raise typer.Exit(status)


def main() -> None:
    """Entry point of the command `hsichunk`."""
    app(prog_name="hsichunk")


if __name__ == "__main__":
    sys.exit(main())
