"""`as_cube`: arrays of any origin under the same labels as a cleaned tile, and nothing read wrongly on the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import hsichunk as hsi
from hsichunk import schema
from hsichunk.errors import HsiError
from tests.helpers.tiles import Counter, counts, write_counts

SHAPE = (6, 7, 5)
NM = np.linspace(400.0, 900.0, 5)
FLOATS = np.random.default_rng(0).random(SHAPE)


def test_labels_are_those_of_a_cleaned_tile(tmp_path: Path) -> None:
    tile = hsi.open_tile(write_counts(tmp_path / "t.h5", counts((12, 14, 20))))
    cleaned = hsi.clean(tile, windows=[], drop_last=0)
    ours = hsi.as_cube(
        counts((12, 14, 20)),
        tile.wavelength,
        fwhm=tile.fwhm,
        scale=10000,
        no_data=-9999,
        crs="EPSG:32618",
        origin=(368000, 4307000),
    )
    assert ours.attrs.items() <= cleaned.attrs.items()
    xr.testing.assert_identical(ours.assign_attrs(cleaned.attrs), cleaned.compute())  # which also says its file
    assert ours.encoding == cleaned.encoding
    lazy = hsi.as_cube(da.from_array(counts((12, 14, 20)), chunks=5), tile.wavelength, scale=10000, no_data=-9999)
    assert_array_equal(lazy, cleaned)


@pytest.mark.parametrize(
    ("array", "options", "dtype"),
    [
        (FLOATS, {}, "f8"),
        (FLOATS.astype("f4"), {}, "f4"),
        (FLOATS.astype("f2"), {}, "f4"),
        (FLOATS.astype(">f8"), {}, "f8"),
        (FLOATS, {"no_data": 0.5}, "f8"),
        (FLOATS * 100, {"scale": 100}, "f8"),
        (counts(SHAPE), {}, "f4"),
        (counts(SHAPE).astype("u2"), {"scale": 1e4}, "f4"),
        (counts(SHAPE).astype(">i4"), {"scale": 1e4, "no_data": -9999}, "f4"),
        (counts(SHAPE).astype("i8"), {"scale": np.float64(3), "no_data": -9999.0}, "f4"),
        (counts(SHAPE), {"no_data": np.nan}, "f4"),
        (counts(SHAPE), {"no_data": 10**6}, "f4"),
    ],
)
@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_values(array: NDArray[Any], options: dict[str, Any], dtype: str, kind: str) -> None:
    before = array.copy()
    given = array if kind == "numpy" else da.from_array(array, chunks=3)
    cube = hsi.as_cube(given, NM, **options)
    plain = array.astype(np.float64)
    wanted = np.where(plain == options.get("no_data"), np.nan, plain / options.get("scale", 1)).astype(dtype)
    assert cube.dtype == np.dtype(dtype) and cube.values.dtype.isnative
    assert_array_equal(cube, wanted)
    assert_array_equal(array, before)
    assert ("counts_per_unit" in cube.attrs) == (array.dtype.kind in "iu")


def test_lazy_stays_lazy(no_compute: Callable[[], AbstractContextManager[None]]) -> None:
    with no_compute():
        cube = hsi.as_cube(da.from_array(counts(SHAPE), chunks=(2, 3, 5)), NM, scale=1e4, no_data=-9999)
    assert cube.data.chunks == ((2, 2, 2), (3, 3, 1), (5,))


def test_what_need_not_change_is_not_copied() -> None:
    assert np.shares_memory(hsi.as_cube(FLOATS, NM).values, FLOATS)
    lazy = da.from_array(FLOATS)
    assert hsi.as_cube(lazy, NM).data.name == lazy.name


def test_what_is_masked_is_no_data() -> None:
    for values in (counts(SHAPE), FLOATS.copy()):
        masked = np.ma.MaskedArray(values, mask=values == values[1, 2, 3])
        cube = hsi.as_cube(masked, NM)
        assert np.isnan(cube.values[1, 2, 3])
        assert np.isnan(cube.values).sum() == masked.mask.sum()
        assert not np.isnan(values.astype(float)).any()


def test_pixels_are_counted_or_placed() -> None:
    cube = hsi.as_cube(FLOATS, NM)
    assert_array_equal(cube.y, np.arange(6))
    assert_array_equal(cube.x, np.arange(7))
    assert "spatial_ref" not in cube.coords
    placed = hsi.as_cube(FLOATS, NM, origin=(100.25, 2000), pixel=(2, 0.5), crs=32633)
    assert_array_equal(placed.x, 101.25 + 2 * np.arange(7))
    assert_array_equal(placed.y, 1999.75 - 0.5 * np.arange(6))
    assert placed.rio.crs.to_epsg() == 32633
    assert tuple(placed.rio.transform())[:6] == (2.0, 0.0, 100.25, 0.0, -0.5, 2000.0)
    assert hsi.as_cube(FLOATS, NM, origin=(0, 0)).rio.crs is None


def test_fwhm() -> None:
    cube = hsi.as_cube(FLOATS, NM.tolist(), fwhm=[5, 5, 6, 6, 7])
    assert cube.fwhm.dtype == np.float64
    assert cube.fwhm.attrs == schema.FWHM_ATTRS


def test_a_geotiff_that_rioxarray_opens(shared: Path) -> None:
    """Band first, no-data in its metadata: rows, columns, place and no-data must come out right."""
    path = shared / "dlr_hysu" / "DLR_HySU_HS_large_targets.tif"
    with rasterio.open(path) as source:
        stored, transform, crs, no_data = source.read(), source.transform, source.crs, source.nodata
    nm = np.linspace(417.0, 903.0, len(stored))
    wanted = np.where(stored == no_data, np.nan, stored / 1e4).astype("f4").transpose(1, 2, 0)
    for options in ({}, {"chunks": {"y": 5, "x": 9}}):
        opened = rioxarray.open_rasterio(path, **options)
        cube = hsi.as_cube(opened, nm, scale=1e4)
        assert cube.dims == ("y", "x", "wavelength")
        assert_array_equal(cube, wanted)
        assert cube.rio.crs == crs
        assert cube.rio.transform() == transform
        assert cube.encoding["grid_mapping"] == "spatial_ref"
        assert cube.chunks is not None  # a file's pixels stay in the file
        assert opened.dims == ("band", "y", "x")


def test_no_data_of_a_geotiff_counts(tmp_path: Path) -> None:
    values = counts((5, 6, 7)).astype("i2")
    profile = {"driver": "GTiff", "width": 7, "height": 6, "count": 5, "dtype": "int16", "nodata": -9999}
    with rasterio.open(tmp_path / "t.tif", "w", **profile, transform=rasterio.Affine(2, 0, 10, 0, -2, 20)) as target:
        target.write(values)
    opened = rioxarray.open_rasterio(tmp_path / "t.tif")
    assert (values == -9999).any()
    cube = hsi.as_cube(opened, NM)
    assert_array_equal(cube, np.where(values == -9999, np.nan, values).astype("f4").transpose(1, 2, 0))
    assert cube.x.values[0] == 11 and cube.y.values[0] == 19
    assert not np.isnan(hsi.as_cube(opened, NM, no_data=12345)).any()


def test_the_real_emit_crop(shared: Path) -> None:
    path = shared / "emit" / "emit20250324t221005_jpl_unmix_ex"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # nor is it
        opened = rioxarray.open_rasterio(path)
    cube = hsi.as_cube(opened, opened.wavelength, fwhm=opened.fwhm)
    assert cube.shape == (10, 10, 285)
    assert_array_equal(cube, opened.values.transpose(1, 2, 0))
    assert cube.dtype == np.float32


def test_a_tile_s_reflectance_stays_on_disk(tmp_path: Path) -> None:
    tile = hsi.open_tile(write_counts(tmp_path / "t.h5", chunks=(4, 7, 5), compression="gzip"))
    with Counter() as decoded:
        cube = hsi.as_cube(tile.reflectance, tile.wavelength, scale=10000, no_data=-9999)
    assert decoded.chunks == 0
    assert cube.chunks is not None
    assert_array_equal(cube, hsi.clean(tile, windows=[], drop_last=0))
    xr.testing.assert_identical(cube.y, tile.y)


@pytest.mark.parametrize(
    ("array", "wavelength", "options", "words"),
    [
        ([[1.0]], NM, {}, "as_cube got list; expected numbers"),
        (FLOATS[0], NM, {}, r"as_cube got float64 \(7, 5\)"),
        (FLOATS > 0, NM, {}, "as_cube got bool"),
        (FLOATS.astype(complex), NM, {}, "as_cube got complex128"),
        (FLOATS.astype(str), NM, {}, "as_cube got <U"),
        (xr.DataArray(FLOATS, dims=("a", "b", "c")), NM, {}, "expected y, x and one of bands"),
        (FLOATS, NM[:4], {}, "4 wavelengths for 5 bands"),
        (FLOATS, NM[::-1], {}, "finite and increasing"),
        (FLOATS, [400, 500, 500, 600, 700], {}, "finite and increasing"),
        (FLOATS, [400, 500, np.nan, 600, 700], {}, "finite and increasing"),
        (FLOATS, NM / 1000, {}, "from 0.4 to 0.9, as micrometres do; expected nm: multiply by 1000"),
        (FLOATS, ["red"] * 5, {}, "wavelength is list"),
        (FLOATS, 5, {}, "1 wavelengths for 5 bands"),
        (FLOATS, NM, {"fwhm": [5, 5]}, "2 values of fwhm for 5 bands"),
        (FLOATS, NM, {"scale": 0}, "scale is 0"),
        (FLOATS, NM, {"scale": np.nan}, "scale is nan"),
        (FLOATS, NM, {"scale": -1e4}, "scale is -10000"),
        (FLOATS, NM, {"crs": "EPSG:32618"}, "a crs but no origin"),
        (FLOATS, NM, {"crs": "nonsense", "origin": (0, 0)}, "crs is 'nonsense'"),
        (FLOATS, NM, {"origin": (0, 0), "pixel": 0}, "a size above 0"),
        (FLOATS, NM, {"origin": (0, np.inf)}, "expected .easting, northing."),
        (FLOATS, NM, {"origin": (0,)}, "expected .easting, northing."),
        (FLOATS, NM, {"origin": (0, 0), "pixel": (1, 1, 1)}, "expected .easting, northing."),
    ],
)
def test_what_does_not_fit(array: Any, wavelength: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(HsiError, match=words) as caught:
        hsi.as_cube(array, wavelength, **options)
    assert "\n" not in str(caught.value)
