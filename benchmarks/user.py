"""The products of a tile as one would write them with h5py and dask: `from_array`, then `map_blocks`.

SAM and SID by NumPy, FCLS by SPAMS, the fastest solver there is besides; without it (`pip install spams-bin`) SAM and
SID alone, for hsichunk, too. Over band chunks each block decodes the whole tile, so a few blocks are worked and the
rest is extrapolated.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from benchmarks.floor import find, inflate
from benchmarks.one_pass import endmembers, lazy
from benchmarks.rows import Row, clock, interleaved
from benchmarks.tiles import Setting, kept_bands, named, say, tile

SCALE, NO_DATA, TINY = np.float32(1e-4), -9999, np.float32(1e-4)
SOLVED = importlib.util.find_spec("spams") is not None
PRODUCTS = ("sam", "sid", "abundance", "rmse") if SOLVED else ("sam", "sid")
JOB = "all four products" if SOLVED else "SAM and SID alone"


def products(block: NDArray[np.int16], kept: NDArray[np.bool_], spectra: NDArray[np.float64]) -> NDArray[np.float32]:
    """PRODUCTS one after the other (rows, columns, layers) of a block of counts; endmembers (p, bands), reflectance."""
    counts = block[..., kept]
    x = counts.astype(np.float32) * SCALE
    e = spectra.astype(np.float32)
    lengths = np.linalg.norm(x, axis=-1, keepdims=True) * np.linalg.norm(e, axis=-1)
    out = np.empty((*x.shape[:2], layers(len(e))), np.float32)
    out[..., : len(e)] = np.arccos(np.clip(x @ e.T / lengths, -1, 1))
    p = np.maximum(x, TINY)
    p /= p.sum(-1, keepdims=True)
    logs = np.log(p)
    for i, spectrum in enumerate(np.maximum(e, TINY)):
        q = spectrum / spectrum.sum()
        out[..., len(e) + i] = ((p - q) * (logs - np.log(q))).sum(-1)
    if SOLVED:
        shares = fcls(x, e)
        out[..., 2 * len(e) : -1] = shares
        out[..., -1] = np.sqrt(np.square(x - shares @ e).mean(-1))
    out[(counts == NO_DATA).any(-1)] = np.nan
    return out


def fcls(x: NDArray[np.float32], e: NDArray[np.float32]) -> NDArray[np.float32]:
    """Abundances (rows, columns, p) of spectra (rows, columns, bands); SPAMS stops early on small numbers."""
    import spams

    columns = np.asfortranarray(100 * x.reshape(-1, x.shape[-1]).T, np.float64)
    found = spams.decompSimplex(columns, np.asfortranarray(100 * e.T, np.float64), computeXtX=True, numThreads=1)
    return np.asarray(found.toarray().T.reshape(*x.shape[:2], len(e)), np.float32)


def layers(p: int) -> int:
    """Layers of PRODUCTS of p endmembers."""
    return 3 * p + 1 if SOLVED else 2 * p


def work(path: Path, spectra: xr.DataArray, side: int, threads: int, blocks: int | None = None) -> NDArray[np.float32]:
    """`products` of a tile, or of its first few blocks, in blocks of `side` pixels."""
    import dask.array as da
    import h5py

    with np.errstate(all="ignore"), h5py.File(path) as file:
        group = next(group["Reflectance"] for group in file.values() if "Reflectance" in group)
        data = group["Reflectance_Data"]
        kept = kept_bands(np.ravel(group["Metadata/Spectral_Data/Wavelength"]))
        cube = da.from_array(data, chunks=(side, side, data.shape[2]))  # type: ignore[no-untyped-call]
        if blocks is not None:
            cube = cube[:side, : blocks * side]
        size = (*cube.chunks[:2], (layers(len(spectra)),))
        meta = np.empty((0, 0, 0), np.float32)
        lazily = cube.map_blocks(products, kept, spectra.values, dtype=np.float32, chunks=size, meta=meta)
        out: NDArray[np.float32] = lazily.compute(scheduler="threads", num_workers=threads)
    return out


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """Floor, hsichunk asked for the same products, and the user's own code, in turn."""
    rows: list[Row] = []
    for layout in setting.layouts:
        path, side = tile(setting, layout), setting.sizes.window
        floor, spectra = find(path), endmembers(path, setting.k)
        every = -(-floor.shape[0] // side) * -(-floor.shape[1] // side)
        blocks = setting.sizes.windows if layout == "band" else None
        say(f"user: {layout}")
        base, ours, theirs = interleaved(
            setting.few,
            clock(partial(inflate, [floor], setting.threads)),
            clock(partial(lazy, path, spectra, setting.threads, solved=SOLVED)),
            clock(partial(work, path, spectra, side, setting.threads, blocks)),
            warm=False,
        )
        where = named(layout, setting.sizes.side, setting.sizes.bands)
        what = f"h5py + dask.map_blocks, blocks {side} x {side}"
        rows.append(Row("user", where, f"hsichunk, {JOB}", floor.pixels, ours, {"floor": base}))
        if blocks is None:
            against = {"floor": base, "hsichunk": ours}
            rows.append(Row("user", where, what, floor.pixels, theirs, against, note=JOB))
        else:
            share = f"{blocks} of {every} blocks"
            rows.append(Row("user", where, what, blocks * side * side, theirs, note=f"{share}; {JOB}"))
            whole = tuple(s * every / blocks for s in theirs)
            numbers = {"blocks": blocks, "of_blocks": every}
            against = {"floor": base, "hsichunk": ours}
            note = f"extrapolated: the row above x {every} / {blocks}"
            rows.append(Row("user", where, f"{what}, whole tile", floor.pixels, whole, against, None, numbers, note))
    return rows
