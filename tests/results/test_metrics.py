"""A row of the table of metrics is all that options, class maps, catalogues, the report and the audit ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hsichunk import metrics, schema
from hsichunk.classification.labels import score_attrs
from hsichunk.metrics import METRICS, Metric
from hsichunk.results import reference
from hsichunk.results.report import tables
from hsichunk.run import options
from hsichunk.run.folder import files
from hsichunk.unmixing.scoring import score_sums
from hsichunk.unmixing.solver import prepare
from tests.helpers.runs import shell

each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def build(**given: Any) -> options.Options:
    return options.build({"tiles": ["x"], "out": "y", **given})


@each_metric
def test_a_run_takes_it_and_names_its_class_map(metric: Metric) -> None:
    word = metric.name.replace("_", "-")
    asked = build(metric=word)
    assert asked.metric == (metric.name,) and asked.products == ("abundance", "rmse", metric.name)
    assert asked.threshold(metric.name) == (metric.threshold,)
    assert build(**{f"{metric.name}_threshold": "0.5"}).threshold(metric.name) == (0.5,)
    assert f"{metric.name}_class.tif" in files([metric.name])


@each_metric
def test_titles_units_and_rules_are_its_own(metric: Metric) -> None:
    assert tables.title(f"{metric.name}_class") == metric.title
    said = score_attrs(metric.name, ["a", "b"], metric.threshold)
    assert metric.long_name in said["long_name"] and said["threshold_units"] == metric.units
    nearest = "largest" if metric.larger_is_nearer else "smallest"
    assert nearest in said["long_name"] and nearest in metric.classes
    assert ("similarity" in said["threshold_rule"]) == metric.larger_is_nearer
    assert metric.lowest <= metric.threshold <= metric.highest
    assert len({m.title for m in METRICS}) == len({m.name for m in METRICS}) == len(METRICS)
    assert set(metric.sums) <= {metrics.LOGARITHMS, metrics.PLAIN_SUM, metrics.FURTHEST}


@each_metric
def test_help_offers_it(metric: Metric) -> None:
    for command in ("run", "classify"):
        status, said = shell(command, "--help")
        assert status == 0 and metric.name.replace("_", "-") in said, command
    assert f"--{metric.name.replace('_', '-')}-threshold" in shell("run", "--help")[1]


@each_metric
def test_its_kernel_and_its_reference_agree(metric: Metric) -> None:
    pytest.importorskip("pysptools.distance", reason="the reference extra")
    from hsichunk.unmixing.count_sums import add_spectra

    rng = np.random.default_rng(0)
    counts, e = rng.integers(1, 9000, (40, 25)).astype(np.int16), rng.uniform(0.01, 0.8, (3, 25))
    solver = prepare(e, "abc", (metric.name,), 1e4, exact=True)
    total, valid = np.zeros((solver.layout.rows, 40)), np.arange(40) != 7
    add_spectra(solver, counts, [(0, 25, 0)], None, slice(0, 40), total, valid)
    found = score_sums(solver, total, valid)[0][metric.name]
    expected = reference.SCORES[metric.name](counts / 1e4, e).T
    assert np.isnan(found[:, 7]).all()
    np.testing.assert_allclose(found[:, valid], expected[:, valid], rtol=1e-6, atol=1e-6)


def test_a_catalogue_has_its_classes() -> None:
    from hsichunk.run.stac import _assets

    assets = _assets(["a"])
    for metric in METRICS:
        assert assets[schema.CLASS_OF[metric.name]]["title"] == metric.classes
