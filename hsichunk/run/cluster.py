"""The pass on a dask cluster: each task is a window of a tile, solved and written by one worker, noted here.

Only where a tile lies and what came of a window travel through the scheduler. A worker does one task at a time, with
all its threads inside; stored chunks that two tasks share are locked while they are changed.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hsichunk import memory
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

CONNECT_SECONDS = 20
RETRIES = 2  # of a task whose worker failed in a way that is not the data's
_BUSY = threading.Lock()  # of a worker process


@dataclass(frozen=True)
class WorkerTask:
    """A window of a tile as it travels to a worker, which opens the tile itself."""

    path: str
    stamp: tuple[int, int]
    tile: int
    number: int
    top: int
    left: int
    window: Window
    start: int
    wavelength: NDArray[np.float64] | None
    """to which the tile is interpolated; None where its own are right"""


def worker_task(task: WindowTask) -> WorkerTask:
    """The window as it travels to a worker."""
    place = task.place
    file = place.file
    return WorkerTask(
        file.path,
        file.reflectance.stamp,
        task.tile,
        task.number,
        place.top,
        place.left,
        task.window,
        task.start,
        wavelength_of(file),
    )


def wavelength_of(file: model.TileFile) -> NDArray[np.float64] | None:
    """The wavelengths that a tile is interpolated to, None where it is not."""
    return file.reflectance.wavelength if isinstance(file.reflectance, CommonBands) else None


def run_worker_task(settings: PassSettings, given: WorkerTask, threads: int) -> list[tuple[int, Tally]]:
    """Process a window in this worker; the entries for the ledger, which the client writes."""
    file = _open(given.path, given.stamp, given.wavelength)
    place = PlacedTile(file, given.top, given.left, (given.window,))
    counts = place.counts(settings.bands)
    task = WindowTask(given.tile, given.number, place, counts, given.window, given.start)
    entries: list[tuple[int, Tally]] = []
    run_window(settings, task, threads, lambda bottom, share: entries.append((bottom, share)), _guard)
    return entries


@dataclass(frozen=True)
class Draw:
    """Pixels to read from a tile."""

    path: str
    stamp: tuple[int, int]
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    wavelength: NDArray[np.float64] | None


def read_draw(
    common: tuple[NDArray[np.intp], bool], draw: Draw, threads: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Counts of drawn pixels (m, L) and whether they hold data: the sample itself, a few megabytes of a whole site."""
    bands, corrupt = common
    file = _open(draw.path, draw.stamp, draw.wavelength)
    counts = Counts(file.reflectance, bands, file.scale, file.no_data)
    return counts.pixels(draw.rows, draw.cols, threads, corrupt)


def _open(path: str, stamp: tuple[int, int], wavelength: NDArray[np.float64] | None) -> model.TileFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsiWarning)  # said when the run began
        try:
            file = formats.read(path, floats=True)
        except HsiError as error:
            raise HsiError(f"{error} (seen by a worker: tiles and results must lie where all workers reach)") from error
    if tuple(file.reflectance.stamp) != tuple(stamp):
        raise HsiError(f"{path}: changed since the run began, or another file on the worker; run again")
    return file if wavelength is None else on_bands_of(file, wavelength, None)


@contextmanager
def _guard(group: zarr.Group, rows: slice, cols: slice) -> Iterator[None]:
    """Locks the stored chunks that a region covers in part: their rest belongs to other tasks."""
    from distributed import Lock

    from hsichunk import schema

    array: Any = group[schema.RMSE]
    whole, region = Window(0, array.shape[0], 0, array.shape[1]), Window(rows.start, rows.stop, cols.start, cols.stop)
    stored = {
        column: common(chunk_window(column, array.chunks), whole) for column in chunk_columns(region, array.chunks)
    }
    shared = [column for column, chunk in stored.items() if common(chunk, region) != chunk]
    with ExitStack() as held:
        for i, j in shared:  # always in this order: nobody waits in a circle
            held.enter_context(Lock(f"hsichunk {group.store_path} {i} {j}"))
        yield


def _do(function: Callable[..., Any], common: Any, task: Any) -> tuple[bool, Any]:
    """Do a task on a worker, one at a time; errors of the data come back as they are and are not tried again."""
    from distributed import get_worker

    with _BUSY:
        memory.use_one_heap()
        try:
            return True, function(common, task, int(get_worker().state.nthreads))
        except HsiError as error:
            return False, str(error)


class Cluster:
    """A client of a scheduler, and how many threads its workers have at most."""

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address
        workers = client.scheduler_info(n_workers=-1)["workers"]
        self.workers = len(workers)
        self.threads = max((int(worker["nthreads"]) for worker in workers.values()), default=1)

    def each(
        self, function: Callable[[Any, Any, int], Any], common: Any, tasks: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Results of `function(common, task, threads)` with the number of the task, as they come."""
        from distributed import KilledWorker, as_completed

        if not tasks:
            return
        try:
            [spread] = self._client.scatter([common], broadcast=True, hash=False)
            futures = {
                self._client.submit(_do, function, spread, one, retries=RETRIES, pure=False): number
                for number, one in enumerate(tasks)
            }
            waiting = as_completed(futures, with_results=False)
            for future in waiting:
                good, result = self._client.gather(future, direct=False)
                if not good:
                    raise HsiError(result)
                yield futures.pop(future), result
        except KilledWorker as error:
            raise HsiError(
                f"{self._address}: workers died again and again ({one_line(error)}); give them more memory or "
                "a smaller --memory, then the same command goes on"
            ) from error
        except (OSError, TimeoutError) as error:
            raise HsiError(
                f"{self._address}: lost the cluster ({one_line(error)}); the same command goes on"
            ) from error


@contextmanager
def connected(options: Options) -> Iterator[Cluster]:
    """The cluster that the options ask for; a local one ends with the block."""
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        stack.enter_context(
            dask.config.set(
                {"distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s", "distributed.admin.tick.limit": "60s"}
            )
        )
        where: Any = options.scheduler
        if where is None:
            where = stack.enter_context(
                LocalCluster(
                    n_workers=options.workers,
                    threads_per_worker=options.threads,
                    processes=True,
                    memory_limit=0,  # the plan keeps to it; spilling and pausing are for other work
                    dashboard_address=":0",  # any free port: another cluster may have the usual one
                )
            )
        try:
            client = stack.enter_context(Client(where, timeout=CONNECT_SECONDS, set_as_default=False))
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
        _prepare(client, name, ours=options.scheduler is None)
        with _profiled(options.profile, client):
            yield cluster


def _prepare(client: Client, name: str, ours: bool) -> None:
    """Has every worker load what the work needs, and finds those that cannot. `ours`: they do nothing but this run."""
    for worker, version in client.run(_version, ours, on_error="return").items():
        from hsichunk.version import __version__

        if version != __version__:
            found = version if isinstance(version, str) else one_line(version)
            raise HsiError(f"{name}: worker {worker} has hsichunk {found}; expected {__version__}: install it")


def _version(ours: bool) -> str:
    from hsichunk.version import __version__

    with interpreter.dedicated() if ours else nullcontext(), interpreter.loading():
        load_kernels()
    return __version__


@contextmanager
def _profiled(path: str | None, client: Client) -> Iterator[None]:
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
