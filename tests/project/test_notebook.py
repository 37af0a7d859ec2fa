"""The lesson as a notebook: it runs from top to bottom, stays lazy, and leaves what it says."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pytest
import rasterio
import xarray as xr

import hsichunk as hsi

pytestmark = pytest.mark.long

NOTEBOOK = Path(__file__).resolve().parents[2] / "scripts" / "neon_lesson.ipynb"
SIDE = 120


def notebook() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def code_cells() -> list[dict[str, Any]]:
    return [cell for cell in notebook()["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


class Done(NamedTuple):
    """What the cells left: their names, how many figures each drew, and the folder."""

    names: dict[str, Any]
    figures: dict[str, int]
    folder: Path


def execute(cell: dict[str, Any], names: dict[str, Any]) -> None:
    """Runs a cell, and makes the text of what a notebook would display."""
    body = ast.parse(source(cell)).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), cell["id"], "exec"), names)
    if last is None:
        return
    value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
    if not source(cell).endswith(";"):
        assert getattr(value, "_repr_html_", value.__repr__)()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The whole notebook, in a folder of its own, on a small tile."""
    folder = tmp_path_factory.mktemp("notebook")
    names: dict[str, Any] = {}
    figures = {}
    plt.close("all")  # what other tests have left
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.chdir(folder)
        for cell in code_cells():
            execute(cell, names)
            figures[source(cell)] = len(plt.get_fignums())
            plt.close("all")
            if "parameters" in cell["metadata"].get("tags", ()):
                assert names["SIDE"] > SIDE
                names["SIDE"] = SIDE
    return Done(names, figures, folder / names["OUT"])


def test_the_file_is_clean() -> None:
    found = notebook()
    assert (found["nbformat"], found["metadata"]["kernelspec"]["name"]) == (4, "python3")
    ids = [cell["id"] for cell in found["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in code_cells():
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        ast.parse(source(cell))  # no magics, no shell
    assert [cell["metadata"] for cell in code_cells()].count({"tags": ["parameters"]}) == 1


def test_every_step_says_what_pysptools_needs() -> None:
    text = [source(cell) for cell in notebook()["cells"] if cell["cell_type"] == "markdown"]
    steps = [cell for cell in text if cell.startswith("## ") and not cell[3].isdigit()]
    assert [step.splitlines()[0] for step in steps if "**PySpTools**" not in step] == []
    assert len(steps) == 5
    exercises = [cell for cell in text for line in cell.splitlines() if line.startswith("## ") and line[3].isdigit()]
    assert len(exercises) == 5


def test_it_never_loads_the_tile(done: Done, no_compute: Callable[[], AbstractContextManager[None]]) -> None:
    names = {"hsi": hsi, "path": done.folder / done.names["path"].name, "em": done.names["em"]}
    displays = [cell for cell in code_cells() if source(cell).splitlines()[-1] in ("tile", "cube", "products")]
    assert len(displays) == 3
    with no_compute():
        for cell in displays:
            execute(cell, names)
    assert names["cube"].chunks is not None
    for kept in (names, done.names):
        assert not kept["tile"].reflectance.variable._in_memory
        assert all(variable.chunks is not None for variable in kept["products"].data_vars.values())


def test_it_leaves_its_files(done: Done) -> None:
    left = sorted(path.name for path in done.folder.iterdir() if path.suffix != ".xml")
    tile = "NEON_D02_SERC_DP3_368000_4306000_reflectance.h5"
    assert left == sorted([tile, "products.zarr", "abundance.tif", "sid_class.tif", "sam_class.tif"])
    products = xr.open_zarr(done.folder / "products.zarr", decode_coords="all")
    assert set(products.data_vars) == {"abundance", "rmse", "sam", "sid"}
    for metric in ("sam", "sid"):
        scores = products[metric].sel(endmember=done.names["chosen"])
        expected = hsi.classify(scores, [0.8, 0.3, 0.03], relative=True).values
        with rasterio.open(done.folder / f"{metric}_class.tif") as raster:
            np.testing.assert_array_equal(raster.read(1), expected)
    with rasterio.open(done.folder / "abundance.tif") as raster:
        assert (raster.count, raster.shape) == (4, (SIDE, SIDE))


def test_pictures_are_drawn_where_it_draws(done: Done) -> None:
    for text, count in done.figures.items():
        assert count == text.count("hsi.plot."), text
    assert sum(done.figures.values()) == 8


def test_tables_say_what_the_maps_show(done: Done) -> None:
    names, products = done.names, done.names["products"]
    valid = products.rmse.notnull().values
    np.testing.assert_allclose(names["mean"].sum(), 1, atol=1e-5)
    assert names["chosen"] == [name for name in names["mean"].index if names["mean"][name] > names["mean"].min()]

    agreement = names["table"](names["sam_class"], names["sid_class"])
    assert agreement.loc["All", "All"] == 100
    sam, sid = (names[f"{metric}_class"].values[valid] for metric in ("sam", "sid"))
    first, second = names["chosen"][1:]
    assert agreement.loc[first, second] == pytest.approx(100 * np.mean((sam == 2) & (sid == 3)))

    thresholds = names["thresholds"]
    assert len(thresholds) == 16
    np.testing.assert_allclose(thresholds.sum(axis=1), 100)
    nearest = products.sam.sel(endmember=names["chosen"]).min("endmember").values[valid]
    left_out = 100 * (nearest > np.float32(0.1)).mean()
    assert thresholds.loc[("sam", "absolute", 0.1), "unclassified"] == pytest.approx(left_out)


def test_exercises_find_what_was_mixed(done: Done) -> None:
    """Four materials were mixed into the synthetic tile."""
    names = done.names
    counts = names["counts"]
    assert counts["HySime"] == 4
    assert 2 <= counts["NWHFC"] <= 4 < counts["HFC"]
    rmse = names["rmse"]
    assert list(rmse.index) == [2, 3, 4, 5, 6]
    assert rmse[4] < rmse[3] / 3
    assert rmse[6] > rmse[4] / 3
    assert list(names["agreement"].columns) == ["sam", "sid"]
    assert names["agreement"].to_numpy().max() > 90


def test_fewer_bands_give_nearly_the_same_classes(done: Done) -> None:
    bands = done.names["bands"]
    assert bands["bands"].tolist() == [362, 181, 73, 37]
    assert bands["same class (%)"].loc[1] == 100
    assert (bands["same class (%)"] > 80).all()
    assert (bands["seconds"] > 0).all()
    turned = done.names["em"].isel(endmember=[2, 0, 3, 1])
    back = done.names["in_order_of"](done.names["em"], turned)
    np.testing.assert_array_equal(back.values, done.names["em"].values)
