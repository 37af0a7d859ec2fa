"""Models of scikit-learn on cubes: fitted on a sample of pixels, applied block by block."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.cube.blockwise import labelled, on_pixels
from hsichunk.cube.checks import check_cube
from hsichunk.cube.cube_sample import SAMPLE, SHARE, draw
from hsichunk.errors import HsiError
from hsichunk.schema import COMPONENT

SLAB = 8192  # pixels of one call of a model: what a call costs is spread over many
METHODS = ("predict", "transform")  # what a model is asked for, the first that it has

Model = TypeVar("Model")


def fit_sample(
    cube: xr.DataArray,
    model: Model,
    y: xr.DataArray | None = None,
    *,
    sample: int | None = SAMPLE,
    share: float = SHARE,
    seed: int = 0,
) -> Model:
    """Fits a model of scikit-learn (estimator, transformer or pipeline) on a sample of pixels, and returns it.

    cube (y, x, wavelength). `y` (y, x), on the same pixels, are class numbers, of which 0 (unclassified) and 255 (no
    data) are left out, or numbers to regress, of which NaN are. About `sample` pixels (None: every one) are drawn, from
    a `share` of the 64 x 64 cells of the grid, by `seed` and place on the ground, as for `nfindr`: the same for any
    chunks. With `y`, pixels that it leaves out are drawn and then dropped: where few are labelled, sample=None takes
    all. The model gets float64 reflectance (n, L), and its own randomness is its own: give it random_state.
    """
    cube = check_cube(cube)
    if not hasattr(model, "fit"):
        raise HsiError(
            f"the model is a {type(model).__name__}; expected an estimator with fit and predict or transform"
        )
    drawn = draw(cube, sample, share, seed)
    spectra = drawn.spectra.astype(np.float64) / drawn.scale
    if y is None:
        if not len(spectra):
            raise HsiError("no pixel of the sample holds data in every band; take a larger one, or share=1")
        model.fit(spectra)
        return model
    labels = _labels_at(y, cube, drawn.y, drawn.x)
    known = np.isfinite(labels) if labels.dtype.kind == "f" else (labels != 0) & (labels != schema.CLASS_NO_DATA)
    if not known.any():
        raise HsiError(f"none of {len(labels)} pixels of the sample has a label; give sample=None to take every pixel")
    model.fit(spectra[known], labels[known])
    return model


def _labels_at(y: xr.DataArray, cube: xr.DataArray, northing: Floats, easting: Floats) -> NDArray[Any]:
    """The labels of pixels, by the place of their centres."""
    grid = {schema.Y, schema.X}
    if not isinstance(y, xr.DataArray) or set(y.dims) != grid or y.dtype.kind not in "iuf":
        found = f"{y.dtype} {y.dims}" if isinstance(y, xr.DataArray) else type(y).__name__
        raise HsiError(f"y is {found}; expected a DataArray (y, x) of numbers on the cube's pixels, as a class map")
    try:
        xr.align(y, cube, join="exact", copy=False)
    except ValueError as error:
        raise HsiError(
            f"y has {dict(y.sizes)} pixels, the cube {cube.sizes[schema.Y]} x {cube.sizes[schema.X]}, or others; bring "
            "both to the same y and x, as with y.reindex_like(cube)"
        ) from error
    index = [cube.get_index(dim).get_indexer(at) for dim, at in ((schema.Y, northing), (schema.X, easting))]
    at = {dim: xr.DataArray(i, dims="pixel") for dim, i in zip((schema.Y, schema.X), index, strict=True)}
    labels: NDArray[Any] = y.isel(at).values
    return labels


def predict(cube: xr.DataArray, model: Any, *, method: str | None = None) -> xr.DataArray:
    """What a fitted model of scikit-learn (estimator, transformer or pipeline) says of every pixel, block by block.

    cube (y, x, wavelength). `method` is the model's to call, "predict" or else "transform" unless given; also
    "predict_proba", "decision_function", "score_samples". It gets float64 reflectance (n, L) of valid pixels alone.

    Classes of a classifier, and clusters, come back as a class map, uint8 (y, x) as `classify` gives it: 255 no data,
    flag_values, flag_meanings. Whole-number classes from 0 to 254 keep their numbers; any others count from 1 in
    the order of `model.classes_`, clusters in their own order. All else is float32, (y, x) or (component, y, x), NaN
    at no-data. Lazy for a dask cube. Models that add in the order of BLAS may differ in the last digits with chunks.
    Raises HsiError for a model that is not fitted, or on other bands.
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
    probe = _probe(model, name, bands)
    classes = _classes_of(model, probe) if name == "predict" else None
    if classes is not None:
        return _class_map(cube, model, name, classes)
    outputs = probe.shape[1] if probe.ndim == 2 else 1
    work = partial(_numbers, model=model, method=name)
    found = on_pixels(cube, work, outputs, slab=SLAB, threads=1)
    attrs = {"long_name": f"{name} of {type(model).__name__}"}
    dims = (schema.Y, schema.X)
    if probe.ndim == 1:
        return labelled(found[0], cube, dims, name, attrs)
    return labelled(found, cube, (COMPONENT, *dims), name, attrs, {COMPONENT: _components(model, name, outputs)})


def _probe(model: Any, method: str, bands: int) -> NDArray[Any]:
    """What the model gives for one spectrum: its shape and dtype, or why it gives nothing."""
    try:
        return np.asarray(getattr(model, method)(np.full((1, bands), 0.1)))
    except Exception as error:
        if type(error).__name__ == "NotFittedError":
            raise HsiError(
                f"the model {type(model).__name__} is not fitted; use fit_sample(cube, model) first"
            ) from error
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HsiError(f"{method} of {type(model).__name__} fails on a spectrum of {bands} bands: {line}") from error


def _classes_of(model: Any, probe: NDArray[Any]) -> NDArray[Any] | None:
    """The classes that a model tells apart, or None where it gives numbers."""
    if probe.ndim != 1:
        return None
    classes = getattr(model, "classes_", None)
    if classes is not None:
        return np.asarray(classes)
    last = model[-1] if hasattr(model, "steps") else model
    count = getattr(last, "n_clusters", None) or getattr(last, "n_components", None)
    return np.arange(count) if isinstance(count, int) and probe.dtype.kind in "iu" else None


def _class_map(cube: xr.DataArray, model: Any, method: str, classes: NDArray[Any]) -> xr.DataArray:
    numbers = classes.dtype.kind in "iu" and classes.min() >= 0 and classes.max() < schema.CLASS_NO_DATA
    own = numbers and hasattr(model, "classes_")
    if not own and len(classes) > schema.MAX_ENDMEMBERS:
        raise HsiError(f"{len(classes)} classes; expected at most {schema.MAX_ENDMEMBERS}: the labels are one byte")
    order = np.argsort(classes)
    labels = (classes if own else np.arange(1, len(classes) + 1)).astype(np.uint8)
    work = partial(_labels, model=model, method=method, known=classes[order], labels=labels[order])
    found = on_pixels(cube, work, 1, dtype=np.uint8, fill=schema.CLASS_NO_DATA, slab=SLAB, threads=1)
    prefix = "" if classes.dtype.kind not in "iuf" else "class_" if hasattr(model, "classes_") else "cluster_"
    meanings = {int(n): prefix + "_".join(str(c).split()) for n, c in zip(labels, classes, strict=True)}
    meanings = {schema.UNCLASSIFIED: "unclassified", **meanings, schema.CLASS_NO_DATA: "no_data"}
    attrs = {
        "long_name": f"class by {type(model).__name__}",
        "flag_values": np.array(list(meanings), np.uint8),
        "flag_meanings": " ".join(meanings.values()),
    }
    return labelled(found[0], cube, (schema.Y, schema.X), "class", attrs)


def _components(model: Any, method: str, outputs: int) -> Any:
    classes = getattr(model, "classes_", None)
    if method.startswith("predict_") and classes is not None and len(classes) == outputs:
        return [str(c) for c in classes]
    return np.arange(1, outputs + 1)


def _labels(x: Floats, model: Any, method: str, known: NDArray[Any], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Spectra (n, L) to class numbers (n, 1)."""
    said = np.asarray(getattr(model, method)(x))
    return labels[np.searchsorted(known, said)][:, None]


def _numbers(x: Floats, model: Any, method: str) -> NDArray[Any]:
    """Spectra (n, L) to numbers (n, m)."""
    found = getattr(model, method)(x)
    dense = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
    return dense.reshape(len(x), -1)
