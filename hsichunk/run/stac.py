"""Write item.json: the results of a run as a SpatioTemporal Asset Catalog item.

Source: STAC 1.1.0 and its extensions projection, classification and processing.
"""

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
from typing import TYPE_CHECKING, Final

import numpy as np

from hsichunk import atomic_files, metrics, schema
from hsichunk.array_types import Floats
from hsichunk.classification.palette import class_colors
from hsichunk.grid import Grid
from hsichunk.mosaic.site import Site
from hsichunk.run import folder
from hsichunk.run.record import RunRecord

if TYPE_CHECKING:
    from hsichunk.atomic_files import Json

ITEM_JSON: Final = "item.json"
VERSION: Final = "1.1.0"
EXTENSION: Final = "https://stac-extensions.github.io/{}/schema.json"
PROJECTION, CLASSIFICATION, PROCESSING = (
    EXTENSION.format(name) for name in ("projection/v2.0.0", "classification/v2.0.0", "processing/v1.2.0")
)
GEOTIFF: Final = "image/tiff; application=geotiff; profile=cloud-optimized"
ZARR: Final = "application/vnd+zarr"
FIRST_FLIGHT: Final = date(2012, 1, 1)  # of NEON's first campaigns: the start where no file names its date
STEPS: Final = 64  # parts of each edge: straight lines on the grid are curves in degrees
DIGITS: Final = 7  # decimals of a degree: a centimetre


def write_item(out: Path, record: RunRecord, site: Site, *, created: datetime | None = None) -> Path:
    """Write OUT/item.json, whole or not at all, and return its path; see `item`."""
    path = out / ITEM_JSON
    atomic_files.write_json(path, item(out, record, site, created=created))
    return path


def item(out: Path, record: RunRecord, site: Site, *, created: datetime | None = None) -> dict[str, Json]:
    """Return the STAC 1.1.0 item of the results in the folder `out`, as plain values.

    `record` is the content of run.json, `site` the tiles on their grid. Footprint and bbox (degrees, WGS 84) are those
    of the image, None without a CRS; assets are the results that exist. The dates are those in the names of files and
    flight lines, from the first day to the end of the last; where there are none, from NEON's first flight to the last
    change of a file. The item has the time `created` only where it is given: without it the same run gives the same
    item.
    """
    names = list(record.mean_abundance)
    assets = {key: asset for key, asset in _assets(names).items() if _exists(out, str(asset["href"]))}
    geometry, bbox = footprint(site.grid, site.rows, site.cols)
    extensions: list[Json] = [PROJECTION, PROCESSING]
    if any("classification:classes" in asset for asset in assets.values()):
        extensions.append(CLASSIFICATION)
    content: dict[str, Json] = {
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
        del content["bbox"]
    return content


def footprint(grid: Grid, rows: int, cols: int) -> tuple[dict[str, Json] | None, list[float] | None]:
    """Return the outline of an image as GeoJSON geometry, counter-clockwise, and its bbox, in degrees.

    The bbox is [west, south, east, north]. Both are None without a CRS. Of an image across the 180th meridian the
    geometry has a part on each side, and west is greater than east, as RFC 7946 has it.
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
        warnings.simplefilter("ignore", FutureWarning)  # from rasterio 1.5 on outlines are always cut
        degrees = transform_geom(crs, "EPSG:4326", outline, antimeridian_cutting=True)
    parts = degrees["coordinates"] if degrees["type"] == "MultiPolygon" else [degrees["coordinates"]]
    rings = [_counter_clockwise(np.round(np.array(part[0])[:, :2], DIGITS)) for part in parts]
    geometry: dict[str, Json] = {"type": "MultiPolygon", "coordinates": [[ring.tolist()] for ring in rings]}
    lon, lat = np.concatenate(rings).T
    west, east = lon.min(), lon.max()
    if len(rings) == 1:
        geometry = {"type": "Polygon", "coordinates": [rings[0].tolist()]}
    else:
        west, east = lon[lon > 0].min(), lon[lon < 0].max()
    return geometry, [float(west), float(lat.min()), float(east), float(lat.max())]


def _counter_clockwise(ring: Floats) -> Floats:
    """Return a closed ring (n, 2), reversed where it runs clockwise."""
    x, y = (ring - ring[0]).T
    return ring if (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0 else ring[::-1]


def _projection(site: Site) -> dict[str, Json]:
    """Return the fields of the projection extension: CRS, shape, transform and bounds."""
    grid = site.grid
    right, bottom = grid.left + site.cols * grid.dx, grid.top - site.rows * grid.dy
    crs: dict[str, Json] = {"proj:code": None if grid.epsg is None else f"EPSG:{grid.epsg}"}
    if grid.epsg is None and grid.wkt:
        from pyproj import CRS

        crs["proj:wkt2"] = CRS.from_wkt(grid.wkt).to_wkt("WKT2_2019")
    return {
        **crs,
        "proj:shape": [site.rows, site.cols],
        "proj:transform": [grid.dx, 0.0, grid.left, 0.0, -grid.dy, grid.top],
        "proj:bbox": [grid.left, min(bottom, grid.top), right, max(bottom, grid.top)],
    }


def _id(record: RunRecord, site: Site) -> str:
    """Return a name that is the same for the same tiles and options, of letters that every catalog takes."""
    digest = hashlib.sha256(json.dumps(record.fingerprint, sort_keys=True).encode()).hexdigest()
    place = f"{math.floor(site.grid.left)}-{math.floor(site.grid.top - site.rows * site.grid.dy)}"
    return _plain(f"{record.site.name}-{place}-{digest[:12]}")


def _plain(name: str) -> str:
    """Return a name of letters, digits, - and _ alone."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name) or "_"


def _interval(site: Site) -> dict[str, str]:
    """Return start and end of the days on which the image may have been taken."""
    days = [day for tile in site.tiles for day in _days(tile.file.path, [name for name, *_ in tile.file.sun])]
    if not days:
        return {"start_datetime": f"{FIRST_FLIGHT}T00:00:00Z", "end_datetime": _time(_last_change(site))}
    return {"start_datetime": f"{min(days)}T00:00:00Z", "end_datetime": f"{max(days)}T23:59:59Z"}


def _last_change(site: Site) -> datetime:
    """Return the time of the last change of any file, before which all were taken; now where no file tells its time."""
    stamps: list[int | str] = [tile.file.reflectance.stamp[1] for tile in site.tiles]  # text for an address
    times = [datetime.fromtimestamp(stamp // 10**9, UTC) for stamp in stamps if isinstance(stamp, int)]
    last = max(times, default=None)
    return datetime.now(UTC) if last is None or last.date() < FIRST_FLIGHT else last


def _days(path: str, lines: Sequence[str]) -> list[date]:
    """Return the days named YYYYMMDD in the name of a file and in those of its flight lines."""
    days = []
    for name in (os.path.basename(path), *lines):
        for digits in re.findall(r"(?<!\d)(?:19|20)\d{6}(?!\d)", name):
            try:
                day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
            except ValueError:  # an easting or northing
                continue
            if day >= FIRST_FLIGHT:
                days.append(day)
    return days


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exists(out: Path, href: str) -> bool:
    """Return whether a result exists. run.json counts, too: it is written last, when all else is complete."""
    return href == f"./{folder.RUN_JSON}" or (out / href).exists()


def _assets(names: Sequence[str]) -> dict[str, dict[str, Json]]:
    """Return the assets of a run with endmembers of these names, whether they exist or not."""
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


def _map(name: str, title: str, bands: Sequence[tuple[str, str]]) -> dict[str, Json]:
    """Return the asset of a map of float32; `bands` are name and description of each band."""
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


def _classes(name: str, title: str, names: Sequence[str]) -> dict[str, Json]:
    """Return the asset of a class map."""
    labels = ["unclassified", *names]
    classes: list[Json] = [
        {"value": value, "name": _plain(label), "title": label, "color_hint": "{:02X}{:02X}{:02X}".format(*color)}
        for value, (label, color) in enumerate(zip(labels, class_colors(len(names)).tolist(), strict=True))
    ]
    no_data: Json = {"value": schema.CLASS_NO_DATA, "name": "no_data", "title": "no data", "nodata": True}
    return {
        "href": f"./{name}.tif",
        "title": title,
        "type": GEOTIFF,
        "roles": ["data"],
        "data_type": "uint8",
        "nodata": schema.CLASS_NO_DATA,
        "bands": [{"name": name}],
        "classification:classes": [*classes, no_data],
    }
