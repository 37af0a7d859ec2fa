"""Min-max scaling: PySpTools' numbers, without its traps, one block in memory at a time."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pysptools_oracle as oracle
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from hsichunk import schema
from hsichunk.errors import HsiError
from hsichunk.scaling import minmax


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
