"""N-FINDR and its sample: PySpTools' simplex or a larger one, and the same pixels whatever the chunks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.chunks.array import DECODED
from hsichunk.cube import cube_sample, sampling
from hsichunk.endmembers import nfindr_in_memory
from tests.helpers import pysptools_oracle as oracle
from tests.helpers.cubes import cube_of
from tests.helpers.scenes import scene
from tests.helpers.tiles import WIDE_LAYOUTS, wide_tile


def wide(folder: Path) -> xr.DataArray:
    """More cells than the sample takes: 400 x 380 pixels, 24 bands."""
    return cube_of(wide_tile(folder, (32, 63, 10), shape=(400, 380), bands=24, no_data="none"))


def pixels_of(cube: xr.DataArray, em: xr.DataArray) -> tuple[list[int], list[int]]:
    """Rows and columns of the source pixels."""
    rows = [int(np.flatnonzero(cube.y.values == y)[0]) for y in em.y.values]
    return rows, [int(np.flatnonzero(cube.x.values == x)[0]) for x in em.x.values]


def volume(spectra: Any, rows: Any, columns: Any) -> float:
    """Volume of the simplex of pixels in the first k - 1 principal components, up to a factor."""
    flat = spectra.reshape(-1, spectra.shape[-1])
    axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][: len(rows) - 1]
    corners = (spectra[rows, columns] - flat.mean(0)) @ axes.T
    return abs(np.linalg.det(np.column_stack([np.ones(len(rows)), corners])))


@pytest.mark.parametrize(
    ("name", "k", "step"),
    [
        ("dlr", 3, 1),
        ("dlr", 6, 1),
        ("dlr", 8, 1),
        ("dlr", 9, 1),
        ("samson", 3, 1),
        ("samson", 4, 3),
        ("samson", 6, 3),
        ("neon", 4, 1),
        ("neon", 7, 1),
    ],
)
def test_the_simplex_is_as_large_as_that_of_pysptools(shared: Path, name: str, k: int, step: int) -> None:
    cube = scene(shared, name).cube[::step, ::step].compute()
    x = cube.values.astype(np.float64)
    theirs = oracle.nfindr(x, k)
    rows, columns = pixels_of(cube, hsi.nfindr(cube, k))
    ours, reference = volume(x, rows, columns), volume(x, theirs.rows, theirs.columns)
    assert ours >= reference * (1 - 1e-9)
    same = set(zip(rows, columns, strict=True)) == set(zip(theirs.rows, theirs.columns, strict=True))
    assert same == (ours <= reference * (1 + 1e-9))
    if (name, k) in {("dlr", 6), ("samson", 3), ("neon", 4)}:  # as many as the scene has
        assert same


def test_endmembers_of_the_targets_are_those_of_the_library(shared: Path) -> None:
    found = scene(shared, "dlr")
    picked = hsi.nfindr(found.cube, 6)
    angles = hsi.sam(hsi.as_cube(picked.values[None], found.cube.wavelength), found.endmembers).values[:, 0]
    nearest = angles.argmin(0)
    assert sorted(nearest) == list(range(6))
    assert angles.min(0).mean() <= 0.0365


def test_no_single_pixel_would_raise_the_volume(shared: Path) -> None:
    cube = scene(shared, "dlr").cube
    found = hsi.nfindr(cube, 5)
    assert found.attrs["converged"] == 1
    flat = cube.values.reshape(-1, cube.shape[2]).astype(np.float64)
    axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:4]
    lifted = np.column_stack([np.ones(len(flat)), (flat - flat.mean(0)) @ axes.T])
    rows, columns = pixels_of(cube, found)
    corners = lifted[np.array(rows) * cube.shape[1] + columns]
    for slot in range(5):
        swapped = np.repeat(corners[None], len(flat), 0)
        swapped[:, slot] = lifted
        assert np.abs(np.linalg.det(swapped)).max() <= abs(np.linalg.det(corners)) * (1 + 1e-8)


@pytest.mark.parametrize("name", ["dlr", "samson", "neon"])
def test_places_hold_the_spectra(shared: Path, name: str) -> None:
    cube = scene(shared, name).cube.compute()
    found = hsi.nfindr(cube, 4)
    assert found.dims == ("endmember", "wavelength")
    assert found.dtype == np.float64
    assert found.endmember.values.tolist() == ["EM1", "EM2", "EM3", "EM4"]
    assert (found.x.dims, found.y.dims) == (("endmember",), ("endmember",))
    xr.testing.assert_equal(found.wavelength, cube.wavelength)
    there = cube.sel(y=found.y, x=found.x).transpose("endmember", "wavelength")
    assert_array_equal(found.values.astype(cube.dtype), there.values)
    if "counts_per_unit" in cube.attrs:
        assert_array_equal(found.values, np.rint(there.values.astype(np.float64) * 10000) / 10000)


def test_places_of_a_tile_are_its_pixel_centres(folder: Path) -> None:
    cube = cube_of(wide_tile(folder))
    found = hsi.nfindr(cube, 4)
    rows, columns = pixels_of(cube, found)
    assert_array_equal(found.values.astype(np.float32), cube.values[rows, columns])
    assert_array_equal(found.x, 368000 + np.array(columns) + 0.5)
    assert_array_equal(found.y, 4307000 - np.array(rows) - 0.5)


def options() -> list[dict[str, Any]]:
    return [{}, {"sample": 2000}, {"sample": 2000, "seed": 1}, {"sample": None}]


@pytest.mark.parametrize("number", range(len(options())))
def test_stored_chunks_do_not_matter(folder: Path, number: int) -> None:
    asked = options()[number]
    first, *others = (hsi.nfindr(cube_of(wide_tile(folder, chunks)), 4, **asked) for chunks in WIDE_LAYOUTS)
    for other in (*others, hsi.nfindr(cube_of(wide_tile(folder)).compute(), 4, **asked)):
        xr.testing.assert_identical(other, first)


@settings(max_examples=8)
@given(data=st.data(), counted=st.booleans())
def test_dask_chunks_do_not_matter(folder: Path, data: Any, counted: bool) -> None:
    cube = cube_of(wide_tile(folder)).isel(y=slice(10, 80), x=slice(20, 110), wavelength=slice(0, 40)).compute()
    if not counted:
        cube = cube * np.float32(0.77)
    sizes = {
        dim: data.draw(st.integers(1, 90 if dim != "wavelength" else 40).filter(lambda v: v > 4)) for dim in cube.dims
    }
    found = hsi.nfindr(cube.chunk(sizes), 4, sample=1500)
    xr.testing.assert_identical(found, hsi.nfindr(cube, 4, sample=1500))


def test_a_cube_listed_the_other_way_round_has_the_same_endmembers(folder: Path) -> None:
    cube = cube_of(wide_tile(folder)).compute()
    turned = hsi.nfindr(cube.isel(y=slice(None, None, -1), x=slice(None, None, -1)), 4, sample=2000)
    xr.testing.assert_identical(turned, hsi.nfindr(cube, 4, sample=2000))
    xr.testing.assert_identical(hsi.nfindr(cube.transpose("wavelength", "x", "y"), 4, sample=2000), turned)


def test_the_seed_decides_on_the_sample(folder: Path) -> None:
    cube = cube_of(wide_tile(folder))
    one, same, other = (cube_sample.draw(cube, 2000, 0.125, seed) for seed in (5, 5, 6))
    assert_array_equal(one.spectra, same.spectra)
    pixels = [set(zip(s.y.tolist(), s.x.tolist(), strict=True)) for s in (one, other)]
    assert len(pixels[0] & pixels[1]) < 0.5 * len(pixels[0])


@pytest.mark.parametrize("seed", [0, 1, -7, 2**70])
@pytest.mark.parametrize("size", [300, 3000, 20000])
def test_the_sample_is_about_as_large_as_asked_for(folder: Path, seed: int, size: int) -> None:
    sample = cube_sample.draw(wide(folder), size, 0.125, seed)
    assert abs(sample.drawn - size) < 5 * np.sqrt(size)
    assert len(sample.spectra) == sample.drawn == len(sample.y) == len(sample.x)
    # from north to south, then from west to east
    assert (np.diff(sample.y) <= 0).all()
    assert (np.diff(sample.x)[np.diff(sample.y) == 0] > 0).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("offset", [0, 30, 60])
def test_cells_are_added_until_they_hold_the_sample(seed: int, offset: int) -> None:
    """Cells that the image's edge cuts hold few pixels: sixteen of 25 may be too few."""
    down, across = np.arange(200) + offset, np.arange(190) - offset
    rows, columns = sampling.choose(down, across, 30000, 0.125, seed)
    assert abs(len(rows) - 30000) < 5 * np.sqrt(30000)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)


def test_few_pixels_are_all_taken(folder: Path) -> None:
    cube = cube_of(wide_tile(folder))
    sample = cube_sample.draw(cube, 20000, 0.125, 0)
    assert sample.drawn == 90 * 130
    assert len(sample.spectra) == int(np.isfinite(cube.values).all(-1).sum())
    assert np.isfinite(sample.spectra).all()
    assert sample.spectra.min() > -9999


def test_only_chunks_under_the_chosen_cells_are_decoded(folder: Path) -> None:
    cube = wide(folder)
    before = DECODED.now()[0]
    sample = cube_sample.draw(cube, 20000, 0.125, 0)
    decoded = DECODED.now()[0] - before
    cells = {(int(-y // 64), int(x // 64)) for y, x in zip(np.floor(sample.y), np.floor(sample.x), strict=True)}
    assert len(cells) == sampling.FEWEST_CELLS
    rows, columns = np.round(4306999.5 - sample.y).astype(int), np.round(sample.x - 368000.5).astype(int)
    assert_array_equal(sample.spectra, np.rint(cube.values[rows, columns] * 10000.0))
    under = len(set(zip(rows // 32, columns // 63, strict=True)))
    depth = len(np.unique(np.arange(24)[:14] // 10))
    assert cube.sizes["wavelength"] <= 14
    assert decoded == under * depth
    everything = -(-400 // 32) * -(-380 // 63)
    assert under < 0.8 * everything
    before = DECODED.now()[0]
    cube_sample.draw(cube, 20000, 1.0, 0)
    assert DECODED.now()[0] - before == everything * depth


def test_pixels_are_drawn_by_their_place_alone() -> None:
    """Half an image has the sample that the whole image has there, when the same share of pixels is asked for."""
    down, across = sampling.places(np.arange(5000, 4800, -1) + 0.5, descending=True), np.arange(100, 300)
    rows, columns = sampling.choose(down, across, 4000, 1.0, 3)
    half_rows, half_columns = sampling.choose(down[100:], across, 2000, 1.0, 3)
    lower = rows >= 100
    assert set(zip(rows[lower] - 100, columns[lower], strict=True)) == set(zip(half_rows, half_columns, strict=True))


@pytest.mark.parametrize("size", [0.3, 1 / 3, 0.7, 1.0, 2.5, 30.0])
@pytest.mark.parametrize("origin", [368000.0, 4307000.0, 257123.4, 4112000.5])
def test_places_count_up_by_one_and_do_not_depend_on_the_window(size: float, origin: float) -> None:
    centres = origin + (np.arange(1000) + 0.5) * size
    places = sampling.places(centres, descending=False)
    assert_array_equal(np.diff(places), 1)
    assert_array_equal(sampling.places(centres[::-1], descending=True), -places[::-1])
    for start, stop in ((0, 2), (997, 1000), (500, 640)):
        assert_array_equal(sampling.places(centres[start:stop], descending=False), places[start:stop])


@pytest.mark.parametrize("kind", ["stored", "memory", "chunked"])
def test_no_data_is_no_candidate(folder: Path, kind: str) -> None:
    cube = cube_of(wide_tile(folder))
    cube = cube if kind == "stored" else cube.compute() if kind == "memory" else cube.compute().chunk({"y": 20})
    assert np.isnan(cube.values[0, 0]).all()
    found = hsi.nfindr(cube, 5, sample=None)
    assert found.values.min() > -0.01
    assert found.attrs["sample_pixels"] == int(np.isfinite(cube.values).all(-1).sum())


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS[:2])
def test_one_kept_band_without_data_is_enough(folder: Path, tmp_path: Path, chunks: tuple[int, int, int]) -> None:
    """In a stored tile too; what a dropped band holds does not matter."""
    path = tmp_path / "NEON_D02_SERC_DP3_368000_4306000_reflectance.h5"
    path.write_bytes(wide_tile(folder, chunks).read_bytes())
    found = hsi.nfindr(cube_of(wide_tile(folder, chunks)), 4)
    rows, columns = pixels_of(cube_of(wide_tile(folder)), found)
    with h5py.File(path, "r+") as file:
        counts = file["SERC/Reflectance/Reflectance_Data"]
        counts[50, 60] = 14000  # would be an endmember at once
        counts[50, 60, 20] = -9999
        counts[rows[0], columns[0], 95] = -9999  # among the last 10 bands
    cube = hsi.clean(hsi.open_tile(path))
    again = hsi.nfindr(cube, 4)
    assert_array_equal(again.values, found.values)
    assert again.attrs["sample_pixels"] == found.attrs["sample_pixels"] - 1


@pytest.mark.parametrize("name", ["dlr", "samson"])
def test_planted_pixels_of_no_data_change_nothing_else(shared: Path, name: str) -> None:
    """Pixels far brighter than any other, were it not for one band without data."""
    cube = scene(shared, name).cube.compute()
    found = hsi.nfindr(cube, 4)
    rows, columns = pixels_of(cube, found)
    spoilt = cube.copy(deep=True)
    free = [place for place in ((5, 7), (9, 3), (8, 8)) if place not in zip(rows, columns, strict=True)][:2]
    for number, (y, x) in enumerate(free):
        spoilt[y, x] = 3.0 - number
        spoilt[y, x, 20 + number] = np.nan
    again = hsi.nfindr(spoilt, 4)
    assert_array_equal(again.values, found.values)
    assert (again.attrs["sample_pixels"], found.attrs["sample_pixels"]) == (cube[..., 0].size - 2, cube[..., 0].size)


def test_ties_go_to_the_first_pixel(folder: Path) -> None:
    cube = cube_of(wide_tile(folder)).isel(y=slice(35, 55), x=slice(45, 65)).compute()
    twice = xr.concat([cube, cube.assign_coords(y=cube.y - 20)], "y")
    xr.testing.assert_equal(hsi.nfindr(twice, 4), hsi.nfindr(cube, 4))


def test_what_rounding_tells_apart_is_a_tie() -> None:
    assert nfindr_in_memory.first_largest(np.array([1.0, 2.0, 2.0 + 1e-12, 2.0 - 1e-12])) == 1
    assert nfindr_in_memory.first_largest(np.array([1.0, 2.0, 2.0 + 1e-6])) == 2
    corner = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    again = corner * (1 + 1e-12)
    found = nfindr_in_memory.search(np.concatenate([corner, again, corner / 2]) - 0.25, 9)
    assert sorted(found.pixels) == [0, 1, 2]


def test_sweeps_are_counted_and_limited(shared: Path) -> None:
    cube = scene(shared, "samson").cube
    free, one = hsi.nfindr(cube, 6), hsi.nfindr(cube, 6, maxit=1)
    assert free.attrs["converged"] == 1
    assert 2 <= free.attrs["sweeps"] <= 18
    assert (one.attrs["sweeps"], one.attrs["converged"]) == (1, 0)
    assert one.attrs["swaps"] <= free.attrs["swaps"]


def test_counts_and_their_reflectance_give_the_same(shared: Path) -> None:
    """What reflectance is counted in does not decide on pixels."""
    cube = scene(shared, "dlr").cube
    plain = cube.drop_attrs(deep=False).astype(np.float64)
    assert_array_equal(hsi.nfindr(plain, 6).x, hsi.nfindr(cube, 6).x)
    assert_array_equal(hsi.nfindr(plain * 3, 6).y, hsi.nfindr(cube, 6).y)


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(0)
    spectra = np.rint(
        rng.normal(size=(300, 5)) @ rng.normal(size=(5, 40)) * 900 + rng.normal(size=(300, 40)) * 9 + 3000
    )
    centred = spectra - spectra.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    for values in (spectra.astype(np.int16), spectra, spectra / 1e4):
        scores = nfindr_in_memory.components(values, 5)
        expected = u[:, :5] * s[:5] * (1e-4 if values.max() < 10 else 1)
        signs = np.sign((scores * expected).sum(0))
        assert_allclose(scores * signs, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def refusals() -> list[tuple[Any, dict[str, Any], str]]:
    """What nfindr is asked for, and a word of the refusal."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5000, (6, 7, 5)).astype(np.int16)

    def cube(values: Any, **more: Any) -> xr.DataArray:
        return hsi.as_cube(values, np.arange(values.shape[2]) + 400.0, scale=10000, **more)

    good, gone = cube(counts), np.full_like(counts, -9999)
    few = gone.copy()
    few[0, :3] = counts[0, :3]
    two = np.where((np.arange(42) % 2).reshape(6, 7, 1).astype(bool), counts[0, 0], counts[1, 1]).astype(np.int16)
    alike = np.broadcast_to(rng.uniform(0, 1, 5), (61, 73, 5)).copy()
    return [
        (good, {"k": 1}, "k is 1"),
        (good, {"k": 0}, "k is 0"),
        (good, {"k": 255}, "254"),
        (good, {"k": "4"}, "4"),
        (good, {"k": 2.5}, "2.5"),
        (good, {"k": 6}, "5 bands"),
        (good, {"k": 3, "maxit": 0}, "maxit"),
        (good, {"k": 3, "sample": 0}, "sample"),
        (good, {"k": 3, "sample": 5, "share": 0.0}, "share"),
        (good, {"k": 3, "sample": 5, "share": 1.5}, "share"),
        (cube(few, no_data=-9999), {"k": 4}, "3 valid pixels"),
        (cube(gone, no_data=-9999), {"k": 2}, "0 valid pixels"),
        (cube(np.full_like(counts, 777)), {"k": 2}, "0 dimensions"),
        (cube(np.full_like(counts, 777)).astype(np.float64), {"k": 2}, "0 dimensions"),
        (hsi.as_cube(alike, np.arange(5) + 400.0), {"k": 2}, "0 dimensions"),
        (cube(two), {"k": 3}, "1 dimensions"),
        (good.isel(wavelength=0), {"k": 3}, "wavelength"),
        (counts, {"k": 3}, "ndarray"),
        (xr.DataArray(counts, dims=("y", "x", "wavelength")), {"k": 3}, "int16"),
        (xr.DataArray(counts / 1e4, dims=("y", "x", "wavelength")), {"k": 3}, "no wavelengths"),
    ]


@pytest.mark.parametrize("number", range(len(refusals())))
def test_what_cannot_be_done_is_refused_in_one_line(number: int) -> None:
    cube, asked, said = refusals()[number]
    with pytest.raises(hsi.HsiError) as refusal:
        hsi.nfindr(cube, **asked)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS[:2])
def test_a_tile_without_data_is_refused(folder: Path, tmp_path: Path, chunks: tuple[int, int, int]) -> None:
    path = tmp_path / "NEON_D02_SERC_DP3_368000_4306000_reflectance.h5"
    path.write_bytes(wide_tile(folder, chunks).read_bytes())
    with h5py.File(path, "r+") as file:
        file["SERC/Reflectance/Reflectance_Data"][...] = -9999
    with pytest.raises(hsi.HsiError, match="0 valid pixels"):
        hsi.nfindr(hsi.clean(hsi.open_tile(path)), 4, sample=100)


def test_a_tile_mostly_without_data_is_searched_everywhere(folder: Path) -> None:
    """Where the drawn cells hold too few pixels, the sample spreads over all of them."""
    cube = wide(folder).compute()
    keep = np.zeros((400, 380), np.bool_)
    keep[230:260, 300:330] = True
    empty = next(
        seed
        for seed in range(50)
        if not cube_sample.draw(cube.where(xr.DataArray(keep, dims=("y", "x"))), 3000, 0.1, seed).spectra.size
    )
    found = hsi.nfindr(cube.where(xr.DataArray(keep, dims=("y", "x"))), 3, sample=3000, share=0.1, seed=empty)
    rows, columns = pixels_of(cube, found)
    assert keep[rows, columns].all()


def test_the_input_is_left_as_it_was(shared: Path) -> None:
    cube = scene(shared, "dlr").cube
    kept = cube.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hsi.nfindr(cube, 4)
    xr.testing.assert_identical(cube, kept)
