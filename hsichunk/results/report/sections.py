"""The sections of the report: the pictures, figures and tables that belong together, by the names of the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bytes, Float32s
from hsichunk.classification.palette import class_colors, css
from hsichunk.results import quicklook
from hsichunk.results.finished_run import FinishedRun
from hsichunk.results.quicklook import MapTile
from hsichunk.results.report import charts, map_statistics, pictures, tables
from hsichunk.results.report.map_statistics import MapStatistics

DECODED = 2_000_000_000  # bytes of the tiles that the picture in colours may decode
ABUNDANCE_CMAP, RMSE_CMAP = "viridis", "cividis"


@dataclass(frozen=True)
class Picture:
    """An image of a map, as data URI, with its size in pixels and its description."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class ColorPicture:
    """The picture of the tiles in colours."""

    picture: Picture
    step: int
    """rows and columns of the map from one pixel of the picture to the next"""
    nm: list[str]
    """wavelengths of red, green and blue"""
    masked: bool
    """whether stripes mark masked pixels"""
    damaged: int
    """parts of tiles that cannot be read"""


@dataclass(frozen=True)
class EndmemberRow:
    """The row of an endmember in their table."""

    name: str
    color: str
    """as CSS"""
    place: str
    """x and y of its pixel"""
    low: float
    high: float
    """least and greatest reflectance"""
    mean: float | None
    """mean abundance; None where each tile has endmembers of its own"""


@dataclass(frozen=True)
class AbundanceFigure:
    """The map and the histograms of an endmember's abundance."""

    name: str
    color: str
    mean: float
    low: float
    high: float
    picture: Picture
    histogram: str
    log: str
    """the histogram with logarithmic heights"""


@dataclass(frozen=True)
class ClassMapFigure:
    """A class map with the shares and areas of its classes."""

    id: str
    title: str
    text: str
    """long name of the metric"""
    rows: list[tables.ClassRow]
    rule: str
    picture: Picture


@dataclass(frozen=True)
class AgreementFigure:
    """Where two class maps agree and where they differ."""

    titles: list[str]
    picture: Picture
    rows: list[tables.ClassRow]
    matrix: list[list[str]] | None
    pairs: list[tuple[str, str, str, str]]


@dataclass(frozen=True)
class ResidualFigure:
    """The map and the histograms of the rmse."""

    picture: Picture
    low: float
    high: float
    """the limits of the colours"""
    mean: float
    most: float
    """the greatest rmse"""
    histogram: str
    log: str


def color_picture(results: FinishedRun, tiles: Sequence[MapTile], statistics: MapStatistics) -> ColorPicture | None:
    """Return the picture of the tiles in colours, None without tiles.

    It holds every n-th pixel, with n as small as the size of the page and the bytes to decode allow.
    """
    if not tiles:
        return None
    grid = results.grid
    step = statistics.step
    while True:
        rows, cols = map_statistics.samples(grid.rows, step), map_statistics.samples(grid.cols, step)
        if quicklook.decoded_bytes(tiles, rows, cols) <= DECODED or min(len(rows), len(cols)) <= 1:
            break
        step *= 2
    colors, damaged = quicklook.read_colors(tiles, rows, cols)
    image, known = quicklook.as_bytes(colors, quicklook.stretch(colors))
    name = next(iter(statistics.classes))
    if step == statistics.step:
        label = statistics.class_pictures[name]
    else:
        label = results.products[name].isel({schema.Y: rows, schema.X: cols}).values
    masked = (label == schema.CLASS_NO_DATA) & known
    image = pictures.mark_masked(image, known, masked)
    nm = [f"{tiles[0].file.wavelength[band]:.0f}" for band in tiles[0].bands]
    alt = f"Picture of the site in the colours of {', '.join(nm)} nm, with the outlines of {len(tiles)} tiles"
    picture = Picture(pictures.jpeg(image), image.shape[1], image.shape[0], alt)
    return ColorPicture(picture, step, nm, bool(masked.any()), damaged)


def endmember_rows(results: FinishedRun, statistics: MapStatistics) -> list[EndmemberRow]:
    """Return the rows of all endmembers."""
    em, k = results.endmembers, len(results.names)
    colors = class_colors(k)
    rows = []
    for index, name in enumerate(em.names):
        has_pixel = bool(np.isfinite(em.x[index]) and np.isfinite(em.y[index]))
        rows.append(
            EndmemberRow(
                name=name,
                color=css(colors[index % k + 1]),
                place=f"{em.x[index]:.1f}, {em.y[index]:.1f}" if has_pixel else "no pixel of the tiles",
                low=float(em.spectra[index].min()),
                high=float(em.spectra[index].max()),
                mean=float(statistics.mean[index]) if len(em.names) == k else None,
            )
        )
    return rows


def matches(results: FinishedRun, library: xr.DataArray) -> list[str]:
    """Return the nearest spectrum of a library to each endmember, its angle, and the next one, in words."""
    from hsichunk.endmembers.matching import ANGLE, MATCH, identify

    em = results.endmembers
    coords = {schema.ENDMEMBER: list(em.names), schema.WAVELENGTH: em.wavelength}
    spectra = xr.DataArray(em.spectra, coords, (schema.ENDMEMBER, schema.WAVELENGTH))
    nearest = identify(spectra, library, min(2, library.sizes[schema.ENDMEMBER]))
    lines = []
    for names, angles in zip(nearest[MATCH].values.tolist(), nearest[ANGLE].values.tolist(), strict=True):
        words = [f"{name} ({angle:.3f} rad)" for name, angle in zip(names, angles, strict=True)]
        lines.append(", then ".join(words))
    return lines


def abundance_figures(results: FinishedRun, statistics: MapStatistics) -> list[AbundanceFigure]:
    """Return the figures of the endmembers that have a picture."""
    colors = class_colors(len(results.names))
    figures = []
    for image, index in zip(statistics.abundance_pictures, statistics.drawn, strict=True):
        name, values = results.names[index], statistics.abundance[index]
        mean, color = float(statistics.mean[index]), css(colors[index + 1])
        alt = f"Map of the abundance of {name}, from 0 (dark) to 1 (bright); mean {mean:.3f}"
        figures.append(
            AbundanceFigure(
                name=name,
                color=color,
                mean=mean,
                low=values.low,
                high=values.high,
                picture=_picture(pictures.shade(image, 0.0, 1.0, ABUNDANCE_CMAP), image, alt),
                histogram=charts.histogram(values, f"abundance of {name}", color, False),
                log=charts.histogram(values, f"abundance of {name}", color, True),
            )
        )
    return figures


def class_map_figures(results: FinishedRun, statistics: MapStatistics) -> list[ClassMapFigure]:
    """Return the figures of all class maps."""
    figures = []
    for name, counts in statistics.classes.items():
        title, metric = tables.title(name), name.removesuffix("_class")
        label, image = results.products[name], statistics.class_pictures[name]
        rows = tables.class_rows(label, counts, results.grid)
        shares = ", ".join(f"{row.name} {tables.percent(row.share)}" for row in rows[:12])
        alt = f"Map of the {title} classes: {shares}"
        figures.append(
            ClassMapFigure(
                id=title.lower(),
                title=title,
                text=str(schema.PRODUCT_ATTRS[metric]["long_name"]),
                rows=rows,
                rule=tables.rule(label),
                picture=_picture(pictures.classes(image, len(results.names)), image, alt),
            )
        )
    return figures


def agreement_figure(results: FinishedRun, statistics: MapStatistics) -> AgreementFigure:
    """Return the figure of the two class maps that are compared."""
    first, second = (statistics.class_pictures[name] for name in statistics.compared)
    titles = [tables.title(name) for name in statistics.compared]
    alt = f"Map of where the classes of {' and '.join(titles)} are the same and where they differ"
    return AgreementFigure(
        titles=titles,
        picture=_picture(pictures.agreement_map(first, second), first, alt),
        rows=tables.agreement_rows(statistics, results.grid),
        matrix=tables.matrix(statistics, results.names),
        pairs=tables.differing_pairs(statistics, results.names),
    )


def residual_figure(statistics: MapStatistics) -> ResidualFigure:
    """Return the figure of the rmse, with colours from its 2nd to its 98th percentile."""
    image, values = statistics.rmse_picture, statistics.rmse
    low, high = values.percentile(0.02), values.percentile(0.98)
    alt = f"Map of the root mean square residual in reflectance, from {low:.2g} (dark) to {high:.2g} (bright)"
    return ResidualFigure(
        picture=_picture(pictures.shade(image, low, high, RMSE_CMAP), image, alt),
        low=low,
        high=high,
        mean=statistics.mean_rmse,
        most=values.high,
        histogram=charts.histogram(values, "rmse (reflectance)", "#0072b2", False),
        log=charts.histogram(values, "rmse (reflectance)", "#0072b2", True),
    )


def _picture(uri: str, image: Float32s | Bytes, alt: str) -> Picture:
    return Picture(uri, image.shape[-1], image.shape[-2], alt)


def facts(results: FinishedRun) -> list[tuple[str, str]]:
    """Return the rows of the table of the site and the run: name and value."""
    record, grid = results.record, results.grid
    size = f"{grid.rows:,} x {grid.cols:,} pixels"
    if grid.north_up:
        size = f"{size} of {grid.dx:g} x {grid.dy:g} {grid.unit}".strip()
    resumed = " (resumed: of the last attempt)" if record.resumed else ""
    return [
        ("site", f"{record.site.name}, {record.site.crs or 'without a CRS'}"),
        ("map", size),
        ("extent", f"x {grid.left:.1f} to {grid.right:.1f}, y {grid.bottom:.1f} to {grid.top:.1f}"),
        ("tiles", str(len(record.inputs))),
        ("bands kept", f"{record.bands.kept} of {record.bands.of}"),
        ("pixels unmixed", tables.integer(record.pixels.valid)),
        ("seconds", f"{record.seconds:.1f}{resumed}"),
        ("peak memory", f"{record.peak_memory / 1e6:.0f} MB of {record.options.memory / 1e6:.0f} MB allowed"),
    ]
