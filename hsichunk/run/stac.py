"""item.json: what a run has left, as a SpatioTemporal Asset Catalog item. Source: STAC 1.1.0 and its extensions."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hsichunk import atomic_files, metrics, schema
from hsichunk.classification.palette import class_colors
from hsichunk.grid import Grid
from hsichunk.mosaic.site import Site
from hsichunk.run import folder
from hsichunk.run.record import RunRecord

ITEM_JSON: Final = "item.json"
VERSION: Final = "1.1.0"
EXTENSION: Final = "https://stac-extensions.github.io/{}/schema.json"
PROJECTION, CLASSIFICATION, PROCESSING = (
    EXTENSION.format(name) for name in ("projection/v2.0.0", "classification/v2.0.0", "processing/v1.2.0")
)
GEOTIFF: Final = "image/tiff; application=geotiff; profile=cloud-optimized"
ZARR: Final = "application/vnd+zarr"
FIRST_FLIGHT: Final = date(2012, 1, 1)  # NEON's first campaigns: what holds where files do not tell their date
STEPS: Final = 64  # points along each edge: straight lines on the grid are none in degrees
DIGITS: Final = 7  # of a degree: a centimetre


def write_item(out: Path, record: RunRecord, site: Site, *, created: datetime | None = None) -> Path:
    """Writes OUT/item.json, whole or not at all, and gives back its path; see `item`."""
    path = out / ITEM_JSON
    atomic_files.write_json(path, item(out, record, site, created=created))
    return path


def item(out: Path, record: RunRecord, site: Site, *, created: datetime | None = None) -> dict[str, Any]:
    """A STAC 1.1.0 item, plain values ready for JSON, of the results in the folder `out`.

    `record` is what run.json says, `site` the tiles on their grid. Footprint and bbox (degrees, WGS 84) are those of
    the image, None without a CRS; assets are the results that are there. The dates are those in the names of files and
    flight lines, from the first day to the end of the last; where there are none, all that NEON may have flown until
    the last change of a file. `created`, when given, is said too; without it the same run gives the same item.
    """
    names = list(record.mean_abundance)
    assets = {key: asset for key, asset in _assets(names).items() if _is_there(out, asset["href"])}
    geometry, bbox = footprint(site.grid, site.rows, site.cols)
    extensions = [PROJECTION, PROCESSING]
    if any("classification:classes" in asset for asset in assets.values()):
        extensions.append(CLASSIFICATION)
    whole: dict[str, Any] = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": extensions,
        "id": _id(record, site),
        "geometry": geometry,
        "bbox": bbox,
        "properties": {
            "title": f"Endmember abundances and class maps, {record.site.name}",
            "description": f"{len(names)} endmembers unmixed from {len(site.tiles)} reflectance "
            f"{'file' if len(site.tiles) == 1 else 'files'}, {record.bands.kept} bands",
            "datetime": None,
            **_interval(site),
            **({} if created is None else {"created": _time(created)}),
            "gsd": site.grid.dx,
            **_projection(site),
            "processing:software": {"hsichunk": record.hsichunk},
        },
        "links": [],
        "assets": assets,
    }
    if bbox is None:  # not allowed without a geometry
        del whole["bbox"]
    return whole


def footprint(grid: Grid, rows: int, cols: int) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Outline of an image as GeoJSON geometry, counter-clockwise, and its bbox [west, south, east, north], in degrees.

    Both None without a CRS. Of an image across the 180th meridian the geometry has a part on each side, and west is
    greater than east, as RFC 7946 has it.
    """
    crs = f"EPSG:{grid.epsg}" if grid.epsg is not None else grid.wkt
    if not crs:
        return None, None
    from rasterio.warp import transform_geom

    right, bottom = grid.left + cols * grid.dx, grid.top - rows * grid.dy
    x, y = np.linspace(grid.left, right, STEPS + 1).tolist(), np.linspace(grid.top, bottom, STEPS + 1).tolist()
    ring = [*((x[0], v) for v in y), *((v, y[-1]) for v in x[1:]), *((x[-1], v) for v in y[-2::-1])]
    ring += [(v, y[0]) for v in x[-2::-1]]
    outline = {"type": "Polygon", "coordinates": [ring]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # from rasterio 1.5 on it is always cut
        found = transform_geom(crs, "EPSG:4326", outline, antimeridian_cutting=True)
    parts = found["coordinates"] if found["type"] == "MultiPolygon" else [found["coordinates"]]
    rings = [_counter_clockwise(np.round(np.array(part[0])[:, :2], DIGITS)) for part in parts]
    geometry = {"type": "MultiPolygon", "coordinates": [[r.tolist()] for r in rings]}
    lon, lat = np.concatenate(rings).T
    west, east = lon.min(), lon.max()
    if len(rings) == 1:
        geometry = {"type": "Polygon", "coordinates": [rings[0].tolist()]}
    else:
        west, east = lon[lon > 0].min(), lon[lon < 0].max()
    return geometry, [float(west), float(lat.min()), float(east), float(lat.max())]


def _counter_clockwise(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = (ring - ring[0]).T
    return ring if (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0 else ring[::-1]


def _projection(site: Site) -> dict[str, Any]:
    grid = site.grid
    right, bottom = grid.left + site.cols * grid.dx, grid.top - site.rows * grid.dy
    named: dict[str, Any] = {"proj:code": None if grid.epsg is None else f"EPSG:{grid.epsg}"}
    if grid.epsg is None and grid.wkt:
        from pyproj import CRS

        named["proj:wkt2"] = CRS.from_wkt(grid.wkt).to_wkt("WKT2_2019")
    return {
        **named,
        "proj:shape": [site.rows, site.cols],
        "proj:transform": [grid.dx, 0.0, grid.left, 0.0, -grid.dy, grid.top],
        "proj:bbox": [grid.left, min(bottom, grid.top), right, max(bottom, grid.top)],
    }


def _id(record: RunRecord, site: Site) -> str:
    """The same for the same tiles and options, of letters that every catalog takes."""
    digest = hashlib.sha256(json.dumps(record.fingerprint, sort_keys=True).encode()).hexdigest()
    place = f"{math.floor(site.grid.left)}-{math.floor(site.grid.top - site.rows * site.grid.dy)}"
    return _plain(f"{record.site.name}-{place}-{digest[:12]}")


def _plain(name: str) -> str:
    """A name of letters, digits, - and _ alone."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name) or "_"


def _interval(site: Site) -> dict[str, str]:
    """The days on which the image may have been taken."""
    found = [day for place in site.tiles for day in _days(place.file.path, [name for name, *_ in place.file.sun])]
    if not found:
        return {"start_datetime": f"{FIRST_FLIGHT}T00:00:00Z", "end_datetime": _time(_last_change(site))}
    return {"start_datetime": f"{min(found)}T00:00:00Z", "end_datetime": f"{max(found)}T23:59:59Z"}


def _last_change(site: Site) -> datetime:
    """Of any of the files: what they hold was taken before. Now, where their times cannot tell."""
    stamps: list[Any] = [place.file.reflectance.stamp[1] for place in site.tiles]  # an address has no time
    times = [datetime.fromtimestamp(stamp // 10**9, UTC) for stamp in stamps if isinstance(stamp, int)]
    last = max(times, default=None)
    return datetime.now(UTC) if last is None or last.date() < FIRST_FLIGHT else last


def _days(path: str, lines: Sequence[str]) -> list[date]:
    """Days named YYYYMMDD in a file's name and in those of its flight lines."""
    out = []
    for name in (os.path.basename(path), *lines):
        for digits in re.findall(r"(?<!\d)(?:19|20)\d{6}(?!\d)", name):
            try:
                day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
            except ValueError:  # an easting or northing
                continue
            if day >= FIRST_FLIGHT:
                out.append(day)
    return out


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_there(out: Path, href: str) -> bool:
    """run.json is written last: it says that all is whole."""
    return href == f"./{folder.RUN_JSON}" or (out / href).exists()


def _assets(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        schema.ABUNDANCE: _map(schema.ABUNDANCE, "abundances", [(n, f"abundance of {n}") for n in names]),
        schema.RMSE: _map(schema.RMSE, "residual", [(schema.RMSE, schema.PRODUCT_ATTRS[schema.RMSE]["long_name"])]),
        **{schema.CLASS_OF[m.name]: _classes(schema.CLASS_OF[m.name], m.classes, names) for m in metrics.METRICS},
        "products": {
            "href": f"./{folder.STORE}",
            "title": "all products, Zarr 3",
            "type": ZARR,
            "roles": ["data"],
        },
        "endmembers": {
            "href": "./endmembers.csv",
            "title": "endmember spectra, reflectance",
            "type": "text/csv",
            "roles": ["metadata"],
        },
        "run": {
            "href": f"./{folder.RUN_JSON}",
            "title": "options, inputs and figures of the run",
            "type": "application/json",
            "roles": ["metadata"],
        },
    }


def _map(name: str, title: str, bands: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "href": f"./{name}.tif",
        "title": title,
        "type": GEOTIFF,
        "roles": ["data"],
        "data_type": "float32",
        "nodata": "nan",
        "unit": schema.PRODUCT_ATTRS[name]["units"],
        "bands": [{"name": band, "description": text} for band, text in bands],
    }


def _classes(name: str, title: str, names: Sequence[str]) -> dict[str, Any]:
    labels = ["unclassified", *names]
    classes = [
        {"value": value, "name": _plain(label), "title": label, "color_hint": "{:02X}{:02X}{:02X}".format(*color)}
        for value, (label, color) in enumerate(zip(labels, class_colors(len(names)).tolist(), strict=True))
    ]
    nothing = {"value": schema.CLASS_NO_DATA, "name": "no_data", "title": "no data", "nodata": True}
    return {
        "href": f"./{name}.tif",
        "title": title,
        "type": GEOTIFF,
        "roles": ["data"],
        "data_type": "uint8",
        "nodata": schema.CLASS_NO_DATA,
        "bands": [{"name": name}],
        "classification:classes": [*classes, nothing],
    }
