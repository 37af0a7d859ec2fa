"""N-FINDR over every pixel: no single pixel helps, the sample does not matter, nor do chunks; and outliers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.chunks import columns
from hsichunk.chunks.array import DECODED
from hsichunk.cube import spectra_reader
from hsichunk.cube.cleaning import source_of
from hsichunk.cube.second_moments import stream
from hsichunk.cube.spectra_reader import SpectraReader
from hsichunk.cube.subspace import Scores, scores
from hsichunk.endmembers import nfindr_all_pixels
from hsichunk.endmembers.outliers import outlying
from hsichunk.mosaic.tiled_counts import TiledCounts
from tests.helpers.cubes import cube_of, numbers_of
from tests.helpers.scenes import scene
from tests.helpers.tiles import WIDE_LAYOUTS, Counter, scattered_tiles, wide_tile


def lifted(cube: xr.DataArray, k: int) -> Any:
    """[1; scores] of every valid pixel in the first k - 1 principal components of the image, by NumPy."""
    flat = cube.values.reshape(-1, cube.shape[2]).astype(np.float64)
    flat = flat[np.isfinite(flat).all(1)]
    apart = flat - flat.mean(0)
    u, s, _ = np.linalg.svd(apart, full_matrices=False)
    return np.column_stack([np.ones(len(flat)), u[:, : k - 1] * s[: k - 1]])


@cache
def of_all_pixels(shared: Path, name: str, k: int) -> tuple[xr.DataArray, Any, float, xr.DataArray]:
    """A real scene, its pixels as points, the volume that a search among all of them finds, and the refined one."""
    cube = scene(shared, name).cube.compute()
    points = lifted(cube, k)
    whole = abs(np.linalg.det(points[numbers_of(cube, hsi.nfindr(cube, k, sample=None))]))
    return cube, points, whole, hsi.nfindr(cube, k, refine=True)


@pytest.mark.parametrize(("name", "k"), [("samson", 3), ("samson", 6), ("dlr", 6)])
@pytest.mark.parametrize("searched", [0, nfindr_all_pixels.MOST_SEARCHED])
def test_any_sample_ends_at_the_simplex_of_the_whole_image(
    shared: Path, monkeypatch: pytest.MonkeyPatch, name: str, k: int, searched: int
) -> None:
    """By passes that keep candidates, where the seed matters, as well as by a search among all pixels.

    Of 5 % of the pixels, 30 of 30 seeds.
    """
    cube, points, whole, alike = of_all_pixels(shared, name, k)
    monkeypatch.setattr(nfindr_all_pixels, "MOST_SEARCHED", searched)
    n = cube.sizes["y"] * cube.sizes["x"]
    smaller = too_few = 0
    seeds = range(3 if searched else 30)
    for seed in seeds:
        few = dict(sample=max(n // 20, k), share=1.0, seed=seed)
        found = hsi.nfindr(cube, k, refine=True, **few)  # type: ignore[arg-type]
        volume = abs(np.linalg.det(points[numbers_of(cube, found)]))
        assert_allclose(volume, whole, rtol=1e-7)
        assert found.attrs["certified"] == 1
        if searched:
            assert_array_equal(found.values, alike.values)
        if found.attrs["sample_pixels"] < k:  # no simplex to begin with: all pixels were searched instead
            too_few += 1
            continue
        assert found.attrs["refine_swaps"] > 0
        alone = hsi.nfindr(cube, k, **few)  # type: ignore[arg-type]
        smaller += abs(np.linalg.det(points[numbers_of(cube, alone)])) < whole * (1 - 1e-6)
    assert smaller == len(seeds) - too_few  # so there was something to refine
    assert too_few <= len(seeds) // 10


@pytest.mark.parametrize(("name", "k"), [("dlr", 5), ("neon", 4), ("samson", 4)])
def test_the_certificate_holds(shared: Path, name: str, k: int) -> None:
    """Every determinant of every swap, by NumPy."""
    cube = scene(shared, name).cube.compute()
    points = lifted(cube, k)
    found = hsi.nfindr(cube, k, sample=50, refine=True)
    corners = points[numbers_of(cube, found)]
    for slot in range(k):
        swapped = np.repeat(corners[None], len(points), 0)
        swapped[:, slot] = points
        assert np.abs(np.linalg.det(swapped)).max() <= abs(np.linalg.det(corners)) * (1 + 1e-7)


@pytest.mark.parametrize("memory", [spectra_reader.MEMORY, 200_000])
def test_chunks_do_not_matter(folder: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor whether scores and spectra go through files."""
    if memory != spectra_reader.MEMORY:
        monkeypatch.setattr(nfindr_all_pixels, "MOST_SEARCHED", 0)
    expected = hsi.nfindr(cube_of(wide_tile(folder)).compute(), 5, sample=500, refine=True, seed=3)
    monkeypatch.setattr(spectra_reader, "MEMORY", memory)
    cubes = [cube_of(wide_tile(folder, chunks)) for chunks in WIDE_LAYOUTS]
    cubes += [cubes[0].compute().chunk(y=37, x=41, wavelength=9), cubes[0].transpose("wavelength", "x", "y")]
    for cube in cubes:
        xr.testing.assert_identical(hsi.nfindr(cube, 5, sample=500, refine=True, seed=3), expected)


def test_blocks_do_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simplex does not depend on how many pixels one candidate is kept of."""
    monkeypatch.setattr(nfindr_all_pixels, "MOST_SEARCHED", 0)
    cube = cube_of(wide_tile(folder)).compute()
    expected = hsi.nfindr(cube, 4, sample=500, refine=True)
    for size in (1 << 30, 700):
        monkeypatch.setattr(
            nfindr_all_pixels,
            "_blocks",
            lambda every, _=0, size=size: [slice(a, a + size) for a in range(0, len(every.valid), size)],
        )
        found = hsi.nfindr(cube, 4, sample=500, refine=True)
        assert sorted(numbers_of(cube, found)) == sorted(numbers_of(cube, expected))


def test_a_pass_climbs_where_nothing_was_kept_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without corners to begin with the passes alone come to a certified simplex."""
    cube = cube_of(wide_tile(folder)).compute()
    monkeypatch.setattr(nfindr_all_pixels, "MOST_SEARCHED", 0)
    monkeypatch.setattr(nfindr_all_pixels, "_extremes", lambda every: np.empty(0, np.intp))
    found = hsi.nfindr(cube, 5, sample=20, refine=True)
    assert found.attrs["certified"] == 1
    assert found.attrs["refine_passes"] >= 2
    monkeypatch.setattr(nfindr_all_pixels, "MOST_PASSES", 1)
    assert hsi.nfindr(cube, 5, sample=20, refine=True).attrs["certified"] == 0


@pytest.mark.parametrize(("chunks", "decodes"), [(WIDE_LAYOUTS[1], 1), (WIDE_LAYOUTS[0], 2)])
def test_a_band_chunk_is_decoded_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, int, int], decodes: int
) -> None:
    """Others twice, and those under the endmembers again."""
    if decodes == 1:
        monkeypatch.setattr(spectra_reader, "MEMORY", 1_000_000)
    cube = cube_of(wide_tile(folder, chunks))
    tile = hsi.open_tile(wide_tile(folder, chunks))
    kept = len(np.unique(np.flatnonzero(np.isin(tile.wavelength, cube.wavelength)) // chunks[2]))
    columns = -(-90 // chunks[0]) * -(-130 // chunks[1])
    before = DECODED.now()[0]
    hsi.nfindr(cube, 4, sample=500, refine=True)
    spent = DECODED.now()[0] - before
    if decodes == 1:
        assert spent == kept * columns
    else:
        assert 2 * kept * columns <= spent <= 2 * kept * columns + 4 * kept


@pytest.mark.parametrize("chunks", [(32, 63, 27), (90, 130, 1), (50, 40, 11), (90, 130, 4)])
def test_scores_come_straight_from_stored_chunks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, int, int]
) -> None:
    """The same bits as from whole spectra, of any part of the tile; each chunk under it is decoded once."""
    monkeypatch.setattr(columns, "SMALL_COLUMN", 200_000)  # so that larger chunks are worked by all threads
    whole = cube_of(wide_tile(folder, chunks))
    assert np.isnan(whole.isel(wavelength=0).values).any()
    parts = [
        whole,
        whole.isel(y=slice(7, 80), x=slice(20, 101), wavelength=slice(3, 60)),
        whole.isel(y=[3, 4, 60, 89], x=slice(None, None, -7), wavelength=[0, 1, 2, 9, 11, 40, 41, 70]),
    ]
    rng = np.random.default_rng(0)
    for cube in parts:
        bands = cube.sizes["wavelength"]
        for d in (1, 4, 5):
            axes = np.rint(np.ldexp(rng.normal(size=(bands, d)) / 16, 32)) * 2.0**-32
            origin = rng.uniform(0, 4000, bands)
            with SpectraReader(cube.compute()) as spectra:
                expected = scores(spectra, axes, origin)
            with SpectraReader(cube) as spectra, Counter() as counter:
                found = scores(spectra, axes, origin)
            assert spectra.scratch_bytes == 0
            assert_array_equal(found.values, expected.values)
            assert_array_equal(found.valid, expected.valid)
        if cube is whole:
            source = source_of(cube)
            assert source is not None
            kept = len(np.unique(source[0].bands // chunks[2]))
            assert counter.chunks == kept * -(-90 // chunks[0]) * -(-130 // chunks[1])


def test_counts_that_sums_would_round_go_another_way(folder: Path) -> None:
    """Weights too large for exact sums, sums too large for the memory, and spectra that lie in memory already."""
    cube = cube_of(wide_tile(folder))
    axes = np.ones((cube.sizes["wavelength"], 1))
    values, valid = np.empty((90 * 130, 1)), np.empty(90 * 130, np.bool_)
    with SpectraReader(cube) as spectra:
        assert not spectra.project(axes, 2.0**-40, np.zeros(1), values, valid)
        assert spectra.project(axes, 2.0**-20, np.zeros(1), values, valid)
    for memory, possible in ((32 * 63 * 8, True), (32 * 63 * 8 - 1, False)):
        with SpectraReader(cube, memory) as spectra:
            assert spectra.project(axes, 2.0**-20, np.zeros(1), values, valid) == possible
    with SpectraReader(cube.compute()) as spectra:
        assert not spectra.project(axes, 2.0**-20, np.zeros(1), values, valid)


@pytest.mark.parametrize("chunks", WIDE_LAYOUTS)
def test_the_certificate_alone(folder: Path, chunks: tuple[int, int, int]) -> None:
    """It finds the pixel that would raise the volume most, by every determinant, and certifies what refine found."""
    cube = cube_of(wide_tile(folder, chunks))
    k = 4
    found = np.array(numbers_of(cube, hsi.nfindr(cube, k, sample=500, refine=True)))
    with SpectraReader(cube) as spectra:
        moments = stream(spectra)
    axes = moments.axes(k - 1)
    with SpectraReader(cube) as spectra, Counter() as counter:
        assert (
            1 - 1e-12 <= nfindr_all_pixels.certificate(spectra, axes, moments.mean, found) <= 1 + nfindr_all_pixels.GAIN
        )
    assert counter.chunks > 0 and spectra.scratch_bytes == 0
    points = lifted(cube.compute(), k)
    valid = np.flatnonzero(np.isfinite(cube.values).all(2).ravel())
    others = valid[[5, 1000, 4000, 8000]]
    corners = points[np.searchsorted(valid, others)]
    most = 0.0
    for slot in range(k):
        swapped = np.repeat(corners[None], len(points), 0)
        swapped[:, slot] = points
        most = max(most, float(np.abs(np.linalg.det(swapped)).max()))
    with SpectraReader(cube) as spectra:
        largest = nfindr_all_pixels.certificate(spectra, axes, moments.mean, others)
        assert_allclose(largest, most / abs(np.linalg.det(corners)), rtol=1e-5)
        assert largest > 1.5
        with pytest.raises(hsi.HsiError, match="span no simplex"):
            nfindr_all_pixels.certificate(spectra, axes, moments.mean, valid[[5, 5, 1000, 4000]])
        missing = np.flatnonzero(~np.isfinite(cube.values).all(2).ravel())[0]
        with pytest.raises(hsi.HsiError, match="valid, independent"):
            nfindr_all_pixels.certificate(spectra, axes, moments.mean, np.array([missing, *others[1:]]))


def test_a_swap_that_gains_is_found_on_any_chunks(folder: Path) -> None:
    """A certificate with one endmember taken away for its neighbour is none: the best swap brings it back."""
    cube = cube_of(wide_tile(folder))
    found = np.array(numbers_of(cube, hsi.nfindr(cube, 5, refine=True)))
    with SpectraReader(cube) as spectra:
        moments = stream(spectra)
    worse = found.copy()
    worse[2] += 1 if found[2] % 130 < 129 else -1
    largest = set()
    for chunks in WIDE_LAYOUTS:
        with SpectraReader(cube_of(wide_tile(folder, chunks))) as spectra:
            largest.add(nfindr_all_pixels.certificate(spectra, moments.axes(4), moments.mean, worse))
    assert len(largest) == 1
    assert largest.pop() > 1 + nfindr_all_pixels.GAIN


def test_no_data_is_no_candidate(folder: Path) -> None:
    cube = cube_of(wide_tile(folder)).compute()
    assert np.isnan(cube.values).any()
    found = hsi.nfindr(cube, 5, refine=True)
    spoilt = cube.copy(deep=True)
    spoilt[50, 60] = 3.0
    spoilt[50, 60, 7] = np.nan
    assert (50 * 130 + 60) not in numbers_of(cube, found)
    again = hsi.nfindr(spoilt, 5, refine=True)
    assert_array_equal(again.values, found.values)


def test_of_twins_the_first_counts(shared: Path) -> None:
    cube = scene(shared, "dlr").cube.compute()
    twice = xr.concat([cube, cube.assign_coords(y=cube.y + 100)], "y")
    for seed in range(4):
        xs = hsi.nfindr(twice, 5, sample=40, seed=seed, refine=True)
        assert (np.array(numbers_of(twice, xs)) < cube.sizes["y"] * cube.sizes["x"]).all()


@pytest.mark.parametrize("refined", [True, False])
@pytest.mark.parametrize("name", ["samson", "dlr"])
def test_the_guard_leaves_outliers_out(shared: Path, name: str, refined: bool) -> None:
    """Two pixels of unflagged no-data and one ten times too bright."""
    cube = scene(shared, name).cube.compute()
    k = {"samson": 3, "dlr": 6}[name]
    free = [(2, 3), (8, 8), (11, 1)]
    expected = hsi.nfindr(cube, k, sample=None, refine=refined)
    assert not {y * cube.sizes["x"] + x for y, x in free} & set(numbers_of(cube, expected))
    spoilt = cube.copy(deep=True)
    for y, x in free[:2]:
        spoilt[y, x] = -0.9999
    spoilt[free[2]] *= 10
    unguarded = hsi.nfindr(spoilt, k, sample=None, refine=refined)
    assert set(numbers_of(cube, unguarded)) != set(numbers_of(cube, expected))
    n = cube.sizes["y"] * cube.sizes["x"]
    for limit in (GUARD[name], 3.01 / n):
        found = hsi.nfindr(spoilt, k, sample=None, refine=refined, exclude=limit)
        assert found.attrs["excluded"] == 3
        assert sorted(numbers_of(cube, found)) == sorted(numbers_of(cube, expected))
    assert "excluded" not in expected.attrs
    clean = hsi.nfindr(cube, k, sample=None, refine=refined, exclude=GUARD[name])
    assert clean.attrs["excluded"] == 0
    assert_array_equal(clean.values, expected.values)


GUARD = {"samson": 4.0, "dlr": 20.0}  # its targets are nine pixels each


def test_distances_are_robust() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2000, 3)) * [100, 10, 1]
    points[5], points[6] = [1e6, 0, 0], [0, 0, 200]
    valid = np.ones(2000, np.bool_)
    valid[6] = False
    assert np.flatnonzero(outlying(points, valid, 50)).tolist() == [5]
    assert np.flatnonzero(outlying(points, valid, 1.1 / 2000)).tolist() == [5]
    assert not outlying(points, valid, None).any()
    alike = np.zeros((100, 2))
    alike[3, 1] = 1.0
    assert np.flatnonzero(outlying(alike, np.ones(100, np.bool_), 20)).tolist() == [3]


def test_blocks_without_data_are_passed_over() -> None:
    values = np.random.default_rng(0).normal(size=(3 * nfindr_all_pixels.BLOCK // 2, 2))
    every = Scores(values, np.arange(len(values)) >= nfindr_all_pixels.BLOCK)
    best, ratio = nfindr_all_pixels._scan(every, np.ones(2), np.array([[1.0, 0, 0], [1, 1, 0], [1, 0, 1]]))
    assert (best[0] == -1).all()
    assert (ratio[0] == 0).all()
    assert (best[1] >= nfindr_all_pixels.BLOCK).all()
    assert (nfindr_all_pixels._extremes(every) >= nfindr_all_pixels.BLOCK).all()


def test_what_cannot_be_done_is_refused_in_one_line(shared: Path) -> None:
    cube = scene(shared, "dlr").cube
    asks: list[tuple[xr.DataArray, dict[str, Any], str]] = [
        (cube, {"k": 4, "exclude": -1.0}, "exclude"),
        (cube, {"k": 4, "exclude": np.nan, "refine": True}, "exclude"),
        (cube.where(False), {"k": 4, "refine": True}, "0 valid pixels"),
        (cube.isel(y=[0], x=[0, 1, 2]), {"k": 4, "refine": True}, "span 2 dimensions"),
        (cube.where(cube < -9, 0.5), {"k": 2, "refine": True}, "span 0 dimensions"),
        (cube, {"k": 4, "refine": True, "sample": 0}, "sample"),
        (cube, {"k": 4, "refine": True, "exclude": 0.999}, "valid pixels"),
    ]
    for cube, asked, said in asks:
        with pytest.raises(hsi.HsiError, match=said) as refusal:
            hsi.nfindr(cube, **asked)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("chunks", [(16, 21, 27), (60, 70, 1)])
@pytest.mark.parametrize("memory", [spectra_reader.MEMORY, 4_000_000, 600_000])
def test_a_site_has_the_endmembers_of_one_large_tile(
    tmp_path_factory: pytest.TempPathFactory, chunks: tuple[int, int, int], memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits; what is read at a time stays within the memory, what is decoded in two passes and the picks."""
    folder, paths = sites(tmp_path_factory, chunks)
    one = hsi.clean(hsi.open_tile(folder / "one.h5"))
    if memory != spectra_reader.MEMORY:
        monkeypatch.setattr(nfindr_all_pixels, "MOST_SEARCHED", 0)
    expected = hsi.nfindr(one, 4, sample=500, refine=True, seed=2)
    monkeypatch.setattr(spectra_reader, "MEMORY", memory)
    cube = hsi.clean(hsi.open_mosaic(paths))
    source = source_of(cube)
    assert source is not None
    kept = len(np.unique(source[0].bands // chunks[2]))
    in_tile = kept * -(-60 // chunks[0]) * -(-70 // chunks[1])
    sizes: list[int] = []
    read = TiledCounts.read

    def spied(self: TiledCounts, *selection: Any, threads: int | None = None) -> Any:
        values = read(self, *selection, threads=threads)
        sizes.append(values.nbytes)
        return values

    monkeypatch.setattr(TiledCounts, "read", spied)
    with Counter() as counter:
        found = hsi.nfindr(cube, 4, sample=500, refine=True, seed=2)
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())
    assert found.attrs == expected.attrs
    assert found.attrs["certified"] == 1
    picks = 4 * (in_tile if chunks[2] == 1 else kept)
    assert counter.chunks <= 2 * 6 * in_tile + picks
    assert max(sizes) <= max(memory // 2, 60 * 70 * chunks[2] * 2)


def sites(factory: pytest.TempPathFactory, chunks: tuple[int, int, int]) -> tuple[Path, list[Path]]:
    """Six tiles, three rows of two, and one tile of the same pixels, in a folder that is written once."""
    folder = factory.getbasetemp() / f"site_{chunks[2]}"
    paths = [folder / f"tile_{i}_{j}.h5" for i in range(3) for j in range(2)]
    if not folder.exists():
        folder.mkdir()
        same: dict[str, Any] = {"bands": 64, "seed": 3, "no_data": "none", "chunks": chunks}
        for number, path in enumerate(paths):
            i, j = divmod(number, 2)
            hsi.synthetic.write_tile(path, shape=(60, 70), origin=(368000.0 + 70 * j, 4307000.0 - 60 * i), **same)
        hsi.synthetic.write_tile(folder / "one.h5", shape=(180, 140), **same)
    return folder, paths


def test_tiles_that_lie_anyhow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlapping, off each other's chunks, with holes between them: as of the same counts in memory."""
    monkeypatch.setattr(nfindr_all_pixels, "MOST_SEARCHED", 0)
    cube = hsi.clean(hsi.open_mosaic(scattered_tiles(tmp_path)))
    expected = hsi.nfindr(cube.compute(), 4, refine=True)
    for memory in (spectra_reader.MEMORY, 1_000_000, 100_000):
        monkeypatch.setattr(spectra_reader, "MEMORY", memory)
        for part in (cube, cube.isel(y=slice(None, None, -1)).isel(y=slice(None, None, -1))):
            xr.testing.assert_identical(hsi.nfindr(part, 4, refine=True), expected)
