"""Do the pass on a dask cluster: each worker solves and writes one window at a time, this process keeps the ledger.

Only the description of a task and the tally of a window travel through the scheduler. A worker does one task at a time,
with all its threads inside. A task locks the stored chunks that it shares with other tasks while it changes them.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from hsichunk import memory
from hsichunk.array_types import Bools, Floats, Positions
from hsichunk.chunks.counts import Counts
from hsichunk.chunks.windows import Window, chunk_columns, chunk_window, common
from hsichunk.errors import HsiError, HsiWarning, one_line
from hsichunk.mosaic.common_bands import CommonBands, on_bands_of
from hsichunk.mosaic.site import PlacedTile
from hsichunk.readers import formats, model
from hsichunk.run import interpreter
from hsichunk.run.options import Options
from hsichunk.run.window_task import PassSettings, WindowTask, run_window
from hsichunk.unmixing.scoring import Tally
from hsichunk.unmixing.stored_pass import load_kernels

if TYPE_CHECKING:
    import zarr
    from distributed import Client

Settings = TypeVar("Settings")
Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_SECONDS = 20
RETRIES = 2  # of a task that fails, or loses its worker, for another reason than an error of the data
_BUSY = threading.Lock()  # held by the one task that this worker process does


@dataclass(frozen=True)
class WorkerTask:
    """A window of a tile as it travels to a worker, which opens the tile itself."""

    path: str
    stamp: tuple[int, int]
    """of the file when the run began"""
    tile_number: int
    number: int
    """of the window in the tile"""
    top: int
    left: int
    """row and column of the common grid at which the tile begins"""
    window: Window
    start: int
    """row of the tile from which on nothing is stored"""
    wavelength: Floats | None
    """to which the tile is interpolated; None where it is not"""


def worker_task(task: WindowTask) -> WorkerTask:
    """Return a window as it travels to a worker."""
    tile = task.tile
    file = tile.file
    return WorkerTask(
        file.path,
        file.reflectance.stamp,
        task.tile_number,
        task.number,
        tile.top,
        tile.left,
        task.window,
        task.start,
        wavelength_of(file),
    )


def wavelength_of(file: model.TileFile) -> Floats | None:
    """Return the wavelengths that a tile is interpolated to; None where it is not."""
    return file.reflectance.wavelength if isinstance(file.reflectance, CommonBands) else None


def run_worker_task(settings: PassSettings, worker_task: WorkerTask, threads: int) -> list[tuple[int, Tally]]:
    """Process a window in this worker; return row and tally of each entry of the ledger, which the client writes."""
    file = _open(worker_task.path, worker_task.stamp, worker_task.wavelength)
    window = worker_task.window
    tile = PlacedTile(file, worker_task.top, worker_task.left, (window,))
    counts = tile.counts(settings.bands)
    task = WindowTask(worker_task.tile_number, worker_task.number, tile, counts, window, worker_task.start)
    entries: list[tuple[int, Tally]] = []
    run_window(settings, task, threads, lambda bottom, tally: entries.append((bottom, tally)), _guard)
    return entries


@dataclass(frozen=True)
class Draw:
    """Pixels to read from a tile in a worker."""

    path: str
    stamp: tuple[int, int]
    """of the file when the run began"""
    rows: Positions
    cols: Positions
    wavelength: Floats | None
    """to which the tile is interpolated; None where it is not"""


def read_draw(settings: tuple[Positions, bool], draw: Draw, threads: int) -> tuple[NDArray[np.generic], Bools]:
    """Return the stored values (m, L) of drawn pixels and whether they hold data (m,).

    `settings` are the kept bands, and whether pixels of bad chunks are left out. The samples of all tiles together are
    a few megabytes.
    """
    bands, corrupt = settings
    file = _open(draw.path, draw.stamp, draw.wavelength)
    counts = Counts(file.reflectance, bands, file.scale, file.no_data)
    return counts.pixels(draw.rows, draw.cols, threads, corrupt)


def _open(path: str, stamp: tuple[int, int], wavelength: Floats | None) -> model.TileFile:
    """Read the metadata of a tile in a worker. Raises HsiError where the file is not the one that the client read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsiWarning)  # the client has given these warnings when the run began
        try:
            file = formats.read(path, floats=True)
        except HsiError as error:
            raise HsiError(f"{error} (seen by a worker: tiles and results must lie where all workers reach)") from error
    if tuple(file.reflectance.stamp) != tuple(stamp):
        raise HsiError(f"{path}: changed since the run began, or another file on the worker; run again")
    return file if wavelength is None else on_bands_of(file, wavelength, None)


@contextmanager
def _guard(group: zarr.Group, rows: slice, cols: slice) -> Iterator[None]:
    """Lock the stored chunks that a region covers only in part: other tasks write the rest of them."""
    import zarr
    from distributed import Lock

    from hsichunk import schema

    rmse = group[schema.RMSE]
    assert isinstance(rmse, zarr.Array)
    image, region = Window(0, rmse.shape[0], 0, rmse.shape[1]), Window(rows.start, rows.stop, cols.start, cols.stop)
    stored = {column: common(chunk_window(column, rmse.chunks), image) for column in chunk_columns(region, rmse.chunks)}
    shared = [column for column, chunk in stored.items() if common(chunk, region) != chunk]
    with ExitStack() as locks:
        for i, j in shared:  # every task takes locks in this order, so that no two wait for each other
            locks.enter_context(Lock(f"hsichunk {group.store_path} {i} {j}"))
        yield


@dataclass(frozen=True)
class Failure:
    """An error of the data on a worker: it travels as a result, so that dask does not try the task again."""

    message: str


def _do(function: Callable[[Settings, Task, int], Result], settings: Settings, task: Task) -> Result | Failure:
    """Do a task on a worker, one at a time."""
    from distributed import get_worker

    with _BUSY:
        memory.use_one_heap()
        try:
            return function(settings, task, int(get_worker().state.nthreads))
        except HsiError as error:
            return Failure(str(error))


class Cluster:
    """A client of a scheduler, with the number of workers and the most threads of any worker."""

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address
        workers = client.scheduler_info(n_workers=-1)["workers"]
        self.workers = len(workers)
        self.threads = max((int(worker["nthreads"]) for worker in workers.values()), default=1)

    def each(
        self, function: Callable[[Settings, Task, int], Result], settings: Settings, tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Yield the number of each task and the result of `function(settings, task, threads)`, as they are done.

        Raises HsiError for the first error of the data, and where the workers or the scheduler are lost.
        """
        from distributed import KilledWorker, as_completed

        if not tasks:
            return
        try:
            [scattered] = self._client.scatter([settings], broadcast=True, hash=False)
            futures = {
                self._client.submit(_do, function, scattered, task, retries=RETRIES, pure=False): number
                for number, task in enumerate(tasks)
            }
            for future in as_completed(futures, with_results=False):
                result: Result | Failure = self._client.gather(future, direct=False)
                if isinstance(result, Failure):
                    raise HsiError(result.message)
                yield futures.pop(future), result
        except KilledWorker as error:
            raise HsiError(
                f"{self._address}: workers died again and again ({one_line(error)}); give them more memory or "
                "a smaller --memory, then run the same command again: it resumes"
            ) from error
        except (OSError, TimeoutError) as error:
            raise HsiError(
                f"{self._address}: lost the cluster ({one_line(error)}); run the same command again: it resumes"
            ) from error


@contextmanager
def connected(options: Options) -> Iterator[Cluster]:
    """Connect to the cluster that the options ask for, or start a local one, which ends with the block.

    Raises HsiError where no scheduler answers, and where it has no workers or workers of another version.
    """
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        stack.enter_context(
            dask.config.set(
                {"distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s", "distributed.admin.tick.limit": "60s"}
            )
        )
        scheduler: str | LocalCluster | None = options.scheduler
        if scheduler is None:
            scheduler = stack.enter_context(
                LocalCluster(
                    n_workers=options.workers,
                    threads_per_worker=options.threads,
                    processes=True,
                    memory_limit=0,  # the plan keeps to the memory: dask must neither spill nor pause
                    dashboard_address=":0",  # any free port: another cluster may use the default one
                )
            )
        try:
            client = stack.enter_context(Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, TimeoutError, ValueError) as error:
            raise HsiError(
                f"{options.scheduler}: no dask scheduler answers ({one_line(error)}); expected tcp://host:port"
            ) from error
        name = options.scheduler or "the local cluster"
        if options.scheduler:
            try:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            except TimeoutError as error:
                raise HsiError(f"{name}: has no workers; start some with: dask worker {name}") from error
        stack.enter_context(client.as_current())
        cluster = Cluster(client, name)
        _prepare(client, name, dedicated=options.scheduler is None)
        with _profiled(options.profile):
            yield cluster


def _prepare(client: Client, name: str, dedicated: bool) -> None:
    """Have every worker load the compiled kernels. `dedicated`: the workers do nothing but this run.

    Raises HsiError for a worker that cannot load them, or that has another version of hsichunk.
    """
    from hsichunk.version import __version__

    for worker, version in client.run(_version, dedicated, on_error="return").items():
        if version != __version__:
            reason = version if isinstance(version, str) else one_line(version)
            raise HsiError(f"{name}: worker {worker} has hsichunk {reason}; expected {__version__}: install it")


def _version(dedicated: bool) -> str:
    """Load the kernels in this worker and return its version of hsichunk."""
    from hsichunk.version import __version__

    with interpreter.dedicated() if dedicated else nullcontext(), interpreter.loading():
        load_kernels()
    return __version__


@contextmanager
def _profiled(path: str | None) -> Iterator[None]:
    """Write dask's performance report of the block to `path`, if there is one."""
    if path is None:
        yield
        return
    from distributed import performance_report

    with ExitStack() as stack:
        try:
            stack.enter_context(performance_report(filename=path))
        except ImportError as error:
            raise HsiError("--profile needs bokeh: pip install 'hsichunk[view]'") from error
        yield
