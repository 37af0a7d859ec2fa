"""Storing products: the same numbers and labels back, once computed, and nothing half-written under its own name."""

from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401  (gives .rio)
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hsichunk import schema
from hsichunk.errors import HsiError
from hsichunk.writers import zarr_layout
from hsichunk.writers.zarr_blocks import EmptyMap, Template, create, write_block
from hsichunk.writers.zarr_encoding import chunk_grid, encoding
from hsichunk.writers.zarr_store import open_store, write_zarr
from tests.helpers.written import kill_while_writing, listing

EPSG = 32618


def labelled(variables: dict[str, Any], height: int, width: int, endmembers: int = 3) -> xr.Dataset:
    coords = {
        "endmember": [f"EM{i + 1}" for i in range(endmembers)],
        "y": ("y", 4307000 - np.arange(height) - 0.5, schema.Y_ATTRS),
        "x": ("x", 368000 + np.arange(width) + 0.5, schema.X_ATTRS),
    }
    dataset = xr.Dataset(variables, coords=coords, attrs={"title": "a test"})
    return dataset.rio.write_crs(EPSG).rio.write_transform()


def products(height: int = 30, width: int = 40) -> xr.Dataset:
    """NumPy-backed products with a strip of no data, in every kind the package writes."""
    rng = np.random.default_rng(0)
    layers = rng.random((3, height, width), dtype=np.float32)
    layers[:, :, :7] = np.nan
    classes = rng.integers(0, 4, (height, width)).astype(np.uint8)
    classes[:, :7] = schema.CLASS_NO_DATA
    flags = {"flag_values": np.array([0, 1, 2, 3, 255], np.uint8), "flag_meanings": "unclassified EM1 EM2 EM3 no_data"}
    maps = ("endmember", "y", "x")
    return labelled(
        {
            "abundance": (maps, layers, schema.PRODUCT_ATTRS["abundance"]),
            "rmse": (("y", "x"), layers[0] / 7, schema.PRODUCT_ATTRS["rmse"]),
            "sam": (maps, layers * 2, schema.PRODUCT_ATTRS["sam"]),
            "sam_class": (("y", "x"), classes, flags),
        },
        height,
        width,
    )


def template(height: int = 30, width: int = 40) -> Template:
    """What describes `products`."""
    dataset = products(height, width)
    coords = {
        str(n): (tuple(map(str, c.dims)), c.values, {k: v for k, v in c.attrs.items()})
        for n, c in dataset.coords.items()
    }
    maps = {str(n): EmptyMap(tuple(map(str, v.dims)), v.shape, v.dtype, v.attrs) for n, v in dataset.data_vars.items()}
    return Template(coords, maps, dataset.attrs)


def variable_json(store: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / name / "zarr.json").read_text())
    return found


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Inside the block no file of this process may grow larger, as on a full disk; not even pytest's own log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- the same data back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, {"y": 10, "x": 16}], ids=["numpy", "dask"])
def test_the_stored_result_is_identical_and_lazy(tmp_path: Path, no_compute: Any, chunks: Any) -> None:
    expected = products()
    given = expected if chunks is None else expected.chunk(chunks)
    stored = write_zarr(given, tmp_path / "p.zarr")
    xr.testing.assert_identical(stored.compute(), expected)
    assert list(stored.data_vars) == ["abundance", "rmse", "sam", "sam_class"]
    for name, variable in stored.data_vars.items():
        assert variable.chunks is not None, name
        assert variable.dtype == expected[name].dtype
    assert stored.abundance.chunksizes["endmember"] == (3,)
    assert stored.endmember.dtype == expected.endmember.dtype
    assert stored.sam_class.attrs["flag_values"].dtype == np.uint8
    assert stored.rio.crs == expected.rio.crs
    assert stored.rio.transform() == expected.rio.transform()
    with no_compute():
        open_store(tmp_path / "p.zarr")


def test_plain_xarray_opens_it_without_a_warning_and_with_its_crs(tmp_path: Path) -> None:
    write_zarr(products().chunk(y=10), tmp_path / "p.zarr")
    for options in ({}, {"decode_coords": "all"}):
        plain = xr.open_zarr(tmp_path / "p.zarr", **options)  # pytest turns warnings into errors
        assert plain.rio.crs.to_epsg() == EPSG
        assert plain.abundance.rio.crs.to_epsg() == EPSG
        assert plain.sam_class.dtype == np.uint8
        np.testing.assert_array_equal(plain.sel(endmember="EM2").abundance, products().abundance[1])
        plain.close()


def test_zarr_alone_reads_version_3_unsharded_with_cf_grid_mapping(tmp_path: Path) -> None:
    expected = products()
    write_zarr(expected.chunk(y=10, x=16), tmp_path / "p.zarr")
    group = zarr.open_group(tmp_path / "p.zarr", mode="r")
    for name in expected.data_vars:
        array = group[str(name)]
        assert array.metadata.zarr_format == 3
        assert array.shards is None
        assert array.attrs["grid_mapping"] == "spatial_ref"
        np.testing.assert_array_equal(array[:], expected[name].values)
    assert group["spatial_ref"].attrs["crs_wkt"] == expected.rio.crs.to_wkt()
    assert group["rmse"].fill_value != group["rmse"].fill_value  # NaN
    assert group["sam_class"].fill_value == 255
    assert "_FillValue" not in group["sam_class"].attrs  # for which xarray would read floats
    assert "_FillValue" not in group["x"].attrs  # CF: none on coordinates
    assert variable_json(tmp_path / "p.zarr", "endmember")["data_type"] == "string"  # the type that is specified


def test_what_was_stored_can_be_stored_again(tmp_path: Path) -> None:
    first = write_zarr(products().chunk(y=10), tmp_path / "1.zarr")
    plain = xr.open_zarr(tmp_path / "1.zarr")  # grid_mapping in attrs, encodings of a file
    second = write_zarr(plain, tmp_path / "2.zarr")
    xr.testing.assert_identical(second.compute(), first.compute())
    assert second.rio.crs.to_epsg() == EPSG
    plain.close()


def test_the_input_is_not_changed(tmp_path: Path) -> None:
    given = products()
    given.rmse.attrs["grid_mapping"] = "spatial_ref"
    given.rmse.encoding["chunks"] = (3, 3)
    before = given.copy(deep=True)
    write_zarr(given, tmp_path / "p.zarr")
    xr.testing.assert_identical(given, before)
    assert given.rmse.encoding == before.rmse.encoding
    assert given.endmember.dtype == before.endmember.dtype


def test_a_data_array_becomes_a_dataset_of_its_name(tmp_path: Path) -> None:
    rmse = products().rmse
    stored = write_zarr(rmse, tmp_path / "rmse.zarr")
    xr.testing.assert_identical(stored.rmse.compute(), rmse)
    with pytest.raises(HsiError, match="no name"):
        write_zarr(rmse.rename(None), tmp_path / "none.zarr")
    assert listing(tmp_path) == {"rmse.zarr"}


def test_data_without_crs_stay_without(tmp_path: Path) -> None:
    bare = products().drop_vars("spatial_ref")
    stored = write_zarr(bare, tmp_path / "p.zarr")
    assert stored.rio.crs is None
    xr.testing.assert_identical(stored.compute(), bare)


def test_lazy_data_without_dask_are_stored_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zarr(products(), tmp_path / "1.zarr")
    to_zarr = xr.Dataset.to_zarr

    def watched(dataset: xr.Dataset, *arguments: Any, **options: Any) -> Any:
        assert all(v.chunks is not None for v in dataset.data_vars.values()), "would be loaded whole"
        return to_zarr(dataset, *arguments, **options)

    monkeypatch.setattr(xr.Dataset, "to_zarr", watched)
    with xr.open_zarr(tmp_path / "1.zarr", chunks=None) as opened:
        assert opened.rmse.chunks is None
        stored = write_zarr(opened, tmp_path / "2.zarr")
    xr.testing.assert_identical(stored.compute(), products())


def test_spectra_and_numbers_go_along_with_the_maps(tmp_path: Path) -> None:
    spectra = da.random.default_rng(0).random((3, 50), chunks=((1, 2), (7, 30, 13)))
    given = products().assign(reflectance=(("endmember", "wavelength"), spectra), k=3)
    given = given.assign_coords(wavelength=np.linspace(400, 2500, 50)).compute()
    stored = write_zarr(given.chunk(wavelength=(7, 30, 13)), tmp_path / "p.zarr")
    xr.testing.assert_identical(stored.compute(), given)


# -- chunks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "side"),
    [
        ((250,) * 4, 250),
        ((1000,) * 2 + (300,), 1000),
        ((32,) * 31 + (8,), 256),  # merged: a chunk costs a millisecond
        ((63,) * 20, 252),
        ((2000, 2000), 1000),  # cut
        ((1400, 1400, 7), 700),
        ((1009, 1009), 1000),  # a prime: rechunked
        ((300, 700, 1000), 1000),  # irregular
        ((10, 20, 5), 35),
        ((90,), 90),
    ],
)
def test_stored_chunks_follow_the_blocks(blocks: tuple[int, ...], side: int) -> None:
    lazy = labelled({"rmse": (("y", "x"), da.zeros((sum(blocks), 8), chunks=(blocks, 8)))}, sum(blocks), 8)
    assert chunk_grid(lazy) == {"y": side, "x": 8}


@pytest.mark.parametrize(("layers", "expected"), [(3, 3), (4, 4), (30, 4)])
def test_chunks_hold_a_few_endmembers_of_many(layers: int, expected: int) -> None:
    zeros = da.zeros((layers, 2000, 2000), dtype="float32", chunks=(layers, 1000, 1000))
    lazy = labelled({"sid": (("endmember", "y", "x"), zeros)}, 2000, 2000, layers)
    assert encoding(lazy, chunk_grid(lazy))["sid"]["chunks"] == (expected, 1000, 1000)


def test_endmembers_of_several_chunks_are_opened_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_layout, "CHUNK_BYTES", 2 * 30 * 40 * 4)
    stored = write_zarr(products().chunk(y=30), tmp_path / "p.zarr")
    assert stored.sam.encoding["chunks"] == (2, 30, 40)
    assert stored.sam.chunks == ((3,), (30,), (40,))
    xr.testing.assert_identical(stored.compute(), products())
    group = create(template(), tmp_path / "q.zarr", (30, 40))
    rows, cols = slice(0, 30), slice(0, 40)
    write_block(group, blocks_of(products(), rows, cols), rows, cols, durable=True)
    xr.testing.assert_identical(open_store(tmp_path / "q.zarr").compute(), products())


def cuts(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    inner = st.sets(st.integers(1, size - 1), max_size=4)
    return inner.map(lambda places: tuple(np.diff([0, *sorted(places), size]).tolist()))


@settings(max_examples=10)
@given(rows=cuts(30), cols=cuts(40))
def test_any_blocks_give_the_same_numbers(tmp_path_factory: Any, rows: tuple[int, ...], cols: tuple[int, ...]) -> None:
    expected = products()
    stored = write_zarr(expected.chunk(y=rows, x=cols, endmember=2), tmp_path_factory.mktemp("z") / "p.zarr")
    xr.testing.assert_identical(stored.compute(), expected)


# -- computed once ------------------------------------------------------------------------------------------------


class Counted:
    """A block function that counts its calls, for each place of the grid."""

    def __init__(self) -> None:
        self.calls: dict[tuple[int, ...], int] = {}
        self._lock = threading.Lock()

    def __call__(self, block: Any, block_info: Any = None) -> Any:
        place = tuple(block_info[0]["chunk-location"])
        with self._lock:
            self.calls[place] = self.calls.get(place, 0) + 1
        return block + 1


@pytest.mark.parametrize("chunks", [(3, 10, 20), (3, 7, 9)], ids=["aligned", "irregular"])
def test_variables_that_share_tasks_are_computed_in_one_go(tmp_path: Path, chunks: tuple[int, int, int]) -> None:
    counted = Counted()
    base = da.zeros((3, 30, 40), dtype="float32", chunks=chunks).map_blocks(counted, meta=np.empty((0, 0, 0), "f4"))
    maps = ("endmember", "y", "x")
    lazy = labelled(
        {"abundance": (maps, base), "sam": (maps, base * 2), "rmse": (("y", "x"), base.sum(axis=0))}, 30, 40
    )
    stored = write_zarr(lazy, tmp_path / "p.zarr")
    assert len(counted.calls) == base.npartitions
    assert set(counted.calls.values()) == {1}
    assert float(stored.rmse.min()) == 3


def test_a_cluster_writes_the_same(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        distributed.Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None),
    ):
        stored = write_zarr(products().chunk(y=10, x=16), tmp_path / "p.zarr")
        xr.testing.assert_identical(stored.compute(), products())


# -- whole or not at all ------------------------------------------------------------------------------------------


def test_a_killed_write_never_looks_whole(tmp_path: Path) -> None:
    target = tmp_path / "p.zarr"
    kill_while_writing(target)
    left = listing(tmp_path)
    assert all(name.startswith(".p.zarr.") and name.endswith(".part") for name in left), left
    assert left, "nothing had been written when it was killed"
    xr.testing.assert_identical(write_zarr(products(), target).compute(), products())


def test_a_killed_replacement_keeps_the_old_store(tmp_path: Path) -> None:
    target = tmp_path / "p.zarr"
    write_zarr(products(), target)
    kill_while_writing(target)
    xr.testing.assert_identical(open_store(target).compute(), products())


def failing(block: Any) -> Any:
    raise HsiError("chunk 7 of the tile is corrupt")


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "p.zarr"
    write_zarr(products(), target)
    broken = products().chunk(y=10).map(lambda v: v.copy(data=v.data.map_blocks(failing, meta=v.data._meta)))
    for name in ("p.zarr", "new.zarr"):
        with pytest.raises(HsiError, match="chunk 7"):
            write_zarr(broken, tmp_path / name, overwrite=True)
    assert listing(tmp_path) == {"p.zarr"}
    xr.testing.assert_identical(open_store(target).compute(), products())


def test_replacing_is_asked_for_and_may_read_what_it_replaces(tmp_path: Path) -> None:
    target = tmp_path / "p.zarr"
    stored = write_zarr(products().chunk(y=10), target)
    with pytest.raises(HsiError, match=r"exists; .*overwrite"):
        write_zarr(products(), target)
    doubled = write_zarr(stored[["rmse"]] * 2, target, overwrite=True)
    np.testing.assert_array_equal(doubled.rmse, products().rmse * 2)
    assert list(open_store(target).data_vars) == ["rmse"]
    assert listing(tmp_path) == {"p.zarr"}


def test_only_a_store_is_ever_replaced(tmp_path: Path) -> None:
    folder, file, link = tmp_path / "folder", tmp_path / "file", tmp_path / "link"
    folder.mkdir()
    (folder / "thesis.tex").write_text("dear")
    file.write_text("dear")
    write_zarr(products(), tmp_path / "p.zarr")
    link.symlink_to(tmp_path / "p.zarr")
    for path in (folder, file, link):
        with pytest.raises(HsiError, match="not replaced"):
            write_zarr(products(), path, overwrite=True)
    assert (folder / "thesis.tex").read_text() == file.read_text() == "dear"
    assert link.is_symlink()


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("renamed"), rename(a, b))[1])
    write_zarr(products(), tmp_path / "p.zarr")
    before = {path.split("/p.zarr/", 1)[1] for path in done[: done.index("renamed")] if "/p.zarr/" in path}
    files = {str(path.relative_to(tmp_path / "p.zarr")) for path in (tmp_path / "p.zarr").rglob("*")}
    assert files and files <= before
    assert done[-1] == str(tmp_path)


# -- places that cannot be written --------------------------------------------------------------------------------


def test_parents_are_made(tmp_path: Path) -> None:
    write_zarr(products(), tmp_path / "a" / "b" / "p.zarr")
    assert listing(tmp_path / "a" / "b") == {"p.zarr"}


@pytest.mark.parametrize("below", ["file.txt", "/proc"], ids=["below a file", "proc"])
def test_an_unwritable_place_is_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file.txt").write_text("")
    target = tmp_path / below / "x" / "p.zarr"
    for write in (lambda: write_zarr(products(), target), lambda: create(template(), target, (10, 10))):
        with pytest.raises(HsiError, match=r"cannot write .*p\.zarr") as caught:
            write()
        assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with file_limit(2000), pytest.raises(HsiError, match=r"writing .*p\.zarr failed") as caught:
        write_zarr(products(), tmp_path / "p.zarr")
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == set()


def test_what_is_no_store_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no")
    (tmp_path / "folder").mkdir()
    for name in ("missing", "file", "folder"):
        with pytest.raises(HsiError, match=name) as caught:
            open_store(tmp_path / name)
        assert "\n" not in str(caught.value)


# -- block by block -----------------------------------------------------------------------------------------------


def blocks_of(dataset: xr.Dataset, rows: slice, cols: slice) -> dict[str, Any]:
    return {str(name): v.values[..., rows, cols] for name, v in dataset.data_vars.items()}


def test_a_store_filled_by_blocks_is_the_one_written_at_once(tmp_path: Path) -> None:
    expected = products()
    group = create(template(), tmp_path / "p.zarr", (10, 16))
    xr.testing.assert_identical(open_store(tmp_path / "p.zarr").coords.to_dataset(), expected.coords.to_dataset())
    empty = open_store(tmp_path / "p.zarr").compute()
    assert bool(empty.abundance.isnull().all())
    assert bool((empty.sam_class == schema.CLASS_NO_DATA).all())
    for top in (20, 0, 10):
        for left in (32, 0, 16):
            rows, cols = slice(top, top + 10), slice(left, min(left + 16, 40))
            store = group if left else tmp_path / "p.zarr"
            write_block(store, blocks_of(expected, rows, cols), rows, cols)
    xr.testing.assert_identical(open_store(tmp_path / "p.zarr").compute(), expected)
    assert open_store(tmp_path / "p.zarr").rio.crs == expected.rio.crs
    whole = write_zarr(expected.chunk(y=10, x=16), tmp_path / "q.zarr")
    assert whole.rmse.encoding["compressors"] == open_store(tmp_path / "p.zarr").rmse.encoding["compressors"]


def test_what_is_created_without_xarray_is_what_xarray_writes(tmp_path: Path) -> None:
    rows, cols = slice(0, 30), slice(0, 40)
    write_zarr(products(), tmp_path / "x.zarr")
    write_block(create(template(), tmp_path / "z.zarr", (30, 40)), blocks_of(products(), rows, cols), rows, cols)
    files = [
        {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
        for store in (tmp_path / "x.zarr", tmp_path / "z.zarr")
    ]
    assert set(files[0]) == set(files[1])
    for name, content in files[0].items():
        if name.endswith(".json"):
            assert without_coordinates(content) == without_coordinates(files[1][name]), name
        else:
            assert content == files[1][name], name
    # xarray says it of each map, here the store says it
    assert variable_json(tmp_path / "x.zarr", "rmse")["attributes"]["coordinates"] == "spatial_ref"
    assert variable_json(tmp_path / "z.zarr", "")["attributes"]["coordinates"] == "spatial_ref"
    xr.testing.assert_identical(
        xr.open_zarr(tmp_path / "z.zarr").compute(), xr.open_zarr(tmp_path / "x.zarr").compute()
    )


def without_coordinates(content: bytes) -> Any:
    return json.loads(content, object_hook=lambda entry: {k: v for k, v in entry.items() if k != "coordinates"})


def test_numpy_templates_are_not_stored_either(tmp_path: Path) -> None:
    create(template(), tmp_path / "p.zarr", (1000, 1000))
    assert not list((tmp_path / "p.zarr" / "abundance").glob("c/**/*"))
    with pytest.raises(HsiError, match="exists"):
        create(template(), tmp_path / "p.zarr", (1000, 1000))


def test_chunks_of_no_data_alone_are_not_stored(tmp_path: Path) -> None:
    expected = products()
    group = create(template(), tmp_path / "p.zarr", (10, 7))
    rows, cols = slice(0, 10), slice(0, 7)  # the strip without data
    write_block(group, blocks_of(expected, rows, cols), rows, cols)
    assert not list((tmp_path / "p.zarr").glob("*/c/0/0*"))
    rows, cols = slice(0, 10), slice(7, 14)
    write_block(group, blocks_of(expected, rows, cols), rows, cols)
    assert (tmp_path / "p.zarr/rmse/c/0/1").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": slice(0, 5)}, "not whole stored chunks of 10"),
        ({"rows": slice(5, 15)}, "not whole stored chunks of 10"),
        ({"cols": slice(32, 48)}, "not whole stored chunks of 16"),
        ({"cols": slice(0, 32)}, "the block is"),
        ({"name": "sid"}, "no map sid, only .*rmse"),
        ({"name": "sam"}, "the block is"),
    ],
)
def test_a_block_that_does_not_fit_is_refused_before_any_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    region = {"rows": slice(0, 10), "cols": slice(0, 16)} | change
    name = region.pop("name", "rmse")
    group = create(template(), tmp_path / "p.zarr", (10, 16))
    height = region["rows"].stop - region["rows"].start
    good = np.ones((3, height, 16), "f4")
    with pytest.raises(HsiError, match=message):
        write_block(group, {"abundance": good, name: np.ones((height, 16), "f4")}, **region)
    assert not list((tmp_path / "p.zarr").glob("*/c/0/0*"))


def test_durable_blocks_are_synced_with_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = create(template(), tmp_path / "p.zarr", (10, 16))
    synced: set[str] = set()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.add(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    rows, cols = slice(10, 20), slice(16, 32)
    write_block(group, blocks_of(products(), rows, cols), rows, cols)
    assert synced == set()
    write_block(group, blocks_of(products(), rows, cols), rows, cols, durable=True)
    names = {str(Path(path).relative_to(tmp_path / "p.zarr")) for path in synced}
    assert {"rmse/c/1/1", "rmse/c/1", "rmse/c", "rmse", "abundance/c/0/1/1", "sam_class/c/1/1"} <= names
