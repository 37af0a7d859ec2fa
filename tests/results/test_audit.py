"""The audit of finished runs: it passes what is right, finds what was changed, and its own reference is checked."""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hsichunk.errors import HsiError
from hsichunk.results import reference
from hsichunk.results.audit import audit
from hsichunk.results.audit_report import as_text
from tests.helpers import runs
from tests.helpers.scenes import scene
from tests.helpers.tiles import small_tile

pytest.importorskip("cvxopt", reason="an audit needs the `reference` extra")
pytest.importorskip("pysptools", reason="an audit needs the `reference` extra")

SHAPE = (9, 12)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tile and the results of a run over it, that no test changes."""
    folder = tmp_path_factory.mktemp("audit")
    tile = small_tile(folder / "NEON_tile_reflectance.h5", shape=SHAPE, chunks=(4, 7, 9))
    runs.go(tile, folder / "out", share=1.0, sam_threshold="0.05,0.1,0.1,0.2")
    return tile, folder / "out"


@pytest.fixture
def out(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the results, to change."""
    return Path(shutil.copytree(made[1], tmp_path / "out"))


def change(out: Path, name: str, at: tuple[Any, ...], by: Any) -> float:
    array = zarr.open_group(out / "products.zarr", mode="r+")[name]
    before = array[at]
    array[at] = by(before)
    return float(before)


def valid_pixel(out: Path) -> tuple[int, int]:
    rmse = zarr.open_group(out / "products.zarr", mode="r")["rmse"][...]
    row, col = np.argwhere(np.isfinite(rmse))[57]
    return int(row), int(col)


def test_a_right_run_passes(made: tuple[Path, Path]) -> None:
    before = runs.checksums(made[1])
    report = audit(made[1], pixels=None)
    assert report.passed and report.pixels == report.image == SHAPE[0] * SHAPE[1]
    assert 60 < report.valid < report.pixels and report.left_out == report.wrong_no_data == 0
    assert set(report.differences) == {"abundance", "rmse", "sam", "sid"}
    assert all(0 < each.mean <= each.worst < 1e-6 for each in report.differences.values())
    assert report.wrong_labels == {"sam_class": 0, "sid_class": 0}
    assert runs.checksums(made[1]) == before
    text = as_text(report)
    assert text.endswith("passed") and "DIFFERS" not in text and "abundance" in text
    assert json.loads(json.dumps(report.as_dict()))["passed"] is True


def test_a_sample_is_one_of_all_and_follows_its_seed(made: tuple[Path, Path]) -> None:
    one, again, other = (audit(made[1], pixels=50, seed=seed) for seed in (1, 1, 2))
    assert one.as_dict() == again.as_dict() != other.as_dict()
    assert one.pixels == 50 and one.passed and other.passed


@pytest.mark.parametrize("name", ["abundance", "rmse", "sam", "sid"])
def test_a_changed_product_is_found(out: Path, name: str) -> None:
    row, col = valid_pixel(out)
    at = (row, col) if name == "rmse" else (2, row, col)
    change(out, name, at, lambda v: v + 1e-3)
    report = audit(out, pixels=None)
    assert not report.passed
    worst = report.differences[name]
    assert worst.worst == pytest.approx(1e-3, rel=0.3)  # relative where a divergence is above 1
    stored = runs.products(out)
    assert (worst.y, worst.x) == (float(stored.y[row]), float(stored.x[col]))
    assert all(each.worst < 1e-6 for other, each in report.differences.items() if other != name)
    assert "DIFFERS" in as_text(report) and as_text(report).endswith("FAILED")


@pytest.mark.parametrize("name", ["sam_class", "sid_class"])
@pytest.mark.parametrize("label", ["next", "none"])
def test_a_changed_label_is_found(out: Path, name: str, label: str) -> None:
    classes = zarr.open_group(out / "products.zarr", mode="r")[name][...]
    row, col = (int(v) for v in np.argwhere((classes > 0) & (classes < 255))[5])
    change(out, name, (row, col), lambda v: v % 4 + 1 if label == "next" else 0)
    report = audit(out, pixels=None)
    assert report.wrong_labels == {"sam_class": 0, "sid_class": 0} | {name: 1} and not report.passed
    stored = runs.products(out)
    assert report.first_wrong == {name: (float(stored.y[row]), float(stored.x[col]))}
    assert report.differences["sam"].worst < 1e-6


def test_a_label_of_no_class_is_found(out: Path) -> None:
    classes = zarr.open_group(out / "products.zarr", mode="r")["sam_class"][...]
    row, col = (int(v) for v in np.argwhere(classes == 0)[0])
    change(out, "sam_class", (row, col), lambda v: 3)
    assert audit(out, pixels=None).wrong_labels["sam_class"] == 1


@pytest.mark.parametrize("kind", ["lost", "invented", "partly"])
def test_changed_no_data_is_found(out: Path, kind: str) -> None:
    group = zarr.open_group(out / "products.zarr", mode="r+")
    row, col = valid_pixel(out)
    if kind == "invented":
        row, col = (int(v) for v in np.argwhere(np.isnan(group["rmse"][...]))[0])
    value = np.nan if kind != "invented" else 0.1
    names = ["rmse"] if kind == "partly" else ["abundance", "rmse", "sam", "sid"]
    for name in names:
        group[name][..., row, col] = value
    if kind != "partly":
        for name in ("sam_class", "sid_class"):
            group[name][row, col] = 255 if kind == "lost" else 0
    report = audit(out, pixels=None)
    assert report.wrong_no_data == 1 and not report.passed


def test_changed_endmembers_are_found(out: Path) -> None:
    path = out / "endmembers.csv"
    lines = path.read_text().splitlines()
    cells = lines[10].split(",")
    cells[2] = repr(float(cells[2]) + 0.05)
    path.write_text("\n".join([*lines[:10], ",".join(cells), *lines[11:]]) + "\n")
    report = audit(out, pixels=50)
    assert not report.passed and report.differences["abundance"].worst > 1e-4


@pytest.mark.parametrize(("layout", "thresholds"), [("band", "0.4"), ("slab", "0.5,0.3,0.2,0.1")])
def test_relative_labels_of_other_layouts(tmp_path: Path, layout: str, thresholds: str) -> None:
    chunks = {"band": (*SHAPE, 1), "slab": (5, SHAPE[1], 40)}[layout]
    tile = small_tile(tmp_path / "t_reflectance.h5", shape=SHAPE, chunks=chunks, no_data="none")
    runs.go(
        tile, tmp_path / "out", relative=True, sam_threshold=thresholds, sid_threshold=thresholds, every=2, share=1.0
    )
    report = audit(tmp_path / "out", pixels=100)
    assert report.passed and report.valid == 100
    classes = runs.products(tmp_path / "out").sam_class.values
    row, col = (int(v) for v in np.argwhere(classes > 0)[0])
    change(tmp_path / "out", "sam_class", (row, col), lambda v: 0)
    assert audit(tmp_path / "out", pixels=None).wrong_labels["sam_class"] == 1


def test_overlapping_tiles(tmp_path: Path) -> None:
    """Where tiles overlap the first by name counts, and a hole between them holds nothing."""
    write = partial(small_tile, shape=(12, 20), chunks=(8, 11, 9), no_data="none")
    a = write(tmp_path / "a_reflectance.h5")
    b = write(tmp_path / "b_reflectance.h5", origin=(368010.0, 4307000.0 - 6.0), noise=0.01)
    runs.go([b, a], tmp_path / "out", share=1.0)
    report = audit(tmp_path / "out", pixels=None)
    assert report.passed and report.image == 18 * 30 and report.valid == 2 * 240 - 6 * 10


def test_endmembers_of_each_tile(tmp_path: Path) -> None:
    write = partial(small_tile, shape=(12, 14), chunks=(8, 11, 9), no_data="none")
    a = write(tmp_path / "a_reflectance.h5")
    b = write(tmp_path / "b_reflectance.h5", origin=(368014.0, 4307000.0))
    runs.go([a, b], tmp_path / "out", share=1.0, per_tile=True, k=3)
    report = audit(tmp_path / "out", pixels=None)
    assert report.passed and report.valid == 2 * 12 * 14


def test_pixels_that_the_run_left_out(tmp_path: Path) -> None:
    tile = small_tile(
        tmp_path / "t_reflectance.h5",
        shape=SHAPE,
        no_data="none",
        wavelength=np.linspace(400, 2500, 60),
        chunks=(*SHAPE, 1),
    )
    runs.go(tile, tmp_path / "out", mask=["brightness=0.218:0.223"], share=1.0)
    report = audit(tmp_path / "out", pixels=None)
    assert report.passed and report.left_out > 0 < report.valid and report.left_out + report.valid == report.pixels
    said = json.loads((tmp_path / "out" / "run.json").read_text())
    said["options"]["mask"] = []
    (tmp_path / "out" / "run.json").write_text(json.dumps(said))
    assert audit(tmp_path / "out", pixels=None).wrong_no_data == report.left_out


def test_the_real_crop(shared: Path, tmp_path: Path) -> None:
    from hsichunk.errors import HsiWarning

    tile = next((shared / "neon_sjer").glob("*.h5"))
    with pytest.warns(HsiWarning):
        runs.go(tile, tmp_path / "out", share=1.0)
    with pytest.warns(HsiWarning):
        report = audit(tmp_path / "out", pixels=100)
    assert report.passed and report.valid == 100


# what is refused


def test_tiles_that_have_moved(made: tuple[Path, Path], out: Path, tmp_path: Path) -> None:
    said = json.loads((out / "run.json").read_text())
    said["options"]["tiles"] = [str(tmp_path / "gone" / made[0].name)]
    (out / "run.json").write_text(json.dumps(said))
    with pytest.raises(HsiError, match="is not there any more; say where"):
        audit(out)
    assert audit(out, [made[0]], pixels=20).passed
    other = tmp_path / made[0].name
    other.write_bytes(made[0].read_bytes() + b"x")
    with pytest.raises(HsiError, match="another size"):
        audit(out, [other])
    with pytest.raises(HsiError, match="which is not among the tiles given"):
        audit(out, [tmp_path / "else.h5"])


def test_refused(made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HsiError, match=r"holds no run\.json; expected the folder of a finished run"):
        audit(tmp_path)
    with pytest.raises(HsiError, match="pixels=0"):
        audit(made[1], pixels=0)
    monkeypatch.setitem(sys.modules, "cvxopt", None)
    monkeypatch.setitem(sys.modules, "cvxopt.solvers", None)
    with pytest.raises(HsiError, match=r"pip install 'hsichunk\[reference\]'") as error:
        audit(made[1])
    assert "\n" not in str(error.value)


# the reference itself


@pytest.mark.parametrize("name", ["samson", "dlr"])
def test_reference_abundances_meet_the_conditions(shared: Path, name: str) -> None:
    """Karush-Kuhn-Tucker, checked from the spectra: no direction within the simplex comes nearer."""
    cube, em = scene(shared, name)
    spectra = cube.values.reshape(-1, cube.shape[2]).astype(np.float64)[::97]
    pure = em.values
    got = reference.abundances(spectra, pure)
    assert got.min() >= 0 and np.abs(got.sum(1) - 1).max() < 1e-12
    gain = (spectra - got @ pure) @ pure.T
    scale = np.linalg.norm(spectra, axis=1)[:, None] * np.linalg.norm(pure, axis=1).max()
    level = (gain * got).sum(1, keepdims=True)
    assert ((gain - level) / scale).max() < 1e-11
    assert (np.abs((gain - level) * got) / scale).max() < 1e-11


def test_reference_abundances_at_a_bad_condition() -> None:
    """Endmembers at cond(G) of 1e6 and more, mixtures known: cvxopt alone is 1e-6 off."""
    rng = np.random.default_rng(5)
    base = rng.random(200)
    pure = base + 10.0 ** -np.linspace(0, 3, 6)[:, None] * rng.random((6, 200))
    truth = rng.dirichlet(np.full(6, 0.4), 60)
    truth[truth < 0.05] = 0
    truth /= truth.sum(1, keepdims=True)
    assert np.linalg.cond(pure @ pure.T) > 1e6
    np.testing.assert_allclose(reference.abundances(truth @ pure, pure), truth, atol=1e-9)


def test_reference_distances() -> None:
    a = np.array([[0.0, 0.0, 0.0], [0.2, 0.4, 0.1]])
    e = np.array([[0.1, 0.2, 0.05], [0.4, 0.1, 0.3]])
    got = reference.angles(a, e)
    assert got[0].tolist() == [np.pi / 2] * 2 and got[1, 0] < 3e-8
    p, q = a[1] / a[1].sum(), e[1] / e[1].sum()
    assert reference.differences(a, e).tolist() == [[0.2, 0.4], [0.2, 0.30000000000000004]]
    assert reference.divergences(a, e)[1, 1] == pytest.approx(((p - q) * np.log(p / q)).sum(), rel=1e-12)


def test_labels_within_rounding_are_right() -> None:
    distance = np.array([[0.1, 0.1 + 1e-9], [0.1, 0.2], [0.5, 0.6], [0.2, 0.1], [0.4 + 1e-9, 0.9], [0.4, 0.9]])
    limit = np.array([0.4, 0.4])

    def wrong(*labels: int) -> list[bool]:
        return reference.wrong_labels(np.array(labels), distance, limit, True, 1e-6).tolist()

    assert wrong(1, 1, 0, 2, 0, 1) == wrong(2, 1, 0, 2, 1, 0) == [False] * 6
    assert wrong(0, 2, 1, 1, 2, 2) == [True] * 6
    assert wrong(3, 255, 3, 3, 3, 3) == [True] * 6


def test_numpy_is_left_as_it_is(made: tuple[Path, Path]) -> None:
    audit(made[1], pixels=5)
    assert not hasattr(np, "PINF") and os.path.exists(made[1])
