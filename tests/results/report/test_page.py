"""report.html: whole, alone, and with the numbers of the stored products."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from rasterio.io import MemoryFile

from hsichunk import schema
from hsichunk.errors import HsiError
from hsichunk.results import quicklook
from hsichunk.results.finished_run import open_results
from hsichunk.results.report import charts, map_statistics, overlay, pictures, tables
from hsichunk.results.report.writer import write_report
from tests.helpers import runs
from tests.helpers.browser import Browser
from tests.helpers.tiles import small_tile

VOID = {"meta", "img", "input", "br", "rect", "circle", "hr", "link"}
ORIGINS = {"NEON_a_reflectance.h5": (368000.0, 4307000.0), "NEON_b_reflectance.h5": (368060.0, 4306980.0)}


class Page(HTMLParser):
    """Elements, tables by section, and what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.text = ""
        self._section = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("section", "figure") and dict(attrs).get("id"):
            self._section = str(dict(attrs)["id"])
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and any(tag in ("td", "th") for tag in self.open):
            self.rows[self._section][-1][-1] += data.strip()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over two tiles that overlap, masked, its report beside it."""
    folder = tmp_path_factory.mktemp("site")
    tiles = [small_tile(folder / name, origin=origin) for name, origin in ORIGINS.items()]
    out = folder / "out"
    runs.go(tiles, out, mask=["ndvi=-1:0.6"], share=1.0, sam_threshold=0.3, sid_threshold="0.4,0.3,0.2,0.1")
    write_report(out)
    return out


@pytest.fixture(scope="module")
def text(site: Path) -> str:
    return (site / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(text: str) -> Page:
    return Page(text)


def data_uris(text: str) -> list[tuple[str, bytes]]:
    found = re.findall(r'"data:([a-z+/]+);base64,([A-Za-z0-9+/=]+)"', text)
    return [(kind, base64.b64decode(data, validate=True)) for kind, data in found]


def test_html_is_whole(parsed: Page) -> None:
    assert parsed.wrong == [] and parsed.open == []
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in parsed.elements:
        if tag == "a":
            assert str(attrs["href"]).removeprefix("#") in ids
        if tag == "label":
            assert attrs["for"] in ids


def test_page_asks_for_nothing(text: str, parsed: Page) -> None:
    for tag, attrs in parsed.elements:
        assert tag not in ("link", "script", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href", "srcset", "poster"):
            if name in attrs:
                assert str(attrs[name]).startswith(("data:", "#")), (tag, attrs)
    assert "@import" not in text and "url(" not in text
    assert "default-src 'none'; img-src data:" in text  # and the browser sees to it
    assert 'name="viewport"' in text and "@media print" in text


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_every_image_decodes_and_is_described(text: str, parsed: Page) -> None:
    images = [attrs for tag, attrs in parsed.elements if tag == "img"]
    uris = data_uris(text)
    assert len(images) == len(uris) >= 4 + 2 * 4 + 2 + 3 + 2 + 1 + 1
    assert all(len(str(attrs["alt"])) > 10 for attrs in images)
    for kind, data in uris:
        if kind == "image/svg+xml":
            assert ET.fromstring(data).tag.endswith("svg")
            assert not re.search(rb'href="(?!#)', data)
            continue
        with MemoryFile(data) as memory, memory.open() as raster:
            assert raster.driver == {"image/png": "PNG", "image/jpeg": "JPEG"}[kind]
            assert raster.read().size


def test_size(site: Path) -> None:
    assert 50_000 < (site / "report.html").stat().st_size < 1_000_000


@pytest.mark.parametrize("metric", ["sam", "sid"])
def test_shares_and_areas_are_those_of_the_class_map(site: Path, parsed: Page, metric: str) -> None:
    products = runs.products(site)
    label = products[f"{metric}_class"].values
    valid = int((label != 255).sum())
    head, *rows = parsed.rows[metric]
    assert head == ["class", "share", "area"]
    assert [row[0] for row in rows] == ["unclassified", *map(str, products.endmember.values)]
    for value, (_, share, area) in enumerate(rows):
        pixels = int((label == value).sum())
        assert area == f"{pixels:,} m² ({pixels / 1e4:.2f} ha)"  # pixels of a square metre
        assert abs(float(share.strip("<% ")) - 100 * pixels / valid) <= 0.0051
    assert sum(int((label == value).sum()) for value in range(len(rows))) == valid


def test_area_follows_the_size_of_a_pixel(site: Path) -> None:
    raster = open_results(site).grid
    other = type(raster)(raster.left, raster.top, 5.0, 4.0, raster.rows, raster.cols, "m")
    assert tables.area(1000, other) == "20,000 m² (2.00 ha)"
    degrees = type(raster)(0.0, 0.0, 0.1, 0.1, 5, 5, "degrees_east")
    assert tables.area(1000, degrees) == "1,000 px"


def test_disagreement(site: Path, parsed: Page) -> None:
    products = runs.products(site)
    sam, sid = products.sam_class.values, products.sid_class.values
    sam, sid = sam[sam != 255].astype(int), sid[sid != 255].astype(int)
    rows = {row[0]: row for row in parsed.rows["agreement"] if len(row) == 3}
    expected = {
        "same class": (sam == sid) & (sam > 0),
        "different classes": (sam != sid) & (sam > 0) & (sid > 0),
        "only SAM gives a class": (sam > 0) & (sid == 0),
        "only SID gives a class": (sam == 0) & (sid > 0),
        "neither gives a class": (sam == 0) & (sid == 0),
    }
    assert sum(int(each.sum()) for each in expected.values()) == len(sam)
    assert expected["only SAM gives a class"].any() or expected["only SID gives a class"].any()
    for name, where in expected.items():
        assert rows[name][2].startswith(f"{int(where.sum()):,} m²")
    # the commonest difference
    names = ["unclassified", *map(str, products.endmember.values)]
    counts = {(i, j): int(((sam == i) & (sid == j)).sum()) for i in range(5) for j in range(5) if i != j}
    most = max(counts.values())
    first = next(row for row in parsed.rows["agreement"] if len(row) == 4 and row[0] != "SAM")
    assert first[2] == f"{most:,}"
    assert counts[names.index(first[0]), names.index(first[1])] == most


def test_what_was_left_out(site: Path, parsed: Page) -> None:
    products, run = runs.products(site), json.loads((site / "run.json").read_text())
    valid = int(np.isfinite(products.rmse.values).sum())
    inside = 2 * 90 * 70 - 10 * 70  # 10 columns and 70 rows are in both tiles
    rows = {row[0]: row[1:] for row in parsed.rows["left-out"]}
    assert rows["pixels of the map"][0] == f"{products.rmse.size:,}"
    assert rows["unmixed"][0] == f"{valid:,}"
    assert rows["in a tile, but without data or masked"][0] == f"{inside - valid:,}"
    assert rows["in no tile"][0] == f"{products.rmse.size - inside:,}"
    ((name, share),) = run["masks"].items()
    assert share > 0 and rows[name] == [tables.percent(share)]


def test_sums_of_blocks_are_those_of_the_whole(site: Path) -> None:
    stored, whole = open_results(site).products, runs.products(site)
    for name in (schema.RMSE, schema.ABUNDANCE):
        stored[name].encoding.pop("preferred_chunks", None)
    stored.rmse.encoding["preferred_chunks"] = {"y": 17, "x": 23}  # blocks that no cell of a picture fits
    found = map_statistics.read_statistics(stored, 40, 24, 4 * 30 * 30)
    known = np.isfinite(whole.rmse.values)
    assert found.valid == known.sum()
    np.testing.assert_allclose(found.mean, whole.abundance.mean(("y", "x")).values, rtol=1e-6)
    for index, histogram in enumerate(found.abundance):
        values = whole.abundance.values[index][known].astype(float)
        assert (histogram.low, histogram.high) == (values.min(), values.max())  # the range of the data
        expected, _ = np.histogram(values, map_statistics.BINS, (values.min(), values.max()))
        np.testing.assert_array_equal(histogram.counts, expected)
    step = found.step
    assert step > 1
    coarse = whole.rmse.coarsen(y=step, x=step, boundary="pad").mean()
    np.testing.assert_allclose(found.rmse_picture, coarse.values, rtol=1e-5)
    small = found.abundance_step
    coarse = whole.abundance.coarsen(y=small, x=small, boundary="pad").mean()
    np.testing.assert_allclose(found.abundance_pictures, coarse.values, rtol=1e-4, atol=1e-6)
    for name in (schema.SAM_CLASS, schema.SID_CLASS):
        rows, cols = (map_statistics.samples(whole.sizes[dim], step) for dim in ("y", "x"))
        np.testing.assert_array_equal(found.class_pictures[name], whole[name].values[np.ix_(rows, cols)])
        np.testing.assert_array_equal(found.classes[name], np.bincount(whole[name].values.ravel(), minlength=256))


def test_only_the_most_abundant_are_drawn(site: Path) -> None:
    found = map_statistics.read_statistics(open_results(site).products, 800, 2, 1_500_000)
    assert sorted(found.mean[list(found.drawn)]) == sorted(found.mean)[-2:]
    assert len(found.abundance_pictures) == 2


def test_colors_are_the_tiles(site: Path) -> None:
    results = open_results(site)
    placed, missing = quicklook.place_tiles(results.tiles, results.grid)
    assert not missing and [tile.file.path for tile in placed] == sorted(results.tiles)
    rows, cols = np.arange(0, results.grid.rows, 3), np.arange(1, results.grid.cols, 2)
    colors, damaged = quicklook.read_colors(placed, rows, cols)
    whole = np.full((results.grid.rows, results.grid.cols, 3), np.nan)
    for path in sorted(results.tiles, reverse=True):  # the first by name is on top
        with h5py.File(path) as file:
            origin = ORIGINS[Path(path).name]
            top, left = int(4307000 - origin[1]), int(origin[0] - 368000)
            data = file["SERC/Reflectance/Reflectance_Data"][:]
            nm = file["SERC/Reflectance/Metadata/Spectral_Data/Wavelength"][:]
            bands = [int(np.abs(nm - wanted).argmin()) for wanted in (660, 550, 480)]
            values = np.where(data == -9999, np.nan, data / 10000.0)[..., bands]
            whole[top : top + 90, left : left + 70] = values
    assert damaged == 0
    np.testing.assert_allclose(colors, whole[np.ix_(rows, cols)], rtol=1e-6)


def test_decoded_bytes_are_told_beforehand(site: Path) -> None:
    from tests.helpers.tiles import Counter

    results = open_results(site)
    placed, _ = quicklook.place_tiles(results.tiles, results.grid)
    rows, cols = np.arange(0, results.grid.rows, 40), np.arange(0, results.grid.cols, 50)
    with Counter() as counter:
        quicklook.read_colors(placed, rows, cols)
    assert quicklook.decoded_bytes(placed, rows, cols) == counter.bytes > 0


def test_a_damaged_chunk_leaves_a_hole(site: Path, tmp_path: Path) -> None:
    tile = tmp_path / "NEON_a_reflectance.h5"
    shutil.copy(open_results(site).tiles[0], tile)
    with h5py.File(tile) as file:
        data = file["SERC/Reflectance/Reflectance_Data"]
        info = data.id.get_chunk_info_by_coord((16, 21, 0))
    with open(tile, "r+b") as raw:
        raw.seek(info.byte_offset)
        raw.write(b"\0" * min(info.size, 64))
    results = open_results(site)
    placed, _ = quicklook.place_tiles([str(tile)], results.grid)
    good, _ = quicklook.place_tiles(results.tiles[:1], results.grid)
    rows, cols = np.arange(90), np.arange(70)
    colors, damaged = quicklook.read_colors(placed, rows, cols)
    whole, _ = quicklook.read_colors(good, rows, cols)
    assert damaged == 1
    whole[16:32, 21:42] = np.nan
    np.testing.assert_array_equal(colors, whole)


def test_without_the_tiles(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(site, out)
    run = json.loads((out / "run.json").read_text())
    kept = run["options"]["tiles"]
    run["options"]["tiles"] = [str(tmp_path / Path(tile).name) for tile in kept]
    (out / "run.json").write_text(json.dumps(run))
    found = Page(write_report(out).read_text(encoding="utf-8"))
    assert "none of the tiles can be read" in found.text and str(tmp_path / "NEON_a") in found.text
    assert found.rows["sam"] == Page((site / "report.html").read_text()).rows["sam"]
    # told where they are now, it has them
    again = Page(write_report(out, kept).read_text(encoding="utf-8"))
    assert "none of the tiles" not in again.text and "2 tiles" in again.text


def test_a_tile_elsewhere_is_not_of_this_run(site: Path, tmp_path: Path) -> None:
    far = small_tile(tmp_path / "NEON_far_reflectance.h5", origin=(500000.0, 4307000.0))
    between = small_tile(tmp_path / "NEON_half_reflectance.h5", origin=(368000.5, 4307000.0))
    placed, missing = quicklook.place_tiles([str(far), str(between)], open_results(site).grid)
    assert not placed
    assert "beside the maps" in missing[0][1] and "between the pixels" in missing[1][1]


def test_the_command_repeats_the_run(site: Path, parsed: Page) -> None:
    from typer.testing import CliRunner

    from hsichunk.cli.main import app

    command = tables.command(open_results(site))
    assert command in parsed.text
    words = shlex.split(command)
    assert words[:2] == ["hsichunk", "run"] and "--mask" in words and "--seed" not in words
    ended = CliRunner().invoke(app, words[1:])
    assert ended.exit_code == 0, ended.output
    assert "nothing left to do" in ended.output  # the folder holds what these words ask for


def test_the_command_tells_sizes_and_ranges(site: Path) -> None:
    results = open_results(site)
    changed = replace(results.record.options, drop=((900.0, 1000.5),), drop_last=3, memory=512_000_000)
    command = tables.command(replace(results, record=replace(results.record, options=changed)))
    assert "--drop 900.0:1000.5 --drop-last 3" in command and "--memory 512MB" in command


def test_endmembers_are_marked_where_they_lie(site: Path) -> None:
    results = open_results(site)
    marks = overlay.marks(results)
    assert [mark.name for mark in marks] == results.names
    unit = 1000 / max(results.grid.rows, results.grid.cols)
    for index, mark in enumerate(marks):
        row, col = mark.y / unit - 0.5, mark.x / unit - 0.5
        assert results.products.x.values[round(col)] == results.endmembers.x[index]
        assert results.products.y.values[round(row)] == results.endmembers.y[index]
    lines = [(mark.x, mark.line) for mark in marks]
    for i, (x, y) in enumerate(lines):  # no name on another
        assert all(abs(x - a) >= overlay.LABEL[0] or abs(y - b) >= overlay.LABEL[1] - 0.1 for a, b in lines[:i])


def test_dropped_windows() -> None:
    every = np.arange(400.0, 1000.0, 5.0)
    kept = every[((every < 600) | (every > 650)) & (every < 980)]
    assert charts.gaps(kept, every) == [(595.0, 655.0), (975.0, 995.0)]
    assert charts.gaps(kept) == [(595.0, 655.0)]
    assert charts.gaps(every[::3], None) == []


def test_agreement_of_every_pair() -> None:
    sam = np.array([[1, 1, 2, 0, 0, 255]], np.uint8)
    sid = np.array([[1, 2, 0, 3, 0, 255]], np.uint8)
    expected = [pictures.AGREE, pictures.DIFFER, pictures.ONLY_FIRST, pictures.ONLY_SECOND, pictures.NEITHER, 5]
    assert pictures.agreement(sam, sid).tolist() == [expected]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_picture_keeps_its_pixels() -> None:
    values = np.array([[0.0, 0.5, 1.0], [np.nan, 2.0, -1.0]], np.float32)
    uri = pictures.shade(values, 0.0, 1.0, "viridis")
    with MemoryFile(base64.b64decode(uri.split(",")[1])) as memory, memory.open() as raster:
        index, colors = raster.read(1), raster.colormap(1)
    assert colors[index[0, 0]][:3] == colors[index[1, 2]][:3] == (68, 1, 84)  # viridis begins so
    assert colors[index[0, 2]][:3] == colors[index[1, 1]][:3] == (253, 231, 37)
    assert [colors[i][3] for i in index[:, 0]] == [255, 0]


def test_names_are_escaped(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(site, out)
    run = json.loads((out / "run.json").read_text())
    run["site"]["name"] = "<script>alert(1)</script>"
    (out / "run.json").write_text(json.dumps(run))
    assert "<script" not in write_report(out).read_text(encoding="utf-8")


def test_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(HsiError, match=r"run\.json"):
        write_report(tmp_path)


def test_endmembers_of_each_tile(tmp_path: Path) -> None:
    tiles = [small_tile(tmp_path / name, origin=origin) for name, origin in ORIGINS.items()]
    runs.go(tiles, tmp_path / "out", per_tile=True, share=1.0, relative=True, k=3)
    found = Page(write_report(tmp_path / "out").read_text(encoding="utf-8"))
    assert found.wrong == [] and found.open == []
    assert [row[0] for row in found.rows["endmembers"][1:]] == [
        f"{name.removesuffix('.h5')} EM{i}" for name in ORIGINS for i in (1, 2, 3)
    ]
    assert "over the range of all classes" in found.text


def test_one_value_and_no_value() -> None:
    """Maps without a range, or without a pixel that has data, are no error."""
    shape = (20, 30)
    rmse = np.full(shape, np.nan, np.float32)
    for fill in (np.nan, 0.25):
        rmse[:] = fill
        label = np.full(shape, 255 if np.isnan(fill) else 1, np.uint8)
        products = xr.Dataset(
            {
                "abundance": (("endmember", "y", "x"), np.stack([rmse, rmse])),
                "rmse": (("y", "x"), rmse),
                "sam_class": (("y", "x"), label),
                "sid_class": (("y", "x"), label),
            }
        )
        found = map_statistics.read_statistics(products, 800, 24, 1_500_000)
        assert found.valid == (0 if np.isnan(fill) else 600)
        assert found.rmse.low < found.rmse.high and found.rmse.counts.sum() == found.valid
        for log in (False, True):
            assert charts.histogram(found.rmse, "rmse", "#000000", log).startswith("data:image/svg+xml")


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1300])
def test_in_a_browser(site: Path, tmp_path: Path, width: int) -> None:
    """Nothing asked for, no complaint, every picture drawn, nothing wider than the screen, the toggle toggles."""
    with Browser(tmp_path, width=width) as browser:
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        browser.open((site / "report.html").as_uri())
        drawn = "[...document.images].every(i => i.complete && (i.naturalWidth > 0 || !i.offsetParent))"
        browser.until(drawn)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        shown = "[...document.querySelectorAll('#abundance .log')].map(e => e.offsetHeight > 0).join()"
        assert browser.evaluate(shown) == "false,false,false,false"
        browser.evaluate("document.getElementById('log-abundance').click()")
        assert browser.evaluate(shown) == "true,true,true,true"
        assert browser.evaluate("document.querySelector('#abundance .lin').offsetHeight") == 0
        browser.until("[...document.images].every(i => i.complete)")
        assert browser.complaints == []
        assert {address.split(":")[0] for address in browser.asked} <= {"file", "data", "about"}
