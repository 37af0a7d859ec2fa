"""Pictures: what is drawn where, how much is read for it, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import matplotlib
import numpy as np
import pytest
import rioxarray  # the oracle of extents
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backend_bases import MouseEvent
from matplotlib.figure import Figure
from xarray.backends import BackendArray
from xarray.core import indexing

from hsichunk import plot, schema
from hsichunk.classification.palette import class_colors
from hsichunk.errors import HsiError

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NY, NX = 12, 9
WAVELENGTHS = np.array([480.0, 550.0, 660.0, 850.0])
NAMES = ["EM1", "EM2", "EM3"]


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No figure outlives its test, and none is shown."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a plot function called show")

    monkeypatch.setattr(plt, "show", refuse)
    yield
    plt.close("all")


def places(ny: int = NY, nx: int = NX, size: float = 1.0) -> dict[str, Any]:
    return {
        "y": ("y", 4307000.0 - size * (np.arange(ny) + 0.5), schema.Y_ATTRS),
        "x": ("x", 368000.0 + size * (np.arange(nx) + 0.5), schema.X_ATTRS),
        "spatial_ref": 0,
    }


def make_tile() -> xr.Dataset:
    """Counts that name their own place; one pixel without data."""
    counts = np.arange(NY * NX * 4, dtype=np.int16).reshape(NY, NX, 4) * 10
    counts[2, 3] = -9999
    attrs = {schema.SCALE: 10000.0, schema.NO_DATA: -9999}
    layer = xr.DataArray(counts, dims=("y", "x", "wavelength"), coords={**places(), "wavelength": WAVELENGTHS})
    return xr.Dataset({"reflectance": layer.assign_attrs(attrs)})


def make_cube() -> xr.DataArray:
    counts = make_tile().reflectance
    return (counts.where(counts != -9999) / 10000.0).astype("f4").drop_attrs(deep=False)


def make_layer() -> xr.DataArray:
    values = np.arange(NY * NX, dtype="f4").reshape(NY, NX)
    return xr.DataArray(values, dims=("y", "x"), coords=places(), name="rmse", attrs=schema.PRODUCT_ATTRS["rmse"])


def make_abundance() -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.dirichlet((0.3, 1.0, 4.0), size=(NY, NX)).transpose(2, 0, 1).astype("f4")
    values[:, 2, 3] = np.nan
    return xr.DataArray(values, dims=("endmember", "y", "x"), coords={**places(), "endmember": NAMES}, name="abundance")


def make_classes() -> xr.DataArray:
    """45 pixels of class 1, 36 of class 3, 26 unclassified, 1 without data."""
    values = np.repeat(np.array([1, 3, 0], np.uint8), [45, 36, 27]).reshape(NY, NX)
    values[-1, -1] = 255
    attrs = {"flag_values": np.arange(4, dtype=np.uint8), "flag_meanings": "unclassified water bare_soil forest"}
    return xr.DataArray(values, dims=("y", "x"), coords=places(), name="sid_class", attrs=attrs)


def make_endmembers(wavelengths: np.ndarray[Any, Any]) -> xr.DataArray:
    values = np.linspace(0.1, 0.5, 3)[:, None] + wavelengths / 10000
    return xr.DataArray(
        values, dims=("endmember", "wavelength"), coords={"endmember": NAMES, "wavelength": wavelengths}
    )


def extent(ax: Axes) -> tuple[float, ...]:
    return (*ax.get_xlim(), *ax.get_ylim())


def shown(ax: Axes, x: float, y: float) -> Any:
    """What matplotlib says is drawn at a place on the map."""
    ax.figure.canvas.draw()
    event = MouseEvent("motion_notify_event", ax.figure.canvas, *ax.transData.transform((x, y)))
    return ax.images[0].get_cursor_data(event)


def colors(ax: Axes) -> np.ndarray[Any, Any]:
    """RGBA of the image as matplotlib draws it."""
    return ax.images[0].to_rgba(ax.images[0].get_array())


def alpha(ax: Axes) -> np.ndarray[Any, Any]:
    return colors(ax)[..., 3]


# places


@pytest.mark.parametrize("size", [1.0, 0.7, 30.0])
def test_extent_is_the_pixel_edges(size: float) -> None:
    layer = make_layer().assign_coords(places(size=size))
    ax = plot.map(layer)
    left, bottom, right, top = layer.rio.bounds()
    assert extent(ax) == pytest.approx((left, right, bottom, top), rel=0, abs=1e-9)
    assert ax.images[0].get_extent() == list(extent(ax))
    if size == 1.0:
        assert extent(ax) == (368000.0, 368009.0, 4306988.0, 4307000.0)


def test_extent_of_a_real_image_is_that_of_its_file(shared: Path) -> None:
    image = rioxarray.open_rasterio(shared / "dlr_hysu" / "DLR_HySU_HS_large_targets.tif")
    left, bottom, right, top = image.rio.bounds()
    ax = plot.map(image.isel(band=10, drop=True))
    assert extent(ax) == pytest.approx((left, right, bottom, top), rel=0, abs=1e-6)


@pytest.mark.parametrize("flip_y", [False, True])
@pytest.mark.parametrize("flip_x", [False, True])
def test_north_is_up_whatever_the_order_of_storage(flip_y: bool, flip_x: bool) -> None:
    layer = make_layer().isel(y=slice(None, None, -1 if flip_y else 1), x=slice(None, None, -1 if flip_x else 1))
    ax = plot.map(layer)
    assert extent(ax) == (368000.0, 368009.0, 4306988.0, 4307000.0)
    for y, x in ((4306999.5, 368000.5), (4306999.5, 368008.5), (4306990.5, 368003.5)):
        assert shown(ax, x, y) == layer.sel(y=y, x=x).item()


@pytest.mark.parametrize("numbered", [False, True])
def test_an_image_without_a_map_has_pixel_axes_and_rows_going_down(numbered: bool) -> None:
    layer = make_layer().drop_vars(["y", "x", "spatial_ref"])
    if numbered:
        layer = layer.assign_coords(y=np.arange(NY), x=np.arange(NX))
    ax = plot.map(layer)
    assert extent(ax) == (-0.5, NX - 0.5, NY - 0.5, -0.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("column", "row")
    assert shown(ax, 4, 1) == layer[1, 4].item()


def test_a_single_row_has_the_size_of_its_columns() -> None:
    ax = plot.map(make_layer().assign_coords(places(size=2.0)).isel(y=[0]))
    assert extent(ax) == (368000.0, 368018.0, 4306998.0, 4307000.0)


def test_tick_labels_are_whole_coordinates() -> None:
    ax = plot.map(make_layer().assign_coords(places(size=100.0)))
    ax.figure.canvas.draw()
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert {"4306000", "4306500"} <= set(labels)
    assert ax.yaxis.get_offset_text().get_text() == ax.xaxis.get_offset_text().get_text() == ""
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("easting (m)", "northing (m)")


def test_degrees_are_named() -> None:
    layer = make_layer().assign_coords(
        y=("y", np.linspace(38.9, 38.8, NY), {"units": "degrees_north"}),
        x=("x", np.linspace(-76.6, -76.5, NX), {"units": "degrees_east"}),
    )
    ax = plot.map(layer)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("longitude (°)", "latitude (°)")


def test_an_uneven_grid_is_refused() -> None:
    with pytest.raises(HsiError, match="x is not evenly spaced"):
        plot.map(make_layer().isel(x=[0, 1, 2, 5]))


# bands and composites


@pytest.mark.parametrize("order", [("y", "x", "wavelength"), ("wavelength", "y", "x")])
def test_band_of_tile_and_cube_are_the_same_picture(order: tuple[str, ...]) -> None:
    tile, cube = plot.band(make_tile().transpose(*order)), plot.band(make_cube().transpose(*order))
    np.testing.assert_allclose(tile.images[0].get_array(), cube.images[0].get_array(), rtol=1e-6)
    expected = make_cube().sel(wavelength=660.0)
    np.testing.assert_allclose(cube.images[0].get_array().filled(np.nan), expected, rtol=1e-6)
    assert tile.get_title() == "660.0 nm"


def test_band_reads_attributes_of_the_dataset_too() -> None:
    tile = make_tile()
    moved = tile.assign_attrs(tile.reflectance.attrs).assign(reflectance=tile.reflectance.drop_attrs(deep=False))
    ax = plot.band(moved, 850)
    assert shown(ax, 368000.5, 4306999.5) == pytest.approx(30 / 10000)


def test_stored_floats_of_a_tile_are_scaled() -> None:
    tile = make_tile()
    stored = tile.assign(reflectance=tile.reflectance.astype("f4"))
    ax = plot.band(stored, 850)
    assert shown(ax, 368000.5, 4306999.5) == pytest.approx(30 / 10000)
    assert alpha(ax)[2, 3] == 0


def test_band_takes_the_nearest() -> None:
    assert plot.band(make_cube(), 600).get_title() == "550.0 nm"
    assert plot.band(make_cube(), 606).get_title() == "660.0 nm"


def test_band_is_stretched_between_percentiles_and_has_a_bar() -> None:
    cube = make_cube()
    ax = plot.band(cube, 480, percentiles=(10, 90))
    expected = np.nanpercentile(cube.sel(wavelength=480.0), (10, 90))
    assert ax.images[0].get_clim() == pytest.approx(tuple(expected), rel=1e-6)
    bar = ax.images[0].colorbar
    assert bar.extend == "both" and bar.ax.get_ylabel() == "reflectance"


def test_one_value_everywhere_can_be_drawn() -> None:
    ax = plot.map(xr.zeros_like(make_layer()))
    low, high = ax.images[0].get_clim()
    assert low < 0 < high


@pytest.mark.parametrize("data", [make_tile, make_cube])
def test_no_data_is_transparent_and_nothing_else(data: Any) -> None:
    for ax in (plot.band(data()), plot.rgb(data())):
        assert np.argwhere(alpha(ax) == 0).tolist() == [[2, 3]]
        assert np.count_nonzero(alpha(ax) == 1) == NY * NX - 1


def test_rgb_puts_each_band_in_its_channel() -> None:
    cube = make_cube()
    cube[{"wavelength": 0}] = cube.isel(wavelength=0)[::-1].to_numpy()  # blue runs against red
    ax = plot.rgb(cube, percentiles=(0, 100))
    first, last = colors(ax)[0, 0, :3], colors(ax)[-1, -1, :3]
    assert first[:2].tolist() == [0, 0] and first[2] > 0.9
    assert last[:2].tolist() == [1, 1] and last[2] < 0.1
    assert ax.get_title() == "RGB 660, 550, 480 nm"


def test_a_layer_of_the_tile_is_drawn_without_its_ignored_value() -> None:
    layer = make_layer()
    layer[2, 3] = -9999
    ax = plot.map(layer.assign_attrs(Data_Ignore_Value=-9999.0))
    assert np.argwhere(alpha(ax) == 0).tolist() == [[2, 3]]
    assert ax.images[0].get_clim()[0] >= 0
    assert ax.images[0].colorbar.ax.get_ylabel().startswith("root mean square residual")


def test_a_map_of_one_endmember_is_named() -> None:
    ax = plot.map(make_abundance().sel(endmember="EM2"))
    assert ax.get_title() == "abundance EM2"


# how much is read


class CountingArray(BackendArray):
    """A lazy array that counts the values asked of it."""

    def __init__(self, shape: tuple[int, ...], dtype: str = "f4") -> None:
        self.shape, self.dtype, self.read = shape, np.dtype(dtype), 0

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._get)

    def _get(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        shape = np.broadcast_to(self.dtype.type(0), self.shape)
        for axis, part in reversed(list(enumerate(key))):
            shape = shape[(slice(None),) * axis + (part,)]
        self.read += shape.size
        return np.linspace(0, 1, shape.size).reshape(shape.shape).astype(self.dtype)


def counting(*dims: str, **sizes: int) -> tuple[CountingArray, xr.DataArray]:
    stored = CountingArray(tuple(sizes[dim] for dim in dims))
    layer = xr.DataArray(xr.Variable(dims, indexing.LazilyIndexedArray(stored)))
    return stored, layer


@pytest.mark.parametrize(
    ("draw", "dims", "bands"),
    [
        (plot.band, ("y", "x", "wavelength"), 1),
        (plot.rgb, ("y", "x", "wavelength"), 3),
        (plot.histogram, ("wavelength", "y", "x"), 4),
        (plot.map, ("y", "x"), 1),
        (plot.abundances, ("endmember", "y", "x"), 3),
        (plot.abundance_histograms, ("y", "x", "endmember"), 3),
    ],
)
def test_no_more_pixels_are_read_than_asked_for(draw: Any, dims: tuple[str, ...], bands: int) -> None:
    stored, layer = counting(*dims, y=101, x=70, wavelength=4, endmember=3)
    if "wavelength" in dims:
        layer = layer.assign_coords(wavelength=WAVELENGTHS)
    draw(layer, pixels=500)
    # every 4th of 101 x 70 is 26 x 18; every 3rd would be 816
    assert stored.read == 26 * 18 * bands


def test_small_data_are_read_whole() -> None:
    stored, layer = counting("y", "x", y=101, x=70)
    plot.map(layer)
    assert stored.read == 101 * 70


def test_of_a_chunked_cube_only_the_chunks_touched_are_computed() -> None:
    touched, lock = [], threading.Lock()

    def block(part: np.ndarray[Any, Any], block_id: tuple[int, ...] = ()) -> np.ndarray[Any, Any]:
        if part.size and block_id:
            with lock:
                touched.append(block_id)
        return part + np.arange(part.size, dtype="f4").reshape(part.shape)

    values = da.zeros((40, 40, 4), chunks=(2, 2, 1), dtype="f4").map_blocks(block, dtype="f4", meta=np.empty((0,) * 3))
    cube = xr.DataArray(values, dims=("y", "x", "wavelength"), coords={"wavelength": WAVELENGTHS})
    touched.clear()
    plot.band(cube, 550, pixels=100)
    assert {b for *_, b in touched} == {1}
    assert len(touched) == 10 * 10  # of 20 x 20


def test_a_pixel_read_stands_for_its_block_and_the_edge_stays_exact() -> None:
    layer = make_layer()
    ax = plot.map(layer, pixels=11)  # every 4th of 12 x 9: 3 x 3
    assert ax.images[0].get_array().shape == (3, 3)
    assert extent(ax) == (368000.0, 368009.0, 4306988.0, 4307000.0)
    assert ax.images[0].get_extent() == [368000.0, 368012.0, 4306988.0, 4307000.0]
    for row, column in ((0, 0), (3, 3), (4, 4), (11, 8)):
        there = shown(ax, 368000.5 + column, 4306999.5 - row)
        assert there == layer[row - row % 4, column - column % 4].item()


def test_a_decimated_map_stored_south_first_is_in_place() -> None:
    layer = make_layer().isel(y=slice(None, None, -1))
    ax = plot.map(layer, pixels=6)  # every 5th: rows 0, 5, 10 from the south
    assert extent(ax) == (368000.0, 368009.0, 4306988.0, 4307000.0)
    assert shown(ax, 368000.5, 4306988.5) == layer[0, 0].item()
    assert shown(ax, 368000.5, 4306999.5) == layer[10, 0].item()


# spectra


def test_endmembers_break_where_bands_were_dropped() -> None:
    every = np.arange(400.0, 700.0, 5.0)
    kept = every[(every < 500) | (every > 530)]
    ax = plot.endmembers(make_endmembers(kept))
    assert len(ax.lines) == 3
    for line in ax.lines:
        x, y = line.get_xdata(), line.get_ydata()
        assert np.count_nonzero(np.isnan(y)) == 1
        assert 495 < x[np.isnan(y)].item() < 535
        np.testing.assert_array_equal(x[~np.isnan(y)], kept)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == NAMES
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("wavelength (nm)", "reflectance")


def test_a_single_dropped_band_is_a_gap() -> None:
    ax = plot.endmembers(make_endmembers(np.delete(np.arange(400.0, 500.0, 5.0), 7)))
    assert np.count_nonzero(np.isnan(ax.lines[0].get_ydata())) == 1


def test_two_spectrometers_of_different_step_leave_no_gap() -> None:
    wavelengths = np.concatenate([np.arange(400.0, 900.0, 4.0), np.arange(900.0, 1500.0, 12.0)])
    ax = plot.endmembers(make_endmembers(wavelengths))
    assert np.isfinite(ax.lines[0].get_ydata()).all()


def test_a_band_between_two_gaps_is_a_point() -> None:
    wavelengths = np.array([400.0, 405, 410, 415, 420, 500, 600, 605, 610, 615, 620])
    line = plot.endmembers(make_endmembers(wavelengths)).lines[0]
    assert line.get_xdata()[line.get_markevery()].tolist() == [500.0]
    assert line.get_marker() == "."


def test_bands_out_of_order_are_drawn_in_order() -> None:
    wavelengths = np.array([410.0, 400, 420, 405, 415])
    line = plot.endmembers(make_endmembers(wavelengths)).lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.sort(wavelengths))
    np.testing.assert_allclose(line.get_ydata(), 0.1 + np.sort(wavelengths) / 10000)


def test_endmembers_have_the_colours_of_the_classes() -> None:
    ax = plot.endmembers(make_endmembers(WAVELENGTHS))
    expected = [matplotlib.colors.to_hex(color / 255) for color in class_colors(3)[1:]]
    assert [matplotlib.colors.to_hex(line.get_color()) for line in ax.lines] == expected


# histograms


def test_histogram_holds_every_value_that_is_data() -> None:
    cube = make_cube()
    ax = plot.histogram(cube)
    heights, edges, _ = ax.patches[0].get_data()
    known = cube.to_numpy()[np.isfinite(cube)]
    counts, expected_edges = np.histogram(known, bins=50)
    np.testing.assert_allclose(edges, expected_edges, rtol=1e-6)
    np.testing.assert_allclose(heights, counts / known.size * 100)
    assert heights.sum() == pytest.approx(100)


def test_abundance_histograms_have_a_panel_and_a_range_each() -> None:
    abundance = make_abundance()
    fig = plot.abundance_histograms(abundance, bins=20, log=True)
    assert [ax.get_title() for ax in fig.axes] == NAMES
    for ax, one in zip(fig.axes, abundance.to_numpy(), strict=True):
        heights, edges, _ = ax.patches[0].get_data()
        known = one[np.isfinite(one)]
        assert len(heights) == 20 and edges[0] == 0
        assert edges[-1] == pytest.approx(np.percentile(known, 99.9))
        inside = np.count_nonzero(known <= edges[-1])
        assert heights.sum() == pytest.approx(100 * inside / known.size)
        assert ax.get_yscale() == "log"


def test_an_endmember_found_nowhere_has_a_histogram() -> None:
    abundance = make_abundance()
    abundance[0] = 0
    heights, edges, _ = plot.abundance_histograms(abundance).axes[0].patches[0].get_data()
    assert heights[0] == pytest.approx(100) and edges[-1] == 1


# abundances


def test_abundances_draw_a_map_each_on_one_scale() -> None:
    abundance = make_abundance()
    fig = plot.abundances(abundance)
    maps = [ax for ax in fig.axes if ax.images]
    means = np.nanmean(abundance.to_numpy().astype("f8"), axis=(1, 2))
    assert [ax.get_title() for ax in maps] == [
        f"{name}, mean {mean:.3g}" for name, mean in zip(NAMES, means, strict=True)
    ]
    for ax, one in zip(maps, abundance.to_numpy(), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), one)
        assert ax.images[0].get_clim() == (0, 1)
        assert np.argwhere(alpha(ax) == 0).tolist() == [[2, 3]]
    (bar,) = [ax for ax in fig.axes if not ax.images]
    assert bar.get_ylabel() == "abundance"


def test_abundances_take_products_and_mark_means_of_a_part() -> None:
    products = xr.Dataset({"abundance": make_abundance(), "rmse": make_layer()})
    fig = plot.abundances(products, pixels=30, columns=1)
    maps = [ax for ax in fig.axes if ax.images]
    assert len(maps) == 3 and all("mean ~" in ax.get_title() for ax in maps)
    assert len({round(ax.get_position().x0, 6) for ax in maps}) == 1


# class maps


def test_classes_name_every_class_and_its_share() -> None:
    ax = plot.classes(make_classes())
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries == ["water  42.1%", "bare_soil  0.0%", "forest  33.6%", "unclassified  24.3%", "no data"]
    patches = ax.get_legend().get_patches()
    palette = class_colors(3) / 255
    for patch, value in zip(patches, (1, 2, 3, 0), strict=False):
        assert patch.get_facecolor()[:3] == pytest.approx(tuple(palette[value]))


def test_classes_are_in_the_palette_and_no_data_is_transparent() -> None:
    classes = make_classes()
    ax = plot.classes(classes)
    drawn = ax.images[0].get_array()
    palette = class_colors(3)
    for value in (0, 1, 3):
        assert (drawn[classes == value] == [*palette[value], 255]).all()
    assert drawn[-1, -1, 3] == 0
    assert np.ptp(palette[0]) < 10 and palette[0].min() > 150  # unclassified: a light grey
    assert ax.images[0].get_interpolation() == "nearest"


def test_a_map_without_gaps_has_no_entry_for_no_data() -> None:
    ax = plot.classes(make_classes().isel(y=slice(0, 5)))
    assert [t.get_text() for t in ax.get_legend().get_texts()][-1] == "unclassified  0.0%"


def test_a_long_legend_keeps_the_greatest_classes() -> None:
    names = " ".join(["unclassified", *(f"c{i}" for i in range(1, 101))])
    classes = make_classes().assign_attrs(flag_values=np.arange(101, dtype=np.uint8), flag_meanings=names)
    entries = [text.get_text() for text in plot.classes(classes.where(classes != 3, 97)).get_legend().get_texts()]
    assert "c97  33.6%" in entries and "c1  42.1%" in entries
    assert entries[-2] == "and 47 smaller" and len(entries) == 56


# what comes back, and from what


DRAWN: list[tuple[Any, Any]] = [
    (plot.band, make_tile),
    (plot.band, make_cube),
    (plot.rgb, make_tile),
    (plot.map, make_layer),
    (plot.endmembers, lambda: make_endmembers(WAVELENGTHS)),
    (plot.histogram, make_cube),
    (plot.classes, make_classes),
]


@pytest.mark.parametrize(("draw", "data"), DRAWN)
def test_one_panel_gives_axes_and_keeps_to_those_given(draw: Any, data: Any) -> None:
    given = data()
    before = given.copy(deep=True)
    made = draw(given)
    assert isinstance(made, Axes) and plt.get_fignums() == [made.figure.number]
    plt.close("all")
    ax = Figure().add_subplot()
    assert draw(given, ax=ax) is ax
    assert plt.get_fignums() == []
    ax.figure.canvas.draw()
    xr.testing.assert_identical(given, before)


@pytest.mark.parametrize("draw", [plot.abundances, plot.abundance_histograms])
def test_panels_give_a_figure_and_keep_to_that_given(draw: Any) -> None:
    given = make_abundance()
    before = given.copy(deep=True)
    made = draw(given)
    assert isinstance(made, Figure) and plt.get_fignums() == [made.number]
    plt.close("all")
    fig = Figure(figsize=(8, 6))
    assert draw(given, fig=fig) is fig
    assert plt.get_fignums() == []
    fig.canvas.draw()
    xr.testing.assert_identical(given, before)


def test_lazy_and_eager_draw_the_same() -> None:
    eager, lazy = plot.rgb(make_tile()), plot.rgb(make_tile().chunk(y=5, x=4, wavelength=2))
    np.testing.assert_array_equal(eager.images[0].get_array(), lazy.images[0].get_array())


def test_importing_loads_no_matplotlib() -> None:
    code = "import sys, hsichunk.plot; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# what is refused


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: plot.band(make_cube().to_numpy()), "found a ndarray; expected a tile or cube"),
        (lambda: plot.band(make_cube().drop_vars("wavelength")), "no `wavelength` coordinate"),
        (lambda: plot.band(make_layer()), r"found dimensions \(y, x\); expected a tile or cube \(y, x, wavelength\)"),
        (lambda: plot.band(xr.Dataset({"rmse": make_layer()})), "holds rmse; expected `reflectance`"),
        (lambda: plot.band(make_cube(), 0.66), "no band near 0.66 nm; choose from 480 to 850 nm"),
        (lambda: plot.band(make_tile().reflectance.drop_attrs()), "found int16 counts without"),
        (lambda: plot.band(make_cube() * np.nan), "every pixel is no data"),
        (lambda: plot.band(make_cube().isel(y=slice(0))), "0 x 9 pixels: nothing to draw"),
        (lambda: plot.band(make_cube(), pixels=0), "pixels=0"),
        (lambda: plot.band(make_cube(), percentiles=(98, 2)), "percentiles 98 and 2"),
        (lambda: plot.band(make_cube(), cmap="no_such"), "colour map 'no_such'"),
        (lambda: plot.rgb(make_cube(), (660, 550)), "found 2 wavelengths"),
        (lambda: plot.map(make_cube()), "expected a layer"),
        (lambda: plot.endmembers(make_cube()), "expected endmembers"),
        (lambda: plot.endmembers(make_endmembers(WAVELENGTHS).drop_vars("wavelength")), "no `wavelength` coordinate"),
        (lambda: plot.abundances(make_layer()), "expected abundances"),
        (lambda: plot.abundances(make_layer().to_dataset()), "holds rmse; expected `abundance`"),
        (lambda: plot.histogram(make_cube(), bins=0), "bins=0"),
        (lambda: plot.classes(make_layer()), "found float32 with attributes"),
        (lambda: plot.classes(make_classes().drop_attrs()), "expected a class map"),
        (lambda: plot.classes(make_classes().assign_attrs(flag_meanings="a b")), "4 flag_values but 2 flag_meanings"),
        (
            lambda: plot.classes(make_classes().assign_attrs(flag_values=[0, 1], flag_meanings="unclassified water")),
            "class 3 is in the map but not in flag_values",
        ),
    ],
)
def test_wrong_input_is_one_clear_line_and_leaves_no_figure(call: Any, says: str) -> None:
    with pytest.raises(HsiError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
    assert plt.get_fignums() == []
