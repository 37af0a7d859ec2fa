"""Libraries that load beside the first reading."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Iterator

from hsichunk.unmixing.stored_pass import load_kernels

LATE = (
    *("zarr", "zarr.codecs", "hsichunk.run.product_store"),
    *("pyproj", "rasterio", "rasterio.shutil"),
    "hsichunk.run.summary",
)
SWITCH = 2e-4  # seconds


@contextlib.contextmanager
def importing() -> Iterator[Callable[[], None]]:
    """Imports what writing needs while the first tiles are read; gives a function that waits for it."""

    def work() -> None:
        with contextlib.suppress(Exception):  # said where it is needed
            for name in LATE:
                importlib.import_module(name)
            load_kernels()

    thread = threading.Thread(target=work, name="hsichunk-imports", daemon=True)
    # a thread that inflates needs the interpreter for a moment per chunk, and would wait 5 ms for it each time
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    # numba looks for the BLAS of SciPy, which no kernel here calls: 0.2 s and 20 MB. None: it is not found
    sys.modules.setdefault("scipy.linalg", None)  # type: ignore[arg-type]
    thread.start()

    def done() -> None:
        thread.join()
        sys.setswitchinterval(interval)
        if sys.modules.get("scipy.linalg", sys) is None:
            del sys.modules["scipy.linalg"]

    try:
        yield done
    finally:
        done()  # an interpreter that ends in the middle of an import says so at length
