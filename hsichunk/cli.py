"""The command line. Imports only what --help needs; each command imports the rest when it runs."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Endmembers, abundance maps and class maps from imaging-spectroscopy tiles that do not fit in memory.",
    epilog="Start with **hsichunk demo**, then **hsichunk run tile.h5 --out results**; -h after a command tells more. "
    "Exit status: 0 done, 1 failed, 2 bad arguments.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

WORK, SEARCH, CLASSES, BANDS, INPUT = "How it runs", "Endmembers", "Classes", "Bands", "Tiles and pixels"


def _option(*names: str, metavar: str | None, text: str, panel: str | None = None) -> Any:
    """An option whose help says its default in words: the defaults themselves stand in `hsichunk.options`."""
    return typer.Option(*names, metavar=metavar, help=text, show_default=False, rich_help_panel=panel)


Out = Annotated[str | None, _option(metavar="DIR", text="Folder for the results; made if missing.")]
Config = Annotated[
    Path | None,
    _option(
        metavar="FILE",
        text="YAML file of options, as 'k: 4'; those given here win. It takes keep, drop, drop-last and maxit, too.",
    ),
]
Overwrite = Annotated[
    bool, _option("--overwrite", metavar=None, text="Replace results that were made with other options.")
]
K = Annotated[int | None, _option("-k", metavar="N", text="How many to find (4).", panel=SEARCH)]
Seed = Annotated[int | None, _option(metavar="N", text="Seed of the sample of pixels (0).", panel=SEARCH)]
Sample = Annotated[int | None, _option(metavar="N", text="Pixels to search (20000).", panel=SEARCH)]
Share = Annotated[
    float | None,
    _option(metavar="X", text="Share of the 64 x 64 pixel cells that they come from (0.125).", panel=SEARCH),
]
SamThreshold = Annotated[
    list[str] | None,
    _option(
        metavar="X[,X...]", text="Largest spectral angle (rad) of a class: one, or one a class (0.1).", panel=CLASSES
    ),
]
SidThreshold = Annotated[
    list[str] | None,
    _option(
        metavar="X[,X...]", text="Largest divergence (nats) of a class: one, or one a class (0.05).", panel=CLASSES
    ),
]
Relative = Annotated[
    bool,
    _option(
        "--relative",
        metavar=None,
        text="Thresholds are shares of the range over the image (PySpTools' rule).",
        panel=CLASSES,
    ),
]
Every = Annotated[int | None, _option(metavar="N", text="Keep every n-th (1).", panel=BANDS)]
LessonBands = Annotated[
    bool,
    _option("--lesson-bands", metavar=None, text="The 360 of NEON's lesson instead of all good ones.", panel=BANDS),
]
Memory = Annotated[
    str | None,
    _option(metavar="SIZE", text="Most memory that the whole process may hold, as 512MB (2GB).", panel=WORK),
]
Threads = Annotated[int | None, _option(metavar="N", text="Threads (all processors).", panel=WORK)]
Endmembers = Annotated[
    str | None,
    _option(metavar="FILE", text="Use these (CSV, as endmembers.csv of a run) instead of finding k.", panel=SEARCH),
]
PerTile = Annotated[
    bool, _option("--per-tile", metavar=None, text="Endmembers of each tile from its own pixels.", panel=SEARCH)
]
Mask = Annotated[
    list[str] | None,
    _option(
        metavar="WHAT",
        text="Pixels to leave out, may be given again: weather, shadow, water, ndvi=0.2:1 (the range to keep), "
        "brightness=0.02:0.8, or a raster or polygon file.",
        panel=INPUT,
    ),
]
OnError = Annotated[
    str | None,
    _option(
        metavar="WHAT",
        text="On a bad tile: stop (the default), skip it, or mask: leave out the pixels of a bad chunk, too.",
        panel=INPUT,
    ),
]
CommonBands = Annotated[
    str | None,
    _option(
        "--bands",
        metavar="WHAT",
        text="Tiles of other wavelengths: same (the default) refuses them, common interpolates to the first tile's.",
        panel=INPUT,
    ),
]
Scheduler = Annotated[
    str | None,
    _option(metavar="ADDRESS", text="Work on a dask cluster, as tcp://host:8786.", panel=WORK),
]
Cluster = Annotated[
    str | None,
    _option(metavar="local", text="Work in processes, each with --threads and --memory.", panel=WORK),
]
Workers = Annotated[int | None, _option(metavar="N", text="Processes of a local cluster (2).", panel=WORK)]
Profile = Annotated[str | None, _option(metavar="FILE", text="Save dask's performance report (HTML).", panel=WORK)]
DryRun = Annotated[
    bool, _option("--dry-run", metavar=None, text="Say what would be done, and in what memory; do nothing.", panel=WORK)
]
Debug = Annotated[bool, _option("--debug", metavar=None, text="Show the traceback of an error.", panel=WORK)]


def _version(asked: bool) -> None:
    if asked:
        from hsichunk import __version__

        typer.echo(f"hsichunk {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    tiles: Annotated[list[str] | None, typer.Argument(metavar="TILE", help="NEON reflectance tiles (HDF5).")] = None,
    out: Out = None,
    config: Config = None,
    overwrite: Overwrite = False,
    k: K = None,
    seed: Seed = None,
    sample: Sample = None,
    share: Share = None,
    sam_threshold: SamThreshold = None,
    sid_threshold: SidThreshold = None,
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
    debug: Debug = False,
) -> None:
    """Endmembers, abundances, SAM, SID and classes of tiles, into a folder.

    The same command run again after a stop goes on where it was.

    Example: **hsichunk run tile.h5 --out results -k 4 --memory 2GB**

    Example: **hsichunk run a.h5 b.h5 --out site -k 3 --sid-threshold 0.8,0.3,0.03**

    It leaves products.zarr, abundance.tif, rmse.tif, sam_class.tif, sid_class.tif, endmembers.csv, item.json (STAC)
    and run.json.
    """
    given = {
        "tiles": tiles, "out": out, "k": k, "seed": seed, "sample": sample, "share": share,
        "sam_threshold": sam_threshold, "sid_threshold": sid_threshold, "relative": relative or None,
        "every": every, "lesson_bands": lesson_bands or None,
        "memory": memory, "threads": threads, "overwrite": overwrite or None,
        "endmembers": endmembers, "per_tile": per_tile or None, "mask": mask, "on_error": on_error, "bands": bands,
        "scheduler": scheduler, "cluster": cluster, "workers": workers, "profile": profile,
    }  # fmt: skip
    values = {name: value for name, value in given.items() if value not in (None, [])}
    _do(lambda: _run(values, config, dry_run), debug)


def _run(given: dict[str, Any], config: Path | None, dry: bool) -> None:
    from hsichunk import options

    values = options.read_config(config, given) if config else given
    asked = options.build({"threads": _processors(), **values})
    _one_blas_thread()
    if dry:
        from hsichunk import dry_run

        typer.echo(dry_run.as_text(dry_run.dry_run(asked)))
        return
    from hsichunk import progress
    from hsichunk.run import run

    with progress.shown() as show:
        report = run(asked, show)
    _summary(asked.out, report)


def _processors() -> int:
    from hsichunk.threads import available

    return available()


def _one_blas_thread() -> None:
    """Only the search for endmembers uses BLAS, on one thread: its pools would only take memory."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _summary(out: str, report: dict[str, Any]) -> None:
    pixels = report["pixels"]
    typer.echo(
        f"{out}: {pixels['valid']} pixels unmixed, {pixels['masked']} without data, {report['bands']['kept']} bands"
    )
    typer.echo("mean abundance  " + "  ".join(f"{n} {v:.4f}" for n, v in report["mean_abundance"].items()))
    took = f"{report['seconds']:.1f} s, peak memory {report['peak_memory'] / 1e6:.0f} MB"
    typer.echo(f"nothing left to do: finished before, in {took}" if report["finished"] else took)


@app.command()
def info(
    tile: Annotated[str, typer.Argument(metavar="TILE", help="A NEON reflectance tile (HDF5).", show_default=False)],
    json: Annotated[bool, _option("--json", metavar=None, text="For programs.")] = False,
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
        from hsichunk import options

        given = {"tiles": [tile], "out": "", "k": k, "memory": memory, "threads": threads or _processors()}
        asked = options.build({name: value for name, value in given.items() if value is not None})
        _one_blas_thread()
        from hsichunk import describe

        said = describe.describe(asked)
        typer.echo(describe.as_json(said) if json else describe.as_text(said))

    _do(work, debug)


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
        _one_blas_thread()
        from hsichunk import demonstration, progress

        with progress.shown() as show:
            made = demonstration.demo(Path(out), size, show)
        _summary(str(made.results), made.report)
        for line in made.lines:
            typer.echo(line)

    _do(work, debug)


def _do(work: Callable[[], None], debug: bool) -> None:
    """Runs a command: errors become one line and an exit status, warnings one line each."""
    import warnings

    from hsichunk.errors import HsiError, HsiWarning
    from hsichunk.options import OptionError

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, HsiWarning):
            _say(f"note: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", HsiWarning)
        try:
            work()
        except (typer.Exit, BrokenPipeError):
            raise
        except OptionError as error:
            _end(str(error), 2, debug)
        except HsiError as error:
            _end(str(error), 1, debug)
        except MemoryError:
            _end("out of memory; give a smaller --memory", 1, debug)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _end(f"{where}{error.strerror or error}", 1, debug)
        except Exception as error:  # a fault of ours: still one line
            _end(f"unexpected {type(error).__name__}: {error}; --debug shows where", 1, debug)


def _say(message: str) -> None:
    typer.echo(f"hsichunk: {' '.join(message.split())}", err=True)


def _end(message: str, status: int, debug: bool) -> None:
    if debug:
        raise  # what is being handled: this is called from except blocks only
    _say(message)
    raise typer.Exit(status)


def _stop(*_: Any) -> None:
    """Ends at once, as a kill would: what is stored is safe, and unwinding an interrupted import can lock up."""
    lines = "hsichunk: stopped; the same command goes on where it was\n"
    if sys.stderr.isatty():
        lines = f"\n\x1b[?25h{lines}"  # below the bars, and with the cursor that they hide
    os.write(2, lines.encode())
    os._exit(130)


def main() -> None:
    """Entry point of the command `hsichunk`."""
    signal.signal(signal.SIGINT, _stop)
    try:
        app(prog_name="hsichunk")
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else int(end.code is not None))


def _leave(status: int) -> None:
    """Ends without taking the interpreter apart, which takes a quarter of a second and saves nothing."""
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads
        status = status or 1
    os._exit(status)


if __name__ == "__main__":
    main()
