"""From scores to a class map: the nearest endmember of every pixel, where it is near enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.classification.labels import FloatArray, class_attrs, flag_names, label_nearest
from hsichunk.errors import HsiError

# The range of each class's scores, as score_range gives it and classify(limits=) takes it.
LOW = "low"
HIGH = "high"
LOW_OF_LARGEST = "low_of_largest"  # of scores where larger means more alike and one threshold is for all classes


def of_largest(scores: xr.DataArray) -> bool:
    """Whether a larger score means more alike, by the name of the scores."""
    return scores.name in schema.SIMILARITIES or scores.name == schema.ABUNDANCE


def label_scores(distance: xr.DataArray, thresholds: FloatArray, ranges: xr.Dataset | None) -> xr.DataArray:
    """Labels uint8 (y, x) of the smallest distance, one chunk of classes, by thresholds () or (k,) and ranges (k,)."""
    each = np.broadcast_to(thresholds, distance.sizes[schema.ENDMEMBER])
    if ranges is None:
        label = over_classes(label_nearest, [distance], {"limit": each.astype(distance.dtype), "closed": True})
    else:
        label = over_classes(_label_relative, [distance, ranges[LOW], ranges[HIGH]], {"threshold": each})
    return label.transpose(schema.Y, schema.X)


def score_range(scores: xr.DataArray, *, largest: bool | None = None) -> xr.Dataset:
    """The lowest and highest finite score of each class: float64 `low(endmember)`, `high(endmember)`, lazy.

    scores: (endmember, y, x). A class without a finite score gets low = inf, high = -inf. Where the scores are larger
    for the more alike (`largest`; by their name, as in `classify`, where it is not given) also `low_of_largest`: the
    lowest of the largest score of each pixel, from which one threshold for all classes counts. A minimum does not
    depend on the order it is taken in, so the same scores give the same bits on any chunks.
    """
    check_scores(scores)
    finite = np.isfinite(scores)
    over = (schema.Y, schema.X)
    highest = scores.where(finite, -np.inf)
    low = scores.where(finite, np.inf).min(over, skipna=False)
    found = {LOW: low, HIGH: highest.max(over, skipna=False)}
    if of_largest(scores) if largest is None else largest:
        best = highest.max(schema.ENDMEMBER, skipna=False)
        found[LOW_OF_LARGEST] = best.where(best > -np.inf, np.inf).min(over, skipna=False)
    return xr.Dataset(found).astype(np.float64)


def class_names(distance: xr.DataArray) -> list[str]:
    """Names of the classes as flag_meanings wants them."""
    count = distance.sizes[schema.ENDMEMBER]
    named = schema.ENDMEMBER in distance.coords
    return flag_names(distance[schema.ENDMEMBER].values.tolist() if named else [""] * count)


def _label_relative(
    distances: FloatArray, low: FloatArray, high: FloatArray, *, threshold: FloatArray
) -> npt.NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):  # inf - inf of a class without data: NaN, which nothing is below
        limit = low + (high - low) * threshold
    return label_nearest(distances, limit, closed=False)


def common_range(ranges: xr.Dataset) -> xr.Dataset:
    """One range for all classes, the form of one per class kept."""
    one = xr.Dataset({LOW: ranges[LOW].min(schema.ENDMEMBER), HIGH: ranges[HIGH].max(schema.ENDMEMBER)})
    return one.broadcast_like(ranges)


def over_classes(kernel: Any, operands: list[xr.DataArray], options: dict[str, Any]) -> xr.DataArray:
    """Labels (y, x), uint8, by a kernel that takes the classes' values of each pixel last; lazy where they are."""
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


def described(
    label: xr.DataArray,
    scores: xr.DataArray,
    classes: list[str],
    thresholds: FloatArray,
    rule: str,
    *,
    relative: bool,
    largest: bool = False,
) -> xr.DataArray:
    """Labels with the names of their classes, CF's flags and how they were found."""
    measure = str(scores.attrs.get("long_name") or scores.name or "distance")
    units = None if relative else scores.attrs.get("units")
    label.attrs = class_attrs(classes, thresholds.tolist(), measure, rule, units, largest=largest)
    if relative:
        label.attrs["threshold_range"] = "all classes" if thresholds.ndim == 0 else "each class"
    # xarray refuses the name of the grid mapping in both places, and arithmetic drops the encoding.
    if "grid_mapping" in scores.attrs:
        label.attrs["grid_mapping"] = scores.attrs["grid_mapping"]
    elif "grid_mapping" in scores.encoding or schema.GRID_MAPPING in scores.coords:
        label.encoding["grid_mapping"] = scores.encoding.get("grid_mapping", schema.GRID_MAPPING)
    return label.rename(f"{scores.name}_class" if scores.name else "class")


def check_scores(scores: xr.DataArray) -> None:
    """Raises HsiError for anything but scores (endmember, y, x)."""
    if not isinstance(scores, xr.DataArray):
        raise HsiError(f"classify got a {type(scores).__name__}, expected a DataArray of distances such as out.sid")
    wanted = (schema.ENDMEMBER, schema.Y, schema.X)
    if set(scores.dims) != set(wanted):
        hint = "; choose with a list, sel(endmember=['EM1'])" if schema.ENDMEMBER not in scores.dims else ""
        raise HsiError(f"distances have dimensions {scores.dims}, expected {wanted}{hint}")
    if not np.issubdtype(scores.dtype, np.floating):
        raise HsiError(f"distances are {scores.dtype}, expected floating point with NaN for no data")
    count = scores.sizes[schema.ENDMEMBER]
    if not 1 <= count <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"{count} classes, expected 1 to {schema.MAX_ENDMEMBERS}: the labels are one byte; choose some")


def check_relative(relative: bool, limits: Any) -> bool:
    """`relative`; raises HsiError for limits without it."""
    if limits is not None and not relative:
        raise HsiError("limits were given with relative=False, expected only with relative=True; leave one of them out")
    return relative


def check_threshold(
    threshold: Any, classes: list[str], relative: bool, *, signed: bool = False
) -> npt.NDArray[np.float64]:
    """The thresholds as float64, 0-d for one number and (k,) for one per class; `signed` may be below 0."""
    try:
        values = np.asarray(threshold)
    except ValueError:  # a list of lists of different lengths
        values = np.asarray(None)
    if values.dtype.kind not in "iuf":
        raise HsiError(f"threshold is {threshold!r}, expected one number or {len(classes)}, one per class")
    if values.ndim > 1 or (values.ndim == 1 and values.size != len(classes)):
        found = f"thresholds of shape {values.shape}"
        if values.ndim == 1:
            found = f"{values.size} threshold{'s' if values.size != 1 else ''}"
        raise HsiError(f"{found} for {len(classes)} classes ({' '.join(classes)}); give one number, or one per class")
    values = values.astype(np.float64)
    top = 1.0 if relative else np.finfo(np.float64).max
    least = -top if signed and not relative else 0.0
    wrong = values[~((values >= least) & (values <= top))]  # NaN is wrong too
    if wrong.size:
        expected = "a finite number" if signed else "a finite number, 0 or above"
        if relative:
            expected = "a fraction from 0 to 1 (relative=True)"
        raise HsiError(f"threshold {float(wrong.flat[0])} of {values.tolist()}, expected {expected}")
    return values


def check_limits(
    limits: xr.Dataset | Sequence[npt.ArrayLike], distance: xr.DataArray, classes: list[str]
) -> xr.Dataset:
    if isinstance(limits, xr.Dataset):
        if {LOW, HIGH} - set(limits) or limits.sizes.get(schema.ENDMEMBER) != len(classes):
            raise HsiError(f"limits hold {list(limits)} of {dict(limits.sizes)}, expected low and high of {classes}")
        if schema.ENDMEMBER in limits.coords and class_names(limits[LOW]) != classes:
            raise HsiError(f"limits are of {class_names(limits[LOW])}, the distances of {classes}; choose the same")
        found = limits[[name for name in (LOW, HIGH, LOW_OF_LARGEST) if name in limits]]
        found = found.chunk({schema.ENDMEMBER: -1}) if limits.chunks else found
        if schema.ENDMEMBER in distance.coords:  # the names agree, their blanks may not
            found = found.assign_coords({schema.ENDMEMBER: distance[schema.ENDMEMBER]})
        return found.astype(np.float64)
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
