"""The chunk reader against h5py: every layout, every selection, exact counts, and damage that must not go unseen."""

from __future__ import annotations

import os
import pickle
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.errors import HsiError
from tests.helpers.tiles import Counter, counts

SHAPE = (13, 11, 17)
CHUNKS = (5, 4, 6)
GZIP = {"chunks": CHUNKS, "compression": "gzip"}

Maker = Callable[[h5py.File], None]


def made(**storage: Any) -> Maker:
    """A dataset of counts, stored as told."""

    def make(file: h5py.File) -> None:
        dtype = np.dtype(storage.get("dtype", "<i2"))
        file.create_dataset("a", data=counts(SHAPE).astype(dtype), **storage)

    return make


def some_missing(**storage: Any) -> Maker:
    """A dataset of which one part was never written."""

    def make(file: h5py.File) -> None:
        data = file.create_dataset("a", SHAPE, **{"dtype": "<i2", **storage})
        data[6:, :, :7] = counts(SHAPE)[6:, :, :7]

    return make


def never_written(**storage: Any) -> Maker:
    def make(file: h5py.File) -> None:
        file.create_dataset("a", SHAPE, "<i2", fillvalue=7, **storage)

    return make


def some_unfiltered(file: h5py.File) -> None:
    """Chunks that skip one filter or all of them, as a filter mask says."""
    data = file.create_dataset("a", SHAPE, "<i2", **GZIP, shuffle=True)
    data[:] = counts(SHAPE)
    chunk = np.arange(np.prod(CHUNKS), dtype="<i2").reshape(CHUNKS)
    shuffled = np.ascontiguousarray(chunk.reshape(-1).view(np.uint8).reshape(-1, 2).T).tobytes()
    data.id.write_direct_chunk((5, 4, 6), chunk.tobytes(), 0b11)
    data.id.write_direct_chunk((0, 0, 0), zlib.compress(chunk.tobytes()), 0b01)
    data.id.write_direct_chunk((5, 0, 6), shuffled, 0b10)


def external(file: h5py.File) -> None:
    raw = Path(file.filename).with_suffix(".raw")
    file.create_dataset("a", data=counts(SHAPE), external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File) -> None:
    made(**GZIP)(file)
    file.move("a", "source")
    layout = h5py.VirtualLayout(SHAPE, "<i2")
    layout[:] = h5py.VirtualSource(file["source"])
    file.create_virtual_dataset("a", layout)


# name -> (how it is made, whether the fast way is meant to read it)
LAYOUTS: dict[str, tuple[Maker, bool]] = {
    "contiguous": (made(), False),
    "compact chunk": (made(chunks=SHAPE, compression="gzip"), True),
    "uncompressed": (made(chunks=CHUNKS), True),
    "gzip": (made(**GZIP), True),
    "gzip 9": (made(**GZIP, compression_opts=9), True),
    "shuffle": (made(chunks=CHUNKS, shuffle=True), True),
    "gzip and shuffle": (made(**GZIP, shuffle=True), True),
    "one band a chunk": (made(chunks=(13, 11, 1), compression="gzip"), True),
    "one row a chunk": (made(chunks=(1, 11, 17), compression="gzip"), True),
    "int32": (made(**GZIP, shuffle=True, dtype="<i4"), True),
    "uint8": (made(**GZIP, shuffle=True, dtype="u1"), True),
    "float32": (made(**GZIP, shuffle=True, dtype="<f4"), True),
    "big-endian": (made(**GZIP, shuffle=True, dtype=">i2"), True),
    "big-endian contiguous": (made(dtype=">i2"), False),
    "big-endian, missing": (some_missing(**GZIP, dtype=">i2", fillvalue=-9999), True),
    "lzf": (made(chunks=CHUNKS, compression="lzf"), False),
    "fletcher32": (made(**GZIP, fletcher32=True), False),
    "scale-offset": (made(chunks=CHUNKS, scaleoffset=0), False),
    "missing": (some_missing(**GZIP), True),
    "missing, with fill value": (some_missing(**GZIP, fillvalue=-9999), True),
    "missing, lzf": (some_missing(chunks=CHUNKS, compression="lzf", fillvalue=-9999), False),
    "never written": (never_written(**GZIP), True),
    "never allocated": (never_written(), False),
    "filter mask": (some_unfiltered, True),
    "external": (external, False),
    "virtual": (virtual, False),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[HDF5Array, NDArray[Any]]]:
    """Each layout as our reader and as what h5py reads of it."""
    folder = tmp_path_factory.mktemp("layouts")
    out = {}
    for number, (name, (make, _)) in enumerate(LAYOUTS.items()):
        path = folder / f"{number}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        with h5py.File(path) as file:
            out[name] = HDF5Array(path, file["a"]), file["a"][...]
    return out


def everything(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], ...]:
    return tuple(np.arange(n) for n in shape)


@pytest.mark.parametrize("name", LAYOUTS)
def test_reads_what_h5py_reads(name: str, stored: dict[str, tuple[HDF5Array, NDArray[Any]]]) -> None:
    ours, expected = stored[name]
    found = ours.read(*everything(SHAPE))
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert found.dtype.isnative
    assert_array_equal(found, expected)
    assert ours.direct is LAYOUTS[name][1]


@st.composite
def selections(draw: st.DrawFn) -> tuple[NDArray[np.intp], ...]:
    """Positions along each dimension: runs, steps, backwards, lists with repeats, nothing."""

    def along(n: int) -> NDArray[np.intp]:
        if draw(st.booleans()):
            step = draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
            ends = st.none() | st.integers(-n, n)
            return np.arange(n)[slice(draw(ends), draw(ends), step)]
        return np.array(draw(st.lists(st.integers(0, n - 1), max_size=6)), np.intp)

    return tuple(along(n) for n in SHAPE)


@given(name=st.sampled_from(sorted(LAYOUTS)), selection=selections(), threads=st.sampled_from([1, 3, None]))
def test_any_selection_decodes_only_the_chunks_it_touches(
    stored: dict[str, tuple[HDF5Array, NDArray[Any]]],
    name: str,
    selection: tuple[NDArray[np.intp], ...],
    threads: int | None,
) -> None:
    ours, expected = stored[name]
    with Counter() as decoded:
        found = ours.read(*selection, threads=threads)
    assert_array_equal(found, expected[np.ix_(*selection)])
    touched = np.prod([len({p // c for p in at.tolist()}) for at, c in zip(selection, ours.chunks, strict=True)])
    assert decoded.chunks == touched
    assert decoded.bytes == touched * ours.chunk_bytes


def test_a_chunk_is_whole_even_at_the_edge(stored: dict[str, tuple[HDF5Array, NDArray[Any]]]) -> None:
    for name in ("gzip", "lzf", "missing, lzf", "big-endian, missing", "contiguous"):
        ours, expected = stored[name]
        place = tuple(n - 1 for n in ours.grid)
        with ours.opened() as handle:
            chunk = ours.chunk(handle, place)
        assert chunk.shape == ours.chunks
        assert chunk.dtype == ours.native and chunk.dtype.isnative, name
        start = [p * c for p, c in zip(place, ours.chunks, strict=True)]
        inside = expected[tuple(slice(s, None) for s in start)]
        assert_array_equal(chunk[tuple(slice(0, n) for n in inside.shape)], inside)


def test_contiguous_data_are_read_in_pieces(tmp_path: Path) -> None:
    values = np.arange(40 * 512 * 1024, dtype="<i2").reshape(40, 512, 1024)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["a"] = values
        ours = HDF5Array(tmp_path / "c.h5", file["a"])
    assert ours.stored_chunks is None
    assert ours.chunks == (4, 512, 1024)
    ours = reopened(tmp_path / "c.h5")
    with Counter() as decoded:
        found = ours.read(np.array([5, 6]), np.arange(512), np.array([3]))
    assert_array_equal(found[..., 0], values[5:7, :, 3])
    assert decoded.chunks == 1


def reopened(path: Path) -> HDF5Array:
    with h5py.File(path) as file:
        return HDF5Array(path, file["a"])


@pytest.fixture
def gzip_file(tmp_path: Path) -> Path:
    path = tmp_path / "gzip.h5"
    with h5py.File(path, "w") as file:
        made(**GZIP, shuffle=True)(file)
    return path


def test_a_user_block_is_read_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "u.h5", "w", userblock_size=1024) as file:
        made(**GZIP)(file)
    ours = reopened(tmp_path / "u.h5")
    assert_array_equal(ours.read(*everything(SHAPE)), counts(SHAPE))
    assert not ours.direct  # HDF5's versions differ in whether offsets count the block


def test_scalar_and_empty_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["a"] = np.int32(5)
        file.create_dataset("b", (0, 3), "<i2", chunks=(1, 3), maxshape=(None, 3))
    with h5py.File(tmp_path / "s.h5") as file:
        scalar, empty = HDF5Array(tmp_path / "s.h5", file["a"]), HDF5Array(tmp_path / "s.h5", file["b"])
    assert scalar.read() == 5
    assert empty.read(np.arange(0), np.arange(3)).shape == (0, 3)


@pytest.mark.parametrize("with_index", [False, True])
def test_pickles_and_reads_the_same(gzip_file: Path, with_index: bool) -> None:
    ours = reopened(gzip_file)
    if with_index:
        assert ours.index.offset.shape == ours.grid
    copy = pickle.loads(pickle.dumps(ours))
    assert_array_equal(copy.read(*everything(SHAPE)), counts(SHAPE))


def test_many_threads_read_at_once(gzip_file: Path) -> None:
    ours = reopened(gzip_file)
    found: list[NDArray[Any]] = []

    def work() -> None:
        found.append(ours.read(*everything(SHAPE), threads=2))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for values in found:
        assert_array_equal(values, counts(SHAPE))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_no_file_stays_open(gzip_file: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "lzf.h5", "w") as file:
        made(chunks=CHUNKS, compression="lzf")(file)
    before = sorted(os.listdir("/proc/self/fd"))
    for path in (gzip_file, tmp_path / "lzf.h5"):
        reopened(path).read(*everything(SHAPE))
    assert sorted(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------------------------------- damage


def test_a_flipped_byte_is_an_error_that_names_the_chunk(gzip_file: Path) -> None:
    """Any byte of a compressed chunk: an error, or no change at all (as in the level that zlib's header mentions)."""
    ours = reopened(gzip_file)
    place = (1, 2, 1)
    start, size = int(ours.index.offset[place]), int(ours.index.size[place])
    whole = gzip_file.read_bytes()
    stamp = os.stat(gzip_file)
    errors = 0
    rng = np.random.default_rng(0)
    for at in [*range(6), *rng.integers(6, size - 4, 40), *range(size - 4, size)]:
        damaged = bytearray(whole)
        damaged[start + at] ^= 1 << int(rng.integers(8))
        gzip_file.write_bytes(damaged)
        os.utime(gzip_file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        try:
            found = ours.read(*everything(SHAPE))
        except HsiError as error:
            errors += 1
            assert "chunk (1, 2, 1) of /a is corrupt" in str(error)
            assert str(gzip_file) in str(error)
            assert "\n" not in str(error)
        else:
            assert_array_equal(found, counts(SHAPE))
    assert errors > 45


def test_a_chunk_of_the_wrong_size_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "short.h5"
    chunk = np.zeros(CHUNKS, "<i2").tobytes()
    for content, filters in ((chunk[:-2], GZIP), (chunk + b"\0\0", GZIP), (chunk[:-1], {**GZIP, "shuffle": True})):
        with h5py.File(path, "w") as file:
            data = file.create_dataset("a", SHAPE, "<i2", **filters)
            data.id.write_direct_chunk((5, 4, 0), zlib.compress(content))
        with pytest.raises(HsiError, match=r"chunk \(1, 1, 0\) of /a is corrupt"):
            reopened(path).read(*everything(SHAPE))


def test_a_corrupt_chunk_that_h5py_reads_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        made(chunks=CHUNKS, fletcher32=True)(file)
        info = file["a"].id.get_chunk_info_by_coord((5, 8, 6))
    whole = bytearray(path.read_bytes())
    whole[info.byte_offset + 10] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(HsiError, match=r"chunk \(1, 2, 1\) of /a is corrupt"):
        reopened(path).read(*everything(SHAPE))


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lz4.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(CHUNKS)
        properties.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(SHAPE)
        data = h5py.h5d.create(file.id, b"a", h5py.h5t.STD_I16LE, space, properties)
        data.write_direct_chunk((0, 0, 0), b"?" * 60)
    with pytest.raises(HsiError, match=r"HDF5 filter 32099, which is not installed"):
        reopened(path).read(*everything(SHAPE))


def test_chunks_beyond_the_end_of_the_file(gzip_file: Path) -> None:
    """What HDF5 itself refuses on opening, should it ever not."""
    ours = reopened(gzip_file)
    last = int((ours.index.offset + ours.index.size).max())
    whole = gzip_file.read_bytes()
    gzip_file.write_bytes(whole[: last - 1])
    ours.stamp = (last - 1, os.stat(gzip_file).st_mtime_ns)
    with pytest.raises(HsiError, match=r"truncated, chunk .* ends before its"):
        ours.read(*everything(SHAPE))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (10**6, "truncated, its chunks reach to byte"),
        (2**63 + 5, "the chunk index of /a is damaged|truncated"),
        (2**64 - 2, "the chunk index of /a is damaged|truncated"),
        (600, r"chunk \(1, 2, 1\) of /a is corrupt"),
    ],
)
def test_a_damaged_index(gzip_file: Path, address: int, words: str) -> None:
    start = int(reopened(gzip_file).index.offset[1, 2, 1])
    whole = gzip_file.read_bytes()
    assert whole.count(struct.pack("<Q", start)) == 1
    gzip_file.write_bytes(whole.replace(struct.pack("<Q", start), struct.pack("<Q", address)))
    with pytest.raises(HsiError, match=words):
        reopened(gzip_file).read(*everything(SHAPE))


def changed_time(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def grown(path: Path) -> None:
    stamp = os.stat(path)
    with open(path, "ab") as file:
        file.write(b"\0")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def replaced(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(SHAPE, "<i2")


@pytest.mark.parametrize("layout", ["gzip", "lzf", "contiguous"])
@pytest.mark.parametrize("index", ["read before", "not yet read"])
@pytest.mark.parametrize("change", [changed_time, grown, replaced, Path.unlink])
def test_a_file_that_changes_after_opening_is_refused(
    tmp_path: Path, layout: str, index: str, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        LAYOUTS[layout][0](file)
    ours = reopened(path)
    if index == "read before":
        ours.read(*everything(SHAPE))
    change(path)
    with pytest.raises(HsiError, match=r"changed since it was opened|cannot be opened"):
        ours.read(*everything(SHAPE))
    if index == "not yet read" and ours.direct:
        with pytest.raises(HsiError):
            _ = ours.index
