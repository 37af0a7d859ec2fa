"""Many tiles, one grid: which pixels of which tile make up the image, and which tiles are no image together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsichunk.chunks.windows import Window, outside
from hsichunk.errors import HsiError
from hsichunk.mosaic.site import Site, open_site
from tests.helpers.tiles import small_tile

SMALL: dict[str, Any] = {"shape": (8, 8), "chunks": (4, 4, 20), "no_data": "none"}


def drawn(site: Site) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number of the tile that each pixel of the image is taken from; -1 for none, -9 where two claim it."""
    image = np.full((site.rows, site.cols), -1)
    for number, place in enumerate(site.tiles):
        for w in place.owned:
            part = image[place.top + w.top : place.top + w.bottom, place.left + w.left : place.left + w.right]
            part[:] = np.where(part == -1, number, -9)
    return image


def test_one_tile_is_its_own_site(tmp_path: Path) -> None:
    site = open_site([small_tile(tmp_path / "a.h5", **SMALL)])
    assert (site.rows, site.cols) == (8, 8)
    assert site.grid == site.tiles[0].file.grid
    assert site.tiles[0].owned == (Window(0, 8, 0, 8),)


def test_tiles_lie_where_their_grids_say(tmp_path: Path) -> None:
    small_tile(tmp_path / "a.h5", **SMALL, origin=(368000.0, 4307000.0))
    small_tile(tmp_path / "b.h5", **SMALL, origin=(368008.0, 4307000.0))
    small_tile(tmp_path / "c.h5", **SMALL, origin=(368012.0, 4306990.0))  # a gap of two rows, four columns aside
    site = open_site(sorted(tmp_path.glob("*.h5")))
    image = drawn(site)
    assert image.shape == (18, 20)
    assert (image[:8, :8] == 0).all()
    assert (image[:8, 8:16] == 1).all()
    assert (image[10:, 12:] == 2).all()
    assert (image == -1).sum() == 18 * 20 - 3 * 64
    assert (site.grid.left, site.grid.top) == (368000.0, 4307000.0)
    np.testing.assert_array_equal(site.grid.x(20)[[0, -1]], [368000.5, 368019.5])
    np.testing.assert_array_equal(site.grid.y(18)[[0, -1]], [4306999.5, 4306982.5])


def test_where_tiles_overlap_the_first_by_name_counts_whatever_the_order(tmp_path: Path) -> None:
    small_tile(tmp_path / "b.h5", **SMALL, origin=(368000.0, 4307000.0))
    small_tile(tmp_path / "a.h5", **SMALL, origin=(368003.0, 4306998.0))
    small_tile(tmp_path / "c.h5", **SMALL, origin=(368001.0, 4306999.0))
    paths = [tmp_path / name for name in ("a.h5", "b.h5", "c.h5")]
    images = [drawn(open_site(order)) for order in (paths, paths[::-1], [paths[1], paths[2], paths[0], paths[1]])]
    for image in images:
        np.testing.assert_array_equal(image, images[0])
    wanted = np.full((10, 11), -1)
    wanted[1:9, 1:9] = 2
    wanted[:8, :8] = 1
    wanted[2:10, 3:11] = 0
    np.testing.assert_array_equal(images[0], wanted)


windows = st.builds(
    lambda top, high, left, wide: Window(top, top + high, left, left + wide),
    st.integers(0, 12),
    st.integers(1, 8),
    st.integers(0, 12),
    st.integers(1, 8),
)


@given(windows, st.lists(windows, max_size=5))
def test_what_is_left_of_a_window_is_covered_once(window: Window, holes: list[Window]) -> None:
    count = np.zeros((20, 20), int)
    for part in outside(window, holes):
        assert part.top < part.bottom
        assert part.left < part.right
        count[part.top : part.bottom, part.left : part.right] += 1
    wanted = np.zeros((20, 20), int)
    wanted[window.top : window.bottom, window.left : window.right] = 1
    for hole in holes:
        wanted[hole.top : hole.bottom, hole.left : hole.right] = 0
    np.testing.assert_array_equal(count, wanted)


def _edit(path: Path, name: str, value: Any) -> None:
    with h5py.File(path, "r+") as file:
        data = file["SERC/Reflectance/Reflectance_Data"]
        data.attrs[name] = value


def _refused(tmp_path: Path, **second: Any) -> str:
    small_tile(tmp_path / "a.h5", **SMALL)
    small_tile(tmp_path / "b.h5", **{**SMALL, **second})
    return _message(tmp_path)


def _message(tmp_path: Path) -> str:
    with pytest.raises(HsiError) as refused:
        open_site(sorted(tmp_path.glob("*.h5")))
    text = str(refused.value)
    assert "\n" not in text
    assert "a.h5" in text
    assert "b.h5" in text
    assert "run them separately" in text
    return text


def test_different_crs_is_refused_with_both(tmp_path: Path) -> None:
    text = _refused(tmp_path, epsg=32617)
    assert "32618" in text
    assert "32617" in text


def test_different_pixel_size_is_refused_with_both(tmp_path: Path) -> None:
    text = _refused(tmp_path, pixel=0.5)
    assert "(1.0, 1.0)" in text
    assert "(0.5, 0.5)" in text


def test_different_numbers_of_bands_are_refused_with_both(tmp_path: Path) -> None:
    text = _refused(tmp_path, wavelength=np.linspace(400, 2500, 39), chunks=(4, 4, 13))
    assert "40" in text
    assert "39" in text


def test_different_wavelengths_are_refused_with_both(tmp_path: Path) -> None:
    grid = np.linspace(400.0, 2500.0, 40).astype(np.float32)
    grid[7] += 0.25
    text = _refused(tmp_path, wavelength=grid)
    assert "band 8" in text
    assert f"{float(grid[7]):.4f}" in text
    assert f"{float(grid[7]) - 0.25:.4f}" in text


def test_wavelengths_may_differ_by_what_float32_rounds(tmp_path: Path) -> None:
    grid = np.linspace(400.0, 2500.0, 40)
    small_tile(tmp_path / "a.h5", **SMALL, wavelength=grid, product="DP3.001")  # stored as float32
    small_tile(tmp_path / "b.h5", **SMALL, wavelength=grid, product="DP3.002", origin=(368008.0, 4307000.0))
    a, b = open_site(sorted(tmp_path.glob("*.h5"))).tiles
    assert (a.file.wavelength != b.file.wavelength).any()


def test_different_scale_is_refused_with_both(tmp_path: Path) -> None:
    small_tile(tmp_path / "a.h5", **SMALL)
    _edit(small_tile(tmp_path / "b.h5", **SMALL), "Scale_Factor", 20000.0)
    text = _message(tmp_path)
    assert "10000" in text
    assert "20000" in text


def test_different_windows_are_refused_with_both(tmp_path: Path) -> None:
    small_tile(tmp_path / "a.h5", **SMALL)
    with h5py.File(small_tile(tmp_path / "b.h5", **SMALL), "r+") as file:
        file["SERC/Reflectance"].attrs["Band_Window_1_Nanometers"] = np.array([1300, 1445])
    text = _message(tmp_path)
    assert "1340" in text
    assert "1300" in text


def test_grids_that_do_not_align_are_refused(tmp_path: Path) -> None:
    text = _refused(tmp_path, origin=(368008.25, 4307000.0))
    assert "8.250 pixels" in text


def test_no_tile_is_refused() -> None:
    with pytest.raises(HsiError, match="no tile"):
        open_site([])
