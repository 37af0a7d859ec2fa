"""`source_of`: a selection of a cleaned cube is known for what it is, and nothing else ever is.

A false recognition would be a silent wrong number, so whatever is recognised is read from the file and compared.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import hsichunk as hsi
from hsichunk.cube.cleaning import as_reflectance, source_of
from tests.helpers.tiles import Counter, counts, write_counts

SHAPE = (40, 50, 24)
STORED = {
    "spatial": {"chunks": (8, 13, 5), "compression": "gzip"},
    "band": {"chunks": (40, 50, 1), "compression": "gzip"},
    "contiguous": {},
}
Change = Callable[[xr.DataArray], Any]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiles")
    return {name: write_counts(folder / f"{name}.h5", counts(SHAPE), **how) for name, how in STORED.items()}


KINDS = ("one block", "many blocks", "by band", "engine")


@pytest.fixture(scope="module")
def cubes(paths: dict[str, Path]) -> dict[str, xr.DataArray]:
    """A cube in one block, two in many, and one of a tile that was opened with chunks."""
    many = hsi.open_tile(paths["spatial"]).chunk({"y": 9, "x": 20, "wavelength": 7})
    return {
        "one block": hsi.clean(hsi.open_tile(paths["contiguous"]), drop_last=2),
        "many blocks": hsi.clean(many, drop_last=2),
        "by band": hsi.clean(hsi.open_tile(paths["band"]).chunk({"wavelength": 1}), drop_last=2),
        "engine": hsi.clean(xr.open_dataset(paths["spatial"], engine="neon", chunks={}), drop_last=2),
    }


def shown(cube: xr.DataArray) -> NDArray[np.float32] | None:
    """What source_of says that a cube shows, read from the file."""
    with Counter() as decoded:
        found = source_of(cube)
    assert decoded.chunks == 0
    if found is None:
        return None
    source, rows, cols = found
    assert (np.diff(source.bands) > 0).all()
    stored = source.stored.read(rows, cols, source.bands)
    values: NDArray[np.float32] = as_reflectance(stored, source.scale, source.no_data)
    return values


SELECTIONS: dict[str, Change] = {
    "itself": lambda c: c,
    "rows": lambda c: c.isel(y=slice(5, 23)),
    "columns": lambda c: c.isel(x=slice(12, None)),
    "window": lambda c: c.isel(y=slice(7, 9), x=slice(25, 27)),
    "of a window": lambda c: c.isel(y=slice(7, 35)).isel(y=slice(2, 20), x=slice(3, 40)).isel(x=slice(10, 20)),
    "steps": lambda c: c.isel(y=slice(1, None, 3), x=slice(None, None, 7)),
    "backwards": lambda c: c.isel(y=slice(None, None, -1)),
    "backwards twice": lambda c: c[::-1, ::-2][::-1],
    "list": lambda c: c.isel(y=[3, 30, 31, 8]),
    "list with repeats": lambda c: c.isel(x=[0, 0, 49, 0]),
    "lists of two dimensions": lambda c: c.isel(y=[39, 0], x=[7, 21, 45]),
    "mask": lambda c: c.isel(y=(np.arange(40) % 3 == 0), x=np.arange(50) > 20),
    "one pixel": lambda c: c.isel(y=[10], x=[20]),
    "bands": lambda c: c.isel(wavelength=slice(3, 15)),
    "bands by step": lambda c: c.isel(wavelength=slice(1, None, 4)),
    "bands by list": lambda c: c.isel(wavelength=[2, 3, 17]),
    "by label": lambda c: c.sel(y=slice(4306990.0, 4306970.0), x=slice(368010.0, 368030.0)),
    "by nearest label": lambda c: c.sel(x=[368010.2, 368030.1], wavelength=[500.0, 2000.0], method="nearest"),
    "of where a label is": lambda c: c.isel(y=np.flatnonzero(c.y.values > 4306980.0)),
    "head and thin": lambda c: c.head(y=30).thin(x=2),
    "sorted": lambda c: c.sortby("y"),
    "reindexed to what is there": lambda c: c.reindex(y=c.y[5:9]),
    "copy": lambda c: c.copy(),
    "shallow copy": lambda c: c.copy(deep=False),
    "pickled": lambda c: pickle.loads(pickle.dumps(c)),
    "pickled window": lambda c: pickle.loads(pickle.dumps(c.isel(y=slice(3, 9)))),
    "renamed": lambda c: c.rename("rho"),
    "other attributes": lambda c: c.assign_attrs(units="changed", counts_per_unit=1.0),
    "other coordinates": lambda c: c.assign_coords(y=np.arange(40.0), band=("wavelength", np.arange(c.shape[2]))),
    "through a dataset": lambda c: c.to_dataset(name="a")["a"],
    "through a dataset, cut": lambda c: c.to_dataset(name="a").isel(y=slice(2, 5))["a"],
    "there and back": lambda c: c.transpose("wavelength", "x", "y").transpose("y", "x", "wavelength"),
    "there, cut and back": lambda c: c.T.isel(x=slice(3, 9), y=[1, 30]).transpose("y", "x", "wavelength"),
    "dimensions renamed there and back": lambda c: c.rename(y="row").isel(row=slice(3, 4)).rename(row="y"),
    "rechunked": lambda c: c.chunk({"y": 11, "x": 17, "wavelength": -1}),
    "rechunked and cut": lambda c: c.chunk({"y": 11}).isel(y=slice(10, 25)).chunk({"y": 4, "wavelength": 5}),
    "cut and rechunked": lambda c: c.isel(y=slice(None, None, -1), x=[1, 40, 3]).chunk({"y": 7, "x": 2}),
    "same type": lambda c: c.astype("float32"),
    "not a mean": lambda c: (c.mean("y"), c)[1],
}
ORDERS: dict[str, Change] = {
    "transposed": lambda c: c.transpose("wavelength", "y", "x"),
    "turned": lambda c: c.isel(y=slice(3, 20)).T,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*SELECTIONS, *ORDERS])
def test_selections_are_known(cubes: dict[str, xr.DataArray], name: str, kind: str) -> None:
    chosen = {**SELECTIONS, **ORDERS}[name](cubes[kind])
    found = shown(chosen)
    assert found is not None
    assert_array_equal(found, chosen.transpose("y", "x", "wavelength").values)


def test_positions_are_those_of_the_file(cubes: dict[str, xr.DataArray]) -> None:
    for cube in cubes.values():
        found = source_of(cube.isel(y=slice(30, 2, -4), x=[3, 44], wavelength=slice(2, 9)))
        assert found is not None
        source, rows, cols = found
        assert rows.tolist() == [30, 26, 22, 18, 14, 10, 6]
        assert cols.tolist() == [3, 44]
        all_bands = source_of(cube)
        assert all_bands is not None
        assert_array_equal(source.bands, all_bands[0].bands[2:9])
        assert (source.scale, source.no_data) == (10000.0, -9999)


def test_a_window_of_a_tile_keeps_its_place(paths: dict[str, Path]) -> None:
    tile = hsi.open_tile(paths["spatial"]).isel(y=slice(10, 30), x=slice(None, None, -3), wavelength=slice(4, None))
    for lazy in (tile, tile.chunk({"y": 6, "wavelength": 3}), tile.transpose("wavelength", "x", "y")):
        found = source_of(hsi.clean(lazy).isel(y=slice(2, 4)))
        assert found is not None
        source, rows, cols = found
        assert rows.tolist() == [12, 13]
        assert cols.tolist() == list(range(49, -1, -3))
        assert source.bands[0] == 4


def setitem(cube: xr.DataArray) -> xr.DataArray:
    cube = cube.copy()
    cube[dict(y=3)] = 0.5
    return cube


def data_setitem(cube: xr.DataArray) -> xr.DataArray:
    cube = cube.copy()
    cube.data[3] = 0.5
    return cube


def in_place(cube: xr.DataArray) -> xr.DataArray:
    cube = cube.copy()
    cube *= 2
    return cube


def optimized(cube: xr.DataArray) -> xr.DataArray:
    return dask.optimize(cube * 2)[0]


def double(block: Any) -> Any:
    return block * 2


def named(name: str) -> Change:
    """A function of the user's whose layer is called as dask calls slicing."""
    return lambda c: c.copy(data=c.data.map_blocks(double, name=f"{name}-{tokenize(c)}", dtype="f4"))


def constant(cube: xr.DataArray) -> xr.DataArray:
    def getitem(block: Any) -> Any:
        return np.zeros(block.shape, np.float32)

    return cube.copy(data=cube.data.map_blocks(getitem, dtype="f4"))


def one_block_of_many(cube: xr.DataArray) -> xr.DataArray:
    """Blocks that do not line up: each block of rows but the first shows other columns."""

    def getitem(block: Any, block_info: Any = None) -> Any:
        return block[:, ::-1, :] if block_info and block_info[0]["chunk-location"][0] else block[:, :, :]

    return cube.copy(data=cube.data.map_blocks(getitem, dtype="f4"))


COMPUTED: dict[str, Change] = {
    "plus": lambda c: c + 0.0,
    "times": lambda c: c * 2,
    "negative": lambda c: -c,
    "absolute": abs,
    "power": lambda c: c**2,
    "comparison": lambda c: (c > 0.2).astype("f4"),
    "in place": in_place,
    "item assigned": setitem,
    "item of data assigned": data_setitem,
    "where": lambda c: c.where(c > 0.1),
    "where by label": lambda c: c.where(c.x > 368020.0),
    "where, other": lambda c: xr.where(c.x > 368020.0, c, 0.0).transpose("y", "x", "wavelength"),
    "fillna": lambda c: c.fillna(0),
    "clip": lambda c: c.clip(0, 1),
    "round": lambda c: c.round(2),
    "float64": lambda c: c.astype("f8"),
    "float64 and back": lambda c: c.astype("f8").astype("f4"),
    "int": lambda c: (c * 1e4).astype("i2"),
    "view": lambda c: c.copy(data=c.data.view("i4")),
    "roll": lambda c: c.roll(x=3),
    "shift": lambda c: c.shift(x=3),
    "pad": lambda c: c.pad(x=2),
    "rolling": lambda c: c.rolling(x=3).mean(),
    "coarsen": lambda c: c.coarsen(x=2).mean(),
    "interp": lambda c: c.interp(wavelength=[500.0, 600.0]),
    "reindexed to what is not": lambda c: c.reindex(x=np.arange(368000.5, 368060.5)),
    "cumulative": lambda c: c.cumsum("wavelength"),
    "difference": lambda c: c.diff("wavelength"),
    "rank of wavelengths": lambda c: c - c.mean("wavelength"),
    "sum of two": lambda c: c + c,
    "sum of windows": lambda c: c.isel(y=slice(0, 5)) + c.isel(y=slice(5, 10)).values,
    "apply_ufunc": lambda c: xr.apply_ufunc(double, c, dask="parallelized", output_dtypes=["f4"]),
    "apply_ufunc, allowed": lambda c: xr.apply_ufunc(np.sqrt, c, dask="allowed"),
    "map_blocks": lambda c: c.copy(data=c.data.map_blocks(double)),
    "xr.map_blocks": lambda c: xr.map_blocks(double, c, template=c),
    "map_overlap": lambda c: c.copy(data=c.data.map_overlap(double, depth=1, boundary="none")),
    "named getitem": named("getitem"),
    "named transpose": named("transpose"),
    "named rechunk": named("rechunk-merge"),
    "named as the cube": named("hsichunk-cube"),
    "constant": constant,
    "concat": lambda c: xr.concat([c.isel(y=slice(0, 5)), c.isel(y=slice(5, 10))], "y"),
    "concat of two cubes": lambda c: xr.concat([c, c * 2], "y"),
    "stacked and unstacked": lambda c: c.stack(p=("y", "x")).unstack("p").transpose("y", "x", "wavelength"),
    "values": lambda c: c.copy(data=c.values),
    "loaded": lambda c: c.compute(),
    "persisted": lambda c: c.persist(),
    "persisted and cut": lambda c: c.persist().isel(y=slice(2, 9)),
    "cut and persisted": lambda c: c.isel(y=slice(2, 9)).persist(),
    "optimized": optimized,
    "from an array of its own": lambda c: c.copy(data=da.from_array(c.values, chunks=10)),
    "from delayed": lambda c: c.copy(
        data=da.from_delayed(dask.delayed(np.zeros)(c.shape, "f4"), shape=c.shape, dtype="f4")
    ),
    "zeros like": xr.zeros_like,
    "bands backwards": lambda c: c.isel(wavelength=slice(None, None, -1)),
    "bands in any order": lambda c: c.isel(wavelength=[5, 2, 3]),
    "bands twice": lambda c: c.isel(wavelength=[2, 2, 3]),
    "x and y exchanged": lambda c: c.rename(x="y", y="x"),
    "x and y exchanged and transposed": lambda c: c.rename(x="y", y="x").transpose("y", "x", "wavelength"),
    "no wavelength": lambda c: c.isel(wavelength=3),
    "no y": lambda c: c.isel(y=3),
    "another dimension": lambda c: c.expand_dims("time"),
    "points": lambda c: c.isel(y=xr.DataArray([1, 2], dims="p"), x=xr.DataArray([3, 4], dims="p")),
}


@pytest.mark.parametrize("kind", ["one block", "many blocks", "engine"])
@pytest.mark.parametrize("name", COMPUTED)
def test_what_was_computed_is_not(cubes: dict[str, xr.DataArray], name: str, kind: str) -> None:
    assert source_of(COMPUTED[name](cubes[kind])) is None


def test_blocks_that_do_not_line_up_are_not(cubes: dict[str, xr.DataArray]) -> None:
    crooked = one_block_of_many(cubes["many blocks"])
    assert source_of(crooked) is None
    assert source_of(crooked.chunk({"y": -1})) is None
    assert source_of(crooked.isel(y=[1, 10, 2])) is None


def test_two_cubes_in_one_graph_are_not(cubes: dict[str, xr.DataArray]) -> None:
    one, other = cubes["one block"], cubes["many blocks"]
    for both in (one + other, xr.concat([one, other], "y"), xr.where(one.x > 0, one, other)):
        assert source_of(both) is None


def test_what_never_was_a_cube_is_not(paths: dict[str, Path]) -> None:
    tile = xr.open_dataset(paths["spatial"], engine="neon", chunks={})
    assert source_of(tile.reflectance) is None
    assert source_of(hsi.open_tile(paths["spatial"]).reflectance) is None
    assert source_of(hsi.as_cube(da.zeros((4, 5, 3)), [500.0, 600.0, 700.0])) is None
    assert source_of(hsi.as_cube(np.zeros((4, 5, 3)), [500.0, 600.0, 700.0])) is None


def test_nothing_that_is_heavy_is_computed(cubes: dict[str, xr.DataArray]) -> None:
    def never(block: Any) -> Any:
        if block.size:
            raise AssertionError("computed")
        return block

    for cube in cubes.values():
        heavy = cube.copy(data=cube.data.map_blocks(never, meta=np.empty((0, 0, 0), "f4")))
        assert source_of(heavy) is None
        assert source_of(heavy.isel(y=slice(3, 5))) is None


def test_an_optimized_graph_gives_the_same_numbers(cubes: dict[str, xr.DataArray]) -> None:
    for cube in cubes.values():
        window = cube.isel(y=slice(3, 18), x=[4, 20])
        (fused,) = dask.optimize(window)
        found = shown(fused)
        assert found is None or np.array_equal(found, window.values, equal_nan=True)
        assert_array_equal(fused.values, window.values)


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """A chain of selections, and now and then a computation."""
    out: list[Change] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["slice", "slice", "list", "transpose", "chunk", "copy", "compute"]))
        dim = draw(st.sampled_from(["y", "x", "wavelength"]))
        start, step = draw(st.integers(0, 3)), draw(st.sampled_from([1, 1, 2, -1]))
        places = draw(st.lists(st.integers(0, 100), min_size=1, max_size=5))
        order = draw(st.permutations(["y", "x", "wavelength"]))
        size = draw(st.integers(1, 20))
        name = draw(st.sampled_from(["times", "where", "fillna", "roll", "persisted", "concat", "item assigned"]))
        out.append(
            {
                "slice": lambda c, d=dim, a=start, s=step: c.isel({d: slice(None, None, s)}).isel({d: slice(a, None)}),
                "list": lambda c, d=dim, p=places: c.isel({d: [i % c.sizes[d] for i in p]}) if c.sizes[d] else c,
                "transpose": lambda c, o=order: c.transpose(*o),
                "chunk": lambda c, d=dim, n=size: c.chunk({d: n}),
                "copy": lambda c: c.copy(),
                "compute": COMPUTED[name] if name != "item assigned" else lambda c: c + 1,
            }[kind]
        )
    return out


@given(kind=st.sampled_from(KINDS), chain=changes())
@settings(max_examples=60)
def test_whatever_is_recognised_is_right(cubes: dict[str, xr.DataArray], kind: str, chain: list[Change]) -> None:
    cube = cubes[kind]
    for change in chain:
        cube = change(cube)
    found = shown(cube)
    if found is not None:
        assert_array_equal(found, cube.transpose("y", "x", "wavelength").values)
