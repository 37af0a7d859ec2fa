"""Read what the viewer shows, and no more: views of the maps at the resolution of the screen, and single pixels."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.array_types import Bytes, Float32s, Floats
from hsichunk.atomic_files import read_json, write_json
from hsichunk.classification.class_maps import classify
from hsichunk.classification.palette import class_colors
from hsichunk.classification.rules import score_range
from hsichunk.errors import HsiError
from hsichunk.memory import GDAL_CACHE
from hsichunk.metrics import BY_NAME
from hsichunk.results import quicklook
from hsichunk.results.finished_run import FinishedRun
from hsichunk.results.viewer.pixel import Pixel, read_pixel
from hsichunk.run.folder import STORE
from hsichunk.writers.zarr_store import open_store

PIXELS = 600_000  # of a picture, at most
VALUES = 16_000_000  # of the scores of all endmembers in a picture, at most
CACHE = 192_000_000  # bytes of views in memory
AT_ONCE = 250_000_000  # bytes of tiles that a first picture may decode
DECODED = 600_000_000  # bytes of tiles that one picture in colours may decode
COARSE = 40_000  # pixels of a view from which limits of colours and sliders follow
SAVED = "thresholds.json"
DEFAULTS = schema.THRESHOLDS


class MapView(NamedTuple):
    """Every `step`-th row and column of a part of the maps."""

    rows: range
    cols: range

    @property
    def step(self) -> int:
        """Rows and columns of the maps from one pixel of the view to the next."""
        return self.rows.step

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns of the view."""
        return len(self.rows), len(self.cols)


class Maps:
    """The stored results of a run and its tiles, read for one view at a time; the last views stay in memory."""

    def __init__(self, results: FinishedRun, tiles: Sequence[str] | None = None) -> None:
        self.results = results
        self.grid = results.grid
        self.names = results.names
        self.metrics = results.metrics
        self.tiles, self.missing = quicklook.place_tiles(results.tiles if tiles is None else list(tiles), self.grid)
        self._views: OrderedDict[tuple[str, MapView], Float32s] = OrderedDict()

    @property
    def layers(self) -> list[str]:
        """The names of the maps that can be drawn."""
        colors = ["RGB"] if self.tiles else []
        return [*colors, *(f"abundance {name}" for name in self.names), "rmse", *self.class_layers]

    @cached_property
    def class_layers(self) -> dict[str, str]:
        """The metric of each layer that is a class map."""
        return {f"{BY_NAME[metric].title} classes": metric for metric in self.metrics}

    @property
    def first(self) -> str:
        """The map that a page shows first: colours, or an abundance where colours would take seconds to decode."""
        view, layers = self.full_view(), self.layers
        slow = quicklook.decoded_bytes(self.tiles, np.array(view.rows), np.array(view.cols)) > AT_ONCE
        return layers[1] if self.tiles and slow else layers[0]

    def full_view(self, pixels: int = PIXELS) -> MapView:
        """Return the view of the whole maps, of `pixels` pixels at most."""
        grid = self.grid
        return self.view(grid.left, grid.right, grid.bottom, grid.top, pixels)

    def view(self, left: float, right: float, bottom: float, top: float, pixels: int = PIXELS) -> MapView:
        """Return the view between the edges, in the units of the map, of `pixels` pixels at most.

        Its step is a power of two, and its pixels lie on the grid of that step: where the view moves, the same pixels
        are drawn.
        """
        grid = self.grid
        pixels = max(1, min(pixels, VALUES // len(self.names)))
        row, end_row = _clipped((grid.top - top) / grid.dy, (grid.top - bottom) / grid.dy, grid.rows)
        col, end_col = _clipped((left - grid.left) / grid.dx, (right - grid.left) / grid.dx, grid.cols)
        step = 1
        while -(-(end_row - row) // step) * -(-(end_col - col) // step) > pixels:
            step *= 2
        return MapView(range(row - row % step, end_row, step), range(col - col % step, end_col, step))

    def extent(self, view: MapView) -> tuple[float, float, float, float]:
        """Return left, bottom, width and height of the picture of a view, in the units of the map."""
        grid, (rows, cols) = self.grid, view.shape
        height, width = rows * view.step * grid.dy, cols * view.step * grid.dx
        return (
            grid.left + view.cols.start * grid.dx,
            grid.top - view.rows.start * grid.dy - height,
            width,
            height,
        )

    def abundance(self, index: int, view: MapView) -> Float32s:
        """Return the abundance (rows, cols) of an endmember, NaN without data."""

        def read() -> Float32s:
            return self._overview(schema.ABUNDANCE, index + 1, view)

        return self._cached(f"{schema.ABUNDANCE} {index}", view, read)

    def rmse(self, view: MapView) -> Float32s:
        """Return the rmse (rows, cols), NaN without data."""
        return self._cached(schema.RMSE, view, lambda: self._overview(schema.RMSE, 1, view))

    def distances(self, metric: str, view: MapView) -> Float32s:
        """Return the stored scores (endmember, rows, cols) of a metric."""
        return self._cached(metric, view, lambda: self._stored(metric, view))

    def labels(self, metric: str, view: MapView, thresholds: Sequence[float], relative: bool = False) -> Bytes:
        """Return the classes (rows, cols) by one threshold or one per class: those of hsi.classify of the whole map."""
        dims = (schema.ENDMEMBER, schema.Y, schema.X)
        distance = xr.DataArray(self.distances(metric, view), {schema.ENDMEMBER: self.names}, dims, metric)
        threshold = thresholds[0] if len(thresholds) == 1 else list(thresholds)
        limits = self.ranges[metric] if relative else None
        return np.asarray(classify(distance, threshold, relative=relative, limits=limits).values, np.uint8)

    @cached_property
    def ranges(self) -> dict[str, xr.Dataset]:
        """The ranges of the scores of the whole map, of which relative thresholds are shares; read block by block."""
        stored = open_store(self.results.out / STORE)
        return {metric: score_range(stored[metric]).compute() for metric in self.metrics}

    def colors(self, view: MapView) -> Float32s:
        """Return red, green and blue reflectance (rows, cols, 3); coarser where the view would decode too much."""

        def read() -> Float32s:
            rows, cols = np.array(view.rows), np.array(view.cols)
            coarse = 1
            while quicklook.decoded_bytes(self.tiles, rows[::coarse], cols[::coarse]) > DECODED and coarse < len(rows):
                coarse *= 2
            values, _ = quicklook.read_colors(self.tiles, rows[::coarse], cols[::coarse])
            repeated = values.repeat(coarse, axis=0).repeat(coarse, axis=1)
            return np.ascontiguousarray(repeated[: len(rows), : len(cols)])

        return self._cached("RGB", view, read)

    @cached_property
    def stretch(self) -> Floats:
        """The reflectance (3, 2) of each colour that is black and that is full, from a coarse view of the whole map."""
        return quicklook.stretch(self.colors(self.full_view(COARSE)))

    def picture(
        self, layer: str, view: MapView, thresholds: Mapping[str, Sequence[float]], relative: bool = False
    ) -> Bytes:
        """Return one of `layers` as RGBA (rows, cols, 4); no data is transparent.

        Raises HsiError for an unknown layer.
        """
        if layer == "RGB":
            image, known = quicklook.as_bytes(self.colors(view), self.stretch)
            return np.dstack([image, np.where(known, 255, 0).astype(np.uint8)])
        if layer == "rmse":
            return shade(self.rmse(view), 0.0, self._rmse_limit, "cividis")
        if layer.startswith("abundance "):
            name = layer.removeprefix("abundance ")
            if name in self.names:
                return shade(self.abundance(self.names.index(name), view), 0.0, 1.0, "viridis")
        metric = self.class_layers.get(layer)
        if metric is None:
            raise HsiError(f"layer is {layer!r}; expected one of {', '.join(self.layers)}")
        label = self.labels(metric, view, thresholds[metric], relative)
        colors = np.zeros((256, 4), np.uint8)
        colors[: len(self.names) + 1, :3] = class_colors(len(self.names))
        colors[: len(self.names) + 1, 3] = 255
        return np.asarray(colors[label])

    def shades(self, layer: str) -> str:
        """Return what the colours of a layer mean, in words."""
        if layer == "RGB":
            return f"{', '.join(f'{nm:g}' for nm in quicklook.COLORS)} nm as red, green, blue"
        return f"{layer}: dark 0, bright {1 if layer != schema.RMSE else f'{self._rmse_limit:.3g}'}"

    @cached_property
    def _rmse_limit(self) -> float:
        """The rmse that is drawn brightest: the 98th percentile of a coarse view."""
        rmse = self.rmse(self.full_view(COARSE))
        known = rmse[np.isfinite(rmse)]
        return float(np.percentile(known, 98)) if known.size else 1.0

    def reach(self, metric: str) -> float:
        """Return where the slider of a metric ends: beyond the distance of nearly every pixel to its endmember."""
        if metric in schema.SIMILARITIES:
            return 1.0
        distance = self.distances(metric, self.full_view(COARSE))
        nearest = np.where(np.isfinite(distance), distance, np.inf).min(axis=0)
        known = nearest[np.isfinite(nearest)]
        most = float(np.percentile(known, 99.5)) if known.size else 1.0
        return max(1.5 * most, 2 * max(self.stored_thresholds()[metric]))

    def pixel(self, x: float, y: float) -> Pixel | None:
        """Return the pixel at a place in the units of the map; None outside of the map."""
        at = self.grid.pixel(x, y)
        return None if at is None else read_pixel(self.results, self.tiles, *at)

    def stored_thresholds(self) -> dict[str, list[float]]:
        """Return the thresholds of each metric, one per class: those saved by the viewer, else those of the run."""
        k = len(self.names)
        saved = read_json(self.results.out / SAVED)
        if not isinstance(saved, dict):
            saved = {}
        options = self.results.record.options
        out = {}
        for metric in self.metrics:
            stored = saved.get(f"{metric}_threshold", options.threshold(metric))
            values = [float(v) for v in np.atleast_1d(np.asarray(stored, np.float64))]
            out[metric] = values * k if len(values) == 1 else values if len(values) == k else [DEFAULTS[metric]] * k
        return out

    @property
    def relative(self) -> bool:
        """Whether thresholds are shares of the range of the scores over the image, as they were in the run."""
        return self.results.record.options.relative

    def save(self, thresholds: Mapping[str, Sequence[float]], relative: bool) -> Path:
        """Write thresholds beside the results, as options that `hsichunk run --config` takes. Return the path.

        Raises HsiError where they cannot be written.
        """
        path = self.results.out / SAVED
        content = {f"{metric}_threshold": [float(v) for v in values] for metric, values in thresholds.items()}
        write_json(path, {**content, "relative": relative})
        return path

    def _cached(self, name: str, view: MapView, read: Callable[[], Float32s]) -> Float32s:
        """Return the values of a layer in a view, from memory or by `read`; the views used last stay in memory."""
        key = name, view
        if key not in self._views:
            self._views[key] = read()
            while len(self._views) > 1 and sum(values.nbytes for values in self._views.values()) > CACHE:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return self._views[key]

    def _stored(self, name: str, view: MapView) -> Float32s:
        """Return the values (..., rows, cols) of a stored map in a view."""
        part = {
            schema.Y: slice(view.rows.start, view.rows.stop, view.step),
            schema.X: slice(view.cols.start, view.cols.stop, view.step),
        }
        return np.asarray(self.results.products[name].isel(part).values, np.float32)

    def _overview(self, name: str, band: int, view: MapView) -> Float32s:
        """Return a band (rows, cols) of a map in a view.

        Where the view has a step, and the run wrote a GeoTIFF, it comes from the overviews of that; else from the
        store.
        """
        path = self.results.out / f"{name}.tif"
        if view.step == 1 or not path.exists():
            values = self._stored(name, view)
            return values[band - 1] if values.ndim == 3 else values
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.windows import Window

        top, left = view.rows.start, view.cols.start
        # The last cells may reach beyond the map: what is drawn there is off by less than a pixel of the screen.
        part = Window(left, top, view.cols.stop - left, view.rows.stop - top)
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                return np.asarray(file.read(band, window=part, out_shape=view.shape), np.float32)


def shade(values: Float32s, low: float, high: float, cmap: str) -> Bytes:
    """Return numbers (rows, cols) in the colours of a colour map between two limits: RGBA, NaN transparent."""
    import matplotlib

    scaled = (np.where(np.isfinite(values), values, low) - low) / ((high - low) or 1.0)
    image = matplotlib.colormaps[cmap](np.clip(scaled, 0, 1), bytes=True)
    image[~np.isfinite(values), 3] = 0
    return np.asarray(image, np.uint8)


def _clipped(start: float, stop: float, size: int) -> tuple[int, int]:
    """Return the first pixel and the one after the last, from start to stop inside the map, one pixel at least."""
    first = int(np.clip(np.floor(start), 0, size - 1))
    return first, int(np.clip(np.ceil(stop), first + 1, size))
