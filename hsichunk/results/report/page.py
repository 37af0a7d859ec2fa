"""Fill the template of the report with the sections, tables and pictures of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import xarray as xr

from hsichunk import schema
from hsichunk.results import quicklook
from hsichunk.results.finished_run import FinishedRun, MapGrid
from hsichunk.results.quicklook import MapTile
from hsichunk.results.report import charts, map_statistics, overlay, pictures, sections, tables
from hsichunk.results.report.map_statistics import MapStatistics
from hsichunk.run.record import Certificate, RunRecord

SIDE = 800  # pixels of a picture, at most
MOST_DRAWN = 24  # endmembers with a picture
ABUNDANCE_PIXELS = 1_500_000  # of all pictures of abundances
BOUND = {schema.FCLS: ": none below 0, together 1", schema.NNLS: ": none below 0"}


@dataclass(frozen=True)
class Content:
    """Everything that the template names, but for the functions that write numbers."""

    run: RunRecord
    grid: MapGrid
    names: list[str]
    """of the endmembers of a pixel"""
    statistics: MapStatistics
    marks: list[overlay.Mark]
    all_marks: int
    """endmembers, with and without a mark"""
    outlines: list[overlay.Outline]
    scale_bar: overlay.ScaleBar
    placed: tuple[MapTile, ...]
    """tiles that can be read"""
    missing: tuple[tuple[str, str], ...]
    """path of each tile that cannot be read, and why"""
    rgb: sections.ColorPicture | None
    spectra: str
    dropped: list[tuple[float, float]]
    """ranges of dropped bands in nm"""
    endmember_rows: list[sections.EndmemberRow]
    matches: list[str] | None
    abundances: list[sections.AbundanceFigure]
    bars: dict[str, str]
    """colour bars of abundance and rmse"""
    class_maps: list[sections.ClassMapFigure]
    agreement: sections.AgreementFigure | None
    rmse: sections.ResidualFigure
    left_out: list[tuple[str, str, str]]
    masks: list[tuple[str, str]]
    damage: list[str]
    stages: list[tuple[str, str, str, str]]
    solver: str
    """how abundances are constrained, in words"""
    bound: str
    """what that means, in words"""
    solved: Certificate
    facts: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    options: list[tuple[str, str]]
    command: str
    """that repeats the run"""


def render(results: FinishedRun, tiles: list[str] | None, library: xr.DataArray | None = None) -> str:
    """Return the report as HTML. `tiles` are the paths of the tiles where run.json's are not those of today."""
    from jinja2 import Environment, StrictUndefined

    source = files("hsichunk.results.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(number=tables.number, percent=tables.percent, integer=tables.integer)
    return environment.from_string(source).render(vars(collect(results, tiles, library)))


def collect(results: FinishedRun, tiles: list[str] | None, library: xr.DataArray | None) -> Content:
    """Read the maps and the tiles, and return everything that the template names."""
    grid, names = results.grid, results.names
    statistics = map_statistics.read_statistics(results.products, SIDE, MOST_DRAWN, ABUNDANCE_PIXELS)
    placed, missing = quicklook.place_tiles(results.tiles if tiles is None else tiles, grid)
    dropped = charts.gaps(results.endmembers.wavelength, placed[0].file.wavelength if placed else None)
    record = results.record
    solver = record.options.solver
    return Content(
        run=record,
        grid=grid,
        names=names,
        statistics=statistics,
        marks=overlay.marks(results),
        all_marks=len(results.endmembers.names),
        outlines=overlay.outlines(placed, grid),
        scale_bar=overlay.scale_bar(grid),
        placed=placed,
        missing=missing,
        rgb=sections.color_picture(results, placed, statistics),
        spectra=charts.spectra(results.endmembers, len(names), dropped),
        dropped=dropped,
        endmember_rows=sections.endmember_rows(results, statistics),
        matches=None if library is None else sections.matches(results, library),
        abundances=sections.abundance_figures(results, statistics),
        bars={
            "abundance": pictures.color_bar(sections.ABUNDANCE_CMAP),
            "rmse": pictures.color_bar(sections.RMSE_CMAP),
        },
        class_maps=sections.class_map_figures(results, statistics),
        agreement=sections.agreement_figure(results, statistics) if statistics.compared else None,
        rmse=sections.residual_figure(statistics),
        left_out=tables.left_out(results, statistics),
        masks=tables.masks(results),
        damage=tables.damage(results),
        stages=tables.stages(results),
        solver=schema.CONSTRAINTS.get(solver, solver),
        bound=BOUND.get(solver, ""),
        solved=record.certificate,
        facts=sections.facts(results),
        versions=[("hsichunk", record.hsichunk), *record.versions.items()],
        options=tables.flatten(record.options.as_dict()),
        command=tables.command(results),
    )
