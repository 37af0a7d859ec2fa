"""The names of what a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Iterable

from hsichunk import schema

STATE = ".hsichunk"
RUN_JSON = "run.json"
STORE = "products.zarr"


def files(metrics: Iterable[str] = (schema.SAM, schema.SID)) -> tuple[str, ...]:
    """What a finished run with some metrics has left, run.json aside."""
    classes = [f"{schema.CLASS_OF[metric]}.tif{also}" for metric in metrics for also in ("", ".aux.xml")]
    return (STORE, "abundance.tif", "rmse.tif", *classes, "endmembers.csv", "item.json")


FILES = files()
EVERY_FILE = files(schema.METRICS)
LATER = ("report.html", "thresholds.json", "envi", "figures")
"""what other commands add to it"""
