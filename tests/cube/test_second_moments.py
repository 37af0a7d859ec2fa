"""Moments of whole images: those of NumPy, the same bits whatever the chunks, and one decode of each chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import hsichunk as hsi
from hsichunk.chunks.array import DECODED
from hsichunk.cube import scratch, spectra_reader, subspace
from hsichunk.cube import second_moments as subject
from hsichunk.cube.spectra_reader import SpectraReader
from tests.helpers.cubes import cube_of
from tests.helpers.scenes import scene
from tests.helpers.tiles import WIDE_LAYOUTS, wide_tile

LITTLE = 200_000  # bytes: no row of chunks of the tiles here fits


def valid_of(cube: xr.DataArray) -> Any:
    """Valid spectra (n, L) float64, of counts where they are some."""
    values = cube.values.astype(np.float64)
    if "counts_per_unit" in cube.attrs:
        values = np.rint(values * cube.attrs["counts_per_unit"]) / cube.attrs["counts_per_unit"]
    flat = values.reshape(-1, cube.shape[2])
    return flat[np.isfinite(flat).all(1)]


@pytest.mark.parametrize("name", ["samson", "dlr", "neon", "emit"])
def test_moments_are_those_of_numpy(shared: Path, name: str) -> None:
    cube = scene(shared, name).cube
    found, pixels = hsi_moments(cube), valid_of(cube)
    assert found.attrs["pixels"] == len(pixels)
    assert_allclose(found["mean"].values, pixels.mean(0), rtol=1e-12, atol=1e-15)
    expected = np.cov(pixels.T, bias=True)
    assert_allclose(found.covariance.values, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert found.covariance.dims == ("wavelength", "wavelength_2")
    assert_array_equal(found.wavelength, cube.wavelength)
    assert_array_equal(found.wavelength_2, cube.wavelength)


def hsi_moments(cube: xr.DataArray, **asked: Any) -> xr.Dataset:
    return subject.moments(cube, **asked)


def test_moments_of_counts_are_exact(folder: Path) -> None:
    """Against whole numbers of any size, with counts at the ends of int16."""
    rng = np.random.default_rng(0)
    counts = rng.integers(-32768, 32768, (40, 130, 5)).astype(np.int16)
    counts[3:6] = 32767
    counts[7, 7, 2] = -9999
    cube = hsi.as_cube(counts, np.arange(5) + 400.0, scale=10000, no_data=-9999)
    with SpectraReader(cube) as spectra:
        found = subject.stream(spectra)
    flat = counts.reshape(-1, 5).astype(object)
    flat = flat[~(flat == -9999).any(1)]
    n = len(flat)
    assert found.n == n
    total, products = flat.sum(0), flat.T @ flat
    expected = (n * products - np.outer(total, total)) / (n * n)
    assert_allclose(found.covariance, expected.astype(np.float64), rtol=1e-12, atol=1e-6)
    assert_allclose(found.correlation, (products / n).astype(np.float64), rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("memory", [spectra_reader.MEMORY, LITTLE])
def test_stored_chunks_do_not_matter(folder: Path, memory: int) -> None:
    expected = hsi_moments(cube_of(wide_tile(folder)).compute(), noise=True)
    for chunks in WIDE_LAYOUTS:
        found = hsi_moments(cube_of(wide_tile(folder, chunks)), noise=True, memory=memory)
        assert (found.attrs.pop("scratch_bytes") > 0) == (memory == LITTLE)
        xr.testing.assert_identical(found, expected.drop_attrs(deep=False).assign_attrs(found.attrs))


@settings(max_examples=12)
@given(data=st.data(), counted=st.booleans(), memory=st.sampled_from([spectra_reader.MEMORY, LITTLE]))
def test_dask_chunks_do_not_matter(data: st.DataObject, counted: bool, memory: int) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 9000, (70, 90, 12)).astype(np.int16)
    counts[20, 30:33, 4] = -9999
    cube = hsi.as_cube(counts, np.arange(12) + 400.0, scale=10000, no_data=-9999)
    cube = cube if counted else (cube * 1.1).drop_attrs(deep=False)
    cuts = {dim: data.draw(st.integers(5, n)) for dim, n in cube.sizes.items()}
    found = hsi_moments(cube.chunk(cuts), noise=True, memory=memory)
    expected = hsi_moments(cube, noise=True)
    for name in expected.data_vars:
        assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("chunks", "memory"),
    [(WIDE_LAYOUTS[0], spectra_reader.MEMORY), (WIDE_LAYOUTS[1], LITTLE), (WIDE_LAYOUTS[2], LITTLE)],
)
def test_each_stored_chunk_is_decoded_once(folder: Path, chunks: tuple[int, int, int], memory: int) -> None:
    """Even when the spectra are gone through twice, where a file keeps them."""
    cube = cube_of(wide_tile(folder, chunks))
    kept = np.unique(
        np.flatnonzero(np.isin(hsi.open_tile(wide_tile(folder, chunks)).wavelength, cube.wavelength)) // chunks[2]
    )
    columns = -(-90 // chunks[0]) * -(-130 // chunks[1])
    before = DECODED.now()[0]
    with SpectraReader(cube, memory) as spectra:
        found = subject.stream(spectra)
        assert DECODED.now()[0] - before == columns * len(kept)
        if memory == LITTLE:
            subspace.scores(spectra, found.axes(2), found.mean)
            spectra.take(np.array([5, 900]))
            assert DECODED.now()[0] - before == columns * len(kept)


def test_noise_is_half_of_what_neighbours_differ_by(folder: Path) -> None:
    cube = cube_of(wide_tile(folder)).isel(y=slice(0, 60), x=slice(10, 90))
    found = hsi_moments(cube, noise=True)
    x = np.rint(cube.values.astype(np.float64) * 10000) / 10000
    apart = [(x[:, 1:] - x[:, :-1]).reshape(-1, x.shape[2]), (x[1:] - x[:-1]).reshape(-1, x.shape[2])]
    pairs = np.concatenate([a[np.isfinite(a).all(1)] for a in apart])
    assert np.isnan(cube.values).any()
    assert found.attrs["pairs"] == len(pairs)
    assert_allclose(found.noise_covariance.values, pairs.T @ pairs / len(pairs) / 2, rtol=1e-9, atol=1e-15)


def test_white_noise_is_found() -> None:
    rng = np.random.default_rng(2)
    smooth = np.linspace(0.1, 0.15, 100)[:, None, None] * np.linspace(1, 2, 8)
    cube = hsi.as_cube(smooth + rng.normal(0, 0.01, (100, 100, 8)), np.arange(8) + 400.0)
    noise = hsi_moments(cube, noise=True).noise_covariance.values
    assert_allclose(np.diag(noise), 1e-4, rtol=0.15)
    assert np.abs(noise - np.diag(np.diag(noise))).max() < 2e-5


def test_a_pixel_without_data_in_one_band_is_left_out(shared: Path) -> None:
    cube = scene(shared, "samson").cube[:20, :20].compute()
    spoilt = cube.copy(deep=True)
    spoilt[4, 5, 100], spoilt[6, 7, 3] = np.nan, np.inf
    found = hsi_moments(spoilt)
    pixels = np.delete(cube.values.reshape(400, -1).astype(np.float64), [85, 127], axis=0)
    assert found.attrs["pixels"] == 398
    assert_allclose(found["mean"], pixels.mean(0), rtol=1e-12)


@pytest.mark.parametrize("memory", [spectra_reader.MEMORY, 1000])
def test_scores_are_exact_whatever_the_chunks(folder: Path, memory: int) -> None:
    """In memory and on disk."""
    kept = []
    for cube in (
        cube_of(wide_tile(folder)),
        cube_of(wide_tile(folder, WIDE_LAYOUTS[1])),
        cube_of(wide_tile(folder)).compute(),
    ):
        with SpectraReader(cube, memory) as spectra:
            found = subject.stream(spectra)
            axes = found.axes(4)
            kept.append(subspace.scores(spectra, axes, found.mean))
    for other in kept[1:]:
        assert_array_equal(other.values, kept[0].values)
        assert_array_equal(other.valid, kept[0].valid)
    counts = np.rint(valid_of(cube) * 10000).astype(np.longdouble)
    exact = (counts @ axes.astype(np.longdouble)).astype(np.float64) - found.mean @ axes
    assert_array_equal(kept[0].values[kept[0].valid], exact)
    assert (kept[0].mapped is not None) == (memory == 1000)
    assert_allclose(np.cov(exact.T, bias=True), np.diag(np.linalg.eigvalsh(found.covariance)[::-1][:4]), atol=0.1)


def test_a_sample_stands_for_the_image(folder: Path) -> None:
    cube = cube_of(wide_tile(folder))
    few, all_of_it = hsi_moments(cube, sample=4000, seed=1), hsi_moments(cube)
    assert 3000 < few.attrs["pixels"] < 5000
    assert (few.attrs["source"], all_of_it.attrs["source"]) == ("a sample", "every pixel")
    assert_allclose(few["mean"], all_of_it["mean"], rtol=0.1)
    for chunks in WIDE_LAYOUTS[1:]:
        assert_array_equal(
            hsi_moments(cube_of(wide_tile(folder, chunks)), sample=4000, seed=1).covariance, few.covariance
        )
    assert_allclose(hsi_moments(cube, sample=10**6).covariance, all_of_it.covariance, rtol=1e-9, atol=1e-12)


def test_a_sample_goes_through_no_file(folder: Path) -> None:
    cube = cube_of(wide_tile(folder, WIDE_LAYOUTS[1]))
    before = DECODED.now()[0]
    few = hsi_moments(cube, sample=4000, seed=1, memory=LITTLE)
    assert DECODED.now()[0] - before == cube.sizes["wavelength"]
    assert few.attrs["scratch_bytes"] == 0
    assert hsi_moments(cube, memory=LITTLE).attrs["scratch_bytes"] > 0


def test_pixels_are_taken_as_they_are(folder: Path) -> None:
    cube = cube_of(wide_tile(folder))
    flat = cube.values.reshape(-1, cube.shape[2])
    asked = np.array([7000, 0, 11699, 6999, 7000])
    kinds = [
        (cube_of(wide_tile(folder, chunks)), memory)
        for chunks in WIDE_LAYOUTS
        for memory in (spectra_reader.MEMORY, LITTLE)
    ]
    kinds += [(cube.compute(), LITTLE), (cube.compute().chunk(y=20, x=30, wavelength=11), LITTLE)]
    for each, memory in kinds:
        with SpectraReader(each, memory) as spectra:
            values, valid = spectra.take(asked)
        assert_array_equal(valid, np.isfinite(flat[asked]).all(1))
        assert_array_equal((values / 10000).astype(np.float32)[valid], flat[asked][valid])


def test_what_cannot_be_done_is_refused_in_one_line(
    shared: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    cube = scene(shared, "dlr").cube
    for ask, said in (
        (lambda: hsi_moments(cube.values), "ndarray"),
        (lambda: hsi_moments(cube.where(False)), "0 valid pixels"),
        (lambda: hsi_moments(cube, noise=True, sample=50), "neighbours"),
        (lambda: hsi_moments(cube[:1, :1]), "1 valid pixels"),
        (lambda: subject.of_dataset(xr.Dataset()), "moments"),
    ):
        with pytest.raises(hsi.HsiError, match=said):
            ask()
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(hsi.HsiError, match="TMPDIR"):
        hsi_moments(cube_of(wide_tile(folder, WIDE_LAYOUTS[1])), memory=LITTLE)
