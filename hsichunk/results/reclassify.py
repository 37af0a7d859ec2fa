"""Write class maps from the stored scores of a finished run: `hsichunk classify`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.classification.class_maps import classify
from hsichunk.errors import HsiError
from hsichunk.run.folder import STORE
from hsichunk.run.option_kinds import numbers
from hsichunk.writers import zarr_store
from hsichunk.writers.geotiff import write_geotiff


def write(
    results: Path,
    metric: str,
    threshold: Sequence[str] | None,
    endmember: Sequence[str] | None,
    relative: bool,
    path: Path | None,
) -> Iterator[str]:
    """Write a class map as GeoTIFF; yield the share of each class, line by line, and the path of the file.

    Reads no tile. Raises HsiError for a folder without results, and for an unknown metric, endmember or threshold.
    """
    stored = zarr_store.open_store(results / STORE)
    metric = metric.lower().replace("-", "_")
    available = [name for name in (*schema.METRICS, schema.ABUNDANCE) if name in stored]
    if metric not in available:
        raise HsiError(f"metric is {metric!r}; expected {' or '.join(available)}, whose scores are in {results}")
    scores = stored[metric]
    if endmember is not None:
        known = scores[schema.ENDMEMBER].values.tolist()
        if unknown := [name for name in endmember if name not in known]:
            raise HsiError(f"endmember {unknown[0]} is not in {results}; expected some of {', '.join(known)}")
        scores = scores.sel({schema.ENDMEMBER: list(endmember)})
    thresholds = numbers("threshold", list(threshold) if threshold else _default_threshold(metric))
    label = classify(scores, thresholds[0] if len(thresholds) == 1 else list(thresholds), relative=relative)
    if path is None:
        rule = "-".join(f"{value:g}" for value in thresholds) + ("_relative" if relative else "")
        path = results / f"{metric}_class_{rule}.tif"
    label = label.persist()
    write_geotiff(label, path)
    yield from shares(label)
    yield str(path)


def _default_threshold(metric: str) -> float:
    return schema.HALF if metric == schema.ABUNDANCE else schema.THRESHOLDS[metric]


def shares(label: xr.DataArray) -> list[str]:
    """Return the share of each class among the pixels that hold data, one line a class."""
    counts = np.bincount(label.values.ravel(), minlength=256)
    valid = max(int(counts[: schema.CLASS_NO_DATA].sum()), 1)
    names = label.attrs["flag_meanings"].split()[:-1]
    return [f"{name:<14} {counts[value] / valid:7.2%}" for value, name in enumerate(names)]
