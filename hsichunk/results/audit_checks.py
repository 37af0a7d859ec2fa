"""What an audit compares: no-data, products and class maps of a sample of pixels with those of the reference."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Floats
from hsichunk.readers.model import TileFile
from hsichunk.results import reference
from hsichunk.results.audit_report import Audit, Difference
from hsichunk.results.audit_tiles import endmembers_of
from hsichunk.run.options import Options


def check_no_data(report: Audit, sample: xr.Dataset, valid: NDArray[np.bool_], options: Options) -> None:
    """Values where the tile has data, and none where it has not, in every product and class map alike."""
    excused = bool(options.mask) or options.on_error != "stop"
    empty = {
        name: np.isnan(sample[name].transpose("pixel", ...).values.reshape(len(valid), -1))
        for name in (schema.ABUNDANCE, schema.RMSE, *options.metric)
    }
    labels = [schema.CLASS_OF[metric] for metric in options.metric]
    empty |= {name: sample[name].values[:, None] == schema.CLASS_NO_DATA for name in labels}
    none = np.stack([each.all(1) for each in empty.values()]).all(0)
    some = np.stack([each.any(1) for each in empty.values()]).any(0)
    left_out = none & valid
    wrong = (some != none) | (~none & ~valid) | (left_out & (not excused))
    report.left_out, report.wrong_no_data = int((left_out & ~wrong).sum()), int(wrong.sum())
    _note(report, "no-data", wrong, sample)


def _note(report: Audit, name: str, wrong: NDArray[np.bool_], sample: xr.Dataset) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        report.first_wrong[name] = float(sample[schema.Y].values[first]), float(sample[schema.X].values[first])


def expected_products(
    spectra: Floats,
    who: NDArray[np.int64],
    files: list[TileFile],
    em: xr.DataArray,
    names: list[str],
    options: Options,
) -> dict[str, Floats]:
    """The products of the reference: (n, p) or (n,)."""
    shape = (len(spectra), len(names))
    expected: dict[str, Floats] = {name: np.empty(shape) for name in (schema.ABUNDANCE, schema.RMSE, *options.metric)}
    expected[schema.RMSE] = np.empty(shape[:1])
    for number in np.unique(who).tolist():
        own, pure = who == number, endmembers_of(em, files[number], names)
        abundance = reference.ABUNDANCES[options.solver](spectra[own], pure)
        expected[schema.ABUNDANCE][own] = abundance
        expected[schema.RMSE][own] = reference.rmse(spectra[own], pure, abundance)
        for metric in options.metric:
            expected[metric][own] = reference.SCORES[metric](spectra[own], pure)
    return expected


def compare(report: Audit, sample: xr.Dataset, expected: dict[str, Floats]) -> None:
    for name, theirs in expected.items():
        if not theirs.size:
            continue
        ours = sample[name].transpose("pixel", ...).values.astype(np.float64)
        with np.errstate(invalid="ignore"):  # both infinite: SID-SAM from a right angle on
            off = np.where(ours == theirs, 0.0, np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs)))
        off = np.where(np.isnan(off), np.inf, off).reshape(len(theirs), -1)
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
        _note(report, label, wrong, sample)


def _limits(scores: xr.DataArray, threshold: Floats) -> Floats:
    """Thresholds that are shares of the range of the stored scores over the whole image (PySpTools' rule)."""
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
