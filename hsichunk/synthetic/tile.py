"""Write synthetic tiles in NEON AOP's HDF5 layout, and return the truth that they were mixed from."""

from __future__ import annotations

import itertools
import math
import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import h5py
import numpy as np
import xarray as xr

from hsichunk import schema
from hsichunk.atomic_files import replacing_hdf5
from hsichunk.errors import HsiError
from hsichunk.synthetic.hdf5_tree import Storage, Tile, write_tree
from hsichunk.synthetic.scene import Scene, draw, fill, footprint
from hsichunk.synthetic.spectra import MATERIALS, NEON_RANGE, neon_wavelength, pure_spectra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from hsichunk.array_types import Bools, Floats

    Start = tuple[int, int, int]  # row, column and band of the first element of a chunk
    FillChunk = Callable[[npt.NDArray[np.integer], Start], None]

BATCH: Final = 1 << 20  # counts of one task, enough to pay for its dispatch, few enough to hold several tasks' counts
BANDS: Final = 426
NO_DATA: Final = ("corners", "none", "half")


def write_tile(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int] = (1000, 1000),
    bands: int | None = None,
    product: str = "DP3.001",
    chunks: tuple[int, int, int] | None = None,
    seed: int = 0,
    k: int = 4,
    origin: tuple[float, float] = (368000.0, 4307000.0),
    pixel: float = 1.0,
    epsg: int = 32618,
    site: str = "SERC",
    no_data: str = "corners",
    noise: float = 0.002,
    illumination: float = 0.1,
    glint: float = 0.0,
    wavelength: Sequence[float] | Floats | None = None,
    dtype: str = "int16",
    compression: int | None = 3,
    shuffle: bool = False,
    threads: int = 2,
) -> xr.Dataset:
    """Write a NEON AOP reflectance tile of mixed pixels and return its truth.

    A count is 10000 x illumination x (abundances . pure spectra) + noise, rounded, clipped to 0..14998. It depends on
    `seed`, `k`, the options of the mixture, the pixel's place on the grid of `pixel` metres and the band, never on the
    tile's shape, origin or chunks: tiles of the same seed are windows of one scene. Only no-data belongs to the tile.

    `path` is replaced in one step once the tile is complete; its folder must exist. `shape` is rows and columns.
    `wavelength` gives band centres in nm; without it, `bands` is their number over NEON's range (426). `product` is
    "DP3.001", "DP3.002" (mosaic tiles until 2021 and since 2022) or "DP1.001" (a flight line). `chunks` are (rows,
    cols, bands) as stored; by default h5py's own guess for .001, one band a chunk for .002. `origin` is the upper left
    corner (easting, northing) in metres, `epsg` a UTM zone on WGS 84.

    The endmembers are the first `k` of `hsichunk.synthetic.spectra.MATERIALS`. `no_data` is "corners" (outside a turned
    square), "half" (the left half) or "none". `noise` is the standard deviation in reflectance of a good band; water
    windows hold garbage whatever it is. `illumination` is the largest departure from 1 of a smooth factor on
    reflectance; 0 gives exact mixtures. `glint` is the share of pixels four times as bright, so that good bands hold
    counts above 10000, too.

    `dtype` is int16 or int32, `compression` a gzip level or None, `shuffle` HDF5's shuffle filter; `threads` threads
    make and compress chunks.

    Returns a Dataset of abundance (endmember, y, x) float32, sum exactly 1, NaN where the tile has no data; reflectance
    (endmember, wavelength) float64 of the pure spectra; illumination (y, x) float32. Raises HsiError for an argument
    out of its range, and where `path` cannot be written; nothing is left behind.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise HsiError(f"cannot write {path}: {path.parent} is not a folder; make it or choose another path")
    centres = _band_centres(product, bands, wavelength)
    tile = Tile(product, site, *shape, centres, origin, pixel, epsg)
    _check(tile, chunks, k, no_data, dtype, compression, threads)
    names = list(MATERIALS)[:k]
    spectra = pure_spectra(names, centres)
    start = math.floor(0.5 - origin[1] / pixel), math.floor(0.5 + origin[0] / pixel)
    scene = draw(seed, start, shape, k, illumination=illumination, glint=glint)
    valid = footprint(shape, no_data)
    fill_chunk = _chunk_filler(scene, valid, spectra, noise_counts(centres, noise))

    with replacing_hdf5(path) as file:
        data = write_tree(file, tile, scene.relief, valid, _storage(tile, chunks, dtype, compression, shuffle))
        _write_counts(data, fill_chunk, compression, shuffle, threads)
    return _truth(tile, names, spectra, scene, valid)


def noise_counts(wavelength: Floats, noise: float) -> Floats:
    """Return the standard deviation of the noise (bands,) in counts.

    It is `noise` in reflectance, more at both ends of the spectrum, and garbage in the water windows.
    """
    sd = np.full(wavelength.size, noise * schema.NEON_SCALE)
    sd *= 1.0 + 1.5 * np.clip((430.0 - wavelength) / 50.0, 0.0, 1.0)
    sd *= 1.0 + 9.0 * np.clip((wavelength - 2450.0) / 60.0, 0.0, 1.0)
    for low, high in schema.NEON_WINDOWS:
        depth = np.clip(1.0 - np.abs(2.0 * wavelength - low - high) / (high - low), 0.0, 1.0)
        sd = np.where((wavelength >= low) & (wavelength <= high), 40.0 + 9000.0 * depth**2, sd)
    return sd


def _band_centres(product: str, bands: int | None, wavelength: Sequence[float] | Floats | None) -> Floats:
    """Return band centres (bands,) in nm. Raises HsiError for an unknown product and for what is no list of bands."""
    if product not in NEON_RANGE:
        raise HsiError(f"product is {product!r}; give one of {', '.join(NEON_RANGE)}")
    if wavelength is None:
        if bands is not None and bands < 1:
            raise HsiError(f"bands is {bands}; give 1 or more")
        return neon_wavelength(product, BANDS if bands is None else bands)
    centres = np.asarray(wavelength, np.float64)
    if centres.ndim != 1 or not centres.size or bands not in (None, centres.size):
        raise HsiError(
            f"wavelength has shape {centres.shape}, bands is {bands}; give one wavelength a band and no bands"
        )
    return centres


def _check(
    tile: Tile,
    chunks: tuple[int, int, int] | None,
    k: int,
    no_data: str,
    dtype: str,
    compression: int | None,
    threads: int,
) -> None:
    """Raise HsiError for the first argument that is out of its range."""
    cube = (tile.rows, tile.cols, tile.wavelength.size)
    fits = chunks is None or (len(chunks) == 3 and all(0 < c <= n for c, n in zip(chunks, cube, strict=True)))
    rules = (
        (min(cube) > 0, f"shape is {cube[:2]}; give at least one row and one column"),
        (fits, f"chunks are {chunks}; give three sizes from 1 to those of the tile, {cube}"),
        (1 <= k <= len(MATERIALS), f"k is {k}; give 1 to {len(MATERIALS)}"),
        (tile.pixel > 0, f"pixel is {tile.pixel} m; give a size above 0"),
        (no_data in NO_DATA, f"no_data is {no_data!r}; give one of {', '.join(NO_DATA)}"),
        (str(dtype) in ("int16", "int32"), f"dtype is {dtype}; give int16 or int32"),
        (compression is None or 0 <= compression <= 9, f"compression is {compression}; give None or 0 to 9"),
        (threads > 0, f"threads is {threads}; give 1 or more"),
    )
    for fulfilled, message in rules:
        if not fulfilled:
            raise HsiError(message)


def _storage(
    tile: Tile, chunks: tuple[int, int, int] | None, dtype: str, compression: int | None, shuffle: bool
) -> Storage:
    """Return how Reflectance_Data is stored: up to 2021 NEON left the chunks to h5py, since then one holds one band."""
    if chunks is None and tile.product == "DP3.002":
        chunks = (tile.rows, tile.cols, 1)
    return {
        "dtype": np.dtype(dtype).newbyteorder("<"),
        "chunks": chunks or True,
        "shuffle": shuffle,
        "compression": None if compression is None else "gzip",
        "compression_opts": compression,
    }


def _chunk_filler(scene: Scene, valid: Bools, spectra: Floats, sd: Floats) -> FillChunk:
    """Return a function that fills an array of a chunk's shape with the counts from (row, col, band) of the tile on."""
    per_band = np.ascontiguousarray(spectra.T) * schema.NEON_SCALE

    def fill_chunk(out: npt.NDArray[np.integer], start: Start) -> None:
        light, key = scene.illumination, scene.key
        fill(out, *start, scene.abundance, light, key, valid, per_band, sd, schema.NEON_NO_DATA)

    return fill_chunk


def _write_counts(
    data: h5py.Dataset, fill_chunk: FillChunk, compression: int | None, shuffle: bool, threads: int
) -> None:
    """Make and compress chunks in a pool, and write them in this thread, because HDF5 has one lock.

    The pool is a few batches ahead of the writing.
    """

    def encode(start: Start) -> bytes:
        counts = np.zeros(data.chunks, data.dtype)
        fill_chunk(counts, start)
        raw = counts.reshape(-1).view(np.uint8)
        if shuffle:
            raw = np.ascontiguousarray(raw.reshape(-1, data.dtype.itemsize).T)
        return raw.tobytes() if compression is None else zlib.compress(raw.data, compression)

    def encode_all(starts: tuple[Start, ...]) -> list[tuple[Start, bytes]]:
        return [(start, encode(start)) for start in starts]

    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[list[tuple[Start, bytes]]]] = deque()
        for batch in _batches(data.shape, data.chunks):
            pending.append(pool.submit(encode_all, batch))
            if len(pending) > threads + 1:
                _store(data, pending.popleft().result())
        while pending:
            _store(data, pending.popleft().result())


def _store(data: h5py.Dataset, encoded: list[tuple[Start, bytes]]) -> None:
    for start, stored in encoded:
        data.id.write_direct_chunk(start, stored)


def _batches(shape: Start, chunks: Start) -> Iterator[tuple[Start, ...]]:
    """Yield the first elements of all stored chunks, in groups of about BATCH counts."""
    rows, cols, bands = (range(0, size, step) for size, step in zip(shape, chunks, strict=True))
    starts = itertools.product(rows, cols, bands)
    size = max(1, BATCH // math.prod(chunks))
    return iter(lambda: tuple(itertools.islice(starts, size)), ())


def _truth(tile: Tile, names: list[str], spectra: Floats, scene: Scene, valid: Bools) -> xr.Dataset:
    """Return the Dataset that `write_tile` describes."""
    scene.abundance[:, ~valid] = np.nan
    x = tile.origin[0] + (np.arange(tile.cols) + 0.5) * tile.pixel
    y = tile.origin[1] - (np.arange(tile.rows) + 0.5) * tile.pixel
    attrs = schema.PRODUCT_ATTRS
    return xr.Dataset(
        {
            schema.ABUNDANCE: ((schema.ENDMEMBER, schema.Y, schema.X), scene.abundance, attrs[schema.ABUNDANCE]),
            schema.REFLECTANCE: ((schema.ENDMEMBER, schema.WAVELENGTH), spectra, attrs[schema.REFLECTANCE]),
            "illumination": ((schema.Y, schema.X), scene.illumination, {"units": "1"}),
        },
        coords={
            schema.ENDMEMBER: [f"EM{i + 1}" for i in range(len(names))],
            "material": (schema.ENDMEMBER, names),
            schema.Y: (schema.Y, y, schema.Y_ATTRS),
            schema.X: (schema.X, x, schema.X_ATTRS),
            schema.WAVELENGTH: (schema.WAVELENGTH, tile.wavelength, schema.WAVELENGTH_ATTRS),
        },
    )
