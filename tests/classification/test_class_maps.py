"""Class maps: PySpTools' own labels, the absolute rule, no data, laziness, chunks, attributes, bad arguments."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk import schema
from hsichunk.classification.class_maps import classify
from hsichunk.classification.rules import score_range
from hsichunk.errors import HsiError
from tests.helpers import pysptools_oracle as oracle

SCENES = ("samson", "dlr", "neon")


@lru_cache
def scene(shared: Path, name: str) -> tuple[Any, Any]:
    """Real reflectance (rows, columns, bands) and endmembers (k, bands), float64."""
    if name == "samson":
        loadmat = pytest.importorskip("scipy.io", reason="samson is a .mat file, which SciPy reads").loadmat
        cube = loadmat(shared / "samson" / "Y_clean.mat")["Y_clean"][::2, ::2]
        return cube, loadmat(shared / "samson" / "E.mat")["E"].T
    if name == "dlr":
        with rasterio.open(shared / "dlr_hysu" / "DLR_HySU_HS_large_targets.tif") as file:
            cube = np.moveaxis(file.read(), 0, -1) / 10000.0
        return cube, np.fromfile(shared / "dlr_hysu" / "DLR_HySU_HS_library.lib", "<f8").reshape(6, 135) / 10000
    with h5py.File(next((shared / "neon_sjer").glob("*.h5"))) as file:
        counts = file["SJER/Reflectance/Reflectance_Data"][...]
        wavelength = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][...]
    keep = np.arange(426) < 416
    for low, high in schema.NEON_WINDOWS:
        keep &= (wavelength < low) | (wavelength > high)
    cube = counts[..., keep] / 10000.0
    return cube, oracle.atgp(cube, 4).spectra.astype(np.float64)


def scaled(spectra: Any) -> Any:
    return (spectra - spectra.min()) / (spectra.max() - spectra.min())


def angles(cube: Any, endmembers: Any, decimals: int | None = None) -> Any:
    """(k, rows, columns) radians; PySpTools rounds the cosine to 7 decimals, hsichunk does not."""
    norms = np.linalg.norm(cube, axis=-1)[..., None] * np.linalg.norm(endmembers, axis=-1)
    cosines = np.minimum(cube @ endmembers.T / norms, 1)
    return np.moveaxis(np.arccos(cosines if decimals is None else cosines.round(decimals)), -1, 0)


def divergences(cube: Any, endmembers: Any) -> Any:
    """(k, rows, columns) nats, all in float64, with PySpTools' guard against the logarithm of 0."""
    p = cube / cube.sum(-1, keepdims=True) + np.spacing(1)
    q = endmembers / endmembers.sum(-1, keepdims=True) + np.spacing(1)
    return np.stack([((p - one) * np.log(p / one)).sum(-1) for one in q])


def labelled(distances: Any, name: str = "sid", names: list[str] | None = None) -> xr.DataArray:
    k, rows, columns = distances.shape
    coords = {
        "endmember": names or [f"EM{i}" for i in range(1, k + 1)],
        "y": 4000.0 - np.arange(rows),
        "x": 300.0 + np.arange(columns),
        "spatial_ref": xr.Variable((), 0, {"crs_wkt": "here"}),
    }
    attrs = schema.PRODUCT_ATTRS.get(name, {})
    return xr.DataArray(distances, dims=("endmember", "y", "x"), coords=coords, name=name, attrs=attrs)


def decided(distances: Any, limits: Any, margin: float) -> Any:
    """Pixels (rows, columns) whose label no change of the distances and limits by less than `margin` would alter."""
    limits = np.broadcast_to(limits, len(distances))[:, None, None]
    clear = (np.abs(distances - limits) > margin).all(0)
    nearest = np.sort(np.where(distances < limits, distances, np.inf), axis=0)
    with np.errstate(invalid="ignore"):  # inf - inf where none is within its limit
        tie = nearest[1] - nearest[0] <= margin
    return clear & ~tie


def relative_limits(distances: Any, threshold: float | list[float]) -> Any:
    axis = None if isinstance(threshold, float) else (1, 2)
    low, high = distances.min(axis), distances.max(axis)
    return low + (high - low) * np.asarray(threshold)


def lists_for(k: int) -> list[float]:
    return [0.8, 0.3, 0.03, 0.4, 0.001, 0.1][:k]


def compare(label: xr.DataArray, expected: Any, sure: Any) -> None:
    assert sure.mean() > 0.9  # the comparison is about most of the image
    assert_array_equal(label.values[sure], expected[sure])
    assert len(np.unique(expected)) > 2  # and the image has classes to confuse


# PySpTools' class maps


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("threshold", [0.05, 0.3, "list"])
@pytest.mark.parametrize("metric", ["sam", "sid"])
def test_relative_rule_gives_the_labels_of_pysptools(shared: Path, name: str, threshold: Any, metric: str) -> None:
    cube, endmembers = scene(shared, name)
    threshold = lists_for(len(endmembers)) if threshold == "list" else threshold
    if metric == "sam":
        distances = angles(scaled(cube), scaled(endmembers), decimals=7)
        expected = oracle.sam_classify(cube, endmembers, threshold)
    else:
        distances = divergences(scaled(cube), scaled(endmembers))
        expected = oracle.sid_classify(cube, endmembers, threshold)
    label = classify(labelled(distances, metric), threshold, relative=True)
    compare(label, expected, decided(distances, relative_limits(distances, threshold), 1e-6))


@pytest.mark.parametrize("name", SCENES)
def test_angles_without_its_rounding_give_the_same_labels(shared: Path, name: str) -> None:
    """Rounding the cosine moves small angles by more than 1e-6: the margin is what it moved any of them."""
    cube, endmembers = scene(shared, name)
    threshold = lists_for(len(endmembers))
    distances = angles(scaled(cube), scaled(endmembers)).astype(np.float32)
    theirs = np.moveaxis(oracle.sam_map(cube, endmembers), -1, 0)
    margin = 2 * float(np.abs(distances - theirs).max())
    assert margin < 1e-3
    label = classify(labelled(distances, "sam"), threshold, relative=True)
    compare(label, oracle.sam_classify(cube, endmembers, threshold), decided(theirs, _limits(theirs), margin))


def _limits(distances: Any) -> Any:
    return relative_limits(distances, lists_for(len(distances)))


@pytest.mark.parametrize("metric", ["sam", "sid"])
def test_the_lesson(shared: Path, metric: str) -> None:
    """Three of four endmembers of N-FINDR with [0.8, 0.3, 0.03], chosen from the distances to all four.

    PySpTools scales the endmembers it is given: the three, so the distances are made with their range.
    """
    cube, _ = scene(shared, "neon")
    picked = [0, 2, 3]
    found = oracle.nfindr(cube[::2, ::2], 4, maxit=5).spectra.astype(np.float64)
    spectra = (found - found[picked].min()) / np.ptp(found[picked])
    function: Callable[..., Any] = divergences if metric == "sid" else lambda m, e: angles(m, e, 7)
    with np.errstate(invalid="ignore"):  # the fourth, scaled by the others' range, may be below 0
        out = labelled(function(scaled(cube), spectra), metric)
    picture = out.sel(endmember=["EM1", "EM3", "EM4"])
    threshold = [0.8, 0.3, 0.03]
    label = classify(picture, threshold, relative=True)
    theirs = oracle.sid_classify if metric == "sid" else oracle.sam_classify
    expected = theirs(cube, found[picked], threshold)
    compare(label, expected, decided(picture.values, relative_limits(picture.values, threshold), 1e-6))
    assert label.attrs["flag_meanings"] == "unclassified EM1 EM3 EM4 no_data"


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("each", [False, True])
def test_absolute_rule_at_the_limits_of_pysptools(shared: Path, name: str, each: bool) -> None:
    """What PySpTools calls a fraction, said in radians: the same map."""
    cube, endmembers = scene(shared, name)
    distances = np.moveaxis(oracle.sam_map(cube, endmembers), -1, 0)
    threshold = lists_for(len(endmembers)) if each else 0.2
    limits = relative_limits(distances, threshold)
    label = classify(labelled(distances, "sam"), limits)
    compare(label, oracle.sam_classify(cube, endmembers, threshold), decided(distances, limits, 1e-12))


@pytest.mark.parametrize("metric", ["SAM", "SID"])
def test_absolute_rule_without_a_limit_is_the_nearest(shared: Path, metric: str) -> None:
    cube, endmembers = scene(shared, "dlr")
    distances = angles(cube, endmembers) if metric == "SAM" else divergences(cube, endmembers)
    compare(classify(labelled(distances), 100), oracle.nearest(metric, cube, endmembers) + 1, decided(distances, 99, 0))


def test_pixels_without_data_leave_the_others_as_they_are(shared: Path) -> None:
    """For one NaN PySpTools gives 0 everywhere, or with a list class 1 (NaN limits leave zeros for distances); here
    the others get the labels of an image without those pixels."""
    cube, endmembers = scene(shared, "dlr")
    distances = angles(scaled(cube), scaled(endmembers))
    lost = np.zeros(cube.shape[:2], bool)
    lost[np.unravel_index(distances[2].argmax(), lost.shape)] = True  # where the range of a class ends
    lost[3, 5:9] = True
    holes = np.where(lost, np.nan, distances)
    for threshold in (0.3, lists_for(6)):
        theirs = oracle.threshold_rule(holes.reshape(6, -1).T, threshold)
        assert (theirs == (0 if threshold == 0.3 else ~lost.ravel())).all()
        label = classify(labelled(holes), threshold, relative=True).values
        assert (label[lost] == 255).all()
        assert_array_equal(label[~lost], oracle.threshold_rule(distances[:, ~lost].T, threshold))


# From reflectance to labels


def opened(shared: Path, name: str) -> tuple[Any, Any, xr.DataArray, xr.DataArray]:
    """Whole counts over 10000 as float64 and as a labelled cube, and the endmembers likewise."""
    cube, endmembers = scene(shared, name)
    counts = np.round(cube * 10000).astype(np.int16)
    labelled_cube = hsi.as_cube(counts, np.arange(cube.shape[2]) + 400.0, scale=10000.0)
    coords = {"endmember": [f"EM{i}" for i in range(1, len(endmembers) + 1)], "wavelength": labelled_cube.wavelength}
    return counts / 10000.0, endmembers, labelled_cube, xr.DataArray(endmembers, coords, ("endmember", "wavelength"))


@pytest.mark.parametrize("name", SCENES)
def test_scaled_unmixed_and_labelled_as_pysptools_does(shared: Path, name: str) -> None:
    values, endmembers, cube, em = opened(shared, name)
    threshold = lists_for(len(endmembers))
    distances = np.moveaxis(oracle.sam_map(values, endmembers), -1, 0)
    expected = oracle.sam_classify(values, endmembers, threshold)
    for form in (cube, cube.chunk(y=7, x=9)):
        angle = hsi.unmix(hsi.minmax(form), hsi.minmax(em), solver=None, metric="sam").sam
        margin = 2 * float(np.abs(angle.values - distances).max())  # it rounds cosines to 1e-7
        assert margin < 1e-4
        label = hsi.classify(angle, threshold, relative=True)
        compare(label, expected, decided(distances, relative_limits(distances, threshold), margin))


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("metric", ["sam", "sid"])
def test_unmixed_and_labelled_with_the_nearest(shared: Path, name: str, metric: str) -> None:
    values, endmembers, cube, em = opened(shared, name)
    if metric == "sid":  # which reads reflectance below the floor as the floor
        values, endmembers = np.maximum(values, schema.SID_FLOOR), np.maximum(endmembers, schema.SID_FLOOR)
    distances = divergences(values, endmembers) if metric == "sid" else angles(values, endmembers)
    label = hsi.classify(hsi.unmix(cube, em, solver=None, metric=metric)[metric], 3.2)
    compare(label, oracle.nearest(metric.upper(), values, endmembers) + 1, decided(distances, 3.2, 1e-5))


# The rules by hand


def pixels(*distances: tuple[float, ...], dtype: Any = np.float64) -> xr.DataArray:
    """One row of pixels, each given by its distances to all classes."""
    return labelled(np.array(distances, dtype).T[:, None, :])


@pytest.mark.parametrize(
    ("threshold", "relative", "expected"),
    [
        (0.5, False, [1, 2, 0, 1, 1]),  # equal to the threshold is within; a tie goes to the first
        ([0.2, 0.5], False, [1, 2, 0, 2, 2]),  # the nearest may be too far by its own threshold
        ([0.0, 0.0], False, [1, 0, 0, 0, 0]),
        (0.5, True, [1, 2, 0, 1, 0]),  # range 0..1.0: below 0.5
        ([0.3, 0.45], True, [1, 2, 0, 2, 2]),  # below 0.27 of 0..0.9, or below 0.2 + 0.8 * 0.45 = 0.56
        ([1.0, 0.0], True, [1, 1, 0, 1, 1]),  # strict: nothing of the second, all but the largest of the first
        (0, True, [0, 0, 0, 0, 0]),
    ],
)
def test_rules_by_hand(threshold: Any, relative: bool, expected: list[int]) -> None:
    distances = pixels((0.0, 0.9), (0.4, 0.2), (0.9, 1.0), (0.3, 0.45), (0.5, 0.5))
    label = classify(distances, threshold, relative=relative)
    assert label.values[0].tolist() == expected


def test_no_guard_value() -> None:
    """PySpTools loses divergences of 10 and above in a list of thresholds."""
    distances = np.array([[11.0, 12.0, 30.0], [25.0, 40.0, 20.0]])
    assert oracle.threshold_rule(distances.T, [0.9, 0.9]).tolist() == [0, 0, 0]
    assert classify(labelled(distances[:, None]), [0.9, 0.9], relative=True).values.tolist() == [[1, 1, 2]]


def test_threshold_is_rounded_as_the_distances_are() -> None:
    """A stored float32 0.1 is above the float64 0.1, but no user means that."""
    assert classify(pixels((0.1, 0.5), dtype=np.float32), 0.1).item() == 1
    assert classify(pixels((np.nextafter(np.float32(0.1), np.float32(1)), 0.5), dtype=np.float32), 0.1).item() == 0
    assert classify(pixels((np.nextafter(0.1, 1), 0.5)), 0.1).item() == 0


def test_relative_limits_of_float32_are_float64() -> None:
    # float32 has 0.7 a little below the float64
    assert classify(pixels((0, 1), (0.7, 1), dtype=np.float32), 0.7, relative=True).values.tolist() == [[1, 1]]
    distances = np.random.default_rng(0).random((3, 40, 50), np.float32)
    for threshold in (0.37, [0.9, 0.31, 0.77]):
        expected = oracle.threshold_rule(distances.astype(np.float64).reshape(3, -1).T, threshold)
        assert_array_equal(classify(labelled(distances), threshold, relative=True).values.ravel(), expected)


@pytest.mark.parametrize("relative", [False, True])
def test_nan_and_infinite_distances(relative: bool) -> None:
    nan, inf = np.nan, np.inf
    distances = pixels((nan, nan), (nan, 0.1), (inf, 0.1), (inf, inf), (0.4, 0.3), (0.0, 1.0), (inf, nan))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        label = classify(distances, 0.5, relative=relative)
    assert label.values[0].tolist() == [255, 2, 2, 0, 2, 1, 0]


@pytest.mark.parametrize("chunks", [None, (1, 2, 2)])
@pytest.mark.parametrize("threshold", [0.5, [0.5, 0.5]])
@pytest.mark.parametrize("relative", [False, True])
def test_nothing_but_no_data(chunks: Any, threshold: Any, relative: bool) -> None:
    empty = np.full((2, 4, 5), np.nan, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = empty if chunks is None else da.from_array(empty, chunks)
        assert (classify(labelled(data), threshold, relative=relative).values == 255).all()


def test_as_many_classes_as_a_byte_holds() -> None:
    distances = np.ones((254, 1, 254), np.float32)
    distances[np.arange(254), 0, np.arange(254)] = 0
    label = classify(labelled(distances), 0.5)
    assert_array_equal(label.values[0], np.arange(1, 255))
    assert_array_equal(label.attrs["flag_values"], np.arange(256))


@pytest.mark.parametrize(
    "threshold",
    [
        (0.4, 0.2),
        np.array([0.4, 0.2]),
        [np.float64(0.4), 0.2],
        xr.DataArray([0.4, 0.2], dims="endmember"),
    ],
)
def test_any_sequence_of_thresholds(threshold: Any) -> None:
    distances = labelled(np.random.default_rng(0).random((2, 9, 9)))
    for relative in (False, True):
        xr.testing.assert_identical(
            classify(distances, threshold, relative=relative), classify(distances, [0.4, 0.2], relative=relative)
        )


@pytest.mark.parametrize("threshold", [1, np.int64(1), np.float32(1), np.array(1.0)])
def test_any_number_as_threshold(threshold: Any) -> None:
    distances = labelled(np.random.default_rng(0).random((2, 9, 9)) * 2)
    xr.testing.assert_identical(classify(distances, threshold), classify(distances, 1.0))


# Ranges of a larger image


def test_parts_with_the_ranges_of_the_whole_are_the_whole() -> None:
    distances = labelled(np.random.default_rng(0).random((3, 20, 10)) * np.arange(1, 21)[:, None])
    whole = score_range(distances)
    assert list(whole) == ["low", "high"] and whole.low.dims == ("endmember",)
    for threshold in (0.4, [0.2, 0.3, 0.6]):
        expected = classify(distances, threshold, relative=True)
        parts = [distances.isel(y=slice(0, 7)), distances.isel(y=slice(7, None)).chunk(y=4)]
        for limits in (whole, (whole.low.values, whole.high.values), whole.chunk(endmember=1)):
            labels = [classify(part, threshold, relative=True, limits=limits) for part in parts]
            xr.testing.assert_identical(xr.concat(labels, "y").compute(), expected)
        assert not classify(parts[0], threshold, relative=True).equals(expected.isel(y=slice(0, 7)))


def test_ranges_are_compared_by_the_names_of_the_classes() -> None:
    distances = labelled(np.random.default_rng(0).random((2, 3, 4)), names=["dry grass", "soil"])
    ranges = score_range(distances).assign_coords(endmember=["dry_grass", "soil"], spatial_ref=7)
    expected = classify(distances, [0.3, 0.4], relative=True)
    xr.testing.assert_identical(classify(distances, [0.3, 0.4], relative=True, limits=ranges), expected)
    nameless = distances.drop_vars("endmember")
    with pytest.raises(HsiError, match=r"limits are of \['dry_grass', 'soil'\], the distances of \['EM1', 'EM2'\]"):
        classify(nameless, [0.3, 0.4], relative=True, limits=ranges)
    label = classify(distances, [0.3, 0.4], relative=True, limits=ranges.drop_vars("endmember"))
    xr.testing.assert_identical(label, expected)


def test_one_range_for_all_classes() -> None:
    distances = pixels((1.0, 3.0), (2.4, 2.6), (2.5, 2.9))
    assert classify(distances, [0.25, 0.25], relative=True, limits=(0, 10)).values.tolist() == [[1, 1, 0]]
    assert classify(distances, 0.25, relative=True, limits=([0, 2], [10, 9])).values.tolist() == [[1, 1, 0]]


# Lazy


@pytest.mark.parametrize("threshold", [0.3, [0.3, 0.9, 0.2]])
@pytest.mark.parametrize("relative", [False, True])
def test_lazy(threshold: Any, relative: bool, no_compute: Any) -> None:
    values = np.random.default_rng(0).random((3, 11, 13), np.float32)
    chunked = labelled(da.from_array(values, chunks=(2, 4, 5)))
    with no_compute():
        label = classify(chunked, threshold, relative=relative)
        again = classify(chunked, threshold, relative=relative)
    assert label.dtype == label.data._meta.dtype == np.uint8
    assert label.chunks == ((4, 4, 3), (5, 5, 3))
    assert label.data.name == again.data.name
    xr.testing.assert_identical(label.compute(), classify(labelled(values), threshold, relative=relative))


@pytest.mark.parametrize("relative", [False, True])
def test_every_block_is_read_once(relative: bool) -> None:
    read = []

    def block(values: Any) -> Any:
        read.append(values.shape)
        return values

    source = da.from_array(np.random.default_rng(0).random((3, 12, 12)), chunks=(3, 4, 6))
    counted = source.map_blocks(block, dtype=float, meta=np.empty((0, 0, 0)))
    classify(labelled(counted), [0.3, 0.2, 0.5], relative=relative).compute()
    assert len(read) == source.npartitions


@st.composite
def images(draw: Any) -> tuple[Any, tuple[Any, ...]]:
    """Distances (k, rows, columns) with ties, no data and infinities, and a way to cut them into chunks."""
    shape = tuple(draw(st.integers(1, top)) for top in (5, 6, 7))
    levels = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0, 3.0, 9.5])
    count = math.prod(shape)
    values = np.array(draw(st.lists(levels, min_size=count, max_size=count)), draw(st.sampled_from(["f4", "f8"])))
    values = values.reshape(shape)
    values[:, np.array(draw(st.lists(st.booleans(), min_size=shape[1], max_size=shape[1])))] = np.nan
    if draw(st.booleans()):
        values[0, 0, 0] = draw(st.sampled_from([np.nan, np.inf]))
    return values, tuple(draw(cuts(size)) for size in shape)


@st.composite
def cuts(draw: Any, size: int) -> tuple[int, ...]:
    places = sorted(draw(st.sets(st.integers(1, size)))) if size > 1 else []
    edges = [0, *(place for place in places if place < size), size]
    return tuple(np.diff(edges).tolist())


@settings(max_examples=80, deadline=None)
@given(image=images(), relative=st.booleans(), data=st.data())
def test_chunks_change_nothing(image: tuple[Any, tuple[Any, ...]], relative: bool, data: Any) -> None:
    values, chunks = image
    numbers = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.99, 1.0])
    threshold = data.draw(st.one_of(numbers, st.lists(numbers, min_size=len(values), max_size=len(values))))
    whole = classify(labelled(values), threshold, relative=relative)
    with dask.config.set(scheduler="synchronous"):
        parts = classify(labelled(da.from_array(values, chunks)), threshold, relative=relative)
        assert parts.chunks == chunks[1:]
        xr.testing.assert_identical(parts.compute(), whole)
    assert_array_equal(whole.values, brute(values, threshold, relative))

    flat = values.reshape(len(values), -1)
    known = np.isfinite(flat).all(0)
    if relative and known.any() and np.isnan(flat[:, ~known]).all():
        expected = oracle.threshold_rule(flat[:, known].T.astype(float), threshold)
        assert_array_equal(whole.values.ravel()[known], expected)


def brute(values: Any, threshold: Any, relative: bool) -> Any:
    """The rules in plain Python, pixel by pixel."""
    k = len(values)
    each = threshold if isinstance(threshold, list) else [threshold] * k
    kept = [[float(v) for v in layer.flat if math.isfinite(v)] for layer in values]
    if relative and not isinstance(threshold, list):
        kept = [[v for layer in kept for v in layer]] * k
    label = np.zeros(values.shape[1:], np.uint8)
    for place in np.ndindex(label.shape):
        one = [float(v) for v in values[:, *place]]
        best = math.inf
        for index, distance in enumerate(one):
            if not math.isfinite(distance):
                continue
            if relative:
                low, high = min(kept[index]), max(kept[index])
                within = distance < low + (high - low) * each[index]
            else:
                within = distance <= float(values.dtype.type(each[index]))
            if within and distance < best:
                best, label[place] = distance, index + 1
        if all(map(math.isnan, one)):
            label[place] = 255
    return label


# The labelled result


def test_coordinates_and_attributes() -> None:
    distances = labelled(np.random.default_rng(0).random((3, 4, 5), np.float32), names=["EM1", "dry  grass", "EM 3"])
    distances.encoding["grid_mapping"] = "spatial_ref"
    before = distances.copy(deep=True)
    label = classify(distances, [0.8, 0.3, 0.5], relative=True)
    assert label.name == schema.SID_CLASS and label.dims == ("y", "x") and label.dtype == np.uint8
    assert set(label.coords) == {"y", "x", "spatial_ref"}
    xr.testing.assert_identical(label.y, distances.y)
    assert label.spatial_ref.attrs == {"crs_wkt": "here"} and label.encoding["grid_mapping"] == "spatial_ref"
    values, meanings = label.attrs["flag_values"], label.attrs["flag_meanings"].split(" ")
    assert values.dtype == np.uint8 and values.tolist() == [0, 1, 2, 3, 255]
    assert meanings == ["unclassified", "EM1", "dry_grass", "EM_3", "no_data"]
    assert label.attrs["threshold"] == [0.8, 0.3, 0.5] and label.attrs["threshold_range"] == "each class"
    assert label.attrs["long_name"] == "class of the smallest spectral information divergence"
    assert classify(distances, 0.3, relative=True).attrs["threshold_range"] == "all classes"
    absolute = classify(distances, 0.3).attrs
    assert absolute["threshold"] == 0.3 and absolute["threshold_units"] == "nat"
    assert absolute["threshold_rule"] == "distance <= threshold"
    xr.testing.assert_identical(distances, before)
    assert distances.encoding == before.encoding


@pytest.mark.parametrize(
    ("name", "expected"), [("sam", "sam_class"), ("chebyshev", "chebyshev_class"), (None, "class")]
)
def test_name(name: Any, expected: str) -> None:
    assert classify(labelled(np.ones((2, 1, 1))).rename(name), 1).name == expected


def test_order_of_dimensions_and_missing_names() -> None:
    distances = labelled(np.random.default_rng(0).random((3, 4, 5)))
    expected = classify(distances, 0.4)
    xr.testing.assert_identical(classify(distances.transpose("x", "endmember", "y"), 0.4), expected)
    xr.testing.assert_identical(classify(distances.drop_vars("endmember"), 0.4), expected)
    for threshold in (0.4, [0.4, 0.5, 0.6]):
        xr.testing.assert_identical(
            classify(distances.drop_vars("endmember"), threshold, relative=True),
            classify(distances, threshold, relative=True),
        )


def test_empty_name_keeps_the_meanings_in_step() -> None:
    label = classify(labelled(np.ones((2, 1, 1)), names=["", "grass"]), 1)
    assert label.attrs["flag_meanings"].split(" ") == ["unclassified", "EM1", "grass", "no_data"]


def test_grid_mapping_in_the_attributes_stays_there() -> None:
    distances = labelled(np.ones((2, 1, 1))).assign_attrs(grid_mapping="spatial_ref")
    label = classify(distances, 1)
    assert label.attrs["grid_mapping"] == "spatial_ref" and "grid_mapping" not in label.encoding


def test_stored_and_read_back(tmp_path: Path) -> None:
    label = classify(labelled(da.from_array(np.random.default_rng(0).random((2, 6, 7)), (2, 3, 4))), [0.3, 0.4])
    label.to_dataset().to_zarr(tmp_path / "label.zarr", zarr_format=3, consolidated=False)
    stored = xr.open_zarr(tmp_path / "label.zarr", consolidated=False, decode_coords="all").sid_class
    assert stored.dtype == np.uint8 and "spatial_ref" in stored.coords
    assert_array_equal(stored.values, label.values)
    assert list(stored.attrs["flag_values"]) == [0, 1, 2, 255]
    assert_allclose(stored.attrs["threshold"], [0.3, 0.4])


# Bad arguments


@pytest.mark.parametrize(
    ("threshold", "options", "expected"),
    [
        ([0.1, 0.2], {}, r"2 thresholds for 3 classes \(EM1 EM2 EM3\)"),
        ([0.1], {}, "1 threshold for 3 classes"),
        ([], {}, "0 thresholds for 3 classes"),
        (np.ones((1, 3)), {}, r"shape \(1, 3\) for 3 classes"),
        ([[0.1], [0.2, 0.3]], {}, "expected one number or 3"),
        (-0.1, {}, r"-0\.1 .*expected a finite number, 0 or above"),
        (float("nan"), {}, "nan .*expected a finite number"),
        ([0.1, float("inf"), 0.2], {}, "inf of .*expected a finite number"),
        (1.5, {"relative": True}, r"1\.5 .*from 0 to 1"),
        ([0.1, 0.2, -1], {"relative": True}, r"-1\.0 .*from 0 to 1"),
        ("0.1", {}, "threshold is '0.1', expected one number or 3"),
        (None, {}, "threshold is None"),
        (True, {}, "threshold is True"),
        (0.1, {"limits": (0, 1)}, "relative=False, expected only with relative=True"),
        (0.1, {"relative": True, "limits": (0, 1, 2)}, r"limits are \(0, 1, 2\), expected a pair"),
        (0.1, {"relative": True, "limits": 3}, "limits are 3, expected a pair"),
        (0.1, {"relative": True, "limits": ([0, 0], [1, 1])}, "expected a pair .*3"),
        (0.1, {"relative": True, "limits": (1, 0)}, r"low \[1.0, 1.0, 1.0\] and high \[0.0"),
        (0.1, {"relative": True, "limits": (0, float("nan"))}, "no NaN"),
        (0.1, {"relative": True, "limits": xr.Dataset({"low": ("endmember", [0.0])})}, r"\['low'\].*expected low and"),
    ],
)
def test_bad_thresholds(threshold: Any, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(HsiError, match=expected) as caught:
        classify(labelled(np.ones((3, 2, 2))), threshold, **options)
    assert "\n" not in str(caught.value)


def test_ranges_of_other_endmembers() -> None:
    distances = labelled(np.random.default_rng(0).random((3, 2, 2)))
    ranges = score_range(distances).isel(endmember=[2, 0, 1])
    with pytest.raises(HsiError, match=r"limits are of \['EM3', 'EM1', 'EM2'\], the distances of \['EM1'"):
        classify(distances, 0.2, relative=True, limits=ranges)


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        (np.ones((2, 2, 2)), "got a ndarray, expected a DataArray"),
        (labelled(np.ones((2, 2, 2))).to_dataset(), "got a Dataset, expected a DataArray"),
        (
            labelled(np.ones((2, 2, 2))).sel(endmember="EM1"),
            r"\('y', 'x'\), expected \('endmember', 'y', 'x'\); choose",
        ),
        (labelled(np.ones((2, 2, 2))).rename(x="band"), r"'band'\), expected"),
        (labelled(np.ones((2, 2, 2), np.int32)), "distances are int32, expected floating point"),
        (labelled(np.ones((255, 1, 1))), "255 classes, expected 1 to 254"),
        (labelled(np.ones((0, 1, 1)), names=[]), "0 classes, expected 1 to 254"),
    ],
)
def test_bad_distances(distances: Any, expected: str) -> None:
    for function in (lambda d: classify(d, 0.1), score_range):
        with pytest.raises(HsiError, match=expected) as caught:
            function(distances)
        assert "\n" not in str(caught.value)
