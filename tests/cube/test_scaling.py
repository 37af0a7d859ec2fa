"""Min-max scaling: PySpTools' numbers, without its traps, one block in memory at a time."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk import schema
from hsichunk.cube.scaling import minmax
from hsichunk.errors import HsiError
from hsichunk.unmixing import scaled_counts
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.cubes import cube_of
from tests.helpers.tiles import Counter, scattered_tiles, wide_tile, write_counts


def cube(values: Any) -> xr.DataArray:
    rows, columns, bands = values.shape
    coords = {"y": np.arange(rows) * -1.0, "x": np.arange(columns) * 1.0, "wavelength": 400.0 + np.arange(bands)}
    attrs = schema.PRODUCT_ATTRS[schema.REFLECTANCE] | {
        schema.SCALE: 10000.0,
        schema.NO_DATA: -9999.0,
        "counts_per_unit": 10000.0,
    }
    dims = ("y", "x", "wavelength")
    return xr.DataArray(values, coords | {"spatial_ref": 0}, dims, schema.REFLECTANCE, attrs)


def reflectance(*shape: int) -> Any:
    values = np.random.default_rng(0).random(shape, np.float32) - np.float32(0.1)
    values[1, 2] = np.nan
    return values


def test_the_numbers_of_pysptools(shared: Path) -> None:
    loadmat = pytest.importorskip("scipy.io", reason="samson is a .mat file, which SciPy reads").loadmat
    values = loadmat(shared / "samson" / "Y_clean.mat")["Y_clean"][::8, ::8] + 0.01
    scaled = minmax(cube(values))
    assert_array_equal(scaled.values, oracle.normalize(values))
    counts = np.round(values * 10000)  # float32 reflectance, as a cube has it, against float64
    assert_allclose(minmax(cube((counts / 10000).astype(np.float32))), oracle.normalize(counts / 10000), atol=1e-7)


def test_endmembers_have_their_own_range() -> None:
    em = xr.DataArray([[0.2, 0.4, 0.3], [0.6, 0.25, 0.5]], dims=("endmember", "wavelength"), name="reflectance")
    em = em.assign_coords(endmember=["EM1", "EM2"], x=("endmember", [1.0, 2.0]))
    scaled = minmax(em)
    assert_allclose(scaled, [[0, 0.5, 0.25], [1, 0.125, 0.75]])
    assert set(scaled.coords) == {"endmember", "x"}


def test_no_data_stays_and_is_not_in_the_range() -> None:
    values = reflectance(5, 6, 7)
    values[0, 0, 0] = np.inf
    scaled = minmax(cube(values)).values
    assert_array_equal(np.isnan(scaled), np.isnan(values))
    finite = np.isfinite(values)
    assert_array_equal(scaled[finite], oracle.normalize(values[finite].astype(np.float64)))
    assert scaled[finite].min() == 0 and scaled[finite].max() == 1


@pytest.mark.parametrize("chunks", [None, (2, 3, 2)])
def test_equal_values_and_no_values(chunks: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for level, expected in ((0.3, 0.0), (np.nan, np.nan)):
            values = np.full((4, 3, 2), level, np.float32)
            values[0] = np.nan
            scaled = minmax(cube(values if chunks is None else da.from_array(values, chunks))).values
            assert_array_equal(scaled[0], np.full((3, 2), np.nan))
            assert_array_equal(scaled[1:], np.full((3, 3, 2), expected))
        assert minmax(cube(np.array([[[0.3, np.inf]]]))).values.tolist() == [[[0.0, 0.0]]]


def test_integers_do_not_wrap() -> None:
    values = np.array([[[-32768, 32767, 0]]], np.int16)
    data = cube(values).drop_attrs()
    assert_allclose(minmax(data).values[0, 0], [0, 1, 32768 / 65535])


def test_labels() -> None:
    before = cube(reflectance(3, 4, 5))
    copy = before.copy(deep=True)
    scaled = minmax(before)
    assert scaled.name == "reflectance" and scaled.dims == before.dims and set(scaled.coords) == set(before.coords)
    assert scaled.attrs == {"units": "1", "long_name": "reflectance, min-max scaled"}
    xr.testing.assert_identical(before, copy)


def test_lazy_and_the_same_on_any_chunks(no_compute: Any) -> None:
    values = reflectance(7, 8, 6)
    expected = minmax(cube(values))
    for chunks in ((7, 8, 6), (2, 3, 6), (7, 8, 1), (3, 5, 4)):
        chunked = cube(da.from_array(values, chunks))
        with no_compute():
            scaled, again = minmax(chunked), minmax(chunked)
        assert scaled.chunks == chunked.chunks and scaled.dtype == scaled.data._meta.dtype == np.float64
        assert scaled.data.name == again.data.name
        xr.testing.assert_identical(scaled.compute(), expected)


def test_read_for_the_range_and_then_again() -> None:
    """The first pass is over before the second begins, so that no block waits in memory for the range."""
    log: list[int] = []
    lock = threading.Lock()

    def block(values: Any, block_info: Any = None) -> Any:
        with lock:
            log.append(block_info[0]["chunk-location"][0])
        return values

    source = da.from_array(reflectance(24, 4, 5), chunks=(2, 4, 5))
    counted = source.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    minmax(cube(counted)).compute(scheduler="threads", num_workers=4)
    assert sorted(log[:12]) == sorted(log[12:]) == list(range(12))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.ones((2, 2, 2), complex), "spectra are complex128, expected real numbers"),
        (np.full((2, 2, 2), "a"), "spectra are <U1, expected real numbers"),
        (np.ones((2, 2, 2), np.int16), "stored int16 with -9999.0 for no data, expected NaN; clean them first"),
    ],
)
def test_bad_spectra(values: Any, expected: str) -> None:
    with pytest.raises(HsiError, match=expected):
        minmax(cube(values))


PRODUCTS = (*schema.PRODUCTS, schema.KKT)
STORED = [(32, 63, 27), (90, 130, 1), (50, 40, 11)]


def alike(ours: xr.Dataset, theirs: xr.Dataset) -> None:
    for name in theirs:
        assert_allclose(ours[name], theirs[name], rtol=2e-5, atol=2e-6, err_msg=str(name))


@pytest.mark.parametrize("chunks", STORED)
def test_stored_counts_are_scaled_on_the_way(folder: Path, chunks: Any, no_compute: Any) -> None:
    """No warning, no rechunk; the same bits in any layout; each chunk decoded twice, and a few for the darkest."""
    whole = cube_of(wide_tile(folder, chunks))
    em = hsi.nfindr(whole, 4)
    for cube in (whole, whole.isel(y=slice(11, 70), x=slice(30, 111))):
        with no_compute(), Counter() as counter:
            lazy = hsi.unmix(cube, em, scaling="minmax", certificate=True)
        assert counter.chunks == 0
        ours = lazy.load()
        other = cube_of(wide_tile(folder)).sel(y=cube.y, x=cube.x)
        xr.testing.assert_identical(ours, hsi.unmix(other, em, scaling="minmax", certificate=True).load())
        plain = hsi.unmix(cube.compute(), em, scaling="minmax", certificate=True)
        alike(ours, plain)
        assert bool(ours.sam.isnull().any()) == (cube is whole)
    with Counter() as plain_pass:
        hsi.sam(whole, em).load()
    with Counter() as counter:
        hsi.sam(whole, em, scaling="minmax").load()
    assert counter.chunks == 2 * plain_pass.chunks
    with Counter() as counter:
        hsi.sid(whole, em, scaling="minmax").load()
    assert 2 * plain_pass.chunks < counter.chunks <= 3 * plain_pass.chunks


@pytest.mark.parametrize("chunks", [(5, 6, 4), (30, 20, 1)])
def test_zeros_after_scaling_have_pysptools_share(tmp_path: Path, chunks: Any) -> None:
    """Pixels of the smallest count in some bands and in all of them; no-data beside; read a few at a time."""
    rng = np.random.default_rng(1)
    values = rng.integers(40, 9000, (30, 20, 24)).astype(np.int16)
    values[rng.random(values.shape) < 0.02] = 40
    values[3, 4] = 40
    values[5, 6] = -9999
    values[7, 8, 3] = -9999
    cube = hsi.clean(hsi.open_tile(write_counts(tmp_path / "t.h5", values, chunks=chunks)))
    kept = hsi.clean(hsi.open_tile(tmp_path / "t.h5")).compute()
    em = xr.DataArray(
        kept.values[[0, 9, 20], [0, 15, 7]].astype(np.float64),
        {"endmember": ["a", "b", "c"], "wavelength": kept.wavelength.values},
        ("endmember", "wavelength"),
    )
    ours = hsi.unmix(cube, em, scaling="minmax", certificate=True).load()
    alike(ours, hsi.unmix(kept, em, scaling="minmax", certificate=True))
    assert int(ours.sid.isnull().all("endmember").sum()) == 2
    scaled, e = minmax(kept).values, minmax(em).values
    for y, x in ((3, 4), (0, 1), (20, 7), (29, 19)):
        theirs = [oracle.distance_sid(scaled[y, x] if (y, x) != (3, 4) else np.ones(len(e[0])), one) for one in e]
        assert_allclose(ours.sid[:, y, x], theirs, rtol=1e-5, atol=1e-6)
    assert_array_equal(ours.sam[:, 3, 4], np.float32(np.pi / 2))


@pytest.mark.parametrize("chunks", [(5, 6, 4), (30, 20, 1)])
@pytest.mark.parametrize("kind", ["wide", "narrow", "flat", "empty", "int32"])
def test_ranges_out_of_the_ordinary(tmp_path: Path, chunks: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts farther apart than 16 bits of whole numbers, all alike, none at all, and of another type."""
    monkeypatch.setattr(scaled_counts, "AT_ONCE", 20_000)
    values = np.random.default_rng(1).integers(40, 9000, (30, 20, 24)).astype(np.int32 if kind == "int32" else np.int16)
    if kind == "wide":
        values[2, 3, :2] = (-9000, 32000)
    elif kind in ("flat", "empty"):
        values[:] = 700 if kind == "flat" else -9999
    elif kind == "narrow":
        values %= 7
    values[4, 4] = -9999
    cube = hsi.clean(hsi.open_tile(write_counts(tmp_path / "t.h5", values, chunks=chunks)))
    em = xr.DataArray(
        np.random.default_rng(2).uniform(0.1, 0.6, (3, cube.sizes["wavelength"])),
        {"endmember": ["a", "b", "c"], "wavelength": cube.wavelength.values},
        ("endmember", "wavelength"),
    )
    ours = hsi.unmix(cube, em, scaling="minmax", certificate=True).load()
    alike(ours, hsi.unmix(cube.compute(), em, scaling="minmax", certificate=True))
    assert bool(ours.rmse[4, 4].isnull())
    assert bool(ours.rmse.isnull().all()) == (kind == "empty")


def test_a_site_is_scaled_by_one_range(tmp_path: Path) -> None:
    """Tiles of both layouts that overlap, with a hole between them: what lies under another has no part in it."""
    cube = hsi.clean(hsi.open_mosaic(scattered_tiles(tmp_path)))
    em = hsi.nfindr(cube, 4)
    ours = hsi.unmix(cube, em, scaling="minmax", certificate=True).load()
    alike(ours, hsi.unmix(cube.compute(), em, scaling="minmax", certificate=True))
    part = cube.isel(y=slice(30, 120), x=slice(10, 80))
    alike(
        hsi.unmix(part, em, scaling="minmax", certificate=True).load(),
        hsi.unmix(part.compute(), em, scaling="minmax", certificate=True),
    )
    assert 0 < int(ours.rmse.isnull().sum()) < ours.rmse.size
