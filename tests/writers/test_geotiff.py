"""Maps as GeoTIFF: the same bits in the same place for rasterio, rioxarray and GDAL itself; whole or not at all."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dask
import dask.array as da
import dask.local
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.env import get_gdal_config, set_gdal_config

from hsichunk import schema
from hsichunk.classification.palette import UNCLASSIFIED_COLOR, class_colors
from hsichunk.errors import HsiError
from hsichunk.writers import cog
from hsichunk.writers.band_statistics import BandStatistics
from hsichunk.writers.geotiff import write_geotiff
from hsichunk.writers.zarr_store import write_zarr
from tests.helpers.maps import EPSG, NAMES, abundance, bits, blocks_written, class_map, located
from tests.helpers.written import kill_while_writing, listing


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Call it with a size: from there on no file of this process may grow larger, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- the same bits, in the same place -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, {"y": 32, "x": 33}, {"y": (1, 60, 9), "endmember": 3}])
def test_rasterio_reads_the_same_bits_place_and_labels(tmp_path: Path, chunks: Any) -> None:
    data = abundance()
    path = write_geotiff(data if chunks is None else data.chunk(chunks), tmp_path / "abundance.tif")
    assert path == tmp_path / "abundance.tif"
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(bits(raster.read()), bits(data.values))
        assert raster.dtypes == ("float32",) * 4
        assert raster.crs == rasterio.CRS.from_epsg(EPSG)
        assert raster.transform == Affine(1, 0, 368000, 0, -1, 4307000)
        assert tuple(raster.bounds) == (368000, 4307000 - 70, 368000 + 90, 4307000)
        assert raster.descriptions == tuple(NAMES)
        assert raster.units == ("1",) * 4
        assert all(np.isnan(value) for value in raster.nodatavals)
        assert raster.tags()["long_name"] == data.attrs["long_name"]
        assert raster.tags()["AREA_OR_POINT"] == "Area"
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert raster.profile["tiled"]
    assert listing(tmp_path) == {"abundance.tif"}


def test_rioxarray_reads_the_same_coordinates(tmp_path: Path) -> None:
    data = abundance()
    write_geotiff(data, tmp_path / "a.tif")
    with rioxarray.open_rasterio(tmp_path / "a.tif") as back:
        np.testing.assert_array_equal(back.y, data.y)
        np.testing.assert_array_equal(back.x, data.x)
        assert back.rio.crs == data.rio.crs
        assert back.rio.transform() == data.rio.transform()
        assert back.rio.bounds() == data.rio.bounds()
        assert np.isnan(back.rio.nodata)
        assert back.attrs["long_name"] == tuple(NAMES)
        np.testing.assert_array_equal(bits(back.values), bits(data.values))


def gdalinfo(*arguments: str) -> str:
    tool = shutil.which("gdalinfo")
    if tool is None:
        pytest.skip("GDAL's command line tools are not here")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


def test_gdal_sees_place_names_palette_and_categories(tmp_path: Path) -> None:
    write_geotiff(abundance(), tmp_path / "a.tif")
    info = json.loads(gdalinfo("-json", str(tmp_path / "a.tif")))
    assert info["geoTransform"] == [368000, 1, 0, 4307000, 0, -1]
    assert rasterio.CRS.from_wkt(info["coordinateSystem"]["wkt"]).to_epsg() == EPSG
    assert [band["description"] for band in info["bands"]] == NAMES
    assert [band["unit"] for band in info["bands"]] == ["1"] * 4
    assert [band["noDataValue"] for band in info["bands"]] == ["NaN"] * 4
    write_geotiff(class_map(), tmp_path / "c.tif")
    text = gdalinfo(str(tmp_path / "c.tif"))
    assert "LAYOUT=COG" in text
    assert "NoData Value=255" in text
    categories = text.split("Categories:")[1].split("Color Table")[0].split("\n")
    found = [line.strip() for line in categories if line.strip()]
    assert found == ["0: unclassified", "1: EM1", "2: EM2", "3: water_&_ice", "4: forêt"]
    assert "1: 230,159,0,255" in text


def test_class_maps_have_palette_names_and_no_data(tmp_path: Path) -> None:
    data = class_map()
    write_geotiff(data.chunk(y=20), tmp_path / "sam_class.tif")
    with rasterio.open(tmp_path / "sam_class.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), data.values)
        assert (raster.dtypes, raster.nodata, raster.descriptions) == (("uint8",), 255, ("sam_class",))
        assert raster.colorinterp == (rasterio.enums.ColorInterp.palette,)
        table = raster.colormap(1)
        assert [table[value][:3] for value in range(5)] == [tuple(color) for color in class_colors(4).tolist()]
        assert table[0][:3] == UNCLASSIFIED_COLOR
        assert raster.dataset_mask()[:, :5].max() == 0
        assert raster.dataset_mask()[:, 5:].min() == 255
    names = ElementTree.parse(tmp_path / "sam_class.tif.aux.xml").findall(
        "PAMRasterBand[@band='1']/CategoryNames/Category"
    )
    assert [element.text for element in names] == ["unclassified", "EM1", "EM2", "water_&_ice", "forêt"]
    assert listing(tmp_path) == {"sam_class.tif", "sam_class.tif.aux.xml"}


def test_the_table_of_classes_is_what_qgis_makes_its_legend_of(tmp_path: Path) -> None:
    """Without it a legend shows all 256 colours of the palette; Value, Name and colours are what QGIS asks for."""
    data = class_map()
    write_geotiff(data.chunk(y=20, x=33), tmp_path / "c.tif")
    table = json.loads(gdalinfo("-json", str(tmp_path / "c.tif")))["rat"]
    usages = {field["name"]: field["usage"] for field in table["fieldDefn"]}
    assert usages == {"Value": 5, "Count": 1, "Class": 2, "Red": 6, "Green": 7, "Blue": 8, "Alpha": 9}
    rows = [row["f"] for row in table["row"]]
    counts = [int((data == value).sum()) for value in range(5)]
    names = ["unclassified", "EM1", "EM2", "water_&_ice", "forêt"]
    colors = class_colors(4).tolist()
    assert rows == [[v, counts[v], names[v], *colors[v], 255] for v in range(5)]
    assert sum(counts) == data.size - 5 * 70
    with rasterio.open(tmp_path / "c.tif") as raster:
        assert not [name for name in raster.tags(1) if name.startswith("STATISTICS")]


def test_a_class_map_back_from_zarr_is_written_alike(tmp_path: Path) -> None:
    stored = write_zarr(class_map(), tmp_path / "c.zarr")
    for data, name in [(class_map(), "1.tif"), (stored.sam_class, "2.tif")]:
        write_geotiff(data, tmp_path / name)
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "2.tif").read_bytes()
    assert (tmp_path / "1.tif.aux.xml").read_bytes() == (tmp_path / "2.tif.aux.xml").read_bytes()


def test_as_many_classes_as_there_can_be(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    meanings = " ".join(["unclassified", *(f"EM{i}" for i in range(1, 255)), "no_data"])
    data = located(values, "sid_class", flag_values=np.arange(256, dtype=np.uint8), flag_meanings=meanings)
    write_geotiff(data, tmp_path / "c.tif")
    with rasterio.open(tmp_path / "c.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), values)
        assert len({raster.colormap(1)[value] for value in range(255)}) == 255


def test_flags_without_meanings_are_refused(tmp_path: Path) -> None:
    data = class_map()
    data.attrs["flag_meanings"] = "unclassified EM1"
    with pytest.raises(HsiError, match="6 flag_values, 2 flag_meanings"):
        write_geotiff(data, tmp_path / "c.tif")
    assert listing(tmp_path) == set()


def test_overviews_average_numbers_and_vote_on_classes(tmp_path: Path) -> None:
    numbers = np.zeros((600, 600), np.float32)
    numbers[0, 1], numbers[1, 0], numbers[1, 1] = 3, 6, np.nan
    write_geotiff(located(numbers, "rmse"), tmp_path / "rmse.tif")
    with rasterio.open(tmp_path / "rmse.tif", overview_level=0) as raster:
        assert raster.shape == (300, 300)
        assert raster.read(1)[0, 0] == 3  # of the three that are not missing
    classes = np.full((600, 600), 4, np.uint8)
    classes[:2, :2] = [[1, 3], [3, 2]]
    data = class_map(600, 600).copy(data=classes)
    write_geotiff(data, tmp_path / "c.tif")
    with rasterio.open(tmp_path / "c.tif", overview_level=0) as raster:
        assert raster.read(1)[0, 0] == 3


def test_bands_of_a_cube_carry_their_wavelengths(tmp_path: Path) -> None:
    cube = located(np.ones((3, 8, 9), np.float32), "reflectance").rename(endmember="wavelength")
    cube = cube.assign_coords(wavelength=[381.5, 550.0, 2100.25]).transpose("y", "x", "wavelength")
    write_geotiff(cube, tmp_path / "cube.tif")
    with rasterio.open(tmp_path / "cube.tif") as raster:
        assert raster.descriptions == ("381.5 nm", "550 nm", "2100.25 nm")
        assert raster.tags(3)["wavelength"] == "2100.25"
        assert raster.tags(3)["wavelength_units"] == "nm"
        assert float(raster.tags(3, ns="IMAGERY")["CENTRAL_WAVELENGTH_UM"]) == 2.10025


def test_dimensions_in_any_order_and_other_types(tmp_path: Path) -> None:
    data = abundance()
    write_geotiff(data.transpose("y", "endmember", "x"), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(), data.values)
    counts = (data.isel(endmember=0, drop=True).fillna(-0.9999) * 10000).round().astype(np.int16)
    counts.attrs[schema.NO_DATA] = -9999
    for array, dtype, no_data in [
        (counts, "int16", -9999),
        (counts > 5000, "uint8", 255),
        (counts.astype(">f8"), "float64", None),
        (counts.astype(np.float16), "float32", None),
    ]:
        write_geotiff(array, tmp_path / "t.tif")
        with rasterio.open(tmp_path / "t.tif") as raster:
            np.testing.assert_array_equal(raster.read(1), array.values)
            assert raster.dtypes == (dtype,)
            assert raster.nodata == no_data or np.isnan(raster.nodata)


# -- statistics ---------------------------------------------------------------------------------------------------


def items(path: Path, band: int = 1) -> dict[str, float]:
    with rasterio.open(path) as raster:
        tags = raster.tags(band)
    return {k.removeprefix("STATISTICS_"): float(v) for k, v in tags.items() if k.startswith("STATISTICS_")}


def test_each_band_carries_its_statistics(tmp_path: Path) -> None:
    data = abundance()
    data[1, 3, 7:] = np.inf  # no number to count
    write_geotiff(data.chunk(y=32, x=33), tmp_path / "a.tif")
    for band, values in enumerate(data.values, 1):
        good = values[np.isfinite(values)].astype(float).tolist()
        found = items(tmp_path / "a.tif", band)
        assert found["MINIMUM"] == min(good)
        assert found["MAXIMUM"] == max(good)
        assert found["MEAN"] == statistics.mean(good)
        assert found["STDDEV"] == pytest.approx(statistics.pstdev(good), rel=1e-15)
        assert found["VALID_PERCENT"] == pytest.approx(100 * len(good) / values.size, rel=1e-3)


def test_gdalinfo_shows_statistics_without_reading_pixels(tmp_path: Path) -> None:
    write_geotiff(abundance(), tmp_path / "a.tif")
    band = json.loads(gdalinfo("-json", str(tmp_path / "a.tif")))["bands"][2]
    values = abundance().values[2]
    assert (band["minimum"], band["maximum"]) == pytest.approx((np.nanmin(values), np.nanmax(values)), abs=1e-3)
    assert (band["mean"], band["stdDev"]) == pytest.approx((np.nanmean(values), np.nanstd(values)), abs=1e-3)
    assert listing(tmp_path) == {"a.tif"}


@pytest.mark.parametrize(
    "chunks", [{"y": 32, "x": 33}, {"y": (1, 60, 9), "endmember": 3}, {"x": 1, "y": 35}, {"y": -1}]
)
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_files_are_the_same_bytes_for_any_blocks(tmp_path: Path, chunks: Any, scheduler: str) -> None:
    data = abundance() ** 9  # a sum of such numbers depends on its order
    naive = data.values[0][~np.isnan(data.values[0])].astype(float)
    assert naive.cumsum()[-1] != naive[::-1].cumsum()[-1]
    write_geotiff(data, tmp_path / "1.tif")
    with dask.config.set(scheduler=scheduler, num_workers=3):
        write_geotiff(data.chunk(chunks), tmp_path / "2.tif")
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "2.tif").read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    values=arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.floats(width=32)),
    data=st.data(),
)
def test_sums_of_any_numbers_are_exact(values: np.ndarray[Any, Any], data: st.DataObject) -> None:
    cut, turn = data.draw(st.integers(0, len(values))), data.draw(st.booleans())
    parts = [values[None, :cut], values[None, cut:]]
    found = BandStatistics(1, float("nan"))
    for part in parts[::-1] if turn else parts:
        if part.size:
            found.add(0, part)
    good = [Fraction(float(v)) for v in values.ravel() if np.isfinite(v)]
    tags = {k.removeprefix("STATISTICS_"): float(v) for k, v in found.tags(0).items()}
    if not good:
        assert tags == {"VALID_PERCENT": 0}
        return
    mean = sum(good) / len(good)
    variance = sum((v - mean) ** 2 for v in good) / len(good)
    assert (tags["MINIMUM"], tags["MAXIMUM"]) == (min(good), max(good))
    assert tags["MEAN"] == float(mean)
    assert tags["STDDEV"] == math.sqrt(float(variance))


def test_many_pixels_of_many_sizes_are_summed_exactly() -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((3, 20_000)) * 10.0 ** rng.uniform(-30, 30, (3, 20_000))).astype(np.float32)
    found = BandStatistics(1, None)
    found.add(0, values[None])
    good = values.ravel().astype(float).tolist()
    assert float(found.tags(0)["STATISTICS_MEAN"]) == statistics.mean(good)
    assert float(found.tags(0)["STATISTICS_STDDEV"]) == pytest.approx(statistics.pstdev(good), rel=1e-15)
    large = BandStatistics(1, None)
    large.add(0, np.array([[[1e300, -1e300, 1.0]]]))
    assert large.tags(0) == {
        "STATISTICS_VALID_PERCENT": "100",
        "STATISTICS_MINIMUM": "-1e+300",
        "STATISTICS_MAXIMUM": "1e+300",
    }


def test_statistics_leave_out_no_data_and_say_nothing_of_nothing(tmp_path: Path) -> None:
    counts = located(np.array([[-9999, 2, 4], [9, -9999, 1]], np.int16), "counts", **{schema.NO_DATA: -9999})
    write_geotiff(counts, tmp_path / "i.tif")
    expected = {"MINIMUM": 1, "MAXIMUM": 9, "MEAN": 4, "STDDEV": math.sqrt(9.5), "VALID_PERCENT": 66.67}
    assert items(tmp_path / "i.tif") == expected
    write_geotiff(located(np.full((3, 4), np.nan, np.float32), "rmse"), tmp_path / "n.tif")
    assert items(tmp_path / "n.tif") == {"VALID_PERCENT": 0}
    nearly = np.ones((300, 300), np.float32)
    nearly[7, 7] = np.nan
    write_geotiff(located(nearly, "rmse"), tmp_path / "o.tif")
    expected = {"MINIMUM": 1, "MAXIMUM": 1, "MEAN": 1, "STDDEV": 0, "VALID_PERCENT": 99.99}
    assert items(tmp_path / "o.tif") == expected


# -- georeference -------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    pixel=st.tuples(st.sampled_from([1.0, 0.5, 30.0, 0.1]), st.sampled_from([1.0, 2.5, 60.0, 1 / 3])),
    flips=st.tuples(st.booleans(), st.booleans()),
    step=st.integers(1, 2),
    stored=st.booleans(),
    crs=st.sampled_from([None, 32618, 4326]),
)
def test_each_pixel_stays_where_its_coordinates_say(
    tmp_path_factory: Any,
    size: tuple[int, int],
    pixel: tuple[float, float],
    flips: tuple[bool, bool],
    step: int,
    stored: bool,
    crs: int | None,
) -> None:
    """Whatever was flipped or sliced after the transform was stored: rasterio finds each value at its y and x."""
    rows, columns = size[0] * step, size[1] * step
    y, x = 40 - (np.arange(rows) + 0.5) * pixel[0], -70 + (np.arange(columns) + 0.5) * pixel[1]
    data = xr.DataArray(
        np.arange(rows * columns, dtype=np.float32).reshape(rows, columns), {"y": y, "x": x}, ("y", "x")
    )
    if crs:
        data = data.rio.write_crs(crs)
    if stored:
        data = data.rio.write_transform()
    data = data.isel(y=slice(None, None, -1 if flips[0] else 1), x=slice(None, None, -1 if flips[1] else 1))
    data = data.isel(y=slice(None, None, step), x=slice(None, None, step))
    path = write_geotiff(data.chunk(y=2, x=3), tmp_path_factory.mktemp("g") / "g.tif")
    with rasterio.open(path) as raster:
        assert (raster.crs.to_epsg() if raster.crs else None) == crs
        assert raster.transform.e < 0 < raster.transform.a
        written = raster.read(1)
        for row in range(raster.height):
            for column in range(raster.width):
                east, north = raster.xy(row, column)
                found = data.sel(y=north, x=east, method="nearest", tolerance=1e-9)
                assert float(found) == written[row, column]


def test_a_stored_transform_is_kept_to_the_last_bit(tmp_path: Path) -> None:
    transform = Affine(1 / 3, 0, 0.1, 0, -1 / 7, 0.7)
    data = (
        xr.DataArray(np.zeros((7, 11), np.float32), dims=("y", "x")).rio.write_crs(4326).rio.write_transform(transform)
    )
    columns, rows = np.arange(11) + 0.5, np.arange(7) + 0.5
    centred = data.assign_coords(x=0.1 + columns / 3, y=0.7 - rows / 7)
    for array in (data, centred):
        write_geotiff(array, tmp_path / "t.tif")
        with rasterio.open(tmp_path / "t.tif") as raster:
            assert raster.transform == transform


def test_ascending_rows_keep_a_stored_transform_exactly(tmp_path: Path) -> None:
    up = (
        located(np.arange(12, dtype=np.float32).reshape(3, 4), "rmse")
        .isel(y=slice(None, None, -1))
        .rio.write_transform()
    )
    assert up.rio.transform(recalc=True).e > 0
    write_geotiff(up, tmp_path / "t.tif")
    with rasterio.open(tmp_path / "t.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), up.values[::-1])
        assert raster.transform == Affine(1, 0, 368000, 0, -1, 4307000)


def test_data_without_coordinates_are_written_without_a_place(tmp_path: Path) -> None:
    write_geotiff(xr.DataArray(np.ones((3, 4), np.float32), dims=("y", "x")), tmp_path / "t.tif")
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "t.tif") as raster,
    ):
        assert raster.crs is None
        assert raster.transform == Affine.identity()


def test_one_row_or_one_pixel(tmp_path: Path) -> None:
    data = located(np.arange(12, dtype=np.float32).reshape(3, 4), "rmse")
    for part in (data[1:2], data[:, 3:], data[2:, 2:3]):
        write_geotiff(part, tmp_path / "t.tif")
        with rasterio.open(tmp_path / "t.tif") as raster:
            assert raster.bounds == (part.x[0] - 0.5, part.y[-1] - 0.5, part.x[-1] + 0.5, part.y[0] + 0.5)
            np.testing.assert_array_equal(raster.read(1), part.values)
    bare = data.drop_vars("spatial_ref")
    write_geotiff(bare[1:2], tmp_path / "t.tif")
    with rasterio.open(tmp_path / "t.tif") as raster:
        assert raster.transform == Affine(1, 0, 368000, 0, -1, 4306999)
    with pytest.raises(HsiError, match="one pixel does not tell its size"):
        write_geotiff(bare[1:2, 1:2], tmp_path / "t.tif")


def test_uneven_coordinates_are_refused(tmp_path: Path) -> None:
    data = abundance().isel(y=[0, 1, 2, 4])
    with pytest.raises(HsiError, match="coordinate y is not evenly spaced") as caught:
        write_geotiff(data, tmp_path / "t.tif")
    assert "\n" not in str(caught.value)
    for bad in (np.nan, np.inf):
        y = data.y.values.copy()
        y[1] = bad
        with pytest.raises(HsiError, match="coordinate y is not evenly spaced"):
            write_geotiff(data.assign_coords(y=y), tmp_path / "t.tif")


# -- computed once, in bounded memory -----------------------------------------------------------------------------


class Watched:
    """A map of 8 x 4 blocks that counts how often each is made, and how many are made but not yet written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: dict[tuple[int, ...], int] = {}
        self.alive = self.most_alive = self.largest_write = 0
        self._lock = threading.Lock()
        write = cog.Blocks.__setitem__

        def watched_write(windows: Any, region: Any, block: Any) -> None:
            write(windows, region, block)
            with self._lock:
                self.alive -= block.size // 400
                self.largest_write = max(self.largest_write, block.size)

        monkeypatch.setattr(cog.Blocks, "__setitem__", watched_write)
        blocks = da.zeros((160, 80), chunks=20, dtype="float32")
        self.data = located(blocks.map_blocks(self._make, meta=np.empty((0, 0), "f4")), "rmse")

    def _make(self, block: Any, block_info: Any = None) -> Any:
        place = tuple(block_info[0]["chunk-location"])
        with self._lock:
            self.calls[place] = self.calls.get(place, 0) + 1
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
        return block + place[0] * 10 + place[1]

    def check(self, path: Path) -> None:
        assert len(self.calls) == 32
        assert set(self.calls.values()) == {1}
        expected = np.repeat(np.repeat(np.arange(8)[:, None] * 10 + np.arange(4), 20, 0), 20, 1)
        with rasterio.open(path) as raster:
            np.testing.assert_array_equal(raster.read(1), expected)


def test_threads_compute_each_block_once_and_hold_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    with dask.config.set(scheduler="threads", num_workers=2):
        watched.check(write_geotiff(watched.data, tmp_path / "t.tif"))
    assert watched.most_alive <= 4
    assert watched.largest_write == 400


def test_tasks_that_several_blocks_share_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.check(write_geotiff(watched.data.chunk(y=7), tmp_path / "t.tif"))


def test_other_schedulers_hand_back_one_row_of_blocks_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def elsewhere(graph: Any, keys: Any, **options: Any) -> Any:
        runs.append(keys)
        return dask.local.get_sync(graph, keys, **options)

    watched = Watched(monkeypatch)
    with dask.config.set(scheduler=elsewhere):
        watched.check(write_geotiff(watched.data, tmp_path / "t.tif"))
    assert len(runs) == 8
    assert watched.most_alive == 4
    assert watched.largest_write == 1600


def test_a_cluster_writes_the_same(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    write_geotiff(abundance(), tmp_path / "1.tif")
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        distributed.Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None),
    ):
        write_geotiff(abundance().chunk(y=20, x=30), tmp_path / "2.tif")
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "2.tif").read_bytes()


@pytest.mark.parametrize("bands", [4, None])
def test_lazy_data_without_dask_are_never_loaded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bands: int | None
) -> None:
    written = blocks_written(monkeypatch, cog.Blocks)
    plain = abundance().drop_vars("endmember") if bands else abundance()[0].drop_vars("endmember")
    chunks = {"abundance": {"chunks": (4, 20, 90)[-plain.ndim :]}}
    plain.to_dataset().to_zarr(tmp_path / "a.zarr", encoding=chunks, consolidated=False)
    with xr.open_zarr(tmp_path / "a.zarr", chunks=None, consolidated=False) as opened:
        write_geotiff(opened.abundance, tmp_path / "t.tif")
        assert not opened.abundance.variable._in_memory
    n = bands or 1
    assert sorted(written) == [(n, 10, 90), (n, 20, 90), (n, 20, 90), (n, 20, 90)]
    with rasterio.open(tmp_path / "t.tif") as raster:
        np.testing.assert_array_equal(raster.read(), plain.values.reshape(n, 70, 90))


def test_gdal_has_a_small_cache_while_writing_and_its_own_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    write = cog.Blocks.__setitem__

    def watched(windows: Any, region: Any, block: Any) -> None:
        seen.append(get_gdal_config("GDAL_CACHEMAX"))
        write(windows, region, block)

    monkeypatch.setattr(cog.Blocks, "__setitem__", watched)
    with rasterio.Env():
        usual = get_gdal_config("GDAL_CACHEMAX")
        set_gdal_config("GDAL_CACHEMAX", 100_000_000)
        write_geotiff(abundance(), tmp_path / "t.tif")
        assert get_gdal_config("GDAL_CACHEMAX") == 100_000_000
        set_gdal_config("GDAL_CACHEMAX", usual)
    assert seen == [16 * 2**20]


# -- whole or not at all ------------------------------------------------------------------------------------------


def test_a_killed_write_never_looks_whole(tmp_path: Path) -> None:
    target = tmp_path / "t.tif"
    kill_while_writing(target)
    left = listing(tmp_path)
    assert all(name.startswith(".t.tif.") and name.endswith(".part") for name in left), left
    assert left, "nothing had been written when it was killed"
    write_geotiff(abundance(), target)
    before = target.read_bytes()
    kill_while_writing(target)
    assert target.read_bytes() == before


def failing(block: Any) -> Any:
    raise HsiError("chunk 7 of the tile is corrupt")


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    write_geotiff(class_map(), tmp_path / "old.tif")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    lazy = abundance().chunk(y=20)
    broken = lazy.copy(data=lazy.data.map_blocks(failing, meta=lazy.data._meta))
    for name in ("old.tif", "new.tif"):
        with pytest.raises(HsiError, match="chunk 7"):
            write_geotiff(broken, tmp_path / name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_replacing_may_read_what_it_replaces_and_takes_old_names_away(tmp_path: Path) -> None:
    target = tmp_path / "t.tif"
    write_geotiff(class_map(), target)
    (tmp_path / "t.tif.ovr").write_text("overviews that a GIS made of the old one")
    with rioxarray.open_rasterio(target, chunks={"y": 20}) as old:
        write_geotiff(old.astype("float32").drop_attrs(), target)
    assert listing(tmp_path) == {"t.tif"}
    with rasterio.open(target) as raster:
        np.testing.assert_array_equal(raster.read(1), class_map().values)
    with pytest.raises(HsiError, match=r"exists; .*overwrite"):
        write_geotiff(class_map(), target, overwrite=False)


def test_parents_are_made(tmp_path: Path) -> None:
    write_geotiff(abundance(), tmp_path / "a" / "b" / "t.tif", overwrite=False)
    assert listing(tmp_path / "a" / "b") == {"t.tif"}


@pytest.mark.parametrize("below", ["file.txt", "/proc"], ids=["below a file", "proc"])
def test_an_unwritable_place_is_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(HsiError, match=r"cannot write .*t\.tif") as caught:
        write_geotiff(abundance(), tmp_path / below / "x" / "t.tif")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file_name(tmp_path: Path) -> None:
    with pytest.raises(HsiError, match="is a folder"):
        write_geotiff(abundance(), tmp_path)


@pytest.mark.parametrize(
    ("values", "limit"),
    [("noise", 500_000), ("noise", 2_300_000), ("plain", 2_200_000)],
    ids=["blocks", "copy", "last blocks"],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, file_limit: Callable[[int], None], values: str, limit: int
) -> None:
    """Noise makes the copy larger than its source; of plain numbers only the source is too large, which GDAL hides."""
    noise = np.random.default_rng(0).integers(0, 2**32, (512, 1024), dtype=np.uint32).view(np.float32)
    plain = da.ones((600, 1000), dtype="float32", chunks=(250, 1000))  # tiles in parts: GDAL keeps them to the end
    data = located(noise if values == "noise" else plain, "rmse")
    file_limit(limit)
    with pytest.raises(HsiError, match=r"writing .*t\.tif failed") as caught:
        write_geotiff(data, tmp_path / "t.tif")
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == set()


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def watched_replace(old: Path, new: Path) -> None:
        done.append(f"{new.name} in place")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_geotiff(class_map(), tmp_path / "t.tif")
    names = ["t.tif", "t.tif.aux.xml", "t.tif.aux.xml in place", "t.tif in place", tmp_path.name]
    assert done == names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.to_dataset(), "one map, not a Dataset"),
        (lambda a: a.isel(y=0), "holds"),
        (lambda a: a.rename(y="row"), "holds"),
        (lambda a: a.expand_dims("time"), "holds"),
        (lambda a: a.isel(x=slice(0)), "no pixels"),
        (lambda a: a.astype(str), "holds numbers"),
        (lambda a: a.astype("datetime64[ns]"), "holds numbers"),
    ],
)
def test_what_a_geotiff_cannot_hold_is_refused(
    tmp_path: Path, change: Callable[[xr.DataArray], Any], message: str
) -> None:
    with pytest.raises(HsiError, match=message) as caught:
        write_geotiff(change(abundance().fillna(0)), tmp_path / "t.tif")
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == set()


def test_the_input_is_not_changed(tmp_path: Path) -> None:
    data = class_map()
    before = data.copy(deep=True)
    write_geotiff(data, tmp_path / "t.tif")
    xr.testing.assert_identical(data, before)
    assert data.encoding == before.encoding
