"""Checks a finished run: a random sample of its pixels, computed again from the tiles by other people's code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import atomic_files, schema
from hsichunk.array_types import Floats
from hsichunk.endmembers.library import SAME_BAND, read_library
from hsichunk.errors import HsiError
from hsichunk.readers.model import TileFile
from hsichunk.results import reference
from hsichunk.results.independent_values import values_by_others
from hsichunk.run import folder


@dataclass(frozen=True)
class Difference:
    """How far a product lies from the reference, over the sample."""

    worst: float
    mean: float
    y: float
    """where the worst is: pixel centre"""
    x: float


@dataclass
class Audit:
    """What an audit has found. Differences above 1 in size count relative to the reference."""

    out: str
    tolerance: float
    image: int
    """pixels of the whole image"""
    pixels: int = 0
    """pixels looked at"""
    valid: int = 0
    """those with data, computed again"""
    left_out: int = 0
    """those with data in the tile that the run was told to leave out or could not decode"""
    differences: dict[str, Difference] = field(default_factory=dict)
    wrong_labels: dict[str, int] = field(default_factory=dict)
    wrong_no_data: int = 0
    """pixels that hold values without data in the tile, or none with data"""
    first_wrong: dict[str, tuple[float, float]] = field(default_factory=dict)
    """y and x of the first wrong label or no-data"""

    @property
    def passed(self) -> bool:
        near = all(each.worst <= self.tolerance for each in self.differences.values())
        return near and not any(self.wrong_labels.values()) and not self.wrong_no_data

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "out": self.out,
            "passed": self.passed,
            "tolerance": self.tolerance,
            "image": self.image,
            "pixels": self.pixels,
            "valid": self.valid,
            "left_out": self.left_out,
            "differences": {name: vars(each) for name, each in self.differences.items()},
            "wrong_labels": self.wrong_labels,
            "wrong_no_data": self.wrong_no_data,
            "first_wrong": {name: list(at) for name, at in self.first_wrong.items()},
        }


def audit(
    out: str | os.PathLike[str],
    tiles: Sequence[str | os.PathLike[str]] | None = None,
    *,
    pixels: int | None = 200,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> Audit:
    """Computes a random sample of the pixels of a finished run again and compares; needs the `reference` extra.

    The counts come from the tiles (those that run.json names, or `tiles`) through plain h5py, the bands and endmembers
    from endmembers.csv. Abundances are cvxopt's, polished by least squares on their support (SciPy's of a run with
    nnls, NumPy's of one with ucls); SAM, SID and Chebyshev's distance are those of pysptools.distance, SID-SAM is a
    product of the first two, NCC is NumPy's; rmse and labels follow in float64, thresholds from run.json. How
    endmembers were found is not looked into. `pixels` None means all of them. Reads only stored chunks that hold a
    sampled pixel. Writes nothing. Returns an Audit: `passed`, and of each product the worst and mean difference. Raises
    HsiError for a folder that holds no finished run and for tiles that are not those of the run.
    """
    out = Path(out)
    if (pixels is not None and pixels < 1) or not 0 < tolerance < 1:
        raise HsiError(f"pixels={pixels}, tolerance={tolerance}; expected at least one pixel and a tolerance of 0 to 1")
    reference.check_installed()
    said = atomic_files.read_json(out / folder.RUN_JSON)
    if not isinstance(said, dict) or "options" not in said or not (out / folder.STORE).is_dir():
        raise HsiError(
            f"{out}: holds no finished run; expected run.json and {folder.STORE}: hsichunk run TILE --out DIR"
        )
    from hsichunk.writers import zarr_store

    stored = zarr_store.open_store(out / folder.STORE)
    em = read_library(out / "endmembers.csv")
    files = _files(tiles or said["options"]["tiles"], said)
    rows, cols = stored.sizes[schema.Y], stored.sizes[schema.X]
    picked = _sample(rows * cols, pixels, seed)
    down, across = np.divmod(picked, cols)
    at = {schema.Y: xr.DataArray(down, dims="pixel"), schema.X: xr.DataArray(across, dims="pixel")}
    sample = stored.isel(at).load()
    report = Audit(os.fspath(out), tolerance, rows * cols, len(picked))
    excused = bool(said["options"].get("mask") or said["options"].get("on_error", "stop") != "stop")
    spectra, who, valid = _spectra(files, em, sample)
    metrics = tuple(said["options"].get("metric", (schema.SAM, schema.SID)))
    _check_no_data(report, sample, valid, excused, metrics)
    both = valid & np.isfinite(sample[schema.RMSE].values)
    report.valid = int(both.sum())
    names = [str(name) for name in stored[schema.ENDMEMBER].values]
    constraint = str(said["options"].get("solver", schema.FCLS))
    expected = _expected(spectra[both], who[both], files, em, names, metrics, constraint)
    solved = sample.isel(pixel=both)
    _compare(report, solved, expected)
    _check_labels(report, solved, expected, said["options"], stored, metrics)
    return report


def _sample(total: int, pixels: int | None, seed: int) -> NDArray[np.int64]:
    if pixels is None or pixels >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, pixels, replace=False))


def _files(tiles: Sequence[str | os.PathLike[str]], said: dict[str, Any]) -> list[TileFile]:
    """The metadata of the tiles in the order in which they count. Raises HsiError for tiles that are not the run's."""
    from hsichunk.readers import formats

    sizes = {entry["name"]: entry["size"] for entry in said.get("inputs", [])}
    files = []
    for path in sorted({os.fspath(tile) for tile in tiles}, key=lambda p: (os.path.basename(p), p)):
        name = os.path.basename(path)
        if name not in sizes:  # one that the run has left out
            continue
        if not os.path.exists(path):
            raise HsiError(f"{path}: is not there any more; say where the tiles of the run are now")
        file = formats.read(path, floats=True)
        if file.reflectance.stamp[0] != sizes.pop(name):
            raise HsiError(f"{path}: is not the tile that the run read (another size); expected the same file")
        files.append(file)
    if sizes:
        raise HsiError(f"the run read {', '.join(sorted(sizes))}, which is not among the tiles given; give all of them")
    return files


def endmembers_of(em: xr.DataArray, file: TileFile, names: Sequence[str]) -> Floats:
    """The spectra (p, L) that pixels of a file were unmixed with: with --per-tile, those under the tile's name."""
    have = [str(name) for name in em[schema.ENDMEMBER].values]
    if not set(names) <= set(have):
        names = [" ".join(f"{Path(file.path).stem} {name}".split()) for name in names]
    if not set(names) <= set(have):
        raise HsiError(f"endmembers.csv has no {names[0]}, as the products have; run again with --overwrite")
    return em.values[[have.index(name) for name in names]]


def _spectra(
    files: list[TileFile], em: xr.DataArray, sample: xr.Dataset
) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Reflectance (n, L) of the pixels, the file of each (-1: none covers it) and whether it holds data."""
    x, y = sample[schema.X].values, sample[schema.Y].values
    nm = em[schema.WAVELENGTH].values
    spectra = np.full((len(x), len(nm)), np.nan)
    who = np.full(len(x), -1)
    valid = np.zeros(len(x), np.bool_)
    for number, file in enumerate(files):
        rows = np.floor((file.grid.top - y) / file.grid.dy).astype(np.int64)
        cols = np.floor((x - file.grid.left) / file.grid.dx).astype(np.int64)
        high, wide, _ = file.reflectance.shape
        own = np.flatnonzero((who < 0) & (rows >= 0) & (rows < high) & (cols >= 0) & (cols < wide))
        if not len(own):
            continue
        bands = np.abs(file.wavelength[:, None] - nm[None, :]).argmin(0)
        if np.abs(file.wavelength[bands] - nm).max() > SAME_BAND:
            raise HsiError(
                f"{file.path}: its bands are not those of endmembers.csv, they were interpolated (--bands common); "
                "an audit needs tiles of one set of bands"
            )
        counts, readable = values_by_others(file, rows[own], cols[own], bands)
        who[own] = number
        valid[own] = readable & ~(counts == file.no_data).any(1)
        spectra[own] = counts / file.scale
    return spectra, who, valid


def _check_no_data(
    report: Audit, sample: xr.Dataset, valid: NDArray[np.bool_], excused: bool, metrics: tuple[str, ...]
) -> None:
    """Values where the tile has data, and none where it has not, in every product and class map alike."""
    empty = {
        name: np.isnan(sample[name].transpose("pixel", ...).values.reshape(len(valid), -1))
        for name in (schema.ABUNDANCE, schema.RMSE, *metrics)
    }
    labels = [schema.CLASS_OF[metric] for metric in metrics]
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


def _expected(
    spectra: Floats,
    who: NDArray[np.int64],
    files: list[TileFile],
    em: xr.DataArray,
    names: list[str],
    metrics: tuple[str, ...],
    constraint: str,
) -> dict[str, Floats]:
    """The products of the reference: (n, p) or (n,)."""
    shape = (len(spectra), len(names))
    expected: dict[str, Floats] = {name: np.empty(shape) for name in (schema.ABUNDANCE, schema.RMSE, *metrics)}
    expected[schema.RMSE] = np.empty(shape[:1])
    for number in np.unique(who).tolist():
        own, pure = who == number, endmembers_of(em, files[number], names)
        abundance = reference.ABUNDANCES[constraint](spectra[own], pure)
        expected[schema.ABUNDANCE][own] = abundance
        expected[schema.RMSE][own] = reference.rmse(spectra[own], pure, abundance)
        for metric in metrics:
            expected[metric][own] = reference.SCORES[metric](spectra[own], pure)
    return expected


def _compare(report: Audit, sample: xr.Dataset, expected: dict[str, Floats]) -> None:
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


def _check_labels(
    report: Audit,
    sample: xr.Dataset,
    expected: dict[str, Floats],
    options: dict[str, Any],
    stored: xr.Dataset,
    metrics: tuple[str, ...],
) -> None:
    for name in metrics:
        label, sign = schema.CLASS_OF[name], -1 if name in schema.SIMILARITIES else 1
        threshold = np.asarray(options[f"{name}_threshold"], np.float64)
        threshold = threshold[0] if threshold.size == 1 else threshold
        relative = bool(options.get("relative"))
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


def as_text(report: Audit) -> str:
    """A report for people."""
    lines = [
        f"{report.out}: {report.pixels} of {report.image} pixels, {report.valid} computed again"
        + (f", {report.left_out} left out by the run" if report.left_out else ""),
        f"{'':14}{'worst':>10}{'mean':>10}   worst at (x, y); up to {report.tolerance:g} is right",
    ]
    for name, each in report.differences.items():
        mark = "" if each.worst <= report.tolerance else "   DIFFERS"
        lines.append(f"{name:14}{each.worst:10.2g}{each.mean:10.2g}   ({each.x:.10g}, {each.y:.10g}){mark}")
    for name, count in {**report.wrong_labels, "no-data": report.wrong_no_data}.items():
        where = ""
        if count:
            y, x = report.first_wrong[name]
            where = f"   first at ({x:.10g}, {y:.10g})   DIFFERS"
        lines.append(f"{name:14}{count:10} wrong{where}")
    lines.append("passed" if report.passed else "FAILED")
    return "\n".join(lines)
