"""The certificate of `nfindr(refine=True)` alone: the pass that shows no swap to raise the volume, and its floor.

The endmembers are found before, and the subspace; what is measured decodes the tile once and looks at every pixel.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from benchmarks.floor import find, inflate
from benchmarks.rows import Row, clock, interleaved
from benchmarks.tiles import Setting, named, tile


def measure(setting: Setting, done: Sequence[Row]) -> list[Row]:
    """The floor and the certificate in turn; and once how long it took to get there."""
    import dask

    import hsichunk as hsi
    from hsichunk.cube.cube_sample import SAMPLE
    from hsichunk.cube.second_moments import stream
    from hsichunk.cube.spectra_reader import SpectraReader
    from hsichunk.endmembers.nfindr_all_pixels import certificate, refined

    rows = []
    for layout in setting.layouts:
        path = tile(setting, layout)
        floor, cube, k = find(path), hsi.clean(hsi.open_tile(path)), setting.k
        with dask.config.set(num_workers=setting.threads):
            start = time.perf_counter()
            with SpectraReader(cube) as spectra:
                found = refined(spectra, k, sample=SAMPLE, seed=0, maxit=3 * k)
                spent = time.perf_counter() - start
                moments = stream(spectra)
            # other spectra: without what the search may have left in a temporary file
            certify = partial(certificate, SpectraReader(cube), moments.axes(k - 1), moments.mean, found.pixels)
            base, seconds = interleaved(
                setting.repeat, clock(partial(inflate, [floor], setting.threads)), clock(certify)
            )
            largest = certify()
        where = named(layout, setting.sizes.side, setting.sizes.bands)
        numbers = {"largest": largest, "passes": found.passes, "swaps": found.swaps, "search_seconds": spent}
        note = f"k = {k}, {setting.threads} threads; volume times {largest:.12g} at most"
        rows += [
            Row("certificate", where, "floor, beside the certificate", floor.pixels, base),
            Row("certificate", where, "certificate pass", floor.pixels, seconds, {"floor": base}, None, numbers, note),
            Row("certificate", where, "refine=True, with it", floor.pixels, (spent,)),
        ]
    return rows
