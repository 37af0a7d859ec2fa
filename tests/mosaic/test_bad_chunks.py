"""Damaged tiles end a run with one line or leave it right; what cannot be decoded costs the pixels of its column."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from hsichunk import schema
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window
from hsichunk.errors import CorruptChunk, HsiError, HsiWarning
from hsichunk.mosaic.child_process import contained
from hsichunk.mosaic.site import open_site
from hsichunk.readers import neon
from hsichunk.unmixing.left_out import LeaveOut
from hsichunk.unmixing.scoring import Tally
from hsichunk.unmixing.solver import Solver, prepare
from hsichunk.unmixing.stored_pass import stream_window
from tests.helpers import mutations
from tests.helpers.mutations import Bench, Case, Worker, mutate, write_source
from tests.helpers.runs import products

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Worker() as worker:
        yield Bench(tmp_path_factory.mktemp("mutations"), worker)


CASES = list(mutations.cases(36, 7))


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_tile_is_one_line_or_harmless(bench: Bench, case: Case) -> None:
    result = bench(case)
    assert not result.faults, result.said
    assert result.seconds < mutations.LIMIT


def test_the_same_seed_makes_the_same_damage(tmp_path: Path) -> None:
    source = write_source(tmp_path, "spatial")
    for kind in mutations.BYTES:
        made = []
        for seed in (3, 3, 4):
            mutate(kind, seed, source, tmp_path / "t.h5")
            made.append((tmp_path / "t.h5").read_bytes())
        assert made[0] == made[1]
        assert made[0] != made[2]
        assert made[0] != source.read_bytes()


def looping(source: Path, target: Path) -> Path:
    """A tile whose heap of texts HDF5 never gets through."""
    raw = bytearray(source.read_bytes())
    heap = raw.index(b"GCOL")
    raw[heap + 16 : heap + 4096] = bytes(4080)
    target.write_bytes(raw)
    return target


def test_a_file_that_hdf5_loops_over_is_left_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_source(tmp_path, "spatial")
    bad = looping(good, tmp_path / "a.h5")
    with pytest.raises(HsiError, match=r"a\.h5: HDF5 did not end within 0.5 s.*download it again"):
        contained(neon.read, (str(bad),), 0.5)
    monkeypatch.setattr("hsichunk.mosaic.site.SECONDS", 0.5)
    with pytest.raises(HsiError, match=r"a\.h5: HDF5 did not end"):
        open_site([good, bad])


def test_bad_tiles_are_skipped_and_named(tmp_path: Path) -> None:
    good = write_source(tmp_path, "spatial")
    for name in ("a.h5", "z.h5"):
        (tmp_path / name).write_bytes(good.read_bytes()[:5000])
    paths = [tmp_path / "z.h5", good, tmp_path / "a.h5", tmp_path / "b.h5"]
    with pytest.raises(HsiError, match=r"a\.h5: truncated or damaged HDF5"):
        open_site(paths)
    for on_error in ("skip", "mask"):
        with pytest.warns(HsiWarning, match=r"left out") as caught:
            site = open_site(paths, on_error)
        assert [place.file.path for place in site.tiles] == [str(good)]
        assert [path for path, _ in site.skipped] == [str(tmp_path / f"{n}.h5") for n in "abz"]
        assert [str(warning.message) for warning in caught] == [f"{p}: {why}; left out" for p, why in site.skipped]
        assert "cannot be opened" in site.skipped[1][1]
        none = r"none of the 2 tiles can be used; the first: .*a\.h5: truncated"
        with pytest.warns(HsiWarning), pytest.raises(HsiError, match=none):
            open_site([paths[0], paths[2]], on_error)
    assert open_site([good]).skipped == ()


def test_hdf5_is_not_entered_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the metadata nor, later, for the places of the chunks."""
    source = write_source(tmp_path, "spatial")
    expected = neon.read(source)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("HDF5 was entered")

    parent, original = os.getpid(), h5py.File.__init__
    monkeypatch.setattr(h5py.File, "__init__", lambda *a, **k: refuse() if os.getpid() == parent else original(*a, **k))
    file = open_site([source], layers=["slope"]).tiles[0].file
    slope = next(layer.stored for layer in file.layers if layer.name == "slope")
    offsets = file.reflectance.index.offset
    assert slope.read(np.arange(48), np.arange(40)).shape == (48, 40)
    with pytest.raises(AssertionError, match="HDF5 was entered"):  # of a layer that was not asked for
        _ = next(layer.stored for layer in file.layers if layer.name == "aspect").index
    monkeypatch.undo()
    np.testing.assert_array_equal(offsets, expected.reflectance.index.offset)


def test_a_warning_of_a_tile_is_said_once(tmp_path: Path) -> None:
    source = write_source(tmp_path, "spatial")
    with h5py.File(source, "r+") as file:
        del file["SERC/Reflectance/Reflectance_Data"].attrs["Scale_Factor"]
    with pytest.warns(HsiWarning, match="no Scale_Factor") as caught:
        open_site([source])
    assert len(caught) == 1


def test_chunks_that_were_never_written_are_said(tmp_path: Path) -> None:
    def change(fill: int) -> Path:
        source = write_source(tmp_path, "spatial")
        with h5py.File(source, "r+") as file:
            group = file["SERC/Reflectance"]
            old = group["Reflectance_Data"]
            values, attrs = old[()], dict(old.attrs)
            del group["Reflectance_Data"]
            new = group.create_dataset(
                "Reflectance_Data", values.shape, "i2", chunks=(16, 13, 9), compression="gzip", fillvalue=fill
            )
            new[16:] = values[16:]
            new.attrs.update(attrs)
        return source

    with pytest.warns(HsiWarning, match=r"16 of 48 chunks were never written; their counts are 0"):
        open_site([change(0)])
    open_site([change(-9999)])  # no data: nothing to say


def test_chunks_in_one_place_are_refused(tmp_path: Path) -> None:
    """An index that names a chunk's bytes twice: a number in a B-tree that has no checksum."""
    source = write_source(tmp_path, "spatial")
    index = neon.read(source).reflectance.index
    one, two = (int(index.offset.ravel()[i]).to_bytes(8, "little") for i in (0, 1))
    raw = source.read_bytes()
    assert raw.count(two) == 1
    source.write_bytes(raw.replace(two, one))
    with pytest.raises(HsiError, match=r"chunk index is damaged .chunks overlap."):
        open_site([source])


# ------------------------------------------------------------------------------- implausible metadata


def changed(path: Path, where: str, name: str, value: Any) -> Path:
    with h5py.File(path, "r+") as file:
        if where.endswith("@"):
            file[where[:-1]].attrs[name] = value
        else:
            del file[where][name]
            file[where][name] = value
    return path


INFO = "UTM, 1, 1, 368000, 4307000, {}, {}, 18, North, WGS-84, units=Meters, 0"
IMPLAUSIBLE = {
    "fwhm negative": ("Spectral_Data", "FWHM", np.full(30, -5.0), "FWHM from -5 to -5"),
    "fwhm nan": ("Spectral_Data", "FWHM", np.full(30, np.nan), "FWHM from nan"),
    "fwhm absurd": ("Spectral_Data", "FWHM", np.full(30, 5e6), "FWHM from 5e.06"),
    "nm too low": ("Spectral_Data", "Wavelength", np.linspace(150, 2500, 30), "expected nm, from 200 to 20000"),
    "nm too high": ("Spectral_Data", "Wavelength", np.linspace(400, 20001, 30), "expected nm, from 200 to 20000"),
    "pixels too small": ("Coordinate_System", "Map_Info", INFO.format(1e-9, 1e-9), "pixel size .1e-09, 1e-09."),
    "pixels too large": ("Coordinate_System", "Map_Info", INFO.format(1e5, 1e5), "expected a grid in projected metres"),
    "another pixel size": ("Coordinate_System", "Map_Info", INFO.format(2, 2), "Spatial_Extent_meters is 368000, 36"),
    "another origin": (
        "Coordinate_System",
        "Map_Info",
        INFO.format(1, 1).replace("368000", "386000"),
        "48 x 40 pixels make 386000, 386040, 4306952, 4307000",
    ),
    "another extent": ("@", "Spatial_Extent_meters", [368000.0, 369000.0, 4306952.0, 4307000.0], "368000, 369000"),
    "extent nan": ("@", "Spatial_Extent_meters", np.full(4, np.nan), "Spatial_Extent_meters is nan, nan"),
    "no data too large": ("@", "Data_Ignore_Value", -99999.0, r"Data_Ignore_Value is -99999.*that int16 can hold"),
    "no data infinite": ("@", "Data_Ignore_Value", np.inf, "Data_Ignore_Value is inf"),
    "window in micrometres": ("..@", "Band_Window_1_Nanometers", [1.34, 1.445], "expected two wavelengths in nm"),
    "window nan": ("..@", "Band_Window_1_Nanometers", [1340, np.nan], "expected two wavelengths in nm"),
}


@pytest.mark.parametrize("name", IMPLAUSIBLE)
def test_what_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    where, what, value, words = IMPLAUSIBLE[name]
    group = "SERC/Reflectance"
    place = {"@": f"{group}/Reflectance_Data@", "..@": f"{group}@"}.get(where, f"{group}/Metadata/{where}")
    path = changed(write_source(tmp_path, "spatial"), place, what, value)
    with pytest.raises(HsiError, match=words) as caught:
        neon.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


HUGE = {
    "too many lines": ((2**40, 40, 30), (16, 13, 9), "expected up to 1000000 lines"),
    "too many chunks": ((900_000, 900_000, 30), (8, 8, 8), "larger ones"),
    "a chunk too large": ((10**5, 10**5, 30), (2**13, 2**13, 30), "up to 2 GiB"),
    "a chunk larger than the image": ((48, 40, 30), (512, 512, 60), "chunks of shape .512, 512, 60."),
}


@pytest.mark.parametrize("name", HUGE)
def test_sizes_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    shape, chunks, words = HUGE[name]
    path = write_source(tmp_path, "spatial")
    with h5py.File(path, "r+") as file:
        del file["SERC/Reflectance/Reflectance_Data"]
        file["SERC/Reflectance"].create_dataset("Reflectance_Data", shape, "i2", chunks=chunks, maxshape=(None,) * 3)
    with pytest.raises(HsiError, match=words):
        neon.read(path)


@pytest.mark.parametrize("name", ["Metadata/Ancillary_Imagery", "Metadata/Ancillary_Imagery/Slope", "Reflectance_Data"])
def test_counts_in_another_file_are_refused_and_layers_there_left_out(name: str, tmp_path: Path) -> None:
    path, place = write_source(tmp_path, "spatial"), f"/SERC/Reflectance/{name}"
    (tmp_path / "other.h5").write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file[place]
        file[place] = h5py.ExternalLink("other.h5", place)
    if name == "Reflectance_Data":
        with pytest.raises(HsiError, match=r"lies in .*other\.h5; give that file"):
            neon.read(path)
    else:
        with pytest.warns(HsiWarning) as caught:
            assert "slope" not in [layer.name for layer in neon.read(path).layers]
        said = [str(warning.message) for warning in caught]
        assert f"{path}: Slope lies in {tmp_path / 'other.h5'}; left out" in said
        assert len(said) == (1 if name.endswith("Slope") else 14)


# ------------------------------------------------------------------------------- one chunk, one column


COLUMNS = {"spatial": (16, 13, 9), "band": (24, 20, 1)}


def solved(path: Path, together: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Tally]:
    """All products of a tile with endmembers that are always the same."""
    if together:
        monkeypatch.setattr("hsichunk.chunks.columns.SMALL_COLUMN", 0)
    file = neon.read(path)
    counts = Counts(file.reflectance, np.arange(30), file.scale, file.no_data)
    rng = np.random.default_rng(0)
    solver: Solver = prepare(rng.uniform(0.05, 0.6, (3, 30)), list("abc"), schema.PRODUCTS, file.scale, exact=True)
    window = Window(0, 48, 0, 40)
    whole: dict[str, Any] = {}
    tally = Tally()
    for part, given, share in stream_window(counts, solver, window, 2, 16, leave_out=LeaveOut(corrupt=True)):
        tally.add(share)
        for name, values in given.items():
            target = whole.setdefault(name, np.full((*values.shape[:-2], 48, 40), np.inf, values.dtype))
            target[..., part.top : part.bottom, part.left : part.right] = values
    return whole, tally


@pytest.mark.parametrize("together", [False, True], ids=["small columns", "large columns"])
@pytest.mark.parametrize("layout", COLUMNS)
def test_a_bad_chunk_costs_its_column_and_no_pixel_beside(
    layout: str, together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mutations.LAYOUTS, layout, COLUMNS[layout])
    source = write_source(tmp_path, layout)
    whole, _ = solved(source, together, monkeypatch)
    stored = neon.read(source).reflectance
    rng = np.random.default_rng(11)
    for _ in range(6):
        place = tuple(int(rng.integers(n)) for n in stored.grid)
        start, size = int(stored.index.offset[place]), int(stored.index.size[place])
        raw = bytearray(source.read_bytes())
        raw[start + size // 3 : start + size // 3 + 40] = bytes(40)
        bad = tmp_path / "bad.h5"
        bad.write_bytes(raw)
        with pytest.raises(CorruptChunk), neon.read(bad).reflectance.opened() as handle:
            neon.read(bad).reflectance.chunk(handle, place)
        found, tally = solved(bad, together, monkeypatch)
        assert tally.bad == [list(place)]
        rows, cols, _ = stored.chunks
        column = np.zeros((48, 40), bool)
        column[place[0] * rows : (place[0] + 1) * rows, place[1] * cols : (place[1] + 1) * cols] = True
        for name, values in found.items():
            assert np.isnan(values[..., column]).all(), name
            np.testing.assert_array_equal(values[..., ~column], whole[name][..., ~column], err_msg=name)
        assert np.isfinite(found["rmse"][~column]).any()


@pytest.mark.parametrize("layout", COLUMNS)
def test_a_run_with_given_endmembers_changes_in_the_column_alone(bench: Bench, layout: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mutations.LAYOUTS, layout, COLUMNS[layout])
        source = write_source(tmp_path, layout)

    def run(tile: Path, out: str, *more: str) -> xr.Dataset:
        said = tmp_path / "said.txt"
        shared = ["--memory", "1GB", "--threads", "2", *more]
        status, _ = bench.worker.do(["run", str(tile), "--out", str(tmp_path / out), *shared], said)
        assert status == 0, said.read_text()
        return products(tmp_path / out)

    run(source, "first", "-k", "3", "--sample", "300", "--share", "1")
    ours = ["--endmembers", str(tmp_path / "first" / "endmembers.csv")]
    whole = run(source, "whole", *ours)
    stored = neon.read(source).reflectance
    place = (1, 1, 4 if layout == "band" else 1)
    bad, start = tmp_path / "bad.h5", int(stored.index.offset[place])
    raw = bytearray(source.read_bytes())
    raw[start + 9 : start + 60] = bytes(51)
    bad.write_bytes(raw)
    found = run(bad, "masked", *ours, "--on-error", "mask")
    rows, cols, _ = stored.chunks
    column = np.zeros((48, 40), bool)
    column[rows : 2 * rows, cols : 2 * cols] = True
    assert np.isfinite(whole.rmse.values[column]).any()
    assert np.isnan(found.rmse.values[column]).all()
    for name in whole.data_vars:
        np.testing.assert_array_equal(found[name].values[..., ~column], whole[name].values[..., ~column], err_msg=name)
