"""Masks against plain h5py, NumPy, rasterio and matplotlib; the same pixel, the same flag, however it is asked for."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import sys
import types
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
from affine import Affine
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from rasterio import warp
from rasterio.features import rasterize

from hsichunk.chunks.windows import Window
from hsichunk.cube.cleaning import clean
from hsichunk.cube.masks import masks
from hsichunk.cube.masks.lazy import mask
from hsichunk.errors import CorruptChunk, HsiError, HsiWarning, OptionError
from hsichunk.mosaic.mosaic import open_mosaic
from hsichunk.readers import neon
from hsichunk.readers.tiles import open_tile
from hsichunk.synthetic.tile import write_tile

SHAPE = (70, 90)
LAYOUTS = ((32, 63, 27), (70, 90, 1))
LEFT, TOP = 368000.0, 4307000.0
PLACE = Affine(1, 0, LEFT, 0, -1, TOP)
GROUP = "SERC/Reflectance"
ANCILLARY = f"{GROUP}/Metadata/Ancillary_Imagery"


@pytest.fixture(scope="module", params=LAYOUTS, ids=["spatial", "bands"])
def tile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tile of 2022 on, with clouds, water and shadow in its layers, and darker where the shadow is."""
    path = tmp_path_factory.mktemp("tile") / "tile.h5"
    write_tile(path, shape=SHAPE, bands=90, product="DP3.002", chunks=request.param, seed=3)
    change(path)
    return path


def change(path: Path, edit: Callable[[h5py.Group, h5py.Dataset], None] | None = None) -> Path:
    """Other layers for a tile, the same for every layout; `edit` comes after that."""
    rng = np.random.default_rng(5)
    draw = rng.random((3, *SHAPE))
    with h5py.File(path, "r+") as file:
        layers, data = file[ANCILLARY], file[f"{GROUP}/Reflectance_Data"]
        weather = 1 + (draw[0] > 0.6).astype("i4") + (draw[0] > 0.8)
        weather[:5] = 0
        if layers["Weather_Quality_Indicator"].ndim == 3:
            colours = np.array([(0, 0, 0), (0, 255, 0), (255, 255, 0), (255, 0, 0)], "u1")
            layers["Weather_Quality_Indicator"][...] = colours[weather]
        else:
            layers["Weather_Quality_Indicator"][...] = weather
        layers["Haze_Cloud_Water_Map"][...] = (draw[1] * 23).astype("u1")
        layers["Dark_Dense_Vegetation_Classification"][...] = (draw[1] * 5).astype("u1")
        shadow = draw[2] > 0.7
        layers["Cast_Shadow"][...] = shadow
        counts = data[...]
        shaded = np.where(counts == -9999, counts, (counts * 0.3).astype("i2"))
        data[...] = np.where(shadow[..., np.newaxis], shaded, counts)
        if edit is not None:
            edit(layers, data)
    return path


def other(tmp_path: Path, edit: Callable[[h5py.Group, h5py.Dataset], None] | None = None, **kind: Any) -> Path:
    """A tile of its own to spoil."""
    path = tmp_path / "other.h5"
    write_tile(path, shape=SHAPE, **{"bands": 90, "product": "DP3.002", "chunks": (32, 63, 27), "seed": 3, **kind})
    return change(path, edit)


def stored(path: Path, name: str) -> NDArray[Any]:
    with h5py.File(path) as file:
        values: NDArray[Any] = file[f"{ANCILLARY}/{name}"][...]
    return values


def reflectance(path: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """The whole cube, where it has data, and its wavelengths."""
    with h5py.File(path) as file:
        counts = file[f"{GROUP}/Reflectance_Data"][...]
        wavelength = file[f"{GROUP}/Metadata/Spectral_Data/Wavelength"][...]
    return counts / 10000.0, (counts != -9999).all(axis=2), wavelength


def band(cube: NDArray[np.float64], wavelength: NDArray[np.float64], nm: float) -> NDArray[np.float64]:
    return cube[:, :, int(np.argmin(np.abs(wavelength - nm)))]


def whole(path: Path, *what: str) -> NDArray[np.uint32]:
    """Flags of every pixel; warns of nothing."""
    file = neon.read(path)
    found = masks.parse(what)
    found.check(file)
    return found.within(file, Window(0, SHAPE[0], 0, SHAPE[1]), 2)


def everything(tmp_path: Path) -> tuple[str, ...]:
    """One of each kind of mask."""
    site = geojson(tmp_path / "site.geojson", [TRIANGLE], crs="EPSG:32618")
    return (
        "weather", "shadow", "water", "water=ndwi", "ndvi=0.2:0.7", "brightness=0.05:", str(raster(tmp_path / "r.tif")),
        str(site), f"outside={site}",
    )  # fmt: skip


TRIANGLE = [(LEFT + 10.2, TOP - 5.1), (LEFT + 80.7, TOP - 30.3), (LEFT + 25.4, TOP - 66.6)]


def geojson(path: Path, rings: list[Any], crs: str | None = None) -> Path:
    content: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}}
            for ring in rings
        ],
    }
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def raster(path: Path, *, left: float = LEFT + 20, top: float = TOP + 10, epsg: int = 32618, size: float = 1.0) -> Path:
    """A raster that covers a part of the tile: a third of its pixels 1, a sixth no data."""
    values = np.random.default_rng(8).choice([0, 0, 0, 1, 1, 9], (50, 100)).astype("u1")
    profile = {"driver": "GTiff", "width": 100, "height": 50, "count": 1, "dtype": "uint8", "nodata": 9}
    with rasterio.open(
        path, "w", crs=f"EPSG:{epsg}", transform=Affine(size, 0, left, 0, -size, top), **profile
    ) as target:
        target.write(values, 1)
    return path


def test_weather_of_both_generations(tile: Path, tmp_path: Path) -> None:
    classes = stored(tile, "Weather_Quality_Indicator")
    assert classes.ndim == 2
    assert (whole(tile, "weather", "weather=yellow") == (classes == 3) + 2 * (classes >= 2)).all()
    assert 0 < (classes == 3).mean() < 0.5
    old = other(tmp_path, product="DP3.001")
    assert stored(old, "Weather_Quality_Indicator").shape == (*SHAPE, 3)
    assert (whole(old, "weather", "weather=yellow") == (classes == 3) + 2 * (classes >= 2)).all()


def test_water_by_the_files_layers(tile: Path, tmp_path: Path) -> None:
    codes = stored(tile, "Haze_Cloud_Water_Map")
    expected = np.isin(codes, [2, 3, 4, 13, 14, 16, 17])
    assert 0 < expected.mean() < 1
    assert (whole(tile, "water") == expected).all()

    def without(layers: h5py.Group, data: h5py.Dataset) -> None:
        del layers["Haze_Cloud_Water_Map"]

    alone = other(tmp_path, without)
    assert (whole(alone, "water") == (stored(alone, "Dark_Dense_Vegetation_Classification") == 1)).all()


def test_indices_and_brightness(tile: Path) -> None:
    cube, valid, nm = reflectance(tile)
    green, red, nir = (band(cube, nm, at) for at in (560, 665, 865))
    assert 0 < valid.mean() < 1
    ndvi = (nir - red) / (nir + red)
    edge = float(np.median(ndvi[valid]))
    assert (whole(tile, f"ndvi={edge}:") == valid & ~(ndvi >= edge)).all()
    assert (whole(tile, f"ndvi=:{edge}") == valid & ~(ndvi <= edge)).all()
    assert (whole(tile, f"ndvi=0.1:{edge}") == valid & ~((ndvi >= 0.1) & (ndvi <= edge))).all()
    mean = sum(band(cube, nm, at) for at in (490, 560, 665, 865, 1610, 2200)) / 6
    middle = float(np.median(mean[valid])) + 1e-6
    flags = whole(tile, f"brightness=:{middle}")
    assert (flags == valid & (mean > middle)).all()
    assert 0 < flags.mean() < valid.mean()
    assert (whole(tile, "water=ndwi") == valid & ((green - nir) / (green + nir) > 0)).all()


def test_ndwi_finds_water_and_undefined_ndvi_is_left_out(tmp_path: Path) -> None:
    def edit(layers: h5py.Group, data: h5py.Dataset) -> None:
        counts = data[...]
        counts[30:40, 30:40] = np.linspace(900, 0, 90).astype("i2")  # falls as water does
        counts[50:55, 40:50] = 0
        data[...] = counts

    path = other(tmp_path, edit)
    lake = np.zeros(SHAPE, bool)
    lake[30:40, 30:40] = True
    flags = whole(path, "water=ndwi", "ndvi=-1:1")
    assert (flags[lake] & 1 == 1).all()
    assert (flags[50:55, 40:50] == 2).all()
    assert (flags[~lake] & 1).mean() < 0.5


@pytest.mark.parametrize("product", ["DP3.001", "DP3.002"])
@pytest.mark.parametrize("polarity", [0, 1])
def test_shadow_of_either_polarity(tmp_path: Path, product: str, polarity: int) -> None:
    """0/1 and 1/0, outside values and a wide margin of no-data with the value of shadow do not confuse it."""

    def edit(layers: h5py.Group, data: h5py.Dataset) -> None:
        values = layers["Cast_Shadow"][...]
        values = values if polarity == 1 else 1 - values
        outside = (data[...] == -9999).all(axis=2)
        values[outside] = polarity
        values[0, :4] = 241
        layers["Cast_Shadow"][...] = values

    path = other(tmp_path, edit, product=product, no_data="half")
    expected = stored(path, "Cast_Shadow") == polarity
    assert (whole(path, "shadow") == expected).all()
    assert (whole(path, f"shadow={polarity}", f"shadow={1 - polarity}") == expected + 2 * whole_other(path)).all()


def whole_other(path: Path) -> NDArray[np.bool_]:
    """Pixels of the value that does not mean shadow."""
    values = stored(path, "Cast_Shadow")
    return (values != 241) & ~whole(path, "shadow").astype(bool)


def test_a_layer_that_says_what_it_means_is_believed(tmp_path: Path) -> None:
    def edit(layers: h5py.Group, data: h5py.Dataset) -> None:
        layers["Cast_Shadow"].attrs["Description"] = "Cast shadow mask: 0 = shadow, 1 = illuminated"

    path = other(tmp_path, edit)
    assert (whole(path, "shadow") == (stored(path, "Cast_Shadow") == 0)).all()


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("0 = no shadow, 1 = shadow", 1),
        ("0: shadow; 255: sunlit", 0),
        ("no shadow = 0, shadow = 1", 1),
        ("1 = cast shadow", 1),
        ("Cast shadow.", None),
        ("0 = shadow, 1 = shadow", None),
    ],
)
def test_words_for_shadow(words: str, value: float | None) -> None:
    from hsichunk.cube.masks.layers import described

    assert described({"Description": words, "n": 3}) == value


def test_shadow_that_cannot_be_told(tmp_path: Path) -> None:
    def bright(layers: h5py.Group, data: h5py.Dataset) -> None:
        values = layers["Cast_Shadow"][...]
        values[...] = 0
        values[20:50, 20:60] = 1
        layers["Cast_Shadow"][...] = values
        counts = data[...]
        counts[20:50, 20:60] = 9000
        data[...] = counts

    path = other(tmp_path, bright)
    with pytest.raises(HsiError, match=r"cannot tell which value .* give shadow=0 or shadow=1") as caught:
        whole(path, "shadow")
    assert "\n" not in str(caught.value) and str(path) in str(caught.value) and "0.900 near 865 nm" in str(caught.value)
    assert (whole(path, "shadow=1") == (stored(path, "Cast_Shadow") == 1)).all()


def test_shadow_of_other_values_and_of_one_value(tmp_path: Path) -> None:
    def three(layers: h5py.Group, data: h5py.Dataset) -> None:
        layers["Cast_Shadow"][10:20] = 2

    with pytest.raises(HsiError, match=r"cast shadow holds 0, 1, 2; give shadow=VALUE"):
        whole(other(tmp_path, three), "shadow")

    def ones(layers: h5py.Group, data: h5py.Dataset) -> None:
        layers["Cast_Shadow"][...] = 1

    path = other(tmp_path, ones)
    with pytest.warns(HsiWarning, match=r"cast shadow is 1 in every pixel, taken for no shadow; give shadow=1"):
        assert not whole(path, "shadow").any()
    assert whole(path, "shadow=1").all()


def test_a_few_pixels_of_shadow_need_not_be_dark(tmp_path: Path) -> None:
    def few(layers: h5py.Group, data: h5py.Dataset) -> None:
        layers["Cast_Shadow"][...] = 1
        layers["Cast_Shadow"][30, 30:40] = 0

    path = other(tmp_path, few)
    flags = whole(path, "shadow")
    assert flags[30, 30:40].all() and flags.sum() == 10


def test_raster(tile: Path, tmp_path: Path) -> None:
    path = raster(tmp_path / "mask.tif")
    with rasterio.open(path) as source:
        values = source.read(1)
    expected = np.zeros(SHAPE, bool)  # the raster begins 10 rows above and 20 columns into the tile, and sticks out
    expected[:40, 20:] = (values == 1)[10:, :70]
    assert (whole(tile, str(path)) == expected).all()
    away = raster(tmp_path / "away.tif", left=LEFT + 5000)
    assert not whole(tile, str(away)).any()


def test_raster_of_floats_with_nan(tile: Path, tmp_path: Path) -> None:
    values = np.zeros(SHAPE, "f4")
    values[10:20], values[30:40] = 0.5, np.nan
    profile = {"driver": "GTiff", "width": 90, "height": 70, "count": 1, "dtype": "float32", "crs": "EPSG:32618"}
    with rasterio.open(tmp_path / "f.tif", "w", transform=PLACE, **profile) as target:
        target.write(values, 1)
    assert (whole(tile, str(tmp_path / "f.tif")) == (values == 0.5)).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epsg": 32617}, r"has CRS EPSG:32617, .* EPSG:32618; warp"),
        ({"size": 2.0}, r"has pixels of \(2, -2\), .* of \(1, -1\); warp"),
        ({"left": LEFT + 0.25}, r"begins at \(368000.250, 4307010.000\), .* at \(368000.000, 4307000.000\): -0.250"),
    ],
)
def test_raster_of_another_grid(tile: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = raster(tmp_path / "mask.tif", **changes)
    with pytest.raises(HsiError, match=said) as caught:
        masks.parse([str(path)]).check(neon.read(tile))
    assert "\n" not in str(caught.value)


def test_raster_that_is_none(tile: Path, tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    path.write_text("no raster")
    with pytest.raises(HsiError, match="cannot be opened as a raster"):
        masks.parse([str(path)]).check(neon.read(tile))
    profile = {"driver": "GTiff", "width": 9, "height": 9, "count": 3, "dtype": "uint8", "crs": "EPSG:32618"}
    with rasterio.open(path, "w", transform=PLACE, **profile) as target:
        target.write(np.zeros((3, 9, 9), "u1"))
    with pytest.raises(HsiError, match="has 3 bands; expected one"):
        masks.parse([str(path)]).check(neon.read(tile))


def random_rings(seed: int, count: int) -> list[list[tuple[float, float]]]:
    """Stars of any shape, some of which overlap and some of which lie outside the tile."""
    rng = np.random.default_rng(seed)
    rings = []
    for _ in range(count):
        turns = np.sort(rng.random(int(rng.integers(3, 30)))) * 2 * np.pi
        reach = rng.uniform(3, 30) * rng.uniform(0.3, 1, len(turns))
        x, y = LEFT + rng.uniform(-20, 110), TOP - rng.uniform(-20, 90)
        rings.append([(x + r * np.cos(t), y + r * np.sin(t)) for t, r in zip(turns, reach, strict=True)])
    return rings


def burnt(rings: list[Any]) -> NDArray[np.bool_]:
    """The same by GDAL."""
    shapes = [{"type": "Polygon", "coordinates": [[*ring, ring[0]]]} for ring in rings]
    return rasterize(shapes, SHAPE, transform=PLACE).astype(bool)


@pytest.mark.parametrize("seed", range(5))
def test_polygons_against_gdal_and_matplotlib(tile: Path, tmp_path: Path, seed: int) -> None:
    rings = random_rings(seed, 6)
    path = geojson(tmp_path / "site.geojson", rings, crs="urn:ogc:def:crs:EPSG::32618")
    flags = whole(tile, str(path), f"outside={path}")
    inside = flags & 1 == 1
    assert 0 < inside.mean() < 1
    assert (inside == burnt(rings)).all()
    centres = np.stack(np.meshgrid(LEFT + np.arange(90) + 0.5, TOP - np.arange(70) - 0.5), -1).reshape(-1, 2)
    assert (inside.ravel() == np.any([Outline(ring).contains_points(centres) for ring in rings], axis=0)).all()
    assert (flags == np.where(inside, 1, 2)).all()


def test_polygons_in_degrees_with_holes_and_collections(tile: Path, tmp_path: Path) -> None:
    outer = [
        (LEFT + 5.13, TOP - 5.27),
        (LEFT + 85.31, TOP - 9.17),
        (LEFT + 70.23, TOP - 62.41),
        (LEFT + 9.37, TOP - 55.19),
    ]
    hole = [(LEFT + 30.3, TOP - 20.2), (LEFT + 50.1, TOP - 21.7), (LEFT + 40.9, TOP - 40.4)]
    part = [(LEFT + 80.17, TOP - 60.23), (LEFT + 88.31, TOP - 60.29), (LEFT + 84.11, TOP - 69.37)]

    def degrees(ring: list[Any]) -> list[Any]:
        x, y = warp.transform("EPSG:32618", "EPSG:4326", *zip(*ring, strict=True))
        return [[*point, 12.5] for point in zip([*x, x[0]], [*y, y[0]], strict=True)]  # with a height, as GPS gives

    content = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "MultiPolygon", "coordinates": [[degrees(outer), degrees(hole)], [degrees(part)]]},
        ],
    }
    path = tmp_path / "site.json"
    path.write_text(json.dumps(content))
    shapes = [{"type": "Polygon", "coordinates": [[*outer, outer[0]], [*hole, hole[0]]]}]
    shapes += [{"type": "Polygon", "coordinates": [[*part, part[0]]]}]
    expected = rasterize(shapes, SHAPE, transform=PLACE).astype(bool)
    assert (whole(tile, str(path)) == expected).all()
    assert not expected[25, 40] and expected[62, 84]


def test_long_edges_are_straight_in_degrees(tile: Path, tmp_path: Path) -> None:
    """A parallel of 3 degrees, straight by RFC 7946, is an arc in UTM: its chord would run kilometres off."""
    (west, east), (south, north) = (
        warp.transform("EPSG:32618", "EPSG:4326", [LEFT, LEFT + 90], [TOP - 35, TOP - 35])[i] for i in (0, 1)
    )
    middle = (south + north) / 2
    ring = [(west - 1.5, middle), (east + 1.5, middle), (east + 1.5, middle + 1), (west - 1.5, middle + 1)]
    flags = whole(tile, str(geojson(tmp_path / "site.geojson", [ring])))
    x, y = np.meshgrid(LEFT + np.arange(90) + 0.5, TOP - np.arange(70) - 0.5)
    latitude = np.reshape(warp.transform("EPSG:32618", "EPSG:4326", x.ravel(), y.ravel())[1], SHAPE)
    sure = np.abs(latitude - middle) > 1e-7  # 1 cm
    assert (flags == (latitude > middle))[sure].all() and sure.mean() > 0.98


def test_neighbours_share_no_pixel_and_leave_none(tile: Path, tmp_path: Path) -> None:
    """Borders through pixel centres belong to exactly one of two polygons."""
    x = [LEFT, LEFT + 30.5, LEFT + 60.5, LEFT + 90]
    top, bottom = TOP, TOP - 70
    boxes = [[(a, top), (b, top), (b, bottom), (a, bottom)] for a, b in pairwise(x)]
    paths = [geojson(tmp_path / f"{i}.geojson", [box], crs="EPSG:32618") for i, box in enumerate(boxes)]
    flags = whole(tile, *map(str, paths))
    assert np.isin(flags, [1, 2, 4]).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no GeoJSON of polygons"),
        ("[1, 2]", "is no GeoJSON of polygons"),
        ('{"type": "Point", "coordinates": [1, 2]}', "found a Point"),
        ('{"type": "FeatureCollection", "features": []}', "holds no polygon"),
        ('{"type": "Polygon", "coordinates": [[["a", 1], [2, 3], [4, 5]]]}', "is no GeoJSON of polygons"),
        (
            '{"type": "Polygon", "coordinates": [[[368000, 4307000], [368050, 4307000], [368050, 4306950]]]}',
            "no degrees",
        ),
        (
            '{"type": "Polygon", "crs": {"type": "name", "properties": {"name": "nonsense"}}, '
            '"coordinates": [[[0, 0], [1, 0], [1, 1]]]}',
            "cannot be brought to the tile's CRS",
        ),
    ],
)
def test_polygons_that_are_none(tile: Path, tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "site.geojson"
    path.write_text(content)
    with pytest.raises(HsiError, match=said) as caught:
        masks.parse([str(path)]).check(neon.read(tile))
    assert "\n" not in str(caught.value)


def wkb(ring: list[Any], order: str = "<", code: int = 3, height: bool = False) -> bytes:
    points = b"".join(struct.pack(f"{order}{2 + height}d", *point, *([7.0] * height)) for point in [*ring, ring[0]])
    head = struct.pack(f"{order}BII", order == "<", code, 1)
    return head + struct.pack(f"{order}I", len(ring) + 1) + points


def test_other_formats_by_pyogrio(tile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyogrio gives is well-known binary, of either byte order, with or without heights."""
    rings = random_rings(1, 4)
    several = struct.pack("<BII", 1, 6, 2) + wkb(rings[2]) + wkb(rings[3], ">")
    geometries = [wkb(rings[0], ">"), wkb(rings[1], code=3 | 0x80000000, height=True), None, several]
    path = tmp_path / "site.gpkg"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyogrio.raw", None)
    with pytest.raises(HsiError, match="needs pyogrio, which is not installed"):
        masks.parse([str(path)]).check(neon.read(tile))
    module = types.ModuleType("raw")
    module.read = lambda path, columns: ({"crs": "EPSG:32618"}, None, geometries, [])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyogrio", types.ModuleType("pyogrio"))
    monkeypatch.setitem(sys.modules, "pyogrio.raw", module)
    assert (whole(tile, str(path)) == burnt(rings)).all()
    path.write_bytes(b"changed")
    geometries[:] = [wkb(rings[0], code=1)]
    with pytest.raises(HsiError, match="geometry of type 1"):
        masks.parse([str(path)]).check(neon.read(tile))


def test_pyogrio_itself(tile: Path, tmp_path: Path) -> None:
    raw = pytest.importorskip("pyogrio.raw", reason="pyogrio is not installed")
    rings = random_rings(2, 3)
    path = tmp_path / "site.gpkg"
    raw.write(str(path), np.array([wkb(r) for r in rings], object), [], [], crs="EPSG:32618", geometry_type="Polygon")
    assert (whole(tile, str(path)) == burnt(rings)).all()


def test_windows_points_and_whole_agree(tile: Path, tmp_path: Path) -> None:
    file, found = neon.read(tile), masks.parse(everything(tmp_path))
    flags = found.within(file, Window(0, *SHAPE[:1], 0, SHAPE[1]), 1)
    assert flags.dtype == np.uint32 and flags.shape == SHAPE
    for bit in range(len(found.names)):
        assert 0 < (flags >> bit & 1).mean() < 1, found.names[bit]
    rng = np.random.default_rng(0)
    for _ in range(6):
        top, left = int(rng.integers(0, 69)), int(rng.integers(0, 89))
        part = Window(top, int(rng.integers(top + 1, 71)), left, int(rng.integers(left + 1, 91)))
        assert (found.within(file, part, 2) == flags[part.top : part.bottom, part.left : part.right]).all()
    rows, cols = rng.integers(0, 70, 300), rng.integers(0, 90, 300)
    points = found.at(file, rows, cols, 2)
    assert points.dtype == np.uint32 and (points == flags[rows, cols]).all()
    assert found.at(file, rows[:0], cols[:0], 1).shape == (0,)


def test_flags_do_not_depend_on_the_layout(tmp_path: Path) -> None:
    what = everything(tmp_path)
    first = whole(other(tmp_path), *what)
    assert (whole(other(tmp_path, chunks=(70, 90, 1)), *what) == first).all()


def test_tiles_beside_each_other_share_no_seam(tmp_path: Path) -> None:
    """A polygon over two tiles leaves out what it would of one."""
    rings = random_rings(9, 5)
    what = str(geojson(tmp_path / "site.geojson", rings, crs="EPSG:32618"))
    write_tile(tmp_path / "a.h5", shape=(70, 41), bands=90)
    write_tile(tmp_path / "b.h5", shape=(70, 49), bands=90, origin=(LEFT + 41, TOP))
    parts = []
    for name, wide in (("a", 41), ("b", 49)):
        parts.append(masks.parse([what]).within(neon.read(tmp_path / f"{name}.h5"), Window(0, 70, 0, wide), 1))
    assert (np.hstack(parts) == burnt(rings)).all()


def test_pickled_masks_are_the_same(tile: Path, tmp_path: Path) -> None:
    file, found = neon.read(tile), masks.parse(everything(tmp_path))
    expected = found.within(file, Window(3, 40, 5, 77), 1)
    again = pickle.loads(pickle.dumps(found))
    assert again == found and len(pickle.dumps(found)) < 5000
    assert (again.within(pickle.loads(pickle.dumps(file)), Window(3, 40, 5, 77), 1) == expected).all()


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    path = geojson(tmp_path / "site.geojson", [TRIANGLE])
    found = masks.parse(["weather", f"outside={path}"])
    before = found.fingerprint()
    content = path.read_bytes()
    assert before == [["weather"], [f"outside={path}", len(content), hashlib.sha256(content).hexdigest()]]
    assert json.loads(json.dumps(before)) == before
    geojson(path, [TRIANGLE[::-1]])
    assert found.fingerprint() != before
    path.unlink()
    with pytest.raises(HsiError, match="cannot be read"):
        found.fingerprint()


def test_a_file_that_changes_is_read_again(tile: Path, tmp_path: Path) -> None:
    path = geojson(tmp_path / "site.geojson", [TRIANGLE], crs="EPSG:32618")
    before = whole(tile, str(path))
    geojson(path, [*random_rings(0, 3)], crs="EPSG:32618")
    assert (whole(tile, str(path)) == burnt(random_rings(0, 3))).all()
    assert (before == burnt([TRIANGLE])).all()


@pytest.mark.parametrize(
    "text",
    [
        "wether", "weather=green", "shadow=", "shadow=dark", "water=ndvi", "ndvi", "ndvi=", "ndvi=:", "ndvi=0.2",
        "ndvi=0.8:0.2", "ndvi=a:b", "ndvi=nan:1", "brightness=", "brightness=1:0", "outside=", "outside=no.geojson",
        "missing.tif", "missing.geojson", "", ".",
    ],
)  # fmt: skip
def test_what_is_no_mask(text: str) -> None:
    with pytest.raises(OptionError, match=r"mask is .*expected") as caught:
        masks.parse(["weather", text])
    assert "\n" not in str(caught.value) and repr(text) in str(caught.value)


def test_at_most_32_masks(tile: Path) -> None:
    assert (whole(tile, *["ndvi=2:"] * 32)[30:40, 30:40] == 2**32 - 1).all()
    with pytest.raises(OptionError, match="given 33 times; expected at most 32"):
        masks.parse(["weather"] * 33)


def test_outside_a_raster_is_no_mask(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"expected a polygon file, as outside=site.geojson"):
        masks.parse([f"outside={raster(tmp_path / 'r.tif')}"])


def test_nothing_asked_for(tile: Path) -> None:
    assert not whole(tile).any()


@pytest.mark.filterwarnings("ignore::hsichunk.errors.HsiWarning")
def test_real_tile(shared: Path, tmp_path: Path) -> None:
    """SJER 2017 has no layers: indices are computed as by hand, masks by layer say what is missing."""
    path = shared / "neon_sjer" / "NEON_D17_SJER_DP3_257000_4112000_reflectance_crop30.h5"
    file = neon.read(path)
    for what in ("weather", "shadow", "water"):
        with pytest.raises(HsiError, match=rf"crop30.h5: no layer \w+, which mask {what} needs \(layers: none\)"):
            masks.parse([what]).check(file)
    with h5py.File(path) as stored_file:
        counts = stored_file["SJER/Reflectance/Reflectance_Data"][...]
        nm = stored_file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][...].ravel()
    red, nir = (counts[:, :, np.argmin(np.abs(nm - at))].astype(float) for at in (665, 865))
    edge = float(np.median((nir - red) / (nir + red)))
    found = masks.parse([f"ndvi={edge}:", "water=ndwi"])
    found.check(file)
    flags = found.within(file, Window(0, 30, 0, 30), 1)
    assert ((flags & 1 == 1) == ((nir - red) / (nir + red) < edge)).all()
    assert not (flags & 2).any()  # oak savanna


def test_bands_that_are_missing(tmp_path: Path) -> None:
    path = other(tmp_path, bands=90, wavelength=np.linspace(400, 800, 90))
    with pytest.raises(HsiError, match=r"other.h5: mask ndvi needs a band near 865 nm, the nearest lies at 800 nm"):
        masks.parse(["ndvi=0:"]).check(neon.read(path))


def spoil(path: Path, place: tuple[int, int, int]) -> None:
    """Overwrites one stored chunk."""
    with h5py.File(path) as file:
        info = file[f"{GROUP}/Reflectance_Data"].id.get_chunk_info_by_coord(place)
    with open(path, "r+b") as raw:
        raw.seek(info.byte_offset)
        raw.write(b"\xff" * info.size)


def test_corrupt_chunks(tmp_path: Path) -> None:
    path = other(tmp_path)
    good = whole(path, "ndvi=0.3:", "weather", "shadow")
    nm = neon.read(path).wavelength
    spoil(path, (32, 63, int(np.abs(nm - 865).argmin()) // 27 * 27))
    file, found = neon.read(path), masks.parse(["ndvi=0.3:", "weather", "shadow"])
    with pytest.raises(CorruptChunk):
        found.within(file, Window(0, 70, 0, 90), 1)
    flags = found.within(file, Window(0, 70, 0, 90), 2, corrupt=True)
    bad = np.zeros(SHAPE, bool)
    bad[32:64, 63:] = True
    assert (flags[~bad] == good[~bad]).all()
    assert (flags[bad] == good[bad] | 1).all()


@pytest.mark.parametrize("chunks", [None, {"y": 40, "x": 50}], ids=["lazy", "chunked"])
def test_lazy_mask(tile: Path, tmp_path: Path, no_compute: Any, chunks: dict[str, int] | None) -> None:
    what = everything(tmp_path)
    flags = whole(tile, *what) != 0
    some = whole(tile, "shadow", "ndvi=0.2:") != 0
    assert 0 < some.mean() < 1
    opened = open_tile(tile) if chunks is None else open_tile(tile).chunk(chunks)
    with no_compute():
        found = mask(opened, *what)
        part = mask(opened.isel(y=slice(60, 10, -3), x=[4, 80, 7, 33]), "shadow", "ndvi=0.2:")
        cube = clean(opened)
        kept = cube.where(~mask(opened, "shadow", "ndvi=0.2:"))
    assert found.dtype == bool and found.dims == ("y", "x") and found.chunks is not None
    assert found.chunks == (((40, 30), (50, 40)) if chunks else cube.chunks[:2])
    assert (found.values == flags).all()
    assert (part.values == some[60:10:-3][:, [4, 80, 7, 33]]).all()
    assert (part.x.values == opened.x.values[[4, 80, 7, 33]]).all() and "spatial_ref" in part.coords
    values, whole_cube = kept.values, cube.values
    assert np.isnan(values[some]).all()
    assert np.array_equal(values[~some], whole_cube[~some], equal_nan=True)


def test_lazy_mask_of_what_is_no_tile(tile: Path) -> None:
    with pytest.raises(HsiError, match="computed or loaded"):
        mask(open_tile(tile).load(), "weather")
    with pytest.raises(HsiError, match="expected a tile"):
        mask(None, "weather")  # type: ignore[arg-type]
    with pytest.raises(HsiError, match="a mosaic of tiles; expected what open_tile gives"):
        mask(open_mosaic(tile), "weather")
    with pytest.raises(OptionError):
        mask(open_tile(tile), "nothing")


def test_masks_warn_of_nothing_twice(tile: Path) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        whole(tile, "shadow", "weather", "water")
    assert not said
