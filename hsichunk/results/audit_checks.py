"""Compare no-data, products and class maps of a sample of pixels with those of the reference, for an audit."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bools, Floats, Ints
from hsichunk.readers.model import TileFile
from hsichunk.results import reference
from hsichunk.results.audit_report import Audit, Difference
from hsichunk.results.audit_tiles import endmembers_of
from hsichunk.run.options import Options


def check_no_data(report: Audit, sample: xr.Dataset, valid: Bools, options: Options) -> None:
    """Note in `report` pixels that hold values without data in the tile, or no values in spite of data there.

    All products and class maps of a pixel must agree. `valid` (n,): whether the tile has data. Pixels without values
    are no fault where a mask or the handling of damaged chunks may have left them out.
    """
    may_leave_out = bool(options.mask) or options.on_error != "stop"
    empty = {
        name: np.isnan(sample[name].transpose("pixel", ...).values.reshape(len(valid), -1))
        for name in (schema.ABUNDANCE, schema.RMSE, *options.metric)
    }
    labels = [schema.CLASS_OF[metric] for metric in options.metric]
    empty |= {name: sample[name].values[:, None] == schema.CLASS_NO_DATA for name in labels}
    all_empty = np.stack([each.all(1) for each in empty.values()]).all(0)
    any_empty = np.stack([each.any(1) for each in empty.values()]).any(0)
    left_out = all_empty & valid
    wrong = (any_empty != all_empty) | (~all_empty & ~valid) | (left_out & (not may_leave_out))
    report.left_out, report.wrong_no_data = int((left_out & ~wrong).sum()), int(wrong.sum())
    _note_first(report, "no-data", wrong, sample)


def _note_first(report: Audit, name: str, wrong: Bools, sample: xr.Dataset) -> None:
    """Note in `report` where the first wrong pixel lies, if there is one."""
    if wrong.any():
        first = int(wrong.argmax())
        report.first_wrong[name] = float(sample[schema.Y].values[first]), float(sample[schema.X].values[first])


def expected_products(
    spectra: Floats,
    file_number: Ints,
    files: list[TileFile],
    endmembers: xr.DataArray,
    names: list[str],
    options: Options,
) -> dict[str, Floats]:
    """Return the products of the reference by name: rmse (n,), abundance and scores (n, k).

    spectra: (n, L) reflectance; file_number: (n,), the index in `files` of the tile that holds each pixel.
    """
    shape = (len(spectra), len(names))
    expected: dict[str, Floats] = {name: np.empty(shape) for name in (schema.ABUNDANCE, schema.RMSE, *options.metric)}
    expected[schema.RMSE] = np.empty(shape[:1])
    for number in np.unique(file_number).tolist():
        own, pure = file_number == number, endmembers_of(endmembers, files[number], names)
        abundance = reference.ABUNDANCES[options.solver](spectra[own], pure)
        expected[schema.ABUNDANCE][own] = abundance
        expected[schema.RMSE][own] = reference.rmse(spectra[own], pure, abundance)
        for metric in options.metric:
            expected[metric][own] = reference.SCORES[metric](spectra[own], pure)
    return expected


def check_products(report: Audit, sample: xr.Dataset, expected: dict[str, Floats]) -> None:
    """Note in `report` the worst and the mean difference of each product from the reference."""
    for name, values in expected.items():
        if not values.size:
            continue
        stored = sample[name].transpose("pixel", ...).values.astype(np.float64)
        with np.errstate(invalid="ignore"):  # both are infinite where SID-SAM is, from a right angle on
            off = np.where(stored == values, 0.0, np.abs(stored - values) / np.maximum(1.0, np.abs(values)))
        off = np.where(np.isnan(off), np.inf, off).reshape(len(values), -1)
        worst = int(off.max(1).argmax())
        y, x = (float(sample[dim].values[worst]) for dim in (schema.Y, schema.X))
        report.differences[name] = Difference(float(off.max()), float(off.mean()), y, x)


def check_labels(
    report: Audit,
    sample: xr.Dataset,
    expected: dict[str, Floats],
    options: Options,
    stored: xr.Dataset,
) -> None:
    """Note in `report` the labels that differ from those of the reference by more than its rounding explains.

    Relative thresholds count over the range of the stored scores of the whole image.
    """
    for name in options.metric:
        label, sign = schema.CLASS_OF[name], -1 if name in schema.SIMILARITIES else 1
        threshold = np.asarray(options.threshold(name), np.float64)
        threshold = threshold[0] if threshold.size == 1 else threshold
        relative = options.relative
        limit = _limits(stored[name], threshold) if relative else threshold
        limit = np.broadcast_to(limit, stored.sizes[schema.ENDMEMBER])
        labels = sample[label].values
        wrong = reference.wrong_labels(labels, sign * expected[name], sign * limit, not relative, report.tolerance)
        report.wrong_labels[label] = int(wrong.sum())
        _note_first(report, label, wrong, sample)


def _limits(scores: xr.DataArray, threshold: Floats) -> Floats:
    """Return limits of thresholds that are shares of the range of the scores over the whole image (PySpTools' rule)."""
    if scores.name in schema.SIMILARITIES:
        near = scores.max(schema.ENDMEMBER) if threshold.ndim == 0 else scores
        low, high = (
            side.values.astype(np.float64) for side in (near.min((schema.Y, schema.X)), near.max((schema.Y, schema.X)))
        )
        return np.asarray(high - (high - low) * threshold)
    scores = scores.where(np.isfinite(scores))
    low = scores.min((schema.Y, schema.X)).values.astype(np.float64)
    high = scores.max((schema.Y, schema.X)).values.astype(np.float64)
    if threshold.ndim == 0:
        low[:], high[:] = np.nanmin(low), np.nanmax(high)
    limits: Floats = np.asarray(low + (high - low) * threshold)
    return limits
