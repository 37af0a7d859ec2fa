"""What `hsichunk info` says of a tile: its metadata, its share of no-data, and the plan of a run over it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hsichunk import schema
from hsichunk.column import Counts
from hsichunk.errors import HsiError
from hsichunk.options import Options
from hsichunk.run import kept_bands, make_plan
from hsichunk.sampling import choose, gather, places
from hsichunk.site import Site, open_site

LOOKED_AT = 2_000  # pixels, in the one band whose chunks are decoded for the share of no-data


def describe(options: Options) -> dict[str, Any]:
    """Plain values, ready for JSON. Decodes one band of a few cells, for the share of no-data."""
    site = open_site(options.tiles)
    file = site.places[0].file
    stored, grid = file.reflectance, file.grid
    bands = kept_bands(site, options)
    rows, cols, count = stored.shape
    try:
        plan: dict[str, Any] = make_plan(site, bands, options).as_dict()
    except HsiError as error:
        plan = {"refused": str(error)}
    return {
        "path": file.path,
        "site": file.site,
        "shape": {schema.Y: rows, schema.X: cols, schema.WAVELENGTH: count},
        "dtype": str(stored.dtype),
        "stored_chunks": list(stored.chunks),
        "direct_reading": stored.direct,
        "bytes": {"file": stored.stamp[0], "stored": int(stored.index.size.sum()), "decoded": rows * cols * count * stored.dtype.itemsize},
        "scale": file.scale,
        "no_data": file.no_data,
        "no_data_share": _no_data_share(site, options),
        "wavelength": {"first": float(file.wavelength[0]), "last": float(file.wavelength[-1])},
        "fwhm": file.fwhm is not None,
        "bad_band_windows": [list(window) for window in file.windows],
        "bands_kept": len(bands),
        "crs": f"EPSG:{grid.epsg}" if grid.epsg else grid.wkt,
        "bounds": [grid.left, grid.top - rows * grid.dy, grid.left + cols * grid.dx, grid.top],
        "pixel": [grid.dx, grid.dy],
        "layers": sorted(layer.name for layer in file.layers),
        "plan": plan,
    }


def _no_data_share(site: Site, options: Options) -> float:
    """Share of sampled pixels that hold no data in the middle one of the bands."""
    place = site.places[0]
    rows, cols, count = place.file.reflectance.shape
    down = places(place.file.grid.y(rows), descending=True)
    across = places(place.file.grid.x(cols), descending=False)
    r, c = choose(down, across, LOOKED_AT, 1.0 if rows * cols < 1 << 18 else 0.05, options.seed)
    counts = Counts(place.file.reflectance, np.array([count // 2]), place.file.scale, place.file.no_data)
    return float((gather(counts, r, c, options.threads) == place.file.no_data).mean())


def as_json(said: dict[str, Any]) -> str:
    return json.dumps(said, indent=2)


def as_text(said: dict[str, Any]) -> str:
    """The same for people."""
    size, wave, plan = said["shape"], said["wavelength"], said["plan"]
    windows = ", ".join(f"{low:g}-{high:g}" for low, high in said["bad_band_windows"])
    west, south, east, north = said["bounds"]
    lines = [
        said["path"],
        f"site      {said['site']}, {size[schema.Y]} x {size[schema.X]} pixels of {said['pixel'][0]:g} m, {said['crs']}",
        f"bounds    {west:.2f} {south:.2f} {east:.2f} {north:.2f} (west south east north)",
        f"bands     {size[schema.WAVELENGTH]} from {wave['first']:.1f} to {wave['last']:.1f} nm, {said['bands_kept']} kept; "
        f"bad windows {windows} nm",
        f"stored    {said['dtype']} in chunks of {' x '.join(map(str, said['stored_chunks']))}, "
        f"{said['bytes']['stored'] / 1e6:.0f} MB for {said['bytes']['decoded'] / 1e6:.0f} MB"
        + ("" if said["direct_reading"] else "; its filters are read through h5py, slowly"),
        f"no data   {said['no_data']}, about {said['no_data_share']:.0%} of the pixels; scale {said['scale']:g}",
        f"layers    {', '.join(said['layers']) or 'none'}",
    ]
    if "refused" in plan:
        return "\n".join([*lines, f"plan      {plan['refused']}"])
    again = "each chunk is decoded once" if plan["decodes"] == 1 else (
        f"the sums of {plan['pass_rows']} rows fit at a time: each chunk is decoded {plan['decodes']} times; more --memory avoids it"
    )
    lines.append(
        f"plan      {plan['threads']} threads, {plan['columns']} columns, strips of {plan['strip_rows']} rows; {again}; "
        f"about {plan['peak'] / 1e6:.0f} MB of {plan['budget'] / 1e6:.0f} MB"
    )
    return "\n".join(lines)
