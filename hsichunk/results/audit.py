"""Checks a finished run: a random sample of its pixels, computed again from the tiles by other people's code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.endmembers.library import read_library
from hsichunk.errors import HsiError
from hsichunk.results import reference
from hsichunk.results.audit_checks import check_labels, check_no_data, compare, expected_products
from hsichunk.results.audit_report import Audit
from hsichunk.results.audit_tiles import files_of, spectra_of
from hsichunk.run import folder
from hsichunk.run.record import read_record
from hsichunk.writers import zarr_store


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
    record = read_record(out)
    options = record.options
    stored = zarr_store.open_store(out / folder.STORE)
    em = read_library(out / "endmembers.csv")
    files = files_of(tiles or options.tiles, record)
    rows, cols = stored.sizes[schema.Y], stored.sizes[schema.X]
    picked = _sample(rows * cols, pixels, seed)
    down, across = np.divmod(picked, cols)
    at = {schema.Y: xr.DataArray(down, dims="pixel"), schema.X: xr.DataArray(across, dims="pixel")}
    sample = stored.isel(at).load()
    report = Audit(os.fspath(out), tolerance, rows * cols, len(picked))
    spectra, who, valid = spectra_of(files, em, sample)
    check_no_data(report, sample, valid, options)
    both = valid & np.isfinite(sample[schema.RMSE].values)
    report.valid = int(both.sum())
    names = [str(name) for name in stored[schema.ENDMEMBER].values]
    expected = expected_products(spectra[both], who[both], files, em, names, options)
    solved = sample.isel(pixel=both)
    compare(report, solved, expected)
    check_labels(report, solved, expected, options, stored)
    return report


def _sample(total: int, pixels: int | None, seed: int) -> NDArray[np.int64]:
    if pixels is None or pixels >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, pixels, replace=False))
