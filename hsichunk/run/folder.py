"""The names of the files and folders that a run writes into its folder."""

from __future__ import annotations

from collections.abc import Iterable

from hsichunk import schema

STATE = ".hsichunk"
RUN_JSON = "run.json"
STORE = "products.zarr"


def files(metrics: Iterable[str] = (schema.SAM, schema.SID)) -> tuple[str, ...]:
    """Return the names of the results of a run with these metrics, without run.json."""
    classes = [f"{schema.CLASS_OF[metric]}.tif{suffix}" for metric in metrics for suffix in ("", ".aux.xml")]
    return (STORE, "abundance.tif", "rmse.tif", *classes, "endmembers.csv", "item.json")


FILES = files()
EVERY_FILE = files(schema.METRICS)
LATER = ("report.html", "thresholds.json", "envi", "figures")
"""names of what other commands write into the folder of a run"""
