"""What writers leave in a folder, and a write that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


SLOW_WRITE = """
import pathlib, sys, time
import dask.array as da, numpy as np, xarray as xr
import hsichunk

def slow(block, block_info=None):
    if block_info[0]["chunk-location"] == (3, 0):
        pathlib.Path(sys.argv[2]).touch()
        time.sleep(120)
    return block

blocks = da.ones((400, 100), chunks=100).map_blocks(slow, meta=np.empty((0, 0)))
lazy = xr.DataArray(blocks, dims=("y", "x"), coords={"y": -np.arange(400.0), "x": np.arange(100.0)}, name="rmse")
path = pathlib.Path(sys.argv[1])
if path.suffix == ".zarr":
    hsichunk.write_zarr(lazy, path, overwrite=True)
else:
    hsichunk.write_geotiff(lazy, path)
"""


def kill_while_writing(target: Path) -> None:
    """Start a write of four blocks in another process, and kill it when it computes the last one."""
    reached = target.with_name("reached")
    process = subprocess.Popen([sys.executable, "-c", SLOW_WRITE, str(target), str(reached)])
    try:
        for _ in range(1200):
            if reached.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        time.sleep(0.3)  # for the blocks before it
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert reached.exists()
    reached.unlink()
