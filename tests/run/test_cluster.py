"""On a dask cluster, of processes here or started by hand: the same bytes, and nothing lost with a worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hsichunk.errors import HsiError, OptionError
from hsichunk.run import cluster
from hsichunk.run.open_inputs import connected
from hsichunk.run.options import build
from tests.helpers.pages import TEXTS, blocks
from tests.helpers.runs import assert_finished, checksums, go
from tests.helpers.tiles import LAYOUTS, SHAPE, small_tile

pytestmark = pytest.mark.long
SECONDS = 60
SLOWLY = """
import time
from hsichunk.run import cluster

def slowly(*given, then=cluster.run_window):
    time.sleep(0.3)
    return then(*given)

cluster.run_window = slowly
"""


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four tiles of both layouts that share stored chunks of the results, as all lie within 1000 pixels."""
    folder = tmp_path_factory.mktemp("tiles")
    out = []
    for i in range(2):
        for j in range(2):
            origin = 368000.0 + SHAPE[1] * j, 4307000.0 - SHAPE[0] * i
            chunks = LAYOUTS["spatial" if (i + j) % 2 else "band"]
            out.append(small_tile(folder / f"tile_{i}{j}.h5", origin=origin, chunks=chunks))
    return out


@pytest.fixture(scope="module")
def alone(tiles: list[Path]) -> dict[str, str]:
    """Checksums of the run of one process."""
    out = tiles[0].parent / "alone"
    go(tiles, out)
    return checksums(out)


@contextmanager
def started(*words: Any, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of dask's own command line."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + str(words[0]), *map(str, words[1:])],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def scheduler(folder: Path, workers: int, *options: Any) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """`dask scheduler` and `dask worker`s on loopback, as from a shell."""
    from contextlib import ExitStack

    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        stack.enter_context(
            started("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", log=folder / "scheduler.log")
        )
        made = [
            stack.enter_context(
                started(
                    "worker",
                    address,
                    "--nthreads",
                    1,
                    "--no-nanny",
                    "--no-dashboard",
                    "--local-directory",
                    folder / f"w{number}",
                    *options,
                    log=folder / f"worker{number}.log",
                )
            )
            for number in range(workers)
        ]
        yield address, made


def test_a_local_cluster_gives_the_same_bytes(tiles: list[Path], alone: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("bokeh", reason="dask's report needs bokeh")
    report = go(tiles, tmp_path / "out", cluster="local", workers=2, threads=1, profile=str(tmp_path / "report.html"))
    assert checksums(tmp_path / "out") == alone
    assert report["cluster"] == {"workers": 2, "threads": 1}
    assert b"<html" in (tmp_path / "report.html").read_bytes()[:2000]
    again = go(tiles, tmp_path / "out")
    assert again["finished"]  # where it was done does not matter


def test_a_scheduler_and_its_workers_give_the_same_bytes(
    tiles: list[Path], alone: dict[str, str], tmp_path: Path
) -> None:
    with scheduler(tmp_path, 2) as (address, _):
        report = go(tiles, tmp_path / "out", scheduler=address)
    assert checksums(tmp_path / "out") == alone
    assert report["pass"]["chunks"] > 0
    assert_finished(tmp_path / "out")


def test_a_killed_worker_changes_nothing(tiles: list[Path], alone: dict[str, str], tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(SLOWLY)
    out = tmp_path / "out"
    with scheduler(tmp_path, 2, "--preload", slow) as (address, workers):
        command = [sys.executable, "-c", "from hsichunk.cli.main import main; main()", "run", *map(str, tiles)]
        with subprocess.Popen(
            [*command, "--out", str(out), "--scheduler", address], stderr=subprocess.PIPE, text=True
        ) as client:
            try:
                ledger = out / ".hsichunk" / "ledger.jsonl"
                until = time.monotonic() + SECONDS
                while not (ledger.exists() and ledger.stat().st_size):
                    assert client.poll() is None
                    assert time.monotonic() < until
                    time.sleep(0.01)
                workers[0].send_signal(signal.SIGKILL)
                _, said = client.communicate(timeout=SECONDS)
            finally:
                client.kill()
        assert client.returncode == 0, said
    assert checksums(out) == alone


def test_nobody_answers(tiles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(HsiError, match=f"{address}: no dask scheduler answers .*; expected tcp://host:port"):
        go(tiles, tmp_path / "out", scheduler=address)
    assert not (tmp_path / "out").exists()


def test_no_workers(tiles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 3)
    with scheduler(tmp_path, 0) as (address, _):
        until = time.monotonic() + SECONDS
        while True:
            try:
                go(tiles, tmp_path / "out", scheduler=address)
            except HsiError as error:
                if "has no workers" in str(error):
                    break
                assert time.monotonic() < until, error


def test_options_that_do_not_go_together() -> None:
    asking = {"tiles": ["a.h5"], "out": "out"}
    with pytest.raises(OptionError, match="scheduler"):
        build({**asking, "scheduler": "tcp://host:8786", "cluster": "local"})
    with pytest.raises(OptionError, match="cluster is 'slurm'; expected local"):
        build({**asking, "cluster": "slurm"})
    with (
        pytest.raises(HsiError, match="--profile reports on a cluster"),
        connected(build({**asking, "profile": "report.html"})),
    ):
        pass


def test_the_recipe_for_slurm(tiles: list[Path], alone: dict[str, str], tmp_path: Path) -> None:
    """The page's lines, with dask-jobqueue's own stand-in for a batch system: jobs are scripts that it starts here."""
    local = pytest.importorskip("dask_jobqueue.local", reason="dask-jobqueue is not installed")
    [recipe] = [block for block in blocks(TEXTS["cluster.md"], "python") if "SLURMCluster(" in block]
    cut = recipe[recipe.index("cluster = ") : recipe.index("input(")]
    slurm = 'SLURMCluster(cores=8, processes=1, memory="8GB", walltime="02:00:00")'
    assert slurm in cut
    here = (
        f"LocalCluster(cores=1, processes=1, memory='1GB', nanny=False, log_directory={str(tmp_path)!r}, "
        f"local_directory={str(tmp_path)!r}, scheduler_options={{'dashboard_address': None, 'port': 0}})"
    )
    lines = [*cut.replace(slurm, here).replace("jobs=20", "jobs=2").splitlines(), "input()"]
    script = "from dask_jobqueue.local import LocalCluster\nif __name__ == '__main__':\n"
    script += "".join(f"    {line}\n" for line in lines)
    assert local
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    (tmp_path / "recipe.py").write_text(script)
    with subprocess.Popen(
        [sys.executable, "-u", str(tmp_path / "recipe.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("tcp://"), address
            go(tiles, tmp_path / "out", scheduler=address)
        finally:
            process.communicate("\n", timeout=SECONDS)
    assert checksums(tmp_path / "out") == alone
