"""The viewer: what it draws is what is stored, and what its thresholds make is what hsi.classify makes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hsichunk as hsi
from hsichunk import schema
from hsichunk.errors import HsiError
from hsichunk.results.finished_run import open_results
from hsichunk.results.viewer import maps as maps_module
from hsichunk.results.viewer.maps import Maps, MapView
from hsichunk.results.viewer.server import serve
from hsichunk.run import config_file, options
from tests.helpers import runs
from tests.helpers.browser import Browser
from tests.helpers.tiles import small_tile

ORIGINS = {"NEON_a_reflectance.h5": (368000.0, 4307000.0), "NEON_b_reflectance.h5": (368060.0, 4306980.0)}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a masked run over two tiles that overlap."""
    folder = tmp_path_factory.mktemp("site")
    tiles = [small_tile(folder / name, origin=origin) for name, origin in ORIGINS.items()]
    runs.go(tiles, folder / "out", mask=["ndvi=-1:0.6"], share=1.0, sam_threshold=0.3, sid_threshold="0.4,0.3,0.2,0.1")
    return folder / "out"


@pytest.fixture
def maps(out: Path) -> Maps:
    return Maps(open_results(out))


@pytest.fixture(scope="module")
def whole(out: Path) -> xr.Dataset:
    return runs.products(out)


def everything(maps: Maps, pixels: int = maps_module.PIXELS) -> MapView:
    grid = maps.grid
    return maps.view(grid.left, grid.right, grid.bottom, grid.top, pixels)


def test_a_page_begins_with_what_is_there_at_once(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    assert maps.first == "RGB"
    monkeypatch.setattr(maps_module, "AT_ONCE", 1000)
    assert maps.first == "abundance EM1"


def test_view_is_what_is_looked_at(maps: Maps) -> None:
    grid = maps.grid
    assert (grid.rows, grid.cols) == (110, 130)
    view = maps.view(grid.left + 10.2, grid.left + 29.7, grid.top - 51.0, grid.top - 40.0)
    assert (view.rows, view.cols) == (range(40, 51), range(10, 30))
    assert maps.extent(view) == (grid.left + 10, grid.top - 51, 20, 11)
    beyond = maps.view(grid.left - 500, grid.right + 500, grid.bottom - 500, grid.top + 500)
    assert beyond == everything(maps) == (range(110), range(130))
    beside = maps.view(grid.right + 10, grid.right + 20, grid.bottom - 20, grid.bottom - 10)
    assert beside.shape == (1, 1)


@pytest.mark.parametrize("pixels", [1, 7, 100, 3000])
def test_view_has_the_pixels_of_the_screen(maps: Maps, pixels: int) -> None:
    for left in (0.0, 13.0, 57.0):
        grid = maps.grid
        view = maps.view(grid.left + left, grid.left + left + 60, grid.bottom, grid.top, pixels)
        high, wide = view.shape
        assert high * wide <= 4 * max(pixels, 1) and view.step & (view.step - 1) == 0
        # the same pixels wherever one looks: nothing flickers
        assert view.rows.start % view.step == view.cols.start % view.step == 0
        x, y, width, height = maps.extent(view)
        assert x <= grid.left + left and x + width >= min(grid.left + left + 60, grid.right)
        assert y <= grid.bottom and abs(y + height - grid.top) < 1e-6


@pytest.mark.parametrize("metric", ["sam", "sid"])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("given", [[0.2], [0.3, 0.05, 0.6, 0.0]])
@pytest.mark.parametrize("pixels", [10**6, 500])
def test_classes_are_those_of_classify(
    maps: Maps, whole: xr.Dataset, metric: str, relative: bool, given: list[float], pixels: int
) -> None:
    threshold: Any = given[0] if len(given) == 1 else given
    expected = hsi.classify(whole[metric], threshold, relative=relative).values
    view = everything(maps, pixels)
    labels = maps.labels(metric, view, given, relative)
    np.testing.assert_array_equal(labels, expected[np.ix_(view.rows, view.cols)])
    assert len(np.unique(labels)) > 2


@pytest.mark.parametrize("metric", ["sam", "sid"])
def test_thresholds_of_the_run_give_its_class_map(maps: Maps, whole: xr.Dataset, metric: str) -> None:
    labels = maps.labels(metric, everything(maps), maps.stored_thresholds()[metric])
    np.testing.assert_array_equal(labels, whole[f"{metric}_class"].values)


def test_maps_are_the_stored_ones(maps: Maps, whole: xr.Dataset) -> None:
    view = everything(maps)
    for index in range(4):
        np.testing.assert_array_equal(maps.abundance(index, view), whole.abundance.values[index])
    np.testing.assert_array_equal(maps.rmse(view), whole.rmse.values)
    part = maps.view(368010, 368050, 4306950, 4306990)
    np.testing.assert_array_equal(maps.rmse(part), whole.rmse.values[np.ix_(part.rows, part.cols)])


def test_far_out_the_geotiff_is_read(maps: Maps, whole: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "_stored", None)  # the store is not touched
    view = everything(maps, 4000)
    assert view.step == 2
    seen = maps.abundance(2, view)
    assert seen.shape == view.shape
    values = whole.abundance.values[2]
    known = np.isfinite(seen)
    assert known.sum() > 100
    # each is one of the four pixels that it stands for
    padded = np.pad(values, ((0, 0), (0, 0)), constant_values=np.nan)
    cells = padded.reshape(55, 2, 65, 2).transpose(0, 2, 1, 3).reshape(55, 65, 4)
    low, high = np.nanmin(cells[known], axis=-1), np.nanmax(cells[known], axis=-1)
    assert ((seen[known] >= low - 1e-6) & (seen[known] <= high + 1e-6)).all()


def test_pictures_have_colors_where_there_are_data(maps: Maps, whole: xr.Dataset) -> None:
    view = everything(maps)
    known = np.isfinite(whole.rmse.values)
    assert 0 < known.mean() < 1
    thresholds = maps.stored_thresholds()
    for layer in maps.layers:
        image = maps.picture(layer, view, thresholds)
        assert image.shape == (*known.shape, 4) and image.dtype == np.uint8
        if layer == "RGB":
            assert ((image[..., 3] == 255) >= known).all()  # masked pixels have a colour, too
        else:
            np.testing.assert_array_equal(image[..., 3], np.where(known, 255, 0))
    assert maps.layers == ["RGB", *(f"abundance EM{i}" for i in (1, 2, 3, 4)), "rmse", "SAM classes", "SID classes"]
    with pytest.raises(HsiError, match="layer is 'depth'"):
        maps.picture("depth", view, thresholds)


def test_class_colors_are_the_palette(maps: Maps, whole: xr.Dataset) -> None:
    from hsichunk.classification.palette import class_colors

    image = maps.picture("SID classes", everything(maps), maps.stored_thresholds())
    label = whole.sid_class.values
    for value in np.unique(label[label != 255]):
        assert (image[label == value][:, :3] == class_colors(4)[value]).all()


def test_pixel(maps: Maps, out: Path, whole: xr.Dataset) -> None:
    rows, cols = np.nonzero(np.isfinite(whole.rmse.values))
    em = runs.endmembers(out)
    for pick in (0, len(rows) // 2, len(rows) - 1):
        row, col = int(rows[pick]), int(cols[pick])
        x, y = float(whole.x[col]), float(whole.y[row])
        pixel = maps.pixel(x + 0.3, y - 0.4)
        assert pixel is not None and (pixel.row, pixel.col) == (row, col)
        name = next(n for n, (left, top) in ORIGINS.items() if 0 <= x - left < 70 and 0 <= top - y < 90)
        cube = hsi.clean(hsi.open_tile(out.parent / name))
        expected = cube.sel(x=x, y=y).values
        np.testing.assert_allclose(pixel.spectrum, expected, rtol=1e-6)
        abundance = whole.abundance.values[:, row, col]
        np.testing.assert_allclose(pixel.mixture, abundance @ em.values, rtol=1e-6)
        assert pixel.residual is not None
        assert np.sqrt(np.mean(pixel.residual**2)) == pytest.approx(whole.rmse.values[row, col], rel=1e-4)
        np.testing.assert_array_equal(pixel.distances["sid"], whole.sid.values[:, row, col].astype(float))


def test_pixel_masked_outside_and_beside_any_tile(maps: Maps, whole: xr.Dataset) -> None:
    assert maps.pixel(367999.0, 4306990.0) is None
    beside = maps.pixel(368100.5, 4306999.5)  # of the map, but of no tile
    assert beside is not None and beside.spectrum is None and "none of the tiles" in beside.why
    view = everything(maps)
    masked = ~np.isfinite(whole.rmse.values) & np.isfinite(maps.colors(view)).all(axis=-1)
    row, col = (int(v[0]) for v in np.nonzero(masked))
    pixel = maps.pixel(float(whole.x[col]), float(whole.y[row]))
    assert pixel is not None and pixel.spectrum is not None and np.isfinite(pixel.spectrum).all()
    assert np.isnan(pixel.mixture).all() and np.isnan(pixel.rmse)


def test_without_tiles(out: Path, tmp_path: Path) -> None:
    maps = Maps(open_results(out), [str(tmp_path / "gone.h5")])
    assert "RGB" not in maps.layers and len(maps.missing) == 1
    pixel = maps.pixel(368030.5, 4306950.5)
    assert pixel is not None and pixel.spectrum is None and pixel.residual is None
    assert pixel.mixture.shape == pixel.wavelength.shape


def test_endmembers_of_each_tile(tmp_path: Path) -> None:
    tiles = [small_tile(tmp_path / name, origin=origin) for name, origin in ORIGINS.items()]
    runs.go(tiles, tmp_path / "out", per_tile=True, share=1.0, k=3)
    maps, whole = Maps(open_results(tmp_path / "out")), runs.products(tmp_path / "out")
    known = np.isfinite(whole.rmse.values)
    for part in (slice(0, 60), slice(75, 130)):
        row, col = (int(v[len(v) // 2]) for v in np.nonzero(known[:, part]))
        pixel = maps.pixel(float(whole.x[part][col]), float(whole.y[row]))
        assert pixel is not None and pixel.residual is not None
        assert np.sqrt(np.mean(pixel.residual**2)) == pytest.approx(pixel.rmse, rel=1e-4)


def test_views_are_kept_up_to_a_limit(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    view = everything(maps)
    assert maps.distances("sam", view) is maps.distances("sam", view)
    size = maps.distances("sam", view).nbytes
    monkeypatch.setattr(maps_module, "CACHE", 2 * size)
    for left in range(0, 100, 10):
        part = maps.view(368000 + left, 368130, 4306890, 4307000)
        maps.distances("sid", part)
        assert sum(each.nbytes for each in maps._views.values()) <= 2 * size


def test_save(maps: Maps, out: Path) -> None:
    wanted = {"sam": [0.1, 0.2, 0.3, 0.4], "sid": [0.01, 0.02, 0.03, 0.04]}
    path = maps.save(wanted, False)
    try:
        assert Maps(open_results(out)).stored_thresholds() == wanted
        given = config_file.read(path, {"tiles": ["a.h5"], "out": "b"})
        made = options.build(given)
        assert list(made.sam_threshold) == wanted["sam"] and list(made.sid_threshold) == wanted["sid"]
        path.write_text(json.dumps({"sam_threshold": [0.1, 0.2]}))  # of another number of classes
        assert maps.stored_thresholds()["sam"] == [maps_module.DEFAULTS["sam"]] * 4
    finally:
        path.unlink()


def test_page_follows_its_controls(maps: Maps, whole: xr.Dataset) -> None:
    pytest.importorskip("bokeh", reason="the viewer needs bokeh (extra view)")
    from bokeh.document import Document

    from hsichunk.results.viewer.page import Page, packed

    shown = Page(Document(), maps)
    view = everything(maps)

    def drawn() -> Any:
        return shown._image.data["image"][0]

    np.testing.assert_array_equal(drawn(), packed(maps.picture("RGB", view, shown.thresholds())))
    shown._layer.value = "SID classes"
    label = hsi.classify(whole.sid, [0.4, 0.3, 0.2, 0.1]).values
    transparent = np.array(drawn())[::-1] >> 24 == 0  # rows from the bottom up, alpha in the highest byte
    np.testing.assert_array_equal(transparent, label == schema.CLASS_NO_DATA)
    before = np.array(drawn())
    shown._sliders["sid"][0].value = 0.0
    assert (np.array(drawn()) != before).any()
    assert shown.thresholds()["sid"] == [0.0, 0.3, 0.2, 0.1]
    counts = np.bincount(hsi.classify(whole.sid, [0.0, 0.3, 0.2, 0.1]).values.ravel(), minlength=256)
    assert f"EM2 {counts[2] / counts[:255].sum():.2%}" in shown._shares.text
    shown._together.active = [0]
    shown._sliders["sid"][1].value = 0.05
    assert shown.thresholds()["sid"] == [0.05] * 4
    # closer
    shown._x.start, shown._x.end, shown._y.start, shown._y.end = 368010, 368030, 4306950, 4306970
    shown._after_move()
    assert np.shape(drawn()) == (20, 20)
    shown.show_pixel(368020.5, 4306960.5)
    assert "row 39, column 20" in shown._about.text and len(shown._spectra.data["nm"]) > 20


def test_no_run(tmp_path: Path) -> None:
    pytest.importorskip("bokeh", reason="the viewer needs bokeh (extra view)")
    with pytest.raises(HsiError, match=r"run\.json"):
        serve(tmp_path)


def test_without_bokeh(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh.server.server", None)
    with pytest.raises(HsiError, match=r"hsichunk\[view\]"):
        serve(out)


@pytest.mark.long
def test_in_a_browser(out: Path, tmp_path: Path) -> None:
    """On loopback alone, no complaint; a click shows a spectrum, a slider moves the class map."""
    pytest.importorskip("bokeh", reason="the viewer needs bokeh (extra view)")
    script = "import sys; from hsichunk.results.viewer.server import view; view(sys.argv[1], browser=False)"
    server = subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.match(r"(http://127\.0\.0\.1:\d+/) ", server.stdout.readline())
        assert found
        with Browser(tmp_path) as browser:
            browser.open(found[1])
            browser.until("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
            models = "[...Bokeh.documents[0]._all_models.values()]"
            nm = f"{models}.find(m => m.type == 'ColumnDataSource' && 'nm' in m.data).data.nm.length"
            assert browser.evaluate(nm) == 0
            browser.listen(0.5)
            browser.click(300, 350)
            browser.until(f"{nm} > 20")
            browser.evaluate(f"{models}.find(m => m.type == 'Select').value = 'SAM classes'; 0")
            shares = f"{models}.filter(m => m.type == 'Div').map(m => m.text).find(t => t.includes('SAM classes'))"
            before = browser.until(shares)
            browser.evaluate(f"{models}.find(m => m.type == 'Slider' && m.title.startsWith('SAM EM1')).value = 0; 0")
            browser.until(f"({shares}) && ({shares}) != {json.dumps(before)}")
            assert browser.complaints == []
            hosts = {
                re.split(r"[/?,;]", address.split("//")[-1])[0] for address in browser.asked if "//" in address[:6]
            }
            assert hosts == {found[1].split("/")[2]}
    finally:
        server.terminate()
        server.communicate(timeout=20)
