"""Every raster of a run as others see it: gdalinfo, rio-cogeo, rasterio and rioxarray agree with the store."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr

from hsichunk import schema
from hsichunk.classification.palette import class_colors
from hsichunk.run.folder import FILES
from hsichunk.writers.geotiff import write_geotiff
from tests.helpers.runs import go, products
from tests.helpers.tiles import small_tile

MAPS = ("abundance", "rmse", "sam_class", "sid_class")
CLASSES = MAPS[2:]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over two tiles, one beside the other, with pixels without data."""
    folder = tmp_path_factory.mktemp("rasters")
    tiles = [
        small_tile(folder / "a.h5"),
        small_tile(folder / "b.h5", origin=(368070.0, 4307000.0)),
    ]
    go(tiles, folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def stored(out: Path) -> xr.Dataset:
    return products(out)


def gdalinfo(*words: Any) -> str:
    tool = shutil.which("gdalinfo")
    if tool is None:
        pytest.skip("GDAL's command line tools (gdal-bin) are not here")
    return subprocess.run([tool, *map(str, words)], capture_output=True, text=True, check=True).stdout


def cog_errors(path: Path) -> list[str]:
    cogeo = pytest.importorskip("rio_cogeo.cogeo", reason="rio-cogeo is not here")
    valid, errors, warnings = cogeo.cog_validate(path, strict=True, quiet=True)
    assert valid is not bool(errors or warnings)
    return [*errors, *warnings]


def names_of(stored: xr.Dataset, name: str) -> list[str]:
    """What the bands of a map are to be called."""
    return stored[schema.ENDMEMBER].values.tolist() if name == schema.ABUNDANCE else [name]


def test_these_are_all(out: Path) -> None:
    assert sorted(path.stem for path in out.glob("*.tif")) == sorted(MAPS)
    assert {f"{name}.tif" for name in MAPS} == {name for name in FILES if name.endswith(".tif")}


@pytest.mark.parametrize("name", MAPS)
def test_rio_cogeo_finds_no_fault(out: Path, name: str) -> None:
    assert cog_errors(out / f"{name}.tif") == []


@pytest.mark.parametrize("name", MAPS)
def test_rio_cogeo_finds_no_fault_in_one_with_overviews(stored: xr.Dataset, tmp_path: Path, name: str) -> None:
    rows, cols = np.arange(1100) % stored.sizes["y"], np.arange(1300) % stored.sizes["x"]
    large = stored[name].isel(y=rows, x=cols)
    large = large.assign_coords(y=4307000 - np.arange(1100) - 0.5, x=368000 + np.arange(1300) + 0.5)
    path = write_geotiff(large.chunk(y=300, x=500), tmp_path / f"{name}.tif")
    assert cog_errors(path) == []
    with rasterio.open(path) as raster:
        assert raster.overviews(1) == [2, 4, 8]
    plain = tmp_path / "plain.tif"
    rasterio.shutil.copy(path, plain, driver="GTiff")
    assert cog_errors(plain), "a GeoTIFF that is not cloud-optimised must be found out"


@pytest.mark.parametrize("name", MAPS)
def test_gdalinfo_and_rioxarray_agree_with_the_store(out: Path, stored: xr.Dataset, name: str) -> None:
    path, truth = out / f"{name}.tif", stored[name]
    bounds = truth.rio.bounds()
    no_data = 255 if name in CLASSES else np.nan
    info = json.loads(gdalinfo("-json", path))
    corners = info["cornerCoordinates"]
    bands = info["bands"]
    with rioxarray.open_rasterio(path) as seen:
        np.testing.assert_array_equal(seen.values, truth.values.reshape(seen.shape))
        assert seen.rio.crs == truth.rio.crs == rasterio.CRS.from_wkt(info["coordinateSystem"]["wkt"])
        assert seen.rio.crs.to_epsg() == 32618
        assert seen.rio.bounds() == bounds == (*corners["lowerLeft"], *corners["upperRight"])
        assert (seen.rio.width, seen.rio.height) == tuple(info["size"]) == (140, 90)
        assert list(seen.rio.transform().to_gdal()) == info["geoTransform"] == [368000, 1, 0, 4307000, 0, -1]
        np.testing.assert_equal(float(seen.rio.nodata), no_data)
        assert {band["noDataValue"] for band in bands} == {"NaN" if np.isnan(no_data) else no_data}
        labels = seen.attrs["long_name"]
        labels = [labels] if isinstance(labels, str) else list(labels)
    assert labels == [band["description"] for band in bands] == names_of(stored, name)
    assert {band.get("unit") for band in bands} == {truth.attrs.get("units")}
    assert {band["colorInterpretation"] for band in bands} <= (
        {"Palette"} if name in CLASSES else {"Gray", "Undefined"}
    )


@pytest.mark.parametrize("name", CLASSES)
def test_class_names_and_colours_reach_gdal(out: Path, stored: xr.Dataset, name: str) -> None:
    """Categories are what QGIS puts beside the palette, the table what newer ones make the legend of."""
    path = out / f"{name}.tif"
    names = ["unclassified", *stored[schema.ENDMEMBER].values.tolist()]
    colors = [[*color, 255] for color in class_colors(4).tolist()]
    info = json.loads(gdalinfo("-json", path))
    assert info["bands"][0]["colorTable"]["entries"][:5] == colors
    rows = [row["f"] for row in info["rat"]["row"]]
    assert [[row[0], row[2], *row[3:]] for row in rows] == [[value, names[value], *colors[value]] for value in range(5)]
    assert [row[1] for row in rows] == [int((stored[name] == value).sum()) for value in range(5)]
    said = gdalinfo(path).split("Categories:")[1].split("Color Table")[0]
    assert [line.strip() for line in said.splitlines() if line.strip()] == [f"{i}: {n}" for i, n in enumerate(names)]
    with rasterio.open(path) as raster:
        assert [list(raster.colormap(1)[value]) for value in range(5)] == colors


@pytest.mark.parametrize("name", CLASSES)
def test_class_names_reach_the_gdal_of_rasterio(out: Path, stored: xr.Dataset, tmp_path: Path, name: str) -> None:
    """Which has no words for them, but writes them to the virtual rasters that it makes."""
    rasterio.shutil.copy(out / f"{name}.tif", tmp_path / "copy.vrt", driver="VRT")
    band = ElementTree.parse(tmp_path / "copy.vrt").getroot().find("VRTRasterBand")
    assert band is not None
    names = ["unclassified", *stored[schema.ENDMEMBER].values.tolist()]
    assert [category.text for category in band.findall("CategoryNames/Category")] == names
    rows = [[cell.text for cell in row] for row in band.findall("GDALRasterAttributeTable/Row")]
    assert [(row[0], row[2]) for row in rows] == [(str(value), text) for value, text in enumerate(names)]


@pytest.mark.parametrize("name", MAPS[:2])
def test_statistics_are_those_of_the_store(out: Path, stored: xr.Dataset, name: str) -> None:
    layers = stored[name].values.reshape(-1, stored.sizes["y"], stored.sizes["x"])
    with rasterio.open(out / f"{name}.tif") as raster:
        for band, values in enumerate(layers, 1):
            tags = {k.removeprefix("STATISTICS_"): float(v) for k, v in raster.tags(band).items()}
            good = values[~np.isnan(values)].astype(float).tolist()
            assert 0 < len(good) < values.size
            assert (tags["MINIMUM"], tags["MAXIMUM"]) == (min(good), max(good))
            assert tags["MEAN"] == statistics.mean(good)
            assert tags["STDDEV"] == pytest.approx(statistics.pstdev(good), rel=1e-15)
            assert tags["VALID_PERCENT"] == pytest.approx(100 * len(good) / values.size, rel=1e-3)


# Runs in the interpreter that QGIS brings: layers as a user opens them, each pixel drawn as one pixel.
LOOK = """
import json, os, sys
from qgis.core import Qgis, QgsApplication, QgsMapRendererSequentialJob, QgsMapSettings, QgsRasterLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

app = QgsApplication([], False)
app.initQgis()
said = {"version": Qgis.QGIS_VERSION_INT}
for path in sys.argv[2:]:
    layer = QgsRasterLayer(path)
    found = {"valid": layer.isValid(), "crs": layer.crs().authid(), "renderer": layer.renderer().type()}
    found["bands"] = [layer.bandName(band + 1) for band in range(layer.bandCount())]
    found["legend"] = [[text, color.name()] for text, color in layer.renderer().legendSymbologyItems()]
    extent = layer.extent()
    found["bounds"] = [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setExtent(extent)
    settings.setDestinationCrs(layer.crs())
    settings.setOutputSize(QSize(layer.width(), layer.height()))
    settings.setBackgroundColor(QColor(255, 255, 255))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    places = [(x, y) for y in range(image.height()) for x in range(image.width())]
    found["drawn"] = [list(QColor(image.pixel(x, y)).getRgb()[:3]) for x, y in places]
    said[path] = found
with open(sys.argv[1], "w") as file:
    json.dump(said, file)
os._exit(0)  # what Qt and Python take apart at the end, in no order, may crash
"""


@pytest.fixture(scope="module")
def qgis(out: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What QGIS says of each raster, and draws."""
    folder = tmp_path_factory.mktemp("qgis")
    python = shutil.which("python3", path="/usr/bin")
    if python is None or subprocess.run([python, "-c", "import qgis.core"], capture_output=True).returncode:
        pytest.skip("QGIS (python3-qgis) is not here")
    env = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "LC_ALL": "C.UTF-8"}
    before = sorted(out.iterdir())
    paths = [str(out / f"{name}.tif") for name in MAPS]
    subprocess.run([python, "-c", LOOK, folder / "said.json", *paths], env=env, capture_output=True, check=True)
    assert sorted(out.iterdir()) == before, "QGIS has written statistics of its own"
    said: dict[str, Any] = json.loads((folder / "said.json").read_text())
    return said


@pytest.mark.parametrize("name", MAPS)
def test_qgis_opens_each_in_its_place(out: Path, stored: xr.Dataset, qgis: dict[str, Any], name: str) -> None:
    said = qgis[str(out / f"{name}.tif")]
    assert said["valid"]
    assert said["crs"] == "EPSG:32618"
    assert tuple(said["bounds"]) == stored[name].rio.bounds()
    assert said["bands"] == [f"Band {i}: {text}" for i, text in enumerate(names_of(stored, name), 1)]
    kind = "paletted" if name in CLASSES else "multibandcolor" if name == schema.ABUNDANCE else "singlebandgray"
    assert said["renderer"] == kind


@pytest.mark.parametrize("name", CLASSES)
def test_qgis_draws_classes_and_names_them(out: Path, stored: xr.Dataset, qgis: dict[str, Any], name: str) -> None:
    said = qgis[str(out / f"{name}.tif")]
    names = ["unclassified", *stored[schema.ENDMEMBER].values.tolist()]
    colors = class_colors(4)
    legend = [[text, "#{:02x}{:02x}{:02x}".format(*color)] for text, color in zip(names, colors.tolist(), strict=True)]
    # versions before 3.30 know no tables: they list the whole palette, these first
    assert said["legend"][:5] == legend
    assert qgis["version"] < 33000 or len(said["legend"]) == 5
    drawn = np.array(said["drawn"], np.uint8).reshape(*stored[name].shape, 3)
    values = stored[name].values
    paper = np.full((*values.shape, 3), 255, np.uint8)
    expected = np.where((values == schema.CLASS_NO_DATA)[..., None], paper, colors[np.minimum(values, 4)])
    np.testing.assert_array_equal(drawn, expected)
