"""What two pixels without data and one ten times too bright do to the products of all others: nothing, to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

import hsichunk as hsi
from hsichunk import schema
from tests.helpers.runs import go, products
from tests.helpers.scenes import scene
from tests.helpers.tiles import LAYOUTS, small_tile

MISSING = [(0, 0), (33, 41)]
BRIGHT = (18, 7)
PLANTED = ([0, 33, 18], [0, 41, 7])
STORED = "SERC/Reflectance/Reflectance_Data"


def pair(folder: Path, layout: str) -> tuple[Path, Path]:
    """A tile and the same with the three pixels planted."""
    plain = small_tile(folder / "plain" / "NEON_tile_reflectance.h5", chunks=LAYOUTS[layout], no_data="none")
    spoilt = folder / "spoilt" / plain.name
    spoilt.parent.mkdir()
    shutil.copy(plain, spoilt)
    with h5py.File(spoilt, "r+") as file:
        data = file[STORED]
        for y, x in MISSING:
            assert (data[y, x] != schema.NEON_NO_DATA).all()
            data[y, x] = schema.NEON_NO_DATA
        bright = 10 * data[BRIGHT].astype(np.int64)
        assert 10_000 < bright.max() < 2**15
        data[BRIGHT] = bright
    return plain, spoilt


@pytest.fixture(scope="module", params=LAYOUTS)
def tiles(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "plain").mkdir()
    return pair(folder, request.param)


def others(values: Any) -> Any:
    """Bits of an array (..., y, x) at all pixels but those planted."""
    kept = np.ones(values.shape[-2:], np.bool_)
    kept[PLANTED] = False
    return np.ascontiguousarray(values[..., kept]).view(np.uint8)


def check(plain: xr.Dataset, spoilt: xr.Dataset) -> None:
    """The same bits at all others; at those planted no-data, and a number that is not the one before."""
    assert set(plain.data_vars) == set(spoilt.data_vars)
    for name in plain.data_vars:
        one, two = plain[name].values, spoilt[name].values
        assert one.dtype == two.dtype and one.shape == two.shape
        assert_array_equal(others(one), others(two), err_msg=str(name))
        none = (lambda v: v == schema.CLASS_NO_DATA) if one.dtype == np.uint8 else np.isnan
        for y, x in MISSING:
            assert none(two[..., y, x]).all() and not none(one[..., y, x]).any(), name
        assert not none(two[(..., *BRIGHT)]).any(), name
    assert spoilt.rmse.values[BRIGHT] > 2 * plain.rmse.values[BRIGHT]
    assert (spoilt.chebyshev.values[(..., *BRIGHT)] != plain.chebyshev.values[(..., *BRIGHT)]).any()


def of_functions(cube: xr.DataArray, em: xr.DataArray) -> xr.Dataset:
    """Every product and class map of a lazy cube by the public functions."""
    out = hsi.unmix(cube, em, metric=schema.METRICS)
    out[schema.SID_SAM] = hsi.sid_sam(cube, em)
    out[schema.NCC] = hsi.ncc(cube, em)
    out[schema.CHEBYSHEV] = hsi.chebyshev(cube, em)
    for name in ("ucls", "nnls"):
        solved = getattr(hsi, name)(cube, em)
        out[f"{name}_abundance"], out[f"{name}_rmse"] = solved.abundance, solved.rmse
    for metric in schema.METRICS:
        label = hsi.classify_similarity if metric == schema.NCC else hsi.classify
        out[schema.CLASS_OF[metric]] = label(out[metric], schema.THRESHOLDS[metric])
    assert all(variable.chunks for variable in out.data_vars.values())
    return out.compute()


def test_functions_of_lazy_tiles(tiles: tuple[Path, Path]) -> None:
    plain, spoilt = (hsi.clean(hsi.open_tile(path)) for path in tiles)
    em = hsi.nfindr(plain, 4)
    found = of_functions(plain, em)
    assert len(np.unique(found.sam_class)) > 2  # so that there is something to keep
    check(found, of_functions(spoilt, em))


@pytest.mark.parametrize("chunks", [(7, 11), (40, 3), (95, 95)])
def test_functions_of_lazy_floats(shared: Path, chunks: tuple[int, int]) -> None:
    """Of a real scene."""
    plain, em = scene(shared, "samson")
    spoilt = plain.copy(deep=True)
    for y, x in MISSING:
        spoilt[y, x] = np.nan
    spoilt[BRIGHT] *= 10
    size = dict(zip(("y", "x"), chunks, strict=True))
    check(of_functions(plain.chunk(size), em), of_functions(spoilt.chunk(size), em))


@pytest.mark.parametrize("solver", ["fcls", "nnls", "ucls"])
def test_runs_with_given_endmembers(tiles: tuple[Path, Path], tmp_path: Path, solver: str) -> None:
    em = hsi.nfindr(hsi.clean(hsi.open_tile(tiles[0])), 4)
    library = hsi.write_library(em, tmp_path / "em.csv")
    found = []
    for path in tiles:
        out = tmp_path / path.parent.name
        report = go(path, out, endmembers=str(library), metric=",".join(schema.METRICS), solver=solver)
        assert report["pixels"]["masked"] == (len(MISSING) if path is tiles[1] else 0)
        found.append(products(out))
    assert {schema.ABUNDANCE, schema.RMSE, *schema.METRICS, *schema.CLASS_OF.values()} == set(found[0].data_vars)
    check(*found)
