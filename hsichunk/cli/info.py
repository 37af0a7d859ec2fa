"""Describe a tile for `hsichunk info`: its metadata, its share of no-data, and the plan of a run over it."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass

import numpy as np

from hsichunk import schema
from hsichunk.chunks.counts import Counts
from hsichunk.cube.sampling import choose, places
from hsichunk.errors import HsiError
from hsichunk.mosaic.site import Site, open_site
from hsichunk.run import json_records
from hsichunk.run.make_plan import kept_bands, make_plan
from hsichunk.run.options import Options
from hsichunk.run.plan import MB, Plan

SAMPLED = 2_000  # pixels, in the one band whose chunks are decoded for the share of no-data


@dataclass(frozen=True)
class ByteSizes:
    """Sizes of a tile in bytes."""

    file: int
    stored: int
    """of the stored chunks"""
    decoded: int
    """of all values"""


@dataclass(frozen=True)
class WavelengthRange:
    """First and last wavelength of a tile in nm."""

    first: float
    last: float


@dataclass(frozen=True)
class Refusal:
    """Stands for the plan where the memory cannot hold one."""

    refused: str
    """the message of the error"""


@dataclass(frozen=True)
class TileInfo:
    """What `info` says of a tile; `info --json` prints the fields by these names."""

    path: str
    site: str
    shape: dict[str, int]
    """sizes of y, x and wavelength"""
    dtype: str
    stored_chunks: tuple[int, ...]
    direct_reading: bool
    """whether threads decode chunks side by side, without h5py"""
    bytes: ByteSizes
    scale: float
    no_data: int
    no_data_share: float
    """share of the sampled pixels without data in the middle band"""
    wavelength: WavelengthRange
    fwhm: bool
    """whether the file has widths of the bands"""
    bad_band_windows: tuple[tuple[float, float], ...]
    """in nm"""
    bands_kept: int
    crs: str | None
    bounds: tuple[float, float, float, float]
    """west, south, east and north, in units of the CRS"""
    pixel: tuple[float, float]
    """size along x and y"""
    provenance: dict[str, str]
    """where each value comes from: the file, the user, or a fallback"""
    layers: list[str]
    """names of the ancillary layers"""
    plan: Plan | Refusal


def describe(options: Options) -> TileInfo:
    """Describe the first tile of the options. Decodes one band of a few cells, for the share of no-data.

    Raises HsiError for a file that is no tile.
    """
    site = open_site(options.tiles, floats=True)
    file = site.tiles[0].file
    stored, grid = file.reflectance, file.grid
    bands = kept_bands(site, options)
    rows, cols, count = stored.shape
    edges = grid.top, grid.top - rows * grid.dy
    try:
        plan: Plan | Refusal = make_plan(site, bands, options)
    except HsiError as error:
        plan = Refusal(str(error))
    return TileInfo(
        path=file.path,
        site=file.site,
        shape={schema.Y: rows, schema.X: cols, schema.WAVELENGTH: count},
        dtype=str(stored.dtype),
        stored_chunks=stored.chunks,
        direct_reading=stored.direct,
        bytes=ByteSizes(stored.stamp[0], stored.stored_bytes, rows * cols * count * stored.dtype.itemsize),
        scale=file.scale,
        no_data=file.no_data,
        no_data_share=_no_data_share(site, options),
        wavelength=WavelengthRange(float(file.wavelength[0]), float(file.wavelength[-1])),
        fwhm=file.fwhm is not None,
        bad_band_windows=file.windows,
        bands_kept=len(bands),
        crs=f"EPSG:{grid.epsg}" if grid.epsg else grid.wkt,
        bounds=(grid.left, min(edges), grid.left + cols * grid.dx, max(edges)),
        pixel=(grid.dx, grid.dy),
        provenance=file.provenance.words(),
        layers=sorted(layer.name for layer in file.layers),
        plan=plan,
    )


def _no_data_share(site: Site, options: Options) -> float:
    """Return the share of sampled pixels that hold no data in the middle one of the bands."""
    file = site.tiles[0].file
    rows, cols, count = file.reflectance.shape
    down = places(file.grid.y(rows), descending=file.grid.north_up)
    across = places(file.grid.x(cols), descending=False)
    r, c = choose(down, across, SAMPLED, 1.0 if rows * cols < 1 << 18 else 0.05, options.seed)
    counts = Counts(file.reflectance, np.array([count // 2]), file.scale, file.no_data)
    values = counts.gather(r, c, options.threads)
    return float(((values == file.no_data) | (values != values)).mean())  # NaN differs from itself


def as_json(info: TileInfo) -> str:
    """Return the description as JSON."""
    return json.dumps(json_records.as_json(info), indent=2)


def as_text(info: TileInfo) -> str:
    """Return the description for people, in lines of at most 80 characters after the path."""
    west, south, east, north = info.bounds
    windows = ", ".join(f"{low:g}-{high:g}" for low, high in info.bad_band_windows)
    pixel_size = f" of {info.pixel[0]:g} m" if info.pixel[1] > 0 else ""
    chunks = " x ".join(map(str, info.stored_chunks))
    lines = {
        "site": f"{info.site}, {info.shape[schema.Y]} x {info.shape[schema.X]} pixels{pixel_size}",
        "crs": info.crs or "none",
        "bounds": f"{west:.2f} {south:.2f} {east:.2f} {north:.2f} (west south east north)",
        "bands": f"{info.shape[schema.WAVELENGTH]} from {info.wavelength.first:.1f} to {info.wavelength.last:.1f} nm; "
        f"{info.bands_kept} kept, " + (f"bad windows {windows} nm" if windows else "no bad windows"),
        "stored": f"{info.dtype}, chunks of {chunks}, {mb(info.bytes.stored)} for {mb(info.bytes.decoded)}"
        + ("" if info.direct_reading else "; filters that h5py undoes, slowly"),
        "no data": f"{info.no_data}, about {info.no_data_share:.0%} of the pixels; scale {info.scale:g}",
        "layers": ", ".join(info.layers) or "none",
        "plan": _plan_text(info.plan),
    }
    return "\n".join([info.path, *wrapped(lines)])


def _plan_text(plan: Plan | Refusal) -> str:
    if isinstance(plan, Refusal):
        return plan.refused
    return (
        f"{plan.threads} threads, strips of {plan.strip_rows} rows, about {mb(plan.peak)} of {mb(plan.budget)}; "
        f"{decodes_text(plan)}"
    )


def wrapped(texts: dict[str, str]) -> list[str]:
    """Return texts under their names, in lines of at most 80 characters."""
    lines = []
    for name, text in texts.items():
        lines += textwrap.wrap(f"{name:<9} {text}", 80, subsequent_indent=" " * 10, break_long_words=False)
    return lines


def decodes_text(plan: Plan) -> str:
    """Return in words how often a plan decodes each chunk."""
    columns = f"{plan.columns} column{'s' if plan.columns != 1 else ''} of chunks"
    times = "once" if plan.refine_decodes == 1 else f"{plan.refine_decodes} times"
    search = f"; before that {times} to search all pixels" if plan.refine_decodes else ""
    if plan.decodes == 1:
        return f"{columns}, each chunk decoded once{search}"
    return (
        f"{columns}, sums of {plan.pass_rows} rows at a time, each chunk decoded {plan.decodes} times "
        f"(once with --memory {-(-plan.once // MB)}MB){search}"
    )


def mb(size: float) -> str:
    """Return bytes in megabytes, for people."""
    return f"{size / MB:.0f} MB"
