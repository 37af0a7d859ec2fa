"""The STAC item of a run, read by PySTAC, with its footprint by pyproj."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from hsichunk.classification.palette import class_colors
from hsichunk.grid import Grid
from hsichunk.mosaic.site import Site, open_site
from hsichunk.run import stac
from hsichunk.run.record import RunRecord, read_record
from tests.helpers.runs import go
from tests.helpers.tiles import SHAPE, small_tile

pystac = pytest.importorskip("pystac", reason="PySTAC reads what we write")
MADE = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
LEFT, TOP = 368000.0, 4307000.0


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run over two tiles side by side has left."""
    folder = tmp_path_factory.mktemp("stac")
    small_tile(folder / "a.h5")
    small_tile(folder / "b.h5", origin=(LEFT + SHAPE[1], TOP))
    go(sorted(folder.glob("*.h5")), folder / "out", k=3)
    return folder / "out"


@pytest.fixture(scope="module")
def site(out: Path) -> Site:
    return open_site(sorted(out.parent.glob("*.h5")))


@pytest.fixture(scope="module")
def report(out: Path) -> RunRecord:
    return read_record(out)


@pytest.fixture
def item(out: Path, report: RunRecord, site: Site) -> dict[str, Any]:
    return stac.item(out, report, site, created=MADE)


def test_the_file_is_a_valid_item(tmp_path: Path, out: Path, report: RunRecord, site: Site) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="PySTAC validates with it")
    from pystac.validation.local_validator import get_local_schema_cache
    from referencing import Registry, Resource

    path = stac.write_item(tmp_path, report, site, created=MADE)
    assert path == tmp_path / "item.json"
    assert set(json.loads(path.read_text())["assets"]) == {"run"}
    content = stac.item(out, report, site, created=MADE)
    schemas = get_local_schema_cache()
    registry = Registry().with_resources([(uri, Resource.from_contents(each)) for uri, each in schemas.items()])
    (core,) = [each for uri, each in schemas.items() if uri.endswith("v1.1.0/item-spec/json-schema/item.json")]
    validator = jsonschema.Draft7Validator(core, registry=registry, format_checker=jsonschema.FormatChecker())
    assert not list(validator.iter_errors(content))
    wrong = {**content, "properties": {k: v for k, v in content["properties"].items() if k != "start_datetime"}}
    assert list(validator.iter_errors(wrong))  # the schema does look


def test_pystac_reads_what_is_written(item: dict[str, Any]) -> None:
    read = pystac.Item.from_dict(item, preserve_dict=True)
    assert set(read.assets) == {"abundance", "rmse", "sam_class", "sid_class", "products", "endmembers", "run"}
    assert read.assets["abundance"].media_type == pystac.MediaType.COG
    assert read.assets["products"].media_type == pystac.MediaType.ZARR
    assert read.assets["run"].roles == read.assets["endmembers"].roles == ["metadata"]
    assert read.assets["rmse"].roles == ["data"]
    assert read.common_metadata.created == MADE
    assert read.common_metadata.gsd == 1.0
    assert read.to_dict(include_self_link=False, transform_hrefs=False) == item


def test_it_names_what_the_maps_hold(item: dict[str, Any], out: Path) -> None:
    for name, asset in item["assets"].items():
        assert (out / asset["href"]).exists()
        if not asset["href"].endswith(".tif"):
            continue
        with rasterio.open(out / asset["href"]) as raster:
            assert [band["name"] for band in asset["bands"]] == list(raster.descriptions)
            assert asset["data_type"] == raster.dtypes[0]
            assert str(asset["nodata"]) == f"{raster.nodata:g}"
            assert item["properties"]["proj:shape"] == list(raster.shape)
            assert item["properties"]["proj:transform"] == list(raster.transform)[:6]
            assert item["properties"]["proj:code"] == f"EPSG:{raster.crs.to_epsg()}"
            assert item["properties"]["proj:bbox"] == list(raster.bounds)
            if name.endswith("class"):
                for each in asset["classification:classes"][:-1]:
                    color = bytes(raster.colormap(1)[each["value"]][:3]).hex().upper()
                    assert each["color_hint"] == color
    assert [band["name"] for band in item["assets"]["abundance"]["bands"]] == ["EM1", "EM2", "EM3"]


def test_it_names_the_classes(item: dict[str, Any]) -> None:
    classes = item["assets"]["sid_class"]["classification:classes"]
    assert [(each["value"], each["name"]) for each in classes] == [
        (0, "unclassified"), (1, "EM1"), (2, "EM2"), (3, "EM3"), (255, "no_data"),
    ]  # fmt: skip
    assert [each["value"] for each in classes if each.get("nodata")] == [255]
    assert classes[1]["color_hint"] == bytes(class_colors(3)[1].tolist()).hex().upper()
    assert any("classification/v2" in uri for uri in item["stac_extensions"])


def test_names_of_any_letters_are_brought_to_those_of_the_extension(out: Path, report: RunRecord, site: Site) -> None:
    named = replace(report, mean_abundance={"bare soil": 0.2, "Höhe/2": 0.3, "tree": 0.5})
    whole = stac.item(out, named, site)
    classes = whole["assets"]["sam_class"]["classification:classes"]
    assert [each["name"] for each in classes[1:3]] == ["bare_soil", "H_he_2"]
    assert [each["title"] for each in classes[1:3]] == ["bare soil", "Höhe/2"]
    assert whole["assets"]["abundance"]["bands"][1]["name"] == "Höhe/2"
    assert all(re.fullmatch("[0-9A-Za-z_-]+", each["name"]) for each in classes)


def test_only_results_that_are_there_are_assets(tmp_path: Path, report: RunRecord, site: Site) -> None:
    (tmp_path / "rmse.tif").touch()
    whole = stac.item(tmp_path, report, site)
    assert set(whole["assets"]) == {"rmse", "run"}  # run.json is written last
    assert not any("classification" in uri for uri in whole["stac_extensions"])


def test_the_id_tells_runs_apart_and_stays(out: Path, report: RunRecord, site: Site) -> None:
    one, again = (stac.item(out, report, site)["id"] for _ in range(2))
    other = stac.item(out, replace(report, fingerprint={**report.fingerprint, "seed": 5}), site)["id"]
    assert one == again != other
    assert re.fullmatch(r"SERC-368000-4306910-[0-9a-f]{12}", one)


def test_the_footprint_is_the_images(site: Site, item: dict[str, Any]) -> None:
    back = Transformer.from_crs("EPSG:4326", "EPSG:32618", always_xy=True)
    ring = np.array(item["geometry"]["coordinates"][0])
    assert item["geometry"]["type"] == "Polygon"
    np.testing.assert_array_equal(ring[0], ring[-1])
    x, y = back.transform(*ring.T)
    right, bottom = LEFT + 2 * SHAPE[1], TOP - SHAPE[0]
    on_edge = np.minimum(np.minimum(abs(x - LEFT), abs(x - right)), np.minimum(abs(y - TOP), abs(y - bottom)))
    assert on_edge.max() < 0.02
    np.testing.assert_allclose([x.min(), x.max(), y.min(), y.max()], [LEFT, right, bottom, TOP], atol=0.02)
    assert _area(ring) > 0  # counter-clockwise
    west, south, east, north = item["bbox"]
    np.testing.assert_array_equal([west, south], ring.min(0))
    np.testing.assert_array_equal([east, north], ring.max(0))


def _area(ring: Any) -> float:
    x, y = np.asarray(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def test_edges_bend_with_the_meridian() -> None:
    """The northern edge of an image wide enough is highest in its middle, not at its corners."""
    grid = Grid(200000.0, 7.0e6, 100.0, 100.0, 32618, None)
    geometry, bbox = stac.footprint(grid, 1000, 6000)
    corners = Transformer.from_crs(32618, 4326, always_xy=True).transform([2e5, 8e5], [7e6, 7e6])[1]
    middle = Transformer.from_crs(32618, 4326, always_xy=True).transform(5e5, 7e6)[1]
    assert geometry is not None
    assert bbox is not None
    assert bbox[3] == pytest.approx(middle, abs=1e-6)
    assert bbox[3] > max(corners) + 0.01


def test_an_image_across_the_180th_meridian_has_a_part_on_each_side() -> None:
    x, y = Transformer.from_crs(4326, 32601, always_xy=True).transform(180.0, 60.0)
    geometry, bbox = stac.footprint(Grid(x - 2000, y, 1.0, 1.0, 32601, None), 3000, 5000)
    assert geometry is not None
    assert bbox is not None
    assert geometry["type"] == "MultiPolygon"
    rings = [np.array(part[0]) for part in geometry["coordinates"]]
    assert all(_area(ring) > 0 for ring in rings)
    spans = sorted((ring[:, 0].min(), ring[:, 0].max()) for ring in rings)
    assert spans[0][0] == -180.0
    assert spans[1][1] == 180.0
    west, south, east, north = bbox
    assert 179.9 < west < 180
    assert -180 < east < -179.9
    corners = Transformer.from_crs(32601, 4326, always_xy=True).transform(
        [x - 2000, x - 2000, x + 3000, x + 3000], [y, y - 3000, y, y - 3000]
    )
    assert [west, east] == pytest.approx([min(corners[0][:2]), max(corners[0][2:])], abs=1e-6)
    assert [south, north] == pytest.approx([min(corners[1]), max(corners[1])], abs=1e-4)


def test_without_a_crs_there_is_no_footprint(out: Path, report: RunRecord, site: Site) -> None:
    grid = Grid(LEFT, TOP, 1.0, 1.0, None, None)
    whole = stac.item(out, report, Site(site.tiles, grid, site.rows, site.cols))
    assert whole["geometry"] is None
    assert "bbox" not in whole
    assert whole["properties"]["proj:code"] is None
    assert pystac.Item.from_dict(whole).bbox is None


def test_a_crs_in_its_own_words_is_told_in_wkt2(out: Path, report: RunRecord, site: Site) -> None:
    from pyproj import CRS

    from tests.helpers.tiles import WKT

    whole = stac.item(out, report, Site(site.tiles, Grid(LEFT, TOP, 1.0, 1.0, None, WKT), site.rows, site.cols))
    assert whole["properties"]["proj:code"] is None
    assert CRS.from_wkt(whole["properties"]["proj:wkt2"]) == CRS.from_wkt(WKT)
    assert whole["bbox"] == pytest.approx(stac.item(out, report, site)["bbox"], abs=1e-6)


def test_dates_that_are_not_known_span_all_that_may_be(tmp_path: Path, report: RunRecord) -> None:
    paths = [small_tile(tmp_path / name, shape=(8, 8), chunks=(8, 8, 5)) for name in ("a.h5", "b.h5")]
    for path, days in zip(paths, (0, -3), strict=True):
        moment = MADE.timestamp() + days * 86400
        os.utime(path, (moment, moment))
    said = stac.item(tmp_path, report, open_site(paths))["properties"]
    assert said["datetime"] is None
    assert (said["start_datetime"], said["end_datetime"]) == ("2012-01-01T00:00:00Z", "2024-05-06T07:08:09Z")
    assert "created" not in said  # a run that went on leaves the same item
    for path in paths:
        os.utime(path, (0, 0))  # as some archives unpack
    said = stac.item(tmp_path, report, open_site(paths))["properties"]
    assert said["end_datetime"] >= f"{datetime.now(UTC):%Y-%m-%d}"


def test_times_are_told_in_utc(out: Path, report: RunRecord, site: Site) -> None:
    there = MADE.astimezone(timezone(timedelta(hours=-7)))
    assert stac.item(out, report, site, created=there)["properties"]["created"] == "2024-05-06T07:08:09Z"


def test_a_run_leaves_its_item(out: Path, report: RunRecord, site: Site) -> None:
    left = json.loads((out / stac.ITEM_JSON).read_text())
    assert left == stac.item(out, report, site)


def test_dates_in_the_names_of_flight_lines_are_the_items(tmp_path: Path, report: RunRecord) -> None:
    for name, left in (
        ("NEON_D10_CPER_DP1_20130625_103403_reflectance.h5", LEFT),
        ("NEON_D04_CUPE_DP1_L001-1_20130702_directional_reflectance.h5", LEFT + 8),
        ("NEON_D02_SERC_DP3_368000_4306000_reflectance.h5", LEFT + 16),
    ):
        small_tile(tmp_path / name, shape=(8, 8), chunks=(8, 8, 5), origin=(left, TOP))
    said = stac.item(tmp_path, report, open_site(sorted(tmp_path.glob("*.h5"))), created=MADE)["properties"]
    assert (said["start_datetime"], said["end_datetime"]) == ("2013-06-25T00:00:00Z", "2013-07-02T23:59:59Z")


@pytest.mark.parametrize(
    ("name", "lines", "wanted"),
    [
        ("NEON_D02_SERC_DP3_368000_4306000_reflectance.h5", ["160123", ""], []),
        ("NEON_D02_SERC_DP3_368000_4306000_bidirectional_reflectance.h5", ["L003-1_20250612"], ["2025-06-12"]),
        ("x_20251341.h5", [], []),
        ("x_19991231.h5", [], []),  # before NEON flew
        ("x_201306251.h5", [], []),
        ("/20200101/x.h5", [], []),
    ],
)
def test_days_are_what_reads_as_one(name: str, lines: list[str], wanted: list[str]) -> None:
    assert [str(day) for day in stac._days(name, lines)] == wanted
