"""Files that are no NEON tile, or none that can be trusted: one line that says why, never another error or number."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

import hsichunk as hsi
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.readers import neon
from hsichunk.readers.backend import NeonBackendEntrypoint
from tests.helpers.tiles import MAP_INFO, WKT, counts, data_attrs, group, replace, spectral, system, write_counts


def refused(path: Any, words: str) -> None:
    """Both ways of opening raise one line that has these words."""
    for opened in (hsi.open_tile, lambda p: xr.open_dataset(p, engine="neon")):
        with pytest.raises(HsiError, match=words) as caught:
            opened(path)
        assert "\n" not in str(caught.value)
        if isinstance(path, (str, Path)):
            assert os.path.basename(path) in str(caught.value)


def test_what_is_no_hdf5_file(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not a tile\n" * 100)
    refused(tmp_path / "text.h5", "not an HDF5 file; NEON reflectance tiles are HDF5")
    (tmp_path / "empty.h5").write_bytes(b"")
    refused(tmp_path / "empty.h5", "the file is empty")
    refused(tmp_path / "missing.h5", r"cannot be opened \(No such file")
    refused(tmp_path, "is a folder")
    (tmp_path / "random.h5").write_bytes(np.random.default_rng(0).bytes(5000))
    refused(tmp_path / "random.h5", "not an HDF5 file")


@pytest.mark.parametrize("what", [None, 3, io.BytesIO(b"x"), ["a.h5"], "nul\0byte"])
def test_what_is_no_path(what: Any) -> None:
    with pytest.raises(HsiError, match=r"expected the path|cannot be opened"):
        NeonBackendEntrypoint().open_dataset(what)
    with pytest.raises(HsiError):
        hsi.open_tile(what)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    path = write_counts(tmp_path / "t.h5")
    path.chmod(0)
    refused(path, "Permission denied")


@pytest.mark.parametrize("product", ["DP3.001", "DP3.002", "DP1.001"])
def test_a_truncated_file_at_any_length(product: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    hsi.synthetic.write_tile(path, shape=(20, 30), bands=30, product=product)
    whole = path.read_bytes()
    lengths = {
        0,
        1,
        7,
        8,
        9,
        47,
        48,
        95,
        96,
        97,
        511,
        512,
        800,
        2048,
        len(whole) // 2,
        len(whole) - 4097,
        len(whole) - 1,
    }
    lengths |= {int(n) for n in np.linspace(8, len(whole) - 1, 40)}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(HsiError, match=r"empty|not an HDF5 file|truncated or damaged HDF5") as caught:
            hsi.open_tile(path)
        assert "\n" not in str(caught.value)


def test_zeros_where_bytes_are_missing(tmp_path: Path) -> None:
    """A download that was given its full length first: an error, or numbers that the loss does not touch."""
    source = write_counts(tmp_path / "whole.h5", counts((12, 14, 20)), chunks=(4, 7, 5), compression="gzip")
    whole, path = source.read_bytes(), tmp_path / "holes.h5"
    expected = hsi.open_tile(source)
    errors = 0
    heap = whole.index(b"GCOL")  # HDF5 2.0 and before loop for ever over the zeros of a heap of texts, out of our reach
    for start in range(0, len(whole), 1024):
        if heap - 1024 < start < heap + 4096:
            continue
        path.write_bytes(whole[:start] + bytes(min(1024, len(whole) - start)) + whole[start + 1024 :])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HsiWarning)
                tile = hsi.open_tile(path)
                found = tile.reflectance.values
        except HsiError as error:
            errors += 1
            assert "\n" not in str(error)
        else:
            same = np.array_equal(found, expected.reflectance) and np.array_equal(tile.wavelength, expected.wavelength)
            assert same or start < 20000, start  # metadata have no checksum
    assert errors > 5


def test_a_prototype_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "NIS1_20130614_100459_atmcor.h5", "w") as file:
        file["Reflectance"] = np.zeros((5, 4, 3), "i2")
        file["wavelength"] = np.linspace(0.382, 2.5, 5)[np.newaxis]
        file["map info"] = "UTM,1,1,325963.0,4103482.0,1.0,1.0,11,North,WGS-84,units=Meters"
    refused(tmp_path / "NIS1_20130614_100459_atmcor.h5", r"prototype of 2013 to 2015 .*G0.*DP3.30006")


Change = Callable[[h5py.File], Any]

DAMAGED: dict[str, tuple[Change, str]] = {
    "no groups": (lambda f: f.__delitem__("SERC"), "no /SITE/Reflectance group, only nothing"),
    "misspelt Reflectance": (lambda f: f["SERC"].move("Reflectance", "Reflectence"), "SERC: Reflectence"),
    "misspelt Reflectance_Data": (
        lambda f: group(f).move("Reflectance_Data", "Reflectence_Data"),
        "/SERC/Reflectance has no Reflectance_Data, only Metadata, Reflectence_Data",
    ),
    "Reflectance_Data a group": (
        lambda f: (group(f).__delitem__("Reflectance_Data"), group(f).create_group("Reflectance_Data")),
        "has no Reflectance_Data",
    ),
    "dangling link": (lambda f: replace(group(f), "Reflectance_Data", h5py.SoftLink("/x")), "damaged metadata"),
    "two dimensions": (lambda f: replace(group(f), "Reflectance_Data", np.zeros((3, 4), "i2")), "shape .3, 4."),
    "floats": (lambda f: replace(group(f), "Reflectance_Data", np.zeros((3, 4, 20))), "float64.*expected int16"),
    "int64": (lambda f: replace(group(f), "Reflectance_Data", np.zeros((3, 4, 20), "i8")), "int64.*expected int16"),
    "no pixel": (lambda f: replace(group(f), "Reflectance_Data", np.zeros((0, 4, 20), "i2")), "empty"),
    "scale 0": (lambda f: data_attrs(f).update(Scale_Factor=0.0), "Scale_Factor is 0"),
    "scale nan": (lambda f: data_attrs(f).update(Scale_Factor=np.nan), "Scale_Factor is nan"),
    "scale inf": (lambda f: data_attrs(f).update(Scale_Factor=np.inf), "Scale_Factor is inf"),
    "scale negative": (lambda f: data_attrs(f).update(Scale_Factor=-10000.0), "Scale_Factor is -10000"),
    "scale the other way round": (lambda f: data_attrs(f).update(Scale_Factor=1e-4), "Scale_Factor is 0.0001"),
    "scale a word": (lambda f: data_attrs(f).update(Scale_Factor="many"), "damaged metadata"),
    "scale two numbers": (lambda f: data_attrs(f).update(Scale_Factor=[1e4, 1e4]), "expected one number"),
    "scale nothing": (lambda f: data_attrs(f).update(Scale_Factor=h5py.Empty("f8")), "damaged metadata"),
    "no-data a fraction": (lambda f: data_attrs(f).update(Data_Ignore_Value=-9999.5), "Data_Ignore_Value is -9999.5"),
    "no-data nan": (lambda f: data_attrs(f).update(Data_Ignore_Value=np.nan), "Data_Ignore_Value is nan"),
    "window of one": (lambda f: group(f).attrs.update(Band_Window_1_Nanometers=[1340]), "Band_Window_1_Nanometers is"),
    "window backwards": (
        lambda f: group(f).attrs.update(Band_Window_1_Nanometers=[1445, 1340]),
        "expected two wavelengths in nm, low and high",
    ),
    "no spectral group": (lambda f: group(f)["Metadata"].__delitem__("Spectral_Data"), "no Wavelength"),
    "misspelt wavelength": (lambda f: spectral(f).move("Wavelength", "Wavelenght"), "no Wavelength"),
    "no metadata": (lambda f: group(f).__delitem__("Metadata"), "no Wavelength"),
    "too few wavelengths": (
        lambda f: replace(spectral(f), "Wavelength", np.linspace(400, 2500, 19)),
        "19 wavelengths for 20 bands",
    ),
    "no wavelengths": (lambda f: replace(spectral(f), "Wavelength", np.zeros(0)), "0 wavelengths for 20 bands"),
    "wavelengths equal": (lambda f: replace(spectral(f), "Wavelength", np.full(20, 500.0)), "finite and increasing"),
    "wavelengths backwards": (
        lambda f: replace(spectral(f), "Wavelength", np.linspace(2500, 400, 20)),
        "from 2500 to 400; expected nm, finite and increasing",
    ),
    "wavelengths nan": (lambda f: replace(spectral(f), "Wavelength", np.full(20, np.nan)), "finite and increasing"),
    "wavelengths in micrometres": (
        lambda f: replace(spectral(f), "Wavelength", np.linspace(0.4, 2.5, 20)),
        "from 0.4 to 2.5.*micrometres; expected nm",
    ),
    "wavelengths said to be in micrometres": (
        lambda f: spectral(f)["Wavelength"].attrs.update(Units=np.bytes_("Micrometers")),
        "micrometres; expected nm",
    ),
    "wavelengths in metres": (
        lambda f: replace(spectral(f), "Wavelength", np.linspace(4e-7, 2.5e-6, 20)),
        "expected nm",
    ),
    "wavelengths in angstrom": (
        lambda f: replace(spectral(f), "Wavelength", np.linspace(4000, 250000, 20)),
        "expected nm",
    ),
    "wavelengths as text": (lambda f: replace(spectral(f), "Wavelength", "400"), "damaged metadata|wavelengths for"),
    "no place": (lambda f: system(f).__delitem__("Map_Info"), "neither Map_Info nor Spatial_Extent_meters"),
    "no coordinate system": (lambda f: group(f)["Metadata"].__delitem__("Coordinate_System"), "neither Map_Info"),
    "map info cut": (lambda f: replace(system(f), "Map_Info", MAP_INFO[:40]), "Map_Info is 'UTM"),
    "map info no numbers": (lambda f: replace(system(f), "Map_Info", "UTM, a, b, c, d, e, f"), "expected ENVI's"),
    "map info turned": (lambda f: replace(system(f), "Map_Info", MAP_INFO + ", rotation=-30.5"), "rotation=-30.5"),
    "pixel size 0": (
        lambda f: replace(system(f), "Map_Info", "UTM,1,1,368000,4307000,0,1,18,North,WGS-84"),
        "expected a grid in projected metres",
    ),
    "origin nan": (
        lambda f: replace(system(f), "Map_Info", "UTM,1,1,nan,4307000,1,1,18,North,WGS-84"),
        "expected a grid in projected metres",
    ),
    "no such EPSG code": (lambda f: replace(system(f), "EPSG Code", "99999"), "EPSG code 99999 is no coordinate"),
    "WKT damaged": (
        lambda f: (system(f).__delitem__("EPSG Code"), replace(system(f), "Coordinate_System_String", WKT[:80])),
        "is no coordinate reference system",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_cannot_be_trusted(name: str, tmp_path: Path) -> None:
    change, words = DAMAGED[name]
    refused(write_counts(tmp_path / "t.h5", then=change), words)


def test_errors_do_not_leave_the_file_open(tmp_path: Path) -> None:
    path = write_counts(tmp_path / "t.h5", then=DAMAGED["scale 0"][0])
    refused(path, "Scale_Factor")
    with h5py.File(path, "r+") as file:  # HDF5 refuses while it is open to read
        data_attrs(file)["Scale_Factor"] = 10000.0
    assert hsi.open_tile(path).reflectance.shape == (12, 14, 20)


def test_a_file_that_changes_while_it_is_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_counts(tmp_path / "t.h5")

    def slow(path: str, file: h5py.File) -> Any:
        os.utime(path, ns=(7, os.stat(path).st_mtime_ns + 10**9))
        return read_all(path, file)

    read_all = neon._read
    monkeypatch.setattr(neon, "_read", slow)
    refused(path, "changed while it was being opened")


@pytest.mark.parametrize("options", [{}, {"chunks": {}}])
def test_a_file_that_changes_after_opening_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write_counts(tmp_path / "t.h5", chunks=(5, 5, 5), compression="gzip")
    tile = xr.open_dataset(path, engine="neon", cache=False, **options)
    cube = hsi.clean(tile)
    _ = tile.reflectance[0, 0].values
    write_counts(path, counts((12, 14, 20), seed=1), chunks=(5, 5, 5), compression="gzip")
    os.utime(path, ns=(7, 7))
    for lazy in (tile.reflectance, cube):
        with pytest.raises(HsiError, match="changed since it was opened; open it again"):
            _ = lazy.values


def test_a_corrupt_chunk_is_named_and_the_rest_is_readable(tmp_path: Path) -> None:
    path = write_counts(tmp_path / "t.h5", chunks=(4, 7, 5), compression="gzip")
    with h5py.File(path) as file:
        info = file["SERC/Reflectance/Reflectance_Data"].id.get_chunk_info_by_coord((8, 7, 10))
    raw = bytearray(path.read_bytes())
    raw[info.byte_offset + 20 : info.byte_offset + 30] = bytes(10)
    path.write_bytes(raw)
    tile = hsi.open_tile(path)
    words = r"t.h5: chunk \(2, 1, 2\) of /SERC/Reflectance/Reflectance_Data is corrupt \(.*\); download the file again"
    for lazy in (tile.reflectance, hsi.clean(tile, drop_last=0)):
        with pytest.raises(HsiError, match=words):
            _ = lazy.values
    assert_array_equal(tile.reflectance[:8], counts((12, 14, 20))[:8])
    assert_array_equal(tile.reflectance[..., :10], counts((12, 14, 20))[..., :10])
