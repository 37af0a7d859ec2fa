"""The lazy products: a task a block, constants in the graph once, nothing decoded twice, whatever is asked for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import dask
import numpy as np
import pytest
import xarray as xr

import hsichunk as hsi
from hsichunk.chunks.array import DECODED
from hsichunk.unmixing.product_rows import ProductRows
from tests.helpers.cubes import chunks_under, cube_of, endmembers_of
from tests.helpers.tiles import WIDE_LAYOUTS, wide_tile

SHAPE = (600, 560)
SMALL = (32, 63, 10)
BANDS = 24
NM = np.linspace(400.0, 2500.0, BANDS).astype(np.float32)


@pytest.fixture(scope="module")
def cube(folder: Path) -> xr.DataArray:
    """Of a tile that is solved in several blocks."""
    return cube_of(wide_tile(folder, SMALL, shape=SHAPE, bands=BANDS))


@pytest.fixture(scope="module")
def em(cube: xr.DataArray) -> xr.DataArray:
    return endmembers_of(np.random.default_rng(0).uniform(0.1, 0.6, (3, cube.shape[2])), cube.wavelength)


def tile_row(folder: Path, apart: int) -> xr.DataArray:
    """Three tiles side by side, `apart` rows out of line."""
    paths = []
    for n in range(3):
        paths.append(folder / f"{apart}-{n}.h5")
        hsi.synthetic.write_tile(
            paths[-1],
            shape=(30, 20),
            chunks=(30, 20, 5),
            wavelength=NM,
            seed=n,
            origin=(368000.0 + 20 * n, 4307000.0 - apart * n),
        )
    return hsi.clean(hsi.open_mosaic(paths))


def test_products_lie_one_after_another() -> None:
    rows = ProductRows(("rmse", "abundance", "sam", "kkt"), 3)
    assert rows.rows == {"rmse": 0, "abundance": slice(1, 4), "sam": slice(4, 7), "kkt": 7}
    stacked = rows.empty((2, 5))
    assert stacked.shape == (rows.count, 2, 5) == (8, 2, 5)
    for number, values in enumerate(rows.split(stacked).values()):
        values.fill(number)  # views
    np.testing.assert_array_equal(stacked[:, 1, 4], [0, 1, 1, 1, 2, 2, 2, 3])


def test_a_block_is_a_task_and_a_slice_of_it_for_each_product(cube: xr.DataArray, em: xr.DataArray) -> None:
    lazy = hsi.unmix(cube, em)
    blocks = lazy.rmse.data.npartitions
    assert blocks > 4
    assert len(dict(lazy.__dask_graph__())) == blocks * (1 + len(lazy)) + 2  # the blocks and the solver, once each
    memory = cube.compute().chunk({"y": 300, "x": 280})
    assert len(dict(hsi.unmix(memory, em).__dask_graph__())) == 4 * (1 + 1 + len(lazy)) + 1


def test_no_task_holds_a_copy_of_what_all_need(cube: xr.DataArray, em: xr.DataArray) -> None:
    """A worker gets each task by itself."""
    graph = dict(dask.optimize(hsi.unmix(cube, em))[0].__dask_graph__())
    tasks = [pickle.dumps(task) for task in graph.values()]
    assert sum(b"Reflectance_Data" in task for task in tasks) == 1
    assert sum(b"EM2" in task for task in tasks) == 1


@pytest.mark.parametrize("chunks", [SMALL, *WIDE_LAYOUTS[1:]])
def test_what_is_written_or_asked_for_alone_is_decoded_once(
    folder: Path, tmp_path: Path, em: xr.DataArray, chunks: tuple[int, int, int]
) -> None:
    cube = cube_of(wide_tile(folder, chunks, shape=SHAPE, bands=BANDS))
    lazy = hsi.unmix(cube, em, certificate=True)
    every = chunks_under(cube, slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    before = DECODED.now()[0]
    stored = hsi.write_zarr(lazy, tmp_path / "products.zarr")
    assert DECODED.now()[0] - before == every
    alone = lazy.sam.compute()
    assert DECODED.now()[0] - before == 2 * every
    assert alone.values.tobytes() == stored.sam.values.tobytes()


def test_a_part_of_the_products_costs_its_own_blocks(cube: xr.DataArray, em: xr.DataArray) -> None:
    lazy = hsi.unmix(cube, em)
    rows, cols = (np.cumsum((0, *sizes)) for sizes in lazy.rmse.chunks)
    before = DECODED.now()[0]
    lazy.isel(y=slice(rows[1], rows[1] + 1), x=slice(cols[1] - 1, cols[1])).compute()
    assert DECODED.now()[0] - before == chunks_under(cube, slice(*rows[1:3]), slice(*cols[:2]))


def test_one_product_does_not_keep_the_others(cube: xr.DataArray, em: xr.DataArray) -> None:
    block = hsi.unmix(cube, em).rmse.data.blocks[0, 0].compute()
    whole = block if block.base is None else block.base
    assert whole.nbytes == block.nbytes


@pytest.mark.parametrize("scaling", [None, "minmax"])
def test_tiles_in_line_need_no_task_to_put_them_together(folder: Path, scaling: Literal["minmax"] | None) -> None:
    in_line, out_of_line = tile_row(folder, 0), tile_row(folder, 7)
    em = endmembers_of(np.random.default_rng(0).uniform(0.1, 0.6, (3, in_line.shape[2])), in_line.wavelength)
    counted = []
    for cube in (in_line, out_of_line):
        lazy = hsi.unmix(cube, em, solver=None, scaling=scaling)
        counted.append(len(dict(lazy.__dask_graph__())))
        before, deep = DECODED.now()[0], np.unique(np.flatnonzero(np.isin(NM, cube.wavelength)) // 5)
        found = lazy.compute()
        if scaling is None:
            assert DECODED.now()[0] - before == 3 * len(deep)
        wanted = hsi.unmix(cube.compute(), em, solver=None, scaling=scaling)
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
            if scaling is None:
                assert found[name].values.tobytes() == wanted[name].values.tobytes()
    assert counted[0] < counted[1]
    if scaling is None:
        assert counted[0] == 3 * (1 + 2) + 2
