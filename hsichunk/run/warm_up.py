"""Import slow libraries in a thread while the first chunks are read."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator

from hsichunk.run import interpreter
from hsichunk.unmixing.stored_pass import load_kernels

LATE = (
    "zarr",
    "zarr.codecs",
    "hsichunk.run.product_store",
    "pyproj",
    "rasterio",
    "rasterio.shutil",
    "hsichunk.run.make_record",
)


@contextlib.contextmanager
def importing() -> Iterator[Callable[[], None]]:
    """Import the libraries that writing needs in a thread while the block runs; give a function that waits for them."""

    def work() -> None:
        with contextlib.suppress(Exception):  # the import that needs the library raises it again
            for name in LATE:
                importlib.import_module(name)
            load_kernels()

    thread = threading.Thread(target=work, name="hsichunk-imports", daemon=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(interpreter.loading())
        thread.start()
        stack.callback(thread.join)  # an interpreter that ends in the middle of an import prints a traceback
        yield stack.close
