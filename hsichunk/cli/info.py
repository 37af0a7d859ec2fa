"""What `hsichunk info` says of a tile: its metadata, its share of no-data, and the plan of a run over it."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import Any

import numpy as np

from hsichunk import schema
from hsichunk.chunks.counts import Counts
from hsichunk.cube.sampling import choose, places
from hsichunk.errors import HsiError
from hsichunk.mosaic.site import Site, open_site
from hsichunk.run.make_plan import kept_bands, make_plan
from hsichunk.run.options import Options
from hsichunk.run.plan import MB

LOOKED_AT = 2_000  # pixels, in the one band whose chunks are decoded for the share of no-data


def describe(options: Options) -> dict[str, Any]:
    """Plain values, ready for JSON. Decodes one band of a few cells, for the share of no-data."""
    site = open_site(options.tiles, floats=True)
    file = site.tiles[0].file
    stored, grid = file.reflectance, file.grid
    bands = kept_bands(site, options)
    rows, cols, count = stored.shape
    edges = grid.top, grid.top - rows * grid.dy
    try:
        plan: dict[str, Any] = asdict(make_plan(site, bands, options))
    except HsiError as error:
        plan = {"refused": str(error)}
    return {
        "path": file.path,
        "site": file.site,
        "shape": {schema.Y: rows, schema.X: cols, schema.WAVELENGTH: count},
        "dtype": str(stored.dtype),
        "stored_chunks": list(stored.chunks),
        "direct_reading": stored.direct,
        "bytes": {
            "file": stored.stamp[0],
            "stored": stored.stored_bytes,
            "decoded": rows * cols * count * stored.dtype.itemsize,
        },
        "scale": file.scale,
        "no_data": file.no_data,
        "no_data_share": _no_data_share(site, options),
        "wavelength": {"first": float(file.wavelength[0]), "last": float(file.wavelength[-1])},
        "fwhm": file.fwhm is not None,
        "bad_band_windows": [list(window) for window in file.windows],
        "bands_kept": len(bands),
        "crs": f"EPSG:{grid.epsg}" if grid.epsg else grid.wkt,
        "bounds": [grid.left, min(edges), grid.left + cols * grid.dx, max(edges)],
        "pixel": [grid.dx, grid.dy],
        "provenance": file.provenance.words(),
        "layers": sorted(layer.name for layer in file.layers),
        "plan": plan,
    }


def _no_data_share(site: Site, options: Options) -> float:
    """Share of sampled pixels that hold no data in the middle one of the bands."""
    place = site.tiles[0]
    rows, cols, count = place.file.reflectance.shape
    down = places(place.file.grid.y(rows), descending=place.file.grid.north_up)
    across = places(place.file.grid.x(cols), descending=False)
    r, c = choose(down, across, LOOKED_AT, 1.0 if rows * cols < 1 << 18 else 0.05, options.seed)
    counts = Counts(place.file.reflectance, np.array([count // 2]), place.file.scale, place.file.no_data)
    values = counts.gather(r, c, options.threads)
    return float(((values == place.file.no_data) | (values != values)).mean())  # NaN is no number, not even itself


def as_json(said: dict[str, Any]) -> str:
    return json.dumps(said, indent=2)


def as_text(said: dict[str, Any]) -> str:
    """The same for people."""
    size, wave, chunks = said["shape"], said["wavelength"], " x ".join(map(str, said["stored_chunks"]))
    west, south, east, north = said["bounds"]
    windows = ", ".join(f"{low:g}-{high:g}" for low, high in said["bad_band_windows"])
    lines = {
        "site": f"{said['site']}, {size[schema.Y]} x {size[schema.X]} pixels"
        + (f" of {said['pixel'][0]:g} m" if said["pixel"][1] > 0 else ""),
        "crs": said["crs"] or "none",
        "bounds": f"{west:.2f} {south:.2f} {east:.2f} {north:.2f} (west south east north)",
        "bands": f"{size[schema.WAVELENGTH]} from {wave['first']:.1f} to {wave['last']:.1f} nm; "
        f"{said['bands_kept']} kept, " + (f"bad windows {windows} nm" if windows else "no bad windows"),
        "stored": f"{said['dtype']}, chunks of {chunks}, {mb(said['bytes']['stored'])} for "
        + mb(said["bytes"]["decoded"])
        + ("" if said["direct_reading"] else "; filters that h5py undoes, slowly"),
        "no data": f"{said['no_data']}, about {said['no_data_share']:.0%} of the pixels; scale {said['scale']:g}",
        "layers": ", ".join(said["layers"]) or "none",
    }
    plan = said["plan"]
    if "refused" in plan:
        lines["plan"] = plan["refused"]
    else:
        lines["plan"] = (
            f"{plan['threads']} threads, strips of {plan['strip_rows']} rows, about {mb(plan['peak'])} of "
            f"{mb(plan['budget'])}; {decodes_text(plan)}"
        )
    out = [said["path"]]
    for name, text in lines.items():
        out += textwrap.wrap(f"{name:<9} {text}", 80, subsequent_indent=" " * 10, break_long_words=False)
    return "\n".join(out)


def decodes_text(plan: dict[str, Any]) -> str:
    """How often a plan decodes each chunk."""
    columns = f"{plan['columns']} column{'s' if plan['columns'] != 1 else ''} of chunks"
    more = plan["refine_decodes"]
    before = f"; before that {'once' if more == 1 else f'{more} times'} to search all pixels" if more else ""
    if plan["decodes"] == 1:
        return f"{columns}, each chunk decoded once{before}"
    return (
        f"{columns}, sums of {plan['pass_rows']} rows at a time, each chunk decoded {plan['decodes']} times "
        f"(once with --memory {-(-plan['once'] // MB)}MB){before}"
    )


def mb(size: float) -> str:
    """Bytes for people."""
    return f"{size / MB:.0f} MB"
