"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy",
    "numba",
    "h5py",
    "deflate",
    "isal",
    "xarray",
    "dask",
    "zarr",
    "rasterio",
    "scipy",
    "pysptools",
    "cvxopt",
)


def describe() -> dict[str, Any]:
    """Processor, cores, memory, load, Python and the libraries."""
    from hsichunk.threads import available

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_usable": available(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "load": load(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def as_text(machine: dict[str, Any]) -> str:
    """The same in three lines."""
    load = ", ".join(map(str, machine["load"]))
    return "\n".join(
        (
            f"{machine['processor']}, {machine['cores_usable']} of {machine['cores']} cores, "
            f"{machine['memory_bytes'] / 2**30:.1f} GiB, {machine['system']}; load before: {load}",
            f"Python {machine['python']}, " + ", ".join(f"{name} {v}" for name, v in machine["versions"].items()),
        )
    )


def load() -> list[float]:
    """Processes that want to run, over one, five and fifteen minutes: above the cores, seconds mean little."""
    return [round(value, 2) for value in os.getloadavg()]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    named = names.get("model name", platform.processor() or platform.machine())
    family = [f"{key} {names[key]}" for key in ("cpu family", "model") if key in names]
    return f"{named} ({', '.join(family)})" if family else named


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
