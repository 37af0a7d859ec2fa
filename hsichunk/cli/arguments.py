"""The arguments that commands share, and what the help says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

WORK, SEARCH, ABUNDANCES, CLASSES = "How it runs", "Endmembers", "Abundances", "Scores and classes"
BANDS, INPUT = "Bands", "Tiles and pixels"


def option(*names: str, metavar: str | None, text: str, panel: str | None = None) -> Any:
    """An option whose help says its default in words: the defaults themselves stand in `hsichunk.run.options`."""
    return typer.Option(*names, metavar=metavar, help=text, show_default=False, rich_help_panel=panel)


Out = Annotated[str | None, option(metavar="DIR", text="Folder for the results; made if missing.")]
Config = Annotated[
    Path | None,
    option(
        metavar="FILE",
        text="YAML file of options, as 'k: 4'; those given here win. It takes keep, drop, drop-last and maxit, too.",
    ),
]
Overwrite = Annotated[
    bool, option("--overwrite", metavar=None, text="Replace results that were made with other options.")
]
K = Annotated[int | None, option("-k", metavar="N", text="How many to find (4).", panel=SEARCH)]
Method = Annotated[
    str | None,
    option(
        metavar="NAME",
        text="How: nfindr (the default), atgp, ppi, fippi (as many as it finds, about k) or vca.",
        panel=SEARCH,
    ),
]
Refine = Annotated[
    bool,
    option(
        "--refine",
        metavar=None,
        text="Search all pixels, in this process, until none makes the simplex larger: goes through the tiles twice.",
        panel=SEARCH,
    ),
]
Exclude = Annotated[
    float | None,
    option(
        metavar="X",
        text="Leave outliers out: pixels so many robust deviations from the median (as 50), or the farthest share "
        "(as 1e-5).",
        panel=SEARCH,
    ),
]
Seed = Annotated[int | None, option(metavar="N", text="Seed of the sample of pixels (0).", panel=SEARCH)]
Sample = Annotated[int | None, option(metavar="N", text="Pixels to search (20000).", panel=SEARCH)]
Share = Annotated[
    float | None,
    option(metavar="X", text="Share of the 64 x 64 pixel cells that they come from (0.125).", panel=SEARCH),
]
SolverName = Annotated[
    str | None,
    option(
        metavar="NAME",
        text="What binds them: fcls, at least 0 and summing to one (the default), nnls, at least 0, or ucls, unbound.",
        panel=ABUNDANCES,
    ),
]
Metric = Annotated[
    list[str] | None,
    option(
        metavar="NAMES",
        text="Scores to store, each with its class map: some of sam, sid, sid-sam, ncc, chebyshev and sca (sam,sid).",
        panel=CLASSES,
    ),
]
SamThreshold = Annotated[
    list[str] | None,
    option(
        metavar="X[,X...]", text="Largest spectral angle (rad) of a class: one, or one a class (0.1).", panel=CLASSES
    ),
]
SidThreshold = Annotated[
    list[str] | None,
    option(metavar="X[,X...]", text="Largest divergence (nats) of a class: one, or one a class (0.05).", panel=CLASSES),
]
SidSamThreshold = Annotated[
    list[str] | None,
    option(
        metavar="X[,X...]",
        text="Largest divergence times tangent of the angle (nats) of a class: one, or one a class (0.005).",
        panel=CLASSES,
    ),
]
NccThreshold = Annotated[
    list[str] | None,
    option(metavar="X[,X...]", text="Smallest correlation of a class: one, or one a class (0.9).", panel=CLASSES),
]
ChebyshevThreshold = Annotated[
    list[str] | None,
    option(
        metavar="X[,X...]",
        text="Largest difference (reflectance) of a class in any band: one, or one a class (0.1).",
        panel=CLASSES,
    ),
]
ScaThreshold = Annotated[
    list[str] | None,
    option(
        metavar="X[,X...]", text="Largest correlation angle (rad) of a class: one, or one a class (0.1).", panel=CLASSES
    ),
]
Relative = Annotated[
    bool,
    option(
        "--relative",
        metavar=None,
        text="Thresholds are shares of the range over the image (PySpTools' rule).",
        panel=CLASSES,
    ),
]
Every = Annotated[int | None, option(metavar="N", text="Keep every n-th (1).", panel=BANDS)]
LessonBands = Annotated[
    bool,
    option("--lesson-bands", metavar=None, text="The 360 of NEON's lesson instead of all good ones.", panel=BANDS),
]
Memory = Annotated[
    str | None,
    option(metavar="SIZE", text="Most memory that the whole process may hold, as 512MB (2GB).", panel=WORK),
]
Threads = Annotated[int | None, option(metavar="N", text="Threads (all processors).", panel=WORK)]
Endmembers = Annotated[
    str | None,
    option(metavar="FILE", text="Use these (CSV, NetCDF, ENVI .sli or .lib) instead of finding k.", panel=SEARCH),
]
PerTile = Annotated[
    bool, option("--per-tile", metavar=None, text="Endmembers of each tile from its own pixels.", panel=SEARCH)
]
Mask = Annotated[
    list[str] | None,
    option(
        metavar="WHAT",
        text="Pixels to leave out, may be given again: weather, shadow, water, ndvi=0.2:1 (the range to keep), "
        "brightness=0.02:0.8, or a raster or polygon file.",
        panel=INPUT,
    ),
]
OnError = Annotated[
    str | None,
    option(
        metavar="WHAT",
        text="On a bad tile: stop (the default), skip it, or mask: leave out the pixels of a bad chunk, too.",
        panel=INPUT,
    ),
]
CommonBands = Annotated[
    str | None,
    option(
        "--bands",
        metavar="WHAT",
        text="Tiles of other wavelengths: same (the default) refuses them, common interpolates to the first tile's.",
        panel=INPUT,
    ),
]
Scheduler = Annotated[
    str | None,
    option(metavar="ADDRESS", text="Work on a dask cluster, as tcp://host:8786.", panel=WORK),
]
Cluster = Annotated[
    str | None,
    option(metavar="local", text="Work in processes, each with --threads and --memory.", panel=WORK),
]
Workers = Annotated[int | None, option(metavar="N", text="Processes of a local cluster (2).", panel=WORK)]
Profile = Annotated[str | None, option(metavar="FILE", text="Save dask's performance report (HTML).", panel=WORK)]
DryRun = Annotated[
    bool, option("--dry-run", metavar=None, text="Say what would be done, and in what memory; do nothing.", panel=WORK)
]
WriteConfig = Annotated[
    Path | None,
    option(metavar="FILE", text="Write these options to a YAML file, each explained, for --config; do nothing else."),
]
Report = Annotated[bool, option("--report", metavar=None, text="Write DIR/report.html, too.", panel=WORK)]
Debug = Annotated[bool, option("--debug", metavar=None, text="Show the traceback of an error.", panel=WORK)]
