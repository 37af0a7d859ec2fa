"""Synthetic tiles: NEON's tree to the letter, one scene whatever the chunks, and a truth that explains the counts."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from scipy.optimize import nnls

from hsichunk.errors import HsiError
from hsichunk.synthetic import tile as tile_writer
from hsichunk.synthetic.spectra import MATERIALS, neon_wavelength, pure_spectra
from hsichunk.synthetic.tile import write_tile

ROOT = "SERC/Reflectance"
COUNTS = f"{ROOT}/Reflectance_Data"
ROWS, COLS = 40, 52
GRID = (ROWS, COLS)

# Datasets as NEON's own lessons print them: (dtype, shape), text is a scalar string.
TEXT = ("text", ())
COORDINATES = {f"Coordinate_System/{n}": TEXT for n in ("Coordinate_System_String", "EPSG Code", "Map_Info", "Proj4")}
ANCILLARY_001 = {
    "Aerosol_Optical_Depth": "<i2",
    "Aspect": "<f4",
    "Cast_Shadow": "|u1",
    "Dark_Dense_Vegetation_Classification": "|u1",
    "Haze_Cloud_Water_Map": "|u1",
    "Illumination_Factor": "|u1",
    "Path_Length": "<f4",
    "Sky_View_Factor": "|u1",
    "Slope": "<f4",
    "Smooth_Surface_Elevation": "<f4",
    "Visibility_Index_Map": "|u1",
}
ANCILLARY_002 = {
    "Acquisition_Date": "<i4",
    "Aerosol_Optical_Thickness": "<f4",
    "Aspect": "<f4",
    "Cast_Shadow": "<f4",
    "Dark_Dense_Vegetation_Classification": "|u1",
    "Data_Selection_Index": "<i4",
    "Haze_Cloud_Water_Map": "|u1",
    "Illumination_Factor": "<f4",
    "Path_Length": "<f4",
    "Sky_View_Factor": "<f4",
    "Slope": "<f4",
    "Smooth_Surface_Elevation": "<f4",
    "Visibility_Index_Map": "<f4",
    "Water_Vapor_Column": "<f4",
    "Weather_Quality_Indicator": "<i4",
}


def _logs(line: str, *names: str, angle: str = "<f4", atcor: str = "ATCOR_Input_file") -> dict[str, Any]:
    texts = (atcor, "ATCOR_Processing_Log", "Shadow_Processing_Log", "Skyview_Processing_Log", *names)
    angles = {f"Logs/{line}Solar_{n}_Angle": (angle, ()) for n in ("Azimuth", "Zenith")}
    return {f"Logs/{line}{n}": TEXT for n in texts} | angles


def _layers(layers: dict[str, str]) -> dict[str, Any]:
    return {f"Ancillary_Imagery/{name}": (dtype, GRID) for name, dtype in layers.items()}


BRDF = ("BRDF_COEFFS_JSON_for_Hytools", "BRDF_Config_JSON_for_Hytools")
TREES: dict[str, dict[str, Any]] = {
    "DP3.001": COORDINATES
    | _layers(ANCILLARY_001 | {"Data_Selection_Index": "<i4", "Water_Vapor_Column": "<f4"})
    | {"Ancillary_Imagery/Weather_Quality_Indicator": ("|u1", (ROWS, COLS, 3))}
    | {"Spectral_Data/FWHM": ("<f4", (426,)), "Spectral_Data/Wavelength": ("<f4", (426,))}
    | {"to-sensor_azimuth_angle": ("<f4", GRID), "to-sensor_zenith_angle": ("<f4", GRID)}
    | _logs("152340/")
    | _logs("153105/"),
    "DP3.002": COORDINATES
    | _layers(ANCILLARY_002)
    | {"Spectral_Data/FWHM": ("<f8", (426,)), "Spectral_Data/Wavelength": ("<f8", (426,))}
    | {"to-sensor_Azimuth_Angle": ("<f4", GRID), "to-sensor_Zenith_Angle": ("<f4", GRID)}
    | _logs("L003-1_20250612/", *BRDF)
    | _logs("L004-1_20250612/", *BRDF),
    "DP1.001": COORDINATES
    | _layers(ANCILLARY_001 | {"Water_Vapor_Column": "<i2"})
    | {"Spectral_Data/FWHM": ("<f8", (421,)), "Spectral_Data/Wavelength": ("<f8", (426,))}
    | {"to-sensor_Azimuth_Angle": ("<f4", GRID), "to-sensor_Zenith_Angle": ("<f4", GRID)}
    | {f"Flight_Trajectory/Flight_{n}": ("<f8", (ROWS, 1)) for n in ("Altitude", "Heading", "Time")}
    | _logs("", angle="<f8", atcor="ATCOR_input_file"),
}
MAP_INFO = {
    "DP3.001": "UTM,  1.000,  1.000,       368000.00,       4307000.0,       1.0000000,       1.0000000,  18,  North,"
    "  WGS-84,  units=Meters, 0",
    "DP3.002": "UTM,  1.000,  1.000,  368000.000,  4307000.000,  1.000000e+00,  1.000000e+00,  18,  North,"
    "  WGS-84,  units=Meters, 0",
    "DP1.001": "UTM, 1.000, 1.000, 368000.000, 4307000.000, 1.0000000000e+000, 1.0000000000e+000, 18, North,"
    " WGS-84, units=Meters",
}


def _read(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file[COUNTS][:]


def _datasets(path: Path) -> dict[str, Any]:
    found = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            text = h5py.check_string_dtype(node.dtype) is not None
            found[name] = ("text" if text else node.dtype.str, node.shape)

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def _outside_windows(wavelength: np.ndarray) -> np.ndarray:
    return ~(((wavelength >= 1340) & (wavelength <= 1445)) | ((wavelength >= 1790) & (wavelength <= 1955)))


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xr.Dataset]:
    path = tmp_path_factory.mktemp("synthetic") / "tile.h5"
    return path, write_tile(path, shape=(96, 80))


@pytest.mark.parametrize("product", TREES)
def test_tree_is_neons(tmp_path: Path, product: str) -> None:
    write_tile(tmp_path / "tile.h5", shape=GRID, product=product)
    expected = {f"{ROOT}/Metadata/{name}": what for name, what in TREES[product].items()}
    assert _datasets(tmp_path / "tile.h5") == expected | {COUNTS: ("<i2", (*GRID, 426))}


@pytest.mark.parametrize("product", TREES)
def test_metadata_values(tmp_path: Path, product: str) -> None:
    from rasterio.crs import CRS

    write_tile(tmp_path / "tile.h5", shape=GRID, product=product)
    with h5py.File(tmp_path / "tile.h5") as file:
        reflectance = file[ROOT]
        system = reflectance["Metadata/Coordinate_System"]
        assert system["Map_Info"][()].decode() == MAP_INFO[product]
        assert system["EPSG Code"][()] == b"32618"
        assert system["Proj4"][()] == b"+proj=UTM +zone=18 +ellps=WGS84 +datum=WGS84 +units=m +no_defs"
        assert CRS.from_wkt(system["Coordinate_System_String"][()].decode()) == CRS.from_epsg(32618)
        assert reflectance.attrs["Band_Window_1_Nanometers"].tolist() == [1340, 1445]
        assert reflectance.attrs["Band_Window_2_Nanometers"].tolist() == [1790, 1955]
        attrs = dict(reflectance["Reflectance_Data"].attrs)
        assert (attrs["Scale_Factor"], attrs["Data_Ignore_Value"], attrs["Interleave"]) == (10000.0, -9999.0, "BSQ")
        assert attrs["Dimensions"].tolist() == [*GRID, 426]
        assert attrs["Spatial_Extent_meters"].tolist() == [368000, 368000 + COLS, 4307000 - ROWS, 4307000]
        assert attrs["Spatial_Resolution_X_Y"].tolist() == [1, 1]
        names = {"Cloud_conditions", "Cloud_type", "Description", "Dimension_Labels", "Units", "Units_Valid_range"}
        assert names < set(attrs)
        wavelength = reflectance["Metadata/Spectral_Data/Wavelength"]
        first, last = (381.86, 2511.32) if product == "DP3.002" else (383.6579, 2511.9379)
        np.testing.assert_allclose(wavelength[[0, -1]], [first, last], rtol=1e-7)
        assert wavelength.attrs["Units"] == "nanometers"


def test_ancillary_values(tmp_path: Path) -> None:
    truth = write_tile(tmp_path / "new.h5", shape=GRID, product="DP3.002")
    write_tile(tmp_path / "old.h5", shape=GRID)
    valid = truth.abundance.notnull().all("endmember").values
    with h5py.File(tmp_path / "new.h5") as new, h5py.File(tmp_path / "old.h5") as old:
        layers = new[f"{ROOT}/Metadata/Ancillary_Imagery"]
        assert np.unique(layers["Acquisition_Date"][:][valid]).tolist() == [20250612]
        assert np.unique(layers["Weather_Quality_Indicator"][:][valid]).tolist() == [1]
        assert (layers["Weather_Quality_Indicator"][:][~valid] == 0).all()
        assert (layers["Slope"][:][~valid] == -9999).all()
        colours = old[f"{ROOT}/Metadata/Ancillary_Imagery/Weather_Quality_Indicator"][:]
        assert np.unique(colours[valid], axis=0).tolist() == [[0, 255, 0]]


def test_map_info_keeps_fractions_and_the_south(tmp_path: Path) -> None:
    write_tile(tmp_path / "t.h5", shape=(4, 4), bands=8, origin=(368000.125, 4307000.0625), pixel=0.7, epsg=32733)
    with h5py.File(tmp_path / "t.h5") as file:
        system = file[f"{ROOT}/Metadata/Coordinate_System"]
        fields = system["Map_Info"][()].decode().split(",")
        assert b"+south" in system["Proj4"][()]
    assert [float(f) for f in fields[3:7]] == [368000.125, 4307000.0625, 0.7, 0.7]
    assert [f.strip() for f in fields[7:9]] == ["33", "South"]


def test_holds_what_a_real_crop_holds(tile: tuple[Path, xr.Dataset], shared: Path) -> None:
    real = shared / "neon_sjer" / "NEON_D17_SJER_DP3_257000_4112000_reflectance_crop30.h5"
    assert {name.replace("SJER", "SERC", 1) for name in _datasets(real)} <= set(_datasets(tile[0]))
    with h5py.File(real) as theirs, h5py.File(tile[0]) as ours:
        attrs = theirs["SJER/Reflectance/Reflectance_Data"].attrs
        assert {k: float(np.ravel(v)[0]) for k, v in attrs.items()} == {k: ours[COUNTS].attrs[k] for k in attrs}


@pytest.mark.parametrize(
    ("product", "shape", "chunks"),
    [
        ("DP3.001", (1000, 1000), (32, 63, 27)),
        ("DP3.002", (1000, 1000), (1000, 1000, 1)),
        # read from NEON's line of 2021 by HyTools' users
        ("DP1.001", (751, 1900), (24, 119, 27)),
    ],
)
def test_default_chunks_at_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, product: str, shape: tuple[int, int], chunks: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(tile_writer, "_write_counts", lambda *_: None)
    write_tile(tmp_path / "t.h5", shape=shape, product=product, k=1)
    with h5py.File(tmp_path / "t.h5") as file:
        assert file[COUNTS].chunks == chunks


@pytest.mark.parametrize("chunks", [(40, 52, 1), (7, 13, 26), (1, 1, 60), (40, 1, 60), (32, 50, 59)])
@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"compression": None}, {"dtype": "int32"}])
def test_same_counts_in_any_layout(tmp_path: Path, chunks: tuple[int, int, int], options: dict[str, Any]) -> None:
    write_tile(tmp_path / "a.h5", shape=GRID, bands=60)
    write_tile(tmp_path / "b.h5", shape=GRID, bands=60, chunks=chunks, threads=3, **options)
    with h5py.File(tmp_path / "b.h5") as file:
        data = file[COUNTS]
        assert data.chunks == chunks
        assert data.compression == ("gzip" if options.get("compression", 3) else None)
        assert data.compression_opts == options.get("compression", 3)
        assert data.shuffle == options.get("shuffle", False)
        assert data.dtype == options.get("dtype", "int16")
        np.testing.assert_array_equal(data[:], _read(tmp_path / "a.h5"))


def test_stored_chunk_is_plain_gzip_3(tile: tuple[Path, xr.Dataset]) -> None:
    with h5py.File(tile[0]) as file:
        data = file[COUNTS]
        rows, cols, bands = data.chunks
        mask, raw = data.id.read_direct_chunk((rows, cols, bands))
        part = data[rows : 2 * rows, cols : 2 * cols, bands : 2 * bands]
        assert mask == 0
        assert raw == zlib.compress(part.tobytes(), 3)


def test_tiles_are_windows_of_one_scene(tmp_path: Path) -> None:
    options: dict[str, Any] = {"bands": 30, "no_data": "none"}
    first = write_tile(tmp_path / "a.h5", shape=(40, 52), **options)
    origin = (368000.0 - 9, 4307000.0 + 17)
    second = write_tile(tmp_path / "b.h5", shape=(61, 33), origin=origin, chunks=(61, 33, 1), **options)
    a, b = _read(tmp_path / "a.h5"), _read(tmp_path / "b.h5")
    np.testing.assert_array_equal(a[:, :24], b[17:57, 9:])
    xr.testing.assert_identical(first.isel(x=slice(24)), second.isel(y=slice(17, 57), x=slice(9, None)))


def test_half_metre_steps_do_not_tear_the_grid(tmp_path: Path) -> None:
    for i, x in enumerate((100.5, 101.5, 102.5)):
        write_tile(tmp_path / f"{i}.h5", shape=(4, 6), bands=5, no_data="none", origin=(x, 1000.5))
    a, b, c = (_read(tmp_path / f"{i}.h5") for i in range(3))
    np.testing.assert_array_equal(a[:, 1:], b[:, :-1])
    np.testing.assert_array_equal(b[:, 1:], c[:, :-1])


def test_scene_does_not_drift(tmp_path: Path) -> None:
    """Figures quoted for one seed must hold for the next version and the next processor."""
    write_tile(tmp_path / "t.h5", shape=(24, 31), bands=50, seed=7)
    assert zlib.crc32(_read(tmp_path / "t.h5").tobytes()) == 676150628


def test_threads_do_not_change_a_byte_and_seeds_do(tmp_path: Path) -> None:
    for name, seed, threads in (("a", 1, 1), ("b", 1, 4), ("c", 2, 1), ("d", -1, 1)):
        write_tile(tmp_path / name, shape=GRID, bands=20, seed=seed, threads=threads)
    a, b, c, d = ((tmp_path / name).read_bytes() for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


@pytest.mark.parametrize("illumination", [0.0, 0.1])
@pytest.mark.parametrize("k", [1, 4, 12])
def test_truth_explains_the_counts(tmp_path: Path, k: int, illumination: float) -> None:
    truth = write_tile(tmp_path / "t.h5", shape=GRID, k=k, noise=0.0, illumination=illumination, no_data="none")
    assert ((truth.illumination == 1).all().item()) == (illumination == 0)
    model = xr.dot(truth.abundance.astype("f8"), truth.reflectance, dim="endmember") * truth.illumination
    counts = _read(tmp_path / "t.h5")
    good = _outside_windows(truth.wavelength.values)
    off = np.abs(model.transpose("y", "x", "wavelength").values * 10000 - counts)[:, :, good]
    assert off.max() <= 0.5 + 1e-9
    total = truth.abundance.astype("f8").sum("endmember")
    assert (total == 1).all()


def test_independent_solver_finds_the_abundances(tmp_path: Path) -> None:
    truth = write_tile(tmp_path / "t.h5", shape=(12, 12), noise=0.0, illumination=0.0, no_data="none")
    good = _outside_windows(truth.wavelength.values)
    pixels = _read(tmp_path / "t.h5")[:, :, good].reshape(144, -1) / 10000
    found = np.array([nnls(truth.reflectance.values[:, good].T, pixel)[0] for pixel in pixels])
    np.testing.assert_allclose(found, truth.abundance.values.reshape(4, 144).T, atol=1e-3)


@pytest.mark.parametrize(
    ("k", "origin"), [(2, (0.0, 0.0)), (4, (368000.0, 4307000.0)), (9, (-35.0, 77.0)), (14, (5, 5))]
)
def test_every_endmember_has_pure_pixels(tmp_path: Path, k: int, origin: tuple[float, float]) -> None:
    side = 16 * (int(np.ceil(np.sqrt(k))) + 1)
    truth = write_tile(tmp_path / "t.h5", shape=(side, side), bands=3, k=k, origin=origin, no_data="none")
    assert ((truth.abundance == 1).sum(("y", "x")) >= 21).all()


def test_truth_labels(tile: tuple[Path, xr.Dataset]) -> None:
    truth = tile[1]
    assert truth.abundance.dims == ("endmember", "y", "x")
    assert truth.abundance.dtype == np.float32
    assert truth.reflectance.dims == ("endmember", "wavelength")
    assert truth.reflectance.dtype == np.float64
    assert truth.endmember.values.tolist() == ["EM1", "EM2", "EM3", "EM4"]
    assert truth.material.values.tolist() == list(MATERIALS)[:4]
    assert truth.x.values[[0, -1]].tolist() == [368000.5, 368079.5]
    assert truth.y.values[[0, -1]].tolist() == [4306999.5, 4306904.5]


def test_materials_are_distinct_and_plausible() -> None:
    spectra = pure_spectra(list(MATERIALS), neon_wavelength("DP3.001", 426))
    assert len(spectra) >= 12
    assert spectra.min() > 0
    assert spectra.max() <= 0.7
    unit = spectra / np.linalg.norm(spectra, axis=1, keepdims=True)
    angle = np.arccos(np.clip(unit @ unit.T, -1, 1))[np.triu_indices(len(unit), 1)]
    assert angle.min() > 0.07
    green, nm = spectra[0], neon_wavelength("DP3.001", 426)
    red, edge = green[np.abs(nm - 670).argmin()], green[np.abs(nm - 800).argmin()]
    assert (edge - red) / (edge + red) > 0.7


def test_noise_is_of_the_size_asked_for(tmp_path: Path) -> None:
    options = {"shape": (60, 60), "no_data": "none", "k": 1, "illumination": 0.0}
    clean = write_tile(tmp_path / "t.h5", noise=0.002, **options)
    off = _read(tmp_path / "t.h5") - 10000 * clean.reflectance.values[0]
    good = (clean.wavelength.values > 430) & (clean.wavelength.values < 2450)
    good &= _outside_windows(clean.wavelength.values)
    np.testing.assert_allclose(off[:, :, good].std((0, 1)), 20, rtol=0.1)
    assert np.abs(off[:, :, good].mean((0, 1))).max() < 1.5
    flat = off[:, :, good].reshape(-1, good.sum())
    beside = np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1]
    bands = np.corrcoef(flat[:, :-1].ravel(), flat[:, 1:].ravel())[0, 1]
    assert abs(beside) < 0.01
    assert abs(bands) < 0.01


def test_values_are_those_of_neon(tile: tuple[Path, xr.Dataset]) -> None:
    path, truth = tile
    counts = _read(path)
    good = _outside_windows(truth.wavelength.values)
    valid = truth.abundance.notnull().all("endmember").values
    assert counts[valid].min() == 0
    assert counts[valid].max() == 14998
    assert (counts[valid][:, ~good] > 10000).any()
    assert not (counts[valid][:, good] > 10000).any()
    water = truth.abundance.values[2] == 1
    assert (counts[water][:, good] == 0).any()


def test_glint_lifts_good_bands_above_10000(tmp_path: Path) -> None:
    truth = write_tile(tmp_path / "t.h5", shape=(60, 60), no_data="none", glint=0.05, noise=0.0)
    good = _outside_windows(truth.wavelength.values)
    high = (_read(tmp_path / "t.h5")[:, :, good] > 10000).any(-1)
    bright = truth.illumination.values > 2
    assert high.any()
    assert not (high & ~bright).any()
    assert 0.03 < bright.mean() < 0.07


@pytest.mark.parametrize("chunks", [None, (160, 160, 1)])
def test_compresses_like_a_real_tile(tmp_path: Path, chunks: tuple[int, int, int] | None) -> None:
    """NEON's tiles take about 650 MB, 1.5 bytes a count."""
    write_tile(tmp_path / "t.h5", shape=(160, 160), chunks=chunks)
    with h5py.File(tmp_path / "t.h5") as file:
        ratio = file[COUNTS].id.get_storage_size() / file[COUNTS].size
    assert 1.35 < ratio < 1.65


@pytest.mark.parametrize("no_data", ["corners", "half", "none"])
def test_no_data(tmp_path: Path, no_data: str) -> None:
    truth = write_tile(tmp_path / "t.h5", shape=GRID, bands=40, no_data=no_data)
    missing = _read(tmp_path / "t.h5") == -9999
    assert (missing.any(-1) == missing.all(-1)).all()
    missing = missing.all(-1)
    np.testing.assert_array_equal(missing, truth.abundance.isnull().all("endmember").values)
    np.testing.assert_array_equal(missing, truth.abundance.isnull().any("endmember").values)
    corners = missing[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()
    if no_data == "corners":
        assert corners == [True] * 4
        assert not missing[ROWS // 2].any()
        assert 0.01 < missing.mean() < 0.15
    elif no_data == "half":
        assert missing[:, : COLS // 2].all()
        assert not missing[:, COLS // 2 :].any()
    else:
        assert not missing.any()


def test_own_wavelengths(tmp_path: Path) -> None:
    grid = np.array([400.0, 550.5, 1400.0, 2200.0])
    truth = write_tile(tmp_path / "t.h5", shape=(5, 7), wavelength=grid, product="DP3.002")
    np.testing.assert_array_equal(truth.wavelength, grid)
    with h5py.File(tmp_path / "t.h5") as file:
        np.testing.assert_array_equal(file[f"{ROOT}/Metadata/Spectral_Data/Wavelength"], grid)
        assert file[COUNTS].shape == (5, 7, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"product": "DP3.003"}, "DP3.002"),
        ({"k": 0}, "k is 0"),
        ({"k": 99}, "k is 99"),
        ({"bands": 0}, "bands is 0"),
        ({"bands": 3, "wavelength": [400.0, 500.0]}, "bands is 3"),
        ({"chunks": (5, 5, 99)}, r"chunks are \(5, 5, 99\)"),
        ({"chunks": (5, 5)}, r"chunks are \(5, 5\)"),
        ({"shape": (0, 5)}, "at least one row"),
        ({"no_data": "some"}, "corners"),
        ({"dtype": "float32"}, "int16 or int32"),
        ({"compression": 11}, "compression is 11"),
        ({"pixel": 0.0}, "pixel"),
        ({"threads": 0}, "threads"),
        ({"epsg": 4326}, "EPSG 4326"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(HsiError, match=words) as caught:
        write_tile(tmp_path / "t.h5", **{"shape": (5, 5), "bands": 6, **options})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(HsiError, match="is not a folder") as caught:
        write_tile(tmp_path / "no" / "t.h5", shape=(5, 5), bands=4)
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "t.h5").mkdir()
    with pytest.raises(HsiError, match="Is a directory"):
        write_tile(tmp_path / "t.h5", shape=(5, 5), bands=4)
    assert os.listdir(tmp_path) == ["t.h5"]


@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "Can't write data (errno = 28, error message = 'No space left on device')"),
        RuntimeError("Unable to flush (time = now\n, errno = 28, error message = 'No space left on device', buf = 0)"),
    ],
)
def test_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    path = tmp_path / "t.h5"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise failure

    monkeypatch.setattr(tile_writer, "_store", full)
    with pytest.raises(HsiError, match="No space left on device; ") as caught:
        write_tile(path, shape=(5, 5), bands=4)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["t.h5"]
