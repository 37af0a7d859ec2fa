"""Masks from the user's polygons: GeoJSON, and whatever else pyogrio reads."""

from __future__ import annotations

import functools
import importlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.cube.masks.rasters import crs_of
from hsichunk.errors import HsiError, one_line

if TYPE_CHECKING:
    from rasterio.crs import CRS

    from hsichunk.readers.model import TileFile

GEOJSON = (".geojson", ".json")
VECTOR = (".shp", ".gpkg", ".fgb", ".kml", ".gml", ".gpx", ".geojsonl", ".geojsons", ".sqlite", ".parquet")
MOST_PIECES = 10_000_000  # that the edges of a ring are cut into
PIECE = {True: 0.005, False: 500.0}  # longest straight edge in degrees (geographic) or metres before it is bent

Rings: TypeAlias = list[Floats]
"""a polygon: its outer ring and its holes, each closed from its last vertex (x, y) to its first"""


def is_polygons(path: str) -> bool:
    """Return whether a file is one of polygons, by its name."""
    return path.lower().endswith(GEOJSON + VECTOR)


@dataclass(frozen=True)
class Polygons:
    """Pixels whose centre lies in a polygon of a file, or, with `outside`, in none."""

    path: str
    outside: bool

    def check(self, file: TileFile) -> None:
        self._polygons(file)

    def left_out(self, file: TileFile, rows: Positions, cols: Positions, threads: int) -> Bools:
        high, wide, _ = file.reflectance.shape
        inside = find_inside(self._polygons(file), file.grid.y(high)[rows], file.grid.x(wide)[cols])
        return ~inside if self.outside else inside

    def _polygons(self, file: TileFile) -> tuple[Floats, ...]:
        """Return the polygons as edges in the CRS of the tile."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise HsiError(f"{self.path}: cannot be opened ({error.strerror})") from error
        return _read(self.path, status.st_size, status.st_mtime_ns, crs_of(file, self.path).to_wkt())


def find_inside(polygons: tuple[Floats, ...], y: Floats, x: Floats) -> Bools:
    """Return which points at the outer product of y and x lie in a polygon, by the even-odd rule.

    A polygon is given by its edges (n, 4): x and y of the lower end, then of the upper. Where edges cross a line of
    points depends on the edges and on the line's y alone, so that a point gets the same answer with any other points,
    and a point on the border between two polygons lies in exactly one.
    """
    out = np.zeros((len(y), len(x)), np.bool_)
    for edges in polygons:
        west, east = edges[:, [0, 2]].min(), edges[:, [0, 2]].max()
        lines = np.flatnonzero((y >= edges[:, 1].min()) & (y < edges[:, 3].max()))
        at = np.flatnonzero((x >= west) & (x <= east))
        if not lines.size or not at.size:
            continue
        near = edges[(edges[:, 1] <= y[lines].max()) & (edges[:, 3] > y[lines].min())]
        for line in lines:
            x1, y1, x2, y2 = near[(near[:, 1] <= y[line]) & (y[line] < near[:, 3])].T
            crossings = np.sort(x1 + (y[line] - y1) / (y2 - y1) * (x2 - x1))
            out[line, at] |= np.searchsorted(crossings, x[at], side="right") % 2 == 1
    return out


@functools.lru_cache(maxsize=32)
def _read(path: str, size: int, changed: int, crs: str) -> tuple[Floats, ...]:
    """Return the polygons of a file as edges in the CRS. Size and time of change make a changed file another call."""
    from rasterio.crs import CRS

    content = _geojson(path) if path.lower().endswith(GEOJSON) else _by_pyogrio(path)
    target = CRS.from_wkt(crs)
    try:
        source = CRS.from_user_input(content.crs)
        same = source == target
        polygons = tuple(
            _edges([ring if same else _bent(ring, source, target) for ring in rings]) for rings in content.polygons
        )
    except HsiError:
        raise
    except Exception as error:  # what a damaged file makes of NumPy and PROJ has no common class
        raise HsiError(f"{path}: its polygons cannot be brought to the tile's CRS ({one_line(error)})") from error
    polygons = tuple(edges for edges in polygons if len(edges))
    if not polygons:
        raise HsiError(f"{path}: holds no polygon; expected polygons around pixels")
    if not all(np.isfinite(edges).all() for edges in polygons):
        raise HsiError(f"{path}: its polygons reach beyond where the tile's CRS is defined; cut them to the site")
    return polygons


def _edges(rings: Rings) -> Floats:
    """Return the edges (n, 4) of rings (vertices, 2), lower end first, without level ones, which cross no line."""
    closed = [np.concatenate([ring, ring[:1]]) for ring in rings if len(ring) > 2]
    if not closed:
        return np.empty((0, 4))
    edges = np.concatenate([np.hstack([ring[:-1], ring[1:]]) for ring in closed])
    edges = np.where((edges[:, 1] > edges[:, 3])[:, np.newaxis], edges[:, [2, 3, 0, 1]], edges)
    crossing: Floats = edges[~(edges[:, 1] == edges[:, 3])]
    return crossing


def _bent(ring: Floats, source: CRS, target: CRS) -> Floats:
    """Return a ring in another CRS: long edges get vertices, since a straight line in one CRS is not in the other."""
    from rasterio import warp

    if source.is_geographic and (np.abs(ring) > (360, 90)).any():
        raise ValueError(f"coordinates up to {np.abs(ring).max():g} are no degrees; name the CRS of the file in it")
    after = np.roll(ring, -1, axis=0)
    pieces = np.maximum(1, np.ceil(np.abs(after - ring).max(axis=1) / PIECE[source.is_geographic])).astype(int)
    if pieces.sum() > MOST_PIECES:
        raise ValueError(f"a ring comes to {pieces.sum()} vertices; cut it to the site")
    start = np.repeat(np.arange(len(ring)), pieces)
    share = (np.arange(len(start)) - np.repeat(pieces.cumsum() - pieces, pieces)) / pieces[start]
    points = ring[start] + share[:, np.newaxis] * (after - ring)[start]
    return np.column_stack(warp.transform(source, target, points[:, 0], points[:, 1])[:2])


class Content(NamedTuple):
    """The polygons of a file, and their CRS in words that rasterio reads."""

    polygons: list[Rings]
    crs: str


def _geojson(path: str) -> Content:
    """Read the polygons of a GeoJSON file. Their CRS is WGS 84 (RFC 7946) unless the older member `crs` names one."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            root = json.load(file)
        name = (root.get("crs") or {}).get("properties", {}).get("name", "OGC:CRS84")
        return Content([polygon for geometry in _geometries(root) for polygon in _rings(geometry)], name)
    except OSError as error:
        raise HsiError(f"{path}: cannot be opened ({error.strerror})") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise HsiError(f"{path}: is no GeoJSON of polygons ({one_line(error)})") from error


def _geometries(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the geometries of a GeoJSON object, at any depth."""
    kind = root["type"]
    if kind == "FeatureCollection":
        for feature in root["features"]:
            yield from _geometries(feature)
    elif kind == "Feature":
        if root["geometry"] is not None:
            yield from _geometries(root["geometry"])
    elif kind == "GeometryCollection":
        for geometry in root["geometries"]:
            yield from _geometries(geometry)
    else:
        yield root


def _rings(geometry: dict[str, Any]) -> list[Rings]:
    """Return the polygons of a geometry."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"found a {kind}")
    return [
        [np.array([point[:2] for point in ring], np.float64).reshape(-1, 2) for ring in polygon]
        for polygon in ([coordinates] if kind == "Polygon" else coordinates)
    ]


def _by_pyogrio(path: str) -> Content:
    """Read the polygons of any other file that GDAL reads."""
    try:
        raw = importlib.import_module("pyogrio.raw")
    except ImportError:
        raise HsiError(f"{path}: needs pyogrio, which is not installed; pip install pyogrio, or give GeoJSON") from None
    try:
        meta, _, geometries, _ = raw.read(path, columns=[])
        polygons = [polygon for wkb in geometries if wkb is not None for polygon in _wkb(wkb, 0)[0]]
    except Exception as error:  # pyogrio's errors, and what damaged bytes make of struct
        raise HsiError(f"{path}: is no file of polygons that can be read ({one_line(error)})") from error
    if not meta["crs"]:
        raise HsiError(f"{path}: has no coordinate reference system; give GeoJSON, or a file that names it")
    return Content(polygons, meta["crs"])


def _wkb(data: bytes, at: int) -> tuple[list[Rings], int]:
    """Return the polygons of the well-known binary that begins at byte `at`, and the byte after it.

    Raises ValueError for a geometry that holds no polygons. OGC 06-103r4, 8.2.
    """
    order = "<" if data[at] else ">"
    kind, count = struct.unpack_from(f"{order}II", data, at + 1)
    at += 9
    ordinates = 2 + bool(kind & 0x80000000) + bool(kind & 0x40000000) + (0, 1, 1, 2)[kind % 0x20000000 // 1000]
    kind = kind % 0x20000000 % 1000
    polygons: list[Rings] = []
    if kind in (6, 7):  # several polygons, or geometries of any kind
        for _ in range(count):
            inner, at = _wkb(data, at)
            polygons += inner
        return polygons, at
    if kind != 3:
        raise ValueError(f"found a geometry of type {kind}, expected polygons")
    rings = []
    for _ in range(count):
        (points,) = struct.unpack_from(f"{order}I", data, at)
        flat = np.frombuffer(data, f"{order}f8", points * ordinates, at + 4).reshape(points, ordinates)
        rings.append(flat[:, :2].astype(np.float64))
        at += 4 + flat.size * 8
    return [rings], at
