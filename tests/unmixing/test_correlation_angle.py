"""The spectral correlation angle: from NumPy's correlation, known angles, the same bits whatever the layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.chunks import columns
from hsichunk.results import reference
from hsichunk.results.audit import audit
from hsichunk.run.make_plan import make_plan
from tests.helpers import image_files
from tests.helpers.cubes import endmembers_of
from tests.helpers.runs import assert_same, endmembers, go, products, shell
from tests.helpers.scenes import scene
from tests.helpers.tiles import LAYOUTS, small_tile

GIVEN: dict[str, Any] = {"metric": "sca", "sca_threshold": 0.2}


def expected_of(x: Any, e: Any) -> Any:
    """By NumPy's correlation (n, p); good to 1e-7, its arccosine to 3e-8 near 0."""
    x, e = np.atleast_2d(x), np.atleast_2d(e)
    r = np.array([[np.corrcoef(one, other)[0, 1] for other in e] for one in x])
    return np.arccos((np.clip(r, -1, 1) + 1) / 2)


def angles(x: Any, e: Any, *, counts: bool = True) -> Any:
    """Of spectra (n, L) and endmembers (p, L) in counts: (n, p), as counts or as floats."""
    x, nm = np.asarray(x), np.arange(np.shape(x)[1]) + 400.0
    cube = hsi.as_cube(x[None].astype(np.int16), nm, scale=1e4) if counts else hsi.as_cube(x[None] / 1e4, nm)
    out = hsi.unmix(cube, endmembers_of(np.asarray(e) / 1e4, nm), solver=None, metric="sca").sca
    assert out.dtype == np.float32 and out.attrs == {"units": "rad", "long_name": "spectral correlation angle"}
    return out.values[:, 0].T


@pytest.mark.parametrize("name", ["samson", "dlr", "neon", "emit"])
def test_real_scenes(shared: Path, name: str) -> None:
    found = scene(shared, name)
    out = hsi.unmix(found.cube, found.endmembers, solver=None, metric=("sca", "ncc")).compute()
    x = found.cube.values.astype(np.float64)
    x = (np.rint(x * 1e4) / 1e4 if found.counts else x).reshape(-1, x.shape[2])
    picked = np.flatnonzero(np.isfinite(x).all(1))
    picked = picked[:: max(1, len(picked) // 300)]
    ours = out.sca.values.reshape(len(found.endmembers), -1)[:, picked].T
    assert len(picked) >= 100 and ours.max() > 0.1
    assert_allclose(ours, expected_of(x[picked], found.endmembers.values), rtol=1e-6, atol=1e-6)
    assert_allclose(ours, reference.correlation_angles(x[picked], found.endmembers.values), rtol=1e-6, atol=1e-6)
    valid = out.ncc.notnull()
    assert_allclose(np.cos(out.sca.astype(float)).where(valid), (out.ncc.astype(float) + 1) / 2, atol=2e-7)
    assert_array_equal(out.sca.isnull(), ~valid)
    lazy = hsi.unmix(found.cube.chunk(y=7, x=9), found.endmembers, solver=None, metric="sca").sca
    assert_array_equal(lazy, out.sca)


@given(st.integers(0, 10**6), st.integers(3, 60), st.booleans())
@settings(max_examples=30, deadline=None)
def test_drawn_spectra(seed: int, bands: int, counts: bool) -> None:
    rng = np.random.default_rng(seed)
    x, e = rng.integers(-300, 9000, (20, bands)), rng.uniform(1, 9000, (3, bands))
    x = x if counts else x + rng.uniform(0, 1, x.shape)
    assert_allclose(angles(x, e, counts=counts), expected_of(x, e), rtol=1e-6, atol=1e-6)


def test_known_angles() -> None:
    e = np.array([[100, 900, 300, 700, 20], [500, 500, 500, 500, 500]])
    x = np.array([e[0], 3 * e[0], 1000 - e[0], e[1], 7 * e[1] + 1, 0 * e[0], 2 * e[0] + 50])
    out = angles(x, e)
    assert (out[:2, 0] == 0).all()  # equal, and a multiple: to the bit
    assert out[2, 0] == np.float32(np.pi / 2)  # opposite
    flat = np.float32(np.pi / 3)  # has no correlation with anything
    assert (out[3:6, 0] == flat).all() and (out[:, 1] == flat).all()
    assert out[6, 0] < 1e-7  # shape is all that counts, up to what rounding leaves
    as_floats = angles(x, e, counts=False)
    assert_allclose(as_floats, out, atol=1e-7)
    assert_allclose(reference.correlation_angles(x, e), out, atol=1e-7)


def test_endmembers_of_any_number_are_at_no_angle_to_themselves() -> None:
    rng = np.random.default_rng(2)
    e = rng.integers(1, 30000, (40, 426))
    out = angles(e, e)
    assert (np.diag(out) == 0).all() and (out + 9 * np.eye(40) > 0.1).all()


def test_no_data_is_none() -> None:
    nm = np.arange(4) + 400.0
    cube = hsi.as_cube(np.array([[[0.1, 0.2, 0.3, 0.1], [0.1, np.nan, 0.3, 0.1]]]), nm)
    out = hsi.unmix(cube, endmembers_of([[0.2, 0.1, 0.4, 0.3]], nm), solver=None, metric="sca").sca
    assert np.isfinite(out[0, 0, 0]) and np.isnan(out[0, 0, 1])


# runs


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    go(small_tile(folder / "NEON_tile_reflectance.h5"), folder / "out", **GIVEN)
    return folder / "out"


def test_a_run_gives_what_unmix_does(done: Path) -> None:
    out, cube = products(done), hsi.clean(hsi.open_tile(done.parent / "NEON_tile_reflectance.h5"))
    em = endmembers(done).assign_coords(wavelength=cube.wavelength.values)
    assert_array_equal(out.sca, hsi.unmix(cube, em, metric="sca").sca)
    assert_array_equal(out.sca_class, hsi.classify(out.sca, 0.2))
    assert len(np.unique(out.sca_class)) > 3
    assert out.sca_class.attrs["long_name"] == "class of the smallest spectral correlation angle"
    assert (done / "sca_class.tif").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["small", "large", "again"])
def test_runs_give_the_same_bits(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, way: str
) -> None:
    """From each layout, beside other metrics, on one thread, and where the sums do not fit the memory."""
    if way != "small":
        monkeypatch.setattr(columns, "SMALL_COLUMN", 0)
        monkeypatch.setattr("hsichunk.run.plan.SMALL_COLUMN", 0)
    tile = small_tile(tmp_path / "NEON_tile_reflectance.h5", chunks=LAYOUTS[layout])
    metric = {"small": "sca", "large": "sam,sca", "again": "sid,ncc,chebyshev,sca"}[way]
    asked = {**GIVEN, "metric": metric, "threads": 1 if way == "large" else 2}
    if way == "again":
        monkeypatch.setattr(
            "hsichunk.run.runner.make_plan",
            lambda *given: replace(make_plan(*given), pass_rows=13, decodes=7, strip_rows=7, together=8),
        )
        with pytest.warns(hsi.HsiWarning, match="sums of 13 rows at a time"):
            go(tile, tmp_path / "out", **asked)
    else:
        go(tile, tmp_path / "out", **asked)
    assert_same(products(done), products(tmp_path / "out"), [*map(str, products(done).data_vars)])


@pytest.mark.parametrize("interleave", ["bsq", "bil"])
def test_floats_are_the_same_bits_from_any_order(tmp_path: Path, interleave: str) -> None:
    rng = np.random.default_rng(0)
    values, nm = rng.uniform(0, 0.7, (30, 25, 24)).astype(np.float32), np.linspace(450.0, 1300.0, 24)
    values[5, 7] = -9999
    made = []
    for order, threads in ((interleave, 1), ("bip", 2)):
        (tmp_path / order).mkdir()
        path = tmp_path / order / "scene.img"
        image_files.write_envi(path, values, order, "data ignore value = -9999\n", nm=nm)
        go(path, path.parent / "out", k=3, threads=threads, metric="sca")
        made.append(products(path.parent / "out"))
    assert_same(made[0], made[1], ["sca", "sca_class"])
    cube = hsi.clean(hsi.open_tile(path))
    em = endmembers(path.parent / "out").assign_coords(wavelength=cube.wavelength.values)
    assert_array_equal(made[0].sca, hsi.unmix(cube, em, solver=None, metric="sca").sca)
    x = np.delete(cube.values.reshape(-1, len(em.wavelength)), 5 * 25 + 7, 0)
    ours = np.delete(made[0].sca.values.reshape(3, -1).T, 5 * 25 + 7, 0)
    assert_allclose(ours, expected_of(x, em.values), atol=1e-6)


def test_classified_again_and_audited(done: Path, tmp_path: Path) -> None:
    words = ("--metric", "sca", "--threshold", "0.3", "--relative", "-o", tmp_path / "other.tif")
    assert shell("classify", done, *words)[0] == 0
    assert (tmp_path / "other.tif").exists()
    pytest.importorskip("pysptools")
    pytest.importorskip("cvxopt")
    report = audit(done, pixels=300)
    assert report.passed, report.as_dict()
    assert report.differences["sca"].worst < 2e-7
    assert report.wrong_labels == {"sca_class": 0}


def test_the_report_and_the_viewer_name_it(done: Path) -> None:
    from hsichunk.results.finished_run import open_results
    from hsichunk.results.viewer.maps import Maps

    assert shell("report", done)[0] == 0
    assert "Map of the SCA classes" in (done / "report.html").read_text()
    assert "SCA classes" in Maps(open_results(done)).layers
