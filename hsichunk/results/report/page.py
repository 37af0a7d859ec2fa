"""The page: what is drawn and said, put into the template."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.classification import palette
from hsichunk.classification.palette import class_colors
from hsichunk.results import quicklook
from hsichunk.results.finished_run import FinishedRun
from hsichunk.results.quicklook import Placed
from hsichunk.results.report import charts, map_statistics, pictures, tables

SIDE = 800  # pixels of a picture, at most
MOST_DRAWN = 24  # endmembers with a picture
ABUNDANCE_PIXELS = 1_500_000  # of all pictures of abundances
DECODED = 2_000_000_000  # bytes of the tiles that the picture in colours may decode
MOST_MARKS = 120  # endmembers marked on the map
BOUND = {schema.FCLS: ": none below 0, together 1", schema.NNLS: ": none below 0"}
LABEL = (130.0, 36.0)  # room for the name of one, in thousandths of the longer side
ABUNDANCE_CMAP, RMSE_CMAP = "viridis", "cividis"


@dataclass(frozen=True)
class Picture:
    """A map and what belongs beside it."""

    uri: str
    width: int
    height: int
    alt: str


def render(results: FinishedRun, tiles: list[str] | None, library: xr.DataArray | None = None) -> str:
    """The report as HTML."""
    from jinja2 import Environment, StrictUndefined

    source = files("hsichunk.results.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(**content(results, tiles, library))


def content(results: FinishedRun, tiles: list[str] | None, library: xr.DataArray | None = None) -> dict[str, Any]:
    """Everything that the template names."""
    grid, names = results.grid, results.names
    found = map_statistics.read_sums(results.products, SIDE, MOST_DRAWN, ABUNDANCE_PIXELS)
    placed, missing = quicklook.place_tiles(results.tiles if tiles is None else tiles, grid)
    every = placed[0].file.wavelength if placed else None
    dropped = charts.gaps(results.endmembers.wavelength, every)
    record = results.record
    solver = record.options.solver
    return {
        "results": results,
        "run": record,
        "grid": grid,
        "names": names,
        "sums": found,
        "marks": _marks(results),
        "all_marks": len(results.endmembers.names),
        "outlines": _outlines(placed, results),
        "scale_bar": _scale_bar(grid.cols * grid.dx, "m" if grid.north_up else "px"),
        "placed": placed,
        "missing": missing,
        "rgb": _rgb(results, placed, found),
        "spectra": charts.spectra(results.endmembers, len(names), dropped),
        "dropped": dropped,
        "endmember_rows": _endmember_rows(results, found),
        "matches": None if library is None else _matches(results, library),
        "abundances": _abundances(results, found),
        "bars": {"abundance": pictures.color_bar(ABUNDANCE_CMAP), "rmse": pictures.color_bar(RMSE_CMAP)},
        "class_maps": _class_maps(results, found),
        "agreement": _agreement(results, found) if found.compared else None,
        "rmse": _rmse(found),
        "left_out": tables.left_out(results, found),
        "masks": tables.masks(results),
        "bad": tables.bad(results),
        "stages": tables.stages(results),
        "solver": schema.CONSTRAINTS.get(solver, solver),
        "bound": BOUND.get(solver, ""),
        "north_up": results.grid.north_up,
        "solved": record.certificate,
        "facts": _facts(results),
        "versions": [("hsichunk", record.hsichunk), *record.versions.items()],
        "options": tables.flat(record.options.as_dict()),
        "command": tables.command(results),
        "number": tables.number,
        "percent": tables.percent,
        "whole": tables.whole,
    }


def _picture(uri: str, image: NDArray[Any], alt: str) -> Picture:
    return Picture(uri, image.shape[-1], image.shape[-2], alt)


def _rgb(results: FinishedRun, placed: tuple[Placed, ...], found: map_statistics.Sums) -> dict[str, Any] | None:
    """The picture in colours, every n-th pixel, n as small as the page and the bytes to decode allow."""
    if not placed:
        return None
    grid = results.grid
    step = found.steps[schema.RMSE]
    while True:
        rows, cols = map_statistics.samples(grid.rows, step), map_statistics.samples(grid.cols, step)
        if quicklook.decoded(placed, rows, cols) <= DECODED or min(len(rows), len(cols)) <= 1:
            break
        step *= 2
    colors, damaged = quicklook.read_colors(placed, rows, cols)
    image, known = quicklook.as_bytes(colors, quicklook.stretch(colors))
    name = next(iter(found.classes))
    label = results.products[name]
    if step == found.steps[schema.RMSE]:
        without = found.pictures[name] == schema.CLASS_NO_DATA
    else:
        without = label.isel({schema.Y: rows, schema.X: cols}).values == schema.CLASS_NO_DATA
    masked = without & known
    image = pictures.marked(image, known, masked)
    nm = [f"{placed[0].file.wavelength[band]:.0f}" for band in placed[0].bands]
    alt = f"Picture of the site in the colours of {', '.join(nm)} nm, with the outlines of {len(placed)} tiles"
    return {
        "picture": Picture(pictures.jpeg(image), image.shape[1], image.shape[0], alt),
        "step": step,
        "nm": nm,
        "masked": bool(masked.any()),
        "damaged": damaged,
    }


def _place(results: FinishedRun, row: float, col: float) -> tuple[float, float]:
    """In thousandths of the longer side, as the drawings over the maps count."""
    unit = 1000 / max(results.grid.rows, results.grid.cols)
    return round(col * unit, 2), round(row * unit, 2)


def _marks(results: FinishedRun) -> list[dict[str, Any]]:
    """Where the endmembers came from, on the map."""
    em, grid = results.endmembers, results.grid
    k = len(results.names)
    colors = class_colors(k)
    marks: list[dict[str, Any]] = []
    for index, name in enumerate(em.names[:MOST_MARKS]):
        at = grid.pixel(em.x[index], em.y[index])
        if at is not None:
            x, y = _place(results, at[0] + 0.5, at[1] + 0.5)
            marks.append({"x": x, "y": y, "name": name.split()[-1], "color": palette.css(colors[index % k + 1])})
    taken: list[tuple[float, float]] = []
    for mark in sorted(marks, key=lambda each: (each["y"], each["x"])):
        line = mark["y"]
        for x, y in taken:  # from top to bottom: a name goes below those in its way
            if abs(x - mark["x"]) < LABEL[0] and line < y + LABEL[1]:
                line = y + LABEL[1]
        taken.append((mark["x"], line))
        mark["line"] = round(line, 2)
    return marks


def _outlines(placed: tuple[Placed, ...], results: FinishedRun) -> list[dict[str, Any]]:
    out = []
    for tile in placed:
        x, y = _place(results, tile.top, tile.left)
        width, height = _place(results, tile.rows, tile.cols)
        out.append({"x": x, "y": y, "width": width, "height": height, "name": tile.file.path})
    return out


def _scale_bar(width: float, unit: str) -> dict[str, Any]:
    """A round length of about a fifth of the map, and its share of the width."""
    target = width / 5
    power = 10 ** np.floor(np.log10(target))
    length = float(max(m * power for m in (1, 2, 5) if m * power <= target))
    text = f"{length / 1000:g} k{unit}" if length >= 1000 and unit == "m" else f"{length:g} {unit}"
    return {"share": length / width, "text": text}


def _endmember_rows(results: FinishedRun, found: map_statistics.Sums) -> list[dict[str, Any]]:
    em, k = results.endmembers, len(results.names)
    colors = class_colors(k)
    rows = []
    for index, name in enumerate(em.names):
        known = bool(np.isfinite(em.x[index]) and np.isfinite(em.y[index]))
        rows.append(
            {
                "name": name,
                "color": palette.css(colors[index % k + 1]),
                "place": f"{em.x[index]:.1f}, {em.y[index]:.1f}" if known else "no pixel of the tiles",
                "low": float(em.spectra[index].min()),
                "high": float(em.spectra[index].max()),
                "mean": float(found.mean[index]) if len(em.names) == k else None,
            }
        )
    return rows


def _matches(results: FinishedRun, library: xr.DataArray) -> list[str]:
    """The nearest spectrum of a library to each endmember, its angle, and the next one."""
    from hsichunk.endmembers.matching import ANGLE, MATCH, identify

    em = results.endmembers
    coords = {schema.ENDMEMBER: list(em.names), schema.WAVELENGTH: em.wavelength}
    spectra = xr.DataArray(em.spectra, coords, (schema.ENDMEMBER, schema.WAVELENGTH))
    found = identify(spectra, library, min(2, library.sizes[schema.ENDMEMBER]))
    said = []
    for names, angles in zip(found[MATCH].values.tolist(), found[ANGLE].values.tolist(), strict=True):
        each = [f"{name} ({angle:.3f} rad)" for name, angle in zip(names, angles, strict=True)]
        said.append(", then ".join(each))
    return said


def _abundances(results: FinishedRun, found: map_statistics.Sums) -> list[dict[str, Any]]:
    colors = class_colors(len(results.names))
    out = []
    for image, index in zip(found.pictures[schema.ABUNDANCE], found.drawn, strict=True):
        name, of = results.names[index], found.abundance[index]
        color = palette.css(colors[index + 1])
        out.append(
            {
                "name": name,
                "color": color,
                "mean": float(found.mean[index]),
                "low": of.low,
                "high": of.high,
                "picture": _picture(
                    pictures.shaded(image, 0.0, 1.0, ABUNDANCE_CMAP),
                    image,
                    f"Map of the abundance of {name}, from 0 (dark) to 1 (bright); mean {found.mean[index]:.3f}",
                ),
                "histogram": charts.histogram(of, f"abundance of {name}", color, False),
                "log": charts.histogram(of, f"abundance of {name}", color, True),
            }
        )
    return out


def _class_maps(results: FinishedRun, found: map_statistics.Sums) -> list[dict[str, Any]]:
    out = []
    for name in found.classes:
        title, of = tables.title(name), name.removesuffix("_class")
        label, image = results.products[name], found.pictures[name]
        rows = tables.class_rows(label, found.classes[name], results.grid)
        said = ", ".join(f"{row.name} {tables.percent(row.share)}" for row in rows[:12])
        out.append(
            {
                "id": title.lower(),
                "title": title,
                "text": str(schema.PRODUCT_ATTRS[of]["long_name"]),
                "rows": rows,
                "rule": tables.rule(label),
                "picture": _picture(
                    pictures.classes(image, len(results.names)), image, f"Map of the {title} classes: {said}"
                ),
            }
        )
    return out


def _agreement(results: FinishedRun, found: map_statistics.Sums) -> dict[str, Any]:
    one, two = (found.pictures[name] for name in found.compared)
    titles = [tables.title(name) for name in found.compared]
    alt = f"Map of where the classes of {' and '.join(titles)} are the same and where they differ"
    return {
        "titles": titles,
        "picture": _picture(pictures.agreement_map(one, two), one, alt),
        "rows": tables.agreement_rows(found, results.grid),
        "matrix": tables.matrix(found, results.names),
        "pairs": tables.differing(found, results.names),
    }


def _rmse(found: map_statistics.Sums) -> dict[str, Any]:
    image, of = found.pictures[schema.RMSE], found.rmse
    low, high = of.percentile(0.02), of.percentile(0.98)
    alt = f"Map of the root mean square residual in reflectance, from {low:.2g} (dark) to {high:.2g} (bright)"
    return {
        "picture": _picture(pictures.shaded(image, low, high, RMSE_CMAP), image, alt),
        "low": low,
        "high": high,
        "mean": found.mean_rmse,
        "most": of.high,
        "histogram": charts.histogram(of, "rmse (reflectance)", "#0072b2", False),
        "log": charts.histogram(of, "rmse (reflectance)", "#0072b2", True),
    }


def _facts(results: FinishedRun) -> list[tuple[str, str]]:
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
        ("pixels unmixed", tables.whole(record.pixels.valid)),
        ("seconds", f"{record.seconds:.1f}{resumed}"),
        ("peak memory", f"{record.peak_memory / 1e6:.0f} MB of {record.options.memory / 1e6:.0f} MB allowed"),
    ]
