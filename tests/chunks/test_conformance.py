"""Every storage there is, and one that a test makes up, against the contract of `ChunkedArray`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from dask.base import tokenize
from numpy.typing import NDArray

import hsichunk as hsi
from hsichunk.chunks import hdf5 as hdf5_module
from hsichunk.chunks import remote
from hsichunk.chunks.array import DECODED, ChunkedArray
from hsichunk.chunks.decoded_cache import ChunkCoords
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import CorruptChunk, HsiError
from hsichunk.mosaic.bad_chunks import BadAsNoData
from hsichunk.mosaic.common_bands import CommonBands
from hsichunk.mosaic.site import open_site
from hsichunk.mosaic.tiled_counts import TiledCounts
from hsichunk.readers import image_chunks, neon
from hsichunk.readers.image_metadata import read_image
from hsichunk.readers.model import ReadOptions
from hsichunk.unmixing.scaled_counts import ShiftedCounts
from tests.helpers import conformance, numpy_tiles, tiles
from tests.helpers.conformance import CHECKS, Check, Damage, Maker, Storage
from tests.helpers.image_files import write_envi, write_tiff

SHAPE = (13, 11, 17)
CHUNKS = (5, 4, 6)
GZIP: dict[str, Any] = {"chunks": CHUNKS, "compression": "gzip", "fillvalue": -9999}
NM = np.linspace(400.0, 2500.0, SHAPE[2])
BROKEN = (1, 2, 1)  # coords of a chunk that tests damage


def later(path: Path) -> None:
    """Makes the file's last change one second later, however coarse the file system's clock is."""
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def under(array: ChunkedArray, coords: ChunkCoords) -> NDArray[np.bool_]:
    """Pixels under a chunk."""
    pixels = np.zeros(array.shape[:2], np.bool_)
    (high, wide), (i, j) = array.chunks[:2], coords[:2]
    pixels[i * high : (i + 1) * high, j * wide : (j + 1) * wide] = True
    return pixels


def break_chunk(path: Path, dataset: str, coords: ChunkCoords) -> None:
    """Overwrites the middle of a stored chunk."""
    with h5py.File(path) as file:
        data = file[dataset]
        info = data.id.get_chunk_info_by_coord(tuple(p * c for p, c in zip(coords, data.chunks, strict=True)))
    content = bytearray(path.read_bytes())
    start = info.byte_offset + info.size // 3
    content[start : start + 40] = bytes(b ^ 0xFF for b in content[start : start + 40])
    path.write_bytes(content)
    later(path)


# HDF5


def write_hdf5(path: Path, values: NDArray[Any], **storage: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=values, **storage)
    later(path)
    return path


def open_hdf5(path: Path) -> HDF5Array:
    with h5py.File(path) as file:
        return HDF5Array(path, file["a"])


def hdf5(damaged: bool = True, dtype: str = "<i2", **storage: Any) -> Maker:
    values = tiles.counts(SHAPE).astype(dtype)

    def make(folder: Path) -> Storage:
        path = write_hdf5(folder / "a.h5", values, **storage)

        def change() -> None:
            stamp = os.stat(path)
            write_hdf5(path, values[::-1], **storage)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 10**9))

        def damage() -> Damage:
            coords = tuple(min(b, n - 1) for b, n in zip(BROKEN, open_hdf5(path).grid, strict=True))
            break_chunk(path, "a", coords)
            return Damage(coords, under(open_hdf5(path), coords), f"{path}: chunk {coords} of /a is corrupt")

        return Storage(lambda: open_hdf5(path), values, change, damage if damaged else None)

    return make


def hdf5_with_unwritten_chunks(folder: Path) -> Storage:
    values = np.full(SHAPE, -9999, np.int16)
    values[6:, :, :7] = tiles.counts(SHAPE)[6:, :, :7]
    path = folder / "a.h5"

    def write(first: int) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("a", SHAPE, "<i2", **GZIP)[first:, :, :7] = values[first:, :, :7]

    write(6)

    def change() -> None:
        stamp = os.stat(path)
        write(0)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 10**9))

    def damage() -> Damage:
        break_chunk(path, "a", BROKEN)
        return Damage(BROKEN, under(open_hdf5(path), BROKEN), f"chunk {BROKEN}")

    return Storage(lambda: open_hdf5(path), values, change, damage)


# images


def envi(interleave: str, order: int = 0, offset: int = 0, dtype: str = "i2") -> Maker:
    values = np.random.default_rng(1).integers(0, 250, (37, 19, 24)).astype(dtype)
    nm = np.linspace(400.0, 2500.0, 24)

    def make(folder: Path) -> Storage:
        path = folder / "scene.img"

        def write(content: NDArray[Any]) -> None:
            write_envi(path, content, interleave, nm=nm, order=order, offset=offset)
            later(path)

        write(values)
        cut: list[tuple[int, int]] = []

        def opened() -> ChunkedArray:
            array = image_chunks.image_array(read_image(path, ReadOptions(scale=10000.0)))
            if cut:  # a file too short is refused when it is opened: let it have been cut since, unseen
                os.truncate(path, cut[0][0])
                os.utime(path, ns=(cut[0][1], cut[0][1]))
                array.stamp = cut[0]
            return array

        def change() -> None:
            changed = os.stat(path).st_mtime_ns
            write(values[::-1])
            os.utime(path, ns=(changed, changed + 10**9))

        def damage() -> Damage:
            array = opened()
            size = os.stat(path).st_size
            cut.append((size - 1, os.stat(path).st_mtime_ns + 10**9))
            coords = tuple(n - 1 for n in array.grid)
            return Damage(coords, under(array, coords), f"{path}: chunk {coords}")

        return Storage(opened, values.astype(np.int16 if dtype == "u1" else dtype), change, damage)

    return make


def geotiff(interleave: str = "pixel", **profile: Any) -> Maker:
    values = np.random.default_rng(2).integers(0, 9000, (61, 50, 6)).astype(np.int16)
    given: dict[str, Any] = {
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
        "compress": "deflate",
        "interleave": interleave,
    }

    def make(folder: Path) -> Storage:
        rasterio = pytest.importorskip("rasterio")
        path = folder / "scene.tif"

        def opened() -> ChunkedArray:
            return image_chunks.image_array(
                read_image(path, ReadOptions(wavelength=np.linspace(400.0, 2500.0, 6), scale=10000.0))
            )

        def write(content: NDArray[Any]) -> None:
            write_tiff(path, content, **given, **profile)
            later(path)

        write(values)

        def change() -> None:
            changed = os.stat(path).st_mtime_ns
            write(values[::-1])
            os.utime(path, ns=(changed, changed + 10**9))

        def damage() -> Damage:
            array = opened()
            coords = (1, 1, array.grid[2] - 1)
            row, col = array.chunks[0] // 16, array.chunks[1] // 16
            with rasterio.open(path) as file:
                start = int(file.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=6))
            content = bytearray(path.read_bytes())
            content[start : start + 60] = bytes(60)
            path.write_bytes(content)
            later(path)
            return Damage(coords, under(array, coords), f"{path}: chunk {coords}")

        return Storage(opened, values, change, damage)

    return make


# arrays of other arrays


def tiled_counts(folder: Path) -> Storage:
    """Three tiles of other chunks and other no-data; the second lies under a corner of the first, the third apart."""
    nm = np.linspace(400.0, 2500.0, 20)
    layout = {"a.h5": (0, 0, (14, 12), (6, 5, 9)), "b.h5": (8, 6, (12, 14), (12, 14, 1)), "c.h5": (22, 0, (5, 7), None)}
    truth = np.full((27, 20, 20), -9999, np.int16)

    def write(seed: int) -> None:
        for number, (name, (row, col, shape, chunks)) in enumerate(layout.items()):
            place: dict[str, Any] = {
                "origin": (368000.0 + col, 4307000.0 - row),
                "no_data": "corners" if number else "none",
            }
            hsi.synthetic.write_tile(
                folder / name, shape=shape, chunks=chunks, seed=seed + number, wavelength=nm, **place
            )
            later(folder / name)

    write(0)
    for name, (row, col, (high, wide), _) in reversed(layout.items()):
        with h5py.File(folder / name) as file:
            truth[row : row + high, col : col + wide] = file["SERC/Reflectance/Reflectance_Data"][...]

    def opened() -> TiledCounts:
        return TiledCounts(open_site([folder / name for name in layout]))

    def change() -> None:
        before = {name: os.stat(folder / name).st_mtime_ns for name in layout}
        write(5)
        for name, changed in before.items():
            os.utime(folder / name, ns=(changed, changed + 10**9))

    def damage() -> Damage:
        path = folder / "b.h5"
        break_chunk(path, "SERC/Reflectance/Reflectance_Data", (0, 0, 4))
        pixels = np.zeros(truth.shape[:2], np.bool_)
        pixels[8:20, 6:20] = True
        pixels[:14, :12] = False  # those of the first tile
        return Damage((1, 1, 0), pixels, f"{path}: chunk (0, 0, 4)")

    return Storage(opened, truth, change, damage)


def common_bands(inner: Maker, wavelength: NDArray[np.float64]) -> Maker:
    def make(folder: Path) -> Storage:
        base = inner(folder)
        counts = base.truth.astype(np.float64)
        lower = np.array([min(int((nm >= NM).sum()) - 1, len(NM) - 2) for nm in wavelength])
        share = (wavelength - NM[lower]) / (NM[lower + 1] - NM[lower])
        between = np.rint(counts[..., lower] + share * (counts[..., lower + 1] - counts[..., lower]))
        none = (counts[..., lower] == -9999) | (counts[..., lower + 1] == -9999)

        def opened() -> CommonBands:
            stored = base.open()
            tile = neon.read(tiles.write_counts(folder / "metadata.h5", tiles.counts(SHAPE), wavelength=NM))
            return CommonBands(replace(tile, path=stored.path, reflectance=stored), wavelength)

        def damage() -> Damage:
            assert base.damage is not None
            found = base.damage()
            array = opened()
            low = array.chunks[2] * found.coords[2] - 1  # the band before it lies between it and the next chunk
            number = int(np.flatnonzero(lower >= low)[0]) // array.chunks[2]
            while not set(range(low + 1, low + 1 + array.chunks[2])) & {
                *lower[number * array.chunks[2] : (number + 1) * array.chunks[2]].tolist()
            }:
                number += 1
            return replace(found, coords=(*found.coords[:2], number))

        truth = np.where(none, -9999, between).astype(base.truth.dtype)
        return Storage(opened, truth, base.change, damage)

    return make


def shifted_counts(inner: Maker) -> Maker:
    def make(folder: Path) -> Storage:
        base = inner(folder)
        low, times = -20, 3
        truth = ((base.truth.astype(np.int64) - low) * times).astype(np.int16)
        truth[base.truth == -9999] = -1
        return replace(base, open=lambda: ShiftedCounts(base.open(), low, times, -9999), truth=truth)

    return make


def bad_as_no_data(inner: Maker, damaged: bool) -> Maker:
    """Over a sound file, or over one of which a chunk is corrupt from the first."""

    def make(folder: Path) -> Storage:
        base = inner(folder)
        truth = base.truth.copy()
        if damaged:
            assert base.damage is not None
            found, depth = base.damage(), base.open().chunks[2]
            bands = slice(found.coords[2] * depth, (found.coords[2] + 1) * depth)
            truth[..., bands][found.pixels] = -9999
        return Storage(lambda: BadAsNoData(base.open(), -9999), truth, base.change, None)

    return make


# a storage that only this test knows


class MemoryArray(ChunkedArray):
    """Values in a dictionary of this process, under a name; the file is the dictionary's entry."""

    ENTRIES: dict[str, tuple[int, NDArray[Any], set[tuple[int, ...]]]] = {}  # noqa: RUF012
    """name -> version, values and the coords of chunks that cannot be decoded"""

    def __init__(self, name: str) -> None:
        version, values, _ = self.ENTRIES[name]
        dtype = values.dtype.newbyteorder(">")
        stamp = (values.nbytes, version)
        fill = np.asarray(-1, dtype)
        super().__init__(path=name, name="a", shape=values.shape, dtype=dtype, chunks=CHUNKS, stamp=stamp, fill=fill)

    @contextmanager
    def opened(self) -> Iterator[NDArray[Any]]:
        version, values, _ = self.ENTRIES[self.path]
        if version != self.stamp[1]:
            raise HsiError(f"{self.path}: changed since it was opened; open it again")
        yield values

    def decode(self, handle: NDArray[Any], coords: ChunkCoords) -> NDArray[Any]:
        DECODED.add(1, self.chunk_bytes)
        if coords in self.ENTRIES[self.path][2]:
            raise CorruptChunk(f"{self.path}: chunk {coords} is corrupt; get it again")
        whole = np.full(self.chunks, -1, self.native)
        part = handle[tuple(slice(p * c, (p + 1) * c) for p, c in zip(coords, self.chunks, strict=True))]
        whole[tuple(slice(n) for n in part.shape)] = part
        return whole


def in_memory(folder: Path) -> Storage:
    name, values = str(folder / "memory"), tiles.counts(SHAPE)
    MemoryArray.ENTRIES[name] = (0, values, set())

    def damage() -> Damage:
        MemoryArray.ENTRIES[name] = (1, values, {BROKEN})
        return Damage(BROKEN, under(MemoryArray(name), BROKEN), f"{name}: chunk {BROKEN}")

    def change() -> None:
        MemoryArray.ENTRIES[name] = (2, values + 1, set())

    return Storage(lambda: MemoryArray(name), values, change, damage)


def numpy_format(folder: Path) -> Storage:
    """The chunks of the format that the tests of the readers register."""
    path, values, nm = folder / "f.npz", tiles.counts(SHAPE), np.linspace(400.0, 900.0, SHAPE[2])
    numpy_tiles.write(path, values, nm)

    def change() -> None:
        time.sleep(0.01)
        numpy_tiles.write(path, values + 1, nm)

    return Storage(lambda: numpy_tiles.NumpyArray(str(path), values.shape, values.dtype), values, change, None)


SPATIAL = hdf5(**GZIP)
MORE_BANDS, FEWER_BANDS = np.linspace(410.0, 2490.0, 23), np.linspace(900.0, 2000.0, 9)
STORAGES: dict[str, Maker] = {
    "HDF5, spatial chunks": SPATIAL,
    "HDF5, a chunk a band": hdf5(chunks=(*SHAPE[:2], 1), compression="gzip", fillvalue=-9999),
    "HDF5, contiguous": hdf5(damaged=False),
    "HDF5, uncompressed": hdf5(damaged=False, chunks=CHUNKS, fillvalue=-9999),
    "HDF5, shuffled, big-endian": hdf5(dtype=">i2", shuffle=True, **GZIP),
    "HDF5, floats": hdf5(dtype="<f4", shuffle=True, **GZIP),
    "HDF5, read by h5py": hdf5(chunks=CHUNKS, fletcher32=True, fillvalue=-9999),
    "HDF5, unwritten chunks": hdf5_with_unwritten_chunks,
    "ENVI, bsq": envi("bsq"),
    "ENVI, bil": envi("bil", offset=11),
    "ENVI, bip": envi("bip"),
    "ENVI, bsq, big-endian": envi("bsq", order=1, offset=11),
    "ENVI, bil, big-endian": envi("bil", order=1),
    "ENVI, bip, big-endian": envi("bip", order=1),
    "ENVI, bytes": envi("bsq", dtype="u1"),
    "ENVI, floats": envi("bsq", order=1, dtype="f4"),
    "GeoTIFF by pixel": geotiff(),
    "GeoTIFF by band": geotiff("band"),
    "mosaic": tiled_counts,
    "common bands, more": common_bands(SPATIAL, MORE_BANDS),
    "common bands, fewer": common_bands(SPATIAL, FEWER_BANDS),
    "bad chunks as no data": bad_as_no_data(SPATIAL, damaged=False),
    "bad chunks as no data, one bad": bad_as_no_data(SPATIAL, damaged=True),
    "bad chunks as no data, GeoTIFF": bad_as_no_data(geotiff(), damaged=True),
    "shifted counts": shifted_counts(SPATIAL),
    "in memory": in_memory,
    "a format of the tests": numpy_format,
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and contiguous data of several chunks need not be large."""
    monkeypatch.setattr(hdf5_module, "PSEUDO_CHUNK", 1000)
    monkeypatch.setattr(image_chunks, "PIXELS", 300)
    monkeypatch.setattr(image_chunks, "BAND_PIXELS", 130)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", STORAGES)
def test_keeps_the_contract(name: str, check: Check, tmp_path: Path) -> None:
    check(STORAGES[name](tmp_path))


def test_a_storage_of_a_test_runs_through_in_one_line(tmp_path: Path) -> None:
    conformance.run(in_memory, tmp_path)


@pytest.fixture
def at_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Maker], Maker]]:
    """Makes of a storage in an HDF5 file the same behind an address."""
    pytest.importorskip("obstore", reason="reading from addresses needs the extra 'remote'")
    from tests.helpers.web import Web, no_collection

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with no_collection():
        web = Web()

        def remote_maker(inner: Maker) -> Maker:
            def make(folder: Path) -> Storage:
                local = inner(folder)
                path = folder / "a.h5"
                versions = iter(range(100))

                def put() -> None:
                    web.put(path)
                    web.tag = f'"{folder}{next(versions)}"'

                put()

                def opened() -> HDF5Array:
                    url = f"{web.base}/{path.name}"
                    with h5py.File(remote.RemoteFile(url), "r") as file:
                        return HDF5Array(url, file["a"])

                def change() -> None:
                    local.change()
                    put()

                def damage() -> Damage:
                    assert local.damage is not None
                    found = local.damage()
                    put()
                    return replace(found, named=f"{web.base}/{path.name}: chunk {found.coords}")

                return Storage(opened, local.truth, change, damage)

            return make

        yield remote_maker
        web.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["HDF5", "common bands", "bad chunks as no data", "shifted counts"])
def test_keeps_the_contract_behind_an_address(
    kind: str, check: Check, at_address: Callable[[Maker], Maker], tmp_path: Path
) -> None:
    there = at_address(SPATIAL)
    made = {
        "HDF5": there,
        "common bands": common_bands(there, MORE_BANDS),
        "bad chunks as no data": bad_as_no_data(there, damaged=True),
        "shifted counts": shifted_counts(there),
    }
    check(made[kind](tmp_path))


def test_other_arrays_have_other_tokens(tmp_path: Path) -> None:
    """Also those that are made of one file."""
    stored = SPATIAL(tmp_path).open()
    tile = neon.read(tiles.write_counts(tmp_path / "metadata.h5", tiles.counts(SHAPE), wavelength=NM))
    tile = replace(tile, reflectance=stored)
    arrays = [
        stored,
        CommonBands(tile, MORE_BANDS),
        CommonBands(tile, FEWER_BANDS),
        BadAsNoData(stored, -9999),
        BadAsNoData(stored, 0),
        *(ShiftedCounts(stored, low, times, none) for low, times, none in ((0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 9))),
    ]
    assert len({tokenize(array) for array in arrays}) == len(arrays)


def test_what_stands_for_the_values_in_run_json(tmp_path: Path) -> None:
    """The places of compressed chunks, which a copy of the file has too; of others the stamp."""
    (tmp_path / "gzip").mkdir()
    (tmp_path / "plain").mkdir()
    gzip = open_hdf5(write_hdf5(tmp_path / "gzip" / "a.h5", tiles.counts(SHAPE), **GZIP))
    assert gzip.identity() == gzip.index.offset.tobytes() + gzip.index.size.tobytes()
    assert BadAsNoData(gzip, -9999).identity() == gzip.identity()
    plain = open_hdf5(write_hdf5(tmp_path / "plain" / "a.h5", tiles.counts(SHAPE), chunks=CHUNKS))
    status = os.stat(plain.path)
    assert plain.identity() == f"({status.st_size}, {status.st_mtime_ns})".encode()
    image = STORAGES["ENVI, bip"](tmp_path).open()
    assert image.identity() == str(image.stamp).encode()
