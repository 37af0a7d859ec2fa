"""Settings and fixtures of the whole suite: quick processes and disks, the real data, the proof that dask is idle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

# Before anything imports matplotlib or NumPy, and for the processes that tests start. The commands of hsichunk give
# BLAS one thread, too: its threads wait for work in a loop, which took a fifth of the processor time of the suite.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", MPLBACKEND="Agg")

import dask
import pytest
from hypothesis import settings

# The first example of a test may be the one that compiles a kernel.
settings.register_profile("hsichunk", deadline=None)
settings.load_profile("hsichunk")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the project; a test that asks for it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def no_sync() -> Iterator[None]:
    """Nothing that a test writes needs to outlast the machine, so that fsync does nothing.

    Processes that tests start sync as users' do. Tests of what is synced put a function of their own in its place.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@contextmanager
def raise_if_dask_computes() -> Iterator[None]:
    """Inside the block any dask computation, in whatever scheduler, is an error that names what was asked for."""

    def refuse(graph: Any, keys: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"dask was asked to compute {str(keys)[:200]}, in a block that must stay lazy")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def no_compute() -> Callable[[], AbstractContextManager[None]]:
    """`with no_compute(): ...` fails when the block computes anything through dask."""
    return raise_if_dask_computes


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `wide_tile`, whose tiles many modules read."""
    return tmp_path_factory.mktemp("wide")


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A `small_tile` in each of its layouts, for reading alone."""
    from tests.helpers.tiles import LAYOUTS, read_only, small_tile

    folder = tmp_path_factory.mktemp("small")
    return {name: read_only(small_tile(folder / f"{name}.h5", chunks=chunks)) for name, chunks in LAYOUTS.items()}
