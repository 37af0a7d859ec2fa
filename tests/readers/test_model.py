"""TileFile: what every reader says, where it came from, and that nobody else decides it."""

from __future__ import annotations

import ast
import dataclasses
import pickle
import typing
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import hsichunk as hsi
from hsichunk.errors import HsiError
from hsichunk.readers import formats
from hsichunk.readers.model import (
    NOWHERE,
    Bands,
    ReadOptions,
    Source,
    TileFile,
    bad_windows,
    no_data_count,
)
from tests.helpers import image_files, tiles

pytest.importorskip("rasterio")
NM = np.linspace(400.0, 1000.0, 6)
MAP = "map info = {UTM, 1, 1, 368000, 4307000, 1, 1, 18, North, WGS-84, units=Meters}\n"
EVERYTHING = f"reflectance scale factor = 10000\ndata ignore value = -9999\nbbl = {{1,0,1,1,0,0}}\n{MAP}"


def read(path: Path, **asked: Any) -> TileFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return formats.read(path, **asked)


def counts() -> Any:
    return np.random.default_rng(0).integers(1, 9000, (7, 9, 6)).astype(np.int16)


def write_emit(path: Path, *, fill: bool = True, flags: bool = True) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("reflectance", data=np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6))
        if fill:
            data.attrs["_FillValue"] = np.float32([-9000])
        file["sensor_band_parameters/wavelengths"] = NM.astype(np.float32)
        if flags:
            file["sensor_band_parameters/good_wavelengths"] = np.array([1, 1, 0, 0, 1, 1], np.uint8)
        for name, values in zip(("lat", "lon"), np.mgrid[40:41:4j, -120:-119:5j], strict=True):
            file[f"location/{name}"] = values
    return path


# where each value came from


def test_a_complete_tile_of_neon_states_everything(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = formats.read(tiles.write_counts(tmp_path / "a.h5"))
    assert set(file.provenance.words().values()) == {"file"}
    assert (file.kind, file.site, file.title) == ("NEON AOP reflectance", "SERC", "NEON AOP reflectance, SERC")
    assert (file.scale, file.offset, file.no_data, file.drop_last) == (10000.0, 0.0, -9999, 10)
    assert file.place == file.grid and file.grid.epsg == 32618 and file.names_site


@pytest.mark.parametrize(
    ("left_out", "value"),
    [
        ("scale", lambda file: tiles.data_attrs(file).pop("Scale_Factor")),
        ("no_data", lambda file: tiles.data_attrs(file).pop("Data_Ignore_Value")),
        ("bad_bands", lambda file: [tiles.group(file).attrs.pop(f"Band_Window_{i}_Nanometers") for i in (1, 2)]),
        (
            "grid",
            lambda file: (
                tiles.system(file).pop("Map_Info"),
                tiles.data_attrs(file).update(Spatial_Extent_meters=[0.0, 14.0, 0.0, 12.0]),
            ),
        ),
        ("grid", lambda file: [tiles.system(file).pop(name) for name in ("EPSG Code", "Coordinate_System_String")]),
    ],
)
def test_what_a_tile_of_neon_leaves_out_is_a_fallback_that_is_warned_of(
    tmp_path: Path, left_out: str, value: Any
) -> None:
    path = tiles.write_counts(tmp_path / "a.h5", then=value)
    with pytest.warns(hsi.HsiWarning):
        said = formats.read(path).provenance.words()
    assert {name for name, source in said.items() if source == "fallback"} == {left_out}
    assert {source for name, source in said.items() if name != left_out} == {"file"}


def test_an_image_says_everything_in_its_header(tmp_path: Path) -> None:
    path = image_files.write_envi(tmp_path / "a.img", counts(), lines=EVERYTHING, nm=NM, fwhm=5.5)
    file = read(path)
    assert set(file.provenance.words().values()) == {"file"}
    assert file.bands.good.tolist() == [True, False, True, True, False, False] and file.drop_last == 0
    assert file.place is not None and file.place.epsg == 32618
    assert (file.kind, file.site, file.title) == ("reflectance", "a", "reflectance, a.img")
    given = read(path, scale=2000.0, no_data=7, wavelength=NM + 1)
    assert given.provenance.words() == {
        "scale": "user",
        "no_data": "user",
        "bad_bands": "file",
        "wavelength": "user",
        "grid": "file",
    }
    assert (given.scale, given.no_data) == (2000.0, 7) and given.wavelength[0] == 401.0
    assert read(path, scale=0.5).provenance.no_data is Source.FILE


@pytest.mark.parametrize(("dtype", "scale"), [(np.int16, "fallback"), (np.float32, "absent")])
def test_an_image_that_says_little(tmp_path: Path, dtype: Any, scale: str) -> None:
    path = image_files.write_envi(tmp_path / "a.img", counts().astype(dtype), nm=NM)
    file = read(path, floats=True)
    assert file.provenance.words() == {
        "scale": scale,
        "no_data": "absent",
        "bad_bands": "absent",
        "wavelength": "file",
        "grid": "absent",
    }
    assert file.place is None and file.grid == NOWHERE and not file.grid.north_up
    assert file.as_stored is not None and file.as_stored.no_data is None
    assert file.bands.good.all() and file.windows == ()


def test_a_granule_of_emit_is_a_tile_file_too(tmp_path: Path) -> None:
    path = write_emit(tmp_path / "EMIT_L2A_RFL_001_x.nc")
    file = read(path, floats=True, swaths=True)
    assert file.provenance.words() == {
        "scale": "file",
        "no_data": "file",
        "bad_bands": "file",
        "wavelength": "file",
        "grid": "absent",
    }
    assert file.bands.good.tolist() == [True, True, False, False, True, True]
    assert file.no_data == -9000 and [layer.name for layer in file.layers] == ["lat", "lon"]
    values = file.reflectance.read(*map(np.arange, file.reflectance.shape))
    np.testing.assert_array_equal(values.ravel(), np.arange(4 * 5 * 6))
    path = write_emit(tmp_path / "EMIT_L2A_RFL_001_y.nc", fill=False, flags=False)
    with pytest.warns(hsi.HsiWarning, match="no _FillValue; using EMIT's -9999"):
        little = formats.read(path, floats=True, swaths=True)
    assert (little.provenance.no_data, little.provenance.bad_bands) == (Source.FALLBACK, Source.ABSENT)
    assert little.no_data == -9999 and little.bands.good.all()
    with pytest.raises(HsiError, match=r"is an EMIT granule, which hsi\.open_tile and hsi\.unmix read in Python"):
        formats.read(path, floats=True)
    with pytest.raises(HsiError, match=r"EMIT L2A reflectance granules \(NetCDF-4\) say their wavelengths"):
        hsi.open_image(path, scale=2.0)


@pytest.mark.parametrize("step", [1, -2])
def test_windows_of_a_granule_are_read_as_asked_for(tmp_path: Path, step: int) -> None:
    path = write_emit(tmp_path / "EMIT_L2A_RFL_001_x.nc")
    data, whole = hsi.open_tile(path).reflectance, np.arange(4 * 5 * 6).reshape(4, 5, 6)
    np.testing.assert_array_equal(data[::step, [4, 0, 2], 1:4].values, whole[::step][:, [4, 0, 2]][..., 1:4])
    np.testing.assert_array_equal(data[3, :, 5].values, whole[3, :, 5])
    assert data[1:1].values.shape == (0, 5, 6)
    again = hsi.open_tile(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(HsiError, match="changed since it was opened"):
        again.reflectance.load()


# the record itself


def test_the_record_is_frozen_and_travels(tmp_path: Path) -> None:
    for path in (
        tiles.write_counts(tmp_path / "a.h5"),
        image_files.write_envi(tmp_path / "b.img", counts(), lines=EVERYTHING, nm=NM),
    ):
        file = read(path)
        with pytest.raises(dataclasses.FrozenInstanceError):
            file.scale = 1.0  # type: ignore[misc]
        same = pickle.loads(pickle.dumps(file))
        assert (same.scale, same.no_data, same.place, same.provenance) == (
            file.scale,
            file.no_data,
            file.place,
            file.provenance,
        )
        at = [np.arange(3)] * 3
        np.testing.assert_array_equal(same.reflectance.read(*at), file.reflectance.read(*at))


def test_every_field_is_explained() -> None:
    """A docstring under each field whose name does not say it."""
    source = ast.parse(Path(str(import_module("hsichunk.readers.model").__file__)).read_text(encoding="utf-8"))
    [record] = [node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "TileFile"]
    fields = {node.target.id: at for at, node in enumerate(record.body) if isinstance(node, ast.AnnAssign)}
    bare = [name for name, at in fields.items() if not isinstance(record.body[at + 1], ast.Expr)]
    assert bare == ["bands", "layers", "provenance"]  # records that explain their own


def test_other_bands_keep_the_bad_windows(tmp_path: Path) -> None:
    file = read(tiles.write_counts(tmp_path / "a.h5"))
    moved = file.on_bands(file.reflectance, file.wavelength + 1, None)
    assert moved.windows == file.windows and moved.fwhm is None and moved.drop_last == 10
    np.testing.assert_array_equal(moved.wavelength, file.wavelength + 1)


@pytest.mark.parametrize("flags", ["111111", "000000", "011110", "101101", "110011"])
def test_windows_and_flags_say_the_same(flags: str) -> None:
    good = np.array([flag == "1" for flag in flags])
    windows = bad_windows(NM, good)
    assert all(low in NM and high in NM for low, high in windows)
    np.testing.assert_array_equal(Bands(NM, windows=windows).good, good)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (-9999.0, "i2", -9999),
        (None, "i2", -32768),
        (None, "u2", 65535),
        (0.5, "u2", 65535),
        (70000.0, "i2", -32768),
        (0.0, "u2", 0),
        (None, "f4", -(2**31)),
        (0.5, "f4", -(2**31)),
        (-9999.0, "f4", -9999),
    ],
)
def test_no_data_is_a_count_that_the_type_holds(value: float | None, dtype: str, expected: int) -> None:
    assert no_data_count(value, np.dtype(dtype)) == expected


def test_the_users_word_is_told_from_none() -> None:
    assert not ReadOptions(floats=True, swaths=True).has_user_values
    stated = (ReadOptions(no_data=0), ReadOptions(scale=0.0), ReadOptions(wavelength=[1.0]))
    assert all(options.has_user_values for options in stated)


# nobody else decides

PACKAGE = Path(hsi.__file__).parent
# what files call the values that a TileFile decides: the words of NEON, ENVI, EMIT and CF, as hdf5_names compares them
SAID = {
    "scale_factor", "reflectance_scale_factor", "data_ignore_value", "data_gain_values", "data_offset_values", "bbl",
    "band_window", "good_wavelengths", "map_info", "spatial_extent_meters", "epsg_code", "coordinate_system_string",
    "spectral_data", "reflectance_data", "sensor_band_parameters",
}  # fmt: skip
READ = {"neon", "neon_grid", "neon_layers", "emit", "image_metadata"}
ELSEWHERE = {
    "schema.py": "the attribute of the labelled cube that says the same",
    "endmembers/library_files.py": "spectral libraries are no tiles",
    "writers/": "writes files",
    "synthetic/": "writes files",
}


def strings(module: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string of a module that is no docstring, as names are compared."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value.lower().replace(" ", "_")


def says(module: Path) -> set[str]:
    return {text for _, text in strings(module)} & SAID


def test_only_readers_read_what_files_call_scale_no_data_bands_and_place() -> None:
    for module in sorted(PACKAGE.rglob("*.py")):
        name = module.relative_to(PACKAGE).as_posix()
        if any(name.startswith(start) for start in ELSEWHERE) or (
            module.parent.name == "readers" and module.stem in READ
        ):
            continue
        assert not says(module), f"{name} names {says(module)}; only a reader may, and gives it on as a TileFile"


def test_the_names_that_are_looked_for_are_those_that_readers_read() -> None:
    found = set().union(*(says(PACKAGE / "readers" / f"{stem}.py") for stem in READ))
    assert found == SAID
    assert all(any(name in path.as_posix() for path in PACKAGE.rglob("*.py")) for name in ELSEWHERE)


def test_readers_are_reached_by_the_registry_alone() -> None:
    """No module imports one, not even another reader of the package; and each gives a TileFile."""
    functions = {found.read for found in formats.FORMATS}
    readers = {name.partition(":")[0] for name in functions}
    private = readers | {f"hsichunk.readers.{name}" for name in ("neon_grid", "hdf5_names", "hdf5_windows")}
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                assert not names & readers, f"{module} imports a reader; expected formats.read"
                assert module.parent.name == "readers" or not names & private, f"{module} imports {names & private}"
                taken = {alias.name for alias in node.names if node.module == "hsichunk.readers.image_metadata"}
                assert module.parent.name == "readers" or taken <= {"opened"}, f"{module} reads an image itself"
    for name in functions:
        module_name, _, function = name.partition(":")
        module = import_module(module_name)
        assert typing.get_type_hints(getattr(module, function))["return"] is TileFile


def test_a_tile_file_is_made_by_readers_alone() -> None:
    makers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "TileFile"
    }
    assert makers == {"readers/neon.py", "readers/emit.py", "readers/image_file.py"}


def test_one_class_indexes_stored_values_lazily() -> None:
    """xarray's and dask's keys are understood in one place: a number drops its dimension, a list is an outer index."""
    drops = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "if isinstance(k, (int, np.integer)) else slice(None)" in path.read_text(encoding="utf-8")
    ]
    assert drops == ["readers/lazy_arrays.py"]
