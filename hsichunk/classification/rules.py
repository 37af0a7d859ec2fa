"""The rules of class maps: ranges of scores, labels by thresholds, checks of what the user gives.

The label of a pixel is its nearest endmember, where that one is within its threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bytes, Floats
from hsichunk.classification.labels import FloatArray, class_attrs, flag_names, label_nearest
from hsichunk.errors import HsiError

# variables of the range of each class's scores, which score_range returns and classify(limits=) takes
LOW = "low"
HIGH = "high"
LOW_OF_LARGEST = "low_of_largest"  # the lowest of the largest score of each pixel; of similarities alone


def larger_is_nearer(scores: xr.DataArray) -> bool:
    """Whether the name of the scores says that a larger score means more alike."""
    return scores.name in schema.SIMILARITIES or scores.name == schema.ABUNDANCE


def label_scores(distance: xr.DataArray, thresholds: FloatArray, ranges: xr.Dataset | None) -> xr.DataArray:
    """Return labels, uint8 (y, x), of the smallest distance within its limit.

    distance: (endmember, y, x), all classes in one chunk. thresholds: () or (k,). Without ranges, the thresholds are
    the limits; with them, `low` and `high` (k,), thresholds are fractions of each range.
    """
    per_class = np.broadcast_to(thresholds, distance.sizes[schema.ENDMEMBER])
    if ranges is None:
        limit = per_class.astype(distance.dtype)
        label = _apply_over_classes(label_nearest, [distance], {"limit": limit, "closed": True})
    else:
        label = _apply_over_classes(_label_relative, [distance, ranges[LOW], ranges[HIGH]], {"threshold": per_class})
    return label.transpose(schema.Y, schema.X)


def score_range(scores: xr.DataArray, *, largest: bool | None = None) -> xr.Dataset:
    """Return the lowest and highest finite score of each class: float64 `low(endmember)`, `high(endmember)`, lazy.

    scores: (endmember, y, x). A class without a finite score gets low = inf, high = -inf. Where a larger score means
    more alike, the Dataset also holds `low_of_largest`: the lowest of the largest score of each pixel, from which one
    threshold for all classes counts. `largest` says whether it does; without it, the name of the scores decides, as in
    `classify`. A minimum does not depend on the order of its terms, so the same scores give the same bits on any
    chunks. Raises HsiError for anything but scores (endmember, y, x).
    """
    check_scores(scores)
    finite = np.isfinite(scores)
    over = (schema.Y, schema.X)
    highest = scores.where(finite, -np.inf)
    low = scores.where(finite, np.inf).min(over, skipna=False)
    ranges = {LOW: low, HIGH: highest.max(over, skipna=False)}
    if larger_is_nearer(scores) if largest is None else largest:
        best = highest.max(schema.ENDMEMBER, skipna=False)
        ranges[LOW_OF_LARGEST] = best.where(best > -np.inf, np.inf).min(over, skipna=False)
    return xr.Dataset(ranges).astype(np.float64)


def class_names(distance: xr.DataArray) -> list[str]:
    """Return the names of the classes as CF's flag_meanings needs them: EM1, EM2, ... where there are none."""
    if schema.ENDMEMBER in distance.coords:
        return flag_names(distance[schema.ENDMEMBER].values.tolist())
    return flag_names([""] * distance.sizes[schema.ENDMEMBER])


def _label_relative(distances: FloatArray, low: FloatArray, high: FloatArray, *, threshold: FloatArray) -> Bytes:
    """Return the labels (...) of distances (..., k) by thresholds (k,) that are fractions of the range low to high."""
    with np.errstate(invalid="ignore"):  # inf - inf of a class without data: NaN, which nothing is below
        limit = low + (high - low) * threshold
    return label_nearest(distances, limit, closed=False)


def common_range(ranges: xr.Dataset) -> xr.Dataset:
    """Return the range of all classes together, repeated for each class: low (endmember), high (endmember)."""
    together = xr.Dataset({LOW: ranges[LOW].min(schema.ENDMEMBER), HIGH: ranges[HIGH].max(schema.ENDMEMBER)})
    return together.broadcast_like(ranges)


def _apply_over_classes(
    kernel: Callable[..., Bytes], operands: list[xr.DataArray], options: Mapping[str, FloatArray | bool]
) -> xr.DataArray:
    """Return labels, uint8, by a kernel whose operands have the classes as last axis; lazy where the operands are."""
    label: xr.DataArray = xr.apply_ufunc(
        kernel,
        *operands,
        kwargs=options,
        input_core_dims=[[schema.ENDMEMBER]] * len(operands),
        join="exact",
        dask="parallelized",
        output_dtypes=[np.uint8],
    )
    return label


def describe(
    label: xr.DataArray,
    scores: xr.DataArray,
    classes: list[str],
    thresholds: FloatArray,
    rule: str,
    *,
    relative: bool,
    largest: bool = False,
) -> xr.DataArray:
    """Return the labels with their attributes: names of classes, CF's flags, thresholds and the rule; and a name."""
    measure = str(scores.attrs.get("long_name") or scores.name or "distance")
    units = None if relative else scores.attrs.get("units")
    label.attrs = class_attrs(classes, thresholds.tolist(), measure, rule, units, largest=largest)
    if relative:
        label.attrs["threshold_range"] = "all classes" if thresholds.ndim == 0 else "each class"
    # xarray refuses a grid mapping that both attrs and encoding name; arithmetic drops the encoding.
    if "grid_mapping" in scores.attrs:
        label.attrs["grid_mapping"] = scores.attrs["grid_mapping"]
    elif "grid_mapping" in scores.encoding or schema.GRID_MAPPING in scores.coords:
        label.encoding["grid_mapping"] = scores.encoding.get("grid_mapping", schema.GRID_MAPPING)
    return label.rename(f"{scores.name}_class" if scores.name else "class")


def check_scores(scores: xr.DataArray) -> None:
    """Raise HsiError for anything but floating-point scores (endmember, y, x) of 1 to 254 classes."""
    if not isinstance(scores, xr.DataArray):
        raise HsiError(f"classify got a {type(scores).__name__}, expected a DataArray of distances such as out.sid")
    expected = (schema.ENDMEMBER, schema.Y, schema.X)
    if set(scores.dims) != set(expected):
        hint = "; choose with a list, sel(endmember=['EM1'])" if schema.ENDMEMBER not in scores.dims else ""
        raise HsiError(f"distances have dimensions {scores.dims}, expected {expected}{hint}")
    if not np.issubdtype(scores.dtype, np.floating):
        raise HsiError(f"distances are {scores.dtype}, expected floating point with NaN for no data")
    count = scores.sizes[schema.ENDMEMBER]
    if not 1 <= count <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"{count} classes, expected 1 to {schema.MAX_ENDMEMBERS}: the labels are one byte; choose some")


def check_relative(relative: bool, limits: xr.Dataset | Sequence[npt.ArrayLike] | None) -> bool:
    """Return `relative`; raise HsiError for limits without it."""
    if limits is not None and not relative:
        raise HsiError("limits were given with relative=False, expected only with relative=True; leave one of them out")
    return relative


def check_threshold(threshold: npt.ArrayLike, classes: list[str], relative: bool, *, signed: bool = False) -> Floats:
    """Return the thresholds as float64, 0-d for one number and (k,) for one per class.

    With `signed`, absolute thresholds may be below 0. Raises HsiError for a wrong number or value of thresholds.
    """
    try:
        values = np.asarray(threshold)
    except ValueError:  # a list of lists of different lengths
        values = np.asarray(None)
    if values.dtype.kind not in "iuf":
        raise HsiError(f"threshold is {threshold!r}, expected one number or {len(classes)}, one per class")
    if values.ndim > 1 or (values.ndim == 1 and values.size != len(classes)):
        actual = f"thresholds of shape {values.shape}"
        if values.ndim == 1:
            actual = f"{values.size} threshold{'s' if values.size != 1 else ''}"
        raise HsiError(f"{actual} for {len(classes)} classes ({' '.join(classes)}); give one number, or one per class")
    values = values.astype(np.float64)
    highest = 1.0 if relative else np.finfo(np.float64).max
    lowest = -highest if signed and not relative else 0.0
    wrong = values[~((values >= lowest) & (values <= highest))]  # NaN is wrong too
    if wrong.size:
        expected = "a finite number" if signed else "a finite number, 0 or above"
        if relative:
            expected = "a fraction from 0 to 1 (relative=True)"
        raise HsiError(f"threshold {float(wrong.flat[0])} of {values.tolist()}, expected {expected}")
    return values


def check_limits(
    limits: xr.Dataset | Sequence[npt.ArrayLike], distance: xr.DataArray, classes: list[str]
) -> xr.Dataset:
    """Return the limits as float64 `low(endmember)`, `high(endmember)`, with the coordinates of the scores.

    Raises HsiError for limits of other classes, of a wrong shape, or with low > high.
    """
    if isinstance(limits, xr.Dataset):
        if {LOW, HIGH} - set(limits) or limits.sizes.get(schema.ENDMEMBER) != len(classes):
            raise HsiError(f"limits hold {list(limits)} of {dict(limits.sizes)}, expected low and high of {classes}")
        if schema.ENDMEMBER in limits.coords and class_names(limits[LOW]) != classes:
            raise HsiError(f"limits are of {class_names(limits[LOW])}, the distances of {classes}; choose the same")
        ranges = limits[[name for name in (LOW, HIGH, LOW_OF_LARGEST) if name in limits]]
        ranges = ranges.chunk({schema.ENDMEMBER: -1}) if limits.chunks else ranges
        if schema.ENDMEMBER in distance.coords:  # the names agree, but their blanks may differ
            ranges = ranges.assign_coords({schema.ENDMEMBER: distance[schema.ENDMEMBER]})
        return ranges.astype(np.float64)
    try:
        low, high = (np.broadcast_to(np.asarray(side, np.float64), len(classes)) for side in limits)
    except (TypeError, ValueError):
        raise HsiError(
            f"limits are {limits!r}, expected a pair (low, high), each one number or {len(classes)}"
        ) from None
    if not (low <= high).all():
        raise HsiError(f"limits are low {low.tolist()} and high {high.tolist()}, expected low <= high and no NaN")
    coords = {schema.ENDMEMBER: distance[schema.ENDMEMBER]} if schema.ENDMEMBER in distance.coords else None
    return xr.Dataset({LOW: (schema.ENDMEMBER, low), HIGH: (schema.ENDMEMBER, high)}, coords)
