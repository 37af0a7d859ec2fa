"""What the first screen of each object says, and that it stays true through xarray's operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

import hsichunk as hsi
from hsichunk.errors import HsiWarning
from hsichunk.readers import provenance

SHAPE = (40, 60)
CHUNKS = (20, 25, 16)
SCREEN = 34  # lines; a tile's nineteen layers are shortened to twelve by xarray
MACHINE = ("PROJCRS", "PROJCS", "BASEGEOGCRS", "GeoTransform", "inverse_flattening")


def write(path: Path, **changed: Any) -> Path:
    hsi.synthetic.write_tile(path, **({"shape": SHAPE, "chunks": CHUNKS, "seed": 5} | changed))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two neighbouring tiles of all 426 bands."""
    folder = tmp_path_factory.mktemp("reprs")
    write(folder / "NEON_a_reflectance.h5")
    write(folder / "NEON_b_reflectance.h5", origin=(368000.0 + SHAPE[1], 4307000.0), chunks=(*SHAPE, 1))
    return folder


@pytest.fixture(scope="module")
def tile(folder: Path) -> xr.Dataset:
    return hsi.open_tile(folder / "NEON_a_reflectance.h5")


def lines(value: xr.Dataset | xr.DataArray) -> dict[str, str]:
    """The attributes as the repr shows them."""
    shown = repr(value).splitlines()
    assert len(shown) <= SCREEN
    assert max(map(len, shown)) <= 140  # dask's own line is long
    found = shown[shown.index("Attributes:") + 1 :]  # not "(12/15)", which leaves some out
    return {name.strip(): text.strip() for name, text in (line.split(":", 1) for line in found)}


def test_a_tile_says_what_it_is(tile: xr.Dataset) -> None:
    assert lines(tile) == {
        "title": "NEON AOP reflectance, SERC",
        "sensor": "NEON AOP imaging spectrometer",
        "site": "SERC",
        "source_crs": "EPSG:32618, WGS 84 / UTM zone 18N",
        "source_grid": "40 x 60 of 1 m, upper left 368000 4307000",
        "source_bands": "426, 384 to 2512 nm; bad: 1340-1445, 1790-1955 nm",
        "stored_chunks": "20 x 25 x 16, int16",
    }


def test_every_way_to_open_a_tile_says_the_same(folder: Path, tile: xr.Dataset) -> None:
    path = folder / "NEON_a_reflectance.h5"
    assert xr.open_dataset(path, engine="neon").attrs == tile.attrs
    assert hsi.open_mosaic([path]).attrs == tile.attrs


def test_counts_say_first_what_they_mean(tile: xr.Dataset) -> None:
    said = lines(tile.reflectance)
    assert list(said)[:5] == [
        "long_name", "units", "scale_factor_stored", "data_ignore_value", "bad_band_windows"
    ]  # fmt: skip
    assert {"Cloud_conditions", "Spatial_Extent_meters"} <= set(said)  # the file's own follow


def test_a_cube_says_what_was_cleaned(tile: xr.Dataset) -> None:
    said = lines(hsi.clean(tile))
    assert said["cleaned"] == "362 of 426 bands, without 1340-1445, 1790-1955 nm, last 10"
    assert said["units"] == "1" and said["counts_per_unit"] == "10000.0"
    for name in ("sensor", "site", "source_crs", "source_grid", "stored_chunks"):
        assert said[name] == lines(tile)[name]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "362 of 426 bands, without 1340-1445, 1790-1955 nm, last 10"),
        ({"lesson_bands": True}, "360 of 426 bands, without 1340-1445, 1790-1955 nm, one below each, last 10"),
        ({"windows": [], "drop_last": 0}, "426 of 426 bands"),
        ({"windows": [], "drop_last": 1}, "425 of 426 bands, without last 1"),
        ({"windows": [(100, 200)], "drop_last": 0}, "426 of 426 bands"),  # touches none
        ({"windows": [], "drop": [(400, 500)], "drop_last": 0}, "406 of 426 bands, without 400-500 nm"),
        ({"windows": [], "keep": [(500, 600)], "drop_last": 0}, "20 of 426 bands, 500-600 nm"),
        ({"windows": [], "every": 4, "drop_last": 0}, "107 of 426 bands, one in 4"),
    ],
)
def test_cleaning_in_words(tile: xr.Dataset, options: dict[str, Any], expected: str) -> None:
    cube = hsi.clean(tile, **options)
    assert cube.attrs["cleaned"] == expected
    assert expected.startswith(f"{cube.sizes['wavelength']} of 426 bands")


def test_a_mosaic_says_how_its_tiles_are_stored(folder: Path) -> None:
    mosaic = hsi.open_mosaic(sorted(folder.glob("*.h5")))
    said = lines(mosaic)
    assert said["source_grid"] == "40 x 120 of 1 m, 2 tiles, upper left 368000 4307000"
    assert said["stored_chunks"] == "20 x 25 x 16, int16 and 40 x 60 x 1, int16"
    assert said["site"] == "SERC" and said["sensor"] == provenance.NEON_SENSOR
    assert lines(hsi.clean(mosaic))["source_grid"] == said["source_grid"]


def test_many_ways_to_store_are_counted(folder: Path, tmp_path: Path) -> None:
    more = [
        write(tmp_path / f"NEON_{n}_reflectance.h5", origin=(368000.0, 4307000.0 - SHAPE[0] * n), chunks=(n, 9, 9))
        for n in (1, 2)
    ]
    said = lines(hsi.open_mosaic([*sorted(folder.glob("*.h5")), *more]))
    assert said["stored_chunks"].endswith("and 3 other ways")


def test_pixels_of_other_sizes(tmp_path: Path) -> None:
    tile = hsi.open_tile(write(tmp_path / "NEON_reflectance.h5", pixel=0.5, bands=20))
    assert lines(tile)["source_grid"].startswith("40 x 60 of 0.5 m,")


def test_real_tile(shared: Path) -> None:
    with pytest.warns(HsiWarning):
        tile = hsi.open_tile(next((shared / "neon_sjer").glob("*.h5")))
    said = lines(tile)
    assert said["site"] == "SJER"
    assert said["source_crs"] == "EPSG:32611, WGS 84 / UTM zone 11N"
    assert said["source_grid"] == "30 x 30 of 1 m, upper left 257000 4112000"


def test_images_are_no_neon_tiles(shared: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsiWarning)
        image = hsi.open_tile(shared / "emit" / "emit20250324t221005_jpl_unmix_ex")
        cube = hsi.clean(image)
    assert lines(image)["source_grid"] == "10 x 10"
    assert lines(image)["source_bands"].startswith("285, 381 to 2493 nm; bad: ")
    assert lines(image)["stored_chunks"].endswith("line interleaved, float32")
    assert "NEON" not in repr(image) + repr(cube)
    assert lines(cube)["cleaned"].startswith(f"{cube.sizes['wavelength']} of 285 bands, without ")


def test_as_cube_says_its_crs() -> None:
    array = np.ones((3, 4, 5), np.int16)
    cube = hsi.as_cube(array, np.linspace(400, 800, 5), scale=10000, crs="EPSG:32618", origin=(368000, 4307000))
    assert lines(cube)["source_crs"] == "EPSG:32618, WGS 84 / UTM zone 18N"
    assert "source_crs" not in hsi.as_cube(array, np.linspace(400, 800, 5)).attrs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("EPSG:32618", "EPSG:32618, WGS 84 / UTM zone 18N"),
        ("EPSG:4326", "EPSG:4326, WGS 84"),
        ("+proj=laea +lat_0=52 +lon_0=10 +ellps=GRS80 +units=m", None),
    ],
)
def test_crs_in_words(given: str, expected: str | None) -> None:
    pyproj = pytest.importorskip("pyproj")
    crs = pyproj.CRS.from_user_input(given)
    for wkt in (crs.to_wkt(), crs.to_wkt("WKT1_GDAL")):
        said = provenance.crs_words({**crs.to_cf(), "crs_wkt": wkt}).get(provenance.CRS)
        if expected is None:
            assert said is not None and "EPSG" not in said
        else:
            assert said == expected
            assert provenance.crs_words({"spatial_ref": wkt}) == {provenance.CRS: expected}
    assert provenance.crs_words({"GeoTransform": "0 1 0 0 0 -1"}) == {}


def test_endmembers_and_products_say_where_they_are_from(tile: xr.Dataset, tmp_path: Path) -> None:
    cube = hsi.clean(tile)
    em = hsi.nfindr(cube, 3)
    assert list(lines(em))[3:7] == ["sensor", "site", "source_crs", "method"]
    out = hsi.unmix(cube, em)
    assert out.attrs == hsi.nnls(cube, em).attrs == provenance.carried(cube.attrs, provenance.MADE)
    assert lines(hsi.write_zarr(out, tmp_path / "products.zarr")) == lines(out)


def test_first_screens_hold_no_machine_text(folder: Path, tile: xr.Dataset) -> None:
    cube = hsi.clean(tile)
    em = hsi.nfindr(cube, 3)
    out = hsi.unmix(cube, em)
    stored = hsi.write_zarr(out, folder / "products.zarr")
    label = hsi.classify(stored.sam, 0.1)
    for value in (tile, cube, em, out, stored, stored.abundance, label, hsi.open_mosaic(folder.glob("*.h5"))):
        text = repr(value)
        assert len(text.splitlines()) <= SCREEN
        assert [word for word in MACHINE if word in text] == []
    assert "PROJCRS" in tile.spatial_ref.attrs["crs_wkt"]  # where xarray and rioxarray look for it


def test_html_says_the_same(tile: xr.Dataset) -> None:
    for value in (tile, hsi.clean(tile)):
        shown = value._repr_html_().rsplit("Attributes:", 1)[1]
        for name, text in lines(value).items():
            assert f"{name} :" in shown and text in shown
        assert [word for word in MACHINE if word in shown] == []


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "isel": lambda data: data.isel(y=slice(3, 20), x=slice(0, None, 2), wavelength=slice(0, None, 3)),
    "sel": lambda data: data.sel(wavelength=slice(500, 900)),
    "transpose": lambda data: data.transpose("wavelength", "y", "x", ...),
    "chunk": lambda data: data.chunk({"y": 10}),
    "sortby": lambda data: data.sortby("y"),
    "load": lambda data: data.isel(wavelength=[1, 5]).load(),
}
COMPUTING: dict[str, Callable[[Any], Any]] = {
    "astype": lambda data: data.astype("float64"),
    "where": lambda data: data.where(data > 0.1),
    "times": lambda data: data * 2,
    "plus itself": lambda data: data + data,
    "mean": lambda data: data.mean(("y", "x")),
    "coarsen": lambda data: data.coarsen(y=2, x=2).mean(),
    "concat": lambda data: xr.concat([data.isel(y=slice(0, 10)), data.isel(y=slice(10, 40))], "y"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_attributes_of_a_tile_are_kept(name: str, tile: xr.Dataset) -> None:
    tile = tile[["reflectance"]]
    after = OPERATIONS[name](tile)
    assert after.attrs == tile.attrs
    assert list(after.reflectance.attrs) == list(tile.reflectance.attrs)
    if name != "transpose":
        assert after.spatial_ref.attrs == tile.spatial_ref.attrs


@pytest.mark.parametrize("name", [*OPERATIONS, *COMPUTING])
def test_attributes_of_a_cube_are_kept(name: str, tile: xr.Dataset) -> None:
    cube = hsi.clean(tile, keep=[(480, 920)])
    after = (OPERATIONS | COMPUTING)[name](cube)
    assert provenance.carried(after.attrs) == provenance.carried(cube.attrs)
    assert after.attrs["units"] == "1"
    assert after.spatial_ref.attrs == cube.spatial_ref.attrs


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_kept_stays_true(name: str, tile: xr.Dataset) -> None:
    """Every number is about the file or the cleaning, and says so; none of them is the size of what is shown."""
    assert set(provenance.CARRIED) == {"sensor", "site", "source_crs", "source_grid", "stored_chunks", "cleaned"}
    after = hsi.clean(OPERATIONS[name](tile[["reflectance"]]), drop_last=0)
    assert after.attrs["source_grid"].startswith("40 x 60 of 1 m")  # of the source
    of = OPERATIONS[name](tile[["reflectance"]]).sizes["wavelength"]
    assert after.attrs["cleaned"].startswith(f"{after.sizes['wavelength']} of {of} bands")  # of what was cleaned


def test_a_window_of_a_tile_cleans_to_the_same_words(tile: xr.Dataset) -> None:
    part = tile.isel(y=slice(0, 10))
    assert hsi.clean(part).attrs == hsi.clean(tile).attrs


def test_a_kept_counts_per_unit_does_no_harm(tile: xr.Dataset) -> None:
    """xarray keeps the attribute where values are no counts any more: it is looked at, not believed."""
    cube = hsi.clean(tile)
    em = hsi.nfindr(cube, 3)
    scaled = cube * 1.0000123 + 1e-6
    assert scaled.attrs["counts_per_unit"] == 10000.0
    told = hsi.unmix(scaled, em).compute()
    bare = hsi.unmix(scaled.drop_attrs(), em).compute()
    for name in told.data_vars:
        assert_allclose(told[name], bare[name], rtol=2e-5, atol=2e-5)


def test_spatial_reference_survives_to_what_is_written(tile: xr.Dataset) -> None:
    pytest.importorskip("rioxarray")
    cube = hsi.clean(tile)
    for value in (cube, cube * 2, cube.isel(y=slice(0, 9)).astype("float64"), hsi.unmix(cube, hsi.nfindr(cube, 3)).sam):
        assert value.rio.crs.to_epsg() == 32618


def test_minmax_keeps_where_the_cube_is_from_and_drops_what_no_longer_holds(tile: xr.Dataset) -> None:
    cube = hsi.clean(tile, keep=[(480, 600)])
    scaled = hsi.minmax(cube)
    assert provenance.carried(scaled.attrs) == provenance.carried(cube.attrs)
    assert "counts_per_unit" not in scaled.attrs and "scaled" in scaled.attrs["long_name"]
