"""Models of scikit-learn on cubes: what they say themselves of the same spectra, on any chunks, no-data left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.analysis.scikit_learn import fit_sample, predict
from hsichunk.errors import HsiError
from tests.helpers.scenes import scene

pytest.importorskip("sklearn", reason="the models are scikit-learn's (the `reference` extra)")

from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

GRIDS = (None, (7, 11), (40, 1), (39, 30))


@pytest.fixture(scope="module")
def part(shared: Path) -> tuple[xr.DataArray, xr.DataArray, Any, Any]:
    """Some of Samson with two no-data pixels, a class map of it, and the spectra and valid pixels by hand."""
    found = scene(shared, "samson")
    cube = found.cube.isel(y=slice(20, 60), x=slice(10, 40), wavelength=slice(None, None, 8)).copy(deep=True)
    cube[3, 4, 7] = np.nan
    cube[9, 9] = np.nan
    label = hsi.classify(hsi.sam(cube, found.endmembers.isel(wavelength=slice(None, None, 8))), 0.5)
    valid = np.ones((40, 30), bool)
    valid[3, 4] = valid[9, 9] = False
    return cube, label, cube.values[valid].astype(np.float64), valid


def _chunked(cube: xr.DataArray, grid: Any) -> xr.DataArray:
    return cube if grid is None else cube.chunk(y=grid[0], x=grid[1])


CLASSIFIERS = (
    RandomForestClassifier(20, random_state=0),
    make_pipeline(StandardScaler(), SVC()),
    GaussianNB(),
    LogisticRegression(max_iter=2000),
)


@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("grid", GRIDS)
def test_class_maps_are_the_models(part: Any, model: Any, grid: Any, no_compute: Any) -> None:
    cube, label, x, valid = part
    assert fit_sample(_chunked(cube, grid), model, label, sample=None) is model
    with no_compute():
        out = predict(_chunked(cube, grid), model)
    assert (out.chunks is None) == (grid is None) and out.dtype == np.uint8 and out.dims == ("y", "x")
    assert_array_equal(out.values[valid], model.predict(x))
    assert (out.values[~valid] == 255).all()
    assert len(np.unique(out)) == 4
    assert out.attrs["flag_meanings"] == "unclassified class_1 class_2 class_3 no_data"
    assert_array_equal(out.attrs["flag_values"], [0, 1, 2, 3, 255])


def test_what_is_fitted_is_the_same_on_any_chunks(part: Any) -> None:
    cube, label, x, _ = part
    models = [
        fit_sample(_chunked(cube, g), RandomForestClassifier(5, random_state=0), label, sample=300, share=1.0, seed=4)
        for g in GRIDS
    ]
    assert_array_equal([m.predict_proba(x) for m in models[1:]], [models[0].predict_proba(x)] * 3)
    other = fit_sample(cube, RandomForestClassifier(5, random_state=0), label, sample=300, share=1.0, seed=5)
    assert (other.predict_proba(x) != models[0].predict_proba(x)).any()


def test_labels_belong_to_their_pixels(part: Any) -> None:
    cube, _, x, valid = part

    class Recorder:
        def fit(self, spectra: Any, labels: Any) -> None:
            self.spectra, self.labels = spectra, labels

    y = xr.zeros_like(cube[..., 0], dtype=np.int32).copy(data=np.arange(1000, 2200).reshape(40, 30))
    y[0, 0], y[1, 1] = 0, 255
    kept = valid.copy()
    kept[0, 0] = kept[1, 1] = False
    seen = fit_sample(cube, Recorder(), y, sample=None)
    assert_array_equal(seen.labels, y.values[kept])
    assert_allclose(seen.spectra, cube.values[kept])
    few = fit_sample(cube.chunk(y=7), Recorder(), y.chunk(x=11).transpose("x", "y"), sample=200)
    assert 100 < len(few.labels) < 300
    assert_allclose(few.spectra, cube.values.reshape(-1, x.shape[1])[few.labels - 1000])


def test_words_and_far_numbers_are_counted_from_one(part: Any) -> None:
    cube, label, x, valid = part
    truth = label.values[valid]
    words = GaussianNB().fit(x, np.array(["open water", "tree", "bare soil"])[truth - 1])
    out = predict(cube, words)
    assert_array_equal(out.values[valid], np.searchsorted(words.classes_, words.predict(x)) + 1)
    assert out.attrs["flag_meanings"] == "unclassified bare_soil open_water tree no_data"
    far = GaussianNB().fit(x, truth.astype(int) * 1000 - 2000)
    out = predict(cube, far)
    assert_array_equal(out.values[valid], np.searchsorted([-1000, 0, 1000], far.predict(x)) + 1)
    assert out.attrs["flag_meanings"] == "unclassified class_-1000 class_0 class_1000 no_data"


@pytest.mark.parametrize(
    "model",
    [
        KMeans(4, n_init=1, random_state=0),
        GaussianMixture(4, random_state=0, reg_covar=1e-4),
        make_pipeline(StandardScaler(), KMeans(4, n_init=1, random_state=0)),
    ],
    ids=lambda m: type(m).__name__,
)
def test_clusters_count_from_one(part: Any, model: Any) -> None:
    cube, _, x, valid = part
    fit_sample(cube.chunk(y=9), model, sample=None)
    out = predict(cube.chunk(y=13, x=7), model)
    assert_array_equal(out.values[valid], model.predict(x) + 1)
    assert out.attrs["flag_meanings"] == "unclassified cluster_0 cluster_1 cluster_2 cluster_3 no_data"


@pytest.mark.parametrize("grid", GRIDS)
def test_numbers_are_the_models(part: Any, grid: Any, no_compute: Any) -> None:
    cube, label, x, valid = part
    lazy = _chunked(cube, grid)
    pca = PCA(3).fit(x)
    both = np.stack([x.mean(1), x.max(1)], 1)
    cases = [
        (pca, None, pca.transform(x)),
        (LinearRegression().fit(x, both[:, 0]), None, both[:, 0]),
        (LinearRegression().fit(x, both), None, LinearRegression().fit(x, both).predict(x)),
        (forest := IsolationForest(n_estimators=10, random_state=0).fit(x), None, forest.predict(x)),
        (forest, "score_samples", forest.score_samples(x)),
        (bayes := GaussianNB().fit(x, label.values[valid]), "predict_proba", bayes.predict_proba(x)),
    ]
    for model, method, expected in cases:
        with no_compute():
            out = predict(lazy, model, method=method)
        assert out.dtype == np.float32 and out.dims == (("component",) if expected.ndim == 2 else ()) + ("y", "x")
        values = out.values
        assert_allclose(np.moveaxis(values, 0, -1)[valid] if expected.ndim == 2 else values[valid], expected, atol=1e-6)
        assert np.isnan(values[..., ~valid]).all()
    assert list(out.component.values) == ["1", "2", "3"]


def test_place_on_the_ground_is_kept(tmp_path: Path) -> None:
    from hsichunk.synthetic.tile import write_tile

    path = tmp_path / "tile.h5"
    write_tile(path, shape=(70, 80), seed=1)
    cube = hsi.clean(hsi.open_tile(path), every=12)
    model = fit_sample(cube, KMeans(3, n_init=1, random_state=0), sample=500)
    out = predict(cube, model)
    assert out.encoding["grid_mapping"] == "spatial_ref"
    xr.testing.assert_identical(out.spatial_ref, cube.spatial_ref)
    held = cube.compute()
    other = fit_sample(held, KMeans(3, n_init=1, random_state=0), sample=500)
    assert_allclose(other.cluster_centers_, model.cluster_centers_, rtol=1e-6)
    assert_array_equal(predict(held, model), out)


def test_refusals(part: Any) -> None:
    cube, label, x, _ = part
    with pytest.raises(HsiError, match="not fitted"):
        predict(cube, GaussianNB())
    with pytest.raises(HsiError, match="fitted on 5 bands"):
        predict(cube, PCA(2).fit(x[:, :5]))
    with pytest.raises(HsiError, match="has no predict or transform"):
        predict(cube, object())
    with pytest.raises(HsiError, match="has no predict_proba"):
        predict(cube, PCA(2).fit(x), method="predict_proba")
    with pytest.raises(HsiError, match="anew on every block"):
        predict(cube, KMeans(2), method="fit_predict")
    with pytest.raises(HsiError, match="expected an estimator"):
        fit_sample(cube, object())
    with pytest.raises(HsiError, match="none of"):
        fit_sample(cube, GaussianNB(), xr.zeros_like(label))
    with pytest.raises(HsiError, match="same y and x"):
        fit_sample(cube, GaussianNB(), label.isel(y=slice(9)))
    with pytest.raises(HsiError, match="as a class map"):
        fit_sample(cube, GaussianNB(), label.values)
    with pytest.raises(HsiError, match="no pixel"):
        fit_sample(cube.where(False), GaussianNB())
