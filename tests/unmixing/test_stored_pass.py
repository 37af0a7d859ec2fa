"""The pass: lazy, one decode of each stored chunk, the same bits whatever the chunks, windows, threads and way."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk import schema
from hsichunk.chunks import columns
from hsichunk.chunks.array import DECODED
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.chunks.windows import Window
from hsichunk.cube.cleaning import source_of
from hsichunk.unmixing.solver import prepare
from hsichunk.unmixing.stored_pass import solve_window
from tests.helpers.cubes import chunks_under, cube_of, endmembers_of
from tests.helpers.tiles import WIDE_LAYOUTS, WIDE_SHAPE, wide_tile

NoCompute = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def em(folder: Path) -> xr.DataArray:
    """Two pixels and two library spectra with fractions of a count."""
    cube = cube_of(wide_tile(folder))
    library = np.random.default_rng(0).uniform(0.01, 0.6, (2, cube.sizes["wavelength"]))
    counts = np.rint(cube[[40, 60], [50, 80]].values[[0, 1], [0, 1]].astype(np.float64) * 10000)
    return endmembers_of(np.concatenate([counts / 10000, library]), cube.wavelength)


@pytest.fixture(scope="module")
def whole(folder: Path, em: xr.DataArray) -> xr.Dataset:
    """All products of the cube in memory."""
    return hsi.unmix(cube_of(wide_tile(folder)).compute(), em, certificate=True)


def assert_same_bits(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name in expected:
        ours, theirs = np.asarray(found[name]), np.asarray(expected[name])
        assert ours.dtype == theirs.dtype == np.float32
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes(), name


def test_the_scene_has_both_data_and_none(whole: xr.Dataset) -> None:
    missing = whole.rmse.isnull()
    assert 0.02 < missing.mean() < 0.9
    for name in whole:
        assert (whole[name].isnull() == missing).all()


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS)
def test_nothing_is_computed_before_it_is_asked_for(
    folder: Path, em: xr.DataArray, no_compute: NoCompute, chunks: tuple[int, int, int]
) -> None:
    cube = cube_of(wide_tile(folder, chunks))
    before = DECODED.now()
    with no_compute():
        lazies = [
            hsi.unmix(cube, em, certificate=True),
            hsi.unmix(cube[10:70, 5:60], em),
            hsi.fcls(cube, em),
            xr.merge([hsi.sam(cube, em), hsi.sid(cube, em)]),
            hsi.unmix(cube * np.float32(0.5), em) if chunks[2] > 1 else hsi.sam(cube, em).to_dataset(),
        ]
    assert DECODED.now() == before
    for lazy in lazies:
        for name, variable in lazy.items():
            array = variable.data
            assert isinstance(array, da.Array)
            assert array.dtype == np.float32
            assert isinstance(array._meta, np.ndarray)
            assert array._meta.dtype == np.float32
            assert array._meta.ndim == array.ndim
            if name in schema.PER_ENDMEMBER:
                assert array.chunks[0] == (4,)
            assert array.chunks[-2:] == lazy[next(iter(lazy))].data.chunks[-2:]


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS)
def test_blocks_are_what_the_graph_says(folder: Path, em: xr.DataArray, chunks: tuple[int, int, int]) -> None:
    lazy = hsi.unmix(cube_of(wide_tile(folder, chunks))[3:88, 7:129], em)
    for variable in lazy.values():
        blocks = variable.data.to_delayed().ravel()
        for place, block in zip(np.ndindex(*variable.data.numblocks), dask.compute(*blocks), strict=True):
            assert block.shape == tuple(c[i] for c, i in zip(variable.data.chunks, place, strict=True))
            assert block.dtype == np.float32


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS)
@pytest.mark.parametrize("window", [(0, 90, 0, 130), (31, 65, 62, 64)])
def test_each_stored_chunk_is_decoded_once_for_all_products(
    folder: Path, em: xr.DataArray, whole: xr.Dataset, chunks: tuple[int, int, int], window: tuple[int, int, int, int]
) -> None:
    cube, (rows, cols) = cube_of(wide_tile(folder, chunks)), (slice(*window[:2]), slice(*window[2:]))
    out = hsi.unmix(cube[rows, cols], em, certificate=True)
    before = DECODED.now()[0]
    computed = out.compute()
    assert DECODED.now()[0] - before == chunks_under(cube, rows, cols)
    assert_same_bits(computed, whole.isel(y=rows, x=cols))


def test_blocks_of_a_window_share_no_stored_chunk(folder: Path) -> None:
    """Blocks are cut between stored columns, wherever the window begins."""
    path = wide_tile(folder, (32, 63, 10), shape=(600, 560), bands=24)
    cube = hsi.clean(hsi.open_tile(path))[17:590, 30:]
    em = endmembers_of(np.random.default_rng(0).uniform(0.1, 0.6, (2, cube.shape[2])), cube.wavelength)
    out = hsi.unmix(cube, em)
    assert out.rmse.data.npartitions > 4
    before = DECODED.now()[0]
    computed = out.compute()
    assert DECODED.now()[0] - before == chunks_under(cube, slice(17, 590), slice(30, 560))
    inner = cube[200:300, 200:300].compute()
    assert_same_bits(computed.isel(y=slice(200, 300), x=slice(200, 300)), hsi.unmix(inner, em))


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS)
def test_dropped_bands_are_not_decoded(folder: Path, em: xr.DataArray, chunks: tuple[int, int, int]) -> None:
    cube = cube_of(wide_tile(folder, chunks))
    few = cube.isel(wavelength=slice(30, 60, 3))
    before = DECODED.now()[0]
    out = hsi.unmix(few, em.isel(wavelength=slice(30, 60, 3))).compute()
    assert DECODED.now()[0] - before == chunks_under(few, slice(0, 90), slice(0, 130))
    expected = hsi.unmix(few.compute(), em.isel(wavelength=slice(30, 60, 3)))
    assert_same_bits(out, expected)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_schedulers_give_the_same_bits(folder: Path, em: xr.DataArray, whole: xr.Dataset, scheduler: str) -> None:
    with dask.config.set(scheduler=scheduler):
        assert_same_bits(hsi.unmix(cube_of(wide_tile(folder)), em, certificate=True).compute(), whole)


def test_the_graph_pickles_and_its_names_say_what_it_computes(
    folder: Path, em: xr.DataArray, whole: xr.Dataset
) -> None:
    lazy = hsi.unmix(cube_of(wide_tile(folder)), em, certificate=True)
    assert_same_bits(pickle.loads(pickle.dumps(lazy)).compute(), whole)
    name = lazy.sam.data.name
    assert hsi.unmix(cube_of(wide_tile(folder)), em, certificate=True).sam.data.name == name
    memory = cube_of(wide_tile(folder)).compute().chunk({"y": 45})
    assert hsi.sam(memory, em).data.name == hsi.sam(memory, em).data.name
    others = [
        hsi.unmix(cube_of(wide_tile(folder)), em, solver=None, metric="sam"),
        hsi.unmix(cube_of(wide_tile(folder)), em[::-1], certificate=True),
        hsi.unmix(cube_of(wide_tile(folder)), em.assign_coords(endmember=list("abcd")), certificate=True),
        hsi.unmix(cube_of(wide_tile(folder))[1:], em, certificate=True),
        hsi.unmix(cube_of(wide_tile(folder, WIDE_LAYOUTS[1])), em, certificate=True),
        hsi.unmix(memory, em, certificate=True),
    ]
    names = [name, *(other.sam.data.name for other in others)]
    assert len(set(names)) == len(names)


def counts_of(folder: Path, chunks: tuple[int, int, int]) -> Counts:
    source = source_of(cube_of(wide_tile(folder, chunks)))
    assert source is not None
    return source[0]


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS)
@pytest.mark.parametrize("small", [0, 1 << 40], ids=["large", "small"])
@pytest.mark.parametrize("threads", [1, 2])
def test_both_ways_of_a_column_and_any_threads_give_the_same_bits(
    folder: Path,
    em: xr.DataArray,
    whole: xr.Dataset,
    monkeypatch: pytest.MonkeyPatch,
    chunks: tuple[int, int, int],
    small: int,
    threads: int,
) -> None:
    monkeypatch.setattr(columns, "SMALL_COLUMN", small)
    counts = counts_of(folder, chunks)
    solver = prepare(em.values, em.endmember.values, schema.ALL_PRODUCTS, counts.scale, exact=True)
    products, tally = solve_window(counts, solver, Window(0, WIDE_SHAPE[0], 0, WIDE_SHAPE[1]), threads)
    assert_same_bits(products, whole)
    valid = ~np.isnan(whole.rmse.values)
    assert (tally.valid, tally.masked) == (valid.sum(), (~valid).sum())
    assert tally.solved == valid.sum()
    means = np.array(tally.abundance) / 2.0**30 / tally.valid
    assert_allclose(means, whole.abundance.mean(("y", "x")), rtol=0, atol=1e-6)
    assert tally.worst_kkt == whole.kkt.max()
    assert tally.chunks == chunks_under(cube_of(wide_tile(folder, chunks)), slice(0, 90), slice(0, 130))


@settings(max_examples=25)
@given(data=st.data(), chunks=st.sampled_from(WIDE_LAYOUTS), large=st.booleans(), threads=st.sampled_from([1, 2]))
def test_windows_cut_anywhere_give_the_same_bits(
    folder: Path, em: xr.DataArray, whole: xr.Dataset, data: Any, chunks: Any, large: bool, threads: int
) -> None:
    top, left = data.draw(st.integers(0, WIDE_SHAPE[0] - 1)), data.draw(st.integers(0, WIDE_SHAPE[1] - 1))
    bottom, right = data.draw(st.integers(top + 1, WIDE_SHAPE[0])), data.draw(st.integers(left + 1, WIDE_SHAPE[1]))
    counts = counts_of(folder, chunks)
    solver = prepare(em.values, em.endmember.values, schema.ALL_PRODUCTS, counts.scale, exact=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "SMALL_COLUMN", 0 if large else 1 << 40)
        products, tally = solve_window(counts, solver, Window(top, bottom, left, right), threads)
    assert_same_bits(products, whole.isel(y=slice(top, bottom), x=slice(left, right)))
    assert tally.valid + tally.masked == (bottom - top) * (right - left)


def cuts(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Chunk sizes that add up to `size`."""
    inner = st.lists(st.integers(1, size - 1), max_size=4, unique=True).map(sorted)
    return inner.map(lambda edges: tuple(int(v) for v in np.diff([0, *edges, size])))


@settings(max_examples=25)
@given(data=st.data(), changed=st.booleans())
def test_dask_chunk_grids_give_the_same_bits(folder: Path, em: xr.DataArray, data: Any, changed: bool) -> None:
    cube = cube_of(wide_tile(folder)).isel(y=slice(20, 50), x=slice(30, 70)).compute()
    if changed:  # and floats that are no counts any more
        cube = (cube * np.float32(0.77)).assign_attrs(cube.attrs)
    grid = {dim: data.draw(cuts(cube.sizes[dim])) for dim in cube.dims}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lazy = hsi.unmix(cube.chunk(grid), em, certificate=True)
    assert [w.category for w in caught] == [hsi.HsiWarning] * (len(grid["wavelength"]) > 1)
    assert lazy.rmse.chunks is not None
    assert_same_bits(lazy.compute(), hsi.unmix(cube, em, certificate=True))


def slices() -> dict[str, tuple[Any, Any]]:
    return {
        "window": (slice(17, 71), slice(40, 41)),
        "single row": (slice(50, 51), slice(None)),
        "every second": (slice(None, None, 2), slice(None, None, 3)),
        "backwards": (slice(None, None, -1), slice(10, 90)),
        "picked": ([3, 50, 51, 80], slice(60, 70)),
    }


@pytest.mark.parametrize("chunks", [WIDE_LAYOUTS[0], WIDE_LAYOUTS[2]])
@pytest.mark.parametrize("name", slices())
def test_slices_of_the_cube_are_slices_of_the_products(
    folder: Path, em: xr.DataArray, whole: xr.Dataset, chunks: tuple[int, int, int], name: str
) -> None:
    rows, cols = slices()[name]
    out = hsi.unmix(cube_of(wide_tile(folder, chunks)).isel(y=rows, x=cols), em, certificate=True)
    assert out.rmse.chunks is not None
    assert_same_bits(out.compute(), whole.isel(y=rows, x=cols))
    xr.testing.assert_equal(out.y, whole.y.isel(y=rows))


def test_a_cube_changed_by_arithmetic_is_close_to_float64(folder: Path, em: xr.DataArray) -> None:
    cube = cube_of(wide_tile(folder)).isel(y=slice(20, 50), x=slice(30, 70))
    changed = cube * np.float32(0.9) + np.float32(0.013)
    out = hsi.unmix(changed, em).compute()
    x, e = changed.values.astype(np.float64), em.values
    mixed = np.einsum("pyx,pl->yxl", out.abundance.values.astype(np.float64), e)
    assert_allclose(out.rmse, np.sqrt(((x - mixed) ** 2).mean(-1)), rtol=0, atol=1e-6)
    cosine = np.einsum("yxl,pl->pyx", x, e) / np.linalg.norm(x, axis=-1) / np.linalg.norm(e, axis=-1)[:, None, None]
    assert_allclose(out.sam, np.arccos(cosine), rtol=0, atol=1e-6)
    share, q = np.maximum(x, 1e-4), np.maximum(e, 1e-4)
    share, q = share / share.sum(-1, keepdims=True), (q / q.sum(-1, keepdims=True))[:, None, None]
    assert_allclose(out.sid, ((share - q) * np.log(share / q)).sum(-1), rtol=0, atol=1e-6)
    a = hsi.fcls(hsi.as_cube(x, cube.wavelength), em).abundance
    assert_allclose(out.abundance, a, rtol=0, atol=1e-6)


def test_a_cube_changed_in_places_keeps_the_bits_of_the_rest(folder: Path, em: xr.DataArray, whole: xr.Dataset) -> None:
    """A mask set by the user makes no-data and no other difference."""
    cube = cube_of(wide_tile(folder))
    keep = xr.DataArray(np.random.default_rng(1).random(WIDE_SHAPE) < 0.7, dims=("y", "x"))
    masked = hsi.unmix(cube.where(keep), em, certificate=True).compute()
    assert_same_bits(masked, whole.where(keep))


def test_the_tile_is_left_as_it_was(folder: Path, em: xr.DataArray) -> None:
    path = wide_tile(folder, WIDE_LAYOUTS[0])
    before, cube = path.read_bytes(), cube_of(wide_tile(folder))
    attrs, encoding, kept = dict(cube.attrs), dict(cube.encoding), em.copy(deep=True)
    hsi.unmix(cube, em).compute()
    assert path.read_bytes() == before
    assert (cube.attrs, cube.encoding) == (attrs, encoding)
    xr.testing.assert_identical(em, kept)


# stored arrays that no tile of NEON's holds, but a file may


def stored_counts(
    path: Path, values: Any, chunks: tuple[int, int, int], bands: Any, no_data: int, dtype: Any = None
) -> Counts:
    with h5py.File(path, "w") as file:
        file.create_dataset("counts", data=np.asarray(values, dtype), chunks=chunks, compression="gzip")
    with h5py.File(path) as file:
        return Counts(HDF5Array(path, file["counts"]), np.asarray(bands, np.intp), 10000.0, no_data)


def made_up(low: int, high: int, no_data: int, seed: int = 0) -> Any:
    """Counts (20, 23, 21) of which some pixels hold no data in one band."""
    rng = np.random.default_rng(seed)
    values = rng.integers(low, high + 1, (20, 23, 21), np.int64)
    values[2, 3, 4] = values[11, 22, 20] = values[19, 0] = no_data
    return values


BORDERS = [(7, 9, 5), (20, 23, 1), (3, 23, 21), (20, 23, 4)]
DTYPES = [
    ("i2", -32768, 32767, -9999),
    (">i2", -300, 15000, 15000),
    ("i4", -32768, 32767, -9999),
    (">i4", -300, 15000, -(2**31)),
    ("u2", 0, 32767, 65535),
    ("u1", 0, 254, 255),
    ("i1", -127, 127, -128),
    ("i2", -300, 15000, 70000),
]


@pytest.mark.parametrize("chunks", BORDERS)
@pytest.mark.parametrize(("dtype", "low", "high", "no_data"), DTYPES)
@pytest.mark.parametrize("small", [0, 1 << 40], ids=["large", "small"])
def test_counts_of_any_integer_type(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunks: tuple[int, int, int],
    dtype: str,
    low: int,
    high: int,
    no_data: int,
    small: int,
) -> None:
    monkeypatch.setattr(columns, "SMALL_COLUMN", small)
    bands = [0, 1, 2, 4, 7, 8, 9, 10, 16, 20]
    values = made_up(low, high, no_data if np.iinfo(dtype).min <= no_data <= np.iinfo(dtype).max else low)
    counts = stored_counts(tmp_path / "counts.h5", values, chunks, bands, no_data, dtype)
    e = np.random.default_rng(1).uniform(0.1, 0.8, (3, 10))
    solver = prepare(e, ["a", "b", "c"], schema.ALL_PRODUCTS, 10000.0, exact=True)
    products, _ = solve_window(counts, solver, Window(0, 20, 0, 23), 2)
    kept = values[..., bands]
    reflectance = np.where(kept == no_data, np.nan, kept / 10000)
    assert np.isnan(reflectance).any() == (no_data != 70000)
    cube = hsi.as_cube(reflectance, np.arange(10) + 400.0).assign_attrs(counts_per_unit=10000.0)
    assert_same_bits(products, hsi.unmix(cube, endmembers_of(e, cube.wavelength), certificate=True))


@pytest.mark.parametrize("chunks", BORDERS)
@pytest.mark.parametrize("dtype", ["i2", "i4"])
def test_what_dropped_bands_hold_does_not_matter(tmp_path: Path, chunks: tuple[int, int, int], dtype: str) -> None:
    values, bands = made_up(1, 5000, 1), [0, 1, 2, 4, 7, 8, 9, 10, 16, 20]
    solver = prepare(
        np.random.default_rng(1).uniform(0.1, 0.8, (3, 10)), "abc", schema.ALL_PRODUCTS, 10000.0, exact=True
    )
    window = Window(0, 20, 0, 23)
    counts = stored_counts(tmp_path / "clean.h5", values, chunks, bands, -9999, dtype)
    expected = solve_window(counts, solver, window, 1)[0]
    values[..., 3] = -9999
    values[5:9, :, 17] = np.iinfo(dtype).max
    spoilt = stored_counts(tmp_path / "spoilt.h5", values, chunks, bands, -9999, dtype)
    assert_same_bits(solve_window(spoilt, solver, window, 1)[0], expected)


@pytest.mark.parametrize("chunks", BORDERS)
@pytest.mark.parametrize("small", [0, 1 << 40], ids=["large", "small"])
def test_one_pixel_of_no_data_changes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, int, int], small: int
) -> None:
    monkeypatch.setattr(columns, "SMALL_COLUMN", small)
    values, bands = made_up(1, 9000, 1), np.arange(21)
    solver = prepare(
        np.random.default_rng(1).uniform(0.1, 0.8, (3, 21)), "abc", schema.ALL_PRODUCTS, 10000.0, exact=True
    )
    window, here = Window(0, 20, 0, 23), np.zeros((20, 23), np.bool_)
    counts = stored_counts(tmp_path / "clean.h5", values, chunks, bands, -9999, "i2")
    expected = solve_window(counts, solver, window, 1)[0]
    values[6, 8, 13], here[6, 8] = -9999, True
    out = solve_window(stored_counts(tmp_path / "spoilt.h5", values, chunks, bands, -9999, "i2"), solver, window, 2)[0]
    for name in expected:
        assert np.isnan(out[name][..., here]).all()
        assert out[name][..., ~here].tobytes() == expected[name][..., ~here].tobytes()


@pytest.mark.parametrize("count", [32768, -32769, 40000])
def test_counts_beyond_int16_are_refused(tmp_path: Path, count: int) -> None:
    values = made_up(1, 5000, 1)
    values[5, 5, 5] = count
    counts = stored_counts(tmp_path / "counts.h5", values, (7, 9, 5), np.arange(21), -9999, "i4")
    solver = prepare(np.random.default_rng(1).uniform(0.1, 0.8, (2, 21)), "ab", ("sam",), 10000.0, exact=True)
    with pytest.raises(hsi.HsiError, match=str(count)):
        solve_window(counts, solver, Window(0, 20, 0, 23), 2)


def test_the_floor_is_one_count(tmp_path: Path) -> None:
    """SID reads counts below one as one; SAM and FCLS as they are."""
    values = made_up(-20, 40, -9999)
    values[values == -9999] = 5
    counts = stored_counts(tmp_path / "counts.h5", values, (7, 9, 5), np.arange(21), -9999, "i2")
    floored = stored_counts(tmp_path / "floored.h5", np.maximum(values, 1), (7, 9, 5), np.arange(21), -9999, "i2")
    e = np.random.default_rng(1).uniform(0.1, 0.8, (2, 21))
    solver = prepare(e, "ab", schema.PRODUCTS, 10000.0, exact=True)
    ours, theirs = (solve_window(c, solver, Window(0, 20, 0, 23), 1)[0] for c in (counts, floored))
    assert ours["sid"].tobytes() == theirs["sid"].tobytes()
    assert np.abs(ours["sam"] - theirs["sam"]).max() > 0.1
    x = values / 10000
    cosine = np.einsum("yxl,pl->pyx", x, e) / np.linalg.norm(x, axis=-1) / np.linalg.norm(e, axis=-1)[:, None, None]
    assert_allclose(ours["sam"], np.arccos(cosine), atol=1e-6)
    assert_array_equal(ours["abundance"].sum(0).round(6), 1)
