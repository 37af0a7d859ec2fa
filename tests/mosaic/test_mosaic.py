"""Many tiles as one dataset: its form, what it reads, and that a mosaic has the bits of one large tile."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import hsichunk as hsi
from hsichunk.chunks import columns
from hsichunk.cube.cleaning import source_of
from hsichunk.errors import HsiError
from hsichunk.mosaic import mosaic, tiled_counts
from hsichunk.mosaic.mosaic import open_mosaic
from hsichunk.mosaic.site import open_site
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.readers import lineage
from tests.helpers import tiles

BANDS = 40
NM = np.linspace(400.0, 2500.0, BANDS).astype(np.float32)
LEFT, TOP = 368000.0, 4307000.0  # as tests/helpers/tiles.py has it
# name: row, column, size, stored chunks; `b` lies under a corner of `a`, `d` apart from all
PLACES: dict[str, tuple[int, int, tuple[int, int], tuple[int, int, int]]] = {
    "a.h5": (0, 0, (30, 40), (8, 16, 9)),
    "b.h5": (22, 33, (36, 30), (36, 30, 1)),
    "c.h5": (0, 40, (22, 23), (22, 23, 4)),
    "d.h5": (60, 5, (20, 20), (20, 20, 40)),
}
SHAPE = (80, 63)
NoCompute = Callable[[], AbstractContextManager[None]]


def write(path: Path, row: int, col: int, shape: tuple[int, int], seed: int, **more: Any) -> Path:
    given = {
        "wavelength": NM,
        "seed": seed,
        "no_data": "corners" if seed == 1 else "none",
        "origin": (LEFT + col, TOP - row),
    }
    hsi.synthetic.write_tile(path, shape=shape, **(given | more))
    return path


def stored(path: Path) -> NDArray[np.int16]:
    with h5py.File(path) as file:
        counts: NDArray[np.int16] = file["SERC/Reflectance/Reflectance_Data"][()]
    return counts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mosaic")
    for seed, (name, (row, col, shape, chunks)) in enumerate(PLACES.items()):
        write(folder / name, row, col, shape, seed, chunks=chunks)
    (folder / "single").mkdir()
    tiles.write_counts(folder / "single" / "s.h5", painted(folder), wavelength=NM, chunks=(20, 20, 20))
    return folder


def painted(folder: Path) -> NDArray[np.int16]:
    """What the mosaic holds: the first name on top."""
    whole = np.full((*SHAPE, BANDS), -9999, np.int16)
    for name, (row, col, (high, wide), _) in reversed(PLACES.items()):
        whole[row : row + high, col : col + wide] = stored(folder / name)
    return whole


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.h5"))


@pytest.fixture(scope="module")
def whole(paths: list[Path]) -> xr.Dataset:
    """The mosaic, in its own chunks."""
    return open_mosaic(paths)


@pytest.fixture(scope="module")
def reader(paths: list[Path]) -> TiledCounts:
    return TiledCounts(open_site(paths))


@pytest.fixture(scope="module")
def counts(folder: Path) -> NDArray[np.int16]:
    return painted(folder)


@pytest.fixture(scope="module")
def single(folder: Path) -> xr.DataArray:
    """The cube of one tile of the same counts."""
    return hsi.clean(hsi.open_tile(folder / "single" / "s.h5"))


@pytest.fixture(scope="module")
def endmembers(single: xr.DataArray) -> xr.DataArray:
    return hsi.nfindr(single, 4)


@pytest.fixture(scope="module")
def wanted(single: xr.DataArray, endmembers: xr.DataArray) -> xr.Dataset:
    return hsi.unmix(single, endmembers, certificate=True).load()


def assert_same(one: xr.Dataset, two: xr.Dataset) -> None:
    """Equal bits, NaN and all."""
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.data_vars:
        a, b = (np.ascontiguousarray(each[name].values) for each in (one, two))
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32), err_msg=str(name))


def test_one_tile_is_what_open_tile_gives(folder: Path) -> None:
    path = folder / "c.h5"
    ours, theirs = open_mosaic(path, chunks=None), hsi.open_tile(path)
    layers = [name for name in theirs.data_vars if name != "reflectance"]
    xr.testing.assert_identical(ours, theirs.drop_vars([*layers, "flight_line"]))
    assert ours.reflectance.encoding["grid_mapping"] == "spatial_ref"


def test_the_dataset_says_what_a_tile_says(paths: list[Path], folder: Path) -> None:
    ours, theirs = open_mosaic(paths), hsi.open_tile(folder / "single" / "s.h5")
    assert ours.reflectance.dims == ("y", "x", "wavelength")
    assert ours.reflectance.dtype == np.int16
    for name in ("x", "y", "wavelength", "spatial_ref"):
        xr.testing.assert_identical(ours[name].variable, theirs[name].variable)
    for name in ("scale_factor_stored", "data_ignore_value", "bad_band_windows", "units", "long_name"):
        assert ours.reflectance.attrs[name] == theirs.reflectance.attrs[name]
    assert "Spatial_Extent_meters" not in ours.reflectance.attrs  # each tile's own
    assert ours.fwhm.dims == ("wavelength",)


@pytest.mark.parametrize("chunks", ["tiles", None, "auto", {"y": 17, "x": 25, "wavelength": 7}])
def test_it_holds_the_counts_of_its_tiles(paths: list[Path], counts: Any, chunks: Any) -> None:
    whole = open_mosaic(paths[::-1], chunks=chunks).reflectance
    assert (whole.chunks is None) == (chunks is None)
    np.testing.assert_array_equal(whole, counts)
    np.testing.assert_array_equal(whole[7, :, 3], counts[7, :, 3])
    np.testing.assert_array_equal(
        whole.isel(y=slice(None, None, -3), x=[60, 2, 2], wavelength=0), counts[::-3, [60, 2, 2], 0]
    )
    points = xr.DataArray([0, 79, 25], dims="p"), xr.DataArray([0, 20, 40], dims="p")
    np.testing.assert_array_equal(whole.isel(y=points[0], x=points[1]), counts[[0, 79, 25], [0, 20, 40]])


positions = st.lists(st.integers(0, 62), max_size=6).map(lambda at: np.array(at, np.intp))


@settings(max_examples=40)
@given(rows=positions, cols=positions, bands=positions.map(lambda at: at % BANDS))
def test_any_positions_are_read_in_their_order(
    reader: TiledCounts, counts: Any, rows: Any, cols: Any, bands: Any
) -> None:
    np.testing.assert_array_equal(reader.read(rows, cols, bands), counts[np.ix_(rows, cols, bands)])
    n = min(len(rows), len(cols))
    np.testing.assert_array_equal(reader.gather(bands, rows[:n], cols[:n], 2), counts[rows[:n], cols[:n]][:, bands])


def test_single_pixels_cost_the_chunks_of_their_tiles_alone(reader: TiledCounts, counts: Any) -> None:
    rows, cols = np.array([3, 3, 70, 59, 1]), np.array([3, 4, 9, 0, 50])  # two of a chunk of a, d, a gap, c
    before = tiles.DECODED.now()[0]
    values = reader.gather(np.arange(9), rows, cols, 1)
    assert tiles.DECODED.now()[0] - before == 1 + 1 + 3
    np.testing.assert_array_equal(values, counts[rows, cols, :9])


def test_its_chunks_hold_what_its_pixels_hold(reader: TiledCounts, counts: Any) -> None:
    reader = pickle.loads(pickle.dumps(reader))
    for place in np.ndindex(reader.grid):
        with reader.opened() as handle:
            chunk = reader.chunk(handle, place)
        assert chunk.shape == reader.chunks
        corner = [p * c for p, c in zip(place, reader.chunks, strict=True)]
        part = counts[tuple(slice(at, at + c) for at, c in zip(corner, reader.chunks, strict=True))]
        np.testing.assert_array_equal(chunk[tuple(slice(0, n) for n in part.shape)], part)


def test_opening_and_asking_reads_no_pixel(paths: list[Path], endmembers: xr.DataArray, no_compute: NoCompute) -> None:
    before = tiles.DECODED.now()
    with no_compute():
        cube = hsi.clean(open_mosaic(paths))
        hsi.unmix(cube.isel(x=slice(3, 60)), endmembers)
    assert tiles.DECODED.now() == before


@pytest.mark.parametrize("chunks", ["tiles", None, {"y": 17, "x": 25, "wavelength": 7}])
def test_a_mosaic_has_the_bits_of_one_large_tile(
    paths: list[Path], single: xr.DataArray, endmembers: xr.DataArray, wanted: xr.Dataset, chunks: Any
) -> None:
    cube = hsi.clean(open_mosaic(paths, chunks=chunks))
    assert source_of(cube) is not None
    xr.testing.assert_equal(cube.drop_vars("fwhm"), single.drop_vars("fwhm"))
    found = hsi.nfindr(cube, 4)
    xr.testing.assert_identical(found.drop_vars("fwhm"), endmembers.drop_vars("fwhm"))
    ours = hsi.unmix(cube, endmembers, certificate=True)
    assert ours.rmse.chunks is not None
    assert_same(ours.load(), wanted)
    assert 0 < int(wanted.rmse.isnull().sum()) < wanted.rmse.size
    assert_same(*(hsi.nnls(each, endmembers).load() for each in (cube, single)))
    for make in (hsi.ncc, lambda each, em: hsi.osp(each, em[1:], em[0])):
        np.testing.assert_array_equal(make(cube, endmembers), make(single, endmembers))


def test_a_sample_smaller_than_the_mosaic_is_the_same_too(whole: xr.Dataset, single: xr.DataArray) -> None:
    cube = hsi.clean(whole)
    ours, theirs = (hsi.nfindr(c, 5, sample=800, seed=4) for c in (cube, single))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.sample_pixels == theirs.sample_pixels < 2000


def test_an_unmixed_mosaic_keeps_within_its_tiles(whole: xr.Dataset, endmembers: xr.DataArray) -> None:
    """So that every stored chunk is decoded once, but for those of a tile that another cuts up."""
    cube = hsi.clean(whole)
    assert set(np.cumsum(cube.chunks[0])) >= {22, 30, 58, 60}
    ours = hsi.unmix(cube, endmembers)
    assert set(np.cumsum(ours.rmse.chunks[0])) >= {22, 30, 58, 60}
    before = tiles.DECODED.now()[0]
    ours.load()
    # b lies under a corner of a: what is left of it are two windows, of one chunk a band
    assert tiles.DECODED.now()[0] - before == chunks_of(cube) + cube.sizes["wavelength"]


def chunks_of(cube: xr.DataArray) -> int:
    """Stored chunks of all tiles that hold a band of a cube."""
    kept = np.flatnonzero(np.isin(NM, cube.wavelength.values.astype(np.float32)))
    return sum(
        -(-high // cy) * -(-wide // cx) * len(np.unique(kept // depth))
        for _, _, (high, wide), (cy, cx, depth) in PLACES.values()
    )


def test_a_large_column_is_decoded_once_whatever_lies_over_it(
    whole: xr.Dataset, endmembers: xr.DataArray, wanted: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "SMALL_COLUMN", 50_000)  # b is larger: 25 bands of 36 x 30
    cube = hsi.clean(whole)
    ours = hsi.unmix(cube, endmembers, certificate=True)
    before = tiles.DECODED.now()[0]
    ours.load()
    assert tiles.DECODED.now()[0] - before == chunks_of(cube)
    assert_same(ours, wanted)


WINDOWS: tuple[dict[str, Any], ...] = (
    {"y": slice(20, 70), "x": slice(10, 45)},
    {"y": slice(0, 5), "x": slice(0, 5)},
    {"y": slice(59, 60), "x": slice(0, 63)},  # no tile at all
    {"x": slice(40, 41)},
)
PICKED: tuple[dict[str, Any], ...] = (
    {"y": slice(1, None, 2), "x": slice(None, None, -1)},
    {"y": [70, 3, 3, 25], "x": slice(4, 50)},
)


@pytest.mark.parametrize("where", [*WINDOWS, *PICKED], ids=str)
def test_so_has_any_part_of_it(
    whole: xr.Dataset, endmembers: xr.DataArray, wanted: xr.Dataset, where: dict[str, Any]
) -> None:
    part = hsi.clean(whole).isel(where)
    ours = hsi.unmix(part, endmembers, certificate=True)
    xr.testing.assert_equal(ours.y, wanted.y.isel({"y": where.get("y", slice(None))}))
    assert_same(ours.load(), wanted.isel(where))


def test_blocks_in_memory_and_other_bands_give_the_same_bits(whole: xr.Dataset, single: xr.DataArray) -> None:
    few: dict[str, Any] = {"every": 2, "drop": [(700, 900)]}
    cube = hsi.clean(whole, **few)
    em = hsi.nfindr(cube, 3)
    one = single.sel(wavelength=cube.wavelength)
    theirs = hsi.unmix(one, em).load()
    assert_same(hsi.unmix(cube, em).load(), theirs)
    assert_same(hsi.unmix(cube.compute(), em), theirs)
    assert_same(hsi.unmix(hsi.clean(whole.compute(), **few), em), theirs)
    scaled = [hsi.sid(c, em, scaling="minmax") for c in (cube, one)]
    np.testing.assert_array_equal(*scaled)


def test_tiles_out_of_line_are_cut_evenly_and_have_the_same_bits(
    paths: list[Path], endmembers: xr.DataArray, wanted: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled_counts, "MOST_CELLS", 4)
    monkeypatch.setattr(tiled_counts, "EVEN_SIDE", 19)
    cube = hsi.clean(open_mosaic(paths))
    assert cube.chunks[0] == (19, 19, 19, 19, 4)
    ours = hsi.unmix(cube, endmembers, certificate=True)
    assert ours.rmse.chunks == ((19, 19, 19, 19, 4), (19, 19, 19, 6))
    assert_same(ours.load(), wanted)


def test_bands_are_cut_where_whole_spectra_are_too_large(
    paths: list[Path], counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "BLOCK_BYTES", 36 * 30 * 4 * 20)
    whole = open_mosaic(paths).reflectance
    assert whole.chunks[2] == (40,)  # one tile holds all bands in one chunk
    some = open_mosaic(paths[:2]).reflectance
    assert some.chunks[2] == (18, 18, 4)  # whole chunks of nine
    without = counts[:58].copy()
    without[:22, 40:] = -9999  # where c lies
    np.testing.assert_array_equal(some, without)


def test_the_graph_grows_with_the_tiles(tmp_path: Path) -> None:
    """Not with tiles times tiles, and not with pixels."""
    data = tiles.counts((6, 6, 20))
    for number in range(60):
        row, col = divmod(number, 10)
        tiles.write_counts(tmp_path / f"{number:03d}.h5", data, then=_moved(6 * row, 6 * col))
    cube = hsi.clean(open_mosaic(sorted(tmp_path.glob("*.h5"))))
    assert cube.data.npartitions == 60
    spectra = np.random.default_rng(0).random((3, cube.sizes["wavelength"]))
    em = xr.DataArray(spectra, {"wavelength": cube.wavelength}, ("endmember", "wavelength"))
    ours = hsi.unmix(cube, em)
    tasks = len(dict(ours.__dask_graph__()))
    assert tasks <= 60 * (3 + 4) + 1
    first = ours.isel(y=slice(0, 6), x=slice(0, 6)).load()
    for part in (ours.isel(y=slice(30, 36), x=slice(54, 60)), ours.isel(y=slice(12, 18), x=slice(6, 12))):
        assert_same(part.load(), first)


def _moved(down: int, across: int) -> Callable[[h5py.File], None]:
    def then(file: h5py.File) -> None:
        system = file["SERC/Reflectance/Metadata/Coordinate_System"]
        del system["Map_Info"]
        moved = tiles.MAP_INFO.replace("368000.00", f"{368000 + across}.00").replace("4307000.0", f"{4307000 - down}.0")
        system.create_dataset("Map_Info", data=moved, dtype=h5py.string_dtype())

    return then


def test_a_tile_of_its_own_no_data_and_type_is_brought_to_the_others(tmp_path: Path) -> None:
    data = tiles.counts((6, 6, 20))
    other = np.where(data == -9999, -1, np.abs(data.astype(np.int32)))
    other[other == 1] = 2

    def then(file: h5py.File) -> None:
        _moved(0, 6)(file)
        file["SERC/Reflectance/Reflectance_Data"].attrs["Data_Ignore_Value"] = -1.0

    tiles.write_counts(tmp_path / "a.h5", data)
    tiles.write_counts(tmp_path / "b.h5", other, then=then)
    whole = open_mosaic([tmp_path / "b.h5", tmp_path / "a.h5"]).reflectance
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(whole[:, :6], data)
    np.testing.assert_array_equal(whole[:, 6:], np.where(other == -1, -9999, other))


def test_worker_processes_give_the_same_bits(whole: xr.Dataset, endmembers: xr.DataArray, wanted: xr.Dataset) -> None:
    ours = hsi.unmix(hsi.clean(whole), endmembers, certificate=True)
    with dask.config.set(scheduler="processes", num_workers=1):
        assert_same(ours.load(), wanted)


def test_a_selection_of_many_blocks_is_followed_some_at_a_time(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = hsi.clean(open_mosaic(paths, chunks={"y": 17, "x": 25, "wavelength": 7}))
    part = cube.isel(y=slice(None, None, -2), x=[4, 50, 51], wavelength=slice(3, None))
    for together in (64, 5, 1):
        monkeypatch.setattr(lineage, "TOGETHER", together)
        found = source_of(part)
        assert found is not None
        np.testing.assert_array_equal(found[1], np.arange(80)[::-2])
        np.testing.assert_array_equal(found[2], [4, 50, 51])
        assert source_of(part + 0) is None


def test_names_of_dask_arrays_follow_what_they_hold(paths: list[Path]) -> None:
    one, again, fewer = open_mosaic(paths), open_mosaic(paths[::-1]), open_mosaic(paths[:3])
    names = [hsi.clean(tile).data.name for tile in (one, again, fewer)]
    assert names[0] == names[1] != names[2]


def test_what_is_no_mosaic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HsiError, match="no tile"):
        open_mosaic([])
    write(tmp_path / "a.h5", 0, 0, (6, 6), 0)
    write(tmp_path / "b.h5", 0, 6, (6, 6), 0, epsg=32617)
    with pytest.raises(HsiError, match="run them separately"):
        open_mosaic(sorted(tmp_path.glob("*.h5")))
