"""Results for ENVI, read back by Spectral Python, GDAL and rasterio: the same bits, names, colours, place."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import spectral.io.envi
import xarray as xr
from affine import Affine

from hsichunk import schema
from hsichunk.classification.palette import class_colors
from hsichunk.errors import HsiError
from hsichunk.results import export
from hsichunk.writers import envi
from hsichunk.writers.envi import write_envi
from hsichunk.writers.zarr_store import open_store, write_zarr
from tests.helpers.maps import NAMES, abundance, bits, blocks_written, class_map, located
from tests.helpers.runs import endmembers, go, products, shell
from tests.helpers.tiles import small_tile
from tests.helpers.written import listing

FLOATS = ("abundance", "rmse", "sam", "sid")
CLASSES = ("sam_class", "sid_class")
PAIRS = {f"{name}{suffix}" for name in (*FLOATS, *CLASSES) for suffix in (".img", ".hdr")}
LIBRARY = {"endmembers.sli", "endmembers.hdr"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    go(small_tile(folder / "tile.h5"), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def exported(out: Path) -> Path:
    """What the command leaves in the folder of a run."""
    status, said = shell("export", out, "--format", "envi")
    assert status == 0, said
    paths = [Path(line) for line in said.splitlines()]
    assert {path.name for path in paths} == {name for name in PAIRS | LIBRARY if not name.endswith(".hdr")}
    assert all(path.parent == out / "envi" and path.is_file() for path in paths)
    return out / "envi"


def opened(path: Path) -> Any:
    return spectral.io.envi.open(path.with_suffix(".hdr"), path)


# -- a run --------------------------------------------------------------------------------------------------------


def test_every_map_of_the_store_is_there_and_nothing_else(out: Path, exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == PAIRS | LIBRARY
    maps = [name for name, data in products(out).data_vars.items() if "y" in data.dims]
    assert sorted(maps) == sorted((*FLOATS, *CLASSES))
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", (*FLOATS, *CLASSES))
def test_rasterio_and_spectral_python_read_the_bits_of_the_store(out: Path, exported: Path, name: str) -> None:
    truth = products(out)[name]
    layers = truth.values.reshape(-1, *truth.shape[-2:])
    path = exported / f"{name}.img"
    names = products(out).endmember.values.tolist() if truth.ndim == 3 else [name]
    with rasterio.open(path) as raster:
        assert raster.driver == "ENVI"
        np.testing.assert_array_equal(bits(raster.read()), bits(layers))
        assert raster.crs.to_epsg() == 32618
        assert raster.transform == truth.rio.transform() == Affine(1, 0, 368000, 0, -1, 4307000)
        assert raster.bounds == truth.rio.bounds()
        assert list(raster.descriptions) == names
        np.testing.assert_equal(raster.nodata, 255 if name in CLASSES else np.nan)
    image = opened(path)
    np.testing.assert_array_equal(np.moveaxis(image.open_memmap(), 2, 0), layers)
    assert image.metadata["band names"] == names
    kind = "ENVI Classification" if name in CLASSES else "ENVI Standard"
    assert image.metadata["file type"] == kind
    assert image.metadata["map info"][:9] == ["UTM", "1", "1", "368000", "4307000", "1", "1", "18", "North"]
    assert "PROJCS[" in "".join(image.metadata["coordinate system string"])
    description = image.metadata["description"]
    assert truth.attrs["long_name"] in description
    assert ("[rad]" in description, "[nat]" in description) == (name == "sam", name == "sid")
    assert str(out) not in path.with_suffix(".hdr").read_text(), "a header must not name the folder it was made in"


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_names_and_colours(out: Path, exported: Path, name: str) -> None:
    metadata = opened(exported / f"{name}.img").metadata
    names = ["unclassified", *products(out).endmember.values.tolist()]
    assert metadata["classes"] == "5"
    assert metadata["class names"] == names
    assert [int(value) for value in metadata["class lookup"]] == class_colors(4).ravel().tolist()
    with rasterio.open(exported / f"{name}.img") as raster:
        assert [list(raster.colormap(1)[value]) for value in range(5)] == [[*c, 255] for c in class_colors(4).tolist()]
    tool = shutil.which("gdalinfo")
    if tool is None:
        pytest.skip("GDAL's command line tools (gdal-bin) are not here")
    said = subprocess.run([tool, str(exported / f"{name}.img")], capture_output=True, text=True, check=True).stdout
    categories = said.split("Categories:")[1].split("Color Table")[0].splitlines()
    assert [line.strip() for line in categories if line.strip()] == [f"{i}: {n}" for i, n in enumerate(names)]


def test_endmembers_are_a_spectral_library(out: Path, exported: Path) -> None:
    em = endmembers(out)
    library = opened(exported / "endmembers.sli")
    assert type(library).__name__ == "SpectralLibrary"
    np.testing.assert_array_equal(library.spectra, em.values)
    np.testing.assert_array_equal(library.bands.centers, em.wavelength.values)
    assert library.bands.band_unit == "Nanometers"
    assert library.names == em.endmember.values.tolist()


def test_exporting_again_replaces_its_files_and_no_others(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "for" / "envi"
    assert shell("export", out, "-o", folder)[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "rmse.img").write_bytes(b"old")
    (folder / "rmse.img.aux.xml").write_text("statistics that a GIS made of the old one")
    (folder / "notes.txt").write_text("mine")
    assert shell("export", out, "-o", folder)[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before | {"notes.txt": b"mine"}


def test_what_cannot_be_exported_is_one_line(out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, message in (
        ((out, "--format", "grid"), "format is 'grid'; expected envi"),
        ((tmp_path,), "holds no run.json; expected the folder of a finished"),
        ((out, "-o", tmp_path / "file"), "is no folder"),
        ((out, "-o", tmp_path / "file" / "below"), "cannot write"),
    ):
        status, said = shell("export", *words)
        assert (status, said.count("\n")) == (1, 1), said
        assert message in said
    assert listing(tmp_path) == {"file"}


def test_a_failed_export_leaves_what_was_there(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of the files fails: none of the others has changed."""
    shell("export", out, "-o", tmp_path / "envi")
    (tmp_path / "envi" / "rmse.img").write_bytes(b"old")

    def failing(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(export, "write_library", failing)
    status, said = shell("export", out, "-o", tmp_path / "envi")
    assert (status, said.count("\n")) == (1, 1)
    assert "No space left" in said
    assert (tmp_path / "envi" / "rmse.img").read_bytes() == b"old"
    assert listing(tmp_path) == {"envi"}
    assert {path.name for path in (tmp_path / "envi").iterdir()} == PAIRS | LIBRARY


# -- any map, and cubes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [{"y": 32, "x": 33}, {"y": (1, 60, 9), "endmember": 3}, {"x": 1, "y": 35}])
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_the_same_bytes_for_any_blocks(tmp_path: Path, chunks: Any, scheduler: str) -> None:
    write_envi(abundance(), tmp_path / "1.img")
    with dask.config.set(scheduler=scheduler, num_workers=3):
        write_envi(abundance().chunk(chunks), tmp_path / "2.img")
    for suffix in (".img", ".hdr"):
        assert (tmp_path / f"1{suffix}").read_bytes() == (tmp_path / f"2{suffix}").read_bytes()
    assert listing(tmp_path) == {"1.img", "1.hdr", "2.img", "2.hdr"}


def test_stored_maps_are_never_loaded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zarr(abundance(600, 700).chunk(y=256, x=256).to_dataset(), tmp_path / "a.zarr")
    written = blocks_written(monkeypatch, envi._Bands)
    data = open_store(tmp_path / "a.zarr", dask=False).abundance
    write_envi(data, tmp_path / "a.img")
    assert not data.variable._in_memory
    assert len(written) == 9
    assert max(written) == (4, 256, 256)
    with rasterio.open(tmp_path / "a.img") as raster:
        np.testing.assert_array_equal(bits(raster.read()), bits(abundance(600, 700).values))


def test_cubes_carry_their_wavelengths(tmp_path: Path) -> None:
    cube = located(np.random.default_rng(0).random((3, 8, 9)).astype(np.float32), "reflectance")
    cube = cube.rename(endmember="wavelength").assign_coords(wavelength=[381.5, 550.0, 2100.25])
    cube = cube.assign_coords(fwhm=("wavelength", [5.25, 5.5, 6.0])).transpose("y", "x", "wavelength")
    for lazy in (cube, cube.chunk(y=3, wavelength=2)):
        image = opened(write_envi(lazy, tmp_path / "cube.img"))
        np.testing.assert_array_equal(image.open_memmap(), cube.values)
        assert image.bands.centers == [381.5, 550.0, 2100.25]
        assert image.bands.bandwidths == [5.25, 5.5, 6.0]
        assert image.bands.band_unit == "Nanometers"
        with rasterio.open(tmp_path / "cube.img") as raster:
            assert [raster.tags(band)["wavelength"] for band in (1, 2, 3)] == ["381.5", "550.0", "2100.25"]


def test_names_that_would_end_an_entry(tmp_path: Path) -> None:
    data = abundance().assign_coords(endmember=["water, deep", "{a}", "b\nc", "forêt = x"])
    data.attrs["long_name"] = "share {of} a, b"
    with rasterio.open(write_envi(data, tmp_path / "a.img")) as raster:
        assert raster.descriptions == ("water deep", "a", "b c", "forêt = x")
    assert opened(tmp_path / "a.img").metadata["band names"] == ["water deep", "a", "b c", "forêt = x"]
    assert opened(tmp_path / "a.img").metadata["description"] == "share of a, b"
    assert opened(write_envi(class_map(), tmp_path / "c.img")).metadata["class names"][1:] == [
        name.replace(" ", "_") for name in NAMES
    ]


def test_rows_run_from_north_to_south_and_numbers_keep_their_type(tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4)
    for kind in ("i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f8"):
        data = located(values.astype(kind), "counts", **{schema.NO_DATA: -9999} if kind == "i2" else {})
        write_envi(data[::-1], tmp_path / "t.img")
        with rasterio.open(tmp_path / "t.img") as raster:
            np.testing.assert_array_equal(raster.read(1), values)
            assert raster.dtypes[0] == np.dtype(kind).newbyteorder("=").name
            assert raster.transform == Affine(1, 0, 368000, 0, -1, 4307000)
            assert (raster.nodata == -9999) == (kind == "i2")
    bare = xr.DataArray(values.astype("f4"), dims=("y", "x"))
    header = write_envi(bare, tmp_path / "t.img").with_suffix(".hdr").read_text()
    assert "map info" not in header
    np.testing.assert_array_equal(opened(tmp_path / "t.img").open_memmap()[..., 0], values)


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (abundance().isel(y=0), "t.img", "an ENVI file holds"),
        (abundance().isel(x=slice(0)), "t.img", "no pixels"),
        (abundance().astype(complex), "t.img", "complex128"),
        (abundance().isel(y=[0, 1, 2, 4]), "t.img", "not evenly spaced"),
        (abundance(), "t.hdr", r"names no data file; give one, such as .*t\.img"),
        (abundance(), "", "names no data file"),
    ],
)
def test_what_is_refused(tmp_path: Path, data: xr.DataArray, name: str, message: str) -> None:
    with pytest.raises(HsiError, match=message) as caught:
        write_envi(data, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == set()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(HsiError, match=r"writing .*t\.img failed") as caught:
            write_envi(located(np.ones((400, 500), np.float32), "rmse"), tmp_path / "t.img")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == set()
