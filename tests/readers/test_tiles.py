"""Opening NEON files: what is found, what is assumed and said, what stays on disk, and what is refused."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from dask.base import tokenize
from numpy.testing import assert_array_equal

import hsichunk as hsi
from hsichunk import schema
from hsichunk.errors import HsiWarning
from hsichunk.readers.backend import NeonBackendEntrypoint
from tests.helpers.tiles import MAP_INFO, Counter, counts, data_attrs, group, replace, system, write_counts

NAMES = {
    "DP3.001": "NEON_D02_SERC_DP3_368000_4306000_reflectance.h5",
    "DP3.002": "NEON_D02_SERC_DP3_368000_4306000_bidirectional_reflectance.h5",
    "DP1.001": "NEON_D02_SERC_DP1_20170711_145123_reflectance.h5",
}
SHAPE = (45, 70)
BANDS = 60

SHARED_LAYERS = {
    "aspect": "Aspect",
    "cast_shadow": "Cast_Shadow",
    "dark_dense_vegetation": "Dark_Dense_Vegetation_Classification",
    "haze_cloud_water": "Haze_Cloud_Water_Map",
    "illumination_factor": "Illumination_Factor",
    "path_length": "Path_Length",
    "sky_view_factor": "Sky_View_Factor",
    "slope": "Slope",
    "surface_elevation": "Smooth_Surface_Elevation",
    "visibility_index": "Visibility_Index_Map",
    "water_vapor_column": "Water_Vapor_Column",
}
LAYERS = {
    "DP3.001": {
        **SHARED_LAYERS,
        "aerosol_optical_depth": "Aerosol_Optical_Depth",
        "data_selection_index": "Data_Selection_Index",
        "weather_quality": "Weather_Quality_Indicator",
        "sensor_azimuth_angle": "../to-sensor_azimuth_angle",
        "sensor_zenith_angle": "../to-sensor_zenith_angle",
    },
    "DP3.002": {
        **SHARED_LAYERS,
        "acquisition_date": "Acquisition_Date",
        "aerosol_optical_depth": "Aerosol_Optical_Thickness",
        "data_selection_index": "Data_Selection_Index",
        "weather_quality": "Weather_Quality_Indicator",
        "sensor_azimuth_angle": "../to-sensor_Azimuth_Angle",
        "sensor_zenith_angle": "../to-sensor_Zenith_Angle",
    },
    "DP1.001": {
        **SHARED_LAYERS,
        "aerosol_optical_depth": "Aerosol_Optical_Depth",
        "sensor_azimuth_angle": "../to-sensor_Azimuth_Angle",
        "sensor_zenith_angle": "../to-sensor_Zenith_Angle",
        "flight_altitude": "../Flight_Trajectory/Flight_Altitude",
        "flight_heading": "../Flight_Trajectory/Flight_Heading",
        "flight_time": "../Flight_Trajectory/Flight_Time",
    },
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small file of each product."""
    folder = tmp_path_factory.mktemp("tiles")
    out = {product: folder / name for product, name in NAMES.items()}
    for product, path in out.items():
        hsi.synthetic.write_tile(path, shape=SHAPE, bands=BANDS, product=product)
    return out


@pytest.fixture(params=NAMES)
def product(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --------------------------------------------------------------------------------------- what is found


def test_reflectance_is_as_stored(paths: dict[str, Path], product: str) -> None:
    tile = hsi.open_tile(paths[product])
    with h5py.File(paths[product]) as file:
        data = file["SERC/Reflectance/Reflectance_Data"]
        assert_array_equal(tile.reflectance, data[...])
        assert tile.reflectance.encoding["preferred_chunks"] == dict(
            zip(("y", "x", "wavelength"), data.chunks, strict=True)
        )
    assert tile.reflectance.dims == ("y", "x", "wavelength")
    assert tile.reflectance.dtype == np.int16
    attrs = tile.reflectance.attrs
    assert attrs[schema.SCALE] == 10000.0
    assert attrs[schema.NO_DATA] == -9999
    assert list(attrs[schema.WINDOWS]) == [1340, 1445, 1790, 1955]
    assert not {"scale_factor", "_FillValue", "missing_value"} & set(attrs)  # xarray would apply them
    assert not {name for name in attrs if name.lower() == "interleave"}
    assert tile.attrs["site"] == "SERC"


def test_wavelengths_are_nm_and_fwhm_is_there_when_it_fits(paths: dict[str, Path], product: str) -> None:
    tile = hsi.open_tile(paths[product])
    with h5py.File(paths[product]) as file:
        spectral = file["SERC/Reflectance/Metadata/Spectral_Data"]
        assert_array_equal(tile.wavelength, spectral["Wavelength"][...].astype(np.float64))
        if product == "DP1.001":
            assert spectral["FWHM"].size != BANDS
            assert "fwhm" not in tile.coords
        else:
            assert tile.fwhm.dims == ("wavelength",)
            assert_array_equal(tile.fwhm, spectral["FWHM"][...].astype(np.float64))
    assert tile.wavelength.dtype == np.float64
    assert tile.wavelength.attrs["units"] == "nm"
    assert tile.wavelength.attrs["standard_name"] == "radiation_wavelength"


def test_every_layer_is_there_as_stored_with_cf_attributes(paths: dict[str, Path], product: str) -> None:
    tile = hsi.open_tile(paths[product])
    solar = {"solar_azimuth_angle", "solar_zenith_angle"}
    assert set(tile.data_vars) == {"reflectance", *LAYERS[product], *solar}
    with h5py.File(paths[product]) as file:
        metadata = file["SERC/Reflectance/Metadata"]
        for name, stored in LAYERS[product].items():
            where = metadata if stored.startswith("../") else metadata["Ancillary_Imagery"]
            data = where[stored.removeprefix("../")]
            assert_array_equal(tile[name], data[...], err_msg=name)
            assert tile[name].dtype == data.dtype
            if name.startswith("flight"):
                continue
            assert tile[name].dims[:2] == ("y", "x")
            assert tile[name].encoding["grid_mapping"] == "spatial_ref"
            assert {"long_name", "standard_name"} & set(tile[name].attrs), name
            if "Data_Ignore_Value" in data.attrs:
                assert tile[name].attrs[schema.NO_DATA] == data.attrs["Data_Ignore_Value"]
    for name in ("slope", "aspect", "sensor_zenith_angle", "solar_zenith_angle"):
        assert tile[name].attrs["units"] == "degree"


def test_flags_are_of_the_type_of_their_variable(paths: dict[str, Path], product: str) -> None:
    tile = hsi.open_tile(paths[product])
    flagged = {name: v for name, v in tile.data_vars.items() if "flag_values" in v.attrs}
    expected = {"dark_dense_vegetation": 5, "haze_cloud_water": 23}
    if product == "DP3.002":
        expected["weather_quality"] = 3
    assert set(flagged) == set(expected)
    for name, variable in flagged.items():
        values = variable.attrs["flag_values"]
        assert values.dtype == variable.dtype
        assert len(values) == len(variable.attrs["flag_meanings"].split()) == expected[str(name)]
    haze = dict(
        zip(
            flagged["haze_cloud_water"].attrs["flag_values"],
            flagged["haze_cloud_water"].attrs["flag_meanings"].split(),
            strict=True,
        )
    )
    assert (haze[5], haze[7], haze[15], haze[17]) == ("clear_land", "snow_or_ice", "cloud_over_land", "water")


def test_what_stands_for_no_data_in_class_layers(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["DP3.001"])
    for name in ("cast_shadow", "illumination_factor", "sky_view_factor", "visibility_index", "haze_cloud_water"):
        assert tile[name].attrs[schema.NO_DATA] == 241
    assert tile.data_selection_index.attrs[schema.NO_DATA] == -1
    assert tile.weather_quality.dims == ("y", "x", "rgb")
    assert schema.NO_DATA not in tile.weather_quality.attrs
    newer = hsi.open_tile(paths["DP3.002"])
    assert newer.weather_quality.attrs[schema.NO_DATA] == 0
    assert newer.cast_shadow.attrs[schema.NO_DATA] == -9999  # the file's own word


def test_water_vapour_has_the_unit_of_its_product(paths: dict[str, Path]) -> None:
    assert hsi.open_tile(paths["DP3.002"]).water_vapor_column.attrs["units"] == "cm"
    assert hsi.open_tile(paths["DP1.001"]).water_vapor_column.attrs["units"] == "0.001 cm"


def test_solar_angles_of_each_flight_line(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["DP3.002"])
    assert list(tile.flight_line.values) == ["L003-1_20250612", "L004-1_20250612"]
    assert_array_equal(tile.solar_zenith_angle, np.float64(np.float32([31.2, 31.2])))
    assert hsi.open_tile(paths["DP1.001"]).solar_azimuth_angle.values.tolist() == [139.6]


def test_pixel_centres_are_exact(paths: dict[str, Path], product: str) -> None:
    tile = hsi.open_tile(paths[product])
    assert_array_equal(tile.x, 368000.5 + np.arange(SHAPE[1]))
    assert_array_equal(tile.y, 4306999.5 - np.arange(SHAPE[0]))
    assert_array_equal(np.diff(tile.x), 1.0)
    assert_array_equal(np.diff(tile.y), -1.0)
    assert tile.x.attrs["standard_name"] == "projection_x_coordinate"
    assert tile.y.attrs["standard_name"] == "projection_y_coordinate"
    assert tile.rio.crs.to_epsg() == 32618
    assert tuple(tile.rio.transform())[:6] == (1.0, 0.0, 368000.0, 0.0, -1.0, 4307000.0)
    assert tile.reflectance.rio.transform(recalc=True) == tile.rio.transform()


@pytest.mark.parametrize(
    ("info", "left", "top", "dx", "dy"),
    [
        (
            "UTM, 1, 1, 300000.25, 4000000.75, 0.5, 0.25, 18, North, WGS-84, units=Meters",
            300000.25,
            4000000.75,
            0.5,
            0.25,
        ),
        ("{UTM, 1.5, 1.5, 300001, 3999999, 2, 2, 18, North, WGS-84}", 300000, 4000000, 2, 2),
        (
            "UTM,11,21,300010,3999980,1.0000000000e+000,1.0000000000e+000,18,North,WGS-84,rotation=0",
            300000,
            4000000,
            1,
            1,
        ),
    ],
)
def test_the_grid_is_the_map_info(tmp_path: Path, info: str, left: float, top: float, dx: float, dy: float) -> None:
    """ENVI: the reference pixel counts from 1, and whole numbers are the upper left corner of a pixel."""
    path = write_counts(tmp_path / "t.h5", then=lambda f: replace(system(f), "Map_Info", info))
    tile = hsi.open_tile(path)
    assert_array_equal(tile.x, left + (np.arange(14) + 0.5) * dx)
    assert_array_equal(tile.y, top - (np.arange(12) + 0.5) * dy)


def test_the_transform_keeps_all_digits(tmp_path: Path) -> None:
    info = "UTM, 1, 1, 300000.12345678, 4000000.3, 0.7000000001, 0.7, 18, North, WGS-84"
    tile = hsi.open_tile(write_counts(tmp_path / "t.h5", then=lambda f: replace(system(f), "Map_Info", info)))
    assert tuple(tile.rio.transform())[:6] == (0.7000000001, 0.0, 300000.12345678, 0.0, -0.7, 4000000.3)


# ----------------------------------------------------------------- however it is named and wrapped


def rename_all(source: h5py.Group, target: h5py.Group, how: Callable[[str], str]) -> None:
    for key, value in source.attrs.items():
        target.attrs[how(key)] = value
    for key in source:
        if isinstance(source[key], h5py.Group):
            rename_all(source[key], target.create_group(how(key)), how)
        else:
            source.copy(key, target, how(key))
            for name, value in source[key].attrs.items():
                del target[how(key)].attrs[name]
                target[how(key)].attrs[how(name)] = value


@pytest.mark.parametrize("how", [str.lower, str.upper, lambda name: name.replace(" ", "_")])
def test_names_are_found_in_any_case(
    paths: dict[str, Path], product: str, how: Callable[[str], str], tmp_path: Path
) -> None:
    path = tmp_path / "renamed.h5"
    with h5py.File(paths[product]) as source, h5py.File(path, "w") as target:
        rename_all(source, target, how)
    found, expected = hsi.open_tile(path), hsi.open_tile(paths[product])
    expected.attrs |= {name: how(expected.attrs[name]) for name in ("site",)}
    assert set(found.variables) == set(expected.variables)
    for name in expected.variables:
        xr.testing.assert_equal(
            found[name].drop_vars("flight_line", errors="ignore"),
            expected[name].drop_vars("flight_line", errors="ignore"),
        ) if name != "flight_line" else None
    for key in (schema.SCALE, schema.NO_DATA, schema.WINDOWS):
        assert found.reflectance.attrs[key] == expected.reflectance.attrs[key]
    assert found.site == how("SERC")


def test_the_site_is_found_among_other_groups(tmp_path: Path) -> None:
    def others(file: h5py.File) -> None:
        file.create_group("AAA/Radiance")
        file["BBB"] = 1
        file["CCC"] = h5py.SoftLink("/nowhere")

    assert (
        hsi.open_tile(write_counts(tmp_path / "t.h5", site="Site with spaces", then=others)).site == "Site with spaces"
    )


def test_misspelt_layers_are_known(tmp_path: Path) -> None:
    dates, haze = np.full((12, 14), 20220711, "i4"), np.full((12, 14), 5, "u1")

    def add(file: h5py.File) -> None:
        ancillary = group(file).create_group("Metadata/Ancillary_Imagery")
        ancillary["Acqusition_Date"] = dates
        ancillary["Haze_Water_Cloud_Map"] = haze
        ancillary["Something_New"] = haze
        ancillary["Wavelength"] = haze  # must not replace the coordinate
        ancillary["Two"] = np.zeros((12, 14, 2))
        ancillary["Other_Shape"] = np.zeros((3, 3))
        ancillary["Text"] = "no layer"

    tile = hsi.open_tile(write_counts(tmp_path / "t.h5", then=add))
    assert_array_equal(tile.acquisition_date, dates)
    assert_array_equal(tile.haze_cloud_water, haze)
    assert_array_equal(tile.something_new, haze)
    assert_array_equal(tile.wavelength_2, haze)
    assert tile.two.dims == ("y", "x", "two_layer")
    assert "other_shape" not in tile and "text" not in tile
    assert tile.wavelength.dims == ("wavelength",)


def test_both_names_of_one_layer_are_kept(tmp_path: Path) -> None:
    def add(file: h5py.File) -> None:
        ancillary = group(file).create_group("Metadata/Ancillary_Imagery")
        ancillary["Aerosol_Optical_Depth"] = np.ones((12, 14), "i2")
        ancillary["Aerosol_Optical_Thickness"] = np.zeros((12, 14), "f4")

    tile = hsi.open_tile(write_counts(tmp_path / "t.h5", then=add))
    assert (tile.aerosol_optical_depth == 1).all()
    assert (tile.aerosol_optical_depth_2 == 0).all()


@pytest.mark.parametrize(
    "wrap", [lambda v: np.array([v]), lambda v: np.float32(v), lambda v: str(v), lambda v: np.bytes_(v)]
)
def test_attributes_are_scalars_arrays_of_one_or_text(tmp_path: Path, wrap: Callable[[float], Any]) -> None:
    def change(file: h5py.File) -> None:
        data_attrs(file)["Scale_Factor"] = wrap(5000.0)
        data_attrs(file)["Data_Ignore_Value"] = wrap(-100.0)

    tile = hsi.open_tile(write_counts(tmp_path / "t.h5", then=change))
    assert tile.reflectance.attrs[schema.SCALE] == 5000.0
    assert tile.reflectance.attrs[schema.NO_DATA] == -100


def test_texts_are_scalars_or_arrays_of_one(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        del system(file)["Map_Info"], system(file)["EPSG Code"]
        system(file).create_dataset("Map_Info", data=[MAP_INFO.encode()])
        system(file)["EPSG Code"] = np.array(32611, "i4")

    tile = hsi.open_tile(write_counts(tmp_path / "t.h5", then=change))
    assert tile.x.values[0] == 368000.5
    assert tile.rio.crs.to_epsg() == 32611


def test_interleave_is_ignored(tmp_path: Path) -> None:
    values = counts((3, 4, 5))
    for interleave in ("BSQ", "BIL", "nonsense"):
        path = write_counts(
            tmp_path / f"{interleave}.h5", values, then=lambda f, i=interleave: data_attrs(f).update(Interleave=i)
        )
        assert_array_equal(hsi.open_tile(path).reflectance, values)


def test_windows_scale_and_no_data_come_from_the_file(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        group(file).attrs["Band_Window_1_Nanometers"] = np.array([[1300.5], [1400.5]])
        del group(file).attrs["Band_Window_2_Nanometers"]
        group(file).attrs["Band_Window_3_Nanometers"] = [1800, 1900]
        data_attrs(file).update({"Scale_Factor": 20000, "Data_Ignore_Value": -32768})

    attrs = hsi.open_tile(write_counts(tmp_path / "t.h5", then=change)).reflectance.attrs
    assert list(attrs[schema.WINDOWS]) == [1300.5, 1400.5, 1800, 1900]
    assert (attrs[schema.SCALE], attrs[schema.NO_DATA]) == (20000.0, -32768)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"chunks": (5, 4, 6), "compression": "gzip", "shuffle": True},
        {"chunks": (5, 4, 6), "compression": "lzf"},
        {"dtype": ">i2", "chunks": (12, 14, 1)},
        {"dtype": "<i4", "chunks": (5, 5, 5)},
    ],
)
def test_any_layout_opens_to_the_same_counts(tmp_path: Path, layout: dict[str, Any]) -> None:
    tile = hsi.open_tile(write_counts(tmp_path / "t.h5", **layout))
    assert_array_equal(tile.reflectance, counts((12, 14, 20)))
    assert tile.reflectance.dtype.isnative
    assert tile.reflectance.values.dtype.isnative


# ---------------------------------------------------------------------- what is assumed, and said


def fallback(tmp_path: Path, then: Callable[[h5py.File], None], words: str) -> xr.Dataset:
    path = write_counts(tmp_path / "t.h5", then=then)
    with pytest.warns(HsiWarning, match=words) as caught:
        tile = hsi.open_tile(path)
    assert len(caught) == 1
    assert str(path) in str(caught[0].message)
    return tile


def test_without_windows_neons_stand_in_and_it_says_so(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        for name in list(group(file).attrs):
            del group(file).attrs[name]

    tile = fallback(tmp_path, change, "no bad-band windows.*1340-1445, 1790-1955")
    assert list(tile.reflectance.attrs[schema.WINDOWS]) == [1340, 1445, 1790, 1955]


def test_without_scale_or_no_data_neons_stand_in(tmp_path: Path) -> None:
    tile = fallback(tmp_path, lambda f: data_attrs(f).__delitem__("Scale_Factor"), "no Scale_Factor.*10000")
    assert tile.reflectance.attrs[schema.SCALE] == 10000
    tile = fallback(tmp_path, lambda f: data_attrs(f).__delitem__("Data_Ignore_Value"), "no Data_Ignore_Value.*-9999")
    assert tile.reflectance.attrs[schema.NO_DATA] == -9999


def test_without_a_code_the_file_s_own_crs_counts(tmp_path: Path) -> None:
    path = write_counts(tmp_path / "t.h5", then=lambda f: system(f).__delitem__("EPSG Code"))
    assert hsi.open_tile(path).rio.crs.to_epsg() == 32618


def no_crs(file: h5py.File) -> None:
    del system(file)["EPSG Code"], system(file)["Coordinate_System_String"]


def test_without_any_crs_the_zone_of_the_map_info_counts(tmp_path: Path) -> None:
    assert fallback(tmp_path, no_crs, "no EPSG code; taken from Map_Info: EPSG 32618").rio.crs.to_epsg() == 32618

    def south(file: h5py.File) -> None:
        no_crs(file)
        replace(system(file), "Map_Info", MAP_INFO.replace("North", "South"))

    assert fallback(tmp_path, south, "EPSG 32718").rio.crs.to_epsg() == 32718


def test_a_zone_on_another_datum_is_not_guessed(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        no_crs(file)
        replace(system(file), "Map_Info", MAP_INFO.replace("WGS-84", "North America 1983"))

    assert fallback(tmp_path, change, "no coordinate reference system").rio.crs is None


def test_without_map_info_the_extent_counts(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        del system(file)["Map_Info"]
        data_attrs(file)["Spatial_Extent_meters"] = [368000.0, 368014.0, 4306988.0, 4307000.0]

    tile = fallback(tmp_path, change, "no Map_Info; grid taken from Spatial_Extent_meters")
    assert_array_equal(tile.x, 368000.5 + np.arange(14))
    assert_array_equal(tile.y, 4306999.5 - np.arange(12))


def test_the_real_crop_opens(shared: Path) -> None:
    path = shared / "neon_sjer" / "NEON_D17_SJER_DP3_257000_4112000_reflectance_crop30.h5"
    with pytest.warns(HsiWarning, match="no bad-band windows") as caught:
        tile = hsi.open_tile(path)
    assert len(caught) == 1
    assert (tile.site, tile.reflectance.shape, tile.reflectance.dtype) == ("SJER", (30, 30, 426), np.int32)
    assert tile.rio.crs.to_epsg() == 32611
    assert (tile.x.values[0], tile.y.values[0]) == (257000.5, 4111999.5)
    listed = np.loadtxt(shared / "neon_sjer" / "wavelengths.csv", delimiter=",", skiprows=1, usecols=-1)
    np.testing.assert_allclose(tile.wavelength, listed, atol=1e-3)
    with h5py.File(path) as file:
        assert_array_equal(tile.reflectance, file["SJER/Reflectance/Reflectance_Data"][...])
    assert "fwhm" not in tile.coords


# --------------------------------------------------------------------------------- what stays on disk


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sizes of all datasets that h5py is asked for."""
    sizes: list[int] = []
    original = h5py.Dataset.__getitem__

    def spy(self: h5py.Dataset, *args: Any, **kwargs: Any) -> Any:
        sizes.append(self.size)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    yield sizes


@pytest.mark.parametrize("engine", ["open_tile", "neon", "neon, chunks"])
def test_opening_reads_metadata_alone(paths: dict[str, Path], product: str, engine: str, reads: list[int]) -> None:
    with Counter() as decoded:
        tile = {
            "open_tile": hsi.open_tile,
            "neon": lambda path: xr.open_dataset(path, engine="neon"),
            "neon, chunks": lambda path: xr.open_dataset(path, engine="neon", chunks={}),
        }[engine](paths[product])
        repr(tile)
        tile.isel(x=slice(3, 9)).sel(wavelength=slice(500, 900))
    assert decoded.chunks == 0
    assert 0 < len(reads) < 20
    assert max(reads) == BANDS  # wavelengths, widths, angles of the sun, texts
    assert all(v.variable._in_memory is False for v in tile.data_vars.values() if "y" in v.dims and not v.chunks)


def test_a_window_reads_only_the_chunks_it_touches(tmp_path: Path) -> None:
    path = write_counts(tmp_path / "t.h5", counts((64, 90, 40)), chunks=(16, 30, 9), compression="gzip")
    tile = hsi.open_tile(path)
    for window, touched in (
        ({}, 4 * 3 * 5),
        ({"y": slice(16, 32), "x": slice(30, 60)}, 5),
        ({"y": slice(15, 17), "x": slice(0, 30)}, 10),
        ({"wavelength": 10}, 12),
        ({"y": 3, "x": 4}, 5),
        ({"y": 3, "x": 4, "wavelength": 8}, 1),
        ({"wavelength": [0, 8, 39]}, 24),
        ({"y": slice(None, None, -16), "x": [89, 0], "wavelength": slice(9, 18)}, 8),
        ({"y": slice(5, 5)}, 0),
    ):
        with Counter() as decoded:
            found = tile.reflectance.isel(window).values
        assert decoded.chunks == touched, window
        index = tuple(window.get(dim, slice(None)) for dim in ("y", "x", "wavelength"))
        expected = counts((64, 90, 40))
        for axis, chosen in reversed(list(enumerate(index))):
            expected = expected[(slice(None),) * axis + (chosen,)]
        assert_array_equal(found, expected)


def test_a_band_of_a_tile_stored_by_band_is_one_chunk(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["DP3.002"])
    for chosen, touched in (
        (tile.reflectance[..., 7], 1),
        (tile.reflectance.sel(wavelength=650, method="nearest"), 1),
        (tile.reflectance[:3, :3, [5, 9]], 2),
    ):
        with Counter() as decoded:
            _ = chosen.values
        assert decoded.chunks == touched


def test_pointwise_selection_reads_the_right_pixels(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["DP3.001"])
    rows, cols = xr.DataArray([3, 40, 3], dims="point"), xr.DataArray([0, 69, 1], dims="point")
    with h5py.File(paths["DP3.001"]) as file:
        whole = file["SERC/Reflectance/Reflectance_Data"][...]
    assert_array_equal(tile.reflectance.isel(y=rows, x=cols), whole[[3, 40, 3], [0, 69, 1]])


def test_no_cache_keeps_the_cube(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["DP3.002"])
    for _ in range(2):
        with Counter() as decoded:
            _ = tile.reflectance.values
        assert decoded.chunks == BANDS


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_no_file_stays_open(paths: dict[str, Path], product: str) -> None:
    before = sorted(
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    )
    for options in ({}, {"chunks": {}}):
        with xr.open_dataset(paths[product], engine="neon", **options) as tile:
            tile.reflectance[:5, :5].values.sum()
        tile.close()
    hsi.open_tile(paths[product]).slope.values.sum()
    after = sorted(
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    )
    assert not [name for name in after if str(paths[product]) in name]
    assert len(after) <= len(before)


# ------------------------------------------------------------------------------- xarray's own call


def test_the_engine_gives_the_same(paths: dict[str, Path], product: str) -> None:
    ours, theirs = hsi.open_tile(paths[product]), xr.open_dataset(paths[product], engine="neon")
    xr.testing.assert_identical(ours, theirs)
    xr.testing.assert_identical(ours, xr.open_dataset(str(paths[product]), engine="neon", chunks={}).compute())


def test_two_openings_have_equal_tokens(paths: dict[str, Path], product: str) -> None:
    path = paths[product]
    assert tokenize(hsi.open_tile(path)) == tokenize(hsi.open_tile(path))
    one, two = (xr.open_dataset(path, engine="neon", chunks={}) for _ in range(2))
    assert tokenize(one) == tokenize(two)
    assert one.reflectance.data.name == two.reflectance.data.name
    cubes = [hsi.clean(hsi.open_tile(path)) for _ in range(2)]
    assert cubes[0].data.name == cubes[1].data.name
    assert tokenize(cubes[0]) == tokenize(cubes[1])


def test_tokens_tell_files_apart(paths: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / paths["DP3.001"].name
    shutil.copyfile(paths["DP3.001"], copy)
    names = [hsi.clean(hsi.open_tile(path)).data.name for path in (paths["DP3.001"], copy)]
    os.utime(copy, ns=(5, 5))
    names.append(hsi.clean(hsi.open_tile(copy)).data.name)
    names.append(hsi.clean(hsi.open_tile(copy), drop_last=3).data.name)
    assert len(set(names)) == 4


def test_chunks_are_those_stored(paths: dict[str, Path], product: str) -> None:
    tile = xr.open_dataset(paths[product], engine="neon", chunks={})
    with h5py.File(paths[product]) as file:
        stored = file["SERC/Reflectance/Reflectance_Data"].chunks
    assert tuple(c[0] for c in tile.reflectance.chunks) == stored
    with Counter() as decoded:
        tile.reflectance.compute(scheduler="sync")
    assert decoded.chunks == np.prod([len(c) for c in tile.reflectance.chunks])  # each once
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # xarray warns of chunks that cut stored ones
        layers = list(LAYERS[product])  # which have chunks of their own
        xr.open_dataset(paths[product], engine="neon", chunks={"y": 2 * stored[0], "x": -1}, drop_variables=layers)


def test_variables_can_be_dropped(paths: dict[str, Path]) -> None:
    path = paths["DP3.001"]
    whole = hsi.open_tile(path)
    for drop in ("slope", ["slope", "fwhm", "not there"], ["reflectance"], ["spatial_ref", "flight_line"]):
        names = [drop] if isinstance(drop, str) else drop
        dropped = xr.open_dataset(path, engine="neon", drop_variables=drop)
        xr.testing.assert_identical(dropped, whole.drop_vars(names, errors="ignore"))


def test_guess_can_open() -> None:
    guess = NeonBackendEntrypoint().guess_can_open
    assert all(guess(Path("folder") / name) and guess(name) for name in NAMES.values())
    assert guess("NEON_D10_CPER_DP1_L001-1_20220920_directional_reflectance.h5")
    for other in ("a.h5", "NEON_D02_SERC_DP3_368000_4306000_CHM.tif", "reflectance.nc", io.BytesIO(), 3, None):
        assert not guess(other)


def test_an_open_tile_pickles(paths: dict[str, Path], product: str) -> None:
    tile = hsi.open_tile(paths[product])
    with Counter() as decoded:
        copy = pickle.loads(pickle.dumps(tile))
    assert decoded.chunks == 0
    xr.testing.assert_identical(copy, tile)


def test_a_tile_can_be_stored_again(paths: dict[str, Path], product: str, tmp_path: Path) -> None:
    """Attributes are of types that files can hold."""
    tile = hsi.open_tile(paths[product]).drop_dims("flight_line").isel(y=slice(0, 4), x=slice(0, 5))
    tile.to_zarr(tmp_path / "t.zarr", zarr_format=3, consolidated=False)
    again = xr.open_zarr(tmp_path / "t.zarr", consolidated=False, decode_coords="all", mask_and_scale=False)
    assert_array_equal(again.reflectance, tile.reflectance)
    assert_array_equal(hsi.clean(again), hsi.clean(tile))
