"""The pass in memory: a tile to abundance, rmse, SAM and SID, over the floor of the same tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import xarray as xr

from benchmarks.floor import find, inflate
from benchmarks.rows import Row, clock, interleaved
from benchmarks.tiles import Setting, named, tile


def endmembers(path: Path, k: int) -> xr.DataArray:
    """Endmembers of a tile, as a run finds them."""
    import hsichunk as hsi

    return hsi.nfindr(hsi.clean(hsi.open_tile(path)), k, seed=0)


def lazy(path: Path, spectra: xr.DataArray, threads: int, *, solved: bool = True) -> xr.Dataset:
    """SAM, SID and, where `solved`, abundances of a tile by the public calls, from its path to arrays in memory."""
    import dask

    import hsichunk as hsi

    with dask.config.set(scheduler="threads", num_workers=threads), hsi.open_tile(path) as opened:
        return hsi.unmix(hsi.clean(opened), spectra, solver="fcls" if solved else None).compute()


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """Floor, the pass in this process and the pass through dask, in turn."""
    rows = []
    for layout in setting.layouts:
        path = tile(setting, layout)
        floor, spectra = find(path), endmembers(path, setting.k)
        works = (
            clock(partial(inflate, [floor], setting.threads)),
            clock(_direct(path, spectra, setting.threads)),
            clock(partial(lazy, path, spectra, setting.threads)),
        )
        base, direct, dask = interleaved(setting.repeat, *works)
        where = named(layout, setting.sizes.side, setting.sizes.bands)
        kept = f"k = {setting.k}, {spectra.sizes['wavelength']} bands, {setting.threads} threads"
        rows += [
            Row("pass", where, "floor, beside the pass", floor.pixels, base),
            Row("pass", where, "column.solve_window", floor.pixels, direct, {"floor": base}, note=kept),
            Row(
                "pass", where, "hsi.unmix(...).compute()", floor.pixels, dask, {"floor": base}, note="opening included"
            ),
        ]
    return rows


def _direct(path: Path, spectra: xr.DataArray, threads: int) -> Callable[[], object]:
    """The pass without labels and graph; what it needs of the metadata is read before, as for the floor."""
    import hsichunk as hsi
    from hsichunk import schema
    from hsichunk.chunks.windows import Window
    from hsichunk.cube.cleaning import source_of
    from hsichunk.unmixing.solver import prepare
    from hsichunk.unmixing.stored_pass import solve_window

    source = source_of(hsi.clean(hsi.open_tile(path)))
    assert source is not None
    counts = source[0]
    names = [str(name) for name in spectra[schema.ENDMEMBER].values]
    solver = prepare(spectra.values, names, schema.PRODUCTS, counts.scale, exact=True)
    rows, cols, _ = counts.stored.shape
    return partial(solve_window, counts, solver, Window(0, rows, 0, cols), threads)
