"""NEON files as labelled, lazy datasets: `hsi.open_tile` and xarray's `engine="neon"`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from hsichunk import lineage, neon, provenance, schema
from hsichunk.chunks.hdf5 import StoredArray
from hsichunk.chunks.remote import is_url, name_of
from hsichunk.errors import HsiError
from hsichunk.grid import Grid, mapping_attrs


class LazyStored(BackendArray):
    """A stored array behind xarray's lazy indexing: selections reach the reader before anything is decoded."""

    def __init__(self, stored: StoredArray) -> None:
        self.stored = stored
        self.shape = stored.shape
        self.dtype = stored.dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if isinstance(key, indexing.VectorizedIndexer):  # single pixels
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        return self._read(key.tuple)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        positions = [np.atleast_1d(np.arange(n)[k]) for k, n in zip(key, self.shape, strict=True)]
        values = self.stored.read(*positions)
        return values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]


def stored_behind(variable: xr.Variable) -> tuple[StoredArray, tuple[NDArray[np.intp], ...]] | None:
    """The stored array behind a lazy variable and, for each dimension, the positions of it that the variable shows.

    For a variable of `open_tile`, or of `engine="neon"` with chunks, that is nothing but a selection; else None.
    """
    data = variable._data
    if not isinstance(data, indexing.ExplicitlyIndexed):
        found = lineage.follow(data, _positions)
        if found is None:
            return None
        (stored, at), window = found
        if window.axes != tuple(range(len(at))):
            return None
        return stored, tuple(origin[shown] for origin, shown in zip(at, window.at, strict=True))
    return _positions(data)


def _positions(data: Any) -> tuple[StoredArray, tuple[NDArray[np.intp], ...]] | None:
    """The same for xarray's own lazy arrays."""
    while isinstance(
        data, (indexing.MemoryCachedArray, indexing.CopyOnWriteArray, indexing.ImplicitToExplicitIndexingAdapter)
    ):
        data = data.array
    if not isinstance(getattr(data, "array", None), LazyStored):
        return None
    keys, stored = data.key.tuple, data.array.stored
    if isinstance(data, indexing.LazilyVectorizedIndexedArray):  # what a transpose makes of the other
        if any(np.size(k) != np.shape(k)[axis] for axis, k in enumerate(keys)):
            return None
        keys = tuple(np.ravel(k) for k in keys)
    if len(keys) != len(data.shape) or not all(isinstance(k, slice) or np.ndim(k) == 1 for k in keys):
        return None
    return stored, tuple(np.arange(n)[k] for k, n in zip(keys, stored.shape, strict=True))


def open_tile(path: str | os.PathLike[str]) -> xr.Dataset:
    """Opens a NEON reflectance tile or flight line, or an image (ENVI, GeoTIFF: `open_image`); reads no pixels.

    Returns a Dataset: `reflectance(y, x, wavelength)` in counts as stored (int16), its attributes naming scale, no-data
    and bad-band windows; `wavelength` and `fwhm` in nm; `y`, `x` pixel centres in metres; `spatial_ref`; and every
    ancillary layer of the file as a lazy variable. Raises HsiError where the file is no NEON reflectance file of
    generation .001 or .002; warns (HsiWarning) where a NEON default stands in for what the file leaves out.
    Source: NEON DP3.30006.001/.002, DP1.30006.001/.002.
    """
    if isinstance(path, (str, os.PathLike)):
        from hsichunk.images import is_image, open_image

        if is_image(path):
            return open_image(path)
    return xr.open_dataset(path, engine=NeonBackendEntrypoint, cache=False)  # a cache would come to hold the whole cube


class NeonBackendEntrypoint(BackendEntrypoint):
    """`xr.open_dataset(path, engine="neon")`: NEON AOP reflectance HDF5, the same as `hsichunk.open_tile`."""

    description = "NEON AOP reflectance tiles and flight lines (HDF5)"
    open_dataset_parameters = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        return _dataset(neon.read(filename_or_obj)).drop_vars(dropped, errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        if not isinstance(filename_or_obj, (str, os.PathLike)):
            return False
        name = name_of(os.fspath(filename_or_obj)).lower()
        return name.startswith("neon_") and "reflectance" in name and name.endswith(".h5")


def _lazy(dims: tuple[str, ...], stored: StoredArray, attrs: dict[str, Any]) -> xr.Variable:
    data = indexing.LazilyIndexedArray(LazyStored(stored))
    encoding = {"preferred_chunks": dict(zip(dims, stored.chunks, strict=True)), "source": stored.path}
    return xr.Variable(dims, data, attrs, encoding)


def count_attrs(file: neon.NeonFile, no_data: float) -> dict[str, Any]:
    """What stored counts mean."""
    return {
        "long_name": "reflectance as stored",
        "units": "counts",
        schema.SCALE: file.scale,
        schema.NO_DATA: no_data,
        schema.WINDOWS: [edge for window in file.windows for edge in window],
    }


def stored_attrs(own: dict[str, Any], meaning: dict[str, Any]) -> dict[str, Any]:
    """Attributes of stored counts: what they mean, then what else the file says of them."""
    return {**meaning, **{name: value for name, value in own.items() if name not in meaning}}


def cube_coords(file: neon.NeonFile, grid: Grid, rows: int, cols: int) -> dict[str, Any]:
    """Coordinates of a cube on a grid, with the bands of a file."""
    coords: dict[str, Any] = {
        schema.Y: (schema.Y, grid.y(rows), schema.Y_ATTRS),
        schema.X: (schema.X, grid.x(cols), schema.X_ATTRS),
        schema.WAVELENGTH: (schema.WAVELENGTH, file.wavelength, schema.WAVELENGTH_ATTRS),
    }
    if file.fwhm is not None:
        coords[schema.FWHM] = (schema.WAVELENGTH, file.fwhm, schema.FWHM_ATTRS)
    return coords


def _dataset(file: neon.NeonFile) -> xr.Dataset:
    rows, cols, _ = file.reflectance.shape
    attrs = stored_attrs(file.attrs, count_attrs(file, file.no_data))
    coords = cube_coords(file, file.grid, rows, cols)
    variables = {schema.REFLECTANCE: _lazy((schema.Y, schema.X, schema.WAVELENGTH), file.reflectance, attrs)}
    for layer in file.layers:
        variables[layer.name] = _lazy(layer.dims, layer.stored, layer.attrs)
    if file.sun:
        coords["flight_line"] = ("flight_line", [name for name, *_ in file.sun])
        for position, name in enumerate(("solar_azimuth_angle", "solar_zenith_angle"), start=1):
            values = [line[position] for line in file.sun]
            variables[name] = xr.Variable("flight_line", values, {"standard_name": name, "units": "degree"})
    stored = file.reflectance
    said = {provenance.CHUNKS: provenance.chunk_words(stored.stored_chunks, stored.dtype)}
    try:
        return described(with_grid(xr.Dataset(variables, coords), file.grid), file, file.grid, said)
    except HsiError as error:
        raise HsiError(f"{file.path}: {error}") from error


def described(dataset: xr.Dataset, file: neon.NeonFile, grid: Grid, said: dict[str, str], tiles: int = 1) -> xr.Dataset:
    """The same with attributes that tell a reader what it is; `said` are those of its chunks."""
    from hsichunk.images import is_image

    neon_made = is_url(file.path) or not is_image(file.path)
    sensor = {provenance.SENSOR: provenance.NEON_SENSOR, provenance.SITE: file.site} if neon_made else {}
    place = provenance.grid_words(dataset.sizes[schema.Y], dataset.sizes[schema.X], grid, tiles)
    return dataset.assign_attrs(
        {
            "title": f"{'NEON AOP ' if neon_made else ''}reflectance, {file.site}",
            **sensor,
            **provenance.crs_words(dataset[schema.GRID_MAPPING].attrs),
            provenance.GRID: place,
            provenance.BANDS: provenance.band_words(file.wavelength, file.windows),
            **said,
        }
    )


def with_grid(dataset: xr.Dataset, grid: Grid) -> xr.Dataset:
    """The same with `spatial_ref`: CRS and GeoTransform, as CF and rioxarray have them."""
    attrs = mapping_attrs(grid)
    dataset = dataset.assign_coords({schema.GRID_MAPPING: xr.Variable((), 0, attrs)})
    for variable in dataset.data_vars.values():
        if {schema.Y, schema.X} <= set(variable.dims):
            variable.encoding["grid_mapping"] = schema.GRID_MAPPING
    return dataset
