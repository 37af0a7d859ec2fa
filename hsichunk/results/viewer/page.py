"""The page of the viewer: a map to pan and zoom, the spectrum of a pixel, and class maps by movable thresholds."""

from __future__ import annotations

import html
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
from bokeh.document import Document
from bokeh.events import RangesUpdate, Tap
from bokeh.layouts import column, row
from bokeh.models.formatters import BasicTickFormatter
from bokeh.models.layouts import LayoutDOM
from bokeh.models.ranges import Range1d
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tickers import BasicTicker
from bokeh.models.tools import PanTool, ResetTool, WheelZoomTool
from bokeh.models.widgets.buttons import Button
from bokeh.models.widgets.groups import CheckboxGroup
from bokeh.models.widgets.inputs import Select
from bokeh.models.widgets.markups import Div
from bokeh.models.widgets.sliders import Slider
from bokeh.plotting import figure
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.array_types import Bytes, Floats
from hsichunk.classification.palette import class_colors, css
from hsichunk.errors import HsiError
from hsichunk.metrics import BY_NAME
from hsichunk.results.viewer.maps import Maps, MapView
from hsichunk.results.viewer.pixel import Pixel

WAIT = 80  # milliseconds after the last move before a picture is drawn
STEPS = 400  # of a slider


def page(document: Document, maps: Maps) -> None:
    """Fill a document; there is one for each browser window."""
    document.title = f"{maps.results.record.site.name} hsichunk"
    document.add_root(Page(document, maps).layout)


class Page:
    """The controls and figures of one browser window."""

    def __init__(self, document: Document, maps: Maps) -> None:
        self._document, self._maps = document, maps
        self._waiting = False
        thresholds = maps.stored_thresholds()
        self._colors = [css(color) for color in class_colors(len(maps.names))]
        self._layer = Select(title="map", value=maps.first, options=list[str | tuple[str, str]](maps.layers), width=220)
        self._layer.on_change("value", lambda _name, _old, _new: self._show_map())
        self._sliders = {metric: self._make_sliders(metric, thresholds[metric]) for metric in maps.metrics}
        self._together = CheckboxGroup(labels=["one threshold for all classes"], active=[], width=220)
        self._button = Button(label="Save thresholds", width=150)
        self._button.on_click(self._save)
        self._message = Div(text="", width=420)
        self._shares = Div(text="", width=420)
        self._about = Div(text=self._hint(), width=560)
        self._image = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        self._cross = ColumnDataSource({"x": [], "y": []})
        self._spectra = ColumnDataSource({"nm": [], "pixel": [], "mixture": [], "residual": []})
        grid = maps.grid
        self._x = Range1d(start=grid.left, end=grid.right)
        self._y = Range1d(start=grid.bottom, end=grid.top)
        self._map = self._map_figure()
        self._draw()
        self._panels = {metric: column(*sliders) for metric, sliders in self._sliders.items()}
        classes = column(self._shares, self._together, *self._panels.values(), self._button, self._message)
        self._show_map()
        self.layout: LayoutDOM = row(
            column(self._layer, self._map),
            column(self._about, self._spectrum_figure(), self._residual_figure(), classes),
        )

    def _hint(self) -> str:
        """Return how to use the page, and which tiles cannot be read, as HTML."""
        lines = ["Click a pixel for its spectrum. Drag to move, wheel to zoom."]
        if self._maps.missing:
            path, why = self._maps.missing[0]
            count = len(self._maps.missing)
            lines.append(f"{count} tiles cannot be read, so their spectra are not shown; the first: {path}: {why}")
        return "<br>".join(html.escape(line) for line in lines)

    def _map_figure(self) -> figure:
        grid = self._maps.grid
        side = 640 / max(grid.rows * grid.dy, grid.cols * grid.dx)
        width, height = grid.cols * grid.dx * side, grid.rows * grid.dy * side
        wheel = WheelZoomTool()
        plot = figure(
            width=max(300, int(width)) + 70,
            height=max(240, int(height)) + 50,
            x_range=self._x,
            y_range=self._y,
            match_aspect=True,
            tools=[PanTool(), wheel, ResetTool()],
            toolbar_location="above",
            background_fill_color="#e9ecee",
        )
        plot.toolbar.active_scroll = wheel
        plot.toolbar.logo = None
        plot.grid.visible = False
        for axis in (plot.xaxis, plot.yaxis):
            axis.formatter = BasicTickFormatter(use_scientific=False)
            axis.ticker = BasicTicker(desired_num_ticks=4)
        plot.image_rgba(image="image", x="x", y="y", dw="dw", dh="dh", source=self._image)
        plot.scatter("x", "y", source=self._cross, marker="cross", size=22, line_color="black", line_width=5)
        plot.scatter("x", "y", source=self._cross, marker="cross", size=20, line_color="white", line_width=2)
        plot.on_event(RangesUpdate, lambda _: self._moved())
        plot.on_event(Tap, lambda event: self.show_pixel(event.x, event.y))
        return plot

    def _spectrum_figure(self) -> figure:
        plot = figure(width=560, height=230, y_axis_label="reflectance", tools="", toolbar_location=None)
        plot.line("nm", "pixel", source=self._spectra, color="#1c2326", line_width=2, legend_label="pixel")
        plot.line(
            "nm", "mixture", source=self._spectra, color="#d55e00", line_dash="dashed", line_width=2,
            legend_label="mixture of endmembers",
        )  # fmt: skip
        plot.legend.background_fill_alpha = 0.6
        plot.legend.label_text_font_size = "9pt"
        return plot

    def _residual_figure(self) -> figure:
        plot = figure(
            width=560, height=150, x_axis_label="wavelength (nm)", y_axis_label="residual", tools="",
            toolbar_location=None,
        )  # fmt: skip
        plot.line("nm", "residual", source=self._spectra, color="#0072b2", line_width=1.5)
        return plot

    def _make_sliders(self, metric: str, values: list[float]) -> list[Slider]:
        """Return a slider for the threshold of each class of a metric."""
        end = 1.0 if self._maps.relative else max(self._maps.reach(metric), *values)
        unit = "share of range" if self._maps.relative else str(schema.PRODUCT_ATTRS[metric]["units"])
        sliders: list[Slider] = []
        for name, value in zip(self._maps.names, values, strict=True):
            slider = Slider(
                title=f"{BY_NAME[metric].title} {name} ({unit})", start=min(0.0, *values), end=end, value=value,
                step=end / STEPS, format="0.0000", width=420, bar_color=self._colors[len(sliders) + 1],
            )  # fmt: skip
            slider.on_change("value", self._follow(metric))
            sliders.append(slider)
        return sliders

    def thresholds(self) -> dict[str, list[float]]:
        """Return the thresholds of each metric, one per class, as the sliders stand."""
        return {metric: [float(slider.value) for slider in sliders] for metric, sliders in self._sliders.items()}

    def _follow(self, metric: str) -> Callable[[str, float, float], None]:
        """Return what bokeh calls with the name, the old and the new value of a slider of a metric."""
        return lambda _name, _old, value: self._on_slide(metric, value)

    def _on_slide(self, metric: str, value: float) -> None:
        """Draw the classes at a new threshold, which holds for all classes where the box for that is ticked."""
        if self._together.active:
            for slider in self._sliders[metric]:
                if slider.value != value:
                    slider.value = value
        self._draw()

    def _show_map(self) -> None:
        """Draw the chosen map, and show the sliders of its metric, if it is a class map."""
        metric = self._metric()
        for name, panel in self._panels.items():
            panel.visible = name == metric
        self._together.visible = self._button.visible = self._message.visible = metric is not None
        self._draw()

    def _metric(self) -> str | None:
        """Return the metric of the chosen map; None where it is no class map."""
        return self._maps.class_layers.get(str(self._layer.value))

    def _moved(self) -> None:
        """Draw the map anew a moment after it was moved, once for all moves in between."""
        if not self._waiting:
            self._waiting = True
            self._document.add_timeout_callback(self._after_move, WAIT)

    def _after_move(self) -> None:
        self._waiting = False
        self._draw()

    def _draw(self) -> None:
        """Draw the part of the chosen map that the figure shows, with its legend."""
        left, right, bottom, top = (_number(v) for v in (self._x.start, self._x.end, self._y.start, self._y.end))
        view = self._maps.view(left, right, bottom, top)
        try:
            image = self._maps.picture(str(self._layer.value), view, self.thresholds(), self._maps.relative)
        except HsiError as error:
            self._message.text = html.escape(str(error))
            return
        x0, y0, width, height = self._maps.extent(view)
        self._image.data = {"image": [packed(image)], "x": [x0], "y": [y0], "dw": [width], "dh": [height]}
        self._shares.text = self._legend(view)

    def _legend(self, view: MapView) -> str:
        """Return what the colours mean, with the share of each class in the view, as HTML."""
        metric = self._metric()
        if metric is None:
            return self._maps.shades(str(self._layer.value))
        label = self._maps.labels(metric, view, self.thresholds()[metric], self._maps.relative)
        counts = np.bincount(label.ravel(), minlength=256)
        valid = max(int(counts[: schema.CLASS_NO_DATA].sum()), 1)
        rows = [
            f'<span style="display:inline-block;width:1em;height:1em;border:1px solid #555;background:{color}"></span> '
            f"{html.escape(name)} {counts[value] / valid:.2%}"
            for value, (name, color) in enumerate(zip(["unclassified", *self._maps.names], self._colors, strict=True))
        ]
        return f"<b>{self._layer.value}</b>, share of the pixels drawn<br>" + "<br>".join(rows)

    def show_pixel(self, x: float, y: float) -> None:
        """Show the spectrum of the pixel at a place, its mixture of endmembers, and the residual."""
        pixel = self._maps.pixel(x, y)
        if pixel is None:
            return
        grid = self._maps.grid
        self._cross.data = {
            "x": [grid.left + (pixel.col + 0.5) * grid.dx],
            "y": [grid.top - (pixel.row + 0.5) * grid.dy],
        }
        self._spectra.data = curves(pixel)
        self._about.text = self._describe(pixel, x, y)

    def _describe(self, pixel: Pixel, x: float, y: float) -> str:
        """Return the place, the abundances and the scores of a pixel as HTML."""
        lines = [f"<b>row {pixel.row}, column {pixel.col}</b> at {x:.1f}, {y:.1f}"]
        if np.isfinite(pixel.rmse):
            shares = ", ".join(
                f"{html.escape(name)} {value:.3f}"
                for name, value in zip(self._maps.names, pixel.abundance, strict=True)
            )
            lines.append(f"abundance {shares}; rmse {pixel.rmse:.5f}")
            for metric, distance in pixel.distances.items():
                scores = zip(self._maps.names, distance, strict=True)
                unit = schema.PRODUCT_ATTRS[metric]["units"]
                text = ", ".join(f"{html.escape(name)} {value:.4f}" for name, value in scores)
                lines.append(f"{BY_NAME[metric].title} ({unit}) {text}")
        else:
            lines.append("no data or masked: no abundances")
        if pixel.why:
            lines.append(f"no spectrum: {html.escape(pixel.why)}")
        return "<br>".join(lines)

    def _save(self) -> None:
        """Save the thresholds, and tell the command that makes the whole class map with them."""
        try:
            path = self._maps.save(self.thresholds(), self._maps.relative)
        except HsiError as error:
            self._message.text = html.escape(str(error))
            return
        metric = self._metric() or self._maps.metrics[-1]
        values = ",".join(f"{value:.6g}" for value in self.thresholds()[metric])
        rule = " --relative" if self._maps.relative else ""
        command = f"hsichunk classify {self._maps.results.out} --metric {metric} --threshold {values}{rule}"
        self._message.text = f"Saved to {html.escape(str(path))}. The whole map: <code>{html.escape(command)}</code>"


def _number(value: float | datetime | timedelta) -> float:
    """Return the end of a range of numbers; bokeh's ranges may also be of dates."""
    if isinstance(value, datetime | timedelta):
        raise TypeError(f"the map ends at {value}; expected a number")
    return float(value)


def packed(image: Bytes) -> NDArray[np.uint32]:
    """Return RGBA (rows, cols, 4) as bokeh takes it: one number a pixel, rows from the bottom up."""
    return np.ascontiguousarray(image[::-1]).view(np.uint32)[..., 0]


def curves(pixel: Pixel) -> dict[str, Floats]:
    """Return spectrum, mixture and residual against wavelength, with NaN where bands were dropped."""
    nm = pixel.wavelength
    missing = np.full(len(nm), np.nan)
    spectrum = missing if pixel.spectrum is None else pixel.spectrum
    residual = missing if pixel.residual is None else pixel.residual
    steps = np.diff(nm)
    breaks = np.flatnonzero(steps > 4 * np.median(steps)) + 1 if len(steps) else np.array([], int)
    between = (nm[breaks - 1] + nm[breaks]) / 2
    out = {"nm": np.insert(nm, breaks, between)}
    for name, values in (("pixel", spectrum), ("mixture", pixel.mixture), ("residual", residual)):
        out[name] = np.insert(values, breaks, np.nan)
    return out
