"""From distances to a class map: the nearest endmember of every pixel, where it is near enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.class_labels import DISTANCE_RULE, FloatArray, class_attrs, flag_names, label_nearest
from hsichunk.errors import HsiError

# The range of each class's distances, as score_range gives it and classify(limits=) takes it.
LOW = "low"
HIGH = "high"


def classify(
    distance: xr.DataArray,
    threshold: float | Sequence[float] | npt.NDArray[Any],
    *,
    relative: bool = False,
    limits: xr.Dataset | Sequence[npt.ArrayLike] | None = None,
) -> xr.DataArray:
    """Label every pixel with the endmember it is nearest to, if that one is within its threshold.

    distance: float (endmember, y, x), SAM in radians, SID in nats or any other distance; NaN = no data; dask or NumPy.
    threshold: one number for all classes, or one per class in the order of `distance.endmember`.

    Absolute (the default): a class is a candidate where distance <= threshold, the threshold rounded to the dtype of
    the distances. `relative=True` is the rule of PySpTools 0.15 (classification/cls.py): each threshold, 0..1, is a
    fraction of the range of distances over the whole image, and a class is a candidate where
    distance < low + (high - low) * threshold. With one number the range is that of all classes together; with one per
    class, each class's own. No-data and infinite distances are left out of the ranges.
    Among the candidates the smallest distance wins, and the first endmember where two are equal.

    `limits` (relative only) gives the ranges instead: the Dataset of `hsichunk.classification.score_range`, or a pair
    (low, high) of numbers or of one number per class. Without it a dask-backed relative map holds the distances in
    memory from the ranges to the labels (4 k bytes a pixel), so that nothing is read twice; with computed limits it
    streams.

    Returns uint8 (y, x) named `<distance>_class`: 0 where no class is a candidate, 1..k, 255 where every distance is
    NaN; with CF flag_values and flag_meanings. Lazy where the distances are. HsiError on thresholds that are not
    finite, negative, of the wrong number or (relative) above 1, and on more than 254 classes.
    """
    check_distance(distance)
    classes = class_names(distance)
    thresholds = _check_threshold(threshold, classes, relative)
    if limits is not None and not relative:
        raise HsiError("limits were given with relative=False, expected only with relative=True; leave one of them out")
    if distance.chunks is not None:
        distance = distance.chunk({schema.ENDMEMBER: -1})

    each = np.broadcast_to(thresholds, len(classes))
    if relative:
        ranges = score_range(distance) if limits is None else _check_limits(limits, distance, classes)
        if thresholds.ndim == 0:
            ranges = _common_range(ranges)
        operands = [distance, ranges[LOW], ranges[HIGH]]
        label = over_classes(_label_relative, operands, {"threshold": each})
    else:
        label = over_classes(label_nearest, [distance], {"limit": each.astype(distance.dtype), "closed": True})
    rule = "distance < low + (high - low) * threshold" if relative else DISTANCE_RULE
    return described(label.transpose(schema.Y, schema.X), distance, classes, thresholds, rule, relative=relative)


def score_range(distance: xr.DataArray) -> xr.Dataset:
    """The lowest and highest finite distance of each class: float64 `low(endmember)`, `high(endmember)`, lazy.

    distance: (endmember, y, x). A class without a finite distance gets low = inf, high = -inf. A minimum does not
    depend on the order it is taken in, so the same distances give the same bits on any chunks.
    """
    check_distance(distance)
    finite = np.isfinite(distance)
    over = (schema.Y, schema.X)
    low = distance.where(finite, np.inf).min(over, skipna=False)
    high = distance.where(finite, -np.inf).max(over, skipna=False)
    return xr.Dataset({LOW: low, HIGH: high}).astype(np.float64)


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


def _common_range(ranges: xr.Dataset) -> xr.Dataset:
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


def check_distance(distance: xr.DataArray) -> None:
    """Raises HsiError for anything but distances (endmember, y, x)."""
    if not isinstance(distance, xr.DataArray):
        raise HsiError(f"classify got a {type(distance).__name__}, expected a DataArray of distances such as out.sid")
    wanted = (schema.ENDMEMBER, schema.Y, schema.X)
    if set(distance.dims) != set(wanted):
        hint = "; choose with a list, sel(endmember=['EM1'])" if schema.ENDMEMBER not in distance.dims else ""
        raise HsiError(f"distances have dimensions {distance.dims}, expected {wanted}{hint}")
    if not np.issubdtype(distance.dtype, np.floating):
        raise HsiError(f"distances are {distance.dtype}, expected floating point with NaN for no data")
    count = distance.sizes[schema.ENDMEMBER]
    if not 1 <= count <= schema.MAX_ENDMEMBERS:
        raise HsiError(f"{count} classes, expected 1 to {schema.MAX_ENDMEMBERS}: the labels are one byte; choose some")


def _check_threshold(threshold: Any, classes: list[str], relative: bool) -> npt.NDArray[np.float64]:
    """The thresholds as float64, 0-d for one number and (k,) for one per class."""
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
    wrong = values[~((values >= 0) & (values <= top))]  # NaN is wrong too
    if wrong.size:
        expected = "a fraction from 0 to 1 (relative=True)" if relative else "a finite number, 0 or above"
        raise HsiError(f"threshold {float(wrong.flat[0])} of {values.tolist()}, expected {expected}")
    return values


def _check_limits(
    limits: xr.Dataset | Sequence[npt.ArrayLike], distance: xr.DataArray, classes: list[str]
) -> xr.Dataset:
    if isinstance(limits, xr.Dataset):
        if {LOW, HIGH} - set(limits) or limits.sizes.get(schema.ENDMEMBER) != len(classes):
            raise HsiError(f"limits hold {list(limits)} of {dict(limits.sizes)}, expected low and high of {classes}")
        if schema.ENDMEMBER in limits.coords and class_names(limits[LOW]) != classes:
            raise HsiError(f"limits are of {class_names(limits[LOW])}, the distances of {classes}; choose the same")
        found = limits[[LOW, HIGH]].chunk({schema.ENDMEMBER: -1}) if limits.chunks else limits[[LOW, HIGH]]
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
