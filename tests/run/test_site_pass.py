"""Twelve tiles in one run, against one large tile of the same counts: no product may tell where a tile ends."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray

import hsichunk as hsi
from hsichunk.chunks import columns
from hsichunk.chunks.columns import is_small
from hsichunk.chunks.counts import Counts
from hsichunk.errors import HsiWarning
from hsichunk.mosaic.mosaic import open_mosaic
from hsichunk.mosaic.site import open_site
from hsichunk.run import plan
from hsichunk.run.runner import run
from tests.helpers import tiles
from tests.helpers.runs import asked, assert_same, checksums, endmembers, go, products

SIDE, BANDS, DOWN, ACROSS = 48, 60, 3, 4
LEFT, TOP = 368000.0, 4307000.0  # as tests/helpers/tiles.py has it
MISSING, HALF = (1, 2), (2, 0)
NM = np.linspace(400.0, 2500.0, BANDS).astype(np.float32)
KINDS: tuple[dict[str, Any], ...] = (
    {"product": "DP3.001", "chunks": (16, 21, 9)},
    {"product": "DP3.002", "chunks": (SIDE, SIDE, 1)},
    {"product": "DP3.002", "chunks": (20, 20, 13)},
    {"product": "DP3.001", "chunks": (SIDE, SIDE, 1)},
)
MAPS = ("abundance", "rmse", "sam_class", "sid_class")
SAMPLE = 3000  # of 27,648 pixels: only some cells of the grid are drawn from


def paint(paths: list[Path], places: list[tuple[int, int]], shape: tuple[int, int]) -> NDArray[np.int16]:
    """The counts of tiles on one grid, read by h5py; the first of the list lies on top, no data where none lies."""
    whole = np.full((*shape, BANDS), -9999, np.int16)
    for path, (row, col) in reversed(list(zip(paths, places, strict=True))):
        with h5py.File(path) as file:
            counts = file["SERC/Reflectance/Reflectance_Data"][()]
        whole[row : row + counts.shape[0], col : col + counts.shape[1]] = counts
    return whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven of twelve tiles, every kind of them side by side, and the one of the same counts."""
    folder = tmp_path_factory.mktemp("twelve")
    places = [(i, j) for i in range(DOWN) for j in range(ACROSS) if (i, j) != MISSING]
    paths = []
    for number, (i, j) in enumerate(places):
        origin = LEFT + j * SIDE, TOP - i * SIDE
        path = folder / f"NEON_D02_SERC_DP3_{origin[0]:.0f}_{origin[1]:.0f}_reflectance.h5"
        no_data = "half" if (i, j) == HALF else "corners" if number % 5 == 3 else "none"
        hsi.synthetic.write_tile(
            path,
            shape=(SIDE, SIDE),
            wavelength=NM,
            seed=7,
            origin=origin,
            no_data=no_data,
            **KINDS[(i + j) % len(KINDS)],
        )
        paths.append(path)
    counts = paint(paths, [(i * SIDE, j * SIDE) for i, j in places], (DOWN * SIDE, ACROSS * SIDE))
    tiles.write_counts(folder / "single.h5", counts, wavelength=NM, chunks=(16, 64, 20), compression="gzip")
    return folder


@pytest.fixture(scope="module")
def twelve(folder: Path) -> list[Path]:
    return sorted(folder.glob("NEON_*.h5"))


@pytest.fixture(scope="module")
def many(folder: Path, twelve: list[Path]) -> Path:
    """What the run over the tiles has left."""
    go(twelve, folder / "many", sample=SAMPLE)
    return folder / "many"


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    """What the run over the large tile has left."""
    go(folder / "single.h5", folder / "one", sample=SAMPLE)
    return folder / "one"


def files(out: Path) -> dict[str, str]:
    """Checksums of the maps and the endmembers: the store and the item name their run."""
    return {n: digest for n, digest in checksums(out).items() if not n.startswith(("products.zarr", "item.json"))}


def test_the_tiles_are_what_this_file_is_about(twelve: list[Path], many: Path) -> None:
    assert len(twelve) == 11
    layouts, versions = set(), set()
    for path in twelve:
        with h5py.File(path) as file:
            layouts.add(file["SERC/Reflectance/Reflectance_Data"].chunks)
            versions.add("Aerosol_Optical_Depth" in file["SERC/Reflectance/Metadata/Ancillary_Imagery"])
    assert len(layouts) == 3
    assert len(versions) == 2
    whole = products(many)
    assert whole.sizes == {"endmember": 4, "y": DOWN * SIDE, "x": ACROSS * SIDE}
    held = np.isfinite(whole.rmse.values)
    assert not held[SIDE : 2 * SIDE, 2 * SIDE : 3 * SIDE].any()
    assert not held[2 * SIDE :, : SIDE // 2].any()
    assert held[2 * SIDE :, SIDE // 2 : SIDE].all()
    assert 0.7 < held.mean() < 0.9


def test_every_product_has_the_bits_of_one_large_tile(many: Path, one: Path) -> None:
    ours, theirs = products(many), products(one)
    assert {"abundance", "rmse", "sam", "sid", "sam_class", "sid_class"} <= set(ours.data_vars)
    assert_same(ours, theirs)
    for name in ("x", "y", "spatial_ref", "endmember"):
        xr.testing.assert_identical(ours[name].variable, theirs[name].variable)
    assert len(np.unique(ours.sam_class)) > 3


def test_the_same_seed_finds_the_same_endmembers(many: Path, one: Path) -> None:
    assert (many / "endmembers.csv").read_bytes() == (one / "endmembers.csv").read_bytes()


def test_the_maps_are_the_same_files(many: Path, one: Path) -> None:
    assert files(many) == files(one)
    assert len(files(many)) == 7


def test_the_maps_hold_what_the_store_holds(many: Path) -> None:
    stored = products(many)
    for name in MAPS:
        with rasterio.open(many / f"{name}.tif") as raster:
            pixels = raster.read()
            assert raster.transform[:6] == (1.0, 0.0, LEFT, 0.0, -1.0, TOP)
        np.testing.assert_array_equal(pixels.squeeze(), stored[name].values)


def test_tiles_that_all_threads_work_on_together_leave_no_seam_either(
    folder: Path, twelve: list[Path], one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (columns, plan):
        monkeypatch.setattr(module, "SMALL_COLUMN", 100_000)  # between the tiles of band chunks and the others
    sizes = {is_small(Counts(p.file.reflectance, np.arange(43), 1e4, -9999)) for p in open_site(twelve).tiles}
    assert sizes == {True, False}
    report = go(twelve, folder / "together", sample=SAMPLE)
    assert_same(products(folder / "together"), products(one))
    assert files(folder / "together") == files(one)
    decoded = tiles.DECODED.now()[0]
    ours = hsi.unmix(hsi.clean(open_mosaic(twelve)), endmembers(one)).load()
    assert tiles.DECODED.now()[0] - decoded == report["pass"]["chunks"]
    assert_same(ours, products(one), ["abundance", "rmse", "sam", "sid"])


def test_relative_class_maps_take_the_range_of_all_tiles(folder: Path, twelve: list[Path]) -> None:
    given = {"sample": SAMPLE, "relative": True, "sam_threshold": (0.4,), "sid_threshold": (0.2,)}
    go(twelve, folder / "relative many", **given)
    go(folder / "single.h5", folder / "relative one", **given)
    assert_same(products(folder / "relative many"), products(folder / "relative one"))
    assert files(folder / "relative many") == files(folder / "relative one")


def test_the_lazy_api_gives_what_the_run_gives(twelve: list[Path], many: Path) -> None:
    cube = hsi.clean(open_mosaic(twelve[::-1]))
    em = hsi.nfindr(cube, 4, sample=SAMPLE)
    np.testing.assert_array_equal(em.values, endmembers(many).values)
    stored = products(many)
    ours = hsi.unmix(cube, em).load()
    assert_same(ours, stored, ["abundance", "rmse", "sam", "sid"])
    xr.testing.assert_identical(ours.spatial_ref.variable, stored.spatial_ref.variable)
    for name, threshold in (("sam", 0.1), ("sid", 0.05)):
        np.testing.assert_array_equal(hsi.classify(ours[name], threshold), stored[f"{name}_class"])


OVERLAPS = {"b.h5": (0, 0), "a.h5": (20, 30), "c.h5": (9, 60), "d.h5": (31, 11)}


def test_where_tiles_overlap_the_first_by_name_counts_whatever_the_order(tmp_path: Path) -> None:
    paths = []
    for number, (name, (row, col)) in enumerate(sorted(OVERLAPS.items())):
        origin = LEFT + col, TOP - row
        kind = KINDS[0] if number != 2 else KINDS[2]
        hsi.synthetic.write_tile(  # other seeds: another scene in each
            tmp_path / name, shape=(SIDE, SIDE), wavelength=NM, seed=number, origin=origin, no_data="none", **kind
        )
        paths.append(tmp_path / name)
    places = [OVERLAPS[path.name] for path in paths]
    counts = paint(paths, places, (79, 108))
    (tmp_path / "single").mkdir()
    tiles.write_counts(tmp_path / "single" / "s.h5", counts, wavelength=NM)
    go(tmp_path / "single" / "s.h5", tmp_path / "one", sample=SAMPLE)
    wanted, em = products(tmp_path / "one"), endmembers(tmp_path / "one")
    orders = list(permutations(paths))
    for order in (orders[9], orders[-1]):
        out = tmp_path / f"many{orders.index(order)}"
        go(list(order), out, sample=SAMPLE)
        assert_same(products(out), wanted)
        assert files(out) == files(tmp_path / "one")
        mosaic = open_mosaic(order)
        np.testing.assert_array_equal(mosaic.reflectance, counts)
        assert_same(hsi.unmix(hsi.clean(mosaic), em).load(), wanted, ["abundance", "rmse", "sam", "sid"])


def test_a_tile_of_band_chunks_that_others_cut_up_costs_decodes_and_no_bits(tmp_path: Path) -> None:
    """Larger than a small column, so that all threads work on it together."""
    hole = {"shape": (8, 8), "wavelength": NM, "seed": 3, "no_data": "none"}
    hsi.synthetic.write_tile(tmp_path / "a.h5", **hole, chunks=(8, 8, 10), origin=(LEFT + 20, TOP - 20))
    big = {"shape": (320, 320), "chunks": (320, 320, 1), "wavelength": NM, "seed": 4, "no_data": "none"}
    hsi.synthetic.write_tile(tmp_path / "b.h5", **big, compression=1)
    paths = [tmp_path / "b.h5", tmp_path / "a.h5"]
    counts = paint(paths[::-1], [(20, 20), (0, 0)], (320, 320))
    (tmp_path / "single").mkdir()
    tiles.write_counts(tmp_path / "single" / "s.h5", counts, wavelength=NM, chunks=(100, 100, 20))
    with pytest.warns(HsiWarning, match="decoded up to 4 times"):
        run(asked(paths, tmp_path / "many", sample=SAMPLE))
    go(tmp_path / "single" / "s.h5", tmp_path / "one", sample=SAMPLE)
    assert_same(products(tmp_path / "many"), products(tmp_path / "one"))
    cube, em = hsi.clean(open_mosaic(paths)), endmembers(tmp_path / "one")
    before = tiles.DECODED.now()[0]
    ours = hsi.unmix(cube, em).load()
    bands = cube.sizes["wavelength"]
    assert tiles.DECODED.now()[0] - before <= bands + 6  # the mosaic decodes each of them once
    assert_same(ours, products(tmp_path / "one"), ["abundance", "rmse", "sam", "sid"])
