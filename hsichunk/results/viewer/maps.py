"""What is looked at, and no more: views of the stored maps at the resolution of the screen, and single pixels."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk import schema
from hsichunk.atomic_files import read_json, write_json
from hsichunk.classification.class_maps import classify
from hsichunk.classification.palette import class_colors
from hsichunk.classification.rules import score_range
from hsichunk.errors import HsiError
from hsichunk.memory import GDAL_CACHE
from hsichunk.metrics import BY_NAME
from hsichunk.readers.wavelengths import bands_at
from hsichunk.results import quicklook
from hsichunk.results.finished_run import FinishedRun
from hsichunk.run.folder import STORE
from hsichunk.writers.zarr_store import open_store

PIXELS = 600_000  # of a picture
VALUES = 16_000_000  # of a picture of all endmembers
CACHE = 192_000_000  # bytes of views kept
AT_ONCE = 250_000_000  # bytes of tiles that a first picture may decode
DECODED = 600_000_000  # bytes of tiles that one picture in colours may decode
SAVED = "thresholds.json"
DEFAULTS = schema.THRESHOLDS


class MapView(NamedTuple):
    """Every `step`-th row and column of a part of the maps."""

    rows: range
    cols: range

    @property
    def step(self) -> int:
        return self.rows.step

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.cols)


@dataclass(frozen=True, eq=False)
class Pixel:
    """What is known of one pixel."""

    row: int
    col: int
    wavelength: NDArray[np.float64]
    spectrum: NDArray[np.float64] | None
    """reflectance as in the tile; None where no tile can be read"""
    mixture: NDArray[np.float64]
    """of the endmembers by the stored abundances; NaN without data"""
    abundance: NDArray[np.float64]
    distances: dict[str, NDArray[np.float64]]
    rmse: float
    why: str
    """why there is no spectrum"""

    @property
    def residual(self) -> NDArray[np.float64] | None:
        return None if self.spectrum is None else self.spectrum - self.mixture


class Maps:
    """The stored results of a run and its tiles, read where they are looked at; keeps the last views."""

    def __init__(self, results: FinishedRun, tiles: Sequence[str] | None = None) -> None:
        self.results = results
        self.grid = results.grid
        self.names = results.names
        self.metrics = results.metrics
        self.tiles, self.missing = quicklook.place_tiles(results.tiles if tiles is None else list(tiles), self.grid)
        self._kept: OrderedDict[Any, NDArray[Any]] = OrderedDict()

    @property
    def layers(self) -> list[str]:
        """What can be drawn."""
        colors = ["RGB"] if self.tiles else []
        return [*colors, *(f"abundance {name}" for name in self.names), "rmse", *self.class_layers]

    @cached_property
    def class_layers(self) -> dict[str, str]:
        """The metric of each layer that is a class map."""
        return {f"{BY_NAME[metric].title} classes": metric for metric in self.metrics}

    @property
    def first(self) -> str:
        """What a page begins with: colours, or a map with overviews where colours would take seconds to decode."""
        grid, layers = self.grid, self.layers
        whole = self.view(grid.left, grid.right, grid.bottom, grid.top)
        slow = quicklook.decoded(self.tiles, np.array(whole.rows), np.array(whole.cols)) > AT_ONCE
        return layers[1] if self.tiles and slow else layers[0]

    def view(self, left: float, right: float, bottom: float, top: float, pixels: int = PIXELS) -> MapView:
        """The part between places in the units of the map, of `pixels` pixels at most; steps are powers of two."""
        grid = self.grid
        pixels = max(1, min(pixels, VALUES // len(self.names)))
        row, end_row = _clipped((grid.top - top) / grid.dy, (grid.top - bottom) / grid.dy, grid.rows)
        col, end_col = _clipped((left - grid.left) / grid.dx, (right - grid.left) / grid.dx, grid.cols)
        step = 1
        while -(-(end_row - row) // step) * -(-(end_col - col) // step) > pixels:
            step *= 2
        # on the grid of the step: the same pixels whatever part is looked at
        return MapView(range(row - row % step, end_row, step), range(col - col % step, end_col, step))

    def extent(self, view: MapView) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a picture of it, in the units of the map."""
        grid, (high, wide) = self.grid, view.shape
        height, width = high * view.step * grid.dy, wide * view.step * grid.dx
        return (
            grid.left + view.cols.start * grid.dx,
            grid.top - view.rows.start * grid.dy - height,
            width,
            height,
        )

    def abundance(self, index: int, view: MapView) -> NDArray[np.float32]:
        """(rows, cols), NaN without data."""
        return self._keep((schema.ABUNDANCE, index, view), lambda: self._overview(schema.ABUNDANCE, index + 1, view))

    def rmse(self, view: MapView) -> NDArray[np.float32]:
        return self._keep((schema.RMSE, view), lambda: self._overview(schema.RMSE, 1, view))

    def distances(self, metric: str, view: MapView) -> NDArray[np.float32]:
        """(endmember, rows, cols) stored scores."""
        return self._keep((metric, view), lambda: self._stored(metric, view))

    def labels(
        self, metric: str, view: MapView, thresholds: Sequence[float], relative: bool = False
    ) -> NDArray[np.uint8]:
        """Classes (rows, cols) at these thresholds, one or one a class: those of hsi.classify over the whole map."""
        dims = (schema.ENDMEMBER, schema.Y, schema.X)
        distance = xr.DataArray(self.distances(metric, view), {schema.ENDMEMBER: self.names}, dims, metric)
        given: Any = thresholds[0] if len(thresholds) == 1 else list(thresholds)
        limits = self.ranges[metric] if relative else None
        return np.asarray(classify(distance, given, relative=relative, limits=limits).values, np.uint8)

    @cached_property
    def ranges(self) -> dict[str, xr.Dataset]:
        """What relative thresholds are shares of over the whole map, read block by block."""
        stored = open_store(self.results.out / STORE)
        return {metric: score_range(stored[metric]).compute() for metric in self.metrics}

    def colors(self, view: MapView) -> NDArray[np.float32]:
        """Red, green and blue reflectance (rows, cols, 3); coarser where all of it would decode too much."""

        def read() -> NDArray[np.float32]:
            rows, cols = np.array(view.rows), np.array(view.cols)
            coarse = 1
            while quicklook.decoded(self.tiles, rows[::coarse], cols[::coarse]) > DECODED and coarse < len(rows):
                coarse *= 2
            values, _ = quicklook.read_colors(self.tiles, rows[::coarse], cols[::coarse])
            repeated = values.repeat(coarse, axis=0).repeat(coarse, axis=1)
            return np.ascontiguousarray(repeated[: len(rows), : len(cols)])

        return self._keep(("RGB", view), read)

    @cached_property
    def stretch(self) -> NDArray[np.float64]:
        """What is black and what is full in the picture in colours, from a coarse look at all of it."""
        grid = self.grid
        whole = self.view(grid.left, grid.right, grid.bottom, grid.top, 40_000)
        return quicklook.stretch(self.colors(whole))

    def picture(
        self, layer: str, view: MapView, thresholds: Mapping[str, Sequence[float]], relative: bool = False
    ) -> NDArray[np.uint8]:
        """RGBA (rows, cols, 4) of one of `layers`; no data is transparent. Raises HsiError for an unknown one."""
        if layer == "RGB":
            image, known = quicklook.as_bytes(self.colors(view), self.stretch)
            return np.dstack([image, np.where(known, 255, 0).astype(np.uint8)])
        if layer == "rmse":
            return shaded(self.rmse(view), 0.0, self._rmse_limit, "cividis")
        if layer.startswith("abundance "):
            name = layer.removeprefix("abundance ")
            if name in self.names:
                return shaded(self.abundance(self.names.index(name), view), 0.0, 1.0, "viridis")
        metric = self.class_layers.get(layer)
        if metric is None:
            raise HsiError(f"layer is {layer!r}; expected one of {', '.join(self.layers)}")
        label = self.labels(metric, view, thresholds[metric], relative)
        colors = np.zeros((256, 4), np.uint8)
        colors[: len(self.names) + 1, :3] = class_colors(len(self.names))
        colors[: len(self.names) + 1, 3] = 255
        return np.asarray(colors[label])

    def shades(self, layer: str) -> str:
        """What dark and bright mean in a layer, in words."""
        if layer == "RGB":
            return f"{', '.join(f'{nm:g}' for nm in quicklook.COLORS)} nm as red, green, blue"
        return f"{layer}: dark 0, bright {1 if layer != schema.RMSE else f'{self._rmse_limit:.3g}'}"

    @cached_property
    def _rmse_limit(self) -> float:
        grid = self.grid
        seen = self.rmse(self.view(grid.left, grid.right, grid.bottom, grid.top, 40_000))
        known = seen[np.isfinite(seen)]
        return float(np.percentile(known, 98)) if known.size else 1.0

    def reach(self, metric: str) -> float:
        """A distance that nearly every pixel lies within of its nearest endmember: where a slider ends."""
        if metric in schema.SIMILARITIES:
            return 1.0
        grid = self.grid
        whole = self.view(grid.left, grid.right, grid.bottom, grid.top, 40_000)
        distance = self.distances(metric, whole)
        nearest = np.where(np.isfinite(distance), distance, np.inf).min(axis=0)
        known = nearest[np.isfinite(nearest)]
        most = float(np.percentile(known, 99.5)) if known.size else 1.0
        return max(1.5 * most, 2 * max(self.stored_thresholds()[metric]))

    def pixel(self, x: float, y: float) -> Pixel | None:
        """All that is known of the pixel at a place; None beside the map."""
        at = self.grid.pixel(x, y)
        if at is None:
            return None
        here = self.results.products.isel({schema.Y: at[0], schema.X: at[1]})
        abundance = here[schema.ABUNDANCE].values.astype(np.float64)
        em, k = self.results.endmembers, len(self.names)
        tile = next((t for t in self.tiles if all(len(p) for p in t.inside(*_one(at)))), None)
        spectrum, why = None, "none of the tiles that can be read holds this pixel"
        if tile is not None:
            try:
                spectrum, why = _spectrum(tile, *at, em.wavelength), ""
            except HsiError as error:
                why = str(error)
        chosen = em.spectra
        if len(em.names) != k:  # one set a tile
            stem = Path(tile.file.path).stem if tile else None
            own = [i for i, name in enumerate(em.names) if name.rsplit(" ", 1)[0] == stem]
            chosen = em.spectra[own] if len(own) == k else np.full((k, len(em.wavelength)), np.nan)
        return Pixel(
            *at,
            em.wavelength,
            spectrum,
            abundance @ chosen,
            abundance,
            {m: here[m].values.astype(np.float64) for m in self.metrics},
            float(here[schema.RMSE]),
            why,
        )

    def stored_thresholds(self) -> dict[str, list[float]]:
        """Thresholds of each metric, one a class: those saved here, else those of the run."""
        k = len(self.names)
        saved = read_json(self.results.out / SAVED)
        given = saved if isinstance(saved, dict) else {}
        options = self.results.record.options
        out = {}
        for metric in self.metrics:
            values = [float(v) for v in np.atleast_1d(given.get(f"{metric}_threshold", options.threshold(metric)))]
            out[metric] = values * k if len(values) == 1 else values if len(values) == k else [DEFAULTS[metric]] * k
        return out

    @property
    def relative(self) -> bool:
        """Whether thresholds are shares of the range over the image, as they were in the run."""
        return self.results.record.options.relative

    def save(self, thresholds: Mapping[str, Sequence[float]], relative: bool) -> Path:
        """Writes thresholds beside the results, as options that `hsichunk run --config` takes.

        Raises HsiError where they cannot be written.
        """
        path = self.results.out / SAVED
        content: dict[str, Any] = {f"{m}_threshold": [float(v) for v in each] for m, each in thresholds.items()}
        write_json(path, {**content, "relative": relative})
        return path

    def _keep(self, key: Any, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What is read, from memory if it was looked at a short while ago."""
        if key not in self._kept:
            self._kept[key] = read()
            while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > CACHE:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _stored(self, name: str, view: MapView) -> NDArray[np.float32]:
        part = {
            schema.Y: slice(view.rows.start, view.rows.stop, view.step),
            schema.X: slice(view.cols.start, view.cols.stop, view.step),
        }
        return np.asarray(self.results.products[name].isel(part).values, np.float32)

    def _overview(self, name: str, band: int, view: MapView) -> NDArray[np.float32]:
        """From the overviews of the GeoTIFF where the screen shows less than is stored; else from the store."""
        path = self.results.out / f"{name}.tif"
        if view.step == 1 or not path.exists():
            values = self._stored(name, view)
            return values[band - 1] if values.ndim == 3 else values
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.windows import Window

        top, left = view.rows.start, view.cols.start
        # the last cells may reach beyond the map: what is drawn there is off by less than a pixel of the screen
        part = Window(left, top, view.cols.stop - left, view.rows.stop - top)
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                return np.asarray(file.read(band, window=part, out_shape=view.shape), np.float32)


def shaded(values: NDArray[np.float32], low: float, high: float, cmap: str) -> NDArray[np.uint8]:
    """RGBA of numbers between two limits; NaN is transparent."""
    import matplotlib

    scaled = (np.where(np.isfinite(values), values, low) - low) / ((high - low) or 1.0)
    image = matplotlib.colormaps[cmap](np.clip(scaled, 0, 1), bytes=True)
    image[~np.isfinite(values), 3] = 0
    return np.asarray(image, np.uint8)


def _clipped(start: float, stop: float, size: int) -> tuple[int, int]:
    """Whole pixels from start to stop inside the map, one at least."""
    first = int(np.clip(np.floor(start), 0, size - 1))
    return first, int(np.clip(np.ceil(stop), first + 1, size))


def _one(at: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.array([at[0]], np.intp), np.array([at[1]], np.intp)


def _spectrum(tile: quicklook.Placed, row: int, col: int, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reflectance of a pixel in the kept bands, interpolated where the tile has others; NaN without data."""
    file = tile.file
    rows, cols = _one((row - tile.top, col - tile.left))
    stored = file.reflectance.read(rows, cols, np.arange(len(file.wavelength)))[0, 0]
    values = np.where(stored == file.no_data, np.nan, stored / file.scale)
    if (bands := bands_at(wavelength, file.wavelength)) is not None:
        return np.asarray(values[bands], np.float64)
    return np.interp(wavelength, file.wavelength, values)
