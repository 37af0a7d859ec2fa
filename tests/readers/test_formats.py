"""The registry of formats: a reader is one module and one line, and everything that reads files knows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hsichunk as hsi
from hsichunk.errors import HsiError
from hsichunk.grid import Grid
from hsichunk.mosaic.site import open_site
from hsichunk.readers import formats
from hsichunk.readers.model import Bands, ReadOptions, TileFile
from tests.helpers import image_files, numpy_tiles, runs
from tests.helpers.numpy_tiles import NUMPY
from tests.helpers.tiles import small_tile


@pytest.fixture
def registered() -> Iterator[None]:
    """The tests' own format is known."""
    formats.register(NUMPY)
    yield
    formats.FORMATS.remove(NUMPY)


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tile(tmp_path_factory.mktemp("tile") / "scene.h5")


def same_as(tile: Path, path: Path, **changed: Any) -> Path:
    """An .npz of what a NEON tile says."""
    file = formats.read(tile)
    counts = file.reflectance.read(*map(np.arange, file.reflectance.shape))
    said = {
        "fwhm": file.fwhm,
        "scale": file.scale,
        "no_data": file.no_data,
        "windows": np.array(file.windows),
        "corner": np.array([file.grid.left, file.grid.top]),
    }
    said = {name: value for name, value in (said | changed).items() if value is not None}
    return numpy_tiles.write(path, counts, file.wavelength, **said)


@pytest.mark.usefixtures("registered")
def test_a_tile_of_another_format_opens_as_a_tile_of_neon(tile: Path, tmp_path: Path, no_compute: Any) -> None:
    path = same_as(tile, tmp_path / "scene.npz")
    with no_compute():
        ours, theirs = hsi.open_tile(path), hsi.open_tile(tile)
        cube = hsi.clean(ours)
    assert ours.title == "NumPy counts, scene" and "site" not in ours.attrs and "sensor" not in ours.attrs
    assert ours.reflectance.encoding["preferred_chunks"] == {
        "y": numpy_tiles.SIDE,
        "x": numpy_tiles.SIDE,
        "wavelength": 40,
    }
    xr.testing.assert_equal(ours, theirs[["reflectance"]].drop_vars("flight_line", errors="ignore"))
    for name in ("scale_factor_stored", "data_ignore_value", "bad_band_windows", "units"):
        assert ours.reflectance.attrs[name] == theirs.reflectance.attrs[name], name
    assert ours.spatial_ref.attrs == theirs.spatial_ref.attrs
    xr.testing.assert_equal(cube, hsi.clean(theirs))
    em = hsi.nfindr(cube, 3, sample=None)
    runs.assert_same(hsi.unmix(cube, em).compute(), hsi.unmix(hsi.clean(theirs), em).compute())
    with pytest.raises(HsiError, match=r"arrays of NumPy \(.npz\) say their wavelengths, scale and no-data themselves"):
        formats.read(path, scale=1.0)


@pytest.mark.usefixtures("registered")
def test_a_run_over_another_format_gives_the_bits_of_neons(tile: Path, tmp_path: Path) -> None:
    path = same_as(tile, tmp_path / "scene.npz")
    given: dict[str, Any] = {"metric": "sam,sid,sid-sam,ncc,chebyshev", "mask": ["ndvi=0.0:1"], "seed": 3}
    runs.go(tile, tmp_path / "neon", **given)
    runs.go(path, tmp_path / "numpy", **given)
    runs.assert_same(runs.products(tmp_path / "neon"), runs.products(tmp_path / "numpy"))
    np.testing.assert_array_equal(runs.endmembers(tmp_path / "neon"), runs.endmembers(tmp_path / "numpy"))
    code, said = runs.shell("run", path, "--out", tmp_path / "shell", "--metric", "sam", "--seed", "3")
    assert code == 0, said
    runs.go(tile, tmp_path / "sam", metric="sam", seed=3)
    runs.assert_same(runs.products(tmp_path / "sam"), runs.products(tmp_path / "shell"))


@pytest.mark.usefixtures("registered")
def test_info_and_audit_of_another_format(tile: Path, tmp_path: Path) -> None:
    path = same_as(tile, tmp_path / "scene.npz", scale=None, corner=None)
    code, said = runs.shell("info", path)
    assert code == 0 and "scene, 90 x 70 pixels\n" in said and "crs       none" in said and "scale 10000" in said
    code, said = runs.shell("info", path, "--json")
    assert code == 0 and json.loads(said)["provenance"] == {
        "scale": "fallback",
        "no_data": "file",
        "bad_bands": "file",
        "wavelength": "file",
        "grid": "absent",
    }
    pytest.importorskip("cvxopt", reason="an audit needs the `reference` extra")
    pytest.importorskip("pysptools", reason="an audit needs the `reference` extra")
    from hsichunk.results.audit import audit

    path = same_as(tile, path)
    runs.go(path, tmp_path / "out")
    assert audit(tmp_path / "out", [path], pixels=40).passed


@pytest.mark.usefixtures("registered")
def test_tiles_of_two_formats_make_one_site(tile: Path, tmp_path: Path) -> None:
    """The metadata are read in forked processes, which know what their parent has registered."""
    file = formats.read(tile)
    beside = same_as(tile, tmp_path / "beside.npz", corner=np.array([file.grid.left + 70, file.grid.top]))
    site = open_site([tile, beside])
    assert (site.rows, site.cols) == (90, 140) and len(site.tiles) == 2
    mosaic = hsi.open_mosaic([tile, beside]).reflectance.values
    np.testing.assert_array_equal(mosaic[:, :70], mosaic[:, 70:])
    (tmp_path / "bad.npz").write_text("text")
    with pytest.raises(HsiError, match=r"bad\.npz: is no \.npz of counts; expected one that numpy.savez wrote"):
        open_site([tmp_path / "bad.npz", tile])


def test_an_unknown_file_is_taken_for_a_tile_of_neon(tile: Path, tmp_path: Path) -> None:
    path = same_as(tile, tmp_path / "scene.npz")
    with pytest.raises(HsiError, match="not an HDF5 file; NEON reflectance tiles are HDF5"):
        hsi.open_tile(path)
    with pytest.raises(HsiError, match="open_tile got int; expected the path"):
        formats.read(5)  # type: ignore[arg-type]


def test_the_first_that_recognises_a_path_reads_it(tile: Path, tmp_path: Path, registered: None) -> None:
    assert formats.format_of("a.npz") is NUMPY and formats.FORMATS[0] is NUMPY
    greedy = replace(NUMPY, name="greedy", recognises=lambda path: True)
    formats.register(greedy)
    try:
        assert formats.format_of(tile) is greedy
        assert formats.format_of("a.tif", image=True).name == "GeoTIFF"  # whom the user may tell what a file leaves out
    finally:
        formats.FORMATS.remove(greedy)
    assert formats.format_of(tile) is formats.NEON
    with pytest.raises(HsiError, match="a format NumPy is registered already; give it another name"):
        formats.register(NUMPY)


def test_every_format_that_is_registered_has_a_reader() -> None:
    assert len({found.name for found in formats.FORMATS}) == len(formats.FORMATS) >= 4
    for found in formats.FORMATS:
        module, _, function = found.read.partition(":")
        assert callable(getattr(import_module(module), function)) and found.description


def test_readers_are_imported_when_they_are_needed() -> None:
    words = "import sys; from hsichunk.readers import formats; formats.format_of('a.tif'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.split()
    assert "hsichunk.readers.formats" in loaded
    readers = {found.read.partition(":")[0] for found in formats.FORMATS}
    assert readers.isdisjoint(loaded) and {"h5py", "rasterio", "xarray", "dask"}.isdisjoint(loaded)
    words = "import sys; from hsichunk.readers import formats; formats.prepare(['a.h5', 'b.h5']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.split()
    assert {"hsichunk.readers.neon", "h5py"} <= set(loaded) and {"rasterio", "xarray", "dask"}.isdisjoint(loaded)


def test_a_site_imports_readers_before_it_forks(tile: Path) -> None:
    """Metadata are read in children, each of which would import them again."""
    words = f"import sys; from hsichunk.mosaic import site; site.open_site([{str(tile)!r}]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.split()
    assert {"hsichunk.readers.neon", "h5py"} <= set(loaded) and {"rasterio", "xarray", "dask"}.isdisjoint(loaded)


def test_floats_are_refused_of_any_format(tmp_path: Path, registered: None) -> None:
    path = numpy_tiles.write(tmp_path / "f.npz", np.ones((4, 4, 12), np.float32), np.linspace(400, 900, 12))
    with pytest.raises(HsiError, match=r"f\.npz: holds float32; expected whole numbers"):
        formats.read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = formats.read(path, floats=True)
    assert isinstance(file, TileFile) and file.place is None and file.grid.top == -0.5


def test_a_mosaic_of_images_drops_no_band_at_the_end(tmp_path: Path) -> None:
    """As a run over them does: ten are noise in NEON's tiles alone."""
    pytest.importorskip("rasterio")
    lines = (
        "reflectance scale factor = 10000\nsensor type = Some\n"
        "map info = {UTM, 1, 1, 368000, 4307000, 1, 1, 18, North, WGS-84, units=Meters}\n"
    )
    values = np.ones((6, 7, 12), np.int16)
    path = image_files.write_envi(tmp_path / "a.img", values, lines=lines, nm=np.linspace(400.0, 900.0, 12))
    mosaic = hsi.open_mosaic([path])
    assert hsi.clean(mosaic).sizes["wavelength"] == 12 == hsi.clean(hsi.open_tile(path)).sizes["wavelength"]
    assert (mosaic.title, mosaic.sensor) == ("reflectance, a", "Some")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bands": 11}, "11 wavelengths for 12 bands; expected one a band, ascending"),
        ({"falling": True}, "12 wavelengths for 12 bands; expected one a band, ascending"),
        ({"fwhm": 3}, "3 widths for 12 bands; expected one a band, or none"),
        ({"scale": 0.0}, "the scale is 0; expected counts per unit reflectance, above 0"),
        ({"offset": 0.1}, "the offset is 0.1; expected 0"),
        ({"place": Grid(0.0, 4.0, 1.0, -1.0, 32618, None)}, "pixels of 1 x -1; expected widths and heights above 0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_reader_that_contradicts_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    """Whatever the format: what a TileFile says is checked where it is made."""
    path = numpy_tiles.write(tmp_path / "f.npz", np.ones((4, 4, 12), np.int16), np.linspace(400, 900, 12))
    good = numpy_tiles.read

    def reader(name: str, options: ReadOptions) -> TileFile:
        file = good(name, options)
        nm = file.wavelength[: changed.get("bands", 12)]
        bands = Bands(nm[::-1] if "falling" in changed else nm, nm[: changed["fwhm"]] if "fwhm" in changed else None)
        rest = {name: value for name, value in changed.items() if name in ("scale", "offset", "place")}
        return replace(file, bands=bands, **rest)

    monkeypatch.setattr(numpy_tiles, "read", reader)
    monkeypatch.setattr(formats, "FORMATS", [NUMPY, *formats.FORMATS])
    with pytest.raises(HsiError, match=re.escape(message)):
        hsi.open_tile(path)
