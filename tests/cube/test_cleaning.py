"""From counts to reflectance: which bands stay, what they hold, what is decoded, and what stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import hsichunk as hsi
from hsichunk import schema
from hsichunk.cube.bands import select_bands
from hsichunk.cube.cleaning import as_reflectance
from hsichunk.errors import HsiError, HsiWarning
from tests.helpers.tiles import Counter, counts, write_counts

NoCompute = Callable[[], AbstractContextManager[None]]
NEON = [(1340.0, 1445.0), (1790.0, 1955.0)]
SHAPE = (64, 90, 40)
WAVELENGTH = np.linspace(400.0, 2500.0, SHAPE[2])
# kept of the 40 by default: 10 dropped at the end (from 2015 nm), 2 in the first window, 3 in the second
KEPT = [i for i in range(30) if not any(low <= WAVELENGTH[i] <= high for low, high in NEON)]
LAYOUTS: dict[str, dict[str, Any]] = {
    "spatial": {"chunks": (16, 30, 9), "compression": "gzip"},
    "band": {"chunks": (64, 90, 1), "compression": "gzip"},
    "contiguous": {},
    "int32": {"chunks": (16, 30, 9), "dtype": "<i4"},
    "big-endian": {"chunks": (16, 30, 9), "dtype": ">i2"},
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiles")
    return {
        name: write_counts(folder / f"{name}.h5", counts(SHAPE), wavelength=WAVELENGTH, **storage)
        for name, storage in LAYOUTS.items()
    }


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def expected(bands: Any = KEPT, scale: float = 10000.0, no_data: int = -9999) -> NDArray[np.float32]:
    """What the cube of `counts` must hold, by way of float64."""
    stored = counts(SHAPE)[:, :, bands].astype(np.float64)
    return np.where(stored == no_data, np.nan, stored / scale).astype(np.float32)


# ----------------------------------------------------------------------------- which bands are kept


def grid(first: float, last: float) -> NDArray[np.float64]:
    return np.linspace(first, last, 426)


# first and last wavelength, bands that the windows and the last ten leave, bands of NEON's own index code
GRIDS = {
    "SERC L1 2017": (grid(383.6579, 2511.9379), 362, 360),
    "SJER 2021": (grid(381.6035, 2510.742), 362, 360),
    "catalogue of .002": (grid(382.2587, 2510.9507), 362, 360),
    "SERC 2025 .002": (grid(381.86, 2511.32), 363, 361),
}


def lesson(wavelength: NDArray[np.float64]) -> list[int]:
    """The index code of NEON's lesson on unmixing: bands before, between and after the windows, less the last ten.

    Its ranges end at the last band below a window and leave that one out.
    """
    bounds = []
    for low, high in NEON:
        bounds.append((max(np.where(wavelength < low)[0]), min(np.where(wavelength > high)[0])))
    (end0, start1), (end1, start2) = bounds
    return [*range(0, end0), *range(start1, end1), *range(start2, len(wavelength) - 10)]


@pytest.mark.parametrize("name", GRIDS)
def test_how_many_bands_neons_grids_keep(name: str) -> None:
    wavelength, inclusive, of_lesson = GRIDS[name]
    kept = select_bands(wavelength, NEON, 10, None, 1, lesson_bands=False)
    assert len(kept) == inclusive
    bad = [i for i, w in enumerate(wavelength) if any(low <= w <= high for low, high in NEON) or i >= 416]
    assert sorted({*range(426)} - set(bad)) == kept.tolist()
    as_taught = select_bands(wavelength, NEON, 10, None, 1, lesson_bands=True)
    assert len(as_taught) == of_lesson
    assert as_taught.tolist() == lesson(wavelength)


def test_the_real_grid_keeps_362_and_the_lesson_360(shared: Path) -> None:
    path = shared / "neon_sjer" / "NEON_D17_SJER_DP3_257000_4112000_reflectance_crop30.h5"
    with pytest.warns(HsiWarning, match="no bad-band windows"):
        tile = hsi.open_tile(path)
    cube = hsi.clean(tile)
    assert cube.shape == (30, 30, 362)
    dropped = sorted(set(tile.wavelength.values) - set(cube.wavelength.values))
    assert [round(w, 2) for w in (dropped[0], dropped[20], dropped[21], dropped[53])] == [
        1340.04,
        1440.20,
        1790.76,
        1951.01,
    ]
    taught = hsi.clean(tile, lesson_bands=True)
    assert taught.sizes["wavelength"] == 360
    assert_array_equal(taught.wavelength, tile.wavelength[lesson(tile.wavelength.values)])
    with h5py.File(path) as file:
        stored = file["SJER/Reflectance/Reflectance_Data"][...]
    assert_array_equal(taught, (stored[:, :, lesson(tile.wavelength.values)] / 10000.0).astype(np.float32))


def test_the_ends_of_windows_are_bad() -> None:
    wavelength = np.array([1339.0, 1340.0, 1400.0, 1445.0, 1446.0])
    assert select_bands(wavelength, NEON, 0, None, 1, lesson_bands=False).tolist() == [0, 4]
    assert select_bands(wavelength, [], 0, [(1340.0, 1445.0)], 1, lesson_bands=False).tolist() == [1, 2, 3]


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda r: (min(r), max(r))), max_size=3)


@given(
    wavelength=st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(sorted),
    windows=ranges,
    drop_last=st.integers(0, 35),
    keep=st.none() | ranges,
    every=st.integers(1, 4),
    lesson_bands=st.booleans(),
)
def test_bands_one_by_one(
    wavelength: list[int],
    windows: list[tuple[int, int]],
    drop_last: int,
    keep: list[tuple[int, int]] | None,
    every: int,
    lesson_bands: bool,
) -> None:
    wanted = []
    for i, w in enumerate(wavelength):
        bad = any(low <= w <= high for low, high in windows) or i >= len(wavelength) - drop_last
        last_below = any(w < low and (i + 1 == len(wavelength) or wavelength[i + 1] >= low) for low, _ in windows)
        inside = keep is None or any(low <= w <= high for low, high in keep)
        if inside and not bad and not (lesson_bands and last_below):
            wanted.append(i)
    wanted = wanted[::every]
    arguments = (np.array(wavelength, float), windows, drop_last, keep, every, lesson_bands)
    if wanted:
        assert select_bands(*arguments).tolist() == wanted  # type: ignore[arg-type]
    else:
        with pytest.raises(HsiError, match="no band of"):
            select_bands(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "bands"),
    [
        ({}, KEPT),
        ({"drop_last": 0}, KEPT + [i for i in range(30, 40) if not 1790 <= WAVELENGTH[i] <= 1955]),
        ({"windows": []}, list(range(30))),
        ({"windows": [(400, 1000)], "drop_last": 0}, [i for i in range(40) if WAVELENGTH[i] > 1000]),
        ({"drop": [(400, 1000)]}, [i for i in KEPT if WAVELENGTH[i] > 1000]),
        (
            {"keep": [(500, 700), (1300, 1500)]},
            [i for i in KEPT if 500 <= WAVELENGTH[i] <= 700 or 1300 <= WAVELENGTH[i] <= 1500],
        ),
        ({"every": 3}, KEPT[::3]),
        ({"keep": ((500, 900),), "every": 2, "drop_last": 3}, [i for i in KEPT if 500 <= WAVELENGTH[i] <= 900][::2]),
        ({"windows": np.array([[400, 1000]])}, [i for i in range(30) if WAVELENGTH[i] > 1000]),
    ],
)
def test_bands_of_a_tile(paths: dict[str, Path], options: dict[str, Any], bands: list[int]) -> None:
    cube = hsi.clean(hsi.open_tile(paths["spatial"]), **options)
    assert_array_equal(cube.wavelength, WAVELENGTH[bands])
    assert_array_equal(cube.fwhm, np.full(len(bands), 5.5))
    assert_array_equal(cube, expected(bands))


def test_windows_of_the_file_count(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        attrs = file["SERC/Reflectance"].attrs
        attrs["Band_Window_1_Nanometers"] = [500, 900]
        del attrs["Band_Window_2_Nanometers"]

    cube = hsi.clean(hsi.open_tile(write_counts(tmp_path / "t.h5", then=change)), drop_last=0)
    assert not ((cube.wavelength >= 500) & (cube.wavelength <= 900)).any()
    assert ((cube.wavelength >= 1340) & (cube.wavelength <= 1445)).any()


# ------------------------------------------------------------------------------------- what it holds


def test_the_cube_is_float32_reflectance(paths: dict[str, Path], layout: str) -> None:
    cube = hsi.clean(hsi.open_tile(paths[layout]))
    values = cube.values
    assert values.dtype == cube.dtype == np.float32
    assert_array_equal(values, expected())
    assert np.isnan(values).sum() == (counts(SHAPE)[:, :, KEPT] == -9999).sum() > 0
    assert (values == 0).any()


@pytest.mark.parametrize("scale", [10000.0, 3.0, 12345.678, 0.1])
def test_every_count_is_rounded_once(scale: float) -> None:
    every = np.arange(-32768, 32768).astype(np.int16).reshape(256, 256)
    with_float64 = (every.astype(np.float64) / scale).astype(np.float32)
    with_float64[every == -9999] = np.nan
    for dtype in ("<i2", ">i2", "<i4", "<f4", "<f8"):
        assert_array_equal(as_reflectance(every.astype(dtype), scale, -9999, np.float32), with_float64, err_msg=dtype)


def test_scale_and_no_data_of_the_file_count(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["SERC/Reflectance/Reflectance_Data"].attrs.update({"Scale_Factor": 5000.0, "Data_Ignore_Value": 0.0})

    path = write_counts(tmp_path / "t.h5", counts(SHAPE), then=change)
    cube = hsi.clean(hsi.open_tile(path))
    assert_array_equal(cube, expected(scale=5000.0, no_data=0))
    assert cube.attrs["counts_per_unit"] == 5000.0


def test_labels(paths: dict[str, Path], layout: str) -> None:
    tile = hsi.open_tile(paths[layout])
    cube = hsi.clean(tile)
    assert (cube.name, cube.dims) == ("reflectance", ("y", "x", "wavelength"))
    assert cube.attrs["units"] == "1"
    assert cube.attrs["counts_per_unit"] == 10000.0
    assert schema.SCALE not in cube.attrs and schema.NO_DATA not in cube.attrs
    for name in ("y", "x", "spatial_ref"):
        xr.testing.assert_identical(cube[name], tile[name])
    assert cube.wavelength.attrs == tile.wavelength.attrs == schema.WAVELENGTH_ATTRS
    assert cube.fwhm.attrs == schema.FWHM_ATTRS
    assert cube.wavelength.dtype == np.float64
    assert cube.rio.crs.to_epsg() == 32618
    assert tuple(cube.rio.transform())[:6] == (1.0, 0.0, 368000.0, 0.0, -1.0, 4307000.0)


def test_the_same_from_every_kind_of_tile(paths: dict[str, Path], layout: str) -> None:
    """On disk, in dask, in memory, transposed, cut: equal cubes, laziness kept."""
    tile = hsi.open_tile(paths[layout])
    cube = hsi.clean(tile)
    in_memory = hsi.clean(tile.compute())
    assert isinstance(in_memory.data, np.ndarray)
    in_dask = hsi.clean(xr.open_dataset(paths[layout], engine="neon", chunks={}))
    rechunked = hsi.clean(tile.chunk({"y": 10, "x": -1, "wavelength": 7}))
    turned = hsi.clean(tile.transpose("wavelength", "x", "y", ...))
    for other in (in_memory, in_dask, rechunked, turned):
        xr.testing.assert_identical(cube.compute(), other.compute())
        assert other.encoding == cube.encoding
    for other in (in_dask, rechunked, turned):
        assert other.chunks is not None
    assert rechunked.chunksizes["y"] == (10,) * 6 + (4,)
    window = {"y": slice(7, 50), "x": slice(None, None, -2)}
    xr.testing.assert_identical(hsi.clean(tile.isel(window)).compute(), cube.isel(window).compute())


def test_the_tile_is_not_changed(paths: dict[str, Path]) -> None:
    for tile in (hsi.open_tile(paths["spatial"]), hsi.open_tile(paths["band"]).compute()):
        before, attrs = tile.copy(deep=True), copy.deepcopy(tile.reflectance.attrs)
        encoding = copy.deepcopy(tile.reflectance.encoding)
        cube = hsi.clean(tile)
        cube.attrs["units"] = "changed"
        cube.wavelength.attrs["units"] = "changed"
        if not cube.chunks:
            cube[:] = 0
        xr.testing.assert_identical(tile, before)
        assert {k: list(np.ravel(v)) for k, v in tile.reflectance.attrs.items()} == {
            k: list(np.ravel(v)) for k, v in attrs.items()
        }
        assert tile.reflectance.encoding == encoding
        assert schema.WAVELENGTH_ATTRS["units"] == schema.PRODUCT_ATTRS["reflectance"]["units"].replace("1", "nm")


def test_a_tile_that_was_computed_on(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["spatial"])
    with xr.set_options(keep_attrs=True):
        masked = tile.assign(reflectance=tile.reflectance.where(tile.x > 368010.0))
    cube = hsi.clean(masked)
    assert_array_equal(cube, np.where(tile.x.values[None, :, None] > 368010.0, expected(), np.nan))


def test_a_tile_without_pixels(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["spatial"])
    for window in ({"y": slice(5, 5)}, {"x": slice(0)}, {"y": slice(0), "x": slice(0)}):
        assert hsi.clean(tile.isel(window)).values.shape == (*tile.isel(window).reflectance.shape[:2], len(KEPT))


def test_pixels_picked_one_by_one(paths: dict[str, Path], no_compute: NoCompute) -> None:
    """A resampling by nearest neighbours: no window, so the generic way, and lazy all the same."""
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(0, 64, (5, 6)), rng.integers(0, 90, (5, 6))
    tile = hsi.open_tile(paths["spatial"]).drop_vars(["y", "x"])
    picked = tile.isel(y=xr.DataArray(rows, dims=("y", "x")), x=xr.DataArray(cols, dims=("y", "x")))
    with Counter() as decoded, no_compute():
        cube = hsi.clean(picked)
    assert decoded.chunks == 0
    assert cube.chunks is not None
    assert_array_equal(cube, expected()[rows, cols])


# ----------------------------------------------------------------------------- what is decoded


def test_cleaning_computes_nothing(paths: dict[str, Path], layout: str, no_compute: NoCompute) -> None:
    with Counter() as decoded, no_compute():
        for tile in (
            hsi.open_tile(paths[layout]),
            xr.open_dataset(paths[layout], engine="neon", chunks={}),
            hsi.open_tile(paths[layout]).transpose("wavelength", "y", "x"),
        ):
            cube = hsi.clean(tile, every=2)
            repr(cube)
            assert cube.chunks is not None
            cube.isel(y=slice(5, 9)).mean("wavelength")
    assert decoded.chunks == 0


def touched(stored: tuple[int, int, int], rows: Any, cols: Any, bands: Any) -> int:
    return int(
        np.prod([len({int(p) // c for p in np.ravel(at)}) for at, c in zip((rows, cols, bands), stored, strict=True)])
    )


@pytest.mark.parametrize("kind", ["open_tile", "engine with chunks"])
@pytest.mark.parametrize("name", ["spatial", "band"])
def test_each_stored_chunk_is_decoded_once_and_dropped_bands_never(
    paths: dict[str, Path], name: str, kind: str
) -> None:
    tile = hsi.open_tile(paths[name]) if kind == "open_tile" else xr.open_dataset(paths[name], engine="neon", chunks={})
    stored = LAYOUTS[name]["chunks"]
    everything = np.arange(SHAPE[0]), np.arange(SHAPE[1])
    for options, bands in (({}, KEPT), ({"keep": [(400, 700)]}, range(6)), ({"every": 9}, KEPT[::9])):
        cube = hsi.clean(tile, **options)
        with Counter() as decoded:
            assert_array_equal(cube, expected(list(bands)))
        assert decoded.chunks == touched(stored, *everything, list(bands))


SELECTIONS = [
    {"wavelength": 3},
    {"wavelength": -1},
    {"wavelength": slice(4, 5)},
    {"wavelength": slice(4, 12)},
    {"y": slice(0, 16), "x": slice(0, 30)},
    {"y": slice(16, 40), "x": slice(31, 32)},
    {"y": 20, "x": 45},
    {"y": slice(3, 60, 20)},
    {"y": slice(17, 19), "x": 3, "wavelength": 10},
]


@pytest.mark.parametrize("name", ["spatial", "band"])
@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
def test_a_selection_of_a_cube_decodes_only_what_it_shows(
    paths: dict[str, Path], name: str, selection: dict[str, Any]
) -> None:
    cube = hsi.clean(hsi.open_tile(paths[name]))
    index = tuple(selection.get(dim, slice(None)) for dim in ("y", "x", "wavelength"))
    at = (np.arange(SHAPE[0])[index[0]], np.arange(SHAPE[1])[index[1]], np.array(KEPT)[index[2]])
    for chosen in (cube.isel(selection), hsi.clean(hsi.open_tile(paths[name])).chunk({}).isel(selection)):
        with Counter() as decoded:
            values = chosen.values
        assert_array_equal(values, expected()[index])
        assert decoded.chunks == touched(LAYOUTS[name]["chunks"], *at)


def test_a_window_of_a_tile_cleaned_later_decodes_only_its_chunks(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["spatial"]).sel(y=slice(4306983.5, 4306968.5), x=slice(368030.5, 368059.5))
    assert tile.reflectance.shape == (16, 30, 40)
    with Counter() as decoded:
        values = hsi.clean(tile).values
    assert decoded.chunks == touched((1, 1, 9), 0, 0, KEPT)
    assert_array_equal(values, expected()[16:32, 30:60])


def test_blocks_of_a_large_tile_share_no_stored_chunk(tmp_path: Path) -> None:
    """Blocks of the tiles that NEON publishes; the file holds no data."""
    for chunks, bands in (((32, 63, 27), 426), ((1000, 1000, 1), 426), ((24, 119, 27), 428), ((500, 250, 27), 426)):
        path = write_counts(tmp_path / "t.h5", np.zeros((1, 1, bands), "i2"))
        with h5py.File(path, "r+") as file:
            attrs = dict(file["SERC/Reflectance/Reflectance_Data"].attrs)
            del file["SERC/Reflectance/Reflectance_Data"]
            data = file["SERC/Reflectance"].create_dataset(
                "Reflectance_Data", (1000, 1000, bands), "i2", chunks=chunks, compression="gzip"
            )
            data.attrs.update(attrs)
        for tile, first in ((hsi.open_tile(path), 0), (hsi.open_tile(path).isel(y=slice(11, None)), 11)):
            cube = hsi.clean(tile)
            kept = np.searchsorted(tile.wavelength, cube.wavelength)
            assert max(np.prod([c[0] for c in cube.chunks]), cube.data.blocks[0, 0, 0].size) * 4 <= 33 << 20
            for dim, at, size in (
                (0, np.arange(first, 1000), chunks[0]),
                (1, np.arange(1000), chunks[1]),
                (2, kept, chunks[2]),
            ):
                starts = np.cumsum(cube.chunks[dim])[:-1]
                assert all(at[s] // size != at[s - 1] // size for s in starts), (chunks, dim)
            assert np.prod(cube.data.numblocks) < 1200


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"windows": (1340, 1445)}, r"windows is .*; expected ranges in nm, as \[\(1340, 1445\)"),
        ({"windows": [(1445, 1340)]}, "windows has the range 1445 to 1340"),
        ({"windows": [(np.nan, 1340)]}, "windows has the range nan to 1340"),
        ({"drop": [(1, 2, 3)]}, "drop is"),
        ({"drop": 700}, "drop is 700"),
        ({"keep": "visible"}, "keep is 'visible'"),
        ({"keep": [(1, 2)]}, r"no band of 40 \(400 to 2500 nm\) is left"),
        ({"drop_last": 40}, "no band of 40"),
        ({"drop_last": -1}, "drop_last=-1"),
        ({"drop_last": 2.5}, "drop_last=2.5"),
        ({"every": 0}, "every=0"),
        ({"every": None}, "every=None"),
    ],
)
def test_options_that_make_no_sense(paths: dict[str, Path], options: dict[str, Any], words: str) -> None:
    with pytest.raises(HsiError, match=words) as caught:
        hsi.clean(hsi.open_tile(paths["spatial"]), **options)
    assert "\n" not in str(caught.value)


def no_attrs(tile: xr.Dataset) -> xr.Dataset:
    return tile.assign(reflectance=tile.reflectance.drop_attrs())


def scaled(scale: float) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda tile: tile.assign(reflectance=tile.reflectance.assign_attrs({schema.SCALE: scale}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tile: tile.reflectance, "clean got DataArray; expected a tile"),
        (lambda tile: tile.reflectance.values, "clean got ndarray"),
        (lambda tile: tile.drop_vars("reflectance"), "expected a tile"),
        (lambda tile: tile.isel(wavelength=3), "reflectance has dimensions"),
        (lambda tile: tile.rename(wavelength="band"), "reflectance has dimensions"),
        (lambda tile: tile.drop_vars("wavelength"), "with wavelengths"),
        (lambda tile: tile.isel(wavelength=slice(None, None, -1)), "wavelengths do not increase"),
        (lambda tile: tile.isel(wavelength=[0, 0, 1]), "wavelengths do not increase"),
        (no_attrs, f"no attribute {schema.SCALE}"),
        (scaled(0.0), "is 0; expected counts per unit"),
        (scaled(np.nan), "is nan; expected counts per unit"),
    ],
)
def test_what_is_no_tile(paths: dict[str, Path], change: Callable[[xr.Dataset], Any], words: str) -> None:
    with pytest.raises(HsiError, match=words) as caught:
        hsi.clean(change(hsi.open_tile(paths["spatial"])))
    assert "\n" not in str(caught.value)
