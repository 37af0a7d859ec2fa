"""What a run over a site can be told: endmembers from a file or of each tile, masks, bad tiles, a dry run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.run.runner import run
from tests.helpers.runs import asked, checksums, go, products, shell
from tests.helpers.tiles import LAYOUTS, SHAPE, small_tile


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two tiles side by side, of both layouts."""
    folder = tmp_path_factory.mktemp("tiles")
    return [
        small_tile(folder / "a.h5", chunks=LAYOUTS["spatial"]),
        small_tile(folder / "b.h5", chunks=LAYOUTS["band"], origin=(368000.0 + SHAPE[1], 4307000.0)),
    ]


@pytest.fixture(scope="module")
def plain(tiles: list[Path]) -> Path:
    out = tiles[0].parent / "plain"
    go(tiles, out)
    return out


# endmembers


def test_endmembers_of_a_run_give_its_products_again(tiles: list[Path], plain: Path, tmp_path: Path) -> None:
    report = go(tiles, tmp_path / "out", endmembers=str(plain / "endmembers.csv"))
    ours, theirs = checksums(tmp_path / "out"), checksums(plain)
    assert {k: v for k, v in ours.items() if k.endswith(".tif")} == {
        k: v for k, v in theirs.items() if k.endswith(".tif")
    }
    xr.testing.assert_equal(products(tmp_path / "out"), products(plain))
    assert "sample" not in report["stages"]
    assert (tmp_path / "out" / "endmembers.csv").read_text() == (plain / "endmembers.csv").read_text()


def test_as_many_endmembers_as_the_file_holds(tiles: list[Path], plain: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in (plain / "endmembers.csv").read_text().splitlines()]
    three = tmp_path / "three.csv"
    three.write_text("\n".join(",".join([row[0], row[1], row[3], row[4]]) for row in rows))
    go(tiles, tmp_path / "out", endmembers=str(three), sid_threshold=(0.8, 0.3, 0.03), relative=True)
    out = products(tmp_path / "out")
    assert out.endmember.values.tolist() == ["EM1", "EM3", "EM4"]
    with pytest.raises(HsiError, match=r"sam-threshold .*3: one for each of the endmembers in .*three.csv"):
        run(asked(tiles, tmp_path / "other", endmembers=str(three), sam_threshold=(0.1, 0.1)))


def test_other_endmembers_are_another_run(tiles: list[Path], plain: Path, tmp_path: Path) -> None:
    given = tmp_path / "em.csv"
    shutil.copy(plain / "endmembers.csv", given)
    go(tiles, tmp_path / "out", endmembers=str(given))
    moved = tmp_path / "moved.csv"
    given.rename(moved)
    assert go(tiles, tmp_path / "out", endmembers=str(moved))["finished"]
    text = moved.read_text().splitlines()
    text[5] = ",".join([text[5].split(",")[0], *["0.25"] * 4])
    moved.write_text("\n".join(text))
    with pytest.raises(HsiError, match=r"made with other options .*endmembers"):
        run(asked(tiles, tmp_path / "out", endmembers=str(moved)))


def test_endmembers_of_each_tile(tiles: list[Path], tmp_path: Path) -> None:
    go(tiles, tmp_path / "out", per_tile=True)
    whole = products(tmp_path / "out")
    for number, tile in enumerate(tiles):
        go(tile, tmp_path / tile.stem)
        part = whole.isel(x=slice(number * SHAPE[1], (number + 1) * SHAPE[1]))
        xr.testing.assert_equal(part.drop_vars("spatial_ref"), products(tmp_path / tile.stem).drop_vars("spatial_ref"))
    head = (tmp_path / "out" / "endmembers.csv").read_text().splitlines()[0]
    assert head == "wavelength_nm," + ",".join(f"{t} EM{i}" for t in ("a", "b") for i in range(1, 5))


# masks


def test_masked_pixels_are_neither_sampled_nor_solved(tiles: list[Path], plain: Path, tmp_path: Path) -> None:
    """A polygon over half of each tile: as if those pixels held no data."""
    west, south, east, north = 368000.0, 4307000.0 - SHAPE[0], 368000.0 + 2 * SHAPE[1], 4307000.0 - SHAPE[0] // 2
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    polygon = tmp_path / "half.geojson"
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32618"}}
    polygon.write_text(json.dumps({"type": "Polygon", "coordinates": [ring], "crs": crs}))
    report = go(tiles, tmp_path / "out", mask=(str(polygon),))
    out = products(tmp_path / "out")
    half = SHAPE[0] // 2
    assert out.abundance[:, half:].isnull().all() and (out.sam_class[half:] == 255).all()
    blank = []
    for tile in tiles:
        blank.append(tmp_path / tile.name)
        shutil.copy(tile, blank[-1])
        with h5py.File(blank[-1], "r+") as file:
            file["SERC/Reflectance/Reflectance_Data"][half:] = -9999
    go(blank, tmp_path / "blank")
    xr.testing.assert_equal(out, products(tmp_path / "blank").assign_attrs(out.attrs))
    [(name, share)] = report["masks"].items()
    assert "half.geojson" in name
    assert share == pytest.approx(0.5)
    assert report["pixels"]["valid"] + report["pixels"]["masked"] == 2 * SHAPE[0] * SHAPE[1]
    assert report["pixels"]["valid"] == int(out.rmse.notnull().sum())


def test_a_changed_mask_is_another_run(tiles: list[Path], tmp_path: Path) -> None:
    go(tiles, tmp_path / "out", mask=("ndvi=0.2:",))
    with pytest.raises(HsiError, match=r"made with other options"):
        run(asked(tiles, tmp_path / "out", mask=("ndvi=0.3:",)))


# bad tiles


@pytest.fixture
def damaged(tiles: list[Path], tmp_path: Path) -> tuple[list[Path], dict[Path, list[tuple[int, ...]]]]:
    """Copies of the tiles with a broken chunk in each."""
    out, places = [], {}
    for tile, place in zip(tiles, ((2, 1, 1), (0, 0, 7)), strict=True):
        out.append(tmp_path / tile.name)
        shutil.copy(tile, out[-1])
        with h5py.File(tile) as file:
            stored = HDF5Array(tile, file["SERC/Reflectance/Reflectance_Data"])
            offset, size = int(stored.index.offset[place]), int(stored.index.size[place])
        with out[-1].open("r+b") as raw:
            raw.seek(offset + size // 2)
            raw.write(b"\xff" * (size // 4))
        places[out[-1]] = [place]
    return out, places


def test_a_bad_chunk_stops_or_is_left_out(
    damaged: tuple[list[Path], dict[Path, list[tuple[int, ...]]]], plain: Path, tmp_path: Path
) -> None:
    files, places = damaged
    given = str(plain / "endmembers.csv")
    with pytest.raises(HsiError, match="is corrupt"):
        run(asked(files, tmp_path / "out", endmembers=given))
    report = go(files, tmp_path / "masked", endmembers=given, on_error="mask")
    out, whole = products(tmp_path / "masked"), products(plain)
    cy, cx, _ = LAYOUTS["spatial"]
    i, j, _ = places[files[0]][0]
    hurt = np.zeros(out.rmse.shape, bool)
    hurt[i * cy : (i + 1) * cy, j * cx : (j + 1) * cx] = True
    hurt[:, SHAPE[1] :] = True  # a band of the other tile, which all its pixels need
    assert np.isnan(out.rmse.values[hurt]).all()
    assert_array_equal(out.rmse.values[~hurt], whole.rmse.values[~hurt])
    assert_array_equal(out.sid_class.values[~hurt], whole.sid_class.values[~hurt])
    assert sorted(report["bad_chunks"]) == sorted([list(place) for each in places.values() for place in each])


def test_a_bad_tile_is_skipped_and_listed(tiles: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "0bad.h5"
    bad.write_bytes(tiles[0].read_bytes()[:3000])
    with pytest.raises(HsiError, match=r"0bad.h5: truncated"):
        run(asked([bad, *tiles], tmp_path / "out"))
    with pytest.warns(HsiWarning, match=r"0bad.h5: truncated .*; left out"):
        report = go([bad, *tiles], tmp_path / "out", on_error="skip")
    assert [one["path"] for one in report["skipped"]] == [str(bad)]
    go(tiles, tmp_path / "without")
    ours, theirs = products(tmp_path / "out"), products(tmp_path / "without")
    xr.testing.assert_equal(ours, theirs)


# the command line


def test_a_dry_run_does_nothing(tiles: list[Path], tmp_path: Path) -> None:
    status, said = shell("run", *tiles, "--out", tmp_path / "out", "--dry-run")
    assert status == 0, said
    assert "2, 90 x 140 pixels together, 0 of them in no tile" in said
    assert said.endswith("nothing was done\n")
    assert not (tmp_path / "out").exists()
