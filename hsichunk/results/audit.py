"""Check a finished run: compute a random sample of its pixels again, from the tiles, by independent code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Ints
from hsichunk.endmembers.library import read_library
from hsichunk.errors import HsiError
from hsichunk.results import reference
from hsichunk.results.audit_checks import check_labels, check_no_data, check_products, expected_products
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
    """Compute a random sample of the pixels of a finished run again and compare; needs the `reference` extra.

    The counts come from the tiles (those that run.json names, or `tiles`) through plain h5py, and those of images
    through GDAL; the bands and endmembers come from endmembers.csv. Abundances are cvxopt's, polished by least squares
    on their support (SciPy's of a run with nnls, NumPy's of one with ucls). SAM, SID and Chebyshev's distance are those
    of pysptools.distance, SID-SAM is a product of the first two, NCC and the correlation angle are NumPy's. rmse and
    labels follow in float64, with the thresholds of run.json. The search for endmembers is not checked.

    `pixels` is the size of the sample, None for all pixels; `seed` draws it. `tolerance` is the largest difference that
    passes, relative to the reference where that is above 1. Only stored chunks that hold a sampled pixel are read, and
    nothing is written. Returns an Audit: whether it `passed`, and the worst and mean difference of each product. Raises
    HsiError for a folder that holds no finished run, for tiles that are not those of the run, and where the extra is
    not installed.
    """
    out = Path(out)
    if (pixels is not None and pixels < 1) or not 0 < tolerance < 1:
        raise HsiError(f"pixels={pixels}, tolerance={tolerance}; expected at least one pixel and a tolerance of 0 to 1")
    reference.check_installed()
    record = read_record(out)
    options = record.options
    stored = zarr_store.open_store(out / folder.STORE)
    endmembers = read_library(out / "endmembers.csv")
    files = files_of(tiles or options.tiles, record)
    rows, cols = stored.sizes[schema.Y], stored.sizes[schema.X]
    chosen = _choose(rows * cols, pixels, seed)
    row, col = np.divmod(chosen, cols)
    sample = stored.isel({schema.Y: xr.DataArray(row, dims="pixel"), schema.X: xr.DataArray(col, dims="pixel")}).load()
    report = Audit(os.fspath(out), tolerance, rows * cols, len(chosen))
    spectra, file_number, valid = spectra_of(files, endmembers, sample)
    check_no_data(report, sample, valid, options)
    comparable = valid & np.isfinite(sample[schema.RMSE].values)
    report.valid = int(comparable.sum())
    names = [str(name) for name in stored[schema.ENDMEMBER].values]
    expected = expected_products(spectra[comparable], file_number[comparable], files, endmembers, names, options)
    solved = sample.isel(pixel=comparable)
    check_products(report, solved, expected)
    check_labels(report, solved, expected, options, stored)
    return report


def _choose(total: int, pixels: int | None, seed: int) -> Ints:
    """Return the numbers of the pixels to check, rising; all of them where `pixels` is None or large enough."""
    if pixels is None or pixels >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, pixels, replace=False))
