"""Similarities against PySpTools and SciPy, and the class maps of what is largest against PySpTools' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.classification.rules import score_range
from hsichunk.classification.similarities import classify_abundance, classify_similarity
from hsichunk.errors import HsiError
from hsichunk.unmixing.abundance import ucls
from hsichunk.unmixing.similarity import chebyshev, ncc, sid_sam
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.scenes import scene

SCENES = ("samson", "neon", "dlr")


def _rows(values: xr.DataArray) -> Any:
    return np.moveaxis(values.values, 0, -1).reshape(-1, values.shape[0])


def _pairs(function: Any, x: Any, e: Any) -> Any:
    with oracle.names_put_back():
        return np.array([[function(v, s) for s in e] for v in x])


def _distance(name: str) -> Any:
    return getattr(oracle._module("distance"), name)


@pytest.mark.parametrize("name", SCENES)
def test_similarities_are_pysptools_and_scipys(shared: Path, name: str) -> None:
    found = scene(shared, name)
    cube = found.cube.isel(y=slice(None, None, 7), x=slice(None, None, 7))
    e = found.endmembers.values
    x = cube.values.reshape(-1, e.shape[1]).astype(float)
    assert_allclose(_rows(ncc(cube, found.endmembers)), _pairs(_distance("NormXCorr"), x, e), rtol=0, atol=1e-6)
    assert_allclose(_rows(chebyshev(cube, found.endmembers)), _pairs(_distance("chebyshev"), x, e), rtol=1e-6)
    spatial = pytest.importorskip("scipy.spatial.distance")
    far = ncc(cube, found.endmembers, distance=True)
    assert_allclose(_rows(far), spatial.cdist(x, e, "correlation"), rtol=1e-6, atol=1e-9)
    floored = np.maximum(x, 1e-4), np.maximum(e, 1e-4)  # hsichunk's rule for the logarithm
    expected = _pairs(_distance("SID"), *floored) * np.tan(_pairs(_distance("SAM"), x, e))
    assert_allclose(_rows(sid_sam(cube, found.endmembers)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("measure", [sid_sam, ncc, chebyshev])
@pytest.mark.parametrize("chunks", [(7, 11), (30, 1), (13, 25)])
def test_same_bits_on_any_chunks_lazy_and_nan(shared: Path, no_compute: Any, measure: Any, chunks: Any) -> None:
    found = scene(shared, "samson")
    cube = found.cube.isel(y=slice(30), x=slice(25)).copy(deep=True)
    cube[3, 4, 17] = np.nan
    plain = measure(cube, found.endmembers)
    with no_compute():
        lazy = measure(cube.chunk(y=chunks[0], x=chunks[1]), found.endmembers)
    assert lazy.dtype == np.float32 and lazy.dims == ("endmember", "y", "x")
    xr.testing.assert_identical(lazy.compute(), plain)
    assert_array_equal(np.argwhere(np.isnan(plain.values).any(0)), [[3, 4]])
    assert set(plain.coords) == set(hsi.sam(cube, found.endmembers).coords)


def test_flat_spectra_and_angles_of_ninety_degrees(shared: Path) -> None:
    found = scene(shared, "samson")
    cube = found.cube.isel(y=slice(1), x=slice(3)).copy(deep=True)
    cube[0, 0] = 0.1
    cube[0, 1] = -cube[0, 1]
    assert (ncc(cube, found.endmembers).values[:, 0, 0] == 0).all()
    assert np.isinf(sid_sam(cube, found.endmembers).values[:, 0, 1]).all()


def _classified(name: str, *args: Any) -> Any:
    with oracle.names_put_back():
        classifier = getattr(oracle._module("classification.cls_int"), name)()
        return classifier.classify(*args)


THRESHOLDS = (0.1, 0.5, 0.93, [0.9, 0.4, 0.2])


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("chunks", [None, (17, 40)])
def test_relative_maps_are_pysptools(shared: Path, threshold: Any, chunks: Any) -> None:
    found = scene(shared, "samson")
    part = found.cube.isel(y=slice(None, None, 4), x=slice(None, None, 3))
    cube = part if chunks is None else part.chunk(y=chunks[0], x=chunks[1])
    x, e = part.values.astype(float), found.endmembers.values
    # PySpTools scales first, which no correlation notices, then rounds to float32
    label = classify_similarity(ncc(cube, found.endmembers), threshold, relative=True)
    theirs = _classified("NormXCorr", x, e, threshold)
    assert (label.values != theirs).sum() <= 1 and len(np.unique(theirs)) > 2
    xr.testing.assert_identical(hsi.classify(ncc(cube, found.endmembers), threshold, relative=True), label)
    assert label.attrs["threshold_rule"] == "similarity > high - (high - low) * threshold"
    assert label.attrs["long_name"] == "class of the largest normalised cross correlation"
    for unmix in (ucls, hsi.fcls):
        out = unmix(cube, found.endmembers).abundance
        label = hsi.classify(out, threshold, relative=True)
        xr.testing.assert_identical(classify_abundance(out, threshold, relative=True), label)
        assert label.attrs["threshold"] == threshold and "abundance > low" in label.attrs["threshold_rule"]
        assert label.attrs["long_name"].startswith("class of the largest abundance (")
        theirs = _classified("AbundanceClassification", np.moveaxis(out.values, 0, -1).astype(float), threshold)
        assert_array_equal(label, theirs)
        assert label.dtype == np.uint8 and len(np.unique(theirs)) > 2


def test_absolute_rule_by_hand(shared: Path) -> None:
    found = scene(shared, "samson")
    cube = found.cube.isel(y=slice(40)).copy(deep=True)
    cube[3, 4, 17] = np.nan
    r = ncc(cube, found.endmembers)
    for limit in (0.9, [0.9, -0.2, 0.8]):
        label = classify_similarity(r, limit)
        each = np.broadcast_to(limit, 3).astype(np.float32)[:, None, None]
        kept = np.where(r.values >= each, r.values, -2)
        expected = np.where(kept.max(0) == -2, 0, kept.argmax(0) + 1)
        expected[3, 4] = 255
        assert_array_equal(label, expected)
        xr.testing.assert_identical(classify_similarity(r.chunk(x=9, endmember=1), limit).compute(), label)
        xr.testing.assert_identical(hsi.classify(r, limit), label)
        others = r.rename("abundance")
        assert_array_equal(hsi.classify(others, limit), label)
        xr.testing.assert_identical(hsi.classify(others, limit), classify_abundance(others, limit))
    assert label.name == "ncc_class" and label.attrs["threshold_rule"] == "similarity >= threshold"
    assert label.attrs["flag_meanings"] == "unclassified EM1 EM2 EM3 no_data"
    # 1 - r is a distance to classify itself
    far = ncc(cube, found.endmembers, distance=True)
    other = hsi.classify(far, 0.1)
    assert other.name == "ncc_distance_class" and other.attrs["threshold_rule"] == "distance <= threshold"
    assert_array_equal(
        hsi.classify(far, 2.0), np.where(np.isnan(r.values[0]), 255, r.fillna(0).argmax("endmember") + 1)
    )
    assert (other.values != classify_similarity(r, 0.9).values).mean() < 1e-3


@pytest.mark.parametrize(
    ("name", "threshold"),
    [("ncc", 0.03), ("ncc", [0.1, 0.05, 0.04]), ("abundance", 0.97), ("abundance", [0.9, 0.95, 0.96])],
)
def test_limits_are_those_of_the_whole_map(shared: Path, name: str, threshold: Any) -> None:
    found = scene(shared, "samson")
    cube = found.cube.isel(y=slice(40)).copy(deep=True)
    cube[3, 4, 17] = np.nan
    scores = ncc(cube, found.endmembers) if name == "ncc" else hsi.fcls(cube, found.endmembers).abundance
    whole = hsi.classify(scores, threshold, relative=True)
    limits = score_range(scores.chunk(x=9)).compute()
    assert limits.low_of_largest == scores.max("endmember").min() > limits.low.min()
    parts = [scores.isel(y=slice(0, 7)), scores.isel(y=slice(7, None))]
    labels = [hsi.classify(part, threshold, relative=True, limits=limits) for part in parts]
    xr.testing.assert_equal(xr.concat(labels, "y", coords="minimal", compat="override", join="exact"), whole)
    rows = [hsi.classify(scores[:, [y]], threshold, relative=True).equals(whole[[y]]) for y in range(40)]
    assert not all(rows)  # each by its own range
    one = isinstance(threshold, float)
    pair = (limits.low_of_largest.item(), limits.high.max().item()) if one else (limits.low, limits.high)
    assert_array_equal(hsi.classify(scores, threshold, relative=True, limits=pair), whole)
    lean = limits.drop_vars("low_of_largest")
    if one:
        with pytest.raises(HsiError, match="expected low_of_largest, too, for one threshold"):
            hsi.classify(scores, threshold, relative=True, limits=lean)
    else:
        assert_array_equal(hsi.classify(scores, threshold, relative=True, limits=lean), whole)
    with pytest.raises(HsiError, match="only with relative=True"):
        hsi.classify(scores, threshold, limits=limits)


@pytest.mark.parametrize(
    ("threshold", "relative"), [(float("nan"), False), ([1.0, 2.0], False), ("high", False), (1.5, True), (-0.1, True)]
)
def test_refusals(shared: Path, threshold: Any, relative: bool) -> None:
    found = scene(shared, "samson")
    r = ncc(found.cube.isel(y=slice(3)), found.endmembers)
    for rule in (classify_similarity, classify_abundance):
        with pytest.raises(HsiError, match=r"expected|give one number"):
            rule(r, threshold, relative=relative)
