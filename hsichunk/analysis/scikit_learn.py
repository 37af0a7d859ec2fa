"""Models of scikit-learn on cubes: fit on a sample of pixels, apply block by block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Bytes, Floats, Ints, Numbers
from hsichunk.cube.blockwise import labelled, on_pixels
from hsichunk.cube.checks import check_cube
from hsichunk.cube.cube_sample import SAMPLE, SHARE, draw
from hsichunk.errors import HsiError
from hsichunk.schema import COMPONENT

SLAB = 8192  # pixels of one call of a model, so many that the cost of a call does not count
METHODS = ("predict", "transform")  # of a model, in the order in which they are looked for


class Estimator(Protocol):
    """A model of scikit-learn: estimator, transformer or pipeline."""

    @property
    def fit(self) -> Callable[..., object]:
        """fit(X) or fit(X, y), with X (n, L) and y (n,)."""


class Predictor(Protocol):
    """A fitted model of classes, clusters or numbers."""

    @property
    def predict(self) -> Callable[[Floats], NDArray[np.generic]]:
        """predict(X), with X (n, L): (n,)."""


class Transformer(Protocol):
    """A fitted model of components."""

    @property
    def transform(self) -> Callable[[Floats], NDArray[np.generic]]:
        """transform(X), with X (n, L): (n, components)."""


FittedModel: TypeAlias = Estimator | Predictor | Transformer
"""what has one of the methods that `predict` calls"""
Model = TypeVar("Model", bound=Estimator)


def fit_sample(
    cube: xr.DataArray,
    model: Model,
    y: xr.DataArray | None = None,
    *,
    sample: int | None = SAMPLE,
    share: float = SHARE,
    seed: int = 0,
) -> Model:
    """Fit a model of scikit-learn (estimator, transformer or pipeline) on a sample of pixels, and return it.

    cube (y, x, wavelength). `y` (y, x), on the same pixels, holds class numbers, of which 0 (unclassified) and 255 (no
    data) are left out, or numbers to regress, of which NaN are left out. About `sample` pixels (None: every one) are
    drawn from a `share` of the 64 x 64 cells of the grid, by `seed` and place on the ground, as for `nfindr`: any
    chunks give the same pixels. With `y`, pixels that it leaves out are drawn and then dropped: where few pixels are
    labelled, take all with sample=None. The model gets float64 reflectance (n, L). `seed` does not reach the model's
    own randomness: give it random_state. Raises HsiError for what has no fit, for `y` on other pixels, and where no
    pixel of the sample can be used.
    """
    cube = check_cube(cube)
    if not hasattr(model, "fit"):
        raise HsiError(
            f"the model is a {type(model).__name__}; expected an estimator with fit and predict or transform"
        )
    pixels = draw(cube, sample, share, seed)
    spectra = pixels.spectra.astype(np.float64) / pixels.scale
    if y is None:
        if not len(spectra):
            raise HsiError("no pixel of the sample holds data in every band; take a larger one, or share=1")
        model.fit(spectra)
        return model
    labels = _labels_at(y, cube, pixels.y, pixels.x)
    known = np.isfinite(labels) if labels.dtype.kind == "f" else (labels != 0) & (labels != schema.CLASS_NO_DATA)
    if not known.any():
        raise HsiError(f"none of {len(labels)} pixels of the sample has a label; give sample=None to take every pixel")
    model.fit(spectra[known], labels[known])
    return model


def _labels_at(y: xr.DataArray, cube: xr.DataArray, northing: Floats, easting: Floats) -> NDArray[np.generic]:
    """Return the labels of pixels, found by the coordinates of their centres."""
    grid = {schema.Y, schema.X}
    if not isinstance(y, xr.DataArray) or set(y.dims) != grid or y.dtype.kind not in "iuf":
        actual = f"{y.dtype} {y.dims}" if isinstance(y, xr.DataArray) else type(y).__name__
        raise HsiError(f"y is {actual}; expected a DataArray (y, x) of numbers on the cube's pixels, as a class map")
    try:
        xr.align(y, cube, join="exact", copy=False)
    except ValueError as error:
        raise HsiError(
            f"y has {dict(y.sizes)} pixels, the cube {cube.sizes[schema.Y]} x {cube.sizes[schema.X]}, or others; bring "
            "both to the same y and x, as with y.reindex_like(cube)"
        ) from error
    centres = ((schema.Y, northing), (schema.X, easting))
    at = {dim: xr.DataArray(cube.get_index(dim).get_indexer(centre), dims="pixel") for dim, centre in centres}
    labels: NDArray[np.generic] = y.isel(at).values
    return labels


def predict(cube: xr.DataArray, model: FittedModel, *, method: str | None = None) -> xr.DataArray:
    """Return what a fitted model of scikit-learn (estimator, transformer or pipeline) predicts for every pixel.

    cube (y, x, wavelength). `method` names the method of the model to call, by default "predict", or "transform" where
    the model has no "predict"; others are "predict_proba", "decision_function" and "score_samples". It gets float64
    reflectance (n, L) of valid pixels alone, block by block.

    The classes of a classifier, and clusters, are returned as a class map, uint8 (y, x) as `classify` gives it: 255 no
    data, flag_values, flag_meanings. Whole-number classes from 0 to 254 keep their numbers; all others count from 1 in
    the order of `model.classes_`, clusters in their own order. All other results are float32, (y, x) or
    (component, y, x), NaN at no-data. The result is lazy for a dask cube. Models whose sums follow the order of BLAS
    may differ in the last digits with the chunks. Raises HsiError for a model that is not fitted, or fitted on other
    bands.
    """
    cube = check_cube(cube)
    bands = cube.sizes[schema.WAVELENGTH]
    name = method or next((m for m in METHODS if hasattr(model, m)), None)
    if name is None or not hasattr(model, name):
        raise HsiError(
            f"the model {type(model).__name__} has no {name or 'predict or transform'}; choose another method"
        )
    if name.startswith("fit"):
        raise HsiError(f"{name} would fit the model anew on every block; use fit_sample(cube, model), then predict")
    expected = getattr(model, "n_features_in_", bands)
    if expected != bands:
        raise HsiError(f"the model was fitted on {expected} bands, the cube has {bands}; bring both to the same bands")
    probe = _predict_one(model, name, bands)
    classes = _classes_of(model, probe) if name == "predict" else None
    if classes is not None:
        return _class_map(cube, model, name, classes)
    outputs = probe.shape[1] if probe.ndim == 2 else 1
    kernel = partial(_predict_numbers, model=model, method=name)
    values = on_pixels(cube, kernel, outputs, slab=SLAB, threads=1)
    attrs = {"long_name": f"{name} of {type(model).__name__}"}
    dims = (schema.Y, schema.X)
    if probe.ndim == 1:
        return labelled(values[0], cube, dims, name, attrs)
    return labelled(values, cube, (COMPONENT, *dims), name, attrs, {COMPONENT: _components(model, name, outputs)})


def _predict_one(model: FittedModel, method: str, bands: int) -> NDArray[np.generic]:
    """Return the model's result for one spectrum, which shows its shape and dtype.

    Raises HsiError, with the first line of the model's own error, where it fails.
    """
    try:
        return np.asarray(getattr(model, method)(np.full((1, bands), 0.1)))
    except Exception as error:
        if type(error).__name__ == "NotFittedError":
            raise HsiError(
                f"the model {type(model).__name__} is not fitted; use fit_sample(cube, model) first"
            ) from error
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HsiError(f"{method} of {type(model).__name__} fails on a spectrum of {bands} bands: {line}") from error


def _classes_of(model: FittedModel, probe: NDArray[np.generic]) -> NDArray[np.generic] | None:
    """Return the classes or clusters of a model, or None where it predicts numbers."""
    if probe.ndim != 1:
        return None
    classes = getattr(model, "classes_", None)
    if classes is not None:
        return np.asarray(classes)
    last = model.steps[-1][1] if hasattr(model, "steps") else model  # of a pipeline
    count = getattr(last, "n_clusters", None) or getattr(last, "n_components", None)
    return np.arange(count) if isinstance(count, int) and probe.dtype.kind in "iu" else None


def _class_map(cube: xr.DataArray, model: FittedModel, method: str, classes: NDArray[np.generic]) -> xr.DataArray:
    """Return the labelled class map of a classifier or of clusters."""
    fit_labels = classes.dtype.kind in "iu" and classes.min() >= 0 and classes.max() < schema.CLASS_NO_DATA
    keep_numbers = fit_labels and hasattr(model, "classes_")
    if not keep_numbers and len(classes) > schema.MAX_ENDMEMBERS:
        raise HsiError(f"{len(classes)} classes; expected at most {schema.MAX_ENDMEMBERS}: the labels are one byte")
    order = np.argsort(classes)
    labels = (classes if keep_numbers else np.arange(1, len(classes) + 1)).astype(np.uint8)
    kernel = partial(_predict_labels, model=model, method=method, classes=classes[order], labels=labels[order])
    label = on_pixels(cube, kernel, 1, dtype=np.uint8, fill=schema.CLASS_NO_DATA, slab=SLAB, threads=1)
    prefix = "" if classes.dtype.kind not in "iuf" else "class_" if hasattr(model, "classes_") else "cluster_"
    meanings = {int(n): prefix + "_".join(str(c).split()) for n, c in zip(labels, classes, strict=True)}
    meanings = {schema.UNCLASSIFIED: "unclassified", **meanings, schema.CLASS_NO_DATA: "no_data"}
    attrs = {
        "long_name": f"class by {type(model).__name__}",
        "flag_values": np.array(list(meanings), np.uint8),
        "flag_meanings": " ".join(meanings.values()),
    }
    return labelled(label[0], cube, (schema.Y, schema.X), "class", attrs)


def _components(model: FittedModel, method: str, outputs: int) -> list[str] | Ints:
    """Return the coordinate of the components: names of classes for probabilities, else 1, 2, ..."""
    classes = getattr(model, "classes_", None)
    if method.startswith("predict_") and classes is not None and len(classes) == outputs:
        return [str(c) for c in classes]
    return np.arange(1, outputs + 1)


def _predict_labels(x: Floats, model: FittedModel, method: str, classes: NDArray[np.generic], labels: Bytes) -> Bytes:
    """Return the class numbers (n, 1) of spectra x (n, L); `classes`, sorted, have these `labels`."""
    predicted = np.asarray(getattr(model, method)(x))
    return labels[np.searchsorted(classes, predicted)][:, None]


def _predict_numbers(x: Floats, model: FittedModel, method: str) -> Numbers:
    """Return the numbers (n, m) of spectra x (n, L)."""
    values = getattr(model, method)(x)
    dense: Numbers = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return dense.reshape(len(x), -1)
